//! Limits of a `Cache` in rare states: too many entries, removals of what is gone, an index that is
//! too large, segment numbers that are used up.

use std::sync::mpsc::{self, TryRecvError};
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

// A cache whose number of entries was lowered has too many. Then neither a full disk nor a caller may stop
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

/// Returns the bytes of the blocks of all files in a directory.
fn blocks(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let blocks = files.filter_map(|file| Some(file.metadata().ok()?.blocks() * 512));
    blocks.sum()
}

/// Runs `work`, and returns the most bytes that the files of a directory took.
fn most_blocks(dir: &Path, work: impl FnOnce()) -> u64 {
    let (end, ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let samples = scope.spawn(move || {
            let mut most = 0;
            while ended.try_recv() == Err(TryRecvError::Empty) {
                most = most.max(blocks(dir));
                std::thread::sleep(Duration::from_micros(50));
            }
            most
        });
        work();
        drop(end);
        samples.join().unwrap()
    })
}

// The copy under new segment numbers takes room while the old heap is there.
#[test]
fn renumbering_stays_within_bound() {
    let scratch = scratch();
    let limit = 16 * MIB;
    let cache = limited(&scratch, bytes(limit));
    let heap = generation_of(&cache).ids.heap;
    let dir = scratch.path().parent().unwrap();
    let most = most_blocks(dir, || {
        for number in 0..10_000 {
            cache.put(key(number), vec![3; 60_000]).unwrap();
            if generation_of(&cache).ids.heap != heap {
                return;
            }
        }
        panic!("no segment number was used twice");
    });
    assert!(most <= limit + Bound(limit).step(), "{most}");
    assert!(cache.len() > 60, "{}", cache.len());
    assert_clean(&cache);
}

// Beyond it there would be no room for a single entry, however many are evicted.
#[test]
fn lowered_bound_shrinks_the_index() {
    let scratch = scratch();
    let cache = limited(&scratch, bytes(32 * MIB));
    for number in 0..100_000 {
        cache.put(key(number), [1; 16]).unwrap();
    }
    set(&cache, bytes(MIB));
    let heap = generation_of(&cache).ids.heap;
    for number in 0..200 {
        cache.put(key(number), [2; 16]).unwrap();
    }
    assert_eq!(generation_of(&cache).ids.heap, heap, "no new heap helped");
    let used = cache.disk_usage().unwrap().total();
    assert!(used <= 2 * MIB, "{used}");
    for number in 0..5_000 {
        cache.put(key(number), [3; 16]).unwrap();
    }
    assert!(cache.len() > 1_000, "{}", cache.len());
    assert!(is_there(&cache, &key(4_999)));
    assert_clean(&cache);
}

// An index for many small entries would leave little of the bound to a few long ones.
#[test]
fn longer_values_shrink_the_index() {
    let scratch = scratch();
    let limit = 32 * MIB;
    let cache = limited(&scratch, bytes(limit));
    for number in 0..150_000 {
        cache.put(key(number), [1; 16]).unwrap();
    }
    let dir = scratch.path().parent().unwrap();
    let most = most_blocks(dir, || {
        for number in 0..3_000 {
            cache.put(key(number), vec![2; 60_000]).unwrap();
        }
    });
    assert!(most <= limit + Bound(limit).step(), "{most}");
    let live = generation_of(&cache).header().counters().live;
    assert!(live > limit / 8 * 5, "{live}");
    assert_clean(&cache);
}

// The longest values that are accepted find room: something may be evicted.
#[test]
fn longest_values_find_room() {
    let scratch = scratch();
    let limit = 64 * MIB;
    let cache = limited(&scratch, bytes(limit));
    let most = most_blocks(scratch.path().parent().unwrap(), || {
        for number in 0..400 {
            let len = [4_000_000, 1_000_000, 300, 3_500_000][number as usize % 4];
            cache.put(key(number), vec![2; len]).unwrap();
            is_there(&cache, &key(number));
        }
    });
    assert!(most <= limit + Bound(limit).step(), "{most}");
    assert_clean(&cache);
}

// What cannot be reached uses up no segment numbers.
#[test]
fn evicting_everything_ends_at_once() {
    let scratch = scratch();
    let cache = MmapCache::open_with(scratch.path(), &cache_options()).unwrap();
    (0..100).for_each(|number| cache.put(key(number), [1; 100]).map(drop).unwrap());
    for _ in 0..10 {
        cache.write(|writer| writer.evict_to(0)).unwrap();
    }
    assert_eq!(cache.len(), 0);
    let last = generation_of(&cache).header().tail().segment;
    assert!(last <= 2, "{last}");
    assert_clean(&cache);
}
