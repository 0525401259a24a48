//! Values that are swapped, and lives that uses prolong: what `operations` leaves out.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};

use crate::cache::tests::*;
use crate::cache::{ComputeOptions, Origin};
use crate::engine::RemovalCause;
use crate::format::internal::LONG_VALUE;

/// A computation that is not needed.
fn known() -> std::result::Result<Option<Vec<u8>>, Infallible> {
    panic!("it is there");
}

fn remaining(cache: &Cache, key: &str) -> Option<Duration> {
    cache.peek_entry(key).unwrap().unwrap().remaining()
}

// What replaces an entry has nothing of it.
#[test]
fn swap_takes_the_new_options() {
    let (_dir, path) = place();
    let (tell, heard) = mpsc::channel();
    let cache = Cache::builder(&path)
        .on_removal(move |_, cause, len| tell.send((cause, len)).unwrap())
        .open()
        .unwrap();
    let old = ttl(HOUR).tag("old").stale_for(HOUR);
    let before = cache.insert_with("key", "value", &old).unwrap();
    let new = ttl(2 * HOUR).tag("new");
    let replaced = cache.swap("key", "other value", &new).unwrap();
    assert_eq!(replaced.unwrap(), b"value");
    let entry = cache.entry("key").unwrap().unwrap();
    assert!(entry.version() > before && entry.has_tag("new") && !entry.has_tag("old"));
    assert_eq!(
        (entry.value(), entry.stale_for()),
        (&b"other value"[..], None)
    );
    assert_close(entry.remaining(), 2 * HOUR);
    assert_eq!(
        heard.try_iter().collect::<Vec<_>>(),
        [(RemovalCause::Replaced, 5)]
    );
    // A stale value is there to be replaced as well.
    let stale = ttl(Duration::ZERO).stale_for(HOUR);
    cache.insert_with("key", "late", &stale).unwrap();
    assert_eq!(cache.swap("key", "4", &new).unwrap().unwrap(), b"late");
}

#[test]
fn refused_swap_returns_nothing() {
    let (_dir, path) = place();
    let cache = Cache::builder(&path).max_bytes(1 << 20).open().unwrap();
    cache.insert("key", "value").unwrap();
    let refused = cache.swap("key", vec![0; 1 << 20], &ttl(HOUR)).unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::ValueTooLarge { .. }));
    assert_eq!(cache.get("key").unwrap().unwrap(), b"value");
}

#[test]
fn renewing_lookups_are_counted() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    cache.insert_with("key", "value", &ttl(HOUR)).unwrap();
    let stale = ttl(Duration::ZERO).stale_for(HOUR);
    cache.insert_with("stale", "late", &stale).unwrap();
    cache.insert_absent("negative", HOUR).unwrap();
    for key in ["key", "key", "stale", "negative", "absent", "absent"] {
        cache.get_and_renew(key, HOUR).unwrap();
    }
    let counts = cache.stats().unwrap().handle;
    assert_eq!((counts.hits, counts.stale_hits), (2, 1));
    assert_eq!((counts.negative_hits, counts.misses), (1, 2));
    assert_eq!(mark(&cache, b"key"), 2);
}

// Neither the value nor the groups are touched, of a long value either, which is not written again.
#[test]
fn renewal_keeps_the_entry() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    for len in [5, LONG_VALUE + 1] {
        let options = ttl(HOUR).tag("t").stale_for(HOUR);
        let version = cache.insert_with("key", vec![7; len], &options).unwrap();
        let found = cache.get_and_renew("key", 3 * HOUR).unwrap();
        assert_eq!(found.unwrap(), vec![7; len]);
        let entry = cache.peek_entry("key").unwrap().unwrap();
        assert_eq!(
            (entry.value(), entry.version()),
            (&vec![7; len][..], version)
        );
        assert!(entry.has_tag("t") && entry.stale_for() == Some(HOUR));
        assert_close(entry.remaining(), 3 * HOUR);
    }
}

#[test]
fn read_only_handles_renew_nothing() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    cache.insert_with("key", "value", &ttl(HOUR)).unwrap();
    let mut options = Options::new();
    options.read_only(true);
    let reader = Cache::open_with(&path, &options).unwrap();
    let found = reader.get_and_renew("key", 9 * HOUR).unwrap();
    assert_eq!(found.unwrap(), b"value");
    let computing = ComputeOptions::new().renew(9 * HOUR);
    let found = reader.get_or_insert_with("key", computing, || -> Vec<u8> { panic!("is there") });
    assert_eq!(found.unwrap().origin, Origin::Stored);
    assert_close(remaining(&cache, "key"), HOUR);
}

// The calls that compute renew a value and nothing else: what is known not to exist is looked for again
// when its time is over.
#[test]
fn computing_calls_renew_values_only() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    cache.insert_with("key", "value", &ttl(HOUR)).unwrap();
    cache.insert_absent("negative", HOUR).unwrap();
    let stale = ttl(Duration::ZERO).stale_for(HOUR);
    cache.insert_with("stale", "late", &stale).unwrap();
    let renew = ComputeOptions::from(ttl(HOUR)).renew(5 * HOUR);
    let none = cache.get_or_try_insert_optional_with("negative", renew, known);
    assert!(none.unwrap().is_none());
    assert_close(remaining(&cache, "negative"), HOUR);
    // What was computed has the life of an insertion, not that of a use.
    for (key, value) in [("stale", "new"), ("absent", "new")] {
        let found = cache.get_or_insert_with(key, renew, || "new").unwrap();
        assert_eq!(
            (&found.value[..], found.origin),
            (value.as_bytes(), Origin::Computed)
        );
        assert_close(remaining(&cache, key), HOUR);
    }
    let found = cache.get_or_insert_with("key", renew, || "new").unwrap();
    assert_eq!(
        (&found.value[..], found.origin),
        (&b"value"[..], Origin::Stored)
    );
    assert_close(remaining(&cache, "key"), 5 * HOUR);
}

#[test]
fn tasks_renew_what_they_find() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    cache.insert_with("key", "value", &ttl(HOUR)).unwrap();
    let renew = ComputeOptions::new().renew(5 * HOUR);
    let sleep = |_| std::future::ready(());
    let compute = || async { known().map(|none| none.unwrap_or_default()) };
    let found = pin!(cache.get_or_try_insert_async("key", renew, sleep, compute));
    let Poll::Ready(found) = found.poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("nothing to wait for");
    };
    assert_eq!(found.unwrap().value, b"value");
    assert_close(remaining(&cache, "key"), 5 * HOUR);
}
