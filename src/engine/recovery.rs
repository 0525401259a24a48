//! Recovery: finishing or undoing one operation, rebuilding the index from the heap, repair.

pub(crate) mod from_heap;
pub(crate) mod in_flight;
pub(crate) mod losses;
pub(crate) mod repair;
pub(crate) mod stale_segments;
pub(crate) mod upgrade;
