//! Clearing in place, as on a full disk, stopped at any step.
//!
//! Calls the steps directly: a test cannot fill a disk at every store.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::engine::tests::recovery::*;
use crate::engine::write::clear;
use crate::sync::failpoint;

/// Clears as if there were no room at all.
fn clear_in_place(cache: &MmapCache) {
    let mut writer = cache.writer().unwrap();
    for step in [
        clear::remove_entries,
        clear::remove_last_segment,
        clear::begin_again,
        clear::remove_evacuated,
    ] {
        writer.session().run(step).unwrap();
    }
}

fn prepare(cache: &MmapCache, flushed: bool) -> Contents {
    for i in 0..40 {
        cache.put(&key(i), &[i as u8; 700]).unwrap();
        if i % 3 == 0 {
            cache.delete(&key(i / 2)).unwrap();
        }
    }
    if flushed {
        cache.flush().unwrap();
    }
    contents(cache)
}

/// Asserts that each remaining key has its last value.
fn assert_part(left: &Contents, all: &Contents, what: &str) {
    for (key, value) in left {
        assert_eq!(all.get(key), Some(value), "{what}");
    }
}

/// Stops clearing at a step, and checks what is left. Returns whether it ended before that, and
/// whether all entries are gone.
fn stop_at(steps: u64, flushed: bool, reboots: bool) -> (bool, bool) {
    let what = format!("step {steps}, flushed {flushed}, reboots {reboots}");
    let scratch = scratch();
    let cache = scratch.open(&options());
    let all = prepare(&cache, flushed);
    let reader = scratch.open(Options::new().read_only(true));
    failpoint::set(steps);
    let outcome = catch_unwind(AssertUnwindSafe(|| clear_in_place(&cache)));
    failpoint::clear();
    drop(cache);
    assert_part(&contents(&reader), &all, &what);
    if reboots {
        reboot(scratch.path());
    }
    let next = scratch.open(&options());
    drop(next.writer().unwrap());
    let left = contents(&next);
    assert_part(&left, &all, &what);
    assert_clean(&next);
    next.put(b"afterwards", b"v").unwrap();
    assert_eq!(next.len() as usize, left.len() + 1, "{what}");
    assert_clean(&next);
    (outcome.is_ok(), left.is_empty())
}

#[test]
fn stopped_clear_in_place_recovers() {
    for (flushed, reboots) in [(false, false), (true, false), (true, true)] {
        let mut end = 0;
        while !stop_at(end, flushed, reboots).0 {
            end += 61;
        }
        // The last steps remove the files; each of them is tried.
        let last: Vec<_> = (end.saturating_sub(100)..=end)
            .map(|steps| stop_at(steps, flushed, reboots))
            .collect();
        assert!(last.iter().any(|&(over, _)| !over));
        assert!(last.iter().all(|&(over, empty)| empty || !over));
        let emptied = last.iter().filter(|&&(over, empty)| empty && !over);
        assert!(emptied.count() > 1, "also stopped after the last entry");
    }
}
