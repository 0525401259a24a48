//! Computations among the threads, tasks and handles of one process.
//!
//! `tests/compute.rs` has those of several processes.
#![cfg(not(loom))]

mod tasks;

use std::cell::Cell;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;

use crate::cache::compute::{Attempt, Step, only_values};
use crate::cache::{Cache, ComputeError, ComputeOptions, InsertOptions, Obtained, Origin};
use crate::error::ErrorKind;
use crate::sync::{Word, add, load};
use crate::{MmapCache, Options};

type Obtaining<E> = Result<Obtained, ComputeError<E>>;

const HOUR: Duration = Duration::from_secs(3_600);
/// Long enough for all threads of a test to reach the same point.
const A_WHILE: Duration = Duration::from_millis(50);

fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    (dir, path)
}

fn hour() -> ComputeOptions {
    InsertOptions::new().ttl(HOUR).into()
}

/// Options for an entry that expired a second ago.
fn expired() -> InsertOptions {
    InsertOptions::new().expires_at(SystemTime::now() - Duration::from_secs(1))
}

fn never() -> Vec<u8> {
    panic!("this is computed already")
}

#[track_caller]
fn assert_obtained<E: std::fmt::Debug>(obtained: Obtaining<E>, value: &str, origin: Origin) {
    let obtained = obtained.unwrap();
    let text = String::from_utf8(obtained.value).unwrap();
    assert_eq!((&text[..], obtained.origin), (value, origin));
}

#[track_caller]
fn assert_idle(cache: &Cache) {
    assert_eq!(cache.flights.len(), 0, "a flight is left");
}

// Two handles, as of two processes, with four threads each.
#[test]
fn each_key_is_computed_once() {
    let (_dir, path) = place();
    let caches = [Cache::open(&path).unwrap(), Cache::open(&path).unwrap()];
    let keys = 100_u32;
    let counts: Vec<Word> = (0..keys).map(|_| Word::new(0)).collect();
    let start = Barrier::new(8);
    thread::scope(|scope| {
        for which in 0..8 {
            let (cache, counts, start) = (&caches[which % 2], &counts, &start);
            scope.spawn(move || {
                start.wait();
                for (key, count) in (0_u32..).zip(counts) {
                    let value = cache.get_or_insert_with(key.to_le_bytes(), hour(), || {
                        add(count, 1);
                        thread::sleep(Duration::from_millis(1));
                        key.to_string()
                    });
                    assert_eq!(value.unwrap().value, key.to_string().into_bytes());
                }
            });
        }
    });
    assert!(counts.iter().all(|count| load(count) == 1));
    caches.iter().for_each(assert_idle);
}

#[test]
fn origins_tell_who_computed() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    let (begun, begins) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            let computed = cache.get_or_insert_with("key", hour(), || {
                begun.send(()).unwrap();
                thread::sleep(A_WHILE);
                "value"
            });
            assert_obtained(computed, "value", Origin::Computed);
        });
        begins.recv().unwrap();
        let awaited = cache.get_or_insert_with("key", hour(), never);
        assert_obtained(awaited, "value", Origin::Awaited);
    });
    let stored = cache.get_or_insert_with("key", &InsertOptions::new(), never);
    assert_obtained(stored, "value", Origin::Stored);
    assert!(cache.entry("key").unwrap().unwrap().remaining() > Some(HOUR / 2));
    assert_idle(&cache);
}

/// Runs a computation that ends as `end` says, while another caller waits for it; returns how long
/// after the end that one began to compute.
fn hand_over(
    first: &Cache,
    second: &Cache,
    end: impl FnOnce() -> Result<String, u32> + Send,
) -> Duration {
    let (begun, begins) = mpsc::channel();
    let ended = thread::scope(|scope| {
        let leader = scope.spawn(move || {
            let ended = Cell::new(None);
            let result = catch_unwind(AssertUnwindSafe(|| {
                first.get_or_try_insert_with("key", hour(), || {
                    begun.send(()).unwrap();
                    thread::sleep(A_WHILE);
                    ended.set(Some(Instant::now()));
                    end()
                })
            }));
            match result {
                Ok(result) => assert!(matches!(result, Err(ComputeError::Failed(7)))),
                Err(panic) => assert_eq!(panic.downcast_ref::<&str>(), Some(&"it panics")),
            }
            ended.get().unwrap()
        });
        begins.recv().unwrap();
        let mut resumed = None;
        let value = second.get_or_insert_with("key", hour(), || {
            resumed = Some(Instant::now());
            "second"
        });
        assert_obtained(value, "second", Origin::Computed);
        resumed.unwrap() - leader.join().unwrap()
    });
    first.remove("key").unwrap();
    assert_idle(first);
    assert_idle(second);
    ended
}

#[test]
fn failures_hand_over_to_waiters() {
    let (_dir, path) = place();
    let (one, other) = (Cache::open(&path).unwrap(), Cache::open(&path).unwrap());
    for second in [&one, &other] {
        let failed = hand_over(&one, second, || Err(7));
        let panicked = hand_over(&one, second, || panic!("it panics"));
        assert!(
            failed.max(panicked) < Duration::from_secs(1),
            "{failed:?} {panicked:?}"
        );
    }
}

#[test]
fn nested_keys_are_computed() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    let outer = cache.get_or_try_insert_with("outer", hour(), || {
        let inner = cache.get_or_insert_with("inner", hour(), || "inner")?;
        Ok::<_, ComputeError<Infallible>>([&b"outer "[..], &inner.value].concat())
    });
    assert_obtained(outer, "outer inner", Origin::Computed);
    assert_eq!(cache.get("inner").unwrap().unwrap(), b"inner");
}

#[test]
fn recursive_computation_is_refused() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    let outer = cache.get_or_try_insert_with("key", hour(), || {
        cache
            .get_or_insert_with("key", hour(), never)
            .map(|obtained| obtained.value)
    });
    let Err(ComputeError::Failed(ComputeError::Cache(error))) = outer else {
        panic!("{outer:?}");
    };
    assert!(matches!(error.kind(), ErrorKind::AlreadyComputing));
    let again = cache.get_or_insert_with("key", hour(), || "value");
    assert_obtained(again, "value", Origin::Computed);
}

// A computation that does not end costs the others their patience once: one of them replaces it, in
// each handle and over both.
#[test]
fn stuck_computation_is_replaced_once() {
    let (_dir, path) = place();
    let caches = [Cache::open(&path).unwrap(), Cache::open(&path).unwrap()];
    let options = hour().patience(Duration::from_millis(200));
    let (release, released) = mpsc::channel::<()>();
    let (begun, begins) = mpsc::channel();
    let count = Word::new(0);
    thread::scope(|scope| {
        let first = &caches[0];
        let stuck = scope.spawn(move || {
            first.get_or_insert_with("key", options, || {
                begun.send(()).unwrap();
                let _ = released.recv();
                "stuck"
            })
        });
        begins.recv().unwrap();
        let waiters: Vec<_> = (0..8)
            .map(|which| {
                let (cache, count) = (&caches[which % 2], &count);
                scope.spawn(move || {
                    let began = Instant::now();
                    let value = cache.get_or_insert_with("key", options, || {
                        add(count, 1);
                        thread::sleep(A_WHILE);
                        "value"
                    });
                    assert_eq!(value.unwrap().value, b"value");
                    began.elapsed()
                })
            })
            .collect();
        for waiter in waiters {
            let took = waiter.join().unwrap();
            assert!(took >= Duration::from_millis(200), "{took:?}");
            assert!(took < Duration::from_secs(5), "{took:?}");
        }
        assert_eq!(load(&count), 1);
        drop(release);
        // It comes too late: the newer value stays.
        assert_obtained(stuck.join().unwrap(), "value", Origin::Awaited);
    });
    caches.iter().for_each(assert_idle);
}

#[test]
fn crossed_computations_end() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    let options = hour().patience(Duration::from_millis(100));
    let both = Barrier::new(2);
    let ask = |own: &str, other: &str| {
        let is_first = Cell::new(true);
        cache.get_or_try_insert_with(own, options, || {
            if is_first.take() {
                both.wait();
            }
            let other = cache.get_or_insert_with(other, options, || "alone")?;
            Ok::<_, ComputeError<Infallible>>(other.value)
        })
    };
    thread::scope(|scope| {
        let one = scope.spawn(|| ask("one", "other"));
        let other = scope.spawn(|| ask("other", "one"));
        one.join().unwrap().unwrap();
        other.join().unwrap().unwrap();
    });
    assert_idle(&cache);
}

#[test]
fn absence_is_computed_once() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    let options = hour().absent_for(Duration::from_secs(60));
    let count = Cell::new(0);
    let none = || {
        count.set(count.get() + 1);
        Ok::<Option<String>, Infallible>(None)
    };
    for _ in 0..3 {
        let found = cache.get_or_try_insert_optional_with("key", options, none);
        assert_eq!(found.unwrap(), None);
    }
    assert_eq!(count.get(), 1);
    let entry = cache.entry("key").unwrap().unwrap();
    assert!(entry.is_negative() && entry.remaining() <= Some(Duration::from_secs(60)));
    // A caller that needs a value replaces it.
    let value = cache.get_or_insert_with("key", options, || "value");
    assert_obtained(value, "value", Origin::Computed);
    let found = cache.get_or_try_insert_optional_with("key", options, none);
    assert_eq!(found.unwrap().unwrap().value, b"value");
}

// Waiters of the old files find the value in the new ones; newcomers may compute again, and one of
// the two values stays.
#[test]
fn computation_outlives_clear() {
    let (_dir, path) = place();
    let (cache, other) = (Cache::open(&path).unwrap(), Cache::open(&path).unwrap());
    let (begun, begins) = mpsc::channel();
    thread::scope(|scope| {
        let leader = scope.spawn(|| {
            cache.get_or_insert_with("key", hour(), || {
                begun.send(()).unwrap();
                thread::sleep(4 * A_WHILE);
                "old"
            })
        });
        begins.recv().unwrap();
        let waiter = scope.spawn(|| other.get_or_insert_with("key", hour(), never));
        thread::sleep(A_WHILE);
        other.clear().unwrap();
        let newcomer = Cache::open(&path).unwrap();
        let value = newcomer.get_or_insert_with("key", hour(), || "new");
        assert_obtained(value, "new", Origin::Computed);
        assert_obtained(waiter.join().unwrap(), "new", Origin::Awaited);
        assert_obtained(leader.join().unwrap(), "new", Origin::Awaited);
    });
    assert_eq!(cache.get("key").unwrap().unwrap(), b"new");
}

// A waiter that gets the byte of the old files contends for that of the new ones.
#[test]
fn replaced_files_have_one_computation() {
    let (_dir, path) = place();
    let (cache, other) = (Cache::open(&path).unwrap(), Cache::open(&path).unwrap());
    let (begun, begins) = mpsc::channel();
    let (end, ends) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let first = &cache;
        scope.spawn(move || {
            let failed = first.get_or_try_insert_with("key", hour(), || {
                begun.send(()).unwrap();
                ends.recv().unwrap();
                Err::<String, _>("no")
            });
            assert!(matches!(failed, Err(ComputeError::Failed("no"))));
        });
        begins.recv().unwrap();
        let waiter = scope.spawn(|| other.get_or_insert_with("key", hour(), never));
        thread::sleep(A_WHILE);
        let newcomer = Cache::open(&path).unwrap();
        newcomer.clear().unwrap();
        let value = newcomer.get_or_insert_with("key", hour(), || {
            end.send(()).unwrap();
            thread::sleep(2 * A_WHILE);
            "new"
        });
        assert_obtained(value, "new", Origin::Computed);
        assert_obtained(waiter.join().unwrap(), "new", Origin::Awaited);
    });
}

// Of two callers whose patience ends at once, one replaces the computation, the other waits for that.
#[test]
fn replaced_computation_is_waited_for() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    let options = hour().patience(A_WHILE);
    let attempt = || Attempt::new(&cache, b"key", &options, only_values, true);
    let (mut stuck, mut one, mut other) = (attempt(), attempt(), attempt());
    assert!(matches!(stuck.step().unwrap(), Step::Compute));
    for waiter in [&mut one, &mut other] {
        let Step::Join(flight, _) = waiter.step().unwrap() else {
            panic!("it leads");
        };
        assert_eq!(flight.wait(Some(Instant::now() + A_WHILE)).map(drop), None);
        assert!(waiter.joined(flight, None).is_none());
    }
    assert!(matches!(one.step().unwrap(), Step::Compute));
    let Step::Join(_, Some(deadline)) = other.step().unwrap() else {
        panic!("it does not wait");
    };
    assert!(deadline > Instant::now() + A_WHILE / 2);
}

#[test]
fn newer_value_is_not_replaced() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    let value = cache.get_or_insert_with("key", hour(), || {
        cache.insert("key", "newer").unwrap();
        "older"
    });
    assert_obtained(value, "newer", Origin::Awaited);
    assert_eq!(cache.get("key").unwrap().unwrap(), b"newer");
}

#[test]
fn stale_values_are_served_at_once() {
    let (_dir, path) = place();
    let (cache, other) = (Cache::open(&path).unwrap(), Cache::open(&path).unwrap());
    let stale = expired().stale_for(HOUR);
    cache.insert_with("key", "old", &stale).unwrap();
    let options = hour();
    let value = cache.get_or_insert_with("key", options, || {
        for cache in [&cache, &other] {
            let stale = cache.get_or_insert_with("key", options, never);
            assert_obtained(stale, "old", Origin::Stale);
        }
        thread::scope(|scope| {
            let waiter = scope.spawn(|| cache.get_or_insert_with("key", options, never));
            assert_obtained(waiter.join().unwrap(), "old", Origin::Stale);
        });
        "new"
    });
    assert_obtained(value, "new", Origin::Computed);
}

#[test]
fn stale_value_replaces_failure() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    cache.insert_with("key", "old", &expired()).unwrap();
    let failed = cache.get_or_try_insert_with("key", hour(), || Err::<String, _>("no"));
    assert!(matches!(failed, Err(ComputeError::Failed("no"))));
    let options = hour().stale_on_error(HOUR);
    let (begun, begins) = mpsc::channel();
    thread::scope(|scope| {
        let leader = scope.spawn(|| {
            cache.get_or_try_insert_with("key", options, || {
                begun.send(()).unwrap();
                thread::sleep(A_WHILE);
                Err::<String, _>("no")
            })
        });
        begins.recv().unwrap();
        // One failure serves all who wait for it.
        let waiter = cache.get_or_insert_with("key", options, never);
        assert_obtained(waiter, "old", Origin::StaleOnError);
        assert_obtained(leader.join().unwrap(), "old", Origin::StaleOnError);
    });
    let late = hour().stale_on_error(Duration::from_millis(1));
    let failed = cache.get_or_try_insert_with("key", late, || Err::<String, _>("no"));
    assert!(matches!(failed, Err(ComputeError::Failed("no"))));
}

#[test]
fn unstorable_value_is_returned() {
    let (_dir, path) = place();
    let mut options = Options::new();
    options.max_segment_bytes(16 * 1024);
    let cache = Cache::open_with(&path, &options).unwrap();
    let large = vec![7; 1 << 20];
    match cache.get_or_insert_with("key", hour(), || large.clone()) {
        Err(ComputeError::NotStored { value, error }) => {
            assert_eq!(value, large);
            assert!(matches!(error.kind(), ErrorKind::ValueTooLarge { .. }));
        }
        other => panic!("{other:?}"),
    }
    assert_idle(&cache);
}

#[test]
fn readers_do_not_compute() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    cache.insert("key", "value").unwrap();
    let read_only = Options::new().read_only(true).clone();
    let reader = Cache::open_with(&path, &read_only).unwrap();
    let found = reader.get_or_insert_with("key", hour(), never);
    assert_obtained(found, "value", Origin::Stored);
    match reader.get_or_insert_with("other", hour(), never) {
        Err(ComputeError::Cache(error)) => assert!(matches!(error.kind(), ErrorKind::ReadOnly)),
        other => panic!("{other:?}"),
    }
    match cache.get_or_insert_with("", hour(), never) {
        Err(ComputeError::Cache(error)) => {
            assert!(matches!(error.kind(), ErrorKind::KeyLength { len: 0 }));
        }
        other => panic!("{other:?}"),
    }
    assert!(MmapCache::open(&path).is_err());
}
