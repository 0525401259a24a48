//! Checks the publish protocol under loom: the whole engine, with loom's atomics in place of mapped
//! files.
//!
//! `RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test --release --lib loom_`
//!
//! A model is a cache of a few keys, a writer that changes it and a reader beside it, each with its
//! own handle, as processes have. The engine's code is not copied: handles are opened, the lock is
//! taken, files are created and renamed. Only a mapping is different: plain memory in which a word
//! is loom's if one thread stores it and another loads it (`sync::model`). Readers never store, so
//! that a second reader could see nothing more.
//!
//! What the models explore:
//!
//! - Every order of the threads with at most two preemptions and, within each order, every value that
//!   relaxed loads may return under the C11 rules as loom implements them, up to [`EXECUTIONS`] for
//!   each model: most models end before that. The longer form explores any number of preemptions.
//! - Each ordering of memory is left out in turn, and a model must notice (`orders`).
//!
//! What they do not explore:
//!
//! - A load that returns a value stored later in loom's order of execution. Only writers both load
//!   and store, and no thread stores what it loaded.
//! - The order of system calls on different files: the models assume that each call that creates or
//!   finds a name takes one lock in the kernel.
//! - Two threads on one handle, beyond what two handles of one file share: the words of a handle
//!   itself (sizes that only grow, counts) order nothing, `arc-swap` has its own models, and only
//!   real threads test the locks between threads, in `src/lock/tests/inherit.rs`.
//! - Recovery and the lock: see `recovery`. The models named "a kill" read, as any thread could, what
//!   the next holder of the lock would find, in whatever order the compiler chose.

mod harness;
mod models;
mod orders;

use std::time::Duration;

use crate::Options;
use crate::format::HashKind;

use crate::engine::tests::loom::harness::{Model, explore};
use crate::engine::tests::loom::models::MODELS;

/// Most executions of a model in the short form.
const EXECUTIONS: u64 = 4_000;

/// Regions of two groups, keys whose hashes differ in two bits only, and no cleaning.
fn options() -> Options {
    let mut options = Options::new();
    options
        .region_slots(16)
        .max_segment_bytes(16 * 1024)
        .compaction_threshold(100, 1 << 30)
        .staleness_check_interval(Duration::from_secs(1 << 40));
    options.hash_kind = HashKind::Colliding;
    options.directory_bits = 2;
    options
}

/// The same, with records that are overwritten where they are.
fn in_place_options() -> Options {
    let mut options = options();
    options.in_place(true);
    options
}

/// The same, with two regions from the start.
fn two_sides() -> Options {
    let mut options = options();
    options.capacity(13);
    options
}

/// Explores the models, prints how many executions each had, and asserts that all promises hold.
fn hold(change: impl Fn(&Model) -> Model) {
    for model in MODELS.iter().map(change) {
        let explored = explore(model, &[]);
        let whole = if explored.is_whole { "all" } else { "first" };
        println!(
            "{:40} {whole} {} executions, {} shared words, {:.2?}",
            model.name, explored.executions, explored.words, explored.took
        );
        assert_eq!(explored.broken, None, "{}", model.name);
    }
}

#[test]
fn loom_promises_hold_in_every_order() {
    hold(|model| Model {
        preemptions: Some(2),
        at_most: EXECUTIONS,
        ..*model
    });
}

// Explores every order, with any number of preemptions.
#[test]
#[ignore = "takes an hour; LOOM_EXECUTIONS is the most for each model"]
fn loom_promises_hold_with_unbounded_preemptions() {
    let most = std::env::var("LOOM_EXECUTIONS").map_or(Ok(200_000), |most| most.parse());
    let at_most = most.unwrap();
    hold(|model| Model {
        preemptions: None,
        at_most,
        ..*model
    });
}
