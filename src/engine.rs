//! The engine: index, heap and roster as one persistent map that processes share.
//!
//! A [`generation`] is one set of mapped files: [`open`] maps an existing one, [`create`] makes a new
//! one. A [`handle`] knows which one is current. [`read`]
//! looks keys up without a lock, [`write`](mod@write) changes a generation under the writer lock, [`clean`]
//! reclaims dead records, [`switch`] replaces a generation by a rename, [`recovery`] finishes or
//! rebuilds what a crash left, [`verify`] checks all of it, [`backup`] copies it. May call `index`,
//! `heap`, `os` and everything below them.

pub(crate) mod backup;
pub(crate) mod clean;
pub(crate) mod copy_up;
pub(crate) mod create;
pub(crate) mod entry;
pub(crate) mod file_header;
pub(crate) mod file_identity;
pub(crate) mod generation;
pub(crate) mod handle;
pub(crate) mod header_check;
pub(crate) mod heap_presence;
pub(crate) mod ids;
pub(crate) mod locking;
pub(crate) mod open;
pub(crate) mod options;
pub(crate) mod progress;
pub(crate) mod read;
pub(crate) mod recovery;
pub(crate) mod removals;
pub(crate) mod segment_numbers;
pub(crate) mod staging;
pub(crate) mod statistics;
pub(crate) mod stats;
pub(crate) mod switch;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod verify;
pub(crate) mod version;
pub(crate) mod write;

pub use backup::{Backup, BackupReport};
pub use entry::{Entry, Update};
pub use options::{Durability, LockKind, Options};
pub use progress::Progress;
pub use read::iter::{Entries, Iter, KeyInfo, Keys};
pub use read::value_ref::ValueRef;
pub use recovery::losses::Recovery;
pub use recovery::repair::{Repair, RepairReport};
pub use recovery::upgrade::Upgrade;
pub use removals::RemovalCause;
pub use stats::{DiskUsage, Stats};
pub use verify::Verify;
pub use verify::checks::{Problem, VerifyLevel, VerifyReport};
pub use version::Version;
pub use write::writer::Writer;
