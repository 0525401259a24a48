//! Deadlines of long values, which a touch stores apart from the entry.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::cache::deadlines::{self, Apart};
use crate::cache::tests::*;
use crate::engine::Version;
use crate::format::internal::{LONG_VALUE, LONGEST_KEY};
use crate::sync::failpoint;

const LONG: [u8; 5_000] = [7; 5_000];

fn has_deadlines(cache: &Cache) -> bool {
    let generation = cache.cache.handle().generation.load_full();
    generation.header().has_deadlines()
}

fn written_bytes(cache: &Cache) -> u64 {
    let generation = cache.cache.handle().generation.load_full();
    let header = generation.header();
    header.tail().bytes() + header.heap_base()
}

#[test]
fn touch_writes_no_long_value() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    let other = Cache::open(&path).unwrap();
    let options = ttl(HOUR).tag("a");
    let version = cache.insert_with("key", LONG, &options).unwrap();
    assert!(!has_deadlines(&cache));
    let before = written_bytes(&cache);
    for (hours, written) in [(2, 1), (1, 2)] {
        assert!(cache.touch("key", hours * HOUR).unwrap());
        assert!(written_bytes(&cache) - before < written * 100);
        for cache in [&cache, &other] {
            let entry = cache.entry("key").unwrap().unwrap();
            assert_eq!((entry.value(), entry.version()), (&LONG[..], version));
            assert!(entry.has_tag("a"));
            assert_close(entry.remaining(), hours * HOUR);
        }
    }
    assert!(has_deadlines(&other));
    assert!(cache.persist("key").unwrap());
    assert_eq!(other.entry("key").unwrap().unwrap().expires_at(), None);
    assert!(cache.touch("key", Duration::ZERO).unwrap());
    assert_eq!(other.get("key").unwrap(), None);
    assert!(!other.touch("key", HOUR).unwrap());
    // The shortest long value, and the longest short one.
    for (len, is_apart) in [(LONG_VALUE + 1, true), (LONG_VALUE, false)] {
        cache.insert_with("key", &LONG[..len], &options).unwrap();
        let before = written_bytes(&cache);
        assert!(cache.touch("key", 2 * HOUR).unwrap());
        assert_eq!(written_bytes(&cache) - before < 1_000, is_apart, "{len}");
        let entry = cache.entry("key").unwrap().unwrap();
        assert_eq!(entry.value().len(), len);
        assert_close(entry.remaining(), 2 * HOUR);
    }
}

#[test]
fn stored_deadlines_end_with_their_entry() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    cache.insert("key", LONG).unwrap();
    assert!(cache.touch("key", Duration::ZERO).unwrap());
    cache.insert("key", LONG).unwrap();
    assert_eq!(cache.entry("key").unwrap().unwrap().expires_at(), None);
    assert_eq!(cache.len_with_expired(), 2);
    // It belongs to no entry any more.
    assert_eq!(cache.sweep().unwrap(), 0);
    assert_eq!(cache.len_with_expired(), 1);
    assert!(cache.touch("key", HOUR).unwrap());
    assert_eq!(cache.sweep().unwrap(), 0);
    assert_close(cache.entry("key").unwrap().unwrap().remaining(), HOUR);
    assert!(cache.remove("key").unwrap());
    assert_eq!(cache.len_with_expired(), 0);
    cache.insert("key", LONG).unwrap();
    assert!(cache.touch("key", Duration::ZERO).unwrap());
    // The entry first, then its deadline.
    assert_eq!(
        (cache.sweep().unwrap(), cache.get("key").unwrap()),
        (1, None)
    );
    assert_eq!(cache.sweep().unwrap(), 0);
    assert_eq!(cache.len_with_expired(), 0);
}

// The deadline may be removed between the two lookups of a reader.
#[test]
fn replaced_entries_are_read_again() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    let look_up = |version: Version| {
        let handle = cache.cache.handle();
        deadlines::look_up(handle, b"key", version.0).unwrap()
    };
    let first = cache.insert("key", LONG).unwrap();
    assert_eq!(look_up(first), Apart::Nothing);
    assert!(cache.touch("key", Duration::ZERO).unwrap());
    assert!(matches!(look_up(first), Apart::Deadline(Some(_))));
    let second = cache.insert("key", LONG).unwrap();
    assert_eq!(look_up(second), Apart::Nothing);
    assert!(cache.persist("key").unwrap());
    assert_eq!(look_up(second), Apart::Deadline(None));
    assert_eq!(look_up(first), Apart::Replaced);
    assert!(cache.remove("key").unwrap());
    assert_eq!(look_up(second), Apart::Replaced);
}

// A deadline's key would be longer than keys can be.
#[test]
fn longest_keys_are_touched_in_place() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    for len in [LONGEST_KEY, LONGEST_KEY + 1, crate::format::MAX_KEY] {
        let key = vec![b'k'; len];
        cache.insert_with(&key, LONG, &ttl(HOUR)).unwrap();
        assert!(cache.touch(&key, 2 * HOUR).unwrap());
        let entry = cache.entry(&key).unwrap().unwrap();
        assert_close(entry.remaining(), 2 * HOUR);
        assert!(cache.touch(&key, Duration::ZERO).unwrap());
        assert!(!cache.contains(&key).unwrap());
    }
}

#[track_caller]
fn assert_ended(cache: &Cache) {
    assert_eq!(cache.get("ended").unwrap(), None);
    let hour = cache.entry("hour").unwrap().unwrap();
    assert_close(hour.remaining(), HOUR);
    let entry = cache.entry("untouched").unwrap().unwrap();
    assert_close(entry.remaining(), 10 * HOUR);
}

#[test]
fn stored_deadlines_outlive_every_rewrite() {
    let (dir, path) = place();
    let cache = Cache::open_with(&path, &tiny()).unwrap();
    let copy = |name: &str| {
        let copy = dir.path().join(name);
        cache.backup().to(&copy).unwrap();
        Cache::open(&copy).unwrap()
    };
    for key in ["ended", "hour", "untouched"] {
        cache.insert_with(key, LONG, &ttl(10 * HOUR)).unwrap();
    }
    assert!(!has_deadlines(&copy("before")), "none was stored");
    assert!(cache.touch("ended", Duration::ZERO).unwrap());
    assert!(cache.touch("hour", HOUR).unwrap());
    for i in 0..300_u32 {
        cache.insert(format!("later {}", i % 50), [8; 90]).unwrap();
    }
    assert_ended(&cache);
    assert_ended(&copy("after"));
    cache.cache.compact().unwrap();
    assert_ended(&cache);
    let mut writer = cache.cache.writer().unwrap();
    writer.rewrite_heap().unwrap();
    drop(writer);
    assert_ended(&cache);
    // Cleaning has given the records their deadlines. One more is stored apart; the header may be
    // older than the heap, so the rebuild goes by the heap.
    assert!(cache.touch("hour", HOUR).unwrap());
    let rebuild = |has: bool| {
        let mut writer = cache.cache.writer().unwrap();
        let generation = cache.cache.handle().generation.load_full();
        crate::engine::write::cache_words::set_has_deadlines(generation.header(), has);
        writer.session().recover("a test").unwrap();
    };
    rebuild(false);
    assert_ended(&cache);
    assert!(has_deadlines(&cache));
    assert!(cache.verify().run().unwrap().is_clean());
    for key in ["ended", "hour"] {
        cache.insert(key, "short").unwrap();
    }
    cache.sweep().unwrap();
    cache.cache.compact().unwrap();
    rebuild(true);
    assert!(!has_deadlines(&cache), "the heap has none");
}

#[test]
fn stored_deadlines_survive_lost_indexes() {
    let (_dir, path) = place();
    let cache = Cache::open_with(&path, &tiny()).unwrap();
    for key in ["ended", "hour", "untouched"] {
        cache.insert_with(key, LONG, &ttl(10 * HOUR)).unwrap();
    }
    assert!(cache.touch("ended", Duration::ZERO).unwrap());
    assert!(cache.touch("hour", HOUR).unwrap());
    drop(cache);
    std::fs::remove_file(&path).unwrap();
    Repair::new(&path).run().unwrap();
    assert_ended(&Cache::open(&path).unwrap());
}

// Killed anywhere, a touch has happened or not.
#[test]
fn stopped_touch_is_atomic() {
    for steps in 0.. {
        let (_dir, path) = place();
        let cache = Cache::open(&path).unwrap();
        cache.insert_with("key", LONG, &ttl(10 * HOUR)).unwrap();
        let reader = Cache::open_with(&path, Options::new().read_only(true)).unwrap();
        failpoint::set(steps);
        let touched = || cache.touch("key", Duration::ZERO).unwrap();
        let outcome = catch_unwind(AssertUnwindSafe(touched));
        failpoint::clear();
        drop(cache);
        let seen = reader.contains("key").unwrap();
        let next = Cache::open(&path).unwrap();
        next.insert("after", "").unwrap();
        for cache in [&reader, &next] {
            let now = cache.contains("key").unwrap();
            assert!(seen || !now, "step {steps}: undone after it was seen");
        }
        if let Some(entry) = next.entry("key").unwrap() {
            assert_eq!(entry.value(), LONG, "step {steps}");
            assert_close(entry.remaining(), 10 * HOUR);
        }
        assert!(next.verify().run().unwrap().is_clean(), "step {steps}");
        if outcome.is_ok() {
            assert!(!seen && steps > 10, "{steps}");
            return;
        }
        if next.contains("key").unwrap() {
            assert!(next.touch("key", Duration::ZERO).unwrap());
        }
        assert!(!reader.contains("key").unwrap(), "step {steps}");
    }
}
