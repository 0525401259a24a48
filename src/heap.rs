//! The heap: append-only segments of records, with a scanner and a set of records known to be dead.
//!
//! May call `os` and everything below it; independent of index and roster.

pub(crate) mod dead_set;
mod record_io;
pub(crate) mod scan;
pub(crate) mod segment;
mod whole_record;

pub(crate) use dead_set::{DeadBlocks, DeadSet};
pub(crate) use scan::{ScanItem, Scanner};
pub(crate) use segment::{RecordRead, Segment};
pub(crate) use whole_record::WholeRecord;
