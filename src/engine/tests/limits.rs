//! Limits of a `Cache` in rare states: too many entries, removals of what is gone, an index that is
//! too large, segment numbers that are used up.

use std::time::Duration;

use crate::engine::clean::eviction;
use crate::engine::statistics::Counter;
use crate::engine::tests::eviction::*;
use crate::engine::tests::*;
use crate::engine::write::put::Terms;
use crate::format::settings::{Bound, Settings};
use crate::os::clock::set_clock_ahead;

/// Opens what is left of a cache without its index.
fn rebuilt(scratch: &Scratch, cache: MmapCache) -> MmapCache {
    drop(cache);
    std::fs::remove_file(scratch.path()).unwrap();
    crate::Repair::new(scratch.path()).run().unwrap();
    MmapCache::open_with(scratch.path(), &cache_options()).unwrap()
}

// Whoever lowers the number has too many entries. Then neither a full disk nor a caller may stop
// evicting at that number: the first would never come to the segment's end.
#[test]
fn excess_entries_stop_no_eviction() {
    let scratch = scratch();
    let cache = limited(&scratch, Settings::default());
    for number in 0..5_000 {
        cache.put(key(number), [1; 1_000]).unwrap();
    }
    set(&cache, entries(4_900));
    cache.write(|writer| writer.evict_to(MIB)).unwrap();
    let used = cache.disk_usage().unwrap().total();
    assert!(used <= 2 * MIB, "{used}");

    for number in 0..5_000 {
        cache.put(key(number), [1; 1_000]).unwrap();
    }
    set(&cache, entries(4_800));
    let mut writer = cache.writer().unwrap();
    assert!(eviction::make_disk_room(writer.session(), 1_000));
    drop(writer);
    assert!(cache.len() < 4_800, "{}", cache.len());
    assert_clean(&cache);
}

// Such a removal may append a deletion record, so it cleans as every write does.
#[test]
fn removals_of_nothing_stay_bounded() {
    let scratch = scratch();
    let limit = 4 * MIB;
    let cache = limited(&scratch, bytes(limit));
    let mut number = 0;
    while counted(&cache, Counter::EvictedSize) < 100 {
        cache.put(key(number), [2; 300]).unwrap();
        number += 1;
    }
    let mut most = 0;
    for number in 0..60_000 {
        let key = format!("{number:0300}");
        assert!(!cache.delete(key).unwrap());
        if number % 16 == 0 {
            most = most.max(cache.disk_usage().unwrap().total());
        }
    }
    assert!(most <= limit + Bound(limit).step(), "{most}");
    assert_clean(&cache);
}

// E3: the clock was wrong when the search for expired entries met this one. A caller removed it;
// when the clock is right again, a rebuild from the heap must not bring it back.
#[test]
fn swept_entries_stay_removed() {
    let scratch = scratch();
    let cache = limited(&scratch, Settings::default());
    let hour = Duration::from_secs(3_600).as_millis() as u64;
    let terms = Terms {
        deadline: Some(crate::os::clock::unix_millis() + hour),
        ..Terms::PLAIN
    };
    cache
        .write(|writer| writer.put_with(b"key", b"value", terms))
        .unwrap();
    cache.put("other", "value").unwrap();
    set_clock_ahead(2 * hour as i64);
    let swept = cache.write(|writer| writer.sweep(1_000));
    set_clock_ahead(0);
    assert_eq!(swept.unwrap(), 1);
    assert!(!cache.delete("key").unwrap());
    let cache = rebuilt(&scratch, cache);
    assert!(!is_there(&cache, b"key"));
    assert!(is_there(&cache, b"other"));
}
