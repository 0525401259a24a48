//! Locks between the threads of one process that stay usable in a forked child.
//!
//! `lock_api` has the guards and hands out the data; this file only says how a lock is taken and
//! given back. Those of `parking_lot`, and of many others, put waiting threads into a table of the
//! whole process: a child that is forked while some thread changes the table can hang at any lock.
#![expect(
    unsafe_code,
    reason = "the traits of `lock_api` are promises; nothing unsafe is done here"
)]

use std::time::{Duration, Instant};

use lock_api::{GuardNoSend, RawMutex, RawMutexTimed, RawRwLock, RawRwLockTimed};

use crate::lock::mutex_state::State;

/// Where the state of a lock is.
pub(crate) trait Place {
    const INIT: Self;

    fn state(&self) -> &State;
}

/// A lock of `lock_api` with its state in some place.
#[derive(Debug)]
pub(crate) struct Raw<P>(pub(super) P);

/// A state that nothing else knows of. In a forked child such a lock is as it was at the fork: for
/// what a child never uses again, or only the thread that forked has.
#[derive(Debug)]
pub(crate) struct Inline(State);

impl Place for Inline {
    const INIT: Self = Self(State::new());

    #[inline]
    fn state(&self) -> &State {
        &self.0
    }
}

/// A mutex without poisoning, whose waiters are known to the kernel alone.
pub(crate) type Mutex<T> = lock_api::Mutex<Raw<Inline>, T>;
pub(crate) type MutexGuard<'a, T> = lock_api::MutexGuard<'a, Raw<Inline>, T>;
pub(crate) type MappedMutexGuard<'a, T> = lock_api::MappedMutexGuard<'a, Raw<Inline>, T>;

impl<P: Place> Raw<P> {
    fn hold(&self, deadline: Option<Instant>) -> bool {
        let state = self.0.state();
        state.try_hold() || state.hold(deadline).is_ok()
    }

    fn share(&self, deadline: Option<Instant>) -> bool {
        let state = self.0.state();
        state.try_share() || state.share(deadline).is_ok()
    }
}

/// When a wait is over that begins now; never for one that is too long to tell.
fn after(time: Duration) -> Option<Instant> {
    Instant::now().checked_add(time)
}

const LOST: &str = "locks that a fork can lose are taken with a time limit";

// SAFETY: L5: `hold` returns `true` only after it changed the state from free to held, and nothing
// but `unlock` changes it back.
unsafe impl<P: Place> RawMutex for Raw<P> {
    const INIT: Self = Self(P::INIT);

    type GuardMarker = GuardNoSend;

    #[inline]
    fn lock(&self) {
        assert!(self.hold(None), "{LOST}");
    }

    #[inline]
    fn try_lock(&self) -> bool {
        self.0.state().try_hold()
    }

    #[inline]
    unsafe fn unlock(&self) {
        self.0.state().release(false);
    }

    fn is_locked(&self) -> bool {
        self.0.state().is_held()
    }
}

// SAFETY: L5: as for `RawMutex`.
unsafe impl<P: Place> RawMutexTimed for Raw<P> {
    type Duration = Duration;
    type Instant = Instant;

    fn try_lock_for(&self, timeout: Duration) -> bool {
        self.hold(after(timeout))
    }

    fn try_lock_until(&self, timeout: Instant) -> bool {
        self.hold(Some(timeout))
    }
}

// SAFETY: L5: `hold` needs a state without readers, `share` one that is not held; each returns
// `true` only after it changed the state, and nothing but the matching `unlock` changes it back.
unsafe impl<P: Place> RawRwLock for Raw<P> {
    const INIT: Self = Self(P::INIT);

    type GuardMarker = GuardNoSend;

    #[inline]
    fn lock_shared(&self) {
        assert!(self.share(None), "{LOST}");
    }

    #[inline]
    fn try_lock_shared(&self) -> bool {
        self.0.state().try_share()
    }

    #[inline]
    unsafe fn unlock_shared(&self) {
        self.0.state().release_share();
    }

    #[inline]
    fn lock_exclusive(&self) {
        assert!(self.hold(None), "{LOST}");
    }

    #[inline]
    fn try_lock_exclusive(&self) -> bool {
        self.0.state().try_hold()
    }

    fn is_locked_exclusive(&self) -> bool {
        self.0.state().is_held_alone()
    }

    #[inline]
    unsafe fn unlock_exclusive(&self) {
        self.0.state().release(true);
    }

    fn is_locked(&self) -> bool {
        self.0.state().is_held()
    }
}

// SAFETY: L5: as for `RawRwLock`.
unsafe impl<P: Place> RawRwLockTimed for Raw<P> {
    type Duration = Duration;
    type Instant = Instant;

    fn try_lock_shared_for(&self, timeout: Duration) -> bool {
        self.share(after(timeout))
    }

    fn try_lock_shared_until(&self, timeout: Instant) -> bool {
        self.share(Some(timeout))
    }

    fn try_lock_exclusive_for(&self, timeout: Duration) -> bool {
        self.hold(after(timeout))
    }

    fn try_lock_exclusive_until(&self, timeout: Instant) -> bool {
        self.hold(Some(timeout))
    }
}
