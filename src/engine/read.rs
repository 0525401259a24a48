//! Reading without a lock: single look-ups, listings, a random key.

pub(crate) mod expected_count;
pub(crate) mod iter;
pub(crate) mod lookup;
pub(crate) mod sample;
pub(crate) mod value_ref;
