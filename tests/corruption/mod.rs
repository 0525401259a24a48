//! Corrupts the files of a cache and checks the answers that the engine then gives: what the files
//! look like, how they are changed, and which answers a changed cache may give.
//!
//! Calls only the public interface, and reads files by `docs/format.md`. It shares no code with the
//! engine, so that an error in the engine's reading of the format shows.
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
