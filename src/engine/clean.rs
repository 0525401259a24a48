//! Log-structured cleaning: copying live records out of old segments, and removing those segments.

pub(crate) mod background;
pub(crate) mod batch;
pub(crate) mod bound;
pub(crate) mod evacuate;
pub(crate) mod eviction;
pub(crate) mod expire;
pub(crate) mod policy;
pub(crate) mod reclaim;
pub(crate) mod refusal;
pub(crate) mod retention;
pub(crate) mod state;
pub(crate) mod validity;
