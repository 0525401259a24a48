//! The atomics and fences of the crate, from the standard library or, under `--cfg loom`, from
//! loom.
//!
//! Every word that another thread or process may change is a [`Word`]: eight bytes, always touched
//! as eight bytes. Loads are relaxed, with a fence where order matters, because an acquiring load
//! of memory that is mapped read-only is not promised to work on every machine. This file knows
//! nothing of what the words mean.

pub(crate) mod count;

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU64 as Word, fence};

#[cfg(loom)]
pub(crate) mod loom_model;
#[cfg(loom)]
pub(crate) use crate::sync::loom_model::{Word, fence};

pub(crate) use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};

/// A relaxed load.
#[inline(always)]
pub(crate) fn load(word: &Word) -> u64 {
    word.load(Relaxed)
}

/// A load that what follows it in program order cannot overtake.
#[inline(always)]
#[cfg_attr(loom, track_caller)]
pub(crate) fn acquire(word: &Word) -> u64 {
    let value = word.load(Relaxed);
    fence(Acquire);
    value
}

/// A relaxed store. Who may store to which word says invariant L3 in `docs/design.md`.
#[inline(always)]
#[cfg_attr(loom, track_caller)]
pub(crate) fn store(word: &Word, value: u64) {
    #[cfg(any(test, fuzzing))]
    failpoint::step(failpoint::Step::Store);
    word.store(value, Relaxed);
}

/// A store that publishes: what precedes it in program order is seen by whoever sees it.
#[inline(always)]
#[cfg_attr(loom, track_caller)]
pub(crate) fn publish(word: &Word, value: u64) {
    #[cfg(any(test, fuzzing))]
    failpoint::step(failpoint::Step::Store);
    word.store(value, Release);
}

/// Replaces a value that is still the expected one; whether it was. Where it was not, nothing is
/// ordered.
#[inline(always)]
#[cfg_attr(loom, track_caller)]
pub(crate) fn exchange(word: &Word, expected: u64, value: u64, order: Ordering) -> bool {
    #[cfg(any(test, fuzzing))]
    failpoint::step(failpoint::Step::Store);
    word.compare_exchange(expected, value, order, Relaxed)
        .is_ok()
}

/// Keeps every earlier load before every later access: the reader's half of a validation.
#[inline(always)]
#[cfg_attr(loom, track_caller)]
pub(crate) fn acquire_fence() {
    fence(Acquire);
}

/// Keeps every earlier store before every later store: the writer's half of a validation.
#[inline(always)]
#[cfg_attr(loom, track_caller)]
pub(crate) fn release_fence() {
    fence(Release);
}

/// Stops a thread at its n-th store or file operation, as a kill would: what came before it stands,
/// nothing follows. An observer is told of each of them.
#[cfg(any(test, fuzzing))]
#[cfg_attr(
    not(test),
    allow(dead_code, reason = "only the engine's own tests observe")
)]
pub(crate) mod failpoint {
    use std::cell::Cell;
    use std::fs::File;
    use std::path::Path;

    /// What comes next; all that was told of before is done.
    #[derive(Clone, Copy, Debug)]
    pub(crate) enum Step<'a> {
        /// A store to a mapped file.
        Store,
        /// Bytes or blocks for a file, by a system call.
        Write,
        Sync(&'a File),
        Create(&'a Path),
        Rename(&'a Path, &'a Path),
        Remove(&'a Path),
        SyncDir(&'a Path),
    }

    type Observer = Box<dyn FnMut(Step<'_>)>;

    thread_local! {
        static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
        static INTERLUDE: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
        static OBSERVER: Cell<Option<Observer>> = const { Cell::new(None) };
        static BLOWN: Cell<bool> = const { Cell::new(false) };
    }

    /// What a thread panics with when its failpoint has blown.
    pub(crate) struct Blown;

    /// Lets `steps` more steps happen on this thread.
    pub(crate) fn set(steps: u64) {
        LEFT.set(Some(steps));
        BLOWN.set(false);
    }

    /// Whether this thread was stopped, and its failpoint not cleared since.
    pub(crate) fn has_blown() -> bool {
        BLOWN.get()
    }

    /// Runs something of somebody else's before the step that would be stopped, and goes on.
    pub(crate) fn interrupt(steps: u64, interlude: impl FnOnce() + 'static) {
        LEFT.set(Some(steps));
        INTERLUDE.set(Some(Box::new(interlude)));
    }

    /// Lets everything happen again. Whether the failpoint had not blown.
    pub(crate) fn clear() -> bool {
        INTERLUDE.take();
        BLOWN.set(false);
        LEFT.take().is_some()
    }

    /// Tells somebody of each step of this thread before it happens, but of none of their own.
    pub(crate) fn observe(observer: impl FnMut(Step<'_>) + 'static) {
        OBSERVER.set(Some(Box::new(observer)));
    }

    /// Tells nobody any more.
    pub(crate) fn look_away() {
        OBSERVER.take();
    }

    /// Counts a step, and stops at the last.
    pub(crate) fn step(next: Step<'_>) {
        match LEFT.get() {
            None => {}
            Some(0) => {
                LEFT.set(None);
                match INTERLUDE.take() {
                    Some(interlude) => interlude(),
                    None => {
                        BLOWN.set(true);
                        std::panic::resume_unwind(Box::new(Blown))
                    }
                }
            }
            Some(left) => LEFT.set(Some(left - 1)),
        }
        if let Some(mut observer) = OBSERVER.take() {
            let left = LEFT.take();
            observer(next);
            LEFT.set(left);
            OBSERVER.set(Some(observer));
        }
    }
}
