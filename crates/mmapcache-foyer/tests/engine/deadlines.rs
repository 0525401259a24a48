//! Values with deadlines: an expired one is a miss in memory, in the queue, on the disk, and after a
//! restart.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use foyer::{HybridCache, HybridCacheBuilder, HybridCachePolicy, HybridCacheProperties, Location};
use mmapcache::Cache;
use mmapcache_foyer::{Expiring, FreshEntries, MmapEngineConfig};

type Pages = HybridCache<u64, Expiring<String>>;

// The keys.
const SHORT_ONE: u64 = 1;
const LONG_ONE: u64 = 2;
const ENDLESS: u64 = 3;
const KEY: u64 = 4;

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(400);

async fn open(engine: MmapEngineConfig<u64, Expiring<String>>) -> Pages {
    open_with(engine, HybridCachePolicy::WriteOnInsertion).await
}

async fn open_with(
    engine: MmapEngineConfig<u64, Expiring<String>>,
    policy: HybridCachePolicy,
) -> Pages {
    HybridCacheBuilder::new()
        .with_policy(policy)
        .memory(1_000)
        .storage()
        .with_engine_config(engine)
        .build()
        .await
        .expect("a cache")
}

async fn open_expiring(path: &Path) -> Pages {
    open(MmapEngineConfig::expiring(path)).await
}

fn insert(cache: &Pages, key: u64, life: Duration) {
    cache.insert(key, Expiring::new(format!("value of {key}"), life));
}

async fn fresh(cache: &Pages, key: u64) -> Option<String> {
    let entry = cache.get_fresh(&key).await.expect("a lookup");
    entry.map(|entry| entry.value().get().expect("it is fresh").clone())
}

/// Sleeps until a moment has passed for the clock of the system.
async fn sleep_until(moment: SystemTime) {
    while let Ok(left) = moment.duration_since(SystemTime::now()) {
        tokio::time::sleep(left + Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_entry_in_memory_misses() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open_expiring(&dir.path().join("cache")).await;
    insert(&cache, SHORT_ONE, SHORT);
    insert(&cache, LONG_ONE, LONG);
    let expiry = SystemTime::now() + SHORT;
    assert_eq!(
        fresh(&cache, SHORT_ONE).await.as_deref(),
        Some("value of 1")
    );
    sleep_until(expiry).await;
    assert!(cache.memory().contains(&SHORT_ONE));
    assert_eq!(fresh(&cache, SHORT_ONE).await, None);
    assert!(!cache.memory().contains(&SHORT_ONE));
    assert_eq!(fresh(&cache, LONG_ONE).await.as_deref(), Some("value of 2"));
}

/// foyer's own lookups, which know no deadline, find no expired entry on the disk.
#[tokio::test(flavor = "multi_thread")]
async fn expired_entry_on_disk_misses() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let cache = open_expiring(&path).await;
    insert(&cache, SHORT_ONE, SHORT);
    insert(&cache, LONG_ONE, LONG);
    cache.insert(ENDLESS, Expiring::forever("value".to_owned()));
    let expiry = SystemTime::now() + SHORT;
    cache.storage().wait().await;
    cache.memory().clear();
    assert!(cache.contains(&SHORT_ONE));
    assert!(cache.get(&SHORT_ONE).await.unwrap().is_some());
    sleep_until(expiry).await;
    cache.memory().clear();
    assert!(!cache.contains(&SHORT_ONE));
    assert!(cache.get(&SHORT_ONE).await.unwrap().is_none());
    cache.close().await.unwrap();
    drop(cache);

    let cache = open_expiring(&path).await;
    assert_eq!(fresh(&cache, SHORT_ONE).await, None);
    assert_eq!(fresh(&cache, LONG_ONE).await.as_deref(), Some("value of 2"));
    assert_eq!(fresh(&cache, ENDLESS).await.as_deref(), Some("value"));
    // The files themselves know the deadline, and sweep what has expired.
    drop(cache);
    assert_eq!(Cache::open(&path).unwrap().sweep().unwrap(), 1);
}

/// The writer is held up until the entry in the queue has expired. It is not stored, and the older entry
/// of its key does not come back.
#[tokio::test(flavor = "multi_thread")]
async fn expired_entry_in_queue_misses() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let cache = open_expiring(&path).await;
    insert(&cache, KEY, LONG);
    cache.storage().wait().await;
    let other = Cache::open(&path).unwrap();
    let lock = other.writer().unwrap();
    insert(&cache, KEY, SHORT);
    let expiry = SystemTime::now() + SHORT;
    sleep_until(expiry).await;
    cache.memory().clear();
    assert!(!cache.contains(&KEY));
    assert!(cache.get(&KEY).await.unwrap().is_none());
    lock.commit().unwrap();
    cache.storage().wait().await;
    assert!(cache.get(&KEY).await.unwrap().is_none());
}

/// An expired entry in memory is fetched again, by one of the tasks that ask at once.
#[tokio::test(flavor = "multi_thread")]
async fn expired_entry_is_fetched_once() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open_expiring(&dir.path().join("cache")).await;
    insert(&cache, KEY, Duration::ZERO);
    let fetches = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (cache, fetches) = (cache.clone(), fetches.clone());
            tokio::spawn(async move {
                let fetch = || async move {
                    fetches.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    Ok::<_, std::io::Error>(Expiring::new("fetched".to_owned(), LONG))
                };
                let entry = cache.get_or_fetch_fresh(&KEY, fetch).await.unwrap();
                entry.value().get().cloned()
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().as_deref(), Some("fetched"));
    }
    assert_eq!(fetches.load(Ordering::Relaxed), 1);
    assert_eq!(fresh(&cache, KEY).await.as_deref(), Some("fetched"));
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_fetch_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open_expiring(&dir.path().join("cache")).await;
    insert(&cache, KEY, Duration::ZERO);
    let fetch =
        || async { Err::<Expiring<String>, _>(std::io::Error::other("the origin is down")) };
    let error = cache.get_or_fetch_fresh(&KEY, fetch).await.unwrap_err();
    assert_eq!(error.kind(), foyer::ErrorKind::External);
    assert!(error.to_string().contains("the origin is down"), "{error}");
}

/// An engine that knows no deadlines returns expired entries; the lookups of this crate do not.
#[tokio::test(flavor = "multi_thread")]
async fn engine_without_deadlines_is_covered() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(MmapEngineConfig::new(dir.path().join("cache"))).await;
    insert(&cache, KEY, SHORT);
    let expiry = SystemTime::now() + SHORT;
    cache.storage().wait().await;
    sleep_until(expiry).await;
    cache.memory().clear();
    assert!(cache.get(&KEY).await.unwrap().is_some());
    assert_eq!(fresh(&cache, KEY).await, None);
    cache.memory().clear();
    assert!(cache.get(&KEY).await.unwrap().is_none());
}

/// Entries that an engine without deadlines stored expire for one that has them: the value knows its own.
#[tokio::test(flavor = "multi_thread")]
async fn deadline_learnt_later_counts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let cache = open(MmapEngineConfig::new(&path)).await;
    insert(&cache, KEY, Duration::ZERO);
    insert(&cache, LONG_ONE, LONG);
    cache.close().await.unwrap();
    drop(cache);
    let cache = open_expiring(&path).await;
    assert!(cache.get(&KEY).await.unwrap().is_none());
    assert!(cache.get(&LONG_ONE).await.unwrap().is_some());
}

/// The disk has what memory evicted: an entry with a long life, which a short one replaced. When that has
/// expired, its predecessor must not be served.
#[tokio::test(flavor = "multi_thread")]
async fn expired_overwrite_revives_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let engine = MmapEngineConfig::expiring(dir.path().join("cache"));
    let cache = open_with(engine, HybridCachePolicy::WriteOnEviction).await;
    insert(&cache, KEY, LONG);
    cache.memory().evict_all();
    cache.storage().wait().await;
    cache.insert(KEY, Expiring::new("newer".to_owned(), Duration::ZERO));
    assert_eq!(fresh(&cache, KEY).await, None);
    cache.storage().wait().await;
    assert_eq!(fresh(&cache, KEY).await, None);
    // An entry that came from the disk is not removed there when it has expired.
    insert(&cache, SHORT_ONE, SHORT);
    let expiry = SystemTime::now() + SHORT;
    cache.memory().evict_all();
    cache.storage().wait().await;
    assert!(cache.get(&SHORT_ONE).await.unwrap().is_some());
    sleep_until(expiry).await;
    let other = Cache::open(dir.path().join("cache")).unwrap();
    let entries = other.len_with_expired();
    assert_eq!(fresh(&cache, SHORT_ONE).await, None);
    cache.storage().wait().await;
    assert_eq!(other.len_with_expired(), entries);
}

/// Also where foyer was told to keep the newer one in memory only.
#[tokio::test(flavor = "multi_thread")]
async fn expired_memory_entry_revives_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open_expiring(&dir.path().join("cache")).await;
    insert(&cache, KEY, LONG);
    cache.storage().wait().await;
    let newer = Expiring::new("newer".to_owned(), Duration::ZERO);
    let in_memory = HybridCacheProperties::default().with_location(Location::InMem);
    cache.insert_with_properties(KEY, newer, in_memory);
    assert_eq!(fresh(&cache, KEY).await, None);
}

/// A deadline is computed by the program's code, on the engine's thread.
#[tokio::test(flavor = "multi_thread")]
async fn panicking_deadline_refuses_entry() {
    let dir = tempfile::tempdir().unwrap();
    let engine =
        MmapEngineConfig::new(dir.path().join("cache")).with_deadline(|page: &Expiring<String>| {
            match page.get()?.as_str() {
                "bad" => panic!("as the test wants"),
                _ => None,
            }
        });
    let monitor = engine.monitor();
    let cache = open(engine).await;
    cache.insert(KEY, Expiring::forever("bad".to_owned()));
    insert(&cache, LONG_ONE, LONG);
    let closing = tokio::time::timeout(Duration::from_secs(20), cache.close());
    closing.await.expect("the engine's thread is gone").unwrap();
    assert_eq!((monitor.counts().refused, monitor.counts().stored), (1, 1));
}

/// Another process stored a newer entry of the key, while this one has an expired one in memory.
#[tokio::test(flavor = "multi_thread")]
async fn newer_entry_elsewhere_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let cache = open_expiring(&path).await;
    insert(&cache, KEY, Duration::ZERO);
    cache.storage().wait().await;
    let other = open_expiring(&path).await;
    insert(&other, KEY, LONG);
    other.storage().wait().await;
    assert!(cache.memory().contains(&KEY));
    assert_eq!(fresh(&cache, KEY).await.as_deref(), Some("value of 4"));
}
