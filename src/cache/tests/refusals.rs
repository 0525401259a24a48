//! Insertions that a cache refuses because it may evict nothing: what they cost, and when they end.

use crate::cache::tests::*;
use crate::format::internal::LONG_VALUE;
use crate::{CacheBuilder, Eviction};

const LIMIT: u64 = 8 << 20;
const LEN: usize = 3_000;

fn refusing(path: &Path) -> CacheBuilder {
    Cache::builder(path)
        .max_bytes(LIMIT)
        .eviction(Eviction::None)
}

fn key(number: u32) -> Vec<u8> {
    format!("key {number:08}").into_bytes()
}

/// Inserts entries from a number on until one is refused. Returns its number.
fn fill(cache: &Cache, from: u32) -> u32 {
    let refused = |number: &u32| match cache.insert(key(*number), [1; LEN]) {
        Ok(_) => false,
        Err(error) => matches!(error.kind(), ErrorKind::CacheFull { limit: LIMIT }),
    };
    (from..from + 10_000).find(refused).expect("a refusal")
}

/// The same by two handles, until both refuse: the first refusal by a handle may clean the heap and find
/// room for a few more.
fn fill_by(caches: [&Cache; 2], from: u32) -> u32 {
    let mut next = from;
    for _ in 0..10 {
        let before = next;
        next = caches.iter().fold(next, |next, cache| fill(cache, next));
        if next == before {
            return next;
        }
    }
    panic!("there is always more room");
}

/// Asserts that one more entry like those of [`fill`] is refused.
#[track_caller]
fn assert_refused(cache: &Cache) {
    let more = key(99_999_999);
    let refused = cache.insert(&more, [2; LEN]).unwrap_err();
    assert!(
        matches!(refused.kind(), ErrorKind::CacheFull { limit: LIMIT }),
        "{refused}"
    );
    assert_eq!(cache.peek(&more).unwrap(), None);
}

/// Returns what every change, and every move of a record, changes.
fn state(cache: &Cache) -> (u64, u64, u64, u64) {
    let generation = cache.cache.handle().generation.load_full();
    let header = generation.header();
    let end = header.heap_base() + header.tail().bytes();
    (
        header.changes(),
        end,
        generation.ids.roster,
        cache.len_with_expired(),
    )
}

// A refusal that walked the heap would move its records.
#[test]
fn refusals_move_and_change_nothing() {
    let (_dir, path) = place();
    let cache = refusing(&path).open().unwrap();
    let other = refusing(&path).open().unwrap();
    let count = fill_by([&cache, &other], 0);
    let before = state(&cache);
    for cache in [&cache, &other, &cache] {
        for len in [LEN, 200_000] {
            for number in [0, count, count + 1] {
                let refused = cache.insert(key(number), vec![2; len]).unwrap_err();
                assert!(matches!(refused.kind(), ErrorKind::CacheFull { .. }));
            }
        }
        assert_refused(cache);
        assert_eq!(state(cache), before);
    }
    for number in 0..count {
        assert_eq!(cache.peek(key(number)).unwrap().unwrap(), [1; LEN]);
    }
    assert!(cache.verify().run().unwrap().is_clean());
}

// By the handle that did not remove it.
#[test]
fn removed_room_is_used_at_once() {
    let (_dir, path) = place();
    let cache = refusing(&path).open().unwrap();
    let other = refusing(&path).open().unwrap();
    let count = fill_by([&cache, &other], 0);
    for round in 0..10 {
        let (from, to) = match round % 2 {
            0 => (&cache, &other),
            _ => (&other, &cache),
        };
        // Not in the order of the log. A removal is a record, too, and what is left at the ends of
        // segments differs from one cleaning to the next: some hundredths of the bound.
        for number in 0..120 {
            assert!(
                from.remove(key((round * 120 + number) * 7 % count))
                    .unwrap()
            );
        }
        for number in 0..60 {
            to.insert(key(10_000 + round * 60 + number), [3; LEN])
                .unwrap();
        }
    }
    fill_by([&cache, &other], 90_000);
    [&cache, &other].into_iter().for_each(assert_refused);
    assert!(cache.verify().run().unwrap().is_clean());
}

// What ended without a change that a counter shows: by the clock, and by a group.
#[test]
fn ended_room_is_used_at_once() {
    let (_dir, path) = place();
    let cache = refusing(&path).open().unwrap();
    let tagged = InsertOptions::new().tag("t");
    for number in 0..1_000 {
        let options = if number < 500 { ttl(HOUR) } else { tagged };
        cache.insert_with(key(number), [1; LEN], &options).unwrap();
    }
    let other = refusing(&path).open().unwrap();
    let count = fill_by([&cache, &other], 1_000);
    let _clock = ClockSet::ahead(2 * HOUR);
    for number in 0..400 {
        other.insert(key(count + number), [2; LEN]).unwrap();
    }
    fill_by([&cache, &other], 80_000);
    // Not by the handle that is going to need the room.
    cache.invalidate_tag("t").unwrap();
    for number in 400..800 {
        other.insert(key(count + number), [3; LEN]).unwrap();
    }
    fill_by([&cache, &other], 90_000);
    [&cache, &other].into_iter().for_each(assert_refused);
    for number in 1_000..count {
        assert_eq!(cache.peek(key(number)).unwrap().unwrap(), [1; LEN]);
    }
    // It adds what it has counted.
    other.stats().unwrap();
    let counts = cache.stats().unwrap();
    assert_eq!((counts.total.expired, counts.total.invalidated), (500, 500));
    assert!(cache.verify().run().unwrap().is_clean());
}

// The slot of a long value does not say that a touch made its life shorter.
#[test]
fn touched_values_leave_room() {
    let (_dir, path) = place();
    let cache = refusing(&path).open().unwrap();
    let long = [1; LONG_VALUE + 1_000];
    for number in 0..200 {
        cache.insert(key(number), long).unwrap();
        cache.touch(key(number), HOUR).unwrap();
    }
    let count = fill(&cache, 200);
    assert_refused(&cache);
    let _clock = ClockSet::ahead(2 * HOUR);
    for number in 0..200 {
        cache.insert(key(count + number), [2; LEN]).unwrap();
    }
    assert_eq!(cache.stats().unwrap().total.expired, 200);
}

// Another process may lower the bound, below what is there.
#[test]
fn lowered_bound_refuses_until_removals() {
    let (_dir, path) = place();
    let builder = Cache::builder(&path).max_bytes(4 * LIMIT);
    let cache = builder.eviction(Eviction::None).open().unwrap();
    for number in 0..8_000 {
        cache.insert(key(number), [1; LEN]).unwrap();
    }
    let other = refusing(&path).open().unwrap();
    for cache in [&cache, &other] {
        (0..50).for_each(|_| assert_refused(cache));
    }
    assert_eq!(cache.len_with_expired(), 8_000);
    for number in 0..6_500 {
        assert!(cache.remove(key(number)).unwrap());
    }
    other.insert("new", [2; LEN]).unwrap();
    let used = cache.disk_usage().unwrap().total();
    assert!(used <= LIMIT + (4 << 20), "{used}");
}

// Entries that have ended count, but not against new ones.
#[test]
fn ended_entries_leave_their_number() {
    let (_dir, path) = place();
    let builder = || {
        Cache::builder(&path)
            .max_entries(100)
            .eviction(Eviction::None)
    };
    let (cache, other) = (builder().open().unwrap(), builder().open().unwrap());
    for number in 0..100 {
        cache.insert_with(key(number), "1", &ttl(HOUR)).unwrap();
    }
    for cache in [&cache, &other] {
        let refused = cache.insert("new", "2").unwrap_err();
        assert!(matches!(
            refused.kind(),
            ErrorKind::TableFull { limit: 100 }
        ));
    }
    assert_eq!(cache.len_with_expired(), 100);
    let _clock = ClockSet::ahead(2 * HOUR);
    for number in 100..200 {
        other.insert(key(number), "2").unwrap();
    }
    let refused = cache.insert("new", "2").unwrap_err();
    assert!(matches!(
        refused.kind(),
        ErrorKind::TableFull { limit: 100 }
    ));
    assert_eq!(cache.len_with_expired(), 100);
}
