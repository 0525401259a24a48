//! The state of a lock in the memory of one process, in one word of four bytes.
//!
//! Keeps no list of waiting threads, neither in the lock nor elsewhere: a forked child has none of
//! these threads, so no trace of them may be left in its memory (L5). May call `lock::futex`.
//!
//! Source: a lock that is kept for those who waited long is the eventual fairness of WebKit's and
//! `parking_lot`'s locks, here without a queue.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

use crate::lock::futex;

/// One thread has locked it alone.
const LOCKED: u32 = 1;
/// Threads sleep until the lock is free.
const HAS_WAITERS: u32 = 2;
/// A fork is under way and has taken the lock: no thread holds it.
const FORKING: u32 = 4;
/// A forked child inherited the lock while a thread held it that the child does not have.
const ABANDONED: u32 = 8;
/// A thread has waited for longer than [`PATIENCE`]: the next release keeps the lock for such threads.
const STARVING: u32 = 16;
/// Released, and kept for threads that have waited for so long. Until one of them runs, others cannot
/// take the lock.
const KEPT: u32 = 32;
/// One reader; the upper bits count them.
const READER: u32 = 64;

/// Checks of a held lock before a thread sleeps.
const SPINS: u32 = 100;
/// How long a thread waits while others take the lock before it. Eight threads on two processors that
/// overwrote entries waited for 52 ms at most without that, and for 13 ms with it, at an equal total (a
/// single millisecond took a tenth of the total).
const PATIENCE: Duration = Duration::from_millis(4);

/// Why a lock was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AcquireError {
    /// The deadline has passed.
    TimedOut,
    /// No thread will ever release it: its holder is a thread of the parent process.
    Abandoned,
}

/// The state of one lock.
#[derive(Debug)]
pub(crate) struct MutexState(AtomicU32);

impl MutexState {
    pub(super) const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Takes the lock if it is free.
    #[inline]
    pub(super) fn try_lock(&self) -> bool {
        self.0.compare_exchange(0, LOCKED, Acquire, Relaxed).is_ok()
    }

    /// Waits for the lock, without a deadline forever.
    #[cold]
    pub(super) fn lock(&self, deadline: Option<Instant>) -> Result<(), AcquireError> {
        self.take(LOCKED, deadline)
    }

    /// Releases the lock, and wakes one waiter or all of them.
    #[inline]
    pub(super) fn unlock(&self, all: bool) {
        let unlocked = self.0.compare_exchange(LOCKED, 0, Release, Relaxed);
        if let Err(seen) = unlocked {
            self.unlock_with_waiters(seen, all);
        }
    }

    #[cold]
    fn unlock_with_waiters(&self, mut seen: u32, all: bool) {
        loop {
            let is_kept = seen & STARVING != 0 && seen & FORKING == 0;
            let left = if is_kept { KEPT | HAS_WAITERS } else { 0 };
            match self.0.compare_exchange_weak(seen, left, Release, Relaxed) {
                Ok(_) if seen & HAS_WAITERS != 0 => {
                    return futex::wake_here(&self.0, all || is_kept);
                }
                Ok(_) => return,
                Err(other) => seen = other,
            }
        }
    }

    /// Takes the lock together with other readers, if no thread has locked it alone or waits to.
    #[inline]
    pub(super) fn try_lock_shared(&self) -> bool {
        let seen = self.0.load(Relaxed);
        seen & (READER - 1) == 0 && self.exchange(seen, seen + READER)
    }

    /// Waits until it can share the lock.
    #[cold]
    pub(super) fn lock_shared(&self, deadline: Option<Instant>) -> Result<(), AcquireError> {
        self.wait_until(deadline, |seen, _| {
            // After a thread that waits to lock it alone, so that readers cannot starve that one.
            let free = seen & (READER - 1) == 0 || seen == HAS_WAITERS;
            free.then(|| seen + READER)
        })
    }

    /// Releases one reader's share. The last reader wakes all waiters.
    #[inline]
    pub(super) fn unlock_shared(&self) {
        let mut seen = self.0.load(Relaxed);
        while seen & ABANDONED == 0 {
            let left = seen - READER;
            let next = if left < READER { 0 } else { left };
            match self.0.compare_exchange_weak(seen, next, Release, Relaxed) {
                Ok(_) if next == 0 && seen & HAS_WAITERS != 0 => {
                    return futex::wake_here(&self.0, true);
                }
                Ok(_) => return,
                Err(other) => seen = other,
            }
        }
    }

    /// Takes the lock for a fork, so that no thread holds it at that moment (L6).
    pub(super) fn lock_for_fork(&self, deadline: Instant) -> Result<(), AcquireError> {
        self.take(FORKING, Some(deadline))
    }

    /// Releases a lock that was taken for a fork, and leaves others as they are.
    pub(super) fn unlock_after_fork(&self) {
        if self.0.load(Relaxed) & FORKING != 0 {
            self.unlock(true);
        }
    }

    /// Turns the inherited state into the state for a forked child, which has one thread: free, unless
    /// a thread of the parent held the lock (L6).
    pub(super) fn reset_in_child(&self) {
        let seen = self.0.load(Relaxed);
        let at_work = seen & FORKING == 0 && (seen & LOCKED != 0 || seen >= READER);
        let next = if at_work || seen & ABANDONED != 0 {
            ABANDONED
        } else {
            0
        };
        self.0.store(next, Relaxed);
    }

    /// Frees the lock in a forked child, where it was taken for the fork.
    pub(super) fn force_unlock(&self) {
        self.0.store(0, Relaxed);
    }

    /// Makes an abandoned lock a new one, for another owner.
    pub(super) fn clear_abandoned(&self) {
        self.0.fetch_and(!ABANDONED, Relaxed);
    }

    pub(super) fn is_locked(&self) -> bool {
        self.0.load(Relaxed) & !HAS_WAITERS != 0
    }

    pub(super) fn is_locked_exclusive(&self) -> bool {
        self.0.load(Relaxed) & (LOCKED | FORKING | ABANDONED) != 0
    }

    fn exchange(&self, seen: u32, next: u32) -> bool {
        self.0
            .compare_exchange(seen, next, Acquire, Relaxed)
            .is_ok()
    }

    fn take(&self, how: u32, deadline: Option<Instant>) -> Result<(), AcquireError> {
        debug_assert!(how == LOCKED || how == FORKING, "L5: held by one");
        self.wait_until(deadline, |seen, slept| {
            // A thread that slept may not be the only one: its release wakes another.
            (seen & !HAS_WAITERS == 0).then_some(how | seen | slept)
        })
    }

    /// Waits until `next` returns a state and that state could be stored. `next` gets the current
    /// state, and the flag of waiters if this thread has slept.
    fn wait_until(
        &self,
        deadline: Option<Instant>,
        next: impl Fn(u32, u32) -> Option<u32>,
    ) -> Result<(), AcquireError> {
        let (mut spins, mut slept) = (0, 0);
        let mut starves_from = None;
        loop {
            let seen = self.0.load(Relaxed);
            if seen & ABANDONED != 0 {
                return Err(AcquireError::Abandoned);
            }
            let starves = starves_from.is_some_and(|from| Instant::now() >= from);
            let taken = if starves { seen & !KEPT } else { seen };
            if let Some(next) = next(taken, slept) {
                if self.exchange(seen, next) {
                    return Ok(());
                }
                continue;
            }
            if spins < SPINS && seen & HAS_WAITERS == 0 {
                spins += 1;
                std::hint::spin_loop();
                continue;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                if starves {
                    self.stop_keeping();
                }
                if slept != 0 {
                    // The wake that ended its sleep may have been for a thread that still waits.
                    futex::wake_here(&self.0, false);
                }
                return Err(AcquireError::TimedOut);
            }
            let announced = seen | HAS_WAITERS | if starves { STARVING } else { 0 };
            if seen == announced || self.exchange(seen, announced) {
                starves_from.get_or_insert_with(|| Instant::now() + PATIENCE);
                // It wakes to say that it starves, and to say so again if one that left withdrew that.
                let pause = left.map_or(PATIENCE, |left| left.min(PATIENCE));
                futex::wait_here(&self.0, announced, pause);
                slept = HAS_WAITERS;
            }
        }
    }

    /// Withdraws what a starving thread has asked for. Others ask again when they wake.
    fn stop_keeping(&self) {
        let seen = self.0.fetch_and(!STARVING, Relaxed) & !STARVING;
        if seen & KEPT != 0 && self.exchange(seen, 0) {
            futex::wake_here(&self.0, true);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn await_flag(state: &MutexState, flag: u32) {
        while state.0.load(Relaxed) & flag == 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn released_lock_is_kept_for_starving() {
        let state = MutexState::new();
        assert!(state.try_lock());
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| state.lock(None));
            await_flag(&state, STARVING);
            state.unlock(false);
            // Kept for the waiter, or already the waiter's.
            assert!(!state.try_lock());
            assert_eq!(waiter.join().unwrap(), Ok(()));
        });
        assert_eq!(state.0.load(Relaxed) & (KEPT | STARVING), 0);
        state.unlock(false);
        assert!(state.try_lock());
    }

    // Neither a flag of a waiter that left nor a lock that was kept for it excludes the others.
    #[test]
    fn leaving_waiter_keeps_nothing() {
        let state = MutexState::new();
        assert!(state.try_lock());
        let soon = || Some(Instant::now() + 20 * PATIENCE);
        assert_eq!(state.lock(soon()), Err(AcquireError::TimedOut));
        state.unlock(false);
        assert!(state.try_lock());

        // As if the only starving waiter had been stopped.
        state.0.store(KEPT | HAS_WAITERS, Relaxed);
        assert!(!state.try_lock());
        assert_eq!(state.lock(soon()), Ok(()));
        state.0.store(KEPT | HAS_WAITERS, Relaxed);
        state.stop_keeping();
        assert!(state.try_lock());
    }
}
