//! One computation per cluster and per machine.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use mmapcache_redis::{ComputeError, ComputeOptions, NearCache, Source};

use crate::children::{Orders, Running, say, server_at};
use crate::open;
use crate::server::Redis;

fn counted(near: &NearCache, redis: &Redis) -> Vec<u8> {
    let answer = near.get_or_try_insert_with("k", &ComputeOptions::new(), || {
        let mut client = redis.client();
        let number: i64 = redis::cmd("INCR")
            .arg("computations")
            .query(&mut client)
            .unwrap();
        thread::sleep(Duration::from_millis(100));
        Ok::<_, Infallible>(number.to_string().into_bytes())
    });
    answer.unwrap().value.unwrap()
}

// Two machines, that is: two files, with four callers each.
#[test]
fn computation_runs_once_per_cluster() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let redis = Redis::start();
    let machines = dirs.each_ref().map(|dir| open(dir.path(), redis.server()));
    thread::scope(|scope| {
        for near in machines.iter().cycle().take(8) {
            scope.spawn(|| assert_eq!(counted(near, &redis), b"1"));
        }
    });
    assert_eq!(
        redis.run(&["GET", "computations"]),
        redis::Value::BulkString(b"1".to_vec())
    );
    assert_eq!(
        redis.run(&["EXISTS", "mmapcache:lease:k"]),
        redis::Value::Int(0)
    );
}

// Processes of one machine: one asks for the lease, the others wait at the file.
#[test]
fn computation_runs_once_per_machine() {
    if let Some(orders) = Orders::of_this_process() {
        let near = open(&orders.dir, orders.server());
        say("ready");
        let mut client = redis::Client::open(format!("redis://127.0.0.1:{}", orders.port))
            .unwrap()
            .get_connection()
            .unwrap();
        let answer = near.get_or_try_insert_with("k", &ComputeOptions::new(), || {
            let number: i64 = redis::cmd("INCR")
                .arg("computations")
                .query(&mut client)
                .unwrap();
            thread::sleep(Duration::from_millis(300));
            Ok::<_, Infallible>(number.to_string().into_bytes())
        });
        say(std::str::from_utf8(&answer.unwrap().value.unwrap()).unwrap());
        return;
    }
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    let name = "computing::computation_runs_once_per_machine";
    let mut children = [(); 4].map(|()| Running::start(name, dir.path(), redis.port));
    for child in &mut children {
        assert_eq!(child.hear(), "ready");
    }
    for child in &mut children {
        assert_eq!(child.hear(), "1");
    }
    // One SET for the lease and one in the script; a caller that is late may ask once more.
    let calls = redis.calls("set");
    assert!(calls <= 6, "{calls} SETs");
    // Nobody polled for it.
    let near = open(dir.path(), server_at(redis.port));
    assert_eq!(near.get("k").unwrap().as_deref(), Some(&b"1"[..]));
}

#[test]
fn present_value_is_not_computed() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    redis.set("k", "there");
    let near = open(dir.path(), redis.server());
    let answer = near
        .get_or_try_insert_with(
            "k",
            &ComputeOptions::new(),
            || -> Result<Vec<u8>, Infallible> { panic!("there is a value") },
        )
        .unwrap();
    assert_eq!(
        (answer.value.as_deref(), answer.source),
        (Some(&b"there"[..]), Source::Server)
    );
}

#[test]
fn failure_gives_lease_back() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    let near = open(dir.path(), redis.server());
    let options = ComputeOptions::new().life(Duration::from_secs(60));
    let begun = Instant::now();
    let failed = near.get_or_try_insert_with("k", &options, || Err("no"));
    assert!(
        matches!(failed, Err(ComputeError::Failed("no"))),
        "{failed:?}"
    );
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        near.get_or_try_insert_with("k", &options, || -> Result<Vec<u8>, Infallible> {
            panic!("as the test wants")
        })
    }));
    assert!(panicked.is_err());
    let answer = near.get_or_try_insert_with("k", &options, || Ok::<_, Infallible>(b"v".to_vec()));
    assert_eq!(answer.unwrap().source, Source::Computed);
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "the lease was kept"
    );
    let redis::Value::Int(life) = redis.run(&["PTTL", "k"]) else {
        panic!("a number")
    };
    assert!((50_000..=60_000).contains(&life), "{life}");
}

// The lease ends during the computation, and another machine's value is there: it stays.
#[test]
fn late_value_is_not_stored() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let redis = Redis::start();
    let machines = dirs.each_ref().map(|dir| open(dir.path(), redis.server()));
    let options = ComputeOptions::new().lease(Duration::from_millis(100));
    let computed = AtomicU32::new(0);
    let answer = thread::scope(|scope| {
        let late = scope.spawn(|| {
            machines[0].get_or_try_insert_with("k", &options, || {
                computed.fetch_add(1, SeqCst);
                thread::sleep(Duration::from_millis(400));
                Ok::<_, Infallible>(b"late".to_vec())
            })
        });
        thread::sleep(Duration::from_millis(30));
        let early = machines[1].get_or_try_insert_with("k", &options, || {
            computed.fetch_add(1, SeqCst);
            Ok::<_, Infallible>(b"early".to_vec())
        });
        assert_eq!(early.unwrap().value.as_deref(), Some(&b"early"[..]));
        late.join().unwrap().unwrap()
    });
    assert_eq!(answer.value.as_deref(), Some(&b"late"[..]));
    assert_eq!(computed.load(SeqCst), 2);
    assert_eq!(
        machines[0].get("k").unwrap().as_deref(),
        Some(&b"early"[..])
    );
}

// The lease is another machine's, which died with it.
#[test]
fn lost_patience_computes() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    redis.run(&["SET", "mmapcache:lease:k", "dead", "PX", "60000"]);
    let near = open(dir.path(), redis.server());
    let options = ComputeOptions::new().patience(Duration::from_millis(150));
    let begun = Instant::now();
    let answer = near.get_or_try_insert_with("k", &options, || Ok::<_, Infallible>(b"v".to_vec()));
    assert_eq!(answer.unwrap().source, Source::Computed);
    assert!(begun.elapsed() >= Duration::from_millis(150));
    assert_eq!(near.get("k").unwrap(), None);
    let error =
        near.get_or_try_insert_with("k", &ComputeOptions::new().lease(Duration::ZERO), || {
            Ok::<_, Infallible>(Vec::new())
        });
    assert!(error.unwrap_err().to_string().contains("`lease`"));
}
