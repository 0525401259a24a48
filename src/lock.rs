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

use crate::error;

/// How often this process is the child of a fork that happened since the first lock was opened.
static FORKS: AtomicU64 = AtomicU64::new(0);
/// Forks that threads of this process have begun, and that they have ended.
static BEGUN: AtomicU64 = AtomicU64::new(0);
static ENDED: AtomicU64 = AtomicU64::new(0);
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
                    .compare_exchange(VACANT, descriptor, Ordering::SeqCst, Ordering::Relaxed)
                    .is_ok()
                {
                    return cell;
                }
            }
            block = block.next.get_or_init(|| Box::leak(Box::new(Self::new())));
        }
    }
}

/// Runs in the parent before `fork`.
extern "C" fn before() {
    BEGUN.fetch_add(1, Ordering::SeqCst);
}

/// Runs in the parent after `fork`, whether it failed or not.
extern "C" fn after() {
    ENDED.fetch_add(1, Ordering::SeqCst);
}

/// Runs in a child between `fork` and its first instruction; only touches atomics and closes
/// descriptors.
extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    // Whoever else was about to fork is not here.
    ENDED.store(BEGUN.load(Ordering::Relaxed), Ordering::Relaxed);
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
        // SAFETY: L2: the handlers are async-signal-safe and live as long as the program.
        let failed = unsafe { libc::pthread_atfork(Some(before), Some(after), Some(in_child)) };
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
    /// Takes a description of the file to lock, which nothing else uses.
    ///
    /// A child that another thread forks before the descriptor is registered would keep it, and
    /// with it the lock of a parent that is killed: then the file is opened again.
    pub(crate) fn open(open: impl Fn() -> error::Result<File>) -> error::Result<Self> {
        watch_forks();
        loop {
            let (ended, begun) = (ENDED.load(Ordering::SeqCst), BEGUN.load(Ordering::SeqCst));
            let file = open()?;
            let opened = Self {
                cell: REGISTRY.register(file.as_raw_fd()),
                file: ManuallyDrop::new(file),
                epoch: epoch(),
            };
            if ended == begun && BEGUN.load(Ordering::SeqCst) == begun {
                return Ok(opened);
            }
            std::thread::yield_now();
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
        let lock = || LockFile::open(|| Ok(open())).unwrap();
        let pair = (lock(), lock());
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

    /// A forked child that lives until it is killed. Returns its process id.
    fn forked() -> libc::pid_t {
        // SAFETY: L2: the child does nothing but wait and end.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            // SAFETY: L2: longer than any of these tests, but not for ever.
            unsafe { libc::sleep(60) };
            // SAFETY: L2: ends the child with nothing that belongs to the parent.
            unsafe { libc::_exit(0) };
        }
        pid
    }

    fn kill(pid: libc::pid_t) {
        // SAFETY: L2: the child was not waited for, so the id is its own.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        // SAFETY: L2: the child is nobody else's, and its status is not asked for.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    }

    #[test]
    fn children_that_are_forked_while_a_lock_is_opened_do_not_keep_it() {
        use std::sync::atomic::AtomicBool;
        let dir = tempfile::tempdir().unwrap();
        let create =
            || File::create(dir.path().join("f")).map_err(error::Error::io(dir.path(), "create"));
        drop(LockFile::open(create).unwrap());
        let over = AtomicBool::new(false);
        let taken = std::thread::scope(|scope| {
            let taking = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let lock = LockFile::open(create).unwrap();
                    let soon = Instant::now() + Duration::from_secs(5);
                    lock.acquire(Some(soon), || {})?;
                    // Closed, not unlocked: as when the process is killed.
                }
                Ok::<_, Refusal>(())
            });
            let mut children = Vec::new();
            while children.len() < 100 && !taking.is_finished() {
                children.push(forked());
            }
            over.store(true, Ordering::Relaxed);
            let taken = taking.join();
            children.into_iter().for_each(kill);
            taken.unwrap()
        });
        assert!(taken.is_ok(), "a child has kept the lock: {taken:?}");
    }
}
