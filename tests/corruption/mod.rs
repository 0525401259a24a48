//! An attack on the files of a cache: what they look like, how they are changed, and which answers
//! a changed cache may give.
//!
//! Knows the public interface and `docs/format.md`, of which it is a reading of its own: nothing
//! here shares code with the engine, so a fault of the engine's cannot hide behind itself.
#![allow(
    dead_code,
    reason = "each program that attacks uses another part of this"
)]

pub(crate) mod affected;
pub(crate) mod checker;
pub(crate) mod checksums;
pub(crate) mod image;
pub(crate) mod layout;
pub(crate) mod mutation;
pub(crate) mod mutation_lists;
pub(crate) mod repair_check;
pub(crate) mod sample_cache;
