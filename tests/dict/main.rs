//! The guarantees of dictionaries, point by point: `docs/dictionary.md` says which test proves which
//! point, and `cargo test --all-features --test dict mmap::` runs the suite on one kind only.
//!
//! The suite runs once for each kind of dictionary, and does not depend on any of them. The tests of
//! one kind alone are in separate files, and so are the model and the races.
#![expect(
    clippy::duplicate_mod,
    reason = "the suite is compiled once for each kind of dictionary"
)]

#[path = "../child/mod.rs"]
mod child;
mod errors;
mod files;
mod fresh;
mod keys;
mod memory;
mod model;
mod pair;
mod proofs;
mod races;

/// The suite on dictionaries in files with values in memory.
#[path = "suite"]
mod cached {
    use crate::fresh::cached::*;

    mod conditional;
    mod etags;
    mod items;
    mod listing;
    mod params;
    mod plain;
    mod policies;
    mod subdicts;
    mod threads;
    mod times;
    mod update;
    mod values;
    mod writes;
}

/// The suite on a dictionary whose kind is only known when it runs.
#[path = "suite"]
mod erased {
    use crate::fresh::erased::*;

    mod conditional;
    mod etags;
    mod items;
    mod listing;
    mod params;
    mod plain;
    mod policies;
    mod subdicts;
    mod threads;
    mod times;
    mod update;
    mod values;
    mod writes;
}

/// The suite on dictionaries in memory.
#[path = "suite"]
mod local {
    use crate::fresh::local::*;

    mod conditional;
    mod etags;
    mod items;
    mod listing;
    mod params;
    mod plain;
    mod policies;
    mod subdicts;
    mod threads;
    mod times;
    mod update;
    mod values;
    mod writes;
}

/// The suite on dictionaries in files.
#[path = "suite"]
mod mmap {
    use crate::fresh::mmap::*;

    mod conditional;
    mod etags;
    mod items;
    mod listing;
    mod params;
    mod plain;
    mod policies;
    mod subdicts;
    mod threads;
    mod times;
    mod update;
    mod values;
    mod writes;
}

/// Not a test: the entry point of the child processes of the races.
#[test]
fn child() {
    child::play(&[
        ("counts", races::counts),
        ("counts until killed", races::counts_until_killed),
        ("takes items", races::takes),
        ("watches counters", races::watches),
    ]);
}
