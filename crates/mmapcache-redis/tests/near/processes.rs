//! Several processes with one file: whose copies may be served by whom.

use std::thread;
use std::time::Duration;

use mmapcache_redis::Source;
use rustix::process::Signal;

use crate::children::{Orders, Running, say, server_at};
use crate::server::{Proxy, Redis, wait_until};
use crate::{WINDOW, builder, open, read_until_local, text, wait_until_served};

/// The child copies the key `k` and then does nothing.
fn be_member() -> bool {
    let Some(orders) = Orders::of_this_process() else {
        return false;
    };
    let near = open(&orders.dir, orders.server());
    wait_until("there is a copy", || {
        near.lookup("k").unwrap().source == Source::Local
    });
    say("copied");
    thread::sleep(Duration::from_secs(60));
    true
}

fn start_member(test: &str, dir: &std::path::Path, port: u16) -> Running {
    let mut member = Running::start(&format!("processes::{test}"), dir, port);
    assert_eq!(member.hear(), "copied");
    member
}

#[test]
fn newcomer_joins_proven_epoch() {
    if be_member() {
        return;
    }
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    redis.set("k", "v");
    let _member = start_member("newcomer_joins_proven_epoch", dir.path(), redis.port);
    let calls = redis.calls("get");
    let near = open(dir.path(), server_at(redis.port));
    let answer = near.lookup("k").unwrap();
    assert_eq!(
        (text(answer.value).as_deref(), answer.source),
        (Some("v"), Source::Local)
    );
    assert_eq!(redis.calls("get"), calls);
    let stats = near.stats();
    assert_eq!(
        (stats.epochs_joined, stats.epochs_begun),
        (1, 0),
        "{stats:?}"
    );
    // From now on it hears changes itself.
    redis.set("k", "new");
    wait_until("the new value", || {
        text(near.get("k").unwrap()).as_deref() == Some("new")
    });
}

// The member that made the copy is dead; the key changed since.
#[test]
fn killed_member_proves_nothing() {
    if be_member() {
        return;
    }
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    redis.set("k", "old");
    let mut member = start_member("killed_member_proves_nothing", dir.path(), redis.port);
    member.kill();
    redis.set("k", "new");
    let near = open(dir.path(), server_at(redis.port));
    assert_eq!(text(near.get("k").unwrap()).as_deref(), Some("new"));
    assert_eq!(near.stats().epochs_begun, 1);
}

// The member lives, but has not read what it was told. When it goes on, it must not spoil anything.
#[test]
fn stopped_member_proves_nothing() {
    if be_member() {
        return;
    }
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    redis.set("k", "old");
    let member = start_member("stopped_member_proves_nothing", dir.path(), redis.port);
    member.signal(Signal::STOP);
    redis.set("k", "new");
    let near = open(dir.path(), server_at(redis.port));
    assert_eq!(text(near.get("k").unwrap()).as_deref(), Some("new"));
    read_until_local(&near, "k", Some("new"));
    member.signal(Signal::CONT);
    for _ in 0..100 {
        assert_eq!(text(near.get("k").unwrap()).as_deref(), Some("new"));
        thread::sleep(Duration::from_millis(3));
    }
}

// One process loses its connection while the key changes; the other one hears of it. Then the first one
// joins again, by a proof of the other.
#[test]
fn cut_off_process_joins_again() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    let proxy = Proxy::to(&redis);
    let steady = open(dir.path(), server_at(redis.port));
    let shaky = open(dir.path(), server_at(proxy.port));
    for round in 0..5 {
        let (old, new) = (format!("{round} old"), format!("{round} new"));
        redis.set("k", &old);
        wait_until("the value", || {
            text(shaky.get("k").unwrap()).as_ref() == Some(&old)
        });
        read_until_local(&shaky, "k", Some(&old));
        let connections = shaky.stats().connections;
        proxy.cut();
        redis.set("k", &new);
        wait_until("the new value", || {
            text(steady.get("k").unwrap()).as_ref() == Some(&new)
        });
        read_until_local(&steady, "k", Some(&new));
        wait_until("the connection", || shaky.stats().connections > connections);
        wait_until_served(&shaky);
        let answer = shaky.lookup("k").unwrap();
        assert_eq!(
            (text(answer.value).as_ref(), answer.source),
            (Some(&new), Source::Local)
        );
    }
    let stats = (shaky.stats(), steady.stats());
    assert_eq!(
        (stats.0.epochs_begun, stats.1.epochs_begun),
        (0, 1),
        "{stats:?}"
    );
}

// One process gets its reply, and only later what it was told after it. In between the other one has
// heard that the key changed, so it must never see what the first one made of the reply.
#[test]
fn late_reply_spoils_no_other() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    let proxy = Proxy::to(&redis);
    let steady = open(dir.path(), server_at(redis.port));
    // With a long window it seldom sends a PING, whose reply would be in the way.
    let late = builder(dir.path(), server_at(proxy.port))
        .window(WINDOW * 20)
        .open()
        .unwrap();
    wait_until_served(&late);
    for round in 0..5 {
        let (old, new) = (format!("{round} old"), format!("{round} new"));
        redis.set("k", &old);
        // Both are told; then nothing more is on its way.
        thread::sleep(Duration::from_millis(50));
        let requests = redis.calls("get");
        proxy.hold_replies(0);
        thread::scope(|scope| {
            let reading = scope.spawn(|| text(late.get("k").unwrap()));
            wait_until("the request is executed", || redis.calls("get") > requests);
            thread::sleep(Duration::from_millis(20));
            redis.set("k", &new);
            wait_until("the change", || {
                text(steady.get("k").unwrap()).as_ref() == Some(&new)
            });
            while !reading.is_finished() {
                proxy.hold_replies(1);
                thread::sleep(Duration::from_millis(20));
            }
            assert_eq!(reading.join().unwrap().as_ref(), Some(&old));
        });
        for _ in 0..20 {
            assert_eq!(text(steady.get("k").unwrap()).as_ref(), Some(&new));
            thread::sleep(Duration::from_millis(1));
        }
        proxy.release_replies();
    }
}

// All processes hear of a flush, and end up in one epoch again.
#[test]
fn flush_reaches_all_processes() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    let handles = [(); 3].map(|()| open(dir.path(), server_at(redis.port)));
    redis.set("k", "v");
    for near in &handles {
        wait_until("the value", || near.get("k").unwrap().is_some());
    }
    redis.run(&["FLUSHALL"]);
    for near in &handles {
        wait_until("no value", || near.get("k").unwrap().is_none());
    }
    redis.set("k", "w");
    wait_until("all serve one copy", || {
        handles.iter().all(|near| {
            let answer = near.lookup("k").unwrap();
            answer.source == Source::Local && answer.value.as_deref() == Some(b"w")
        })
    });
}
