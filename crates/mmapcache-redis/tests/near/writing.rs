//! Writes: no reader of the machine gets the value before one that has returned.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use mmapcache_redis::NearCache;
use rustix::process::Signal;

use crate::server::{Redis, wait_until};
use crate::{Ending, builder, open, read_until_local, text};

fn number(near: &NearCache, key: &str) -> u64 {
    text(near.get(key).unwrap()).map_or(0, |text| text.parse().unwrap())
}

// The readers fetch all the time, so a reply from before the write is usually on its way when the write
// is executed. The second handle acts as another process.
#[test]
fn write_is_read_back() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    let (near, other) = (
        open(dir.path(), redis.server()),
        open(dir.path(), redis.server()),
    );
    let (written, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let _ending = Ending(&is_over);
        for reader in [&near, &near, &other] {
            let (written, is_over) = (&written, &is_over);
            scope.spawn(move || {
                while !is_over.load(SeqCst) {
                    let before = written.load(SeqCst);
                    let seen = number(reader, "k");
                    assert!(seen >= before, "{seen} after {before}");
                }
            });
        }
        for round in 1..=1_500_u64 {
            near.set("k", round.to_string()).unwrap();
            written.store(round, SeqCst);
            assert_eq!(number(&near, "k"), round);
            assert_eq!(number(&other, "k"), round);
        }
    });
    assert!(
        near.stats().stored + other.stats().stored > 10,
        "{:?}",
        near.stats()
    );
}

#[test]
fn deletion_is_read_back() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    let near = open(dir.path(), redis.server());
    for _ in 0..100 {
        near.set_for("k", "v", Duration::from_secs(60)).unwrap();
        assert_eq!(near.get("k").unwrap().as_deref(), Some(&b"v"[..]));
        assert!(near.delete("k").unwrap());
        assert_eq!(near.get("k").unwrap(), None);
        assert!(!near.delete("k").unwrap());
    }
}

#[test]
fn life_reaches_the_server() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    let near = open(dir.path(), redis.server());
    near.set_for("k", "v", Duration::from_millis(150)).unwrap();
    assert!(near.get("k").unwrap().is_some());
    thread::sleep(Duration::from_millis(160));
    assert_eq!(near.get("k").unwrap(), None);
    let error = near.set_for("k", "v", Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains("`life`"), "{error}");
    assert_eq!(near.get("k").unwrap(), None);
}

// It is not known whether the write was executed. The old copy must not stay either way, not even
// unverified.
#[test]
fn unanswered_write_drops_copy() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    let near = open(dir.path(), redis.server());
    near.set("k", "old").unwrap();
    read_until_local(&near, "k", Some("old"));
    redis.signal(Signal::STOP);
    let error = near.set("k", "new").unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    assert!(near.get_or_unverified("k").is_err());
    redis.signal(Signal::CONT);
    wait_until("the new value", || {
        near.get("k")
            .is_ok_and(|value| value.as_deref() == Some(b"new"))
    });
}

// Without the file's lock the copy cannot be dropped: then the write must not happen.
#[test]
fn write_without_lock_is_not_sent() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    let mut options = mmapcache::Options::new();
    options.lock_timeout(Some(Duration::from_millis(50)));
    let near = builder(dir.path(), redis.server())
        .file(|file| file.options(&options))
        .open()
        .unwrap();
    crate::wait_until_served(&near);
    near.set("k", "old").unwrap();
    read_until_local(&near, "k", Some("old"));
    let other = mmapcache::Cache::open(near.path()).unwrap();
    let lock = other.writer().unwrap();
    let error = near.set("k", "new").unwrap_err();
    assert!(matches!(error, mmapcache_redis::Error::File(_)), "{error}");
    drop(lock);
    assert_eq!(text(near.get("k").unwrap()).as_deref(), Some("old"));
}
