//! Looking at a cache's files from outside, whatever state they are in.
//!
//! [`Overview`] reads the headers, also those of files that the engine would refuse to open, and
//! says what is wrong with them. [`Anatomy`] goes deeper: to single regions, slots and records, to a
//! walk over the heap, and to a [`Census`] of the index. Neither takes a lock or changes anything,
//! so they are safe on a damaged file, on a copy, and on one that others are writing to. Whether
//! everything in a cache is right they do not know: that is for
//! [`MmapCache::verify`](crate::MmapCache::verify).

mod anatomy;
mod census;
mod changing;
mod companion;
mod doubt;
mod field;
mod histogram;
mod layout;
mod lock_state;
mod overview;
mod record;
mod region;
mod residency;
mod sealed;
mod segment;
mod slot;
mod source;

#[cfg(test)]
mod tests;

pub use anatomy::Anatomy;
pub use census::{Census, RegionCount, SegmentCount};
pub use changing::{Changing, HeapPlace, PendingChange};
pub use companion::{Companion, Role};
pub use field::{Field, FieldValue, FileHeader};
pub use histogram::Histogram;
pub use layout::{Layout, LayoutSource};
pub use lock_state::{Holder, LockState};
pub use overview::Overview;
pub use record::{Record, RecordKind};
pub use region::{Region, RegionState};
pub use residency::Residency;
pub use sealed::Sealed;
pub use segment::{Records, Segment, Stretch, Walked};
pub use slot::{RosterEntry, Slot, SlotState};
