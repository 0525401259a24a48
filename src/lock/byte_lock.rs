//! Locks of single bytes of a file, between processes and between the threads of one.
//!
//! Each lock has an open file description (OFD) of its own, so it excludes every other one. The
//! kernel releases it when the process dies, however it dies. May call `lock::ofd` and
//! `lock::liveness`.

use std::fs::File;
use std::io;

use crate::error;
use crate::format::lock::COMPUTATIONS;

use crate::lock::ofd::OpenDescription;

/// A lock of at most one byte of a file. Dropping it releases the byte.
#[derive(Debug)]
pub(crate) struct ByteLock {
    description: OpenDescription,
    held: Option<u64>,
}

impl ByteLock {
    /// Opens the file for a lock, and locks nothing. `open` must open it for writing.
    pub(crate) fn open(open: impl Fn() -> error::Result<File>) -> error::Result<Self> {
        Ok(Self {
            description: OpenDescription::open(open)?,
            held: None,
        })
    }

    /// Returns the file, for reading the metadata of the inode that is locked.
    pub(crate) fn file(&self) -> &File {
        self.description.file()
    }

    /// Returns whether this process opened it, and is not a forked child of it.
    pub(crate) fn is_own(&self) -> bool {
        self.description.is_own()
    }

    /// Locks the byte of a number, and releases the one that it had. Returns false if another
    /// description has it.
    ///
    /// Where the system has no such locks it always succeeds, and excludes no one.
    pub(crate) fn try_lock(&mut self, number: u64) -> io::Result<bool> {
        debug_assert!(number < COMPUTATIONS, "the bytes above are owner ids");
        self.release();
        let is_locked = lock(self.description.file(), number)?;
        self.held = is_locked.then_some(number);
        Ok(is_locked)
    }

    fn release(&mut self) {
        if let Some(number) = self.held.take() {
            unlock(self.description.file(), number);
        }
    }
}

impl Drop for ByteLock {
    /// Closing the description would be enough, except if a child that is being forked at this
    /// moment has it too.
    fn drop(&mut self) {
        if self.is_own() {
            self.release();
        }
    }
}

#[cfg(all(target_os = "linux", not(loom)))]
fn lock(file: &File, number: u64) -> io::Result<bool> {
    match crate::lock::liveness::lock_byte(file, byte(number)) {
        // A kernel or a file system without these locks.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => Ok(true),
        locked => locked,
    }
}

#[cfg(all(target_os = "linux", not(loom)))]
fn unlock(file: &File, number: u64) {
    crate::lock::liveness::unlock_byte(file, byte(number));
}

#[cfg(all(target_os = "linux", not(loom)))]
fn byte(number: u64) -> i64 {
    crate::format::lock::FIRST_COMPUTATION_BYTE + (number % COMPUTATIONS) as i64
}

#[cfg(any(not(target_os = "linux"), loom))]
fn lock(_file: &File, _number: u64) -> io::Result<bool> {
    Ok(true)
}

#[cfg(any(not(target_os = "linux"), loom))]
fn unlock(_file: &File, _number: u64) {}

#[cfg(all(test, target_os = "linux", not(loom)))]
mod tests {
    use super::*;
    use crate::error::Error;

    // Two locks of one thread, as of two processes.
    #[test]
    fn bytes_exclude_each_description() {
        let named = tempfile::NamedTempFile::new().unwrap();
        let open = || {
            let path = named.path();
            let file = File::options().write(true).open(path);
            file.map_err(Error::io(path, "open"))
        };
        let mut one = ByteLock::open(open).unwrap();
        let mut other = ByteLock::open(open).unwrap();
        assert!(one.try_lock(7).unwrap());
        assert!(one.try_lock(7).unwrap(), "its own");
        assert!(!other.try_lock(7).unwrap());
        assert!(other.try_lock(8).unwrap(), "another byte");
        assert!(one.try_lock(COMPUTATIONS - 1).unwrap());
        assert!(other.try_lock(7).unwrap(), "released for another byte");
        drop(other);
        assert!(one.try_lock(7).unwrap(), "released by a drop");
    }
}
