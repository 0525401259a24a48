//! One computation for each key over several processes, some of which are killed or stopped.
//!
//! The short forms always run. The long ones:
//!
//!     cargo test --release --test compute -- --ignored --nocapture
#![cfg(target_os = "linux")]

mod child;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use child::scratch::Scratch;
use child::{Child, Part, hear, say};
use mmapcache::{Cache, ComputeOptions, InsertOptions, Origin};

/// Threads of each process.
const THREADS: u64 = 4;

/// Not a test: the entry point of the child processes.
#[test]
fn child() {
    child::play(&[
        ("computes all keys", computes_all_keys),
        ("computes forever", computes_forever),
        ("computes slowly", computes_slowly),
        ("waits", waits),
    ]);
}

fn hour() -> ComputeOptions {
    InsertOptions::new().ttl(Duration::from_secs(3_600)).into()
}

/// Asks for all keys with several threads, and says how many this process has computed.
fn computes_all_keys(part: &Part) {
    let keys = part.numbers[0];
    let cache = Cache::open(&part.path).expect("the cache");
    let computed = AtomicU64::new(0);
    say("ready");
    assert_eq!(hear().as_deref(), Some("go"));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (cache, computed) = (&cache, &computed);
            scope.spawn(move || {
                // All at the same keys at the same time, more or less.
                for key in (0..keys).map(|key| key ^ (thread & 1)) {
                    let value = cache.get_or_insert_with(key.to_le_bytes(), hour(), || {
                        computed.fetch_add(1, Ordering::Relaxed);
                        if key.is_multiple_of(16) {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                        format!("value {key}")
                    });
                    let value = value.expect("a value").value;
                    assert_eq!(value, format!("value {key}").into_bytes());
                }
            });
        }
    });
    say(computed.into_inner());
}

fn assert_each_is_computed_once(keys: u64) {
    let scratch = Scratch::new();
    let cache = Cache::open(&scratch.path).expect("a cache");
    let mut children: Vec<_> = (0..8)
        .map(|_| Child::start("computes all keys", &scratch.path, &[keys]))
        .collect();
    children.iter_mut().for_each(|child| child.expect("ready"));
    let began = Instant::now();
    children.iter_mut().for_each(|child| child.tell("go"));
    let counts: Vec<u64> = children
        .into_iter()
        .map(|child| child.finish().parse().expect("a count"))
        .collect();
    println!("{keys} keys: {counts:?} in {:?}", began.elapsed());
    assert_eq!(counts.iter().sum::<u64>(), keys, "{counts:?}");
    assert_eq!(cache.len_with_expired(), keys);
}

#[test]
fn each_key_is_computed_once() {
    assert_each_is_computed_once(300);
}

#[test]
#[ignore = "a longer form; see above"]
fn each_of_many_is_computed_once() {
    assert_each_is_computed_once(10_000);
}

fn computes_forever(part: &Part) {
    let cache = Cache::open(&part.path).expect("the cache");
    let key = part.numbers[0].to_le_bytes();
    let ended = cache.get_or_insert_with(key, hour(), || {
        say("computing");
        std::thread::sleep(Duration::from_secs(3_600));
        "too late"
    });
    panic!("{ended:?}");
}

/// Asks for each key that it hears of, with several threads; says how many it has computed.
fn waits(part: &Part) {
    let cache = Cache::open(&part.path).expect("the cache");
    while let Some(line) = hear() {
        let key: u64 = line.parse().expect("a key");
        say("asks");
        say(ask_by_threads(&cache, key).0);
    }
}

/// Returns how many of several threads computed the value, and when the last of them began.
fn ask_by_threads(cache: &Cache, key: u64) -> (u64, Option<Instant>) {
    let ask = || {
        let mut began = None;
        let value = cache.get_or_insert_with(key.to_le_bytes(), hour(), || {
            began = Some(Instant::now());
            "after the kill"
        });
        assert_eq!(value.expect("a value").value, b"after the kill");
        began
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(ask)).collect();
        let begun: Vec<_> = threads
            .into_iter()
            .filter_map(|thread| thread.join().expect("a thread"))
            .collect();
        (begun.len() as u64, begun.into_iter().max())
    })
}

/// Kills the process that computes while others wait for it. Prints how long the next computation by
/// this process took to begin.
fn kill_rounds(rounds: u64) {
    let scratch = Scratch::new();
    let cache = Cache::open(&scratch.path).expect("a cache");
    let mut waiter = Child::start("waits", &scratch.path, &[]);
    let (mut longest, mut own) = (Duration::ZERO, 0);
    for key in 0..rounds {
        let mut computing = Child::start("computes forever", &scratch.path, &[key]);
        computing.expect("computing");
        waiter.tell(&key.to_string());
        waiter.expect("asks");
        let (count, took) = std::thread::scope(|scope| {
            let asking = scope.spawn(|| ask_by_threads(&cache, key));
            // Until the waiters take their longest pauses.
            std::thread::sleep(Duration::from_millis(60));
            let killed = Instant::now();
            computing.kill();
            let (count, begun) = asking.join().expect("the waiters");
            (count, begun.map(|begun| begun - killed))
        });
        let others: u64 = waiter.line().expect("a count").parse().expect("a count");
        assert_eq!(count + others, 1, "computations after kill {key}");
        if let Some(took) = took {
            longest = longest.max(took);
            own += 1;
        }
    }
    println!("{rounds} kills: {own} times this process went on, at most {longest:?} later");
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    waiter.dismiss();
    assert!(waiter.wait().success());
}

#[test]
fn waiter_replaces_killed_process() {
    kill_rounds(10);
}

#[test]
#[ignore = "a longer form; see above"]
fn waiter_replaces_each_killed_process() {
    kill_rounds(300);
}

/// Computes when told to, and says what it got.
fn computes_slowly(part: &Part) {
    let cache = Cache::open(&part.path).expect("the cache");
    let obtained = cache.get_or_insert_with("key", hour(), || {
        say("computing");
        assert_eq!(hear().as_deref(), Some("end"));
        "slow"
    });
    let obtained = obtained.expect("a value");
    say(format!(
        "{:?} {}",
        obtained.origin,
        String::from_utf8_lossy(&obtained.value)
    ));
}

fn start_slow(path: &Path) -> Child {
    let mut slow = Child::start("computes slowly", path, &[]);
    slow.expect("computing");
    slow
}

// A stopped process cannot end its computation, and its lock is not released.
#[test]
fn stopped_process_costs_patience() {
    let scratch = Scratch::new();
    let cache = Cache::open(&scratch.path).expect("a cache");
    let mut slow = start_slow(&scratch.path);
    slow.stop();
    let patience = Duration::from_millis(300);
    let began = Instant::now();
    let value = cache.get_or_insert_with("key", hour().patience(patience), || "quick");
    let took = began.elapsed();
    let value = value.expect("a value");
    assert_eq!(
        (&value.value[..], value.origin),
        (&b"quick"[..], Origin::Computed)
    );
    assert!(
        took >= patience && took < Duration::from_secs(5),
        "{took:?}"
    );
    slow.wake();
    slow.tell("end");
    // The value that it computed is older.
    assert_eq!(slow.finish(), "Awaited quick");
    assert_eq!(
        cache.get("key").expect("a lookup").expect("a value"),
        b"quick"
    );
}

#[test]
fn processes_take_each_others_value() {
    let scratch = Scratch::new();
    let cache = Cache::open(&scratch.path).expect("a cache");
    let mut slow = start_slow(&scratch.path);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| cache.get_or_insert_with("key", hour(), || "quick"));
        std::thread::sleep(Duration::from_millis(50));
        slow.tell("end");
        let value = waiter.join().expect("a waiter").expect("a value");
        assert_eq!(
            (&value.value[..], value.origin),
            (&b"slow"[..], Origin::Awaited)
        );
    });
    assert_eq!(slow.finish(), "Computed slow");
}
