//! An attack on the files of a cache: what they look like, how they are changed, and which answers
//! a changed cache may give.
//!
//! Knows the public interface and `docs/format.md`, of which it is a reading of its own: nothing
//! here shares code with the engine, so a fault of the engine's cannot hide behind itself.
#![allow(
    dead_code,
    reason = "each program that attacks uses another part of this"
)]

pub(crate) mod image;
pub(crate) mod layout;
pub(crate) mod look;
pub(crate) mod mending;
pub(crate) mod mutation;
pub(crate) mod reach;
pub(crate) mod seals;
pub(crate) mod specimen;
pub(crate) mod sweep;
