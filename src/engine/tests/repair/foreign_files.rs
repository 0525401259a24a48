//! Files of another cache in the place of a cache's own, which must not identify it.
//!
//! They are valid: only their ids differ.

use crate::Repair;
use crate::engine::tests::repair::*;

// The index of another cache does not count for this heap.
#[test]
fn foreign_index_does_not_describe_heap() {
    let (scratch, other) = (scratch(), crate::engine::tests::repair::scratch());
    let cache = scratch.open(&tiny());
    let expected = fill(&cache);
    other.open(&tiny()).put(b"other", b"v").unwrap();
    drop(cache);
    std::fs::copy(other.path(), scratch.path()).unwrap();
    assert!(tiny().open(scratch.path()).unwrap_err().is_corruption());
    assert_repaired(&scratch, &expected);
}

// A segment of another cache does not determine which cache this is if the roster is present.
#[test]
fn foreign_segment_does_not_identify_heap() {
    let (scratch, other) = (scratch(), crate::engine::tests::repair::scratch());
    let cache = scratch.open(&tiny());
    let expected = fill(&cache);
    let later = other.open(&tiny());
    later.put(b"other", b"v").unwrap();
    drop((cache, later));
    std::fs::remove_file(scratch.path()).unwrap();
    let sealed_for_another_name = std::fs::read(named(&other, ".heap")).unwrap();
    std::fs::write(named(&scratch, ".heap"), sealed_for_another_name).unwrap();
    Repair::new(scratch.path()).run().unwrap();
    let cache = scratch.open(&tiny());
    assert_eq!(cache.get(b"other").unwrap(), None, "it is another cache's");
    for (key, value) in contents(&cache) {
        let newest = expected.get(&key);
        assert!(newest.is_none_or(|newest| newest.len() == value.len()));
    }
    assert!(!cache.is_empty());
}

/// A repair locks the file at the path as its writers would, by a store to it. A file that is no
/// index, without files of a cache beside it, has no such writers, and must stay unchanged.
#[test]
fn foreign_file_stays_unchanged() {
    let scratch = scratch();
    let foreign = vec![0xff; 5_000];
    std::fs::write(scratch.path(), &foreign).unwrap();
    Repair::new(scratch.path()).run().unwrap_err();
    assert_eq!(std::fs::read(scratch.path()).unwrap(), foreign);
    let beside: Vec<_> = std::fs::read_dir(scratch.path().parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| !name.to_string_lossy().ends_with(".lock"))
        .collect();
    assert_eq!(beside, [scratch.path().file_name().unwrap()]);
}
