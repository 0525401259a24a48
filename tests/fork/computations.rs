//! Computations of a `Cache` that a fork interrupts: a child has no part in those of its parent.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use mmapcache::{Cache, ComputeOptions, Origin};

use super::child::{Part, say};
use super::process::{end_if_it_hangs, fork, join_in_time, kill};
use super::runs_well;

/// How long an orphan lives after its parent was killed.
const ORPHAN: Duration = Duration::from_secs(2);

fn open(part: &Part) -> Cache {
    Cache::open(&part.path).expect("the cache")
}

fn ask(cache: &Cache, key: &str) -> Origin {
    let value = cache.get_or_insert_with(key, ComputeOptions::new(), || "value");
    let value = value.expect("a value");
    assert_eq!(value.value, b"value");
    value.origin
}

// The child waits as another process would, though it has inherited the handle.
#[test]
fn child_waits_for_parents_computation() {
    runs_well("waits for the parent's computation");
}

pub(super) fn waits_for_the_parents_computation(part: &Part) {
    end_if_it_hangs();
    let cache = open(part);
    let begun = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let value = cache.get_or_insert_with("slow", ComputeOptions::new(), || {
                begun.wait();
                std::thread::sleep(Duration::from_millis(200));
                "value"
            });
            assert_eq!(value.expect("a value").origin, Origin::Computed);
        });
        begun.wait();
        join_in_time(fork(|| {
            assert_eq!(ask(&cache, "other"), Origin::Computed);
            assert_eq!(ask(&cache, "slow"), Origin::Awaited);
            assert_eq!(ask(&cache, "slow"), Origin::Stored);
        }));
        assert_eq!(ask(&cache, "other"), Origin::Stored);
    });
    say("ran to its end");
}

#[test]
fn computation_may_fork() {
    runs_well("forks within a computation");
}

pub(super) fn forks_within_a_computation(part: &Part) {
    end_if_it_hangs();
    let cache = open(part);
    let mut pid = 0;
    let parent = std::process::id();
    let value = cache.get_or_insert_with("key", ComputeOptions::new(), || {
        pid = super::process::fork_here();
        "value"
    });
    assert_eq!(value.expect("a value").value, b"value");
    assert_eq!(ask(&cache, "key"), Origin::Stored);
    assert_eq!(
        ask(&cache, if pid == 0 { "child" } else { "parent" }),
        Origin::Computed
    );
    if std::process::id() != parent {
        super::process::end(true);
    }
    join_in_time(pid);
    say("ran to its end");
}

// A child that keeps its killed parent's lock would block others until it ends.
#[test]
fn orphan_holds_no_computation() {
    runs_well("leaves a child amid a computation");
}

pub(super) fn leaves_a_child_amid_a_computation(part: &Part) {
    end_if_it_hangs();
    let cache = open(part);
    let ready = part.path.with_extension("ready");
    let parent = fork(|| {
        let begun = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                cache.get_or_insert_with("key", ComputeOptions::new(), || {
                    begun.wait();
                    std::thread::sleep(Duration::from_secs(60));
                    "too late"
                })
            });
            begun.wait();
            let orphan = fork(|| {
                std::fs::write(&ready, "").expect("a file");
                std::thread::sleep(ORPHAN);
            });
            join_in_time(orphan);
        });
    });
    while !ready.exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let killed = Instant::now();
    kill(parent);
    assert_eq!(ask(&cache, "key"), Origin::Computed);
    assert!(killed.elapsed() < ORPHAN / 2, "{:?}", killed.elapsed());
    say("ran to its end");
}
