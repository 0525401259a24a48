//! A persistent hash table in memory-mapped files, for caches that many processes share: about as fast
//! as a `HashMap` in memory, consistent after a process is killed, and never returning a damaged value.
//!
//! ```
//! # let dir = tempfile::tempdir()?;
//! use mmapcache::MmapCache;
//!
//! let cache = MmapCache::open(dir.path().join("thumbnails"))?;
//! cache.put("/photos/cat.jpg", "the small picture")?;
//!
//! // Another handle, here or in another process, sees it at once.
//! let other = MmapCache::open(dir.path().join("thumbnails"))?;
//! assert_eq!(other.get("/photos/cat.jpg")?.as_deref(), Some(&b"the small picture"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to begin
//!
//! - [`MmapCache`] is the handle: [`get`](MmapCache::get), [`put`](MmapCache::put),
//!   [`delete`](MmapCache::delete), listings, conditional writes, atomic rebuilding.
//! - [`Options`] open or create a cache: capacity, limits, durability, file mode.
//! - [`Writer`] holds the lock for a batch: many changes for one lock and, if requested, one sync.
//! - [`Cache`] has deadlines, bounds with eviction, groups that are invalidated at once, one computation
//!   for a key over all processes, negative entries and counters, in the same kind of files. `TypedCache`
//!   (feature `serde`) stores values of any serde type.
//! - [`Labels`] assign each string an id, the same in every process and after every restart.
//! - The module `intern` (feature of that name) has a pool of byte strings and a cache of decoded values,
//!   in the memory of one process.
//! - The module `dict` (feature of that name) has dictionaries with hierarchical keys, values of any
//!   serde type, ETags, conditional operations and policies, in a cache or in memory.
//! - [`Error`] names the file, the problem and what to do; [`ErrorKind`] is for programs.
//! - [`Stats`], [`DiskUsage`] and [`VerifyReport`] describe the state of a cache; [`Backup`] and
//!   [`Repair`] copy and repair one. The module `inspect` (feature of that name) decodes files, also those
//!   that the engine refuses to open.
//!
//! # Guarantees
//!
//! Readers take no lock and never wait. Each change of an entry becomes visible by one atomic store, so a
//! reader gets the value from before or after it, whole. A process that is killed at any instruction loses
//! no change that had returned; the next writer completes or undoes the change in flight. A power loss may
//! lose changes that were not synced; it never makes a value wrong. Every read verifies the checksum of
//! the value that it copies.
//!
//! # Limits
//!
//! Not a database: batches are not transactions, and there are no range scans and no key order. Not a
//! network service, and not for network file systems. 64-bit little-endian Unix only; Linux is tested
//! most.
//!
//! # Features
//!
//! | feature | adds | default |
//! |---|---|---|
//! | `intern` | the module `intern`: `Pool`, `TypedPool`, `DecodeCache` | yes |
//! | `dict` | the module `dict`: dictionaries; includes `serde` | |
//! | `serde` | `TypedCache`, with the formats of its values; serialisation of [`Version`], [`Stats`], [`DiskUsage`], [`LabelId`] and interned values | |
//! | `inspect` | the module `inspect`: decodes the files of a cache | |
//! | `cli` | the program `mmapcache-inspect` | |
//!
//! Without features, the crate contains the cache and the labels, and depends on nothing that only the
//! others need.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(docsrs, doc(auto_cfg(hide(unix))))]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;

#[cfg(all(doctest, feature = "serde"))]
#[doc = include_str!("../docs/cache.md")]
struct CacheExamples;

#[cfg(all(doctest, feature = "dict"))]
#[doc = include_str!("../docs/dictionary.md")]
struct DictionaryExamples;

/// Compiles items under a condition, or else other items. rustfmt formats the files of the modules that
/// it finds in a macro of this name.
macro_rules! cfg_if {
    (if #[cfg($condition:meta)] { $($item:item)* } else { $($other:item)* }) => {
        $(#[cfg($condition)] $item)*
        $(#[cfg(not($condition))] $other)*
    };
}

cfg_if! {
    if #[cfg(all(target_pointer_width = "64", target_endian = "little", unix))] {
        mod cache;
        #[cfg(feature = "serde")]
        mod codec;
        #[cfg(feature = "dict")]
        pub mod dict;
        mod engine;
        mod error;
        mod format;
        #[cfg(fuzzing)]
        #[doc(hidden)]
        pub mod fuzzing;
        mod hash;
        mod heap;
        mod index;
        #[cfg(feature = "inspect")]
        pub mod inspect;
        #[cfg(feature = "intern")]
        pub mod intern;
        mod labels;
        mod lock;
        mod mmap_cache;
        mod os;
        mod sync;

        pub use cache::{
            Cache, CacheBuilder, CacheCounts, CacheEntry, CacheSettings, CacheStats, CacheWriter,
            ComputeError, ComputeOptions, Eviction, InsertOptions, Metric, MetricKind, Obtained,
            Origin, RemovalCause,
        };
        #[cfg(feature = "serde")]
        pub use cache::TypedCache;
        #[cfg(feature = "serde")]
        pub use codec::Format;
        pub use engine::{
            Backup, BackupReport, DiskUsage, Durability, Entry, LockKind, Options, Problem,
            Progress, Recovery, Repair, RepairReport, Stats, Update, Upgrade,
            ValueRef, Verify, VerifyLevel, VerifyReport, Version, Writer,
        };
        pub use error::{Corruption, Error, ErrorKind, Result};
        pub use labels::{LabelId, Labels};
        pub use mmap_cache::MmapCache;

        /// The iterators of [`MmapCache`], [`Cache`] and [`Labels`].
        pub mod iter {
            pub use crate::cache::{CacheEntries, CacheKeys};
            pub use crate::engine::{Entries, Iter, KeyInfo, Keys};
            pub use crate::labels::LabelIter;
        }
    } else {
        // The only error on other platforms.
        compile_error!("mmapcache needs a 64-bit little-endian Unix: its files are mapped, not parsed");
    }
}
