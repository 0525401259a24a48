//! Deadlines: of a store, of its entries, and as hits prolong them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use cached::{
    ConcurrentCacheBase, ConcurrentCacheEvict, ConcurrentCacheRefreshOnHit, ConcurrentCacheTtl,
    ConcurrentCached, SerializeCached,
};
use mmapcache_cached::MmapStore;
use tempfile::tempdir;

const HOUR: Duration = Duration::from_secs(3_600);

fn open(path: &Path, ttl: Duration) -> MmapStore<u32, u32> {
    MmapStore::builder(path).ttl(ttl).open().unwrap()
}

fn remaining(store: &MmapStore<u32, u32>, key: u32) -> Option<Duration> {
    let entry = store.cache().stored_entry(store.stored_key(&key).unwrap());
    entry.unwrap().unwrap().remaining()
}

fn assert_close(remaining: Option<Duration>, expected: Duration) {
    let remaining = remaining.unwrap();
    let gone = expected.checked_sub(remaining);
    assert!(
        gone.is_some_and(|gone| gone < Duration::from_secs(60)),
        "{remaining:?}"
    );
}

// An expired value is no value: it is neither returned nor replaced, also not for another handle.
#[test]
fn entries_end_at_their_deadline() {
    let dir = tempdir().unwrap();
    let store = open(&dir.path().join("s"), Duration::from_millis(1_500));
    let other = open(&dir.path().join("s"), HOUR);
    assert_eq!(store.cache_set(1, 10).unwrap(), None);
    assert_eq!(store.cache_set(2, 20).unwrap(), None);
    assert_eq!(other.cache_get(&1).unwrap(), Some(10));
    sleep(Duration::from_millis(1_600));
    assert_eq!(other.cache_get(&1).unwrap(), None);
    assert!(!store.cache_contains(&1).unwrap());
    assert_eq!(other.cache_set(1, 11).unwrap(), None);
    assert_eq!(store.cache_remove_entry(&2).unwrap(), None);
    assert_eq!(store.cache_get(&1).unwrap(), Some(11));
}

#[test]
fn lives_belong_to_the_store() {
    let dir = tempdir().unwrap();
    let store = open(&dir.path().join("s"), HOUR);
    let clone = store.clone();
    let other = open(&dir.path().join("s"), 2 * HOUR);
    store.cache_set_ref(&1, &1).unwrap();
    assert_eq!(store.set_ttl(3 * HOUR), Some(HOUR));
    assert_eq!((clone.ttl(), other.ttl()), (Some(3 * HOUR), Some(2 * HOUR)));
    clone.cache_set_ref(&2, &2).unwrap();
    other.cache_set_ref(&3, &3).unwrap();
    assert_close(remaining(&store, 1), HOUR);
    assert_close(remaining(&store, 2), 3 * HOUR);
    assert_close(remaining(&store, 3), 2 * HOUR);
    assert_eq!(store.unset_ttl(), Some(3 * HOUR));
    store.cache_set_ref(&4, &4).unwrap();
    assert_eq!((store.ttl(), remaining(&store, 4)), (None, None));
    assert_eq!(store.set_ttl(HOUR), None);
    assert!(store.try_set_ttl(Duration::ZERO).is_err());
    assert_eq!(store.set_ttl(Duration::ZERO), Some(HOUR));
    assert_eq!(store.ttl(), None);
    store.set_ttl(Duration::MAX);
    store.cache_set_ref(&5, &5).unwrap();
    assert_eq!(remaining(&store, 5), None);
}

// The files may have a default, for other programs.
#[test]
fn default_life_is_not_used() {
    let dir = tempdir().unwrap();
    let store = MmapStore::<u32, u32>::builder(dir.path().join("s"));
    let store = store.configure(|cache| cache.time_to_live(HOUR));
    let store = store.open().unwrap();
    store.cache_set_ref(&1, &1).unwrap();
    assert_eq!(store.cache_get_or_set_with(2, || 2).unwrap(), 2);
    assert_eq!((remaining(&store, 1), remaining(&store, 2)), (None, None));
}

// A life of an hour whose entry has less than nine tenths left is renewed, once; other hits write
// nothing.
#[test]
fn hits_renew_by_a_tenth() {
    let dir = tempdir().unwrap();
    let store = open(&dir.path().join("s"), HOUR);
    let writes = || store.cache().stats().unwrap().files.changes;
    store.cache_set_ref(&1, &1).unwrap();
    let key = store.stored_key(&1).unwrap();
    assert!(store.cache().touch(&key, HOUR / 2).unwrap());
    let before = writes();
    assert_eq!(store.cache_get(&1).unwrap(), Some(1));
    assert_eq!(writes(), before);
    assert!(!store.refresh_on_hit());
    assert!(!store.set_refresh_on_hit(true));
    assert!(store.refresh_on_hit());
    assert!(store.cache_contains(&1).unwrap());
    assert_eq!(writes(), before);
    assert_eq!(store.cache_get(&1).unwrap(), Some(1));
    assert_close(remaining(&store, 1), HOUR);
    let renewed = writes();
    assert!(renewed > before);
    for _ in 0..1_000 {
        assert_eq!(store.cache_get(&1).unwrap(), Some(1));
    }
    assert_eq!(writes(), renewed);
    assert!(store.cache().touch(&key, HOUR / 2).unwrap());
    let found = store.cache_get_or_set_with(1, || panic!("it is there"));
    assert_eq!(found.unwrap(), 1);
    assert_close(remaining(&store, 1), HOUR);
    assert_eq!(
        (store.cache_hits(), store.cache_misses()),
        (Some(1_004), Some(0))
    );
}

// Used every 0.7 s, an entry with a life of 3 s is there after 4.9 s.
#[test]
fn refreshed_entries_outlive_their_deadline() {
    let dir = tempdir().unwrap();
    let life = Duration::from_secs(3);
    let store = MmapStore::<u32, u32>::builder(dir.path().join("s"));
    let store = store.ttl(life).refresh_on_hit(true).open().unwrap();
    store.cache_set_ref(&1, &1).unwrap();
    store.cache_set_ref(&2, &2).unwrap();
    for _ in 0..7 {
        sleep(Duration::from_millis(700));
        assert_eq!(store.cache_get(&1).unwrap(), Some(1));
    }
    assert_eq!(store.cache_get(&2).unwrap(), None);
    sleep(life);
    assert_eq!(store.cache_get(&1).unwrap(), None);
}

#[test]
fn evict_removes_expired_entries() {
    let dir = tempdir().unwrap();
    let store = open(&dir.path().join("s"), HOUR);
    store.cache_set_ref(&1, &1).unwrap();
    store.set_ttl(Duration::from_nanos(1));
    store.cache_set_ref(&2, &2).unwrap();
    assert_eq!(store.cache_get(&2).unwrap(), None);
    assert_eq!(store.evict(), 1);
    assert_eq!(store.cache_size().unwrap(), Some(1));
    assert_eq!(store.cache_evictions(), Some(1));
    assert_eq!(store.evict(), 0);
}
