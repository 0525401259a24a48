//! Statistics, removals and batches of a cache that a forked child inherits.

use std::sync::atomic::{AtomicU64, Ordering};

use mmapcache::{Cache, ErrorKind, InsertOptions, Result, Update, Version};

use super::child::{Part, say};
use super::process::{fork, join};
use super::runs_well;

static HEARD: AtomicU64 = AtomicU64::new(0);

// What the parent had counted and not added yet, the child does not add a second time.
#[test]
fn child_counts_from_zero() {
    runs_well("counts in a child");
}

pub(super) fn counts_in_a_child(part: &Part) {
    let builder = Cache::builder(&part.path).on_removal(|_, _, _| {
        HEARD.fetch_add(1, Ordering::Relaxed);
    });
    let cache = builder.open().expect("a cache");
    cache.insert("key", "value").expect("an insertion");
    cache.get("key").expect("a lookup");
    let pid = fork(|| {
        let stats = cache.stats().expect("numbers");
        assert_eq!((stats.handle.hits, stats.total.hits), (0, 0));
        for _ in 0..3 {
            cache.get("key").expect("a lookup");
        }
        cache.insert("key", "other").expect("an insertion");
        assert_eq!(HEARD.load(Ordering::Relaxed), 1);
        assert_eq!(cache.stats().expect("numbers").handle.hits, 3);
    });
    join(pid);
    let stats = cache.stats().expect("numbers");
    assert_eq!((stats.handle.hits, stats.total.hits), (1, 4));
    assert_eq!((stats.total.insertions, stats.total.replaced), (2, 1));
    assert_eq!(HEARD.load(Ordering::Relaxed), 0);
    drop(cache);
    let cache = Cache::open(&part.path).expect("a cache");
    assert_eq!(cache.stats().expect("numbers").total.hits, 4);
    say("ran to its end");
}

// Without the lock, what a child reads may change before it writes: it decides nothing.
#[test]
fn inherited_batch_decides_nothing() {
    runs_well("inherits a batch");
}

#[track_caller]
fn assert_forked<T>(result: Result<T>) {
    let error = result.err().expect("a refusal");
    assert!(matches!(error.kind(), ErrorKind::ForkedWriter), "{error}");
}

pub(super) fn inherits_a_batch(part: &Part) {
    let cache = Cache::open(&part.path).expect("a cache");
    let mut batch = cache.writer().expect("a batch");
    let seen = batch.insert("key", "1").expect("an insertion");
    let options = InsertOptions::new();
    let pid = fork(|| {
        assert_forked(batch.entry("key"));
        assert_forked(batch.update("key", |_| Update::Keep));
        for key in ["key", "absent"] {
            assert_forked(batch.add(key, "2", &options));
            assert_forked(batch.replace(key, "2", &options));
            for version in [seen, Version(1)] {
                assert_forked(batch.insert_if(key, "2", version, &options));
                assert_forked(batch.remove_if(key, version));
            }
        }
        assert_eq!(
            cache.get("key").expect("a lookup").as_deref(),
            Some(&b"1"[..])
        );
    });
    join(pid);
    assert_eq!(
        batch.update("key", |_| Update::Delete).expect("a removal"),
        None
    );
    batch.commit().expect("a commit");
    assert_eq!(cache.get("key").expect("a lookup"), None);
    say("ran to its end");
}
