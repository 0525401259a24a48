//! The contract of `ConcurrentCached`, between threads and handles of one file.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use cached::{ConcurrentCacheBase, ConcurrentCached, SerializeCached};
use mmapcache_cached::MmapStore;
use mmapcache_cached::mmapcache::{ErrorKind, Format, MmapCache};
use serde::{Deserialize, Serialize, Serializer};
use tempfile::tempdir;

fn open(path: &Path) -> MmapStore<String, u32> {
    MmapStore::open(path).unwrap()
}

fn key(key: &str) -> String {
    key.to_owned()
}

// Other processes have handles of their own: none of the values may be lost between a get and a set.
#[test]
fn set_returns_each_value_once() {
    let dir = tempdir().unwrap();
    let stores = [open(&dir.path().join("s")), open(&dir.path().join("s"))];
    let replaced: Vec<u32> = thread::scope(|scope| {
        let setters: Vec<_> = (0..4)
            .map(|setter| {
                let store = &stores[setter as usize % 2];
                scope.spawn(move || {
                    let values = setter * 100..(setter + 1) * 100;
                    let set = values.map(|value| store.cache_set(key("k"), value).unwrap());
                    set.collect::<Vec<_>>()
                })
            })
            .collect();
        let ended = setters.into_iter().flat_map(|one| one.join().unwrap());
        ended.flatten().collect()
    });
    let last = stores[0].cache_get(&key("k")).unwrap().unwrap();
    let mut all: BTreeSet<u32> = replaced.iter().copied().collect();
    assert_eq!(replaced.len(), 399);
    assert!(all.insert(last));
    assert_eq!(all.len(), 400);
}

#[test]
fn removals_return_live_values() {
    let dir = tempdir().unwrap();
    let store = open(&dir.path().join("s"));
    for k in ["a", "b", "c"] {
        assert_eq!(store.cache_set(key(k), 1).unwrap(), None);
    }
    assert_eq!(store.cache_remove(&key("a")).unwrap(), Some(1));
    assert_eq!(store.cache_remove(&key("a")).unwrap(), None);
    let entry = store.cache_remove_entry(&key("b")).unwrap();
    assert_eq!(entry, Some((key("b"), 1)));
    assert_eq!(store.cache_remove_entry(&key("b")).unwrap(), None);
    assert!(store.cache_contains(&key("c")).unwrap());
    assert!(store.cache_delete(&key("c")).unwrap());
    assert!(!store.cache_delete(&key("c")).unwrap());
    assert!(!store.cache_contains(&key("c")).unwrap());
}

// A clear keeps what was counted, a reset does not; neither touches what other handles count.
#[test]
fn reset_counts_from_zero() {
    let dir = tempdir().unwrap();
    let store = open(&dir.path().join("s"));
    let other = open(&dir.path().join("s"));
    store.cache_set_ref(&key("a"), &1).unwrap();
    store.cache_set_ref(&key("b"), &2).unwrap();
    assert_eq!(store.cache_get(&key("a")).unwrap(), Some(1));
    assert_eq!(store.cache_get(&key("x")).unwrap(), None);
    assert_eq!(other.cache_get(&key("b")).unwrap(), Some(2));
    assert!(store.cache_delete(&key("b")).unwrap());
    let metrics = store.metrics();
    assert_eq!((metrics.hits, metrics.misses), (Some(1), Some(1)));
    assert_eq!((metrics.evictions, metrics.entry_count), (Some(1), Some(1)));
    assert_eq!(metrics.capacity, None);
    store.cache_clear().unwrap();
    assert_eq!(
        (store.cache_size().unwrap(), store.cache_hits()),
        (Some(0), Some(1))
    );
    assert_eq!(other.cache_get(&key("a")).unwrap(), None);
    store.cache_set_ref(&key("a"), &1).unwrap();
    store.cache_reset().unwrap();
    let metrics = store.metrics();
    assert_eq!((metrics.hits, metrics.misses), (Some(0), Some(0)));
    assert_eq!((metrics.evictions, metrics.entry_count), (Some(0), Some(0)));
    assert_eq!(
        (other.cache_hits(), other.cache_misses()),
        (Some(1), Some(1))
    );
}

// The method's own default would run each caller's closure.
#[test]
fn one_caller_computes() {
    let dir = tempdir().unwrap();
    let stores = [open(&dir.path().join("s")), open(&dir.path().join("s"))];
    let computed = AtomicU32::new(0);
    thread::scope(|scope| {
        for number in 0..8 {
            let (store, computed) = (&stores[number % 2], &computed);
            scope.spawn(move || {
                let value = store.cache_get_or_set_with(key("k"), || {
                    thread::sleep(Duration::from_millis(200));
                    computed.fetch_add(1, Ordering::Relaxed) + 7
                });
                assert_eq!(value.unwrap(), 7);
            });
        }
    });
    assert_eq!(computed.into_inner(), 1);
    // What was computed is a miss, the others are hits or were awaited.
    let misses: Option<u64> = stores.iter().map(ConcurrentCacheBase::cache_misses).sum();
    let hits: Option<u64> = stores.iter().map(ConcurrentCacheBase::cache_hits).sum();
    assert_eq!(misses.unwrap() + hits.unwrap(), 8);
}

#[test]
fn failures_are_not_stored() {
    let dir = tempdir().unwrap();
    let store = open(&dir.path().join("s"));
    let try_with = |result: Result<u32, &'static str>| {
        let found = store.cache_try_get_or_set_with(key("k"), || result);
        found.unwrap()
    };
    assert_eq!(try_with(Err("failed")), Err("failed"));
    assert_eq!(store.cache_size().unwrap(), Some(0));
    assert_eq!(try_with(Ok(1)), Ok(1));
    assert_eq!(try_with(Err("not called")), Ok(1));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    nick: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    mail: Option<String>,
}

// Fields have names in the files: one that is left out takes none of its neighbour's place.
#[test]
fn skipped_fields_stay_apart() {
    let dir = tempdir().unwrap();
    for format in Format::ALL {
        let path = dir.path().join(format.name().replace(' ', "-"));
        let store = MmapStore::<u8, User>::builder(path).format(format).open();
        let (store, mail) = (store.unwrap(), Some("a@b".to_owned()));
        let user = User { nick: None, mail };
        assert_eq!(store.cache_set(1, user.clone()).unwrap(), None);
        assert_eq!(store.cache_get(&1).unwrap(), Some(user), "{format:?}");
    }
}

// A program of another version wrote a value of another type: the function is called again.
#[test]
fn undecodable_values_are_misses() {
    let dir = tempdir().unwrap();
    let texts: MmapStore<String, String> = MmapStore::open(dir.path().join("s")).unwrap();
    let numbers = open(&dir.path().join("s"));
    texts.cache_set_ref(&key("k"), &"text".to_owned()).unwrap();
    assert_eq!(numbers.cache_get(&key("k")).unwrap(), None);
    assert!(!numbers.cache_contains(&key("k")).unwrap());
    assert_eq!(numbers.cache_get_or_set_with(key("k"), || 5).unwrap(), 5);
    assert_eq!(numbers.cache_get(&key("k")).unwrap(), Some(5));
    texts.cache_set_ref(&key("k"), &"text".to_owned()).unwrap();
    assert_eq!(numbers.cache_set(key("k"), 6).unwrap(), None);
}

// Two functions with equal arguments and one bound.
#[test]
fn names_keep_functions_apart() {
    let dir = tempdir().unwrap();
    let named = |name: &str, version| {
        let builder = MmapStore::<u32, u32>::builder(dir.path().join("s"));
        builder.name(name).version(version).open().unwrap()
    };
    let (squares, cubes, newer) = (named("square", 0), named("cube", 0), named("square", 1));
    squares.cache_set_ref(&3, &9).unwrap();
    cubes.cache_set_ref(&3, &27).unwrap();
    assert_eq!(squares.cache_get(&3).unwrap(), Some(9));
    assert_eq!(cubes.cache_get(&3).unwrap(), Some(27));
    assert_eq!(newer.cache_get(&3).unwrap(), None);
    assert_eq!(squares.cache_size().unwrap(), None);
    squares.cache_clear().unwrap();
    assert_eq!(squares.cache_get(&3).unwrap(), None);
    assert_eq!(cubes.cache_get(&3).unwrap(), Some(27));
    squares.cache_set_ref(&3, &9).unwrap();
    assert_eq!(squares.cache_get(&3).unwrap(), Some(9));
}

// What is on disk is found by every later release: the bytes of a key are a format.
#[test]
fn stored_keys_stay_as_they_are() {
    let dir = tempdir().unwrap();
    let store: MmapStore<(String, u64), u32> = MmapStore::builder(dir.path().join("s"))
        .name("f")
        .version(2)
        .open()
        .unwrap();
    let stored = store.stored_key(&(key("ab"), 300)).unwrap();
    assert_eq!(stored, b"f/2/\x92\xa2ab\xcd\x01\x2c\x01\0\0\0\0\0\0\0");
    store.cache_set_ref(&(key("ab"), 300), &1).unwrap();
    assert!(store.cache().contains(&stored).unwrap());
}

#[derive(Clone)]
struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("it has no form"))
    }
}

#[test]
fn unusable_keys_are_errors() {
    let dir = tempdir().unwrap();
    let store = open(&dir.path().join("s"));
    let long = "x".repeat(70_000);
    let error = store.cache_get(&long).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::KeyLength { .. }),
        "{error}"
    );
    assert!(store.cache_set(long, 1).is_err());
    let store: MmapStore<Unwritable, u32> = MmapStore::open(dir.path().join("s")).unwrap();
    let error = store.cache_get(&Unwritable).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Encode { .. }), "{error}");
    assert!(error.to_string().contains("it has no form"), "{error}");
}

#[test]
fn other_files_are_refused() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("s");
    MmapCache::open(&path).unwrap().put(b"k", b"v").unwrap();
    let error = MmapStore::<String, u32>::open(&path).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::OtherType { .. }),
        "{error}"
    );
    let builder = MmapStore::<String, u32>::builder(dir.path().join("t"));
    let error = builder.max_bytes(5).open().unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::InvalidOption { .. }),
        "{error}"
    );
}

// Results of 11 KiB, three times as many as there is room for.
#[test]
fn bounds_hold_by_eviction() {
    const BYTES: u64 = 8 << 20;
    let dir = tempdir().unwrap();
    let store: MmapStore<u32, Vec<u32>> = MmapStore::builder(dir.path().join("s"))
        .max_bytes(BYTES)
        .format(Format::Json)
        .open()
        .unwrap();
    for number in 0..2_500 {
        let value = vec![number + 1_000_000_000; 1_000];
        store.cache_set_ref(&number, &value).unwrap();
    }
    let used = store.cache().disk_usage().unwrap().total();
    assert!(used <= BYTES + (4 << 20), "{used}");
    assert!(store.cache_evictions().unwrap() > 1_500);
    assert_eq!(store.cache_capacity(), None);
    let newest = store.cache_get(&2_499).unwrap().unwrap();
    assert_eq!(newest[0], 1_000_002_499);
    let limited = MmapStore::<u32, u32>::builder(dir.path().join("t")).max_entries(100);
    assert_eq!(limited.open().unwrap().cache_capacity(), Some(100));
}
