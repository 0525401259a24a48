//! The contract of `ConcurrentCachedAsync`, under tokio.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::Duration;

use cached::macros::concurrent_cached;
use cached::{
    ConcurrentCacheBase, ConcurrentCacheTtl, ConcurrentCachedAsync, SerializeCachedAsync,
};
use mmapcache_cached::MmapStore;
use mmapcache_cached::mmapcache::ErrorKind;
use serde::{Deserialize, Serialize};
use tempfile::{TempDir, tempdir};
use tokio::time::{Instant, sleep};

const SHORT: Duration = Duration::from_millis(200);

fn open(dir: &TempDir) -> MmapStore<String, u32> {
    MmapStore::open(dir.path().join("s")).unwrap()
}

fn key(key: &str) -> String {
    key.to_owned()
}

#[tokio::test]
async fn tasks_see_each_change() {
    let dir = tempdir().unwrap();
    let (store, other) = (open(&dir), open(&dir));
    assert_eq!(store.async_cache_set(key("a"), 1).await.unwrap(), None);
    assert_eq!(store.async_cache_set(key("a"), 2).await.unwrap(), Some(1));
    assert_eq!(other.async_cache_get(&key("a")).await.unwrap(), Some(2));
    assert!(other.async_cache_contains(&key("a")).await.unwrap());
    assert_eq!(other.async_cache_remove(&key("a")).await.unwrap(), Some(2));
    assert!(!store.async_cache_contains(&key("a")).await.unwrap());
    store.async_cache_set_ref(&key("b"), &3).await.unwrap();
    let entry = store.async_cache_remove_entry(&key("b")).await.unwrap();
    assert_eq!(entry, Some((key("b"), 3)));
    assert!(!store.async_cache_delete(&key("b")).await.unwrap());
    store.async_cache_set_ref(&key("c"), &3).await.unwrap();
    assert!(store.async_cache_delete(&key("c")).await.unwrap());
    store.async_cache_set_ref(&key("d"), &3).await.unwrap();
    store.async_cache_clear().await.unwrap();
    assert_eq!(other.async_cache_get(&key("d")).await.unwrap(), None);
    assert_eq!(store.cache_misses(), Some(1));
    store.async_cache_set_ref(&key("d"), &3).await.unwrap();
    store.async_cache_reset().await.unwrap();
    assert_eq!(
        (store.cache_size().unwrap(), store.cache_misses()),
        (Some(0), Some(0))
    );
    assert_eq!(other.async_cache_get(&key("d")).await.unwrap(), None);
    other.async_cache_reset_metrics().await.unwrap();
    assert_eq!(other.cache_misses(), Some(0));
    let error = store.async_cache_set(key(&"x".repeat(70_000)), 1).await;
    assert!(matches!(
        error.unwrap_err().kind(),
        ErrorKind::KeyLength { .. }
    ));
}

// All tasks share one thread: if one of them held it while it waits, none would compute.
#[tokio::test]
async fn one_task_computes() {
    let dir = tempdir().unwrap();
    let stores = [open(&dir), open(&dir)];
    static COMPUTED: AtomicU32 = AtomicU32::new(0);
    let began = Instant::now();
    let tasks: Vec<_> = (0..16)
        .map(|number| {
            let store = stores[number % 2].clone();
            tokio::spawn(async move {
                let value = store.async_cache_get_or_set_with(key("k"), || async {
                    sleep(SHORT).await;
                    COMPUTED.fetch_add(1, Ordering::Relaxed) + 7
                });
                value.await.unwrap()
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), 7);
    }
    assert_eq!(COMPUTED.load(Ordering::Relaxed), 1);
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn failures_are_not_stored() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    let try_with = async |result: Result<u32, &'static str>| {
        let found = store.async_cache_try_get_or_set_with(key("k"), move || async move { result });
        found.await.unwrap()
    };
    assert_eq!(try_with(Err("failed")).await, Err("failed"));
    assert_eq!(store.cache_size().unwrap(), Some(0));
    assert_eq!(try_with(Ok(1)).await, Ok(1));
    assert_eq!(try_with(Err("not called")).await, Ok(1));
    store.set_ttl(Duration::from_nanos(1));
    store.async_cache_set_ref(&key("k"), &2).await.unwrap();
    assert_eq!(try_with(Ok(3)).await, Ok(3));
}

// Another process holds the writer lock for long: other tasks of the only thread go on.
#[tokio::test]
async fn waiting_changes_hold_no_thread() {
    let dir = tempdir().unwrap();
    let (store, other) = (open(&dir), open(&dir));
    let (locked, is_locked) = mpsc::channel();
    let holder = thread::spawn(move || {
        let batch = other.cache().writer().unwrap();
        locked.send(()).unwrap();
        thread::sleep(3 * SHORT);
        drop(batch);
    });
    is_locked.recv().unwrap();
    let change = store.async_cache_set(key("k"), 1);
    let change = async { (change.await.unwrap(), Instant::now()) };
    let tick = async {
        sleep(SHORT / 10).await;
        Instant::now()
    };
    let ((replaced, changed), ticked) = tokio::join!(change, tick);
    assert_eq!(replaced, None);
    assert!(changed.duration_since(ticked) > SHORT);
    holder.join().unwrap();
}

static DIR: LazyLock<TempDir> =
    LazyLock::new(|| TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
static FETCHED: AtomicU32 = AtomicU32::new(0);

/// It has no `Clone`: the attribute stores it from a reference, by `SerializeCachedAsync`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Page(String);

#[concurrent_cached(
    ty = "MmapStore<u32, Page>",
    create = r#"{ MmapStore::open(DIR.path().join("pages")).unwrap() }"#
)]
async fn fetch(number: u32) -> Result<Page, Box<dyn Error + Send + Sync>> {
    FETCHED.fetch_add(1, Ordering::Relaxed);
    sleep(Duration::from_millis(1)).await;
    Ok(Page(format!("page {number}")))
}

#[tokio::test]
async fn asynchronous_functions_keep_results() {
    let first = fetch(1).await.unwrap();
    assert_eq!(fetch(1).await.unwrap(), first);
    assert_eq!(FETCHED.load(Ordering::Relaxed), 1);
    assert_eq!(fetch(2).await.unwrap(), Page("page 2".to_owned()));
}
