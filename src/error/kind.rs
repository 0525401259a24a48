//! The kinds of errors, with what programs may want to know of each.
//!
//! [`Error`](crate::Error) adds the path. May call its siblings only.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[cfg(feature = "intern")]
use crate::error::PoolError;
use crate::error::{Corruption, Error};

/// The kind of an [`Error`](crate::Error), returned by [`Error::kind`](crate::Error::kind).
///
/// `Display` writes the problem and what to do about it, without the path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no cache at the path, and the options do not create one.
    #[error("no cache here, and the options do not create one; check the path")]
    NotFound,
    /// `create_new` was set and the cache exists, or a foreign file has the name of one of the cache's
    /// files. The file is left alone.
    #[error(
        "a file exists already; move it away, choose another path, or open the cache without `create_new`"
    )]
    AlreadyExists,
    /// Another thread or process held the writer lock for longer than the lock timeout.
    #[error("another writer{} held the lock for {waited:?}; try again, or raise `lock_timeout`", process(*holder))]
    Locked {
        /// How long this call waited.
        waited: Duration,
        /// The process id of the holder, if it could be read. Meaningless across containers.
        holder: Option<u32>,
    },
    /// This thread already holds a [`Writer`](crate::Writer) of this cache: waiting for it would never
    /// end.
    #[error("this thread already holds the writer; use that writer, or drop it first")]
    AlreadyWriting,
    /// This thread computes the value of this key, and asks for it again within that computation: waiting
    /// for it would never end.
    #[error(
        "this thread is computing the value of this key; compute it without asking the cache for it"
    )]
    AlreadyComputing,
    /// This process is a forked child, and its parent began the writer, backup or repair and goes on with
    /// it. The child must begin its own.
    #[error(
        "the parent process began this before the fork and holds the lock; begin a new writer, backup or repair in this process"
    )]
    ForkedWriter,
    /// The file is not a file of this crate.
    #[error("not a file of mmapcache ({what}); check the path, or move the file away")]
    NotACacheFile {
        /// The kind of file that was expected, or what the file is instead.
        what: &'static str,
    },
    /// The file is of another release: it has a format version or a feature flag that this crate does not
    /// support. It is left alone. [`Upgrade`](crate::Upgrade) replaces an index of an older format.
    #[error("{}, or make a new cache", release(*found, *supported, *flags))]
    UnsupportedVersion {
        /// The format version of the file.
        found: u32,
        /// The format version that this crate reads.
        supported: u32,
        /// The feature flags of the file that this crate does not know; 0 if the version differs.
        flags: u32,
    },
    /// An option that is fixed at creation differs from the stored value.
    #[error(
        "made with {option} {found}, opened with {asked}; omit the option to use the stored value"
    )]
    OptionMismatch {
        /// The name of the option.
        option: &'static str,
        /// The value that the caller set.
        asked: u64,
        /// The stored value.
        found: u64,
    },
    /// The files were made by another type of this crate, for which their entries mean something else.
    #[error("made by {made_by}; open it with that type, or choose another path")]
    OtherType {
        /// The type that made the files.
        made_by: &'static str,
    },
    /// An option has a value outside its range.
    #[error("{option} cannot be {asked}; its range is {range}")]
    InvalidOption {
        /// The name of the option.
        option: &'static str,
        /// The value that the caller set.
        asked: u64,
        /// The values that are possible.
        range: &'static str,
    },
    /// A write was called on a read-only handle.
    #[error("opened read-only; open it without `read_only` to write")]
    ReadOnly,
    /// The key is empty or longer than 65,535 bytes.
    #[error("a key of {len} bytes; keys have 1 to 65,535 bytes")]
    KeyLength {
        /// The length of the key in bytes.
        len: usize,
    },
    /// The value and its key do not fit into one heap segment.
    #[error(
        "a value of {len} bytes; {max} is the maximum for this key: split it, or raise `max_segment_bytes` in a new cache"
    )]
    ValueTooLarge {
        /// The length of the value in bytes.
        len: usize,
        /// The length of the longest value for this key.
        max: u64,
    },
    /// The cache has as many entries as it may have. Updates and deletions still work.
    #[error("full with {limit} entries; delete some, or raise `max_entries` in a new cache")]
    TableFull {
        /// The maximum number of entries.
        limit: u64,
    },
    /// The files of a `Cache` take as many bytes as they may, and its policy is to evict nothing.
    #[error(
        "full: its files take {limit} bytes; remove entries, or open it with a larger `max_bytes`"
    )]
    CacheFull {
        /// The bound, in bytes.
        limit: u64,
    },
    /// All ids of the labels are assigned, or may have been before a power loss. Labels with an id are
    /// found as before.
    #[error("all {limit} ids are assigned; use other labels, or raise `max_entries` in new ones")]
    IdsExhausted {
        /// The maximum number of ids.
        limit: u64,
    },
    /// A label was read as text and is not UTF-8.
    #[error("the label of id {id} is not UTF-8; read it as bytes")]
    NotUtf8 {
        /// The id of the label.
        id: u32,
    },
    /// The cache or the labels only allow additions: no overwrite, deletion or rebuild.
    #[error("append-only: entries are never changed or deleted; make a new cache in its place")]
    AppendOnly,
    /// The file system has no room. Nothing was changed.
    #[error("no room for {} on the disk; free some and try again", wanted(*needed))]
    DiskFull {
        /// The bytes that were needed; 0 if there was no room for another file.
        needed: u64,
    },
    /// An obsolete file could not be removed or replaced: in a directory with the sticky bit only its
    /// owner, the directory's owner and root can. Puts fail with it if dead records would otherwise grow
    /// without bound; deletions still work.
    #[error(
        "only its owner, the directory's owner or root can remove or replace this file ({source}); let one of them write to the cache, or move it to a directory without the sticky bit"
    )]
    NotRemovable {
        /// The reason that the system returned.
        source: io::Error,
    },
    /// A file has contents that this crate never writes.
    #[error(
        "corrupt: {what} at byte {at}; repair it (`mmapcache-inspect repair`, or `Repair`), or make a new cache"
    )]
    Corrupted {
        /// The corruption.
        what: Corruption,
        /// Its offset in the file, in bytes.
        at: u64,
    },
    /// The limits and defaults of a [`Cache`](crate::Cache) are corrupt. Lookups work, without them.
    #[error(
        "the limits and defaults are corrupt; set those that the cache should have again, by opening it with `Cache::builder`"
    )]
    SettingsCorrupted,
    /// A segment of the heap is not at its path, or something else is there. Most likely its disk is not
    /// mounted, or the cache was opened without its [`heap_path`](crate::Options::heap_path); then
    /// nothing is lost. Nothing was changed.
    ///
    /// A read-only handle can be opened; for entries in that segment `get` returns `None`, and `entry`
    /// this error. If one segment of several is lost, [`Repair`](crate::Repair) keeps the entries of the
    /// others. If the whole heap is lost, remove the index and the roster to make a new cache.
    #[error("{found} at the path where {} has its heap, with {entries} entries; is its disk mounted, or was `heap_path` forgotten?{} Nothing was changed", cache.display(), stored(*elsewhere))]
    HeapMissing {
        /// The path of the cache.
        cache: PathBuf,
        /// The number of entries that the index counts.
        entries: u64,
        /// Whether the heap was last written at another path than the default one. `None` if an older
        /// release wrote the files, which did not store this.
        elsewhere: Option<bool>,
        /// What is at the segment's path: "nothing", or the kind of file.
        found: &'static str,
    },
    /// A listing, a sample or a backup found fewer entries than the index counted, or damaged bytes that
    /// may have held others. What was returned before is valid, but not complete.
    #[error("{found} of {counted} entries found{}; repair it (`mmapcache-inspect repair`, or `Repair`)", beside(*damaged_bytes))]
    Incomplete {
        /// The number of entries that were found.
        found: u64,
        /// The number of entries that the index counted at the start.
        counted: u64,
        /// The bytes of the heap that are no valid record; only backups count them.
        damaged_bytes: u64,
    },
    /// Other writers changed what a reader read, during each of many attempts. Nothing is corrupt; the
    /// same call can be repeated.
    #[error("other writers changed {what} during each of {attempts} attempts; try again")]
    Contended {
        /// What the reader tried to read.
        what: &'static str,
        /// The number of attempts.
        attempts: u32,
    },
    /// A listing ended early because the cache was rebuilt. Start it again.
    #[error("the cache was rebuilt during the listing; start it again")]
    Superseded,
    /// A sync failed earlier: writes since the last successful sync may not be on the disk.
    #[error("an earlier sync failed; rebuild the cache on a healthy disk")]
    SyncFailed,
    /// The file system or the platform lacks what shared mappings need.
    #[error("{what}")]
    Unsupported {
        /// What is missing, and what to do.
        what: &'static str,
    },
    /// The iterator of a rebuild returned an error. The cache is unchanged.
    #[error("the items of a rebuild failed: {source}; the cache is unchanged")]
    RebuildSource {
        /// The error that the iterator returned.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The value of a counter is not 8 bytes long: it was stored by other means. Nothing was changed.
    #[error("a value of {len} bytes, not a counter of 8; remove it, or use another key")]
    NotACounter {
        /// The length of the value in bytes.
        len: usize,
    },
    /// A counter would leave the range of its 64 bits. Nothing was changed.
    #[error("{value} plus {by} exceeds 64 bits; remove the counter, or use several")]
    CounterOverflow {
        /// The value of the counter.
        value: i64,
        /// What was to be added.
        by: i64,
    },
    /// The format cannot express a value, or the arguments that a key is made of.
    #[cfg(feature = "serde")]
    #[error(
        "cannot write a {type_name} as {format} ({source}); change the type, or use another format"
    )]
    Encode {
        /// The type of the value.
        type_name: &'static str,
        /// The name of the format.
        format: &'static str,
        /// The error of the format.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A [`Pool`](crate::intern::Pool) refused a value.
    #[cfg(feature = "intern")]
    #[error(transparent)]
    Pool(PoolError),
    /// The operating system refused an operation.
    #[error("could not {action}: {source}")]
    Io {
        /// The operation.
        action: &'static str,
        /// The reason that the system returned.
        source: io::Error,
    },
}

impl ErrorKind {
    /// Returns the error of this kind at a path.
    pub(crate) fn at(self, path: impl AsRef<Path>) -> Error {
        Error::new(self, Some(path.as_ref()))
    }
}

fn process(holder: Option<u32>) -> String {
    holder.map_or_else(String::new, |id| format!(" (process {id})"))
}

fn stored(elsewhere: Option<bool>) -> &'static str {
    match elsewhere {
        Some(true) => " It was last stored at a `heap_path` of its own.",
        Some(false) => " It was last stored next to the index.",
        None => "",
    }
}

/// Returns what this release does not read, and which one does.
fn release(found: u32, supported: u32, flags: u32) -> String {
    match flags {
        0 if found > 0 && found < supported => format!(
            "format version {found} of an older release, this crate reads {supported}; upgrade the cache \
             by `mmapcache-inspect upgrade`, or by `Upgrade`"
        ),
        0 => {
            format!("format version {found}, this crate reads {supported}; use a matching release")
        }
        flags => format!("feature flags {flags:#x} of a newer release; use that one"),
    }
}

fn beside(damaged_bytes: u64) -> String {
    match damaged_bytes {
        0 => String::new(),
        bytes => format!(", and {bytes} damaged bytes that may have held others, or newer values"),
    }
}

fn wanted(needed: u64) -> String {
    match needed {
        0 => "another file".to_owned(),
        bytes => format!("{bytes} more bytes"),
    }
}
