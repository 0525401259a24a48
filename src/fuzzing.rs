//! What the targets in `fuzz/` need beyond the public interface: runs that repeat, and kills at any
//! store.
//!
//! Compiled under `cfg(fuzzing)` alone, which cargo-fuzz sets. Knows no files.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::sync::failpoint;

thread_local! {
    static RANDOM: Cell<u64> = const { Cell::new(1) };
}

/// Lets ids and hash seeds begin from here, so that an input does the same in every run.
pub fn reseed(seed: u64) {
    RANDOM.set(seed);
}

/// The next id or seed: SplitMix64.
pub(crate) fn next_random() -> u64 {
    let state = RANDOM.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    RANDOM.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Does something and stops at its store or file operation number `steps`, as a kill would. None
/// where it was stopped.
pub fn killed_after<T>(steps: u64, change: impl FnOnce() -> T) -> Option<T> {
    failpoint::set(steps);
    let outcome = catch_unwind(AssertUnwindSafe(change));
    failpoint::clear();
    match outcome {
        Ok(done) => Some(done),
        Err(payload) if payload.is::<failpoint::Blown>() => None,
        Err(payload) => resume_unwind(payload),
    }
}

/// Does something, and in its midst, before its store or file operation number `steps`, something
/// of somebody else's.
pub fn interrupted_after<T>(
    steps: u64,
    interlude: impl FnOnce() + 'static,
    change: impl FnOnce() -> T,
) -> T {
    failpoint::interrupt(steps, interlude);
    let done = change();
    failpoint::clear();
    done
}
