//! Support for the targets in `fuzz/` beyond the public interface: repeatable runs, and kills at any
//! store.
//!
//! Compiled under `cfg(fuzzing)` alone, which cargo-fuzz sets. May call `sync`.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::sync::failpoint;

thread_local! {
    static RANDOM: Cell<u64> = const { Cell::new(1) };
}

/// Restarts the sequence of ids and hash seeds, so that an input does the same in every run.
pub fn reseed(seed: u64) {
    RANDOM.set(seed);
}

/// Returns the next id or seed: SplitMix64.
pub(crate) fn next_random() -> u64 {
    let state = RANDOM.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    RANDOM.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Runs `change` and stops it at its store or file operation number `steps`, as a kill would. Returns
/// `None` if it was stopped.
pub fn killed_after<T>(steps: u64, change: impl FnOnce() -> T) -> Option<T> {
    failpoint::set(steps);
    let outcome = catch_unwind(AssertUnwindSafe(change));
    failpoint::clear();
    match outcome {
        Ok(done) => Some(done),
        Err(payload) if payload.is::<failpoint::Killed>() => None,
        Err(payload) => resume_unwind(payload),
    }
}

/// Runs `change`, and `hook` just before its store or file operation number `steps`, as another
/// process could.
pub fn interrupted_after<T>(
    steps: u64,
    hook: impl FnOnce() + 'static,
    change: impl FnOnce() -> T,
) -> T {
    failpoint::interrupt(steps, hook);
    let done = change();
    failpoint::clear();
    done
}
