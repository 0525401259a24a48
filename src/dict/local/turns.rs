//! Turns of those who transform one item, so that many who do it at a time are not in each other's
//! way again and again.
//!
//! A turn guards nothing: without it a transformation is as right, and runs more often. It does not
//! know what is transformed.

use std::cell::Cell;
use std::time::Duration;

use crate::lock::Mutex;
use crate::sync::Relaxed;
use crate::sync::count::Count;

/// Transformations of so many items can run at a time; more where they meet by chance.
const TURNS: usize = 16;

/// How long a transformation waits for its turn: one that waits for another would wait for ever.
const PATIENCE: Duration = Duration::from_secs(1);

thread_local! {
    /// Its address names the thread as long as it lives.
    static HERE: Cell<u8> = const { Cell::new(0) };
}

/// The turns of one tree, in one process.
#[derive(Debug, Default)]
pub(super) struct Turns([Turn; TURNS]);

#[derive(Debug)]
struct Turn {
    lock: Mutex<()>,
    /// The thread that has the turn; 0 for none.
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
    /// Runs a closure in its turn among those with the same hash. It may ask for a turn as well.
    pub(super) fn run<R>(&self, hash: u64, transform: impl FnOnce() -> R) -> R {
        let turn = &self.0[hash as usize % TURNS];
        let this = HERE.with(|here| std::ptr::from_ref(here).addr() as u64);
        if turn.holder.load(Relaxed) == this {
            return transform();
        }
        let held = turn.lock.try_lock_for(PATIENCE);
        let _ends = held.is_some().then(|| {
            turn.holder.store(this, Relaxed);
            End(turn)
        });
        transform()
    }
}

/// Ends a turn, even where a closure panics; dropped before the lock is given back.
struct End<'a>(&'a Turn);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.holder.store(0, Relaxed);
    }
}
