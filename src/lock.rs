//! The writer lock: `flock` on the index inode, safe across `fork`.
//!
//! Knows one file and the process's forks. Threads of one handle exclude each other one layer
//! above; it does not know what the lock guards.
#![expect(
    unsafe_code,
    reason = "a fork handler, and descriptors that a fork takes away"
)]

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fs2::FileExt;

/// How often this process is the child of a fork that happened since the first lock was opened.
static FORKS: AtomicU64 = AtomicU64::new(0);
/// The lock descriptors of this process: what a forked child must close, or it would keep a dead
/// parent's lock.
static REGISTRY: Block = Block::new();

const VACANT: RawFd = -1;
/// Between two looks at a lock that somebody else holds.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_millis(1);

/// A piece of a list that only grows, so that a fork handler can walk it at any moment.
struct Block {
    descriptors: [AtomicI32; 64],
    next: OnceLock<&'static Block>,
}

impl Block {
    const fn new() -> Self {
        Self {
            descriptors: [const { AtomicI32::new(VACANT) }; 64],
            next: OnceLock::new(),
        }
    }

    /// Writes the descriptor down; the cell is given back by storing [`VACANT`].
    fn register(&'static self, descriptor: RawFd) -> &'static AtomicI32 {
        let mut block = self;
        loop {
            for cell in &block.descriptors {
                if cell
                    .compare_exchange(VACANT, descriptor, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
                {
                    return cell;
                }
            }
            block = block.next.get_or_init(|| Box::leak(Box::new(Self::new())));
        }
    }
}

/// Runs in a child between `fork` and its first instruction; only touches atomics and closes
/// descriptors.
extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    let mut block = Some(&REGISTRY);
    while let Some(this) = block {
        for cell in &this.descriptors {
            let descriptor = cell.swap(VACANT, Ordering::Relaxed);
            if descriptor != VACANT {
                // SAFETY: L1 (docs/design.md): a registered descriptor is owned by a `LockFile` of
                // the parent's epoch, which neither uses nor closes it in any later one, so this is
                // the child's only close of it.
                unsafe { libc::close(descriptor) };
            }
        }
        block = this.next.get().copied();
    }
}

/// The number of forks that lie between this process and the one that first used a lock.
pub(crate) fn epoch() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

fn watch_forks() {
    static WATCHED: OnceLock<()> = OnceLock::new();
    WATCHED.get_or_init(|| {
        // SAFETY: L2: `in_child` is async-signal-safe and lives as long as the program.
        let failed = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        // It can fail for want of a few bytes of memory only; locks then are as safe as without
        // forks.
        debug_assert_eq!(failed, 0);
    });
}

/// An open description of the index whose `flock` is the writer lock.
#[derive(Debug)]
pub(crate) struct LockFile {
    file: ManuallyDrop<File>,
    cell: &'static AtomicI32,
    epoch: u64,
}

/// Why the lock was not taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    TimedOut,
    Io(io::Error),
}

impl LockFile {
    /// Takes over a description of the index that nothing else uses.
    pub(crate) fn new(file: File) -> Self {
        watch_forks();
        let cell = REGISTRY.register(file.as_raw_fd());
        Self {
            file: ManuallyDrop::new(file),
            cell,
            epoch: epoch(),
        }
    }

    /// Whether this process is the one that opened it, not a forked child.
    pub(crate) fn is_own(&self) -> bool {
        self.epoch == epoch()
    }

    /// The description itself, for asking about the inode that it locks.
    pub(crate) fn file(&self) -> &File {
        debug_assert!(self.is_own());
        &self.file
    }

    /// Waits for the lock until `deadline`; for ever where there is none. `waiting` is called after
    /// each look that found it taken.
    pub(crate) fn acquire(
        &self,
        deadline: Option<Instant>,
        mut waiting: impl FnMut(),
    ) -> Result<(), Refusal> {
        debug_assert!(self.is_own());
        let mut pause = Duration::from_micros(20);
        loop {
            match FileExt::try_lock_exclusive(&*self.file) {
                Ok(()) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::EWOULDBLOCK) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Refusal::Io(error)),
            }
            waiting();
            let Some(deadline) = deadline else {
                return self.acquire_blocking();
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Refusal::TimedOut);
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn acquire_blocking(&self) -> Result<(), Refusal> {
        loop {
            match FileExt::lock_exclusive(&*self.file) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Refusal::Io(error)),
            }
        }
    }

    /// Lets go of the lock. In a forked child nothing happens: the lock is the parent's.
    pub(crate) fn release(&self) {
        if self.is_own() {
            // Unlocking an open description cannot fail; were it to, closing it unlocks too.
            let _ = FileExt::unlock(&*self.file);
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        if self.is_own() {
            self.cell.store(VACANT, Ordering::Release);
            // SAFETY: L1: the file is dropped once, here, and only in the process that opened it.
            unsafe { ManuallyDrop::drop(&mut self.file) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_handles() -> (tempfile::TempDir, LockFile, LockFile) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let open = || {
            File::options()
                .read(true)
                .append(true)
                .create(true)
                .open(&path)
                .unwrap()
        };
        let pair = (LockFile::new(open()), LockFile::new(open()));
        (dir, pair.0, pair.1)
    }

    #[test]
    fn two_handles_of_one_process_exclude_each_other() {
        let (_dir, a, b) = two_handles();
        a.acquire(None, || {}).unwrap();
        let soon = Some(Instant::now() + Duration::from_millis(20));
        assert!(matches!(b.acquire(soon, || {}), Err(Refusal::TimedOut)));
        a.release();
        b.acquire(Some(Instant::now()), || {}).unwrap();
    }

    #[test]
    fn more_locks_than_one_block_holds_are_all_registered() {
        let (_dir, _a, _b) = two_handles();
        let held: Vec<_> = (0..200).map(|_| two_handles()).collect();
        let cells: std::collections::HashSet<_> = held
            .iter()
            .map(|(_, a, _)| std::ptr::from_ref(a.cell))
            .collect();
        assert_eq!(cells.len(), 200);
    }
}
