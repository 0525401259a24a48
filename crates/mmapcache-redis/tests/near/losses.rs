//! Lost connections, dead and silent servers, full queues: what is served then.

use std::thread;
use std::time::{Duration, Instant};

use mmapcache_redis::{NearCache, Source};
use rustix::process::Signal;

use crate::server::{Proxy, Redis, wait_until};
use crate::{WINDOW, builder, open, read_until_local, text, wait_until_served};

/// Asserts that no copy is served as a valid one for some time.
fn assert_nothing_served(near: &NearCache, key: &str, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        if let Ok(answer) = near.lookup(key) {
            assert_ne!(answer.source, Source::Local);
        }
    }
}

#[test]
fn killed_server_ends_copies() {
    let (dir, mut redis) = (tempfile::tempdir().unwrap(), Redis::start());
    redis.set("k", "old");
    let near = open(dir.path(), redis.server());
    read_until_local(&near, "k", Some("old"));
    redis.kill();
    wait_until("the loss is seen", || !near.serves_copies());
    assert!(near.get("k").unwrap_err().is_unavailable());
    let answer = near.get_or_unverified("k").unwrap();
    assert_eq!(
        (text(answer.value).as_deref(), answer.source),
        (Some("old"), Source::Unverified)
    );
    assert!(
        near.get_or_unverified("other")
            .unwrap_err()
            .is_unavailable()
    );

    redis.restart();
    wait_until_served(&near);
    assert_eq!(near.lookup("k").unwrap().value, None);
    redis.set("k", "new");
    wait_until("the new value", || {
        text(near.get("k").unwrap()).as_deref() == Some("new")
    });
}

// A replica that has lost its primary refuses all commands that read data, and will serve again. It also
// ends the session, for it answers no PING: the near cache must not connect again without pauses.
#[test]
fn replica_without_primary_is_unavailable() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    redis.set("k", "v");
    let near = open(dir.path(), redis.server());
    read_until_local(&near, "k", Some("v"));
    redis.run(&["CONFIG", "SET", "replica-serve-stale-data", "no"]);
    redis.run(&["REPLICAOF", "127.0.0.1", "1"]);
    wait_until("the loss is seen", || !near.serves_copies());
    let connections = redis.connections();
    thread::sleep(Duration::from_secs(1));
    let made = redis.connections() - connections;
    assert!(made <= 10, "{made} connections in a second");
    let error = near.get("other").unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    let answer = near.get_or_unverified("k").unwrap();
    assert_eq!(answer.source, Source::Unverified);
    redis.run(&["REPLICAOF", "NO", "ONE"]);
    wait_until_served(&near);
    redis.set("k", "new");
    wait_until("the new value", || {
        text(near.get("k").unwrap()).as_deref() == Some("new")
    });
}

// A stopped server keeps its connections. It may go on at any time, so only the window says when the
// copies end.
#[test]
fn stopped_server_ends_window() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    redis.set("k", "v");
    let near = open(dir.path(), redis.server());
    read_until_local(&near, "k", Some("v"));
    redis.signal(Signal::STOP);
    thread::sleep(WINDOW);
    assert!(near.lookup("k").unwrap_err().is_unavailable());
    assert_nothing_served(&near, "k", Duration::from_millis(300));
    redis.signal(Signal::CONT);
    wait_until_served(&near);
    read_until_local(&near, "k", Some("v"));
}

// A connection that is open and carries nothing: the change is never told.
#[test]
fn silent_connection_ends_window() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    let proxy = Proxy::to(&redis);
    redis.set("k", "old");
    let near = open(dir.path(), proxy.server());
    read_until_local(&near, "k", Some("old"));
    proxy.freeze(true);
    redis.set("k", "new");
    let changed = Instant::now();
    let mut last_old = changed;
    while changed.elapsed() < WINDOW * 3 {
        let begun = Instant::now();
        match near.lookup("k") {
            Ok(answer) if answer.value.as_deref() == Some(b"old") => last_old = begun,
            Ok(answer) => panic!("nothing else can be known: {answer:?}"),
            Err(error) => assert!(error.is_unavailable(), "{error}"),
        }
    }
    let late = last_old - changed;
    assert!(late <= WINDOW, "served {late:?} after the change");
    proxy.freeze(false);
    proxy.cut();
    wait_until_served(&near);
    assert_eq!(text(near.get("k").unwrap()).as_deref(), Some("new"));
}

// What changes while there is no connection is never told.
#[test]
fn change_without_connection_is_seen() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    let proxy = Proxy::to(&redis);
    let near = open(dir.path(), proxy.server());
    for round in 0..10 {
        let (old, new) = (format!("{round} old"), format!("{round} new"));
        redis.set("k", &old);
        wait_until("the value", || {
            text(near.get("k").unwrap()).as_ref() == Some(&old)
        });
        read_until_local(&near, "k", Some(&old));
        let connections = near.stats().connections;
        proxy.cut();
        redis.set("k", &new);
        wait_until("the connection", || near.stats().connections > connections);
        wait_until_served(&near);
        assert_eq!(text(near.get("k").unwrap()).as_ref(), Some(&new));
    }
    assert!(near.stats().epochs_begun > 10, "{:?}", near.stats());
}

// No process listened between the two.
#[test]
fn copies_found_at_start_are_unverified() {
    let (dir, mut redis) = (tempfile::tempdir().unwrap(), Redis::start());
    redis.set("k", "old");
    let near = open(dir.path(), redis.server());
    read_until_local(&near, "k", Some("old"));
    drop(near);
    redis.set("k", "new");
    let near = open(dir.path(), redis.server());
    assert_eq!(text(near.get("k").unwrap()).as_deref(), Some("new"));
    read_until_local(&near, "k", Some("new"));
    drop(near);

    redis.kill();
    let near = builder(dir.path(), redis.server())
        .start_offline(true)
        .open()
        .unwrap();
    assert!(near.get("k").is_err());
    assert_eq!(
        near.get_or_unverified("k").unwrap().source,
        Source::Unverified
    );
}

// Another writer holds the file's lock, so no copy can be dropped, and the queue has one place.
#[test]
fn full_queue_drops_everything() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    let near = builder(dir.path(), redis.server()).queue(1).open().unwrap();
    wait_until_served(&near);
    let keys: Vec<String> = (0..50).map(|number| format!("k{number}")).collect();
    for key in &keys {
        redis.set(key, "old");
    }
    for key in &keys {
        wait_until("the copy", || {
            near.lookup(key).unwrap().source == Source::Local
        });
    }
    let overflows = near.stats().overflows;
    let other = mmapcache::Cache::open(near.path()).unwrap();
    let lock = other.writer().unwrap();
    for key in &keys {
        redis.set(key, "new");
    }
    wait_until("the queue is full", || near.stats().overflows > overflows);
    assert!(!near.serves_copies());
    for key in &keys {
        assert_eq!(near.lookup(key).unwrap().source, Source::Server);
    }
    drop(lock);
    wait_until_served(&near);
    for key in &keys {
        assert_eq!(text(near.get(key).unwrap()).as_deref(), Some("new"));
    }
}
