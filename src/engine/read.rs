//! Reads without a lock: look-ups, listings, a random key.
//!
//! [`validate`] has the rules by which an optimistic read is valid. May call `handle` and everything
//! below it.

pub(crate) mod cursor;
pub(crate) mod expected_count;
pub(crate) mod heap_walk;
pub(crate) mod iter;
pub(crate) mod lookup;
pub(crate) mod part;
pub(crate) mod redo_copy;
pub(crate) mod sample;
pub(crate) mod upcoming;
pub(crate) mod validate;
pub(crate) mod value_ref;
