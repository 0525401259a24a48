//! The writer lock of a file, safe across `fork`, kill and restart; and the locks between threads.
//!
//! Knows one file, two words of it, and the process's forks. Threads of one handle exclude each
//! other one layer above; it does not know what a lock guards.

use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error;
use crate::format::LockKind;
use crate::format::lock::NUMBERS;
use crate::sync::Word;

mod flock;
mod fork;
mod futex;
mod futex_lock;
mod liveness;
mod mutex;
mod mutex_state;
mod ofd;

pub(crate) use crate::lock::fork::{Lock, Locked, Lost, set_once};
#[cfg(feature = "dict")]
pub(crate) use crate::lock::fork::{PerProcess, Read, SharedLock, Written};
use crate::lock::futex_lock::Contender;
pub(crate) use crate::lock::mutex::{MappedMutexGuard, Mutex, MutexGuard};
use crate::lock::ofd::OpenDescription;
pub(crate) use crate::lock::ofd::{epoch, process};

/// The words of a file by which it is locked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words<'a> {
    /// Who holds the lock word.
    pub state: &'a Word,
    /// Who is at work under it.
    pub inside: &'a Word,
    /// Who waits for a `flock`.
    pub waiting: &'a Word,
}

/// One who takes a file's lock in turn with others: threads, processes, other handles.
#[derive(Debug)]
pub(crate) struct FileLock {
    description: OpenDescription,
    by_flock: bool,
    /// By which number, where by the word.
    by_word: Option<u32>,
}

/// How long somebody is ready to wait. The clock starts when there is something to wait for.
#[derive(Debug)]
pub(crate) struct Patience {
    timeout: Option<Duration>,
    began: OnceCell<Instant>,
}

/// Why the lock was not taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    TimedOut,
    Io(io::Error),
}

impl Patience {
    /// None for ever.
    pub(crate) fn new(timeout: Option<Duration>) -> Self {
        Self {
            timeout,
            began: OnceCell::new(),
        }
    }

    /// What is left; none where it has no end.
    pub(crate) fn left(&self) -> Option<Duration> {
        let waited = self.waited();
        self.timeout.map(|timeout| timeout.saturating_sub(waited))
    }

    /// Since it was first asked what is left.
    pub(crate) fn waited(&self) -> Duration {
        self.began.get_or_init(Instant::now).elapsed()
    }
}

/// Ends in a forked child what its parent began: the parent goes on with it.
pub(crate) fn refuse_forked(epoch: u64, path: &Path) -> error::Result<()> {
    if epoch == ofd::epoch() {
        return Ok(());
    }
    Err(error::Error::Forked {
        path: path.to_owned(),
    })
}

/// Whether somebody has a number that stands in the lock word, by a look that locks nothing.
pub(crate) fn is_alive(file: &File, number: u32) -> io::Result<bool> {
    Ok(number != 0 && number < NUMBERS && !liveness::is_over(file, number)?)
}

impl FileLock {
    /// Takes a description of the file to lock, which nothing else uses.
    pub(crate) fn open(
        kind: LockKind,
        open: impl Fn() -> error::Result<File>,
    ) -> error::Result<Result<Self, io::Error>> {
        let lock = Self::of_file(open)?;
        Ok(match kind {
            LockKind::Flock => Ok(lock),
            LockKind::Word => lock.with_word().map(|mut lock| {
                lock.by_flock = false;
                lock
            }),
        })
    }

    /// A lock by `flock`, for files without words.
    pub(crate) fn of_file(open: impl Fn() -> error::Result<File>) -> error::Result<Self> {
        Ok(Self {
            description: OpenDescription::open(open)?,
            by_flock: true,
            by_word: None,
        })
    }

    /// The same, by the word too.
    pub(crate) fn with_word(mut self) -> io::Result<Self> {
        self.by_word = Some(liveness::begin(self.description.file())?);
        Ok(self)
    }

    /// How others must lock the file to be kept out.
    pub(crate) fn kind(&self) -> LockKind {
        match self.by_word {
            Some(_) => LockKind::Word,
            None => LockKind::Flock,
        }
    }

    /// Whether this process is the one that opened it, not a forked child.
    #[inline]
    pub(crate) fn is_own(&self) -> bool {
        self.description.is_own()
    }

    /// The description itself, for asking about the inode that it locks.
    pub(crate) fn file(&self) -> &File {
        self.description.file()
    }

    /// Waits for the lock as long as there is patience.
    #[inline]
    pub(crate) fn acquire(
        &self,
        words: Option<Words<'_>>,
        patience: &Patience,
    ) -> Result<(), Refusal> {
        debug_assert!(self.is_own());
        if self.by_flock {
            self.acquire_by_flock(words, patience)?;
        }
        match self.contender(words) {
            Some(contender) => contender.acquire(patience).inspect_err(|_| {
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
        words: Option<Words<'_>>,
        patience: &Patience,
    ) -> Result<(), Refusal> {
        use std::os::fd::AsRawFd;
        // Told from all others of this process; among processes it is a hint that may be mistaken.
        let number = (u64::from(std::process::id()) << 32) | self.file().as_raw_fd() as u64;
        let waiting = words.map(|words| words.waiting);
        flock::acquire(self.file(), waiting, number, patience)
    }

    /// Lets go of the lock. In a forked child nothing happens: the lock is the parent's.
    #[inline]
    pub(crate) fn release(&self, words: Option<Words<'_>>) {
        if !self.is_own() {
            return;
        }
        if let Some(contender) = self.contender(words) {
            contender.release();
        }
        if self.by_flock {
            flock::release(self.file());
        }
    }

    fn contender<'a>(&'a self, words: Option<Words<'a>>) -> Option<Contender<'a>> {
        Some(Contender {
            words: words?,
            file: self.description.file(),
            number: self.by_word?,
        })
    }
}

impl Drop for FileLock {
    /// Closing the description would do, were it not for a child that is forked just now and has
    /// it too.
    fn drop(&mut self) {
        if !self.is_own() {
            return;
        }
        if let Some(number) = self.by_word {
            liveness::end(self.description.file(), number);
        }
        if self.by_flock {
            flock::release(self.description.file());
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
