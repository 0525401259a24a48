//! Recovery stopped at any step, and completed by the next writer.
//!
//! Both kinds: recovery from the heap, and recovery of the change in flight.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::engine::tests::recovery::*;
use crate::sync::failpoint;

#[test]
fn stopped_heap_recovery_can_restart() {
    stop_recovery(11);
}

pub(super) fn stop_recovery(stride: u64) -> u64 {
    for (images, steps) in (1..).zip((0..).step_by(stride as usize)) {
        let scratch = scratch();
        let cache = scratch.open(&options());
        fill(40)(&cache);
        for i in 0..10 {
            assert!(cache.delete(&key(i)).unwrap());
        }
        let before = contents(&cache);
        drop(cache);
        reboot(scratch.path());
        failpoint::set(steps);
        let outcome = catch_unwind(AssertUnwindSafe(|| drop(scratch.open(&options()))));
        failpoint::clear();
        let cache = scratch.open(&options());
        assert_eq!(contents(&cache), before, "step {steps}");
        assert_clean(&cache);
        if outcome.is_ok() {
            assert!(steps > 1_000, "{steps}");
            return images;
        }
    }
    unreachable!("recovery has an end")
}

// A recovery of the operation in flight can be stopped, and finished by the next writer.
#[test]
fn stopped_recovery_is_finished_later() {
    stop_finishing(9);
}

pub(super) fn stop_finishing(stride: usize) -> u64 {
    let mut images = 0;
    for first in (5..400).step_by(stride) {
        for second in 0.. {
            images += 1;
            let scratch = scratch();
            let cache = scratch.open(&options());
            fill(14)(&cache);
            let old = contents(&cache);
            let mut new = old.clone();
            new.insert(key(99), b"new".to_vec());
            failpoint::set(first);
            let _ = catch_unwind(AssertUnwindSafe(|| drop(cache.put(&key(99), b"new"))));
            failpoint::set(second);
            let outcome = catch_unwind(AssertUnwindSafe(|| drop(cache.writer().unwrap())));
            failpoint::clear();
            drop(cache.writer().unwrap());
            let seen = contents(&cache);
            assert!(seen == old || seen == new, "{first}, {second}");
            assert_clean(&cache);
            if outcome.is_ok() {
                break;
            }
        }
    }
    images
}
