//! A memory-mapped on-disk hash table for persistent caches.
//!
//! Use [`MmapCache`].
#[cfg(not(all(target_pointer_width = "64", target_endian = "little", unix)))]
compile_error!("mmapcache needs a 64-bit little-endian Unix: its files are mapped, not parsed");

mod bytes;
mod cache;
mod dir;
mod error;
mod format;
mod hash;
mod header;
mod heap;
pub mod inspect;
mod lock;
mod map;
mod roster;
mod sync;
mod table;

pub use cache::{
    DiskUsage, Durability, Entries, Entry, Fault, Items, Keys, MmapCache, Options, Report, Stats,
    Update, ValueRef, Version, Writer,
};
pub use error::{Error, Result};
