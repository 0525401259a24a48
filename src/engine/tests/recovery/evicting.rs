//! Insertions that evict, stopped at any step: entries that were not evicted are there, and no counter
//! is wrong.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::engine::tests::recovery::*;
use crate::engine::write::cache_words;
use crate::format::record::Variant;
use crate::format::settings::Settings;
use crate::sync::failpoint;

const LIMIT: u32 = 20;
const BEFORE: u32 = 60;

fn cache_options() -> Options {
    Options {
        variant: Variant::Expiring,
        ..options()
    }
}

fn open(scratch: &Scratch) -> MmapCache {
    MmapCache::open_with(scratch.path(), &cache_options()).unwrap()
}

fn put(cache: &MmapCache, i: u32) {
    cache.put(key(i), format!("value {i}")).unwrap();
}

/// Returns a cache that evicts at the next puts.
fn full(scratch: &Scratch) -> MmapCache {
    let cache = open(scratch);
    let mut writer = cache.writer().unwrap();
    let generation = Arc::clone(&writer.session().mutator.generation);
    let settings = Settings {
        max_entries: u64::from(LIMIT),
        ..Settings::default()
    };
    cache_words::set_settings(generation.header(), settings);
    drop((writer, generation));
    (0..BEFORE).for_each(|i| put(&cache, i));
    cache
}

/// Asserts that the newest entries are there, and that every entry has its value.
fn check(cache: &MmapCache, step: u64) {
    let report = cache.verify().run().unwrap();
    assert!(report.is_clean(), "step {step}: {:?}", report.problems);
    let found = contents(cache);
    for i in BEFORE - LIMIT / 2..BEFORE {
        assert!(found.contains_key(&key(i)), "step {step}: {i}");
    }
    for (key_found, value) in &found {
        let right = (0..2 * BEFORE).find(|&i| key(i) == *key_found).unwrap();
        assert_eq!(*value, format!("value {right}").into_bytes(), "step {step}");
    }
}

#[test]
fn stopped_eviction_loses_nothing_else() {
    let mut steps = 0;
    loop {
        let scratch = scratch();
        let cache = full(&scratch);
        failpoint::set(steps);
        let change = || (BEFORE..BEFORE + 4).for_each(|i| put(&cache, i));
        let outcome = catch_unwind(AssertUnwindSafe(change));
        failpoint::clear();
        drop(cache);
        let next = open(&scratch);
        check(&next, steps);
        drop(next.writer().unwrap());
        check(&next, steps);
        let report = next.verify().run().unwrap();
        assert!(report.totals_compared, "step {steps}");
        (BEFORE + 4..2 * BEFORE).for_each(|i| put(&next, i));
        assert!(
            next.len() <= u64::from(LIMIT),
            "step {steps}: {}",
            next.len()
        );
        assert_clean(&next);
        if outcome.is_ok() {
            break;
        }
        steps += 1;
    }
    assert!(steps > 200, "{steps}");
}
