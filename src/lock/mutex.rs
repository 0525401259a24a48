//! Locks between the threads of one process that stay usable in a forked child.
//!
//! `lock_api` provides the guards and the access to the data; this file only acquires and releases
//! the lock. The locks of `parking_lot`, and many others, put waiting threads into a table of the
//! whole process: a child that is forked while a thread changes the table can hang at any lock. May
//! call `lock::mutex_state`.
#![expect(
    unsafe_code,
    reason = "the traits of `lock_api` are promises; nothing unsafe is done here"
)]

use std::time::{Duration, Instant};

use lock_api::{GuardNoSend, RawMutex, RawMutexTimed, RawRwLock, RawRwLockTimed};

use crate::lock::mutex_state::MutexState;

/// A type that has the state of a lock.
pub(crate) trait HasState {
    const INIT: Self;

    fn state(&self) -> &MutexState;
}

/// A raw lock for `lock_api`, with its state in `P`.
#[derive(Debug)]
pub(crate) struct RawLock<P>(pub(super) P);

/// A state that is not registered for forks. In a forked child such a lock is as it was at the fork:
/// for data that a child never uses again, or that only the forking thread has.
#[derive(Debug)]
pub(crate) struct InlineState(MutexState);

impl HasState for InlineState {
    const INIT: Self = Self(MutexState::new());

    #[inline]
    fn state(&self) -> &MutexState {
        &self.0
    }
}

/// A mutex without poisoning, whose list of waiters is in the kernel alone (L5).
pub(crate) type Mutex<T> = lock_api::Mutex<RawLock<InlineState>, T>;
pub(crate) type MutexGuard<'a, T> = lock_api::MutexGuard<'a, RawLock<InlineState>, T>;
pub(crate) type MappedMutexGuard<'a, T> = lock_api::MappedMutexGuard<'a, RawLock<InlineState>, T>;

impl<P: HasState> RawLock<P> {
    fn acquire(&self, deadline: Option<Instant>) -> bool {
        let state = self.0.state();
        state.try_lock() || state.lock(deadline).is_ok()
    }

    fn acquire_shared(&self, deadline: Option<Instant>) -> bool {
        let state = self.0.state();
        state.try_lock_shared() || state.lock_shared(deadline).is_ok()
    }
}

/// Returns the end of a wait that begins now. `None`, for never, if it is too far to represent.
fn after(time: Duration) -> Option<Instant> {
    Instant::now().checked_add(time)
}

const ABANDONED: &str = "locks that a fork can abandon are acquired with a time limit";

// SAFETY: L5: `acquire` returns `true` only after it changed the state from free to locked, and only
// `unlock` changes it back.
unsafe impl<P: HasState> RawMutex for RawLock<P> {
    const INIT: Self = Self(P::INIT);

    type GuardMarker = GuardNoSend;

    #[inline]
    fn lock(&self) {
        assert!(self.acquire(None), "{ABANDONED}");
    }

    #[inline]
    fn try_lock(&self) -> bool {
        self.0.state().try_lock()
    }

    #[inline]
    unsafe fn unlock(&self) {
        // SAFETY: L5: the caller holds the lock, so the state is locked, and no other thread changes
        // it back.
        debug_assert!(self.0.state().is_locked());
        self.0.state().unlock(false);
    }

    fn is_locked(&self) -> bool {
        self.0.state().is_locked()
    }
}

// SAFETY: L5: as for `RawMutex`.
unsafe impl<P: HasState> RawMutexTimed for RawLock<P> {
    type Duration = Duration;
    type Instant = Instant;

    fn try_lock_for(&self, timeout: Duration) -> bool {
        self.acquire(after(timeout))
    }

    fn try_lock_until(&self, timeout: Instant) -> bool {
        self.acquire(Some(timeout))
    }
}

// SAFETY: L5: `acquire` needs a free state, `acquire_shared` one that no thread has locked alone; each
// returns `true` only after it changed the state, and only the matching `unlock` changes it back.
unsafe impl<P: HasState> RawRwLock for RawLock<P> {
    const INIT: Self = Self(P::INIT);

    type GuardMarker = GuardNoSend;

    #[inline]
    fn lock_shared(&self) {
        assert!(self.acquire_shared(None), "{ABANDONED}");
    }

    #[inline]
    fn try_lock_shared(&self) -> bool {
        self.0.state().try_lock_shared()
    }

    #[inline]
    unsafe fn unlock_shared(&self) {
        // SAFETY: L5: the caller shares the lock, so the state counts it as a reader.
        debug_assert!(self.0.state().is_locked());
        self.0.state().unlock_shared();
    }

    #[inline]
    fn lock_exclusive(&self) {
        assert!(self.acquire(None), "{ABANDONED}");
    }

    #[inline]
    fn try_lock_exclusive(&self) -> bool {
        self.0.state().try_lock()
    }

    fn is_locked_exclusive(&self) -> bool {
        self.0.state().is_locked_exclusive()
    }

    #[inline]
    unsafe fn unlock_exclusive(&self) {
        // SAFETY: L5: the caller holds the lock alone, so the state has no readers, and no other
        // thread changes it back.
        debug_assert!(self.0.state().is_locked_exclusive());
        self.0.state().unlock(true);
    }

    fn is_locked(&self) -> bool {
        self.0.state().is_locked()
    }
}

// SAFETY: L5: as for `RawRwLock`.
unsafe impl<P: HasState> RawRwLockTimed for RawLock<P> {
    type Duration = Duration;
    type Instant = Instant;

    fn try_lock_shared_for(&self, timeout: Duration) -> bool {
        self.acquire_shared(after(timeout))
    }

    fn try_lock_shared_until(&self, timeout: Instant) -> bool {
        self.acquire_shared(Some(timeout))
    }

    fn try_lock_exclusive_for(&self, timeout: Duration) -> bool {
        self.acquire(after(timeout))
    }

    fn try_lock_exclusive_until(&self, timeout: Instant) -> bool {
        self.acquire(Some(timeout))
    }
}
