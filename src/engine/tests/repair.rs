//! Repairs caches without index or roster from the heap alone.

mod damage;
mod foreign_files;
mod losses;
mod open_handles;
mod stops;

use crate::error::ErrorKind;
use std::collections::BTreeMap;

use crate::engine::tests::*;
use crate::{Error, Repair, RepairReport};

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

fn named(scratch: &Scratch, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", scratch.path().display()))
}

fn open_for_change(path: &Path) -> std::fs::File {
    std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

/// Fills several segments with entries that are overwritten, deleted, put again and moved by
/// cleaning.
fn fill(cache: &MmapCache) -> Contents {
    let mut expected = Contents::new();
    for round in 0..3_u8 {
        for i in 0..120_u32 {
            let (key, value) = (
                format!("key {i}").into_bytes(),
                vec![round; 60 + i as usize],
            );
            cache.put(&key, &value).unwrap();
            expected.insert(key, value);
        }
    }
    for i in 0..40_u32 {
        let key = format!("key {}", i * 3).into_bytes();
        assert!(cache.delete(&key).unwrap());
        expected.remove(&key);
    }
    expected
}

/// Creates a cache with these entries.
fn filled() -> (Scratch, Contents) {
    let scratch = scratch();
    let expected = fill(&scratch.open(&tiny()));
    (scratch, expected)
}

fn contents(cache: &MmapCache) -> Contents {
    cache.iter().unwrap().map(|item| item.unwrap()).collect()
}

/// Repairs, and asserts that the cache is complete and can be written.
fn assert_repaired(scratch: &Scratch, expected: &Contents) -> RepairReport {
    let repaired = Repair::new(scratch.path()).run().unwrap();
    let cache = scratch.open(&Options::new());
    assert_eq!(contents(&cache), *expected);
    assert_eq!(repaired.entries as usize, expected.len());
    assert_clean(&cache);
    cache.put(b"afterwards", b"v").unwrap();
    assert_eq!(cache.get(b"afterwards").unwrap().unwrap(), b"v");
    assert!(cache.delete(b"afterwards").unwrap());
    repaired
}

#[test]
fn repair_leaves_valid_cache_alone() {
    let scratch = scratch();
    let cache = scratch.open(&tiny());
    let expected = fill(&cache);
    let generation = cache.stats().unwrap().generation;
    let repaired = assert_repaired(&scratch, &expected);
    assert!(!repaired.rebuilt);
    assert_eq!(cache.stats().unwrap().generation, generation);
}

// A sync that failed under this boot is still reported after a repair.
#[test]
fn repair_keeps_the_sync_error() {
    let scratch = scratch();
    let cache = scratch.open(&tiny());
    cache.put(b"k", b"v").unwrap();
    generation_of(&cache)
        .header()
        .durability_words()
        .set_sync_failed(true);
    drop(cache);
    std::fs::remove_file(named(&scratch, ".roster")).unwrap();
    assert!(Repair::new(scratch.path()).run().unwrap().rebuilt);
    let cache = scratch.open(&tiny());
    assert!(matches!(
        cache.flush().as_ref().map_err(Error::kind),
        Err(ErrorKind::SyncFailed)
    ));
}

#[test]
fn repair_progress_reaches_heap_end() {
    let scratch = scratch();
    let cache = scratch.open(&Options::new());
    for i in 0..5_000_u32 {
        cache.put(&i.to_le_bytes(), &[7; 1_000]).unwrap();
    }
    drop(cache);
    std::fs::remove_file(scratch.path()).unwrap();
    let mut told = Vec::new();
    Repair::new(scratch.path())
        .on_progress(|progress| told.push(progress))
        .run()
        .unwrap();
    assert!(told.len() > 4, "{told:?}");
    assert!(
        told.windows(2)
            .all(|pair| pair[0].done_bytes <= pair[1].done_bytes)
    );
    let last = told.last().unwrap();
    assert_eq!((last.done_bytes, last.records), (last.total_bytes, 5_000));
}
