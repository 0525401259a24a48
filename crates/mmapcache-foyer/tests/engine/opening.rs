//! What opening refuses, and what other files, formats and processes do to a cache.

use std::io::{Read, Write};

use crate::common::{Fragile, get, get_from_disk, open, open_with};
use foyer::{HybridCache, HybridCacheBuilder, HybridCachePolicy, RecoverMode};
use mmapcache::MmapCache;
use mmapcache_foyer::MmapEngineConfig;

async fn error_of(engine: MmapEngineConfig<u64, String>) -> foyer::Error {
    HybridCacheBuilder::new()
        .memory(10)
        .storage()
        .with_engine_config(engine)
        .build()
        .await
        .expect_err("opening succeeded")
}

/// The error names the path, says what to do, and keeps mmapcache's error for programs.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    drop(MmapCache::open(&path).unwrap());
    let error = error_of(MmapEngineConfig::new(&path)).await;
    assert_eq!(error.kind(), foyer::ErrorKind::Config);
    assert!(
        error.to_string().contains(path.to_str().unwrap()),
        "{error}"
    );
    let cause = error.downcast_ref::<mmapcache::Error>().unwrap();
    assert!(matches!(
        cause.kind(),
        mmapcache::ErrorKind::OtherType { .. }
    ));

    let text = dir.path().join("text");
    std::fs::write(&text, "x".repeat(10_000)).unwrap();
    let error = error_of(MmapEngineConfig::new(&text)).await;
    assert_eq!(error.kind(), foyer::ErrorKind::Parse);

    let missing = dir.path().join("missing").join("cache");
    let error = error_of(MmapEngineConfig::new(&missing)).await;
    assert_eq!(error.kind(), foyer::ErrorKind::Io);
    assert!(error.to_string().contains("missing"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_bound_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let engine = MmapEngineConfig::new(dir.path().join("cache")).with_max_bytes(1_000);
    assert_eq!(error_of(engine).await.kind(), foyer::ErrorKind::Config);
}

/// A program whose types changed reads nothing of the old ones, which might ask for any amount of memory.
#[tokio::test(flavor = "multi_thread")]
async fn entries_of_other_types_miss() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let numbers: HybridCache<u64, Fragile> = HybridCacheBuilder::new()
        .with_policy(HybridCachePolicy::WriteOnInsertion)
        .memory(10)
        .storage()
        .with_engine_config(MmapEngineConfig::new(&path))
        .build()
        .await
        .unwrap();
    numbers.insert(1, Fragile(255));
    numbers.close().await.unwrap();

    let engine = MmapEngineConfig::new(&path);
    let monitor = engine.monitor();
    let cache = open_with(engine, HybridCachePolicy::WriteOnInsertion, 10).await;
    assert_eq!(get(&cache, 1).await, None);
    assert_eq!(monitor.counts().undecoded, 1);
    cache.insert(1, "text".to_owned());
    cache.close().await.unwrap();
    assert_eq!(get_from_disk(&cache, 1).await.as_deref(), Some("text"));
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_other_formats_miss() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    for (format, found) in [("1", None), ("1", Some("1")), ("2", None), ("2", Some("2"))] {
        let engine = MmapEngineConfig::new(&path).with_format(format);
        let cache = open_with(engine, HybridCachePolicy::WriteOnInsertion, 10).await;
        assert_eq!(get(&cache, 1).await.as_deref(), found);
        cache.insert(1, format.to_owned());
        cache.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_of_nothing_empties_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let cache = open(&path).await;
    cache.insert(1, "value".to_owned());
    cache.close().await.unwrap();
    drop(cache);
    for (mode, found) in [
        (RecoverMode::Strict, Some("value")),
        (RecoverMode::None, None),
        (RecoverMode::Quiet, None),
    ] {
        let cache: crate::common::Strings = HybridCacheBuilder::new()
            .memory(10)
            .storage()
            .with_recover_mode(mode)
            .with_engine_config(MmapEngineConfig::new(&path))
            .build()
            .await
            .unwrap();
        assert_eq!(get(&cache, 1).await.as_deref(), found, "{mode:?}");
    }
}

/// Two processes at once: the disk tier is one, the memory tiers are two.
#[tokio::test(flavor = "multi_thread")]
async fn second_process_shares_the_disk() {
    if let Some(path) = crate::common::child_path() {
        let cache = open(path.as_ref()).await;
        assert_eq!(get(&cache, 1).await.as_deref(), Some("of the parent"));
        for key in 100..1_100 {
            cache.insert(key, "of the child".to_owned());
        }
        cache.insert(2, "of the child".to_owned());
        cache.remove(&3);
        cache.storage().wait().await;
        println!("\nready");
        std::io::stdin().read_exact(&mut [0]).unwrap();
        assert_eq!(get(&cache, 4).await.as_deref(), Some("of the parent"));
        println!("\nseen");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let cache = open(&path).await;
    for key in 1..4 {
        cache.insert(key, "of the parent".to_owned());
    }
    cache.storage().wait().await;
    let mut child = crate::common::run_child("opening::second_process_shares_the_disk", &path);
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut wait_for = |wanted: &str| {
        use std::io::BufRead;
        let mut lines = output.by_ref().lines().map_while(Result::ok);
        assert!(lines.any(|line| line == wanted), "no line {wanted:?}");
    };
    wait_for("ready");
    for key in 100..1_100 {
        assert_eq!(get(&cache, key).await.as_deref(), Some("of the child"));
    }
    // What this process has in memory it does not look up on the disk: documented.
    assert_eq!(get(&cache, 2).await.as_deref(), Some("of the parent"));
    assert_eq!(
        get_from_disk(&cache, 2).await.as_deref(),
        Some("of the child")
    );
    assert_eq!(get(&cache, 3).await, None);
    cache.insert(4, "of the parent".to_owned());
    cache.storage().wait().await;
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    wait_for("seen");
    assert!(child.wait().unwrap().success());
}
