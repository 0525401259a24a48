//! A queue that is full: nothing blocks, nothing old is served, and the program is told.
//!
//! Each test holds the writer lock of the files, so that the engine's thread writes nothing.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{get, get_from_disk, open_with, wait_until};
use foyer::HybridCachePolicy::{WriteOnEviction, WriteOnInsertion};
use foyer::StorageFilterResult;
use mmapcache::Cache;
use mmapcache_foyer::{MmapEngineConfig, close_in_parts};

const QUEUE: usize = 64 << 10;

fn long(key: u64) -> String {
    format!("{key}:{}", "x".repeat(1_000))
}

#[tokio::test(flavor = "multi_thread")]
async fn full_queue_throttles() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let engine = MmapEngineConfig::new(&path).with_queue_bytes(QUEUE);
    let monitor = engine.monitor();
    let cache = open_with(engine, WriteOnInsertion, 10_000).await;
    let other = Cache::open(&path).unwrap();
    let lock = other.writer().unwrap();
    let start = Instant::now();
    for key in 0..1_000 {
        cache.insert(key, long(key));
    }
    // The lock is held all the time: an insertion that waits for it would take a minute.
    assert!(start.elapsed() < Duration::from_secs(20));
    let filtered = cache.storage_writer(5_000).filter(1_100);
    assert!(matches!(filtered, StorageFilterResult::Throttled(time) if !time.is_zero()));
    assert!(cache.storage_writer(5_001).insert(long(5_001)).is_none());
    let throttled = monitor.counts().throttled_stores;
    assert!((900..1_000).contains(&throttled), "{throttled} throttled");

    lock.commit().unwrap();
    cache.storage().wait().await;
    assert_eq!(
        cache.storage_writer(5_000).filter(1_100),
        StorageFilterResult::Admit
    );
    let mut hits = 0;
    for key in 0..1_000 {
        let found = get_from_disk(&cache, key).await;
        assert!(found.is_none() || found == Some(long(key)));
        hits += u64::from(found.is_some());
    }
    // The two last ones are those of the storage writers.
    assert_eq!(hits, 1_000 - (throttled - 2));
    assert_eq!(monitor.counts().dropped, 0);
}

/// foyer's own engine goes on serving the older value: see `findings/foyer-overwrite-undone.sh`.
#[tokio::test(flavor = "multi_thread")]
async fn dropped_overwrite_removes_older_value() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let engine = MmapEngineConfig::new(&path).with_queue_bytes(QUEUE);
    let monitor = engine.monitor();
    let cache = open_with(engine, WriteOnInsertion, 10_000).await;
    for key in 0..1_000 {
        cache.insert(key, "old".to_owned());
        if key % 50 == 0 {
            cache.storage().wait().await;
        }
    }
    cache.storage().wait().await;
    let other = Cache::open(&path).unwrap();
    let lock = other.writer().unwrap();
    for key in 0..1_000 {
        cache.insert(key, long(key));
    }
    let dropped = monitor.counts().dropped;
    assert!((900..1_000).contains(&dropped), "{dropped} dropped");
    let check = async |cache: &crate::common::Strings| {
        let mut misses = 0;
        for key in 0..1_000 {
            let found = get_from_disk(cache, key).await;
            assert!(found.is_none() || found == Some(long(key)), "{key} is old");
            misses += u64::from(found.is_none());
        }
        assert_eq!(misses, dropped);
    };
    check(&cache).await;
    lock.commit().unwrap();
    cache.close().await.unwrap();
    check(&cache).await;
    drop(cache);
    let engine = MmapEngineConfig::new(&path);
    check(&open_with(engine, WriteOnInsertion, 10_000).await).await;
}

/// foyer removes what its filter does not admit. An entry that came from the disk must not be removed
/// because memory evicts it while the queue is full.
#[tokio::test(flavor = "multi_thread")]
async fn evicted_reads_stay_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let engine = MmapEngineConfig::new(&path).with_queue_bytes(QUEUE);
    let cache = open_with(engine, WriteOnEviction, 10).await;
    for key in 0..100 {
        cache.insert(key, "value".to_owned());
    }
    cache.memory().evict_all();
    cache.storage().wait().await;
    let other = Cache::open(&path).unwrap();
    let lock = other.writer().unwrap();
    for key in 1_000..2_000 {
        cache.insert(key, long(key));
    }
    for _ in 0..2 {
        for key in 0..100 {
            assert_eq!(get(&cache, key).await.as_deref(), Some("value"));
        }
    }
    lock.commit().unwrap();
    cache.storage().wait().await;
    for key in 0..100 {
        assert_eq!(get(&cache, key).await.as_deref(), Some("value"));
    }
}

/// Loads beyond the limit miss instead of waiting. The one thread for blocking work is busy until the
/// loads are asked for.
#[test]
fn loads_beyond_the_limit_throttle() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let engine = MmapEngineConfig::new(dir.path().join("cache"))
            .with_blocking_loads(NonZeroUsize::new(4).unwrap());
        let monitor = engine.monitor();
        let cache = open_with(engine, WriteOnInsertion, 100).await;
        for key in 0..20 {
            cache.insert(key, "value".to_owned());
        }
        cache.storage().wait().await;
        cache.memory().clear();
        let gate = Arc::new(std::sync::Barrier::new(2));
        let held = gate.clone();
        let busy = tokio::task::spawn_blocking(move || held.wait());
        let loads: Vec<_> = (0..20)
            .map(|key| {
                let cache = cache.clone();
                tokio::spawn(async move { get(&cache, key).await })
            })
            .collect();
        wait_until(|| monitor.counts().throttled_loads >= 16).await;
        gate.wait();
        busy.await.unwrap();
        let mut hits = 0;
        for load in loads {
            hits += usize::from(load.await.unwrap().is_some());
        }
        assert_eq!((hits, monitor.counts().throttled_loads), (4, 16));
        cache.memory().clear();
        assert_eq!(get(&cache, 7).await.as_deref(), Some("value"));
    });
}

/// The memory tier is larger than the queue. Handed over in parts, all of it is stored.
#[tokio::test(flavor = "multi_thread")]
async fn closing_in_parts_stores_everything() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let engine = MmapEngineConfig::new(&path).with_queue_bytes(QUEUE);
    let monitor = engine.monitor();
    let cache = open_with(engine, WriteOnEviction, 10_000).await;
    for key in 0..1_000 {
        cache.insert(key, long(key));
    }
    close_in_parts(&cache, QUEUE / 4).await.unwrap();
    let counts = monitor.counts();
    assert_eq!(
        (counts.stored, counts.throttled_stores, counts.dropped),
        (1_000, 0, 0)
    );
    drop(cache);
    let engine = MmapEngineConfig::new(&path);
    let cache = open_with(engine, WriteOnEviction, 10_000).await;
    for key in 0..1_000 {
        assert_eq!(get(&cache, key).await, Some(long(key)));
    }
}

/// Changes that cannot be written are tried again, and `close` says how many are lost.
#[tokio::test(flavor = "multi_thread")]
async fn held_lock_fails_the_closing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let mut options = mmapcache::Options::new();
    options.lock_timeout(Some(Duration::from_millis(200)));
    let builder = Cache::builder(&path).options(&options);
    let engine = MmapEngineConfig::from_builder(builder);
    let monitor = engine.monitor();
    let cache = open_with(engine, WriteOnInsertion, 100).await;
    let other = Cache::open(&path).unwrap();
    let lock = other.writer().unwrap();
    cache.insert(1, "value".to_owned());
    wait_until(|| monitor.counts().failures >= 2).await;
    assert_eq!(get_from_disk(&cache, 1).await.as_deref(), Some("value"));
    lock.commit().unwrap();
    wait_until(|| monitor.counts().stored >= 1).await;
    let lock = other.writer().unwrap();
    cache.insert(2, "value".to_owned());
    let error = cache.close().await.unwrap_err();
    assert!(
        error.to_string().contains("1 changes could not be written"),
        "{error}"
    );
    let cause = error.downcast_ref::<mmapcache::Error>().unwrap();
    assert!(cause.is_retryable(), "{cause}");
    lock.commit().unwrap();
}

/// A hundred batches wait for a lock that is never free. Closing and dropping wait for it once each, not
/// for each batch; what the closing says is lost is lost, and nothing older is served.
#[tokio::test(flavor = "multi_thread")]
async fn held_lock_delays_closing_once() {
    const LOCK: Duration = Duration::from_millis(500);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let mut options = mmapcache::Options::new();
    options.lock_timeout(Some(LOCK));
    let engine = MmapEngineConfig::from_builder(Cache::builder(&path).options(&options));
    let cache = open_with(engine, WriteOnInsertion, 10_000).await;
    cache.insert(0, "old".to_owned());
    cache.storage().wait().await;
    let other = Cache::open(&path).unwrap();
    let lock = other.writer().unwrap();
    for key in 0..6_400 {
        cache.insert(key, "new".to_owned());
    }
    let begun = Instant::now();
    let error = cache.close().await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("6400 changes could not be written"),
        "{error}"
    );
    assert_ne!(get_from_disk(&cache, 0).await.as_deref(), Some("old"));
    tokio::task::spawn_blocking(move || drop(cache))
        .await
        .unwrap();
    let took = begun.elapsed();
    assert!(took < LOCK * 10, "{took:?}");
    lock.commit().unwrap();
}
