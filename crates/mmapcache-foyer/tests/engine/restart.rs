//! What is on the disk after a restart and after a kill: what was inserted, the newest value, and nothing
//! that was removed.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use crate::common::{Fragile, get, get_from_disk, open, open_with};
use foyer::HybridCachePolicy::{WriteOnEviction, WriteOnInsertion};
use foyer::{HybridCache, HybridCacheBuilder};
use mmapcache::Cache;
use mmapcache_foyer::MmapEngineConfig;

/// Under both policies: entries that were written when they were inserted, those that memory evicted, and
/// those that were in memory until the end.
#[tokio::test(flavor = "multi_thread")]
async fn values_are_back_after_reopening() {
    for (policy, memory) in [
        (WriteOnInsertion, 10_000),
        (WriteOnEviction, 10_000),
        (WriteOnEviction, 100),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        let cache = open_with(MmapEngineConfig::new(&path), policy, memory).await;
        for key in 0..2_000 {
            cache.insert(key, format!("value {key}"));
        }
        cache.close().await.unwrap();
        drop(cache);

        let cache = open_with(MmapEngineConfig::new(&path), policy, memory).await;
        for key in 0..2_000 {
            let value = get(&cache, key).await;
            assert_eq!(value, Some(format!("value {key}")), "{policy:?}, {memory}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_entries_stay_removed() {
    for policy in [WriteOnInsertion, WriteOnEviction] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        let cache = open_with(MmapEngineConfig::new(&path), policy, 100).await;
        for key in 0..1_000 {
            cache.insert(key, "value".to_owned());
        }
        cache.storage().wait().await;
        for key in 0..1_000 {
            if key % 2 == 0 {
                cache.remove(&key);
                assert_eq!(get(&cache, key).await, None);
            }
        }
        cache.close().await.unwrap();
        drop(cache);

        let cache = open_with(MmapEngineConfig::new(&path), policy, 100).await;
        for key in 0..1_000 {
            assert_eq!(get(&cache, key).await.is_some(), key % 2 == 1, "{policy:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn overwritten_entries_stay_new() {
    for policy in [WriteOnInsertion, WriteOnEviction] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        for turn in 0..3 {
            let cache = open_with(MmapEngineConfig::new(&path), policy, 100).await;
            for key in 0..1_000 {
                cache.insert(key, format!("turn {turn}"));
            }
            for key in 0..1_000 {
                assert_eq!(get(&cache, key).await, Some(format!("turn {turn}")));
            }
            cache.close().await.unwrap();
        }
        let cache = open_with(MmapEngineConfig::new(&path), policy, 100).await;
        for key in 0..1_000 {
            assert_eq!(
                get(&cache, key).await,
                Some("turn 2".to_owned()),
                "{policy:?}"
            );
        }
    }
}

/// The writer is held up, so the removal comes while the store waits. It counts at once, and the store is
/// never written.
#[tokio::test(flavor = "multi_thread")]
async fn removal_overtakes_a_queued_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let cache = open(&path).await;
    cache.insert(1, "before".to_owned());
    cache.storage().wait().await;
    let other = Cache::open(&path).unwrap();
    let lock = other.writer().unwrap();
    cache.insert(1, "queued".to_owned());
    cache.insert(2, "queued".to_owned());
    assert_eq!(get_from_disk(&cache, 1).await.as_deref(), Some("queued"));
    cache.memory().clear();
    cache.remove(&1);
    cache.remove(&2);
    for key in [1, 2] {
        assert_eq!(get(&cache, key).await, None);
        assert!(!cache.contains(&key));
    }
    cache.insert(2, "again".to_owned());
    lock.commit().unwrap();
    cache.close().await.unwrap();
    assert_eq!(get_from_disk(&cache, 1).await, None);
    drop(cache);

    let cache = open(&path).await;
    assert_eq!(get(&cache, 1).await, None);
    assert_eq!(get(&cache, 2).await.as_deref(), Some("again"));
}

/// A child inserts, overwrites and removes, says so, and is killed in the midst of more work.
#[tokio::test(flavor = "multi_thread")]
async fn awaited_changes_survive_a_kill() {
    if let Some(path) = crate::common::child_path() {
        let cache = open(path.as_ref()).await;
        for key in 0..3_000 {
            cache.insert(key, "old".to_owned());
        }
        cache.storage().wait().await;
        for key in 0..1_000 {
            cache.insert(key, "new".to_owned());
            cache.remove(&(1_000 + key));
        }
        cache.storage().wait().await;
        println!("\nready");
        for key in 10_000.. {
            cache.insert(key, "more".to_owned());
        }
        unreachable!("the parent kills this process");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let mut child = crate::common::run_child("restart::awaited_changes_survive_a_kill", &path);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.map_while(Result::ok).any(|line| line == "ready");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(ready);

    let cache = open(&path).await;
    for key in 0..1_000 {
        assert_eq!(get(&cache, key).await.as_deref(), Some("new"));
        assert_eq!(get(&cache, 1_000 + key).await, None);
        assert_eq!(get(&cache, 2_000 + key).await.as_deref(), Some("old"));
    }
}

/// A program that ends without `close`: what waits is written before the last handle is gone, here after
/// another writer lets go of the lock.
#[test]
fn dropped_cache_writes_its_queue() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cache = runtime.block_on(open(&path));
    let (locked, is_locked) = std::sync::mpsc::channel();
    let other = Cache::open(&path).unwrap();
    let holder = std::thread::spawn(move || {
        let lock = other.writer().unwrap();
        locked.send(()).unwrap();
        std::thread::sleep(Duration::from_millis(500));
        lock.commit().unwrap();
    });
    is_locked.recv().unwrap();
    for key in 0..1_000 {
        cache.insert(key, "value".to_owned());
    }
    drop(cache);
    drop(runtime);
    assert_eq!(Cache::open(&path).unwrap().len_with_expired(), 1_000);
    holder.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn cleared_cache_stays_empty() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let cache = open(&path).await;
    for key in 0..1_000 {
        cache.insert(key, "value".to_owned());
    }
    cache.clear().await.unwrap();
    cache.insert(1, "later".to_owned());
    for key in 2..1_000 {
        assert_eq!(get(&cache, key).await, None);
    }
    cache.close().await.unwrap();
    assert!(cache.clear().await.is_err(), "a closed cache was cleared");
    drop(cache);

    let cache = open(&path).await;
    assert_eq!(get(&cache, 1).await.as_deref(), Some("later"));
    assert_eq!(get(&cache, 2).await, None);
}

/// foyer hands an entry over again at each hit in memory. The bytes are written once.
#[tokio::test(flavor = "multi_thread")]
async fn unchanged_entry_is_written_once() {
    let dir = tempfile::tempdir().unwrap();
    let engine = MmapEngineConfig::new(dir.path().join("cache"));
    let monitor = engine.monitor();
    let cache = open_with(engine, WriteOnInsertion, 100).await;
    for _ in 0..50 {
        let fetch = || async { Ok::<_, std::io::Error>("value".to_owned()) };
        cache.get_or_fetch(&1, fetch).await.unwrap();
        cache.storage().wait().await;
    }
    let counts = monitor.counts();
    assert_eq!((counts.stored, counts.unchanged), (1, 49));
    cache.insert(1, "other".to_owned());
    cache.storage().wait().await;
    assert_eq!(monitor.counts().stored, 2);
}

/// A value whose encoding fails or panics is not stored, nor is the older one of its key served; others are, by the same thread.
#[tokio::test(flavor = "multi_thread")]
async fn failed_encoding_removes_older_value() {
    let dir = tempfile::tempdir().unwrap();
    let engine = MmapEngineConfig::new(dir.path().join("cache"));
    let monitor = engine.monitor();
    let cache: HybridCache<u64, Fragile> = HybridCacheBuilder::new()
        .with_policy(WriteOnInsertion)
        .memory(100)
        .storage()
        .with_engine_config(engine)
        .build()
        .await
        .unwrap();
    for value in [1, 13, 1, 14] {
        cache.insert(7, Fragile(value));
        cache.insert(8, Fragile(2));
        cache.storage().wait().await;
        cache.memory().clear();
        let found = cache.get(&7).await.unwrap();
        let expected = (value == 1).then_some(Fragile(1));
        assert_eq!(found.as_ref().map(|entry| entry.value()), expected.as_ref());
        assert!(cache.get(&8).await.unwrap().is_some());
    }
    assert_eq!(monitor.counts().refused, 2);
}

/// A value whose end panics on the engine's thread: what was to be written or removed then is lost. No
/// caller waits for it without end, no older value is found, and the closing says so.
#[tokio::test(flavor = "multi_thread")]
async fn dead_writer_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let cache: HybridCache<u64, Fragile> = HybridCacheBuilder::new()
        .with_policy(WriteOnInsertion)
        .memory(100)
        .storage()
        .with_engine_config(MmapEngineConfig::new(&path))
        .build()
        .await
        .unwrap();
    cache.insert(8, Fragile(2));
    cache.storage().wait().await;
    let other = Cache::open(&path).unwrap();
    let lock = other.writer().unwrap();
    cache.insert(7, Fragile(15));
    cache.memory().clear();
    lock.commit().unwrap();
    let waiting = async {
        cache.storage().wait().await;
        cache.remove(&8);
        assert!(cache.get(&8).await.unwrap().is_none());
        cache.close().await.unwrap_err()
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    let error = waited.expect("it waits for a thread that is gone");
    assert!(
        error.to_string().contains("could not be written"),
        "{error}"
    );
}

/// Larger than any entry of the files may be: a sixteenth of the bound.
#[tokio::test(flavor = "multi_thread")]
async fn too_large_value_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let engine = MmapEngineConfig::new(dir.path().join("cache")).with_max_bytes(1 << 20);
    let monitor = engine.monitor();
    let cache = open_with(engine, WriteOnInsertion, 100).await;
    cache.insert(1, "small".to_owned());
    cache.storage().wait().await;
    cache.insert(1, "x".repeat(1 << 18));
    cache.storage().wait().await;
    assert_eq!(get_from_disk(&cache, 1).await, None);
    let counts = monitor.counts();
    assert_eq!((counts.stored, counts.refused, counts.removed), (1, 1, 1));
}

/// The bound of the files holds: older entries go.
#[tokio::test(flavor = "multi_thread")]
async fn bounded_files_evict() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let engine = MmapEngineConfig::new(&path).with_max_bytes(8 << 20);
    let cache = open_with(engine, WriteOnInsertion, 10).await;
    for key in 0..20_000 {
        cache.insert(key, "x".repeat(1_000));
        if key % 100 == 0 {
            cache.storage().wait().await;
        }
    }
    cache.storage().wait().await;
    let usage = Cache::open(&path).unwrap().disk_usage().unwrap();
    assert!(usage.total() <= 13 << 20, "{usage:?}");
    let mut hits = 0;
    for key in 0..20_000 {
        hits += usize::from(get(&cache, key).await.is_some());
    }
    assert!((1_000..20_000).contains(&hits), "{hits} hits");
}
