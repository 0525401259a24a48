//! One computation of a key between processes: a lock of a byte of the index, and how to wait for it.
//!
//! No word of the files: the kernel releases the byte at any death of its holder. May call
//! `engine::handle` and everything below it.

use std::time::{Duration, Instant};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::engine::file_header::inode_of;
use crate::engine::handle::Handle;
use crate::error::{Error, ErrorKind, Result};
use crate::lock::ByteLock;
use crate::os::files;

/// Bytes for one level of computations.
const HASH_BITS: u32 = 40;
/// Levels: a computation that outlasts the patience of a waiter is replaced by one on the next level,
/// so that waiters of all processes exclude each other there as well.
const LEVELS: u64 = 8;
/// Attempts to open an index that is not replaced at that moment.
const ATTEMPTS: u32 = 100;
/// Pauses between two looks at a computation of another process: a quarter of the time waited so far,
/// between these.
const SHORTEST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// The right to compute the value of a key, or a contender for it.
#[derive(Debug)]
pub(super) struct KeyLock {
    byte: ByteLock,
    inode: (u64, u64),
    /// The number of the byte of the first level.
    number: u64,
}

impl KeyLock {
    /// Opens the current index, and locks nothing.
    pub(super) fn open(handle: &Handle, key: &[u8]) -> Result<Self> {
        for _ in 0..ATTEMPTS {
            let (generation, _) = handle.current()?;
            let (inode, seed) = (generation.inode, generation.seed);
            drop(generation);
            match ByteLock::open(|| files::open(&handle.path, true)) {
                Ok(byte) if inode_of(byte.file(), &handle.path)? == inode => {
                    let number = xxh3_64_with_seed(key, seed) >> (u64::BITS - HASH_BITS);
                    return Ok(Self {
                        byte,
                        inode,
                        number,
                    });
                }
                Err(error) if !error.is_absent() => return Err(error),
                Ok(_) | Err(_) => handle.reopen_if_replaced()?,
            }
        }
        Err(ErrorKind::Contended {
            what: "the files",
            attempts: ATTEMPTS,
        }
        .at(&handle.path))
    }

    /// Locks the byte of a level, if no other computation has it.
    pub(super) fn try_lock(&mut self, handle: &Handle, level: u64) -> Result<bool> {
        debug_assert!(level < LEVELS);
        self.byte
            .try_lock((level << HASH_BITS) | self.number)
            .map_err(Error::io(&handle.path, "lock a key"))
    }

    /// Returns whether it locks a byte of the index that is at the path now, or may be: an index that
    /// is being removed is replaced at the next use.
    pub(super) fn is_current(&self, handle: &Handle) -> Result<bool> {
        let at_path = handle.inode_at_path()?;
        Ok(at_path.is_none_or(|inode| inode == self.inode))
    }

    /// Returns whether this process opened it, and is not a forked child of it.
    pub(super) fn is_own(&self) -> bool {
        self.byte.is_own()
    }
}

/// How a caller waits for computations by others: for the one on its level, until its patience ends.
#[derive(Debug)]
pub(super) struct Pace {
    patience: Duration,
    /// When the wait for this level began; `None` if there was nothing to wait for yet.
    began: Option<Instant>,
    level: u64,
}

/// What to do after a look at a computation that still runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Look again after a pause.
    Pause(Duration),
    /// Contend on the next level, at once.
    Level(u64),
    /// Compute without a lock: the computations on all levels are stuck.
    Alone,
}

impl Pace {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            began: None,
            level: 0,
        }
    }

    /// Begins the wait, if it has not begun.
    pub(super) fn begin(&mut self) {
        self.began.get_or_insert_with(Instant::now);
    }

    pub(super) fn has_begun(&self) -> bool {
        self.began.is_some()
    }

    pub(super) fn level(&self) -> u64 {
        self.level
    }

    /// Returns when the patience for this level ends; `None` for never.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.began
            .unwrap_or_else(Instant::now)
            .checked_add(self.patience)
    }

    /// Begins the wait for another computation within this process.
    pub(super) fn restart(&mut self) {
        self.began = Some(Instant::now());
    }

    pub(super) fn next(&mut self) -> Next {
        let waited = self.began.get_or_insert_with(Instant::now).elapsed();
        let left = self.patience.saturating_sub(waited);
        if !left.is_zero() {
            let pause = (waited / 4).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
            return Next::Pause(pause.min(left));
        }
        self.level += 1;
        self.began = Some(Instant::now());
        if self.level < LEVELS {
            Next::Level(self.level)
        } else {
            Next::Alone
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_patience_ends() {
        let mut pace = Pace::new(Duration::from_secs(3_600));
        assert_eq!(pace.next(), Next::Pause(SHORTEST_PAUSE));
        pace.began = Instant::now().checked_sub(Duration::from_millis(8));
        let Next::Pause(pause) = pace.next() else {
            panic!("it is patient");
        };
        assert!(pause >= Duration::from_millis(2) && pause <= LONGEST_PAUSE);
        pace.began = Instant::now().checked_sub(Duration::from_secs(60));
        assert_eq!(pace.next(), Next::Pause(LONGEST_PAUSE));
        let mut pace = Pace::new(Duration::ZERO);
        for level in 1..LEVELS {
            assert_eq!(pace.next(), Next::Level(level));
        }
        assert_eq!(pace.next(), Next::Alone);
        assert_eq!(Pace::new(Duration::MAX).deadline(), None);
    }
}
