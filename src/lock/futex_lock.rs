//! The lock word: the owner of the writer lock, and the waiter that gets it next.
//!
//! Acquiring and releasing a lock that no one waits for is one exchange each, and no system call.
//! Liveness is proved by `liveness`, so that whatever the word says, a lock whose owner is dead is
//! free. May call `format`, `sync`, `lock::futex` and `lock::liveness`; independent of what the lock
//! guards.
//!
//! Source: the mutex of Ulrich Drepper's "Futexes Are Tricky" with its mark for waiters. The handoff
//! to a waiter that has waited too long is the eventual fairness of WebKit's and `parking_lot`'s
//! locks.

use std::fs::File;
use std::time::Duration;

use crate::format::lock::{LockWord, OWNER_IDS};
use crate::sync::{Relaxed, Release, acquire, exchange, load, publish, store};

use crate::lock::{LockDeadline, LockError, LockWords, futex, liveness};

/// Checks of a lock that is held before its waiter sleeps: some 20 to 50 microseconds.
/// A waiter that sleeps costs the owner a system call, and wakes when others have taken the lock again.
/// Overwrites of 300,000 entries, thousands a second in all, by two processes, four and eight: 474, 351
/// and 237 with 48 checks; 624, 562 and 393 with these, and what a change reads loaded ahead.
const SPINS: u32 = if cfg!(loom) { 0 } else { 1200 };
/// Those of a caller that cannot wait: a microsecond or two, in which a single write is over.
const SPINS_AT_ONCE: u32 = if cfg!(loom) { 0 } else { 48 };
/// The first sleep, and the longest, each twice the one before: a dead owner may go unnoticed for so
/// long. An owner that was dead before is noticed before the first sleep. A waiter that wakes each
/// millisecond to check takes some 0.5 % of a processor.
const SLEEPS: [Duration; 2] = [Duration::from_micros(50), Duration::from_millis(1)];
/// Sleeps after which a waiter asks for the handoff: after a millisecond and a half, or after five turns
/// of other handles.
const SLEEPS_BEFORE_HANDOFF: u32 = if cfg!(loom) { 1 } else { 5 };
/// Sleeps before another waiter may take a lock that was handed to a waiter which does not claim it,
/// because it may be dead or stopped: sixteen milliseconds.
const HANDOFF_SLEEPS: u32 = if cfg!(loom) { 1 } else { 19 };

/// The lock as one handle contends for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct FutexLock<'a> {
    pub words: LockWords<'a>,
    /// Keeps the owner id alive, and tells whether other ids are.
    pub file: &'a File,
    pub owner_id: u32,
}

/// What a waiter has seen so far.
struct Wait {
    pause: Duration,
    /// How often this waiter has slept.
    sleeps: u32,
    /// Whether it is about to sleep or has slept, and so checks whether the owner is alive.
    checks_liveness: bool,
    /// Whether the deadline has passed.
    is_last: bool,
    /// The waiter that the lock was handed to, and the count of sleeps at which this was first seen.
    handoff: Option<(u32, u32)>,
}

impl FutexLock<'_> {
    #[inline]
    pub(super) fn acquire(&self, deadline: &LockDeadline) -> Result<(), LockError> {
        debug_assert!((1..OWNER_IDS).contains(&self.owner_id));
        let own = LockWord::FREE.owned_by(self.owner_id);
        let LockWords { state, inside, .. } = self.words;
        // L4: from no owner. The fence after `inside` orders what was loaded before it too.
        if exchange(state, LockWord::FREE.0, own.0, Relaxed) && acquire(inside) == 0 {
            store(inside, u64::from(self.owner_id));
            return Ok(());
        }
        // Still held from the last time, by a handle that is exclusive.
        if self.load_word().owner() == self.owner_id && load(inside) == u64::from(self.owner_id) {
            return Ok(());
        }
        self.wait(deadline)
            .inspect_err(|_| self.withdraw())
            .and_then(|()| self.enter(deadline).inspect_err(|_| self.unlock()))
    }

    /// Waits until the word has this owner.
    #[cold]
    fn wait(&self, deadline: &LockDeadline) -> Result<(), LockError> {
        let mut wait = Wait {
            pause: SLEEPS[0],
            sleeps: 0,
            checks_liveness: false,
            is_last: false,
            handoff: None,
        };
        let most_spins = match deadline.is_zero() {
            true => SPINS_AT_ONCE,
            false => SPINS,
        };
        let mut spins = 0;
        loop {
            let seen = self.load_word();
            if let Some(own) = self.claim(seen, &mut wait)? {
                // L4: expects what was seen.
                if exchange(self.words.state, seen.0, own.0, Relaxed) {
                    return Ok(());
                }
                continue;
            }
            if spins < most_spins {
                spins += 1;
                spin();
                continue;
            }
            if !wait.checks_liveness {
                wait.checks_liveness = true;
                continue;
            }
            if deadline.left().is_some_and(|left| left.is_zero()) {
                if wait.is_last {
                    return Err(LockError::TimedOut);
                }
                // A lock that a dead owner holds is free for a caller that cannot wait, too.
                wait.is_last = true;
                continue;
            }
            let announced = self.announced(seen, &wait);
            if announced == seen || exchange(self.words.state, seen.0, announced.0, Relaxed) {
                self.sleep(announced, deadline, &mut wait);
            }
        }
    }

    fn load_word(&self) -> LockWord {
        LockWord(load(self.words.state))
    }

    /// Returns the word in which the lock is this handle's. `None` if it may not take the lock now
    /// (L4).
    fn claim(&self, seen: LockWord, wait: &mut Wait) -> Result<Option<LockWord>, LockError> {
        let next = seen.next();
        let own = seen.owned_by(self.owner_id);
        // A waiter that slept cannot tell whether others still do.
        let slept = wait.sleeps > 0;
        let own = if slept { own.awaited() } else { own };
        debug_assert_eq!(own.owner(), self.owner_id, "L4: no other owner");
        if seen.owner() == 0 {
            let free = next == 0
                || next == self.owner_id
                || wait.handoff_expired(next)
                || (wait.is_last && self.is_dead(next)?);
            return Ok(free.then(|| own.with_next(0)));
        }
        wait.handoff = None;
        // The owner is this handle only if the fast path took a lock whose `inside` was not 0.
        if seen.owner() == self.owner_id || (wait.checks_liveness && self.is_dead(seen.owner())?) {
            let next = if next == self.owner_id { 0 } else { next };
            return Ok(Some(own.with_next(next)));
        }
        Ok(None)
    }

    /// Returns the word with this waiter in it, on which it sleeps.
    fn announced(&self, seen: LockWord, wait: &Wait) -> LockWord {
        let starves = seen.next() == 0 && wait.sleeps >= SLEEPS_BEFORE_HANDOFF;
        let next = if starves { self.owner_id } else { seen.next() };
        debug_assert!(next == seen.next() || seen.next() == 0, "L4: first come");
        seen.awaited().with_next(next)
    }

    fn sleep(&self, announced: LockWord, deadline: &LockDeadline, wait: &mut Wait) {
        let pause = deadline
            .left()
            .map_or(wait.pause, |left| wait.pause.min(left));
        futex::wait(self.words.state, announced.low(), pause);
        wait.sleeps += 1;
        wait.pause = (wait.pause * 2).min(SLEEPS[1]);
    }

    /// Sets the writer-at-work word, after the lock word has this owner. If the word has another
    /// owner, that one lost the lock word by corruption, or is dead.
    fn enter(&self, deadline: &LockDeadline) -> Result<(), LockError> {
        loop {
            let inside = acquire(self.words.inside);
            let is_free = inside == 0 || inside == u64::from(self.owner_id);
            if is_free || u32::try_from(inside).map_or(Ok(true), |other| self.is_dead(other))? {
                store(self.words.inside, u64::from(self.owner_id));
                return Ok(());
            }
            if deadline.left().is_some_and(|left| left.is_zero()) {
                return Err(LockError::TimedOut);
            }
            // No owner wakes a waiter for this word.
            pause();
        }
    }

    fn is_dead(&self, owner_id: u32) -> Result<bool, LockError> {
        // No handle chooses such an id.
        if owner_id >= OWNER_IDS {
            return Ok(true);
        }
        liveness::is_dead(self.file, owner_id).map_err(LockError::Io)
    }

    /// Gives up waiting: this handle is no longer the next.
    pub(super) fn withdraw(&self) {
        loop {
            let seen = self.load_word();
            if seen.next() != self.owner_id {
                return;
            }
            // A lock that was handed to this handle is free now, and all that are about to sleep see
            // that.
            let left = match seen.owner() {
                0 => LockWord::FREE,
                _ => seen.with_next(0),
            };
            if exchange(self.words.state, seen.0, left.0, Relaxed) {
                if left == LockWord::FREE {
                    futex::wake(self.words.state, true);
                }
                return;
            }
        }
    }

    #[inline]
    pub(super) fn release(&self) {
        // The next owner goes by this word if the lock word was lost. Not if it is another's: a
        // handle that timed out may be released too.
        if load(self.words.inside) == u64::from(self.owner_id) {
            publish(self.words.inside, 0);
        }
        self.unlock();
    }

    #[inline]
    fn unlock(&self) {
        let own = LockWord::FREE.owned_by(self.owner_id);
        if !exchange(self.words.state, own.0, LockWord::FREE.0, Release) {
            self.unlock_with_waiters();
        }
    }

    /// Releases the lock word if there are waiters.
    #[cold]
    fn unlock_with_waiters(&self) {
        loop {
            let seen = self.load_word();
            if seen.owner() != self.owner_id {
                // Corrupt by now. The writer-at-work word says that no writer is inside.
                return;
            }
            let left = match seen.next() {
                0 => LockWord::FREE,
                _ => seen.owned_by(0).awaited(),
            };
            if exchange(self.words.state, seen.0, left.0, Release) {
                if seen.is_awaited() {
                    futex::wake(self.words.state, left != LockWord::FREE);
                }
                return;
            }
        }
    }
}

impl Wait {
    /// Returns whether the lock was free, and handed to the same waiter, for long enough to take it.
    fn handoff_expired(&mut self, next: u32) -> bool {
        match self.handoff {
            Some((known, since)) if known == next => self.sleeps - since >= HANDOFF_SLEEPS,
            _ => {
                self.handoff = Some((next, self.sleeps));
                self.pause = SLEEPS[0];
                false
            }
        }
    }
}

/// Waits between two checks of a word that rarely changes.
fn pause() {
    #[cfg(loom)]
    crate::sync::loom_model::pause();
    #[cfg(not(loom))]
    std::thread::sleep(SLEEPS[1]);
}

/// Waits between two checks of the lock word.
fn spin() {
    #[cfg(loom)]
    crate::sync::loom_model::pause();
    #[cfg(not(loom))]
    std::hint::spin_loop();
}
