//! The atomics and fences of the crate, from the standard library or, under `--cfg loom`, from
//! loom.
//!
//! Every word that another thread or process may change is a [`Word`]: eight bytes, always accessed
//! as eight bytes. Loads are relaxed, with a fence where order matters, because an acquiring load
//! of memory that is mapped read-only is not guaranteed to work on every machine. Calls no other
//! module.

pub(crate) mod count;
pub(crate) mod failpoint;

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU64 as Word, fence};

#[cfg(loom)]
pub(crate) mod loom_model;
#[cfg(loom)]
pub(crate) use crate::sync::loom_model::{Word, fence};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::AtomicPtr;

pub(crate) use crate::sync::failpoint::failpoint;
pub(crate) use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};

/// Loads a word, relaxed.
#[inline(always)]
pub(crate) fn load(word: &Word) -> u64 {
    word.load(Relaxed)
}

/// Loads a word, and keeps every later access after that load.
#[inline(always)]
#[cfg_attr(loom, track_caller)]
pub(crate) fn acquire(word: &Word) -> u64 {
    let value = word.load(Relaxed);
    fence(Acquire);
    value
}

/// Stores to a word, relaxed. Invariant L3 in `docs/design.md` says who may store to which word.
#[inline(always)]
#[cfg_attr(loom, track_caller)]
pub(crate) fn store(word: &Word, value: u64) {
    failpoint!(Store);
    word.store(value, Relaxed);
}

/// Stores to a word, and publishes: a thread that sees the value sees every earlier store.
#[inline(always)]
#[cfg_attr(loom, track_caller)]
pub(crate) fn publish(word: &Word, value: u64) {
    failpoint!(Store);
    word.store(value, Release);
}

/// Replaces the value of a word if it is the expected one, and returns whether it was. If it was
/// not, nothing is ordered.
#[inline(always)]
#[cfg_attr(loom, track_caller)]
pub(crate) fn exchange(word: &Word, expected: u64, value: u64, order: Ordering) -> bool {
    failpoint!(Store);
    word.compare_exchange(expected, value, order, Relaxed)
        .is_ok()
}

/// Adds to a word that others may add to at the same time. Nothing is ordered.
#[inline(always)]
#[cfg_attr(loom, track_caller)]
pub(crate) fn add(word: &Word, more: u64) {
    failpoint!(Store);
    word.fetch_add(more, Relaxed);
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
