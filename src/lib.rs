//! A memory-mapped on-disk hash table for persistent caches: nearly as fast as a `HashMap` in
//! memory, shared by any number of threads and processes, whole after any of them is killed, and
//! never fooled by a damaged file.
//!
//! ```
//! # let dir = tempfile::tempdir()?;
//! use mmapcache::MmapCache;
//!
//! let cache = MmapCache::open(dir.path().join("thumbnails"))?;
//! cache.put(b"/photos/cat.jpg", b"the small picture")?;
//!
//! // Another handle, here or in another process, sees it at once.
//! let other = MmapCache::open(dir.path().join("thumbnails"))?;
//! assert_eq!(other.get(b"/photos/cat.jpg")?.as_deref(), Some(&b"the small picture"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to begin
//!
//! - [`MmapCache`] is the handle: [`get`](MmapCache::get), [`put`](MmapCache::put),
//!   [`delete`](MmapCache::delete), listing, conditional writes, rebuilding as a whole.
//! - [`Options`] say how a cache is opened or created: its capacity, limits, durability, file mode.
//! - [`Writer`] holds the lock for a batch: many changes for the price of one lock and, where asked
//!   for, one sync.
//! - [`Labels`] give strings an id that stays, in every process and after every restart; a [`Pool`]
//!   gives equal values one handle within a process, and a [`DecodeCache`] one decoded instance.
//! - A dictionary (`dict`, with the feature of that name) has hierarchical keys, values of any type
//!   that serde knows, ETags, conditional operations and policies: in a cache, or in memory.
//! - [`Error`] says what went wrong, where, and what to do;
//!   [`is_corruption`](Error::is_corruption) says whether the files are at fault.
//! - [`Stats`], [`DiskUsage`] and [`Report`] say how a cache is doing; [`mod@inspect`] decodes even
//!   what the engine refuses to open.
//!
//! # What it promises
//!
//! Readers take no lock and never wait. Each change of an entry becomes visible by one atomic
//! store, so a reader gets the value from before or after it, whole. A process that is killed at
//! any instruction loses nothing that it had reported done, and the next writer finishes or takes
//! back what it had begun. A power loss may cost what was not synced; it never makes a value wrong.
//! Every value is verified by its checksum as it is copied out.
//!
//! # What it is not
//!
//! No database: a batch is no transaction, there are no ranges, and keys have no order. No network
//! service, and nothing for network file systems. Linux on 64-bit little-endian machines first.
//!
//! # Features
//!
//! - `serde` serialises [`LabelId`] and [`Interned`].
//! - `dict` has dictionaries, with serde and the formats of their values.
//! - `inspect` builds the program `mmapcache-inspect`. The library needs none of its dependencies.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    docsrs,
    doc(auto_cfg(hide(unix, target_endian = "little", target_pointer_width = "64")))
)]

// What stands below is for these machines only, so that on others this is the one error.
#[cfg(not(all(target_pointer_width = "64", target_endian = "little", unix)))]
compile_error!("mmapcache needs a 64-bit little-endian Unix: its files are mapped, not parsed");

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;

#[cfg(all(doctest, feature = "dict"))]
#[doc = include_str!("../docs/dictionary.md")]
struct DictionaryExamples;

#[cfg(all(target_pointer_width = "64", target_endian = "little", unix))]
mod cache;
#[cfg(all(target_pointer_width = "64", target_endian = "little", unix))]
#[cfg(feature = "dict")]
pub mod dict;
#[cfg(all(target_pointer_width = "64", target_endian = "little", unix))]
mod engine;
#[cfg(all(target_pointer_width = "64", target_endian = "little", unix))]
mod error;
#[cfg(all(target_pointer_width = "64", target_endian = "little", unix))]
mod format;
#[cfg(all(target_pointer_width = "64", target_endian = "little", unix))]
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(all(target_pointer_width = "64", target_endian = "little", unix))]
mod hash;
#[cfg(all(target_pointer_width = "64", target_endian = "little", unix))]
mod heap;
#[cfg(all(target_pointer_width = "64", target_endian = "little", unix))]
mod index;
#[cfg(all(target_pointer_width = "64", target_endian = "little", unix))]
pub mod inspect;
#[cfg(all(target_pointer_width = "64", target_endian = "little", unix))]
mod intern;
#[cfg(all(target_pointer_width = "64", target_endian = "little", unix))]
mod labels;
#[cfg(all(target_pointer_width = "64", target_endian = "little", unix))]
mod lock;
#[cfg(all(target_pointer_width = "64", target_endian = "little", unix))]
mod os;
#[cfg(all(target_pointer_width = "64", target_endian = "little", unix))]
mod sync;

#[cfg(all(target_pointer_width = "64", target_endian = "little", unix))]
pub use cache::MmapCache;
#[cfg(all(target_pointer_width = "64", target_endian = "little", unix))]
pub use engine::{
    CheckProgress, Copied, CopyProgress, DiskUsage, Durability, Entries, Entry, Fault, HotCopy,
    Items, Keys, Level, Listed, Options, Progress, Recovery, Repair, Repaired, Report, Stats,
    Update, ValueRef, Verification, Version, Writer,
};
#[cfg(all(target_pointer_width = "64", target_endian = "little", unix))]
pub use error::{Error, PoolError, Result};
#[cfg(all(target_pointer_width = "64", target_endian = "little", unix))]
pub use intern::{
    DecodeCache, DecodeOptions, DecodeStats, Interned, Pool, PoolOptions, PoolStats, Retention,
    StoredHash, Top, TopBy, TypedInterned, TypedPool,
};
#[cfg(all(target_pointer_width = "64", target_endian = "little", unix))]
pub use labels::{LabelId, LabelIter, Labels};
