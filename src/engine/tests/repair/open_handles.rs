//! Repairs beside open handles, writers and creators.
//!
//! Tests which of them a repair waits for, and which can continue.

use crate::error::ErrorKind;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::Repair;
use crate::engine::tests::repair::*;

#[test]
fn open_handle_follows_repaired_index() {
    let scratch = scratch();
    let cache = scratch.open(&tiny());
    let reader = scratch.open(Options::new().read_only(true));
    let expected = fill(&cache);
    open_for_change(scratch.path())
        .write_all_at(&[0; 100], 0)
        .unwrap();
    Repair::new(scratch.path()).run().unwrap();
    cache.put(b"new", b"1").unwrap();
    assert_eq!(
        cache.stats().unwrap().generation,
        2,
        "it writes to the replaced files"
    );
    assert_eq!(reader.get(b"new").unwrap().unwrap(), b"1");
    assert_eq!(reader.len() as usize, expected.len() + 1);
    assert_clean(&cache);
}

/// Asserts that a repair fails while a lock is held, and succeeds once the holder is gone.
#[track_caller]
fn assert_waits_for<T>(holder: T, scratch: &Scratch) {
    let mut options = Options::new();
    options.lock_timeout(Some(Duration::from_millis(20)));
    let repair = || Repair::new(scratch.path()).options(&options).run();
    let error = repair().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Locked { .. }), "{error}");
    drop(holder);
    assert!(repair().unwrap().rebuilt);
}

// A repair waits for a writer of the corrupt index.
#[test]
fn repair_waits_for_a_writer() {
    let scratch = scratch();
    let cache = scratch.open(&tiny());
    cache.put(b"k", b"v").unwrap();
    let writer = cache.writer().unwrap();
    open_for_change(scratch.path())
        .write_all_at(&[0; 100], 0)
        .unwrap();
    assert_waits_for(writer, &scratch);
}

#[test]
fn repair_waits_for_creators_and_repairs() {
    let scratch = scratch();
    drop(scratch.open(&tiny()));
    std::fs::remove_file(scratch.path()).unwrap();
    let creating = open_for_change(&named(&scratch, ".lock"));
    fs2::FileExt::lock_exclusive(&creating).unwrap();
    assert_waits_for(creating, &scratch);
}
