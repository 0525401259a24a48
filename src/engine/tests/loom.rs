//! The publish protocol under loom: the whole engine, with loom's atomics in place of mapped files.
//!
//! `RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test --release --lib loom_`
//!
//! A model is a cache of a few keys, a writer that changes it and a reader that looks meanwhile,
//! each with a handle of its own, as processes have. Nothing of the engine is copied: handles are
//! opened, the lock is taken, files are made and renamed. Only a mapping is different: plain memory
//! in which those words are loom's that one thread stores and another loads (`sync::model`).
//! Readers never store, so a second one beside the first could see nothing that this one cannot.
//!
//! What was explored:
//!
//! - Every order of the threads with at most two switches away from one that could go on, and
//!   within each order every value that relaxed loads may return under the C11 rules as loom has
//!   them, up to [`EXECUTIONS`] for a model: most models end long before. The longer form explores
//!   any number of switches.
//! - Each place that orders memory is left out in turn, and a model must notice (`orders`).
//!
//! What was not:
//!
//! - A load that returns a value stored later in loom's order of execution. Only writers both load
//!   and store, and nobody stores what they load.
//! - The order of system calls on different files: each call that makes or finds a name is taken to
//!   go through one lock of the system.
//! - Two threads on one handle beyond what handles on one file share: the words of a handle itself
//!   (sizes that only grow, counts) order nothing, `arc-swap` has models of its own, and the locks
//!   between threads are tested with real threads alone, in `src/lock/tests/inherit.rs`.
//! - Recovery and the lock: see `recovery`. The models named "a kill" look, as any thread could, at
//!   what the next holder of the lock would find, whatever order the compiler chose.

mod harness;
mod models;
mod orders;

use std::time::Duration;

use crate::Options;
use crate::format::HashKind;

use crate::engine::tests::loom::harness::{Model, explore};
use crate::engine::tests::loom::models::MODELS;

/// Executions of a model at most, in the short form.
const EXECUTIONS: u64 = 4_000;

/// Regions of two groups, keys of which all bits collide but two, and no cleaning.
fn options() -> Options {
    let mut options = Options::new();
    options
        .region_slots(16)
        .inline_key_bytes(8)
        .max_segment_bytes(16 * 1024)
        .compaction_threshold(100, 1 << 30)
        .staleness_check_interval(Duration::from_secs(1 << 40));
    options.hash_kind = HashKind::Colliding;
    options.directory_bits = 2;
    options
}

/// The same, beginning with two regions.
fn two_sides() -> Options {
    let mut options = options();
    options.capacity(13);
    options
}

/// Explores the models, and says how much of each was seen.
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
