//! An open file description (OFD) that forked children do not share.
//!
//! Locks belong to open file descriptions, so a process that shares one shares the lock. The fork
//! handlers here close the parent's descriptors in a child (L1). May call `error` and `lock::fork`;
//! independent of how a file is locked.
#![expect(
    unsafe_code,
    reason = "a fork handler, and descriptors that a fork takes away"
)]

use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use crate::error;

use crate::lock::fork;

/// How often this process is the child of a fork that happened since the first lock was opened.
static FORKS: AtomicU64 = AtomicU64::new(0);
/// This process's id; 0 if it was not asked for yet.
static PROCESS: AtomicU32 = AtomicU32::new(0);
/// Whether the fork handlers are registered: 0 for no, 1 while a thread registers them, 2 for yes.
static WATCHED: AtomicU32 = AtomicU32::new(0);
/// Forks that threads of this process have begun, and that they have ended.
static BEGUN: AtomicU64 = AtomicU64::new(0);
static ENDED: AtomicU64 = AtomicU64::new(0);
/// The lock descriptors of this process. A forked child must close them, or it would keep the lock of
/// a dead parent.
static DESCRIPTORS: DescriptorBlock = DescriptorBlock::new();

const VACANT: RawFd = -1;

/// A block of a list that only grows, so that a fork handler can walk it at any moment.
struct DescriptorBlock {
    descriptors: [AtomicI32; 64],
    next: OnceLock<&'static DescriptorBlock>,
}

impl DescriptorBlock {
    const fn new() -> Self {
        Self {
            descriptors: [const { AtomicI32::new(VACANT) }; 64],
            next: OnceLock::new(),
        }
    }

    /// Registers the descriptor. Storing [`VACANT`] frees the cell.
    fn register(&'static self, descriptor: RawFd) -> &'static AtomicI32 {
        debug_assert!(descriptor > VACANT, "L1: an open descriptor");
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
            block = match block.next.get() {
                Some(next) => next,
                None => *fork::set_once(&block.next, || Box::leak(Box::new(Self::new()))),
            };
        }
    }
}

/// Runs in the parent before `fork` (L2).
extern "C" fn before() {
    fork::before_fork();
    BEGUN.fetch_add(1, Ordering::SeqCst);
}

/// Runs in the parent after `fork`, whether it failed or not (L2).
extern "C" fn after() {
    ENDED.fetch_add(1, Ordering::SeqCst);
    fork::after_fork();
}

/// Runs in a child between `fork` and its first instruction. Accesses atomics and closes descriptors
/// only (L2).
extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    PROCESS.store(0, Ordering::Relaxed);
    fork::in_child();
    // Other threads that were about to fork do not exist here.
    ENDED.store(BEGUN.load(Ordering::Relaxed), Ordering::Relaxed);
    let mut block = Some(&DESCRIPTORS);
    while let Some(this) = block {
        for cell in &this.descriptors {
            let descriptor = cell.swap(VACANT, Ordering::Relaxed);
            if descriptor != VACANT {
                // SAFETY: L1 (docs/design.md): a registered descriptor is owned by an `OpenDescription` of
                // the parent's epoch, which neither uses nor closes it in any later one, so this is
                // the child's only close of it.
                unsafe { libc::close(descriptor) };
            }
        }
        block = this.next.get().copied();
    }
}

/// Returns the number of forks between this process and the one that first used a lock.
#[inline]
pub(crate) fn epoch() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// Returns this process's id, asked of the system once.
pub(crate) fn process() -> u32 {
    let known = PROCESS.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    let id = std::process::id();
    PROCESS.store(id, Ordering::Relaxed);
    id
}

/// Registers the fork handlers, once.
///
/// A thread waits for another one that is registering them, but not forever: a child that was forked
/// in between does not have the other thread. Handlers that are registered twice do no harm.
pub(super) fn watch_forks() {
    const REGISTERED: u32 = 2;
    for _ in 0..1_000 {
        match WATCHED.compare_exchange(0, 1, Ordering::SeqCst, Ordering::Acquire) {
            Err(REGISTERED) => return,
            Err(_) => std::thread::yield_now(),
            Ok(_) => break,
        }
    }
    // SAFETY: L2: the handler of the child is async-signal-safe, all of them live as long as the
    // program, and none of them calls code of the caller.
    let failed = unsafe { libc::pthread_atfork(Some(before), Some(after), Some(in_child)) };
    // It can fail only for lack of a few bytes of memory; locks are then safe if no process forks.
    debug_assert_eq!(failed, 0);
    WATCHED.store(REGISTERED, Ordering::SeqCst);
}

/// An open file description that only a lock uses.
#[derive(Debug)]
pub(super) struct OpenDescription {
    file: ManuallyDrop<File>,
    cell: &'static AtomicI32,
    epoch: u64,
}

impl OpenDescription {
    /// Opens the file to lock. The caller uses the file for nothing else.
    ///
    /// A child that another thread forks before the descriptor is registered would keep it, and with
    /// it the lock of a parent that is killed. So the file is opened again if a thread forked.
    pub(super) fn open(open: impl Fn() -> error::Result<File>) -> error::Result<Self> {
        watch_forks();
        loop {
            let (ended, begun) = (ENDED.load(Ordering::SeqCst), BEGUN.load(Ordering::SeqCst));
            let file = open()?;
            let opened = Self {
                cell: DESCRIPTORS.register(file.as_raw_fd()),
                file: ManuallyDrop::new(file),
                epoch: epoch(),
            };
            if ended == begun && BEGUN.load(Ordering::SeqCst) == begun {
                return Ok(opened);
            }
            std::thread::yield_now();
        }
    }

    /// Returns whether this process opened it, and is not a forked child of it.
    #[inline]
    pub(super) fn is_own(&self) -> bool {
        self.epoch == epoch()
    }

    pub(super) fn file(&self) -> &File {
        debug_assert!(self.is_own(), "L1: used in the process that opened it");
        &self.file
    }
}

impl Drop for OpenDescription {
    fn drop(&mut self) {
        if self.is_own() {
            // L1: of this process; a forked child's handler has emptied the cell there.
            debug_assert_eq!(self.cell.load(Ordering::Relaxed), self.file.as_raw_fd());
            self.cell.store(VACANT, Ordering::Release);
            // SAFETY: L1: the file is dropped once, here, and only in the process that opened it.
            unsafe { ManuallyDrop::drop(&mut self.file) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_may_fill_several_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let create =
            || File::create(dir.path().join("f")).map_err(error::Error::io(dir.path(), "create"));
        let held: Vec<_> = (0..200)
            .map(|_| OpenDescription::open(create).unwrap())
            .collect();
        let cells: std::collections::HashSet<_> = held
            .iter()
            .map(|opened| std::ptr::from_ref(opened.cell))
            .collect();
        assert_eq!(cells.len(), 200);
    }
}
