//! The error of all operations. Its text names the file, the problem, and what to do.
//!
//! Knows no file format: the code that finds a problem names it.

mod kind;
#[cfg(feature = "intern")]
mod pool;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use crate::error::kind::ErrorKind;
#[cfg(feature = "intern")]
pub use crate::error::pool::PoolError;

/// A `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// The error of an operation: [`kind`](Error::kind) for programs, the text (`Display`) for people,
/// [`path`](Error::path) for the file.
///
/// An operation that returns an error has changed nothing that a reader can see, unless its
/// documentation says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no cache at the path, and the options do not allow to create one.
    #[error("{}: no cache here, and none was to be created; check the path", path.display())]
    NotFound {
        /// The path that was opened.
        path: PathBuf,
    },
    /// `create_new` was asked for, and something is there; or somebody else's file stands where one
    /// of the cache's is to be. It is left alone.
    #[error("{}: something is there already; move it away, choose another path, or open it without `create_new`", path.display())]
    AlreadyExists {
        /// What is there: the path that was opened, or a name that one of the cache's files needs.
        path: PathBuf,
    },
    /// Another thread or process held the writer lock for longer than the lock timeout.
    #[error("{}: another writer{} held the lock for {waited:?}; try again, or raise `lock_timeout`", path.display(), named(*holder))]
    Locked {
        /// The cache.
        path: PathBuf,
        /// How long this call waited.
        waited: Duration,
        /// The process id of who held it then, as far as it said so: a hint, and meaningless across
        /// containers.
        holder: Option<u32>,
    },
    /// This thread already holds a writer of this cache: waiting for it would never end.
    #[error("{}: this thread already holds the writer; use that writer, or drop it first", path.display())]
    WriterHeld {
        /// The cache.
        path: PathBuf,
    },
    /// This process is a forked child, and the writer, copy or repair was begun by its parent, which
    /// goes on with it; the lock is the parent's.
    #[error("{}: begun before a fork, and left to the parent process; begin anew in this one, with a new writer, copy or repair", path.display())]
    Forked {
        /// The cache.
        path: PathBuf,
    },
    /// The file does not start as one of this crate's files does.
    #[error("{}: not a file of mmapcache ({what}); check the path, or move the file away", path.display())]
    WrongMagic {
        /// The file.
        path: PathBuf,
        /// What was expected.
        what: &'static str,
    },
    /// The file is of another release: of a format version that this crate does not read, or with a
    /// feature that it does not know. Nobody changes it, nor mends it.
    #[error("{}: {}, or make a new cache", path.display(), unknown(*found, *supported, *flags))]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
        /// The version that this crate reads.
        supported: u32,
        /// The feature flags in the file that this crate does not know; none are looked for where
        /// the version is another.
        flags: u32,
    },
    /// The file was made with another value of an option that is fixed at creation.
    #[error("{}: made with {option} {found}, opened with {asked}; leave the option out to take the file's own value", path.display())]
    Mismatch {
        /// The cache.
        path: PathBuf,
        /// The option's name.
        option: &'static str,
        /// What the options asked for.
        asked: u64,
        /// What the file has.
        found: u64,
    },
    /// An option has a value outside its range.
    #[error("{}: {option} cannot be {asked}; it takes {range}", path.display())]
    Option {
        /// The cache.
        path: PathBuf,
        /// The option's name.
        option: &'static str,
        /// What was asked for.
        asked: u64,
        /// What is possible.
        range: &'static str,
    },
    /// A write was asked of a handle that was opened read-only.
    #[error("{}: opened read-only; open it without `read_only` to write", path.display())]
    ReadOnly {
        /// The cache.
        path: PathBuf,
    },
    /// Keys have 1 to 65,535 bytes; this one has none, or more.
    #[error("{}: a key of {len} bytes; keys have 1 to 65,535 bytes", path.display())]
    KeyLength {
        /// The cache.
        path: PathBuf,
        /// The key's length in bytes.
        len: usize,
    },
    /// The value and its key do not fit into one heap segment.
    #[error("{}: a value of {len} bytes; {max} is the most for this key: split it, or raise `max_segment_bytes` in a new cache", path.display())]
    ValueTooLarge {
        /// The cache.
        path: PathBuf,
        /// The value's length in bytes.
        len: usize,
        /// The longest value that fits beside this key.
        max: u64,
    },
    /// The cache holds as many entries as it may. Updates and deletions still work.
    #[error("{}: full with {limit} entries; delete some, or raise `max_entries` in a new cache", path.display())]
    TableFull {
        /// The cache.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// All ids were given, or may have been before a power loss. What has one is found as ever.
    #[error("{}: all of {limit} ids are given; use other labels, or raise `max_entries` in new ones", path.display())]
    IdsExhausted {
        /// The labels.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// A label was asked for as text and is none.
    #[error("{}: the label of id {id} is no UTF-8; read it as bytes", path.display())]
    NotText {
        /// The labels.
        path: PathBuf,
        /// The label's id.
        id: u32,
    },
    /// What was put stays as it is: nothing is deleted, replaced or cleared. So it is in labels, and
    /// in a cache that was made with `append_only`.
    #[error("{}: append-only: what was put stays as it is; make a new one in its place", path.display())]
    AppendOnly {
        /// The cache or the labels.
        path: PathBuf,
    },
    /// The file system has no room. Found out before anything changed.
    #[error("{}: no room for {} on the disk; free some and try again", path.display(), wanted(*needed))]
    DiskFull {
        /// The file that could not grow.
        path: PathBuf,
        /// Bytes asked for; 0 where what lacked was room for one more file.
        needed: u64,
    },
    /// A file that is of no more use could not be removed or replaced: in a directory with the sticky
    /// bit only its owner, the directory's owner and root can do that. Puts are refused with this
    /// error where dead entries would else take more and more room; deletions still work.
    #[error("{}: only its owner, the directory's owner or root can remove or replace this file; let one of them write to the cache, or move it to a directory without the sticky bit", path.display())]
    NotRemovable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something in the file cannot be true.
    #[error("{}: damaged: {what} at byte {at}; repair it (`mmapcache-inspect repair`, or `Repair`), or make a new cache", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is damaged.
        what: &'static str,
        /// Where, in bytes from the file's start.
        at: u64,
    },
    /// A segment that the heap must have is not at its path, or something else is there. Most likely
    /// the disk that it is on is not mounted, or the cache was opened without its
    /// [`heap_path`](crate::Options::heap_path): then nothing is lost, and nothing was changed.
    ///
    /// A handle that only reads may still be opened; what is in that segment is a miss to `get`, and
    /// this error to `entry`. Where one segment of several is lost for good, [`Repair`](crate::Repair)
    /// keeps what the others have. Where the whole heap is lost, remove the index and the roster:
    /// then a new cache can be made.
    #[error("{}: {found} where {} has its heap, which counts {entries} entries; is its disk mounted, or was `heap_path` forgotten?{} Nothing was changed", path.display(), cache.display(), stored(*elsewhere))]
    HeapMissing {
        /// The segment's path.
        path: PathBuf,
        /// The cache.
        cache: PathBuf,
        /// Entries that the index counts.
        entries: u64,
        /// Whether the heap was stored at another path than the default one when it was last
        /// written; none where the files do not say, because an older release wrote them.
        elsewhere: Option<bool>,
        /// What is at the path: "nothing", or what else it is.
        found: &'static str,
    },
    /// A listing, a draw or a copy found fewer entries than the index counts, or bytes that may have
    /// held entries. What it returned before this error is sound, but not all there was.
    #[error("{}: {found} of {counted} entries found{}; repair it (`mmapcache-inspect repair`, or `Repair`)", path.display(), beside(*damaged_bytes))]
    Incomplete {
        /// The index.
        path: PathBuf,
        /// Entries that were found.
        found: u64,
        /// Entries that the index counted when it began.
        counted: u64,
        /// Bytes of the heap that do not verify; only a copy looks for them.
        damaged_bytes: u64,
    },
    /// Other writers changed what a reader looked at, each of the many times that it looked. Nothing
    /// is damaged: the same call can be made again.
    #[error("{}: other writers changed {what} each of the {looks} times that it was looked at; try again", path.display())]
    Contended {
        /// The cache.
        path: PathBuf,
        /// What was looked at.
        what: &'static str,
        /// How often.
        looks: u32,
    },
    /// A listing could not go on: the cache was rebuilt, and what it still had to read is gone.
    #[error("{}: the cache was rebuilt during the listing; start it again", path.display())]
    Superseded {
        /// The cache.
        path: PathBuf,
    },
    /// Syncing failed once; what was written since the last good sync may not be on the disk.
    #[error("{}: an earlier sync failed; rebuild the cache on a healthy disk", path.display())]
    SyncFailed {
        /// The cache.
        path: PathBuf,
    },
    /// The file system or the platform lacks what shared mappings need.
    #[error("{}: {what}", path.display())]
    Unsupported {
        /// The cache.
        path: PathBuf,
        /// What is missing, and what to do.
        what: &'static str,
    },
    /// The items given to a rebuild ended with an error of their own; the cache is as it was.
    #[error("{}: the items of a rebuild failed; the cache is as it was", path.display())]
    Source {
        /// The cache.
        path: PathBuf,
        /// What the iterator returned.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A pool in memory refused what was read from a file.
    #[cfg(feature = "intern")]
    #[error(transparent)]
    Pool(PoolError),
    /// The operating system refused.
    #[error("{}: could not {action}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn named(holder: Option<u32>) -> String {
    holder.map_or_else(String::new, |id| format!(" (process {id})"))
}

impl Error {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            Self::Locked { .. } => ErrorKind::Locked,
            Self::WriterHeld { .. } => ErrorKind::AlreadyWriting,
            Self::Forked { .. } => ErrorKind::ForkedWriter,
            Self::WrongMagic { .. } => ErrorKind::NotACacheFile,
            Self::Version { .. } => ErrorKind::UnsupportedVersion,
            Self::Mismatch { .. } => ErrorKind::OptionMismatch,
            Self::Option { .. } => ErrorKind::InvalidOption,
            Self::ReadOnly { .. } => ErrorKind::ReadOnly,
            Self::KeyLength { .. } => ErrorKind::KeyLength,
            Self::ValueTooLarge { .. } => ErrorKind::ValueTooLarge,
            Self::TableFull { .. } => ErrorKind::TableFull,
            Self::IdsExhausted { .. } => ErrorKind::IdsExhausted,
            Self::NotText { .. } => ErrorKind::NotUtf8,
            Self::AppendOnly { .. } => ErrorKind::AppendOnly,
            Self::DiskFull { .. } => ErrorKind::DiskFull,
            Self::NotRemovable { .. } => ErrorKind::NotRemovable,
            Self::Damaged { .. } => ErrorKind::Corrupted,
            Self::HeapMissing { .. } => ErrorKind::HeapMissing,
            Self::Incomplete { .. } => ErrorKind::Incomplete,
            Self::Contended { .. } => ErrorKind::Contended,
            Self::Superseded { .. } => ErrorKind::Superseded,
            Self::SyncFailed { .. } => ErrorKind::SyncFailed,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Source { .. } => ErrorKind::RebuildSource,
            #[cfg(feature = "intern")]
            Self::Pool(_) => ErrorKind::Pool,
            Self::Io { .. } => ErrorKind::Io,
        }
    }

    /// Returns the file that the error is about, or else the path of the cache. `None` for
    /// an error of a pool in memory.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::NotFound { path }
            | Self::AlreadyExists { path }
            | Self::Locked { path, .. }
            | Self::WriterHeld { path }
            | Self::Forked { path }
            | Self::WrongMagic { path, .. }
            | Self::Version { path, .. }
            | Self::Mismatch { path, .. }
            | Self::Option { path, .. }
            | Self::ReadOnly { path }
            | Self::KeyLength { path, .. }
            | Self::ValueTooLarge { path, .. }
            | Self::TableFull { path, .. }
            | Self::IdsExhausted { path, .. }
            | Self::NotText { path, .. }
            | Self::AppendOnly { path }
            | Self::DiskFull { path, .. }
            | Self::NotRemovable { path, .. }
            | Self::Damaged { path, .. }
            | Self::HeapMissing { path, .. }
            | Self::Incomplete { path, .. }
            | Self::Contended { path, .. }
            | Self::Superseded { path }
            | Self::SyncFailed { path }
            | Self::Unsupported { path, .. }
            | Self::Source { path, .. }
            | Self::Io { path, .. } => Some(path),
            #[cfg(feature = "intern")]
            Self::Pool(_) => None,
        }
    }

    /// Returns whether a file is corrupted: it has contents that no version of this crate writes.
    ///
    /// True for [`ErrorKind::Corrupted`], [`ErrorKind::Incomplete`] and [`ErrorKind::NotACacheFile`].
    /// A killed process never causes corruption. A full disk, a missing permission, too many open files,
    /// contention and a misuse of the API are not corruption, nor is a file of a newer release.
    pub fn is_corruption(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::Corrupted | ErrorKind::Incomplete | ErrorKind::NotACacheFile
        )
    }

    /// Returns whether the same call may succeed when it is repeated, without any other action.
    ///
    /// True for [`ErrorKind::Locked`], [`ErrorKind::Contended`] and [`ErrorKind::Superseded`]: other
    /// threads or processes were in the way.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::Locked | ErrorKind::Contended | ErrorKind::Superseded
        )
    }

    /// Whether one entry cannot be read, and the others may be.
    pub(crate) fn is_of_one_entry(&self) -> bool {
        self.is_corruption() || matches!(self, Self::HeapMissing { .. })
    }

    /// What an [`Error::Io`] tried whose failure means that something may never come to the disk.
    pub(crate) const SYNC: &'static str = "sync it to the disk";

    /// Whether a sync failed: the system counts what it was about as written from now on.
    pub(crate) fn is_failed_sync(&self) -> bool {
        matches!(self, Self::Io { action, .. } if *action == Self::SYNC)
    }

    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            path: path.to_owned(),
            action,
            source,
        }
    }

    pub(crate) fn damaged(path: &Path, what: &'static str, at: u64) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            what,
            at,
        }
    }

    /// Whether a file that was expected is not there.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
            || matches!(self, Self::NotFound { .. })
    }
}

fn stored(elsewhere: Option<bool>) -> &'static str {
    match elsewhere {
        Some(true) => " It was last stored at a `heap_path` of its own.",
        Some(false) => " It was last stored next to the index.",
        None => "",
    }
}

/// What a release does not read, and which one does.
fn unknown(found: u32, supported: u32, flags: u32) -> String {
    match flags {
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
