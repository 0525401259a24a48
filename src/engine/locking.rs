//! Opens the file locks of a cache, waits for them, and reports who holds them.
//!
//! May call `lock`, `index::header`, `os` and `engine::options`.

use std::io;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::format::LockKind;
use crate::index::header::Header;
use crate::lock::{FileLock, LockDeadline, LockError};
use crate::os::file_names::FileNames;
use crate::os::files;

use crate::engine::options::Options;

/// Opens the writer lock of an index.
pub(crate) fn open(path: &Path, kind: LockKind) -> Result<FileLock> {
    FileLock::open(kind, || files::open(path, true))?.map_err(|error| {
        if is_no_such_lock(&error) {
            return ErrorKind::Unsupported {
                what: "locked by a word of the index, for which this system or file system lacks \
                       the means; open it read-only, or create the cache again here",
            }
            .at(path);
        }
        Error::io(path, "prepare the lock")(error)
    })
}

/// Opens the writer lock of a new index: `flock` if the system lacks a better one.
pub(crate) fn open_new(path: &Path, kind: LockKind) -> Result<FileLock> {
    match FileLock::open(kind, || files::open(path, true))? {
        Err(error) if is_no_such_lock(&error) => open(path, LockKind::Flock),
        opened => opened.map_err(Error::io(path, "prepare the lock")),
    }
}

fn is_no_such_lock(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, Unsupported};
    matches!(error.kind(), InvalidInput | Unsupported)
}

/// Takes the lock under which caches are created and repaired; dropping it releases the lock.
pub(crate) fn lock_creation(names: &FileNames, options: &Options) -> Result<FileLock> {
    let path = names.lock();
    let lock = FileLock::of_file(|| files::open_lock(&path, options.mode))?;
    acquire(&lock, None, &LockDeadline::new(options.lock_timeout), names)?;
    Ok(lock)
}

/// Waits for a file lock, and reports its holder if the deadline passes.
pub(crate) fn acquire(
    lock: &FileLock,
    header: Option<Header<'_>>,
    deadline: &LockDeadline,
    names: &FileNames,
) -> Result<()> {
    lock.acquire(header.map(|header| header.lock_words()), deadline)
        .map_err(|refusal| match refusal {
            LockError::TimedOut => ErrorKind::Locked {
                waited: deadline.waited(),
                holder: header.and_then(|header| header.holder()),
            }
            .at(&names.cache()),
            LockError::Io(error) => Error::io(names.cache(), "lock the cache")(error),
        })
}
