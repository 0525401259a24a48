//! The attribute `concurrent_cached` on functions, with this store.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::error::Error;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use cached::ConcurrentCacheBase;
use cached::macros::concurrent_cached;
use mmapcache_cached::{MmapStore, mmapcache};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

/// A static is never dropped: the files of these tests stay in the target directory.
static DIR: LazyLock<TempDir> =
    LazyLock::new(|| TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap());

fn open<K: Serialize, V: DeserializeOwned>(name: &str) -> MmapStore<K, V> {
    MmapStore::open(DIR.path().join(name)).unwrap()
}

static SQUARED: AtomicU32 = AtomicU32::new(0);

#[concurrent_cached(
    name = "SQUARES",
    ty = "MmapStore<u64, u64>",
    create = r#"{ open("squares") }"#
)]
fn square(number: u64) -> Result<u64, Box<dyn Error + Send + Sync>> {
    SQUARED.fetch_add(1, Ordering::Relaxed);
    match number {
        0 => Err("zero is refused".into()),
        _ => Ok(number * number),
    }
}

#[test]
fn results_are_kept_and_errors_not() {
    assert_eq!((square(3).unwrap(), square(3).unwrap()), (9, 9));
    assert_eq!(SQUARED.load(Ordering::Relaxed), 1);
    assert!(square(0).is_err() && square(0).is_err());
    assert_eq!(SQUARED.load(Ordering::Relaxed), 3);
    assert_eq!(
        (SQUARES.cache_hits(), SQUARES.cache_misses()),
        (Some(1), Some(3))
    );
    // Another handle, as a restart would have it.
    let later = open::<u64, u64>("squares");
    let found = cached::ConcurrentCached::cache_get(&later, &3);
    assert_eq!(found.unwrap(), Some(9));
}

/// It has no `Clone`: the attribute stores it from a reference, by `SerializeCached`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Page(String);

#[derive(Debug, thiserror::Error)]
enum PageError {
    #[error("no page {number}")]
    Store {
        number: u32,
        source: mmapcache::Error,
    },
}

#[concurrent_cached(
    ty = "MmapStore<(String, u32), Page>",
    create = r#"{ open("pages") }"#,
    key = "(String, u32)",
    convert = r#"{ (title.to_owned(), number) }"#,
    map_error = |source| PageError::Store { number, source }
)]
fn page(title: &str, number: u32) -> Result<Page, PageError> {
    Ok(Page(format!("{title} {number}")))
}

#[test]
fn values_are_not_cloned() {
    let first = page("a", 1).unwrap();
    assert_eq!(
        (page("a", 1).unwrap(), page("a", 2).unwrap()),
        (first, Page("a 2".to_owned()))
    );
    let PageError::Store { number, source } = page(&"x".repeat(70_000), 1).unwrap_err();
    assert_eq!(number, 1);
    assert!(matches!(
        source.kind(),
        mmapcache::ErrorKind::KeyLength { .. }
    ));
}
