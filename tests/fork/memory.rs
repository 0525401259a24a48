//! Objects in memory that a forked child inherits while other threads of the parent use them:
//! pools, decoded instances, dictionaries.
//!
//! A child that does not end is killed, and fails its test.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

use mmapcache::Labels;
use mmapcache::intern::{DecodeCache, DecodeOptions, Pool, PoolOptions, Retention, TypedPool};

use super::child::{Part, say};
use super::process::{end, fork, fork_here, join_in_time};
use super::runs_well;

/// Forks of each test. Without a fork handler that waits for other threads, about one in a hundred
/// hangs.
const FORKS: usize = 120;

/// Forks again and again while four threads run `busy`; each child runs `body`.
pub(super) fn fork_amid(busy: impl Fn(u64) + Sync, body: impl Fn(usize)) {
    let (over, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    busy(rounds.fetch_add(1, Ordering::Relaxed));
                }
            });
        }
        let ended = catch_unwind(AssertUnwindSafe(|| {
            for number in 0..FORKS {
                join_in_time(fork(|| body(number)));
            }
        }));
        over.store(true, Ordering::Relaxed);
        ended.expect("children that end well");
    });
}

/// Runs `body` in two more threads of a child. In this thread if the child can start none, because it was
/// forked while a thread of its parent started or ended (docs/concurrency.md, section 3.3).
pub(super) fn with_two_threads(body: impl Fn() + Sync) {
    let (begun, begins) = mpsc::channel();
    std::thread::spawn(move || begun.send(()));
    if begins.recv_timeout(Duration::from_secs(5)).is_err() {
        return body();
    }
    std::thread::scope(|scope| {
        scope.spawn(&body);
        scope.spawn(&body);
    });
}

#[test]
fn pool_works_in_forked_children() {
    runs_well("uses a pool amid threads");
}

pub(super) fn uses_a_pool_amid_threads(_: &Part) {
    for retention in [
        Retention::Forever,
        Retention::UntilReleased,
        Retention::UntilReset,
    ] {
        let pool = PoolOptions::new()
            .shards(1)
            .retention(retention)
            .max_bytes(1 << 20)
            .build();
        let known = pool.intern("known");
        let use_pool = |number: u64| {
            let value = format!("value {}", number % 97);
            let handle = pool.intern(&value);
            assert_eq!(pool.get(&value), Some(handle.clone()));
            if number.is_multiple_of(64) {
                pool.shrink();
                assert!(!pool.most_used(3).is_empty());
            }
        };
        fork_amid(use_pool, |number| {
            assert!(pool.intern("known") == known, "two handles of one value");
            let new = pool.intern(format!("child {number}"));
            assert_eq!(pool.get(format!("child {number}")), Some(new));
            pool.for_each(|handle| assert_eq!(pool.get(handle), Some(handle.clone())));
            assert!(pool.stats().entries >= 1 && !pool.is_empty());
            with_two_threads(|| (0..50).for_each(use_pool));
            if retention == Retention::UntilReset {
                pool.reset().expect("a pool that may be reset");
                assert!(pool.intern("known") != known);
            }
        });
        assert!(pool.intern("known") == known);
    }
    say("ran to its end");
}

#[test]
fn typed_pool_works_in_forked_children() {
    runs_well("uses a typed pool amid threads");
}

pub(super) fn uses_a_typed_pool_amid_threads(_: &Part) {
    let pool = TypedPool::<str>::new(PoolOptions::new().shards(1).build());
    let known = pool.intern("known");
    let intern = |number: u64| drop(pool.intern(&format!("value {}", number % 97)));
    fork_amid(intern, |number| {
        assert!(pool.get("known").as_ref() == Some(&known));
        let name = format!("child {number}");
        assert_eq!(pool.intern(&name).as_str(), name);
    });
    say("ran to its end");
}

/// The last handle may be dropped in the child, too.
#[test]
fn handles_are_dropped_in_forked_children() {
    runs_well("drops handles amid threads");
}

pub(super) fn drops_handles_amid_threads(_: &Part) {
    let pool = PoolOptions::new()
        .shards(1)
        .retention(Retention::UntilReleased)
        .build();
    let mut inherited: Vec<_> = (0..FORKS)
        .map(|number| Some(pool.intern(format!("handle {number}"))))
        .collect();
    let inherited = std::cell::RefCell::new(std::mem::take(&mut inherited));
    let intern = |number: u64| drop(pool.intern(format!("value {}", number % 7)));
    fork_amid(intern, |number| {
        drop(inherited.borrow_mut()[number].take());
        assert_eq!(pool.get(format!("handle {number}")), None);
    });
    for number in 0..FORKS {
        assert!(pool.get(format!("handle {number}")).is_some());
    }
    say("ran to its end");
}

fn text(packed: &[u8]) -> Result<String, std::str::Utf8Error> {
    std::str::from_utf8(packed).map(str::to_owned)
}

#[test]
fn decode_cache_works_in_forked_children() {
    runs_well("uses decoded instances amid threads");
}

pub(super) fn uses_decoded_instances_amid_threads(_: &Part) {
    let mut options = DecodeOptions::new();
    options.max_entries(50).min_entries(0);
    let cache: DecodeCache<String> =
        options.build_with_secondary_key(|text| Some(text.len() as u64));
    let pinned = cache.pin("pinned", "pinned".to_owned());
    let decode = |number: u64| {
        let packed = format!("value {}", number % 97);
        assert_eq!(*cache.get_or_decode(&packed, text).expect("a text"), packed);
        if number.is_multiple_of(64) {
            cache.clear();
        }
    };
    fork_amid(decode, |number| {
        assert!(Arc::ptr_eq(
            &cache.get("pinned").expect("it is pinned"),
            &pinned
        ));
        let new = cache
            .get_or_decode(format!("child {number}"), text)
            .expect("a text");
        let again = cache.get(format!("child {number}")).expect("it is kept");
        assert!(Arc::ptr_eq(&new, &again));
        assert!(cache.get_by_secondary_key(6).is_some());
        with_two_threads(|| (0..50).for_each(decode));
        cache.set_enabled(false);
        cache.expire();
        assert!(!cache.is_enabled() && cache.stats().pinned == 1);
    });
    say("ran to its end");
}

/// The decoding thread does not exist in the child.
#[test]
fn child_redecodes_a_threads_work() {
    runs_well("decodes what another thread decodes");
}

pub(super) fn decodes_what_another_thread_decodes(_: &Part) {
    let cache = DecodeCache::<String>::new();
    let (begun, done) = (Barrier::new(2), Barrier::new(2));
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| {
            cache.get_or_decode("slow", |packed| {
                begun.wait();
                done.wait();
                text(packed)
            })
        });
        begun.wait();
        let waits = scope.spawn(|| cache.get_or_decode("slow", text));
        // By now it most likely waits; if not yet, it does so later, and nothing else changes.
        std::thread::sleep(Duration::from_millis(20));
        let ended = catch_unwind(AssertUnwindSafe(|| {
            join_in_time(fork(|| {
                let decode = || cache.get_or_decode("slow", text).expect("a text");
                let mine = decode();
                assert_eq!(*mine, "slow");
                with_two_threads(|| assert!(Arc::ptr_eq(&mine, &decode())));
                assert_eq!(cache.len(), 1);
            }));
        }));
        done.wait();
        let decoded = slow.join().expect("no panic").expect("a text");
        let waited = waits.join().expect("no panic").expect("a text");
        assert!(Arc::ptr_eq(&decoded, &waited));
        ended.expect("a child that ends well");
    });
    say("ran to its end");
}

/// Both processes return from the decode function.
#[test]
fn decode_function_may_fork() {
    runs_well("forks while it decodes");
}

pub(super) fn forks_while_it_decodes(_: &Part) {
    let cache = DecodeCache::<String>::new();
    let (begun, forked) = (Barrier::new(2), Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            begun.wait();
            forked.wait();
            cache.get_or_decode("value", text).expect("a text");
        });
        let mut pid = None;
        let decoded = cache.get_or_decode("value", |packed| {
            begun.wait();
            pid = Some(fork_here());
            if pid != Some(0) {
                forked.wait();
            }
            text(packed)
        });
        if pid == Some(0) {
            let decoded = decoded.expect("a text");
            let found = cache.get("value");
            let kept = found.is_some_and(|found| Arc::ptr_eq(&found, &decoded));
            end(kept);
        }
        join_in_time(pid.expect("a forked child"));
        assert_eq!(*decoded.expect("a text"), "value");
    });
    say("ran to its end");
}

#[test]
fn labels_work_in_forked_children() {
    runs_well("uses labels amid threads");
}

pub(super) fn uses_labels_amid_threads(part: &Part) {
    let labels = Labels::open(&part.path).expect("new labels");
    let known = labels.get_or_intern("known").expect("an id");
    let insert = |number: u64| {
        let label = format!("label {}", number % 5_000);
        let id = labels.get_or_intern(&label).expect("an id");
        assert_eq!(labels.get(&label).expect("a lookup"), Some(id));
    };
    fork_amid(insert, |number| {
        assert_eq!(labels.get("known").expect("a lookup"), Some(known));
        let id = labels.get_or_intern(format!("child {}", number % 7));
        let label = labels.resolve_str(id.expect("an id")).expect("a lookup");
        assert_eq!(label, Some(format!("child {}", number % 7)));
        assert!(labels.iter().expect("a listing").all(|label| label.is_ok()));
    });
    let ids: Vec<_> = labels.iter().expect("a listing").collect();
    assert_eq!(ids.len() as u64, labels.len());
    assert!(labels.verify().run().expect("a check").is_clean());
    say("ran to its end");
}

/// A child creates a pool that the parent never used.
#[test]
fn forked_child_creates_its_pool() {
    runs_well("makes pools amid threads");
}

pub(super) fn makes_pools_amid_threads(_: &Part) {
    let make = |number: u64| {
        let pool = PoolOptions::new().shards(64).build();
        assert_eq!(
            *pool.intern(number.to_string()),
            *number.to_string().as_bytes()
        );
    };
    fork_amid(make, |number| {
        make(number as u64);
        let many: Vec<_> = (0..9).map(|_| Pool::new()).collect();
        assert!(many.iter().all(Pool::is_empty));
    });
    say("ran to its end");
}
