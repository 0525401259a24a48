//! The state of a lock in the memory of one process, in one word of four bytes.
//!
//! Knows who may go on and who sleeps. It keeps no list of those who wait, neither in the lock nor
//! elsewhere: a forked child has none of them, so nothing of theirs may be left in its memory.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

use crate::lock::futex;

/// One thread holds the lock alone.
const HELD: u32 = 1;
/// Threads sleep until the lock is free.
const AWAITED: u32 = 2;
/// A fork is under way, and holds the lock meanwhile: no thread is at work under it.
const FORK: u32 = 4;
/// A forked child inherited the lock while a thread held it that the child does not have.
const LOST: u32 = 8;
/// One thread that shares the lock with others; they are counted in the upper bits.
const READER: u32 = 16;

/// Looks at a held lock before a thread sleeps.
const SPINS: u32 = 100;

/// Why a lock was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The deadline has passed.
    Late,
    /// Nobody will ever release it: its holder is a thread of the parent process.
    Lost,
}

/// The state of one lock.
#[derive(Debug)]
pub(crate) struct State(AtomicU32);

impl State {
    pub(super) const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Takes the lock if it is free.
    #[inline]
    pub(super) fn try_hold(&self) -> bool {
        self.0.compare_exchange(0, HELD, Acquire, Relaxed).is_ok()
    }

    /// Waits for the lock, without a deadline for ever.
    #[cold]
    pub(super) fn hold(&self, deadline: Option<Instant>) -> Result<(), Refused> {
        self.take(HELD, deadline)
    }

    /// Gives the lock back, and wakes one of those who wait, or all of them.
    #[inline]
    pub(super) fn release(&self, all: bool) {
        if self.0.swap(0, Release) & AWAITED != 0 {
            futex::wake_here(&self.0, all);
        }
    }

    /// Takes the lock together with other readers, if no one holds it alone or waits for that.
    #[inline]
    pub(super) fn try_share(&self) -> bool {
        let seen = self.0.load(Relaxed);
        seen & (READER - 1) == 0 && self.exchange(seen, seen + READER)
    }

    /// Waits until it can share the lock.
    #[cold]
    pub(super) fn share(&self, deadline: Option<Instant>) -> Result<(), Refused> {
        self.wait_until(deadline, |seen, _| {
            // Behind a thread that waits to hold it alone, so that readers cannot keep that out.
            let free = seen & (READER - 1) == 0 || seen == AWAITED;
            free.then(|| seen + READER)
        })
    }

    /// Ends one share; the last reader wakes all who wait.
    #[inline]
    pub(super) fn release_share(&self) {
        let mut seen = self.0.load(Relaxed);
        while seen & LOST == 0 {
            let left = seen - READER;
            let next = if left < READER { 0 } else { left };
            match self.0.compare_exchange_weak(seen, next, Release, Relaxed) {
                Ok(_) if next == 0 && seen & AWAITED != 0 => {
                    return futex::wake_here(&self.0, true);
                }
                Ok(_) => return,
                Err(other) => seen = other,
            }
        }
    }

    /// Takes the lock for a fork, so that no thread is at work under it at that moment.
    pub(super) fn hold_for_fork(&self, deadline: Instant) -> Result<(), Refused> {
        self.take(FORK, Some(deadline))
    }

    /// Gives back a lock that was taken for a fork; others are left alone.
    pub(super) fn release_after_fork(&self) {
        if self.0.load(Relaxed) & FORK != 0 {
            self.release(true);
        }
    }

    /// Makes the inherited state one of a forked child, which has one thread: free, unless a thread
    /// was at work under the lock.
    pub(super) fn inherit(&self) {
        let seen = self.0.load(Relaxed);
        let at_work = seen & FORK == 0 && (seen & HELD != 0 || seen >= READER);
        let next = if at_work || seen & LOST != 0 { LOST } else { 0 };
        self.0.store(next, Relaxed);
    }

    /// In a forked child: the lock was held for the fork, and is free now.
    pub(super) fn free(&self) {
        self.0.store(0, Relaxed);
    }

    /// Makes a lost lock a new one, for another owner.
    pub(super) fn renew(&self) {
        self.0.fetch_and(!LOST, Relaxed);
    }

    pub(super) fn is_held(&self) -> bool {
        self.0.load(Relaxed) & !AWAITED != 0
    }

    pub(super) fn is_held_alone(&self) -> bool {
        self.0.load(Relaxed) & (HELD | FORK | LOST) != 0
    }

    fn exchange(&self, seen: u32, next: u32) -> bool {
        self.0
            .compare_exchange(seen, next, Acquire, Relaxed)
            .is_ok()
    }

    fn take(&self, how: u32, deadline: Option<Instant>) -> Result<(), Refused> {
        self.wait_until(deadline, |seen, slept| {
            // Whoever slept may not be the only one: the next release wakes another.
            (seen & !AWAITED == 0).then_some(how | seen | slept)
        })
    }

    /// Waits until `next` has a state to go on with and that state could be stored. `next` is given
    /// what it may go on from, and the flag of sleepers if this thread has slept.
    fn wait_until(
        &self,
        deadline: Option<Instant>,
        next: impl Fn(u32, u32) -> Option<u32>,
    ) -> Result<(), Refused> {
        let (mut spins, mut slept) = (0, 0);
        loop {
            let seen = self.0.load(Relaxed);
            if seen & LOST != 0 {
                return Err(Refused::Lost);
            }
            if let Some(next) = next(seen, slept) {
                if self.exchange(seen, next) {
                    return Ok(());
                }
                continue;
            }
            if spins < SPINS && seen & AWAITED == 0 {
                spins += 1;
                std::hint::spin_loop();
                continue;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Err(Refused::Late);
            }
            if seen & AWAITED != 0 || self.exchange(seen, seen | AWAITED) {
                futex::wait_here(&self.0, seen | AWAITED, left);
                slept = AWAITED;
            }
        }
    }
}
