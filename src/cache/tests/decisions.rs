//! Changes that are decided under the lock: by version, by a closure, in a batch.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;

use crate::cache::tests::*;
use crate::engine::{RemovalCause, Update, Version};
use crate::format::internal::LONG_VALUE;

/// A cache with a fresh, a stale, an expired and a negative entry, and a handle of another process.
fn mixed() -> (TempDir, Cache, Cache) {
    let (dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    cache.insert_with("fresh", "value", &ttl(HOUR)).unwrap();
    let stale = ttl(Duration::ZERO).stale_for(HOUR);
    cache.insert_with("stale", "late", &stale).unwrap();
    cache.insert_with("expired", "old", &expired()).unwrap();
    cache.insert_absent("negative", HOUR).unwrap();
    let other = Cache::open(&path).unwrap();
    (dir, cache, other)
}

fn version(cache: &Cache, key: &str) -> Version {
    let entry = cache.stored_entry(key).unwrap();
    entry.map_or(Version(7), |entry| entry.version())
}

fn value(cache: &Cache, key: &str) -> Option<Vec<u8>> {
    cache.get(key).unwrap()
}

#[test]
fn insert_if_needs_the_version() {
    let (_dir, cache, other) = mixed();
    for key in ["fresh", "stale", "negative"] {
        let seen = version(&cache, key);
        for wrong in [Version(seen.0 - 1), Version(seen.0 + 1), Version(0)] {
            let refused = other.insert_if(key, "new", wrong, &ttl(HOUR)).unwrap();
            assert_eq!((refused, version(&cache, key)), (None, seen), "{key}");
        }
        let stored = other.insert_if(key, "new", seen, &ttl(2 * HOUR)).unwrap();
        let entry = cache.entry(key).unwrap().unwrap();
        assert_eq!(
            (entry.value(), Some(entry.version())),
            (&b"new"[..], stored)
        );
        assert_close(entry.remaining(), 2 * HOUR);
        // The version that it replaced is of no use any more.
        assert_eq!(
            other.insert_if(key, "late", seen, &ttl(HOUR)).unwrap(),
            None
        );
        assert_eq!(value(&cache, key).unwrap(), b"new");
    }
    // What has ended has no version, though its record is there.
    for key in ["expired", "absent"] {
        let seen = version(&cache, key);
        assert_eq!(other.insert_if(key, "new", seen, &ttl(HOUR)).unwrap(), None);
        assert_eq!(value(&cache, key), None, "{key}");
    }
}

#[test]
fn remove_if_needs_the_version() {
    let (_dir, cache, other) = mixed();
    for key in ["fresh", "stale", "negative"] {
        let seen = version(&cache, key);
        assert!(!other.remove_if(key, Version(seen.0 + 1)).unwrap(), "{key}");
        assert!(cache.entry(key).unwrap().is_some(), "{key}");
        // A touch is no change of the value.
        assert!(cache.touch(key, 2 * HOUR).unwrap());
        assert!(other.remove_if(key, seen).unwrap(), "{key}");
        assert_eq!(cache.entry(key).unwrap(), None, "{key}");
        assert!(!other.remove_if(key, seen).unwrap(), "{key}");
    }
    for key in ["expired", "absent"] {
        assert!(!other.remove_if(key, version(&cache, key)).unwrap());
    }
    assert_eq!(cache.len_with_expired(), 1);
}

#[test]
fn update_stores_removes_and_keeps() {
    let (_dir, cache, other) = mixed();
    let mut seen = Vec::new();
    for key in ["fresh", "stale", "negative", "expired", "absent"] {
        let kept = other.update(key, |entry| {
            let state = entry.map(|entry| (entry.value().to_vec(), entry.is_negative()));
            seen.push(state.map(|(value, is_negative)| (value.len(), is_negative)));
            Update::Keep
        });
        assert_eq!(kept.unwrap(), None, "{key}");
    }
    assert_eq!(
        seen,
        [
            Some((5, false)),
            Some((4, false)),
            Some((0, true)),
            None,
            None
        ]
    );
    assert_eq!(value(&cache, "fresh").unwrap(), b"value");
    for (key, len) in [("fresh", 4), ("expired", 3), ("absent", 3)] {
        let stored = other.update(key, |_| Update::Put((b"new".to_vec(), ttl(2 * HOUR))));
        let entry = cache.entry(key).unwrap().unwrap();
        assert_eq!(
            (entry.value(), Some(entry.version())),
            (&b"new"[..], stored.unwrap())
        );
        assert_close(entry.remaining(), 2 * HOUR);
        assert_eq!(other.update(key, |_| Update::Delete).unwrap(), None);
        assert_eq!(value(&cache, key), None);
        // Of the four that were there; an expired entry goes as well.
        assert_eq!(
            cache.len_with_expired(),
            len - u64::from(key == "absent"),
            "{key}"
        );
    }
    assert_eq!(other.update("absent", |_| Update::Delete).unwrap(), None);
}

// A counter of another type than the built-in one: no addition is lost, and the hour that it counts goes
// on.
#[test]
fn updates_add_up_over_handles() {
    let (_dir, cache, other) = mixed();
    let add = |cache: &Cache| {
        let added = cache.update("count", |entry| {
            let Some(entry) = entry else {
                return Update::Put((b"1".to_vec(), ttl(HOUR).tag("counts")));
            };
            let was: u128 = std::str::from_utf8(entry.value()).unwrap().parse().unwrap();
            Update::Put(((was + 1).to_string().into(), entry.insert_options()))
        });
        assert!(added.unwrap().is_some());
    };
    add(&cache);
    let deadline = cache.entry("count").unwrap().unwrap().expires_at();
    std::thread::scope(|scope| {
        for cache in [&cache, &other, &cache, &other] {
            scope.spawn(|| (0..100).for_each(|_| add(cache)));
        }
    });
    let entry = other.entry("count").unwrap().unwrap();
    assert_eq!((entry.value(), entry.expires_at()), (&b"401"[..], deadline));
    cache.invalidate_tag("counts").unwrap();
    add(&other);
    assert_eq!(value(&cache, "count").unwrap(), b"1");
}

// All that is stored with an entry, a touched deadline too, which a long value has apart.
#[test]
fn insert_options_repeat_the_entry() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    for len in [3, LONG_VALUE + 1] {
        let options = ttl(HOUR).tag("t").namespace("n").stale_for(2 * HOUR);
        let options = options.cost(Duration::from_millis(7));
        cache.insert_with("key", vec![1; len], &options).unwrap();
        cache.touch("key", 5 * HOUR).unwrap();
        let before = cache.entry("key").unwrap().unwrap();
        cache
            .update("key", |entry| {
                Update::Put((vec![2; len + 1], entry.unwrap().insert_options()))
            })
            .unwrap();
        let after = cache.entry("key").unwrap().unwrap();
        assert_eq!(after.value(), vec![2; len + 1]);
        assert!(after.version() > before.version());
        assert_eq!(after.expires_at(), before.expires_at());
        assert_close(after.remaining(), 5 * HOUR);
        assert!(after.has_tag("t") && after.has_namespace("n"));
        assert_eq!(after.stale_for(), Some(2 * HOUR));
        assert_eq!(after.cost(), Some(Duration::from_millis(7)));
        // Some of it changed, by the setters.
        let forever = after.insert_options().no_expiry().tag("u");
        cache.insert_with("key", "3", &forever).unwrap();
        let last = cache.entry("key").unwrap().unwrap();
        assert_eq!((last.expires_at(), last.has_tag("u")), (None, true));
        assert!(last.has_namespace("n") && last.cost().is_some());
        let again = last.insert_options();
        cache.insert_with("key", "4", &again).unwrap();
        assert_eq!(cache.entry("key").unwrap().unwrap().expires_at(), None);
    }
}

// Lookups go on renewing a deadline of which the options were taken, and leave a touched one alone.
#[test]
fn insert_options_keep_idle_times() {
    let (_dir, path) = place();
    let cache = Cache::builder(&path).time_to_idle(HOUR).open().unwrap();
    cache.insert("idle", "1").unwrap();
    cache.insert("touched", "1").unwrap();
    cache.touch("touched", HOUR).unwrap();
    for key in ["idle", "touched"] {
        let again = |entry: Option<&crate::CacheEntry>| {
            Update::Put((b"2".to_vec(), entry.unwrap().insert_options()))
        };
        cache.update(key, again).unwrap();
    }
    let _clock = ClockSet::ahead(HOUR / 2);
    for (key, left) in [("idle", HOUR), ("touched", HOUR / 2)] {
        assert_eq!(value(&cache, key).unwrap(), b"2");
        assert_close(cache.peek_entry(key).unwrap().unwrap().remaining(), left);
    }
}

#[test]
fn panic_in_a_decision_changes_nothing() {
    let (_dir, cache, other) = mixed();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        cache.update("fresh", |_| panic!("the caller's"))
    }));
    assert!(panicked.is_err());
    assert_eq!(value(&other, "fresh").unwrap(), b"value");
    // The lock is free again.
    other.insert("fresh", "new").unwrap();
    assert_eq!(value(&cache, "fresh").unwrap(), b"new");
}

#[test]
fn decisions_read_and_never_write() {
    let (_dir, cache, _other) = mixed();
    let decided = cache.update("fresh", |_| {
        let refused = cache.insert("stale", "new").unwrap_err();
        assert!(matches!(refused.kind(), ErrorKind::AlreadyWriting));
        Update::Put((value(&cache, "stale").unwrap(), InsertOptions::new()))
    });
    assert!(decided.unwrap().is_some());
    assert_eq!(value(&cache, "fresh").unwrap(), b"late");
}

// An error says that nothing was changed, so nothing is.
#[test]
fn refused_decisions_change_nothing() {
    let (_dir, path) = place();
    let cache = Cache::builder(&path).max_bytes(1 << 20).open().unwrap();
    cache.insert("key", "value").unwrap();
    let huge = || Update::Put((vec![0; 1 << 20], InsertOptions::new()));
    let refused = cache.update("key", |_| huge()).unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::ValueTooLarge { .. }));
    let mut batch = cache.writer().unwrap();
    let refused = batch.update("key", |_| huge()).unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::ValueTooLarge { .. }));
    drop(batch);
    assert_eq!(value(&cache, "key").unwrap(), b"value");
    for refused in [
        cache.update("", |_| panic!("asked about no key")).err(),
        cache.insert_if("", "", Version(1), &ttl(HOUR)).err(),
        cache.remove_if("", Version(1)).err(),
        cache.peek("").err(),
        cache.peek_entry("").err(),
    ] {
        let refused = refused.expect("a refusal");
        assert!(
            matches!(refused.kind(), ErrorKind::KeyLength { .. }),
            "{refused}"
        );
    }
}

#[test]
fn batches_read_what_they_wrote() {
    let (_dir, cache, other) = mixed();
    let mut batch = cache.writer().unwrap();
    let first = batch.insert_with("new", "1", &ttl(HOUR)).unwrap();
    let entry = batch.entry("new").unwrap().unwrap();
    assert_eq!((entry.value(), entry.version()), (&b"1"[..], first));
    assert_eq!(batch.add("new", "2", &ttl(HOUR)).unwrap(), None);
    assert_eq!(batch.replace("absent", "2", &ttl(HOUR)).unwrap(), None);
    assert_eq!(batch.replace("negative", "2", &ttl(HOUR)).unwrap(), None);
    let second = batch.replace("new", "2", &ttl(HOUR)).unwrap().unwrap();
    assert_eq!(
        batch.insert_if("new", "3", first, &ttl(HOUR)).unwrap(),
        None
    );
    assert!(!batch.remove_if("new", first).unwrap());
    let third = batch.insert_if("new", "3", second, &ttl(HOUR)).unwrap();
    let fourth = batch.update("new", |entry| {
        let entry = entry.unwrap();
        assert_eq!((entry.value(), Some(entry.version())), (&b"3"[..], third));
        Update::Put((b"4".to_vec(), entry.insert_options()))
    });
    // Other handles read each change as it is made.
    assert_eq!(value(&other, "new").unwrap(), b"4");
    assert!(batch.remove_if("new", fourth.unwrap().unwrap()).unwrap());
    assert_eq!(batch.entry("new").unwrap(), None);
    assert!(batch.add("new", "5", &ttl(HOUR)).unwrap().is_some());
    assert_eq!(batch.update("fresh", |_| Update::Delete).unwrap(), None);
    assert!(batch.entry("expired").unwrap().is_none());
    assert!(batch.entry("negative").unwrap().unwrap().is_negative());
    batch.commit().unwrap();
    assert_eq!(value(&other, "new").unwrap(), b"5");
    assert_eq!(value(&other, "fresh"), None);
}

// A batch that reads an entry uses it, as a lookup of the cache does.
#[test]
fn lookups_of_batches_are_uses() {
    let (_dir, path) = place();
    let cache = Cache::builder(&path).time_to_idle(HOUR).open().unwrap();
    cache.insert("key", "value").unwrap();
    let _clock = ClockSet::ahead(HOUR / 2);
    let mut batch = cache.writer().unwrap();
    assert_eq!(batch.entry("key").unwrap().unwrap().value(), b"value");
    assert_eq!(batch.entry("none").unwrap(), None);
    batch.commit().unwrap();
    let entry = cache.peek_entry("key").unwrap().unwrap();
    assert_close(entry.remaining(), HOUR);
    let counts = cache.stats().unwrap().handle;
    assert_eq!((counts.hits, counts.misses), (1, 1));
}

#[test]
fn peek_uses_no_entry() {
    let (_dir, path) = place();
    let cache = Cache::builder(&path).time_to_idle(HOUR).open().unwrap();
    cache.insert("key", "value").unwrap();
    cache.insert_with("expired", "old", &expired()).unwrap();
    cache.insert_absent("negative", HOUR).unwrap();
    let _clock = ClockSet::ahead(HOUR / 2);
    for _ in 0..3 {
        assert_eq!(cache.peek("key").unwrap().unwrap(), b"value");
        assert_eq!(cache.peek_entry("key").unwrap().unwrap().value(), b"value");
        for key in ["expired", "absent"] {
            assert_eq!(cache.peek(key).unwrap(), None, "{key}");
            assert_eq!(cache.peek_entry(key).unwrap(), None, "{key}");
        }
        assert_eq!(cache.peek("negative").unwrap(), None);
        assert!(cache.peek_entry("negative").unwrap().unwrap().is_negative());
    }
    let entry = cache.peek_entry("key").unwrap().unwrap();
    assert_close(entry.remaining(), HOUR / 2);
    assert_eq!(mark(&cache, b"key"), 0);
    let counts = cache.stats().unwrap().handle;
    assert_eq!(counts.lookups(), 0);
    // What a lookup does.
    assert_eq!(value(&cache, "key").unwrap(), b"value");
    assert_eq!(
        (mark(&cache, b"key"), cache.stats().unwrap().handle.hits),
        (1, 1)
    );
    assert_close(cache.peek_entry("key").unwrap().unwrap().remaining(), HOUR);
}

#[test]
fn decisions_are_reported_as_removals() {
    let (_dir, path) = place();
    let (tell, heard) = mpsc::channel();
    let cache = Cache::builder(&path)
        .on_removal(move |key, cause, len| tell.send((key.to_vec(), cause, len)).unwrap())
        .open()
        .unwrap();
    let seen = cache.insert("key", "value").unwrap();
    let seen = cache
        .insert_if("key", "longer value", seen, &ttl(HOUR))
        .unwrap();
    let stored = cache.update("key", |_| Update::Put((vec![7; 3], ttl(HOUR))));
    assert!(!cache.remove_if("key", seen.unwrap()).unwrap());
    assert!(cache.remove_if("key", stored.unwrap().unwrap()).unwrap());
    cache.insert_with("past", "old", &expired()).unwrap();
    cache.update("past", |_| Update::Delete).unwrap();
    let expected = [
        ("key", RemovalCause::Replaced, 5),
        ("key", RemovalCause::Replaced, 12),
        ("key", RemovalCause::Removed, 3),
        ("past", RemovalCause::Expired, 3),
    ];
    let expected = expected.map(|(key, cause, len)| (key.as_bytes().to_vec(), cause, len));
    assert!(heard.try_iter().eq(expected));
}
