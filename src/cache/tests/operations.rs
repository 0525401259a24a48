//! Operations that decide by what is there, listings and batches.

use std::collections::BTreeMap;

use super::{HOUR, assert_close, expired, mark, place, ttl};
use crate::cache::{Cache, ComputeOptions, InsertOptions};
use crate::error::ErrorKind;

/// A cache with a fresh entry, one of each kind that has no value, and a handle of another process.
fn mixed() -> (tempfile::TempDir, Cache, Cache) {
    let (dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    cache.insert_with("fresh", "value", &ttl(HOUR)).unwrap();
    cache.insert_with("expired", "old", &expired()).unwrap();
    cache.insert_absent("negative", HOUR).unwrap();
    let other = Cache::open(&path).unwrap();
    (dir, cache, other)
}

// What is known not to exist is stored by neither of `add` and `replace`: it has no value to replace.
#[test]
fn replace_needs_a_fresh_value() {
    let (_dir, cache, other) = mixed();
    for key in ["absent", "expired", "negative"] {
        assert_eq!(other.replace(key, "new", &ttl(HOUR)).unwrap(), None);
        assert_eq!(cache.get(key).unwrap(), None, "{key}");
    }
    assert!(cache.entry("negative").unwrap().unwrap().is_negative());
    let version = other.replace("fresh", "new", &ttl(2 * HOUR)).unwrap();
    let entry = cache.entry("fresh").unwrap().unwrap();
    assert_eq!(
        (entry.value(), Some(entry.version())),
        (&b"new"[..], version)
    );
    assert_close(entry.remaining(), 2 * HOUR);
}

#[test]
fn take_gives_a_value_once() {
    let (_dir, cache, other) = mixed();
    for key in ["absent", "expired", "negative"] {
        assert_eq!(other.take(key).unwrap(), None, "{key}");
    }
    assert_eq!(cache.len_with_expired(), 1);
    let takers = [&cache, &other, &cache, &other];
    let taken: Vec<_> = std::thread::scope(|scope| {
        let started = takers.map(|cache| scope.spawn(|| cache.take("fresh").unwrap()));
        started.map(|taker| taker.join().unwrap()).to_vec()
    });
    let values: Vec<_> = taken.into_iter().flatten().collect();
    assert_eq!(values, [b"value"]);
    assert_eq!(cache.len_with_expired(), 0);
}

// What several writers store under one key: each value is replaced once, none is reported twice.
#[test]
fn swap_returns_each_value_once() {
    let (_dir, cache, other) = mixed();
    for key in ["absent", "expired", "negative"] {
        assert_eq!(other.swap(key, "new", &ttl(HOUR)).unwrap(), None, "{key}");
        assert_eq!(cache.get(key).unwrap().unwrap(), b"new");
    }
    let swapped: std::collections::BTreeSet<Vec<u8>> = std::thread::scope(|scope| {
        let swappers = [&cache, &other, &cache, &other].into_iter().zip(b"abcd");
        let started: Vec<_> = swappers
            .map(|(cache, value)| {
                scope.spawn(move || {
                    let mut replaced = Vec::new();
                    for number in 0..50 {
                        let value = [*value, number];
                        replaced.push(cache.swap("fresh", value, &ttl(HOUR)).unwrap().unwrap());
                    }
                    replaced
                })
            })
            .collect();
        let ended = started.into_iter().flat_map(|one| one.join().unwrap());
        ended.collect()
    });
    // Of the 200 values, all but the one that is there, and the first of all.
    let entry = cache.entry("fresh").unwrap().unwrap();
    assert_eq!(swapped.len(), 200);
    assert!(swapped.contains(&b"value"[..]) && !swapped.contains(entry.value()));
    assert_close(entry.remaining(), HOUR);
}

// A session: each use prolongs it, most of them without a write.
#[test]
fn uses_renew_by_a_tenth() {
    let (_dir, cache, other) = mixed();
    let renew = |key: &str, ttl| other.get_and_renew(key, ttl).unwrap();
    assert_eq!(renew("absent", HOUR), None);
    assert_eq!(renew("expired", HOUR), None);
    assert_eq!(renew("negative", HOUR), None);
    let version = cache.entry("fresh").unwrap().unwrap().version();
    let remaining = || {
        let entry = cache.entry("fresh").unwrap().unwrap();
        assert_eq!(entry.version(), version);
        entry.remaining().unwrap()
    };
    let writes = || cache.stats().unwrap().files.changes;
    let before = writes();
    // Nine tenths of a life are left, or more, or for ever.
    assert_eq!(renew("fresh", HOUR + HOUR / 10).unwrap(), b"value");
    assert_eq!(renew("fresh", HOUR / 2).unwrap(), b"value");
    assert_eq!((writes(), remaining() <= HOUR), (before, true));
    assert_eq!(renew("fresh", 2 * HOUR).unwrap(), b"value");
    assert_close(Some(remaining()), 2 * HOUR);
    let computing = ComputeOptions::new().renew(3 * HOUR);
    let found = other.get_or_insert_with("fresh", computing, || panic!("it is there") as String);
    assert_eq!(found.unwrap().value, b"value");
    assert_close(Some(remaining()), 3 * HOUR);
    cache.insert("eternal", "x").unwrap();
    assert_eq!(renew("eternal", HOUR).unwrap(), b"x");
    assert_eq!(cache.entry("eternal").unwrap().unwrap().remaining(), None);
    // Another writer is at work: the value is there at once, the renewal comes later.
    let batch = cache.writer().unwrap();
    assert_eq!(renew("fresh", 6 * HOUR).unwrap(), b"value");
    drop(batch);
    assert_close(Some(remaining()), 3 * HOUR);
}

// A stale value is there to be computed again: its use makes it fresh for no one.
#[test]
fn stale_values_are_not_renewed() {
    let (_dir, cache, other) = mixed();
    let stale = InsertOptions::new()
        .ttl(std::time::Duration::ZERO)
        .stale_for(HOUR);
    cache.insert_with("stale", "old", &stale).unwrap();
    let used = other.get_and_renew("stale", HOUR).unwrap();
    assert_eq!(used.as_deref(), Some(&b"old"[..]));
    assert!(cache.entry("stale").unwrap().unwrap().is_stale());
}

// A limit on requests: no addition is lost, and the minute that it counts does not begin again.
#[test]
fn increments_add_up_over_handles() {
    let (_dir, cache, other) = mixed();
    std::thread::scope(|scope| {
        for cache in [&cache, &other, &cache, &other] {
            scope.spawn(|| {
                for _ in 0..100 {
                    cache.increment("count", 3, &ttl(HOUR)).unwrap();
                }
            });
        }
    });
    let deadline = cache.entry("count").unwrap().unwrap().expires_at();
    assert_eq!(
        other.increment("count", -200, &ttl(9 * HOUR)).unwrap(),
        1_000
    );
    let entry = cache.entry("count").unwrap().unwrap();
    assert_eq!(entry.value(), 1_000_i64.to_le_bytes());
    assert_eq!(entry.expires_at(), deadline);
    for key in ["expired", "negative"] {
        assert_eq!(cache.increment(key, 7, &ttl(HOUR)).unwrap(), 7, "{key}");
        assert_close(cache.entry(key).unwrap().unwrap().remaining(), HOUR);
    }
}

#[test]
fn increments_refuse_what_they_would_spoil() {
    let (_dir, cache, _) = mixed();
    let options = InsertOptions::new();
    let refused = cache.increment("fresh", 1, &options).unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::NotACounter { len: 5 }));
    assert_eq!(cache.get("fresh").unwrap().unwrap(), b"value");
    for (value, by) in [(i64::MAX, 1), (i64::MIN, -1), (1, i64::MAX)] {
        cache.insert("count", value.to_le_bytes()).unwrap();
        let refused = cache.increment("count", by, &options).unwrap_err();
        match refused.into_kind() {
            ErrorKind::CounterOverflow {
                value: was,
                by: more,
            } => {
                assert_eq!((was, more), (value, by));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(cache.get("count").unwrap().unwrap(), value.to_le_bytes());
    }
    cache.insert("count", i64::MAX.to_le_bytes()).unwrap();
    assert_eq!(cache.increment("count", i64::MIN, &options).unwrap(), -1);
}

/// Fills a cache with entries of each kind, and returns the values that are fresh.
fn fill(cache: &Cache) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut values = BTreeMap::new();
    for i in 0..100_u8 {
        let (key, value) = (vec![i, 1], vec![i; usize::from(i)]);
        match i % 4 {
            0 => drop(cache.insert_with(&key, &value, &expired()).unwrap()),
            1 => drop(cache.insert_absent(&key, HOUR).unwrap()),
            2 => drop(cache.insert(&key, &value).unwrap()),
            _ => drop(cache.insert_with(&key, &value, &ttl(HOUR)).unwrap()),
        }
        if i % 4 >= 2 {
            values.insert(key, value);
        }
    }
    values
}

#[test]
fn lookups_of_all_kinds_agree() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    let values = fill(&cache);
    // Keys that have no entry too.
    let keys: Vec<_> = (0..120_u8).map(|i| vec![i, 1]).collect();
    let mut many = Vec::new();
    cache
        .get_many(&keys, |at, value| {
            assert_eq!(at, many.len());
            many.push(value.map(<[u8]>::to_vec));
        })
        .unwrap();
    assert_eq!(many.len(), keys.len());
    let mut buffer = b"left from before".to_vec();
    for (key, found) in keys.iter().zip(many) {
        assert_eq!(found.as_ref(), values.get(key), "{key:?}");
        let is_there = cache.get_into(key, &mut buffer).unwrap();
        assert_eq!(is_there.then_some(&buffer), values.get(key), "{key:?}");
        assert!(is_there || buffer.is_empty(), "{key:?}");
        assert_eq!(cache.get(key).unwrap().as_ref(), values.get(key));
    }
}

// The cache's own entries would look like a user's, and removing them would bring invalid items back.
#[test]
fn listings_have_fresh_entries_only() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    let values = fill(&cache);
    let id = cache.cache.handle().generation.load().ids.cache;
    let internal = [&id[..], b"g", &[7; 8]].concat();
    cache
        .cache
        .write(|writer| writer.put_bytes(&internal, b""))
        .unwrap();
    let similar = &internal[..15];
    cache.insert_absent(similar, HOUR).unwrap();
    let listed: Vec<_> = cache.entries().unwrap().map(Result::unwrap).collect();
    let (negative, positive): (Vec<_>, Vec<_>) = listed
        .into_iter()
        .partition(|(_, entry)| entry.is_negative());
    assert_eq!(negative.len(), 26);
    assert!(negative.iter().any(|(key, _)| key == similar));
    assert_eq!(positive.len(), values.len());
    let positive = positive
        .into_iter()
        .map(|(key, entry)| (key, entry.into_value()));
    assert_eq!(positive.collect::<BTreeMap<_, _>>(), values);
    let keys: Vec<_> = cache.keys().unwrap().map(Result::unwrap).collect();
    assert_eq!(keys.len(), 26 + values.len());
    assert!(values.keys().all(|key| keys.contains(key)));
}

#[test]
fn batches_hold_the_lock() {
    let (_dir, cache, other) = mixed();
    let mut batch = cache.writer().unwrap();
    batch.insert("new", "1").unwrap();
    batch.insert_with("hour", "2", &ttl(HOUR)).unwrap();
    assert!(batch.remove("fresh").unwrap());
    assert!(!batch.remove("expired").unwrap());
    assert!(!batch.remove("absent").unwrap());
    // Readers see each change at once; a second writer of this thread would wait for itself.
    assert_eq!(other.get("new").unwrap().unwrap(), b"1");
    assert_eq!(other.get("fresh").unwrap(), None);
    let refused = cache.insert("new", "2").unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::AlreadyWriting));
    assert!(batch.insert("", "no key").is_err());
    batch.commit().unwrap();
    assert_close(other.entry("hour").unwrap().unwrap().remaining(), HOUR);
    assert!(other.insert("new", "2").is_ok());
    assert_eq!(cache.len_with_expired(), 3);
}

// Otherwise a listing would make all entries look used, and eviction would know nothing.
#[test]
fn listings_use_no_entry() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    cache.insert("key", "value").unwrap();
    assert_eq!(cache.entries().unwrap().count(), 1);
    assert_eq!(cache.keys().unwrap().count(), 1);
    assert_eq!(cache.sweep().unwrap(), 0);
    assert_eq!(mark(&cache, b"key"), 0);
    cache.get("key").unwrap();
    assert_eq!(mark(&cache, b"key"), 1);
}

// An insertion may evict the very entry that it was to replace.
#[test]
fn entries_are_reported_once() {
    let (_dir, path) = place();
    let cache = Cache::builder(&path).max_bytes(64 << 20).open().unwrap();
    for number in 0..400_u32 {
        cache.insert(number.to_le_bytes(), [7; 100_000]).unwrap();
    }
    let (tell, heard) = std::sync::mpsc::channel();
    let cache = Cache::builder(&path)
        .max_bytes(8 << 20)
        .eviction(crate::Eviction::Fifo)
        .on_removal(move |key, cause, _| tell.send((key.to_vec(), cause)).unwrap())
        .open()
        .unwrap();
    let oldest = 0_u32.to_le_bytes();
    cache.insert(oldest, "new").unwrap();
    let mut causes = heard.try_iter().filter(|(key, _)| *key == oldest);
    assert_eq!(causes.next().unwrap().1, crate::RemovalCause::Evicted);
    assert_eq!(causes.next(), None);
}
