//! Stops a change at each of its stores and file operations, and checks what it leaves.
//!
//! Knows no change by name: the caller passes what to prepare and what to do.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::engine::tests::recovery::*;
use crate::sync::failpoint;

/// Runs `change` on a cache that `prepare` filled, and stops it at every `stride`-th step.
pub(super) fn stop_at_every_step(
    stride: u64,
    prepare: impl Fn(&MmapCache),
    change: impl Fn(&MmapCache),
) -> u64 {
    stop_with(&options(), stride, prepare, &[&change])
}

/// The same with other options, for a change in several parts, each of which is done or not.
pub(super) fn stop_with(
    options: &Options,
    stride: u64,
    prepare: impl Fn(&MmapCache),
    parts: &[&dyn Fn(&MmapCache)],
) -> u64 {
    let states = {
        let scratch = scratch();
        let cache = scratch.open(options);
        prepare(&cache);
        let mut states = vec![contents(&cache)];
        for part in parts {
            part(&cache);
            states.push(contents(&cache));
        }
        states
    };
    let change = |cache: &MmapCache| parts.iter().for_each(|part| part(cache));
    let mut images = 0;
    for steps in (0..).step_by(stride as usize) {
        let scratch = scratch();
        let cache = scratch.open(options);
        prepare(&cache);
        let reader = scratch.open(Options::new().read_only(true));
        failpoint::set(steps);
        let outcome = catch_unwind(AssertUnwindSafe(|| change(&cache)));
        failpoint::clear();
        if let Err(payload) = &outcome {
            assert!(
                payload.is::<failpoint::Killed>(),
                "step {steps}: it failed by itself"
            );
        }
        images += 1;
        // A killed process releases its lock wherever it was, even while it released it.
        drop(cache);
        check_image(&scratch, options, &reader, &states, steps);
        if outcome.is_ok() {
            return images;
        }
    }
    images
}

pub(super) fn check_image(
    scratch: &Scratch,
    options: &Options,
    reader: &MmapCache,
    states: &[Contents],
    steps: u64,
) {
    let seen = contents(reader);
    let before = states.iter().position(|state| *state == seen);
    assert!(
        before.is_some(),
        "step {steps}: an open reader sees neither the old nor the new: {seen:?}"
    );
    let fresh = scratch.open(Options::new().read_only(true));
    assert_eq!(
        contents(&fresh),
        seen,
        "step {steps}: a new reader sees something else"
    );
    // A change in flight is no corruption: a full check beside a stopped writer finds nothing.
    let report = fresh.verify().run().unwrap();
    assert!(
        report.is_clean(),
        "step {steps}: before it is mended: {:?}",
        report.problems
    );
    // Taking the lock redoes or undoes the change; that alone must make everything correct.
    let next = scratch.open(options);
    drop(next.writer().unwrap());
    let mended = contents(&next);
    let after = states.iter().rposition(|state| *state == mended);
    assert!(after.is_some(), "step {steps}: recovery changed the result");
    assert!(
        before <= after,
        "step {steps}: recovery lost an entry that readers saw"
    );
    let report = next.verify().run().unwrap();
    assert!(
        report.is_clean() && report.totals_compared,
        "step {steps}: {:?}",
        report.problems
    );
    assert_eq!(next.len() as usize, mended.len(), "step {steps}");
    // The cache can be written again.
    let stays = options.append_only == Some(true);
    for i in 0..30 {
        next.put(&key(500 + i), b"afterwards").unwrap();
        match next.delete(&key(500 + i / 2)) {
            Ok(_) if !stays => {}
            Err(error) if matches!(error.kind(), crate::ErrorKind::AppendOnly) && stays => {}
            other => panic!("step {steps}: {other:?}"),
        }
    }
    assert!(
        next.verify().run().unwrap().is_clean(),
        "step {steps}: after further work"
    );
    assert_eq!(
        next.get(&key(529)).unwrap().as_deref(),
        Some(&b"afterwards"[..])
    );
}
