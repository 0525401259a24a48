//! Looking at a cache's files from outside, whatever state they are in.
//!
//! [`Overview`] reads what the engine would refuse to open, and says what is wrong with it. It maps
//! nothing, takes no lock and changes nothing, so it is safe on a damaged file, on a copy, and on
//! one that others are writing to. It does not know what is in the table or the heap: that is for
//! [`MmapCache::verify`](crate::MmapCache::verify).

mod changing;
mod companion;
mod doubt;
mod overview;
mod sealed;

pub use changing::{Changing, HeapPlace, PendingChange};
pub use companion::{Companion, Role};
pub use overview::Overview;
pub use sealed::Sealed;
