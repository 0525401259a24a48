//! Log-structured cleaning: copying live records out of old segments, and removing those segments.

pub(crate) mod background;
pub(crate) mod batch;
pub(crate) mod evacuate;
pub(crate) mod reclaim;
