//! The error of all operations: a kind and a path.
//!
//! Calls its siblings only; the code that finds a problem names it.

mod corruption;
mod kind;
#[cfg(feature = "intern")]
mod pool;

use std::path::{Path, PathBuf};
use std::{fmt, io};

pub use crate::error::corruption::Corruption;
pub use crate::error::kind::ErrorKind;
#[cfg(feature = "intern")]
pub use crate::error::pool::PoolError;

/// A `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// The error of an operation: [`kind`](Error::kind) for programs, `Display` for people,
/// [`path`](Error::path) for the file.
///
/// It is one pointer wide. `Display` writes the path, the problem, the system's reason and what to do,
/// on one line; so [`source`](std::error::Error::source) is not this reason again, but what is below it.
/// [`io_error`](Error::io_error) returns the system's error.
///
/// An operation that returns an error has changed nothing that a reader can see, unless its
/// documentation says otherwise.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use mmapcache::{ErrorKind, MmapCache};
///
/// let cache = MmapCache::open(dir.path().join("cache"))?;
/// let error = cache.put(b"", b"a key must not be empty").unwrap_err();
/// assert!(matches!(error.kind(), ErrorKind::KeyLength { len: 0 }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
// Results stay in registers: one that is copied through memory waits until all stores before it are
// in the cache, and those of a put mostly miss it (343 ns a put, 384 with such copies).
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    /// `None` for a pool, which is in memory.
    path: Option<PathBuf>,
    /// Whether a sync failed: the system counts the data as written from now on.
    failed_sync: bool,
}

impl Error {
    #[cold]
    fn new(kind: ErrorKind, path: Option<&Path>) -> Self {
        Self(Box::new(Inner {
            kind,
            path: path.map(Path::to_owned),
            failed_sync: false,
        }))
    }

    /// Returns the kind of the error, with its details.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Returns the kind of the error by value.
    pub fn into_kind(self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the file that the error is about, or the path of the cache. `None` for an error of a
    /// pool in memory.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// Returns the error that the operating system returned, if there was one.
    pub fn io_error(&self) -> Option<&io::Error> {
        match self.kind() {
            ErrorKind::Io { source, .. } | ErrorKind::NotRemovable { source } => Some(source),
            _ => None,
        }
    }

    /// Returns whether a file is corrupt: it has contents that no version of this crate writes.
    ///
    /// True for [`ErrorKind::Corrupted`], [`ErrorKind::Incomplete`], [`ErrorKind::NotACacheFile`] and
    /// [`ErrorKind::SettingsCorrupted`].
    /// A killed process never causes corruption. A full disk, a missing permission, too many open files,
    /// contention and a misuse of the API are not corruption, nor is a file of a newer release.
    pub fn is_corruption(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::Corrupted { .. }
                | ErrorKind::Incomplete { .. }
                | ErrorKind::NotACacheFile { .. }
                | ErrorKind::SettingsCorrupted
        )
    }

    /// Returns whether the same call may succeed when it is repeated, without any other action.
    ///
    /// True for [`ErrorKind::Locked`], [`ErrorKind::Contended`] and [`ErrorKind::Superseded`]: other
    /// threads or processes were in the way.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::Locked { .. } | ErrorKind::Contended { .. } | ErrorKind::Superseded
        )
    }

    /// Returns whether one entry cannot be read, and others may be.
    pub(crate) fn is_of_one_entry(&self) -> bool {
        self.is_corruption() || matches!(self.kind(), ErrorKind::HeapMissing { .. })
    }

    /// Returns the function that turns the system's error into one of this crate, for `map_err`.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| ErrorKind::Io { action, source }.at(path)
    }

    /// As [`io`](Self::io), for a failed sync.
    pub(crate) fn sync(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            let mut error = Self::io(path, "sync it to the disk")(source);
            error.0.failed_sync = true;
            error
        }
    }

    /// Returns whether a sync failed, so that what it was about may never reach the disk.
    pub(crate) fn is_failed_sync(&self) -> bool {
        self.0.failed_sync
    }

    pub(crate) fn corrupted(path: &Path, what: Corruption, at: u64) -> Self {
        ErrorKind::Corrupted { what, at }.at(path)
    }

    /// Returns whether a file that was expected does not exist.
    pub(crate) fn is_absent(&self) -> bool {
        match self.kind() {
            ErrorKind::NotFound => true,
            ErrorKind::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }
}

#[cfg(feature = "intern")]
impl From<PoolError> for Error {
    fn from(error: PoolError) -> Self {
        Self::new(ErrorKind::Pool(error), None)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("path", &self.0.path)
            .finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path() {
            Some(path) => write!(f, "{}: {}", path.display(), self.0.kind),
            None => write!(f, "{}", self.0.kind),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // `Display` has the first reason already.
        std::error::Error::source(&self.0.kind)?.source()
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn error_is_one_pointer() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    }

    /// A user who prints an error sees the system's reason once, also with its sources.
    #[test]
    fn display_has_the_reason() {
        let error =
            Error::io(Path::new("/c"), "read the file")(io::Error::other("the disk failed"));
        assert_eq!(
            error.to_string(),
            "/c: could not read the file: the disk failed"
        );
        assert!(error.source().is_none());
        assert_eq!(error.io_error().unwrap().to_string(), "the disk failed");
    }
}
