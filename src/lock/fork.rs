//! The parts of its parent's memory that a forked child may use: locks that a fork waits for, cells
//! that are set once, and values of which each process has its own (L6).
//!
//! `fork` copies the memory, but only the thread that called it. Data that another thread was
//! changing at that moment stays half-changed in the child, and the lock that it held stays held. So
//! the handler that runs before a fork takes all locks of this file, and the child finds them free
//! and the data complete. May call `lock::mutex`, `lock::mutex_state` and `lock::ofd`; independent
//! of what the locks guard.
#![cfg_attr(
    not(all(feature = "dict", feature = "intern")),
    allow(dead_code, reason = "each of the two features uses a part of it")
)]

use std::cell::Cell;
use std::ops::Deref;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

use crate::lock::mutex::{HasState, RawLock};
use crate::lock::mutex_state::MutexState;
use crate::lock::ofd::{epoch, watch_forks};

/// How long a fork waits for the threads that hold a lock of this file. They run no code of the
/// caller while they hold it, so this is the time that the system may take to schedule them. After
/// that the fork happens anyway, and the child cannot use the data that those locks guard.
#[cfg(not(test))]
const FORK_TIMEOUT: Duration = Duration::from_secs(10);
#[cfg(test)]
const FORK_TIMEOUT: Duration = Duration::from_secs(2);

/// A lock that a fork takes. Each has two cache lines, because processors fetch them in pairs and
/// neighbours would slow each other down.
#[derive(Debug)]
#[repr(align(128))]
struct RegisteredLock {
    state: MutexState,
    /// Whether it has an owner: 0 or 1.
    owned: AtomicU32,
}

/// A block of a list that only grows, so that a fork handler can walk it at any moment.
#[derive(Debug)]
struct LockBlock {
    locks: [RegisteredLock; 32],
    /// Locks without an owner, or a few more.
    free: AtomicU32,
    next: OnceLock<&'static LockBlock>,
}

static LOCKS: LockBlock = LockBlock::new();
/// Guards all cells that are set once, and so the growth of the list as well.
static CELLS: RegisteredLock = RegisteredLock::new();
/// One fork at a time takes the locks.
static FORKING: MutexState = MutexState::new();

thread_local! {
    /// Whether this thread has taken the locks for a fork.
    static IS_FORKING: Cell<bool> = const { Cell::new(false) };
}

impl RegisteredLock {
    const fn new() -> Self {
        Self {
            state: MutexState::new(),
            owned: AtomicU32::new(0),
        }
    }
}

impl LockBlock {
    const fn new() -> Self {
        Self {
            locks: [const { RegisteredLock::new() }; 32],
            free: AtomicU32::new(32),
            next: OnceLock::new(),
        }
    }

    /// Finds a lock of the list for a new owner.
    fn register(&'static self) -> Registration {
        let mut block = self;
        loop {
            if block.free.load(Relaxed) != 0 {
                let free = |lock: &&RegisteredLock| {
                    lock.owned.compare_exchange(0, 1, Acquire, Relaxed).is_ok()
                };
                if let Some(lock) = block.locks.iter().find(free) {
                    block.free.fetch_sub(1, Relaxed);
                    return Registration {
                        lock,
                        block: Some(block),
                    };
                }
            }
            block = match block.next.get() {
                Some(next) => next,
                None => *set_once(&block.next, || Box::leak(Box::new(Self::new()))),
            };
        }
    }
}

/// The registered lock of one owner, returned to the list when the owner is dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    lock: &'static RegisteredLock,
    /// `None` if the lock is not part of the list.
    block: Option<&'static LockBlock>,
}

impl HasState for Registration {
    const INIT: Self = Self {
        lock: &CELLS,
        block: None,
    };

    #[inline]
    fn state(&self) -> &MutexState {
        &self.lock.state
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(block) = self.block {
            debug_assert_eq!(self.lock.owned.load(Relaxed), 1, "one owner at a time");
            self.lock.state.clear_abandoned();
            self.lock.owned.store(0, Release);
            block.free.fetch_add(1, Relaxed);
        }
    }
}

fn register() -> RawLock<Registration> {
    watch_forks();
    RawLock(LOCKS.register())
}

/// In a forked child, a lock whose holder is a thread of the parent: the data that it guards cannot be
/// used, because that thread was changing it when the fork stopped waiting for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abandoned;

/// A mutex that a forked child finds free. Its holder runs no code of the caller and takes no other
/// lock (L6).
#[cfg(not(loom))]
#[derive(Debug)]
pub(crate) struct ForkSafeMutex<T>(lock_api::Mutex<RawLock<Registration>, T>);
#[cfg(not(loom))]
pub(crate) type ForkSafeMutexGuard<'a, T> = lock_api::MutexGuard<'a, RawLock<Registration>, T>;

/// Models have no forks.
#[cfg(loom)]
#[derive(Debug)]
pub(crate) struct ForkSafeMutex<T>(crate::sync::count::LoomMutex<T>);
#[cfg(loom)]
pub(crate) use crate::sync::count::LoomMutexGuard as ForkSafeMutexGuard;

#[cfg(loom)]
impl<T> ForkSafeMutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(crate::sync::count::LoomMutex::new(value))
    }

    pub(crate) fn lock(&self) -> Result<ForkSafeMutexGuard<'_, T>, Abandoned> {
        Ok(self.0.lock())
    }
}

#[cfg(not(loom))]
impl<T> ForkSafeMutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(lock_api::Mutex::from_raw(register(), value))
    }

    /// Waits for the lock.
    #[inline]
    pub(crate) fn lock(&self) -> Result<ForkSafeMutexGuard<'_, T>, Abandoned> {
        match self.0.try_lock() {
            Some(locked) => Ok(locked),
            None => self.0.try_lock_for(Duration::MAX).ok_or(Abandoned),
        }
    }
}

/// A reader-writer lock that a forked child finds free; see [`ForkSafeMutex`].
#[derive(Debug)]
pub(crate) struct ForkSafeRwLock<T>(lock_api::RwLock<RawLock<Registration>, T>);
pub(crate) type ForkSafeReadGuard<'a, T> = lock_api::RwLockReadGuard<'a, RawLock<Registration>, T>;
pub(crate) type ForkSafeWriteGuard<'a, T> =
    lock_api::RwLockWriteGuard<'a, RawLock<Registration>, T>;

impl<T> ForkSafeRwLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(lock_api::RwLock::from_raw(register(), value))
    }

    /// Waits until no one writes.
    #[inline]
    pub(crate) fn read(&self) -> Result<ForkSafeReadGuard<'_, T>, Abandoned> {
        match self.0.try_read() {
            Some(read) => Ok(read),
            None => self.0.try_read_for(Duration::MAX).ok_or(Abandoned),
        }
    }

    /// Waits until no one reads or writes.
    #[inline]
    pub(crate) fn write(&self) -> Result<ForkSafeWriteGuard<'_, T>, Abandoned> {
        match self.0.try_write() {
            Some(written) => Ok(written),
            None => self.0.try_write_for(Duration::MAX).ok_or(Abandoned),
        }
    }
}

/// Returns the contents of a cell, after setting it to the value of the closure if it is empty.
/// Unlike `OnceLock::get_or_init` alone, it leaves no cell half-set in a forked child, which would
/// wait for it forever. The closure runs under a lock and must return at once (L6).
pub(crate) fn set_once<T>(cell: &OnceLock<T>, value: impl FnOnce() -> T) -> &T {
    watch_forks();
    let state = &CELLS.state;
    let is_locked = state.try_lock() || state.lock(None).is_ok();
    let value = cell.get_or_init(value);
    if is_locked {
        state.unlock(false);
    }
    value
}

/// A value of which each process has its own: a forked child creates a new one.
#[derive(Debug, Default)]
pub(crate) struct PerProcess<T> {
    epoch: u64,
    value: T,
    next: OnceLock<Box<Self>>,
}

impl<T: Default> PerProcess<T> {
    pub(crate) fn new() -> Self {
        watch_forks();
        Self {
            epoch: epoch(),
            ..Self::default()
        }
    }
}

impl<T: Default> Deref for PerProcess<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        if self.epoch == epoch() {
            return &self.value;
        }
        after_a_fork(self)
    }
}

/// Returns the value of this process, a forked child; creates it at the first call.
#[cold]
fn after_a_fork<T: Default>(inherited: &PerProcess<T>) -> &T {
    let (mut this, epoch) = (inherited, epoch());
    while this.epoch != epoch {
        this = match this.next.get() {
            Some(next) => next,
            None => &**set_once(&this.next, || Box::new(PerProcess::new())),
        };
    }
    &this.value
}

/// Returns all locks of this file.
fn registered_locks() -> impl Iterator<Item = &'static RegisteredLock> {
    let blocks = std::iter::successors(Some(&LOCKS), |block| block.next.get().copied());
    std::iter::once(&CELLS).chain(blocks.flat_map(|block| &block.locks))
}

/// Before a fork, in the thread that forks: takes all locks, and so waits for the threads that hold
/// one (L2, L6). Takes locks without an owner too, because they may get one before the fork is over.
pub(super) fn before_fork() {
    let deadline = Instant::now() + FORK_TIMEOUT;
    if IS_FORKING.get() || FORKING.lock(Some(deadline)).is_err() {
        return;
    }
    IS_FORKING.set(true);
    for lock in registered_locks() {
        // The child reads from the state itself whether the lock was taken.
        let _ = lock.state.lock_for_fork(deadline);
    }
}

/// After a fork, in the parent.
pub(super) fn after_fork() {
    if IS_FORKING.replace(false) {
        debug_assert!(FORKING.is_locked());
        for lock in registered_locks() {
            lock.state.unlock_after_fork();
        }
        FORKING.unlock(false);
    }
}

/// After a fork, in the child. Accesses atomics only (L2).
pub(super) fn in_child() {
    IS_FORKING.set(false);
    for lock in registered_locks() {
        lock.state.reset_in_child();
    }
    FORKING.force_unlock();
}
