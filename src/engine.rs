//! The engine: index, heap and roster as one persistent map that processes share.
//!
//! A [`generation`] is one set of mapped files; a [`handle`] knows which one is current. [`read`]
//! looks keys up without a lock, [`write`](mod@write) changes a generation under the writer lock, [`clean`]
//! reclaims dead records, [`switch`] replaces a generation by a rename, [`recovery`] finishes or
//! rebuilds what a crash left, [`verify`] checks all of it, [`backup`] copies it. May call `index`,
//! `heap`, `os` and everything below them.

pub(crate) mod backup;
pub(crate) mod clean;
pub(crate) mod copy_up;
pub(crate) mod entry;
pub(crate) mod file_identity;
pub(crate) mod generation;
pub(crate) mod handle;
pub(crate) mod heap_presence;
pub(crate) mod ids;
pub(crate) mod options;
pub(crate) mod read;
pub(crate) mod recovery;
pub(crate) mod segment_numbers;
pub(crate) mod staging;
pub(crate) mod stats;
pub(crate) mod switch;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod verify;
pub(crate) mod version;
pub(crate) mod write;

pub use backup::{Copied, CopyProgress, HotCopy};
pub use entry::{Entry, Update};
pub(crate) use ids::NumberTally;
pub use options::{Durability, Options};
pub use read::iter::{Entries, Items, Keys, Listed};
pub use read::value_ref::ValueRef;
pub use recovery::losses::Recovery;
pub use recovery::repair::{Progress, Repair, Repaired};
pub use stats::{DiskUsage, Stats};
pub use verify::checks::{Fault, Level, Report};
pub use verify::{CheckProgress, Verification};
pub use version::Version;
pub use write::writer::Writer;
