//! The writer lock of a file, safe across `fork`, kill and restart; and the locks between threads.
//!
//! [`FileLock`] excludes the handles of one file, in one process or in several; [`Mutex`] and
//! [`ForkSafeMutex`] exclude threads. May call `error`, `format` and `sync`; independent of what a
//! lock guards.

use crate::error::ErrorKind;
use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error;
use crate::format::LockKind;
use crate::format::lock::{LockWord, OWNER_IDS};
use crate::sync::{Word, load};

mod byte_lock;
mod flock;
mod fork;
mod futex;
mod futex_lock;
mod hazard;
mod liveness;
mod mutex;
mod mutex_state;
mod ofd;
mod process_fence;
mod threads;

pub(crate) use crate::lock::byte_lock::ByteLock;
#[cfg(any(feature = "dict", feature = "intern"))]
pub(crate) use crate::lock::fork::Abandoned;
#[cfg(feature = "intern")]
pub(crate) use crate::lock::fork::{ForkSafeMutex, ForkSafeMutexGuard};
#[cfg(feature = "dict")]
pub(crate) use crate::lock::fork::{ForkSafeReadGuard, ForkSafeRwLock, ForkSafeWriteGuard};
pub(crate) use crate::lock::fork::{PerProcess, set_once};
use crate::lock::futex_lock::FutexLock;
pub(crate) use crate::lock::hazard::HazardCell;
pub(crate) use crate::lock::mutex::{MappedMutexGuard, Mutex, MutexGuard};
use crate::lock::ofd::OpenDescription;
pub(crate) use crate::lock::ofd::{epoch, process};
pub(crate) use crate::lock::process_fence::allow_thread as allow_fence_thread;
pub(crate) use crate::lock::threads::can_start_threads;

/// The words of a file by which it is locked. Every contender for the lock stores them, by the
/// rules of L4.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LockWords<'a> {
    /// The lock word: the owner of the lock, and the waiter that gets it next.
    pub state: &'a Word,
    /// The writer-at-work word: the owner that is inside the critical section.
    pub inside: &'a Word,
    /// The process that waits for a `flock`.
    pub waiting: &'a Word,
}

/// The lock of a file, as one handle contends for it with other threads, processes and handles.
#[derive(Debug)]
pub(crate) struct FileLock {
    description: OpenDescription,
    by_flock: bool,
    /// The id of this handle in the lock word, if it locks by the word.
    owner_id: Option<u32>,
}

/// How long a caller waits for a lock. The clock starts when there is something to wait for.
#[derive(Debug)]
pub(crate) struct LockDeadline {
    timeout: Option<Duration>,
    began: OnceCell<Instant>,
}

/// Why the lock was not acquired.
#[derive(Debug)]
pub(crate) enum LockError {
    TimedOut,
    Io(io::Error),
}

impl LockDeadline {
    /// Without a timeout, the caller waits forever.
    pub(crate) fn new(timeout: Option<Duration>) -> Self {
        Self {
            timeout,
            began: OnceCell::new(),
        }
    }

    /// Returns whether the caller cannot wait at all.
    pub(crate) fn is_zero(&self) -> bool {
        self.timeout == Some(Duration::ZERO)
    }

    /// Returns the time that is left. `None` if there is no timeout.
    pub(crate) fn left(&self) -> Option<Duration> {
        let waited = self.waited();
        self.timeout.map(|timeout| timeout.saturating_sub(waited))
    }

    /// Returns the time since the first call of this method or of [`Self::left`].
    pub(crate) fn waited(&self) -> Duration {
        self.began.get_or_init(Instant::now).elapsed()
    }
}

/// Fails in a forked child with an operation that its parent began: the parent continues it.
pub(crate) fn refuse_forked(epoch: u64, path: &Path) -> error::Result<()> {
    if epoch == ofd::epoch() {
        return Ok(());
    }
    Err(ErrorKind::ForkedWriter.at(path))
}

/// Returns whether a live process has an owner id, without locking anything.
pub(crate) fn is_alive(file: &File, owner_id: u32) -> io::Result<bool> {
    Ok(owner_id != 0 && owner_id < OWNER_IDS && !liveness::is_dead(file, owner_id)?)
}

impl FileLock {
    /// Creates a lock of one kind from an open file description that nothing else uses.
    pub(crate) fn open(
        kind: LockKind,
        open: impl Fn() -> error::Result<File>,
    ) -> error::Result<Result<Self, io::Error>> {
        let lock = Self::of_file(open)?;
        Ok(match kind {
            LockKind::Flock => Ok(lock),
            LockKind::Word => lock.with_futex_lock().map(|mut lock| {
                lock.by_flock = false;
                lock
            }),
        })
    }

    /// Creates a lock by `flock`, for files without lock words.
    pub(crate) fn of_file(open: impl Fn() -> error::Result<File>) -> error::Result<Self> {
        Ok(Self {
            description: OpenDescription::open(open)?,
            by_flock: true,
            owner_id: None,
        })
    }

    /// Adds the lock word, so that both kinds are acquired.
    pub(crate) fn with_futex_lock(mut self) -> io::Result<Self> {
        debug_assert!(self.owner_id.is_none(), "L4: one id for each handle");
        // L4: the byte of the id stays locked while this handle contends.
        self.owner_id = Some(liveness::claim(self.description.file())?);
        Ok(self)
    }

    /// Returns how other handles must lock the file to be excluded.
    pub(crate) fn kind(&self) -> LockKind {
        match self.owner_id {
            Some(_) => LockKind::Word,
            None => LockKind::Flock,
        }
    }

    /// Returns whether this process opened the lock, and is not a forked child of it.
    #[inline]
    pub(crate) fn is_own(&self) -> bool {
        self.description.is_own()
    }

    /// Returns the file, for reading the metadata of the inode that is locked.
    pub(crate) fn file(&self) -> &File {
        self.description.file()
    }

    /// Acquires the lock, waiting until the deadline.
    #[inline]
    pub(crate) fn acquire(
        &self,
        words: Option<LockWords<'_>>,
        deadline: &LockDeadline,
    ) -> Result<(), LockError> {
        debug_assert!(self.is_own(), "L1: a lock of an older epoch does nothing");
        if self.by_flock {
            self.acquire_by_flock(words, deadline)?;
        }
        match self.futex_lock(words) {
            Some(lock) => lock.acquire(deadline).inspect_err(|_| {
                if self.by_flock {
                    flock::release(self.file());
                }
            }),
            None => Ok(()),
        }
    }

    #[cold]
    fn acquire_by_flock(
        &self,
        words: Option<LockWords<'_>>,
        deadline: &LockDeadline,
    ) -> Result<(), LockError> {
        use std::os::fd::AsRawFd;
        // Unique within this process. Among processes it is a hint, and may be ambiguous.
        let number = (u64::from(std::process::id()) << 32) | self.file().as_raw_fd() as u64;
        let waiting = words.map(|words| words.waiting);
        flock::acquire(self.file(), waiting, number, deadline)
    }

    /// Releases the lock. Does nothing in a forked child: the lock is the parent's (L1).
    #[inline]
    pub(crate) fn release(&self, words: Option<LockWords<'_>>) {
        if !self.is_own() {
            return;
        }
        if let Some(lock) = self.futex_lock(words) {
            lock.release();
        }
        if self.by_flock {
            flock::release(self.file());
        }
    }

    /// Returns whether another handle holds the lock by its word at this moment.
    #[inline]
    pub(crate) fn is_held_by_another(&self, words: LockWords<'_>) -> bool {
        let owner = LockWord(load(words.state)).owner();
        owner != 0 && Some(owner) != self.owner_id
    }

    fn futex_lock<'a>(&'a self, words: Option<LockWords<'a>>) -> Option<FutexLock<'a>> {
        Some(FutexLock {
            words: words?,
            file: self.description.file(),
            owner_id: self.owner_id?,
        })
    }
}

impl Drop for FileLock {
    /// Closing the description would be enough, except if a child that is being forked at this
    /// moment has it too.
    fn drop(&mut self) {
        if !self.is_own() {
            return;
        }
        if let Some(owner_id) = self.owner_id {
            liveness::release(self.description.file(), owner_id);
        }
        if self.by_flock {
            flock::release(self.description.file());
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
