//! Keys with one hash: neither ever gets the other's value.

use std::hash::{BuildHasher, Hasher};

use foyer::{HybridCache, HybridCacheBuilder, HybridCachePolicy};
use mmapcache::Cache;
use mmapcache_foyer::MmapEngineConfig;

/// Hashes every key of ten digits to its last one, so that 100 keys have ten hashes.
#[derive(Clone, Debug, Default)]
struct LastDigit;

#[derive(Debug)]
struct Last(u64);

impl BuildHasher for LastDigit {
    type Hasher = Last;

    fn build_hasher(&self) -> Last {
        Last(0)
    }
}

impl Hasher for Last {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes.iter().filter(|byte| byte.is_ascii_digit()) {
            self.0 = u64::from(byte);
        }
    }
}

type Colliding = HybridCache<String, String, LastDigit>;

async fn open(path: &std::path::Path) -> Colliding {
    HybridCacheBuilder::new()
        .with_policy(HybridCachePolicy::WriteOnInsertion)
        .memory(1_000)
        .with_hash_builder(LastDigit)
        .storage()
        .with_engine_config(MmapEngineConfig::new(path))
        .build()
        .await
        .expect("a cache")
}

/// Returns how many keys have a value, each of which is its own.
async fn own_values(cache: &Colliding) -> usize {
    let mut hits = 0;
    for number in 0..100 {
        cache.memory().clear();
        let key = format!("{number:02}");
        if let Some(entry) = cache.get(&key).await.expect("a lookup") {
            assert_eq!(entry.value(), &format!("value of {number:02}"));
            hits += 1;
        }
    }
    hits
}

/// While they wait, when they are written, and after a restart: the last key of each hash has its value,
/// and the others have none.
#[tokio::test(flavor = "multi_thread")]
async fn colliding_keys_keep_their_values() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let cache = open(&path).await;
    let other = Cache::open(&path).unwrap();
    let lock = other.writer().unwrap();
    for number in 0..100 {
        let (key, value) = (format!("{number:02}"), format!("value of {number:02}"));
        cache.insert(key, value);
    }
    assert_eq!(own_values(&cache).await, 10);
    lock.commit().unwrap();
    cache.storage().wait().await;
    assert_eq!(own_values(&cache).await, 10);
    cache.close().await.unwrap();
    drop(cache);
    assert_eq!(own_values(&open(&path).await).await, 10);
}

/// A removal takes the other key of the hash from the disk as well: a miss, not another's value.
#[tokio::test(flavor = "multi_thread")]
async fn removal_of_collision_is_safe() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(&dir.path().join("cache")).await;
    cache.insert("17".to_owned(), "value of 17".to_owned());
    cache.remove("27");
    assert_eq!(own_values(&cache).await, 0);
    cache.insert("27".to_owned(), "value of 27".to_owned());
    cache.storage().wait().await;
    assert_eq!(own_values(&cache).await, 1);
}
