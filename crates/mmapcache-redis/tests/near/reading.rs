//! Copies: when they are made, and when they end.

use std::thread;
use std::time::Duration;

use mmapcache_redis::{NearCache, Source};

use crate::server::{Redis, wait_until};
use crate::{builder, open, read_until_local, text, wait_until_served};

#[test]
fn second_get_asks_no_server() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    redis.set("k", "v");
    let near = open(dir.path(), redis.server());
    let first = near.lookup("k").unwrap();
    assert_eq!(
        (first.value.as_deref(), first.source),
        (Some(&b"v"[..]), Source::Server)
    );
    let calls = redis.calls("get");
    for _ in 0..1_000 {
        let answer = near.lookup("k").unwrap();
        assert_eq!(
            (answer.value.as_deref(), answer.source),
            (Some(&b"v"[..]), Source::Local)
        );
    }
    assert_eq!(redis.calls("get"), calls);
    assert_eq!(near.stats().local_hits, 1_000);
}

#[test]
fn change_elsewhere_is_seen() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    let near = open(dir.path(), redis.server());
    for round in 0..20 {
        let value = round.to_string();
        redis.set("k", &value);
        wait_until("the new value", || {
            text(near.get("k").unwrap()).as_ref() == Some(&value)
        });
        read_until_local(&near, "k", Some(&value));
    }
    redis.run(&["DEL", "k"]);
    wait_until("no value", || near.get("k").unwrap().is_none());
}

// That a key is missing is a copy too, and ends when the key is made.
#[test]
fn absent_key_is_copied() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    let near = open(dir.path(), redis.server());
    read_until_local(&near, "k", None);
    redis.set("k", "");
    wait_until("the value", || near.get("k").unwrap().is_some());
    read_until_local(&near, "k", Some(""));
}

#[test]
fn absent_for_zero_copies_nothing() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    let near = builder(dir.path(), redis.server())
        .absent_for(Duration::ZERO)
        .open()
        .unwrap();
    wait_until_served(&near);
    for _ in 0..10 {
        assert_eq!(near.lookup("k").unwrap().source, Source::Server);
    }
}

// The server does not look for expired keys here, so it tells nothing until a client touches the key:
// the copy must end by its own clock.
#[test]
fn copy_ends_with_server_life() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    redis.run(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
    let near = open(dir.path(), redis.server());
    redis.run(&["SET", "k", "v", "PX", "400"]);
    read_until_local(&near, "k", Some("v"));
    thread::sleep(Duration::from_millis(410));
    assert_eq!(near.get("k").unwrap(), None);
}

// SWAPDB exchanges all values and tells nothing. The age limit ends the copies.
#[test]
fn age_limit_ends_copies() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    let mut other = redis.client();
    redis::cmd("SELECT").arg(1).exec(&mut other).unwrap();
    redis::cmd("SET")
        .arg("k")
        .arg("swapped")
        .exec(&mut other)
        .unwrap();
    redis.set("k", "v");
    let age_limit = Duration::from_millis(400);
    let near = NearCache::open(dir.path().join("near"), redis.url().as_str(), age_limit).unwrap();
    wait_until_served(&near);
    read_until_local(&near, "k", Some("v"));
    redis.run(&["SWAPDB", "0", "1"]);
    thread::sleep(age_limit + Duration::from_millis(10));
    assert_eq!(near.get("k").unwrap().as_deref(), Some(&b"swapped"[..]));
}

// Also of another database, which the server does not tell apart.
#[test]
fn flush_drops_everything() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    let near = open(dir.path(), redis.server());
    for round in 1..=5 {
        for key in ["a", "b", "c"] {
            redis.set(key, "v");
        }
        wait_until("all values", || near.get("c").unwrap().is_some());
        for key in ["a", "b", "c"] {
            read_until_local(&near, key, Some("v"));
        }
        let command = if round % 2 == 0 {
            "FLUSHALL"
        } else {
            "FLUSHDB"
        };
        redis.run(&[command]);
        wait_until("no value", || {
            ["a", "b", "c"]
                .iter()
                .all(|key| near.get(key).unwrap().is_none())
        });
        assert_eq!(near.stats().flushes, round);
    }
    let mut other = redis.client();
    redis::cmd("SELECT").arg(9).exec(&mut other).unwrap();
    redis::cmd("FLUSHDB").exec(&mut other).unwrap();
    wait_until("the flush is told", || near.stats().flushes == 6);
}

#[test]
fn untracked_prefix_is_not_copied() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    let near = builder(dir.path(), redis.server())
        .prefixes(["user:", "page:"])
        .open()
        .unwrap();
    wait_until_served(&near);
    for key in ["user:1", "page:1", "other:1"] {
        redis.set(key, "v");
    }
    // The server does not tell it of the change of another key.
    wait_until("two keys were told", || near.stats().invalidated_keys == 2);
    read_until_local(&near, "user:1", Some("v"));
    read_until_local(&near, "page:1", Some("v"));
    for _ in 0..10 {
        assert_eq!(near.lookup("other:1").unwrap().source, Source::Server);
    }
    redis.set("user:1", "w");
    wait_until("the new value", || {
        near.get("user:1").unwrap().as_deref() == Some(b"w")
    });
}

// The local file has keys of 65,535 bytes at most, Redis of 512 MB.
#[test]
fn long_key_is_not_copied() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    let near = open(dir.path(), redis.server());
    for (length, source) in [
        (65_526, Source::Local),
        (65_527, Source::Server),
        (0, Source::Local),
    ] {
        let key = "k".repeat(length);
        near.set(&key, "v").unwrap();
        wait_until("the answer", || {
            let answer = near.lookup(&key).unwrap();
            assert_eq!(answer.value.as_deref(), Some(&b"v"[..]));
            answer.source == source
        });
    }
}

#[test]
fn wrong_type_is_refused() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    redis.run(&["RPUSH", "list", "x"]);
    let near = open(dir.path(), redis.server());
    let error = near.get("list").unwrap_err();
    assert!(
        !error.is_unavailable() && error.to_string().contains("WRONGTYPE"),
        "{error}"
    );
    redis.set("list", "v");
    wait_until("the value", || near.get("list").is_ok());
    read_until_local(&near, "list", Some("v"));
}

// Two databases in one file do not mix.
#[test]
fn databases_do_not_mix() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    let second = format!("{}1", redis.url());
    let second = mmapcache_redis::Server::try_from(second.as_str()).unwrap();
    let (first, second) = (open(dir.path(), redis.server()), open(dir.path(), second));
    first.set("k", "of 0").unwrap();
    second.set("k", "of 1").unwrap();
    read_until_local(&first, "k", Some("of 0"));
    read_until_local(&second, "k", Some("of 1"));
    read_until_local(&first, "k", Some("of 0"));
}
