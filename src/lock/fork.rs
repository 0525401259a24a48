//! What a forked child may use of its parent's memory: locks that a fork waits for, cells that are
//! set once, and values of which each process has its own.
//!
//! `fork` copies the memory, but only the thread that called it. What another thread was changing
//! at that moment stays half-changed in the child, and the lock that it held stays held. So the
//! handler that runs before a fork takes all locks of this file, and the child finds them free and
//! what they guard complete. It does not know what they guard.
#![cfg_attr(
    not(feature = "dict"),
    allow(dead_code, reason = "dictionaries alone use some of it")
)]

use std::cell::Cell;
use std::ops::Deref;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

use crate::lock::mutex::{Place, Raw};
use crate::lock::mutex_state::State;
use crate::lock::ofd::{epoch, watch_forks};

/// How long a fork waits for the threads that are at work under the locks of this file. None of them
/// runs code of the caller meanwhile, so it is the time that they need to go on at all. Afterwards
/// the fork happens all the same, and the child does without what those locks guard.
#[cfg(not(test))]
const PATIENCE: Duration = Duration::from_secs(10);
#[cfg(test)]
const PATIENCE: Duration = Duration::from_secs(2);

/// A lock that a fork takes. Two cache lines, which processors fetch together: locks disturb each
/// other least so.
#[derive(Debug)]
#[repr(align(128))]
struct Seat {
    state: State,
    /// Whether it has an owner: 0 or 1.
    taken: AtomicU32,
}

/// A piece of a list that only grows, so that a fork handler can walk it at any moment.
#[derive(Debug)]
struct Block {
    seats: [Seat; 32],
    /// Seats without an owner, or a few more.
    vacant: AtomicU32,
    next: OnceLock<&'static Block>,
}

static SEATS: Block = Block::new();
/// Guards what is set once, and so the growth of the list as well.
static SETTING: Seat = Seat::new();
/// One fork at a time takes the locks.
static FORKING: State = State::new();

thread_local! {
    /// Whether this thread has taken the locks for a fork.
    static IS_FORKING: Cell<bool> = const { Cell::new(false) };
}

impl Seat {
    const fn new() -> Self {
        Self {
            state: State::new(),
            taken: AtomicU32::new(0),
        }
    }
}

impl Block {
    const fn new() -> Self {
        Self {
            seats: [const { Seat::new() }; 32],
            vacant: AtomicU32::new(32),
            next: OnceLock::new(),
        }
    }

    /// A seat of the list for a new owner.
    fn seat(&'static self) -> Seated {
        let mut block = self;
        loop {
            if block.vacant.load(Relaxed) != 0 {
                let free =
                    |seat: &&Seat| seat.taken.compare_exchange(0, 1, Acquire, Relaxed).is_ok();
                if let Some(seat) = block.seats.iter().find(free) {
                    block.vacant.fetch_sub(1, Relaxed);
                    return Seated {
                        seat,
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

/// The seat of one owner, given back when that is dropped.
#[derive(Debug)]
pub(crate) struct Seated {
    seat: &'static Seat,
    /// None for a seat that is no part of the list.
    block: Option<&'static Block>,
}

impl Place for Seated {
    const INIT: Self = Self {
        seat: &SETTING,
        block: None,
    };

    #[inline]
    fn state(&self) -> &State {
        &self.seat.state
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        if let Some(block) = self.block {
            self.seat.state.renew();
            self.seat.taken.store(0, Release);
            block.vacant.fetch_add(1, Relaxed);
        }
    }
}

fn seated() -> Raw<Seated> {
    watch_forks();
    Raw(SEATS.seat())
}

/// In a forked child: what a lock guards cannot be used, because a thread of the parent was changing
/// it when the fork stopped waiting for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost;

/// A mutex that a forked child finds free. No code of the caller runs under it, nor is another lock
/// taken under it.
#[cfg(not(loom))]
#[derive(Debug)]
pub(crate) struct Lock<T>(lock_api::Mutex<Raw<Seated>, T>);
#[cfg(not(loom))]
pub(crate) type Locked<'a, T> = lock_api::MutexGuard<'a, Raw<Seated>, T>;

/// Models know no forks.
#[cfg(loom)]
#[derive(Debug)]
pub(crate) struct Lock<T>(crate::sync::count::Lock<T>);
#[cfg(loom)]
pub(crate) use crate::sync::count::Locked;

#[cfg(loom)]
impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(crate::sync::count::Lock::new(value))
    }

    pub(crate) fn lock(&self) -> Result<Locked<'_, T>, Lost> {
        Ok(self.0.lock())
    }
}

#[cfg(not(loom))]
impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(lock_api::Mutex::from_raw(seated(), value))
    }

    /// Waits for the lock.
    #[inline]
    pub(crate) fn lock(&self) -> Result<Locked<'_, T>, Lost> {
        match self.0.try_lock() {
            Some(locked) => Ok(locked),
            None => self.0.try_lock_for(Duration::MAX).ok_or(Lost),
        }
    }
}

/// The same with readers that share it.
#[derive(Debug)]
pub(crate) struct SharedLock<T>(lock_api::RwLock<Raw<Seated>, T>);
pub(crate) type Read<'a, T> = lock_api::RwLockReadGuard<'a, Raw<Seated>, T>;
pub(crate) type Written<'a, T> = lock_api::RwLockWriteGuard<'a, Raw<Seated>, T>;

impl<T> SharedLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(lock_api::RwLock::from_raw(seated(), value))
    }

    /// Waits until no one writes.
    #[inline]
    pub(crate) fn read(&self) -> Result<Read<'_, T>, Lost> {
        match self.0.try_read() {
            Some(read) => Ok(read),
            None => self.0.try_read_for(Duration::MAX).ok_or(Lost),
        }
    }

    /// Waits until no one reads or writes.
    #[inline]
    pub(crate) fn write(&self) -> Result<Written<'_, T>, Lost> {
        match self.0.try_write() {
            Some(written) => Ok(written),
            None => self.0.try_write_for(Duration::MAX).ok_or(Lost),
        }
    }
}

/// What a cell contains, which gets the value of the closure if it is empty. Unlike
/// `OnceLock::get_or_init` by itself, it leaves no cell half-set to a forked child, where whoever
/// asks for it would wait for ever. The closure runs under a lock: it is to return at once.
pub(crate) fn set_once<T>(cell: &OnceLock<T>, value: impl FnOnce() -> T) -> &T {
    watch_forks();
    let state = &SETTING.state;
    let held = state.try_hold() || state.hold(None).is_ok();
    let value = cell.get_or_init(value);
    if held {
        state.release(false);
    }
    value
}

/// A value that each process makes for itself: a forked child has a new one.
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

    fn deref(&self) -> &T {
        let (mut this, epoch) = (self, epoch());
        while this.epoch != epoch {
            this = match this.next.get() {
                Some(next) => next,
                None => &**set_once(&this.next, || Box::new(Self::new())),
            };
        }
        &this.value
    }
}

/// All seats there are.
fn seats() -> impl Iterator<Item = &'static Seat> {
    let blocks = std::iter::successors(Some(&SEATS), |block| block.next.get().copied());
    std::iter::once(&SETTING).chain(blocks.flat_map(|block| &block.seats))
}

/// Before a fork, in the thread that forks: waits until no thread is at work under any of the locks.
/// Those without an owner are taken too, because they may get one before the fork is over.
pub(super) fn before_fork() {
    let deadline = Instant::now() + PATIENCE;
    if IS_FORKING.get() || FORKING.hold(Some(deadline)).is_err() {
        return;
    }
    IS_FORKING.set(true);
    for seat in seats() {
        // The child learns from the state itself which of them could not be taken.
        let _ = seat.state.hold_for_fork(deadline);
    }
}

/// After a fork, in the parent.
pub(super) fn after_fork() {
    if IS_FORKING.replace(false) {
        for seat in seats() {
            seat.state.release_after_fork();
        }
        FORKING.release(false);
    }
}

/// After a fork, in the child. Touches atomics only.
pub(super) fn in_child() {
    IS_FORKING.set(false);
    for seat in seats() {
        seat.state.inherit();
    }
    FORKING.free();
}
