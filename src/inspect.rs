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

pub use crate::inspect::anatomy::Anatomy;
pub use crate::inspect::census::{Census, RegionCount, SegmentCount};
pub use crate::inspect::changing::{Changing, HeapPlace, PendingChange};
pub use crate::inspect::companion::{Companion, Role};
pub use crate::inspect::field::{Field, FieldValue, FileHeader};
pub use crate::inspect::histogram::Histogram;
pub use crate::inspect::layout::{Layout, LayoutSource};
pub use crate::inspect::lock_state::{Holder, LockState};
pub use crate::inspect::overview::Overview;
pub use crate::inspect::record::{Record, RecordKind};
pub use crate::inspect::region::{Region, RegionState};
pub use crate::inspect::residency::Residency;
pub use crate::inspect::sealed::Sealed;
pub use crate::inspect::segment::{Records, Segment, Stretch, Walked};
pub use crate::inspect::slot::{RosterEntry, Slot, SlotState};
