//! The lock word: who holds the writer lock, and for whom it is kept next.
//!
//! Taking and giving back a lock that nobody waits for is one store each, and no system call. Life
//! is proved elsewhere (`life`), so that whatever the word says, a lock whose owner is dead is
//! free. This file does not know what the lock guards.
//!
//! Source: the mutex of Ulrich Drepper's "Futexes Are Tricky" with its mark for waiters; that a lock
//! is kept for whoever has waited too long is the eventual fairness of WebKit's and `parking_lot`'s
//! locks.

use std::fs::File;
use std::time::Duration;

use crate::format::lock::{NUMBERS, State};
use crate::sync::{Relaxed, Release, acquire, exchange, load, publish, store};

use crate::lock::{Patience, Refusal, Words, futex, liveness};

/// Looks at a lock that is held before its waiter sleeps: some two microseconds, in which a single
/// write is over.
const LOOKS: u32 = if cfg!(loom) { 0 } else { 48 };
/// The first sleep, and the longest: so long a dead owner may go unnoticed. An owner that was dead
/// before is noticed before the first sleep. A waiter that wakes each millisecond to ask takes some
/// 0.5 % of a processor.
const PAUSES: [Duration; 2] = [Duration::from_micros(500), Duration::from_millis(1)];
/// Whoever has slept so often is next: after two milliseconds, or two turns that others had.
const ENOUGH: u32 = if cfg!(loom) { 1 } else { 2 };
/// So often do others sleep while the lock is kept for one who does not take it, for it may be dead,
/// or stopped: sixteen milliseconds.
const KEPT: u32 = if cfg!(loom) { 1 } else { 16 };

/// One of those who take the lock in turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contender<'a> {
    pub words: Words<'a>,
    /// Keeps the number alive, and asks after others.
    pub file: &'a File,
    pub number: u32,
}

/// What a waiter has seen so far.
struct Wait {
    pause: Duration,
    /// How often this waiter has slept.
    sleeps: u32,
    /// Whether it is about to sleep, or has slept: then it asks whether the owner is alive.
    asks: bool,
    /// Whether patience is at its end.
    is_last: bool,
    /// For whom the lock has been kept, and since which sleep.
    kept: Option<(u32, u32)>,
}

impl Contender<'_> {
    #[inline]
    pub(super) fn acquire(&self, patience: &Patience) -> Result<(), Refusal> {
        let own = State::FREE.owned_by(self.number);
        let Words { state, inside, .. } = self.words;
        // The fence behind `inside` orders what was loaded before it too.
        if exchange(state, State::FREE.0, own.0, Relaxed) && acquire(inside) == 0 {
            store(inside, u64::from(self.number));
            return Ok(());
        }
        // Kept from the last time, by a handle that is exclusive.
        if self.look().owner() == self.number && load(inside) == u64::from(self.number) {
            return Ok(());
        }
        self.wait(patience)
            .inspect_err(|_| self.withdraw())
            .and_then(|()| self.enter(patience).inspect_err(|_| self.give_back()))
    }

    /// Waits until the word is this contender's.
    #[cold]
    fn wait(&self, patience: &Patience) -> Result<(), Refusal> {
        let mut wait = Wait {
            pause: PAUSES[0],
            sleeps: 0,
            asks: false,
            is_last: false,
            kept: None,
        };
        let mut looks = 0;
        loop {
            let seen = self.look();
            if let Some(own) = self.claim(seen, &mut wait)? {
                if exchange(self.words.state, seen.0, own.0, Relaxed) {
                    return Ok(());
                }
                continue;
            }
            if looks < LOOKS {
                looks += 1;
                spin();
                continue;
            }
            if !wait.asks {
                wait.asks = true;
                continue;
            }
            if patience.left().is_some_and(|left| left.is_zero()) {
                if wait.is_last {
                    return Err(Refusal::TimedOut);
                }
                // What the dead hold is free for those who cannot wait too.
                wait.is_last = true;
                continue;
            }
            let announced = self.announced(seen, &wait);
            if announced == seen || exchange(self.words.state, seen.0, announced.0, Relaxed) {
                self.sleep(announced, patience, &mut wait);
            }
        }
    }

    fn look(&self) -> State {
        State(load(self.words.state))
    }

    /// The state in which the lock is this contender's, if it may take it as things are.
    fn claim(&self, seen: State, wait: &mut Wait) -> Result<Option<State>, Refusal> {
        let next = seen.next();
        let own = seen.owned_by(self.number);
        // Whoever slept does not know who else does.
        let slept = wait.sleeps > 0;
        let own = if slept { own.awaited() } else { own };
        if seen.owner() == 0 {
            let free = next == 0
                || next == self.number
                || wait.is_kept_too_long(next)
                || (wait.is_last && self.is_over(next)?);
            return Ok(free.then(|| own.with_next(0)));
        }
        wait.kept = None;
        // Its own only if the fast path took a lock in which somebody seems to be.
        if seen.owner() == self.number || (wait.asks && self.is_over(seen.owner())?) {
            let next = if next == self.number { 0 } else { next };
            return Ok(Some(own.with_next(next)));
        }
        Ok(None)
    }

    /// The state with this waiter in it: what it sleeps on.
    fn announced(&self, seen: State, wait: &Wait) -> State {
        let starves = seen.next() == 0 && wait.sleeps >= ENOUGH;
        let next = if starves { self.number } else { seen.next() };
        seen.awaited().with_next(next)
    }

    fn sleep(&self, announced: State, patience: &Patience, wait: &mut Wait) {
        let pause = patience
            .left()
            .map_or(wait.pause, |left| wait.pause.min(left));
        futex::wait(self.words.state, announced.low(), pause);
        wait.sleeps += 1;
        wait.pause = (wait.pause * 2).min(PAUSES[1]);
    }

    /// The word is this contender's. Another who is inside by the other word was robbed of it by
    /// damage, or is dead.
    fn enter(&self, patience: &Patience) -> Result<(), Refusal> {
        loop {
            let inside = acquire(self.words.inside);
            let of_nobody = inside == 0 || inside == u64::from(self.number);
            if of_nobody || u32::try_from(inside).map_or(Ok(true), |other| self.is_over(other))? {
                store(self.words.inside, u64::from(self.number));
                return Ok(());
            }
            if patience.left().is_some_and(|left| left.is_zero()) {
                return Err(Refusal::TimedOut);
            }
            // Nobody wakes one who waits for this.
            pause();
        }
    }

    fn is_over(&self, number: u32) -> Result<bool, Refusal> {
        // What no contender draws, nobody has.
        if number >= NUMBERS {
            return Ok(true);
        }
        liveness::is_over(self.file, number).map_err(Refusal::Io)
    }

    /// Is no longer next.
    pub(super) fn withdraw(&self) {
        loop {
            let seen = self.look();
            if seen.next() != self.number {
                return;
            }
            // Where it was kept for this one, it is free now, and all who are about to sleep see it.
            let left = match seen.owner() {
                0 => State::FREE,
                _ => seen.with_next(0),
            };
            if exchange(self.words.state, seen.0, left.0, Relaxed) {
                if left == State::FREE {
                    futex::wake(self.words.state, true);
                }
                return;
            }
        }
    }

    #[inline]
    pub(super) fn release(&self) {
        // Where the lock word was lost, this is what the next goes by. Not where it is another's: a
        // handle that waited in vain may be told to let go too.
        if load(self.words.inside) == u64::from(self.number) {
            publish(self.words.inside, 0);
        }
        self.give_back();
    }

    #[inline]
    fn give_back(&self) {
        let own = State::FREE.owned_by(self.number);
        if !exchange(self.words.state, own.0, State::FREE.0, Release) {
            self.give_on();
        }
    }

    /// Gives the lock back where somebody waits for it.
    #[cold]
    fn give_on(&self) {
        loop {
            let seen = self.look();
            if seen.owner() != self.number {
                // Damaged meanwhile; that nobody is inside, the other word says.
                return;
            }
            let left = match seen.next() {
                0 => State::FREE,
                _ => seen.owned_by(0).awaited(),
            };
            if exchange(self.words.state, seen.0, left.0, Release) {
                if seen.is_awaited() {
                    futex::wake(self.words.state, left != State::FREE);
                }
                return;
            }
        }
    }
}

impl Wait {
    /// Whether the lock was free, and kept for the same other, for as long as that may be.
    fn is_kept_too_long(&mut self, next: u32) -> bool {
        match self.kept {
            Some((known, since)) if known == next => self.sleeps - since >= KEPT,
            _ => {
                self.kept = Some((next, self.sleeps));
                self.pause = PAUSES[0];
                false
            }
        }
    }
}

/// Between two looks at what seldom happens.
fn pause() {
    #[cfg(loom)]
    crate::sync::loom_model::pause();
    #[cfg(not(loom))]
    std::thread::sleep(PAUSES[0]);
}

/// Between two looks.
fn spin() {
    #[cfg(loom)]
    crate::sync::loom_model::pause();
    #[cfg(not(loom))]
    std::hint::spin_loop();
}
