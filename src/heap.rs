//! The heap: append-only segments of records, with a scanner and a set of records known to be dead.
//!
//! May call `os` and everything below it; knows neither index nor roster.

pub(crate) mod dead_set;
pub(crate) mod scan;
pub(crate) mod segment;

pub(crate) use dead_set::{Blocks, Dead};
pub(crate) use scan::{Found, Walker};
pub(crate) use segment::{Outcome, Segment};
