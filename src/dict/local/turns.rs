//! Turns of the updates of one item, so that concurrent updates do not make each other run again.
//!
//! A turn is only an optimisation: without it an update is as correct, and runs more often.

use std::cell::Cell;
use std::time::Duration;

use crate::lock::Mutex;
use crate::sync::Relaxed;
use crate::sync::count::Count;

/// The number of turns. Items share a turn by their hash.
const TURNS: usize = 16;

/// How long an update waits for its turn. Two closures that wait for each other's item would wait
/// forever.
const TIMEOUT: Duration = Duration::from_secs(1);

thread_local! {
    /// Its address identifies the thread while the thread lives.
    static HERE: Cell<u8> = const { Cell::new(0) };
}

/// The turns of one tree, in one process.
#[derive(Debug, Default)]
pub(super) struct Turns([Turn; TURNS]);

#[derive(Debug)]
struct Turn {
    lock: Mutex<()>,
    /// The thread that has the turn; 0 if none has.
    holder: Count,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            lock: Mutex::new(()),
            holder: Count::new(0),
        }
    }
}

impl Turns {
    /// Runs `update` while no other update with this hash runs, if it gets the turn in time.
    /// Re-entrant: `update` may run another one.
    pub(super) fn run(&self, hash: u64, update: impl FnOnce()) {
        let turn = &self.0[hash as usize % TURNS];
        let this = HERE.with(|here| std::ptr::from_ref(here).addr() as u64);
        if turn.holder.load(Relaxed) == this {
            return update();
        }
        let guard = turn.lock.try_lock_for(TIMEOUT);
        let _turn_end = guard.is_some().then(|| {
            turn.holder.store(this, Relaxed);
            TurnEnd(turn)
        });
        update();
    }
}

/// Ends a turn, also if the update panics. Dropped before the guard of the lock.
struct TurnEnd<'a>(&'a Turn);

impl Drop for TurnEnd<'_> {
    fn drop(&mut self) {
        debug_assert_ne!(self.0.holder.load(Relaxed), 0, "a turn ends once");
        self.0.holder.store(0, Relaxed);
    }
}
