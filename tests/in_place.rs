//! Processes that overwrite records where they are, beside readers, and killed or stopped at work.

mod child;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use child::contents::Random;
use child::scratch::{Scratch, in_memory};
use child::{Child, Part, dismissal, say};
use mmapcache::{MmapCache, Options};

/// Keys that are overwritten all the time.
const KEYS: u64 = 4;
/// Rounds between two reports of a writer: kills are to hit it at work, not while it reports.
const ROUNDS: u64 = 50;

/// Not a test: the entry point of the child processes.
#[test]
fn child() {
    child::play(&[("overwrites", overwrites)]);
}

fn open(path: &Path) -> MmapCache {
    let mut options = Options::new();
    options.in_place(true).open(path).expect("the cache")
}

fn key(which: u64) -> Vec<u8> {
    vec![which as u8; 9]
}

/// A value of which each word is the number: a mixture of two is noticed without a checksum.
fn value(which: u64, number: u64) -> Vec<u8> {
    number
        .to_le_bytes()
        .repeat([2, 20, 60, 90][which as usize % 4])
}

/// Returns the number of a value; a value of two numbers fails the test.
#[track_caller]
fn number_of(which: u64, found: &[u8]) -> u64 {
    let number = u64::from_le_bytes(found[..8].try_into().expect("a word"));
    assert_eq!(found, value(which, number), "a mixture");
    number
}

/// Overwrites all keys with the numbers from the first on, and reports the last one that is done.
fn overwrites(part: &Part) {
    let cache = open(&part.path);
    let dismissed = dismissal();
    for number in part.numbers[0].. {
        for which in 0..KEYS {
            cache.put(key(which), value(which, number)).expect("a put");
        }
        if number % ROUNDS == 0 {
            say(number);
        }
        if dismissed.load(Ordering::Relaxed) {
            break;
        }
    }
}

/// Ends the reader, also if a check has failed.
struct EndOfReader<'a>(&'a AtomicBool);

impl Drop for EndOfReader<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Reads all keys in each way until the flag is set, and counts the rounds. No number goes back.
fn read_until(path: &Path, is_over: &AtomicBool, rounds: &AtomicU64) {
    let reader = Options::new()
        .read_only(true)
        .open(path)
        .expect("the cache");
    let mut last = [0; KEYS as usize];
    while !is_over.load(Ordering::Relaxed) {
        for (which, last) in (0..KEYS).zip(&mut last) {
            let found = reader.get(key(which)).expect("a lookup").expect("an entry");
            let number = number_of(which, &found);
            assert!(number >= *last, "{number} after {last}");
            *last = number;
            let version = reader.version(key(which)).expect("a lookup");
            let entry = reader
                .entry(key(which))
                .expect("a lookup")
                .expect("an entry");
            assert!(Some(entry.version()) >= version);
        }
        let listed: Vec<_> = reader
            .iter()
            .expect("a listing")
            .map(Result::unwrap)
            .collect();
        assert_eq!(listed.len(), KEYS as usize, "each once");
        for (key, found) in listed {
            number_of(u64::from(key[0]), &found);
        }
        assert_eq!(
            reader.keys().expect("a listing").flatten().count(),
            KEYS as usize
        );
        rounds.fetch_add(1, Ordering::Relaxed);
    }
}

// Another process overwrites, and is killed again and again: nothing that it reported is lost, no value
// is a mixture, and the next writer goes on at once.
#[test]
fn killed_overwriter_loses_nothing() {
    let root = in_memory();
    let path = root.path().join("cache");
    let cache = open(&path);
    for which in 0..KEYS {
        cache.put(key(which), value(which, 0)).expect("a put");
    }
    let before = cache.stats().expect("the counters").heap_bytes;
    let (is_over, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut random = Random::new(5);
    let mut next = 1;
    std::thread::scope(|scope| {
        let _end = EndOfReader(&is_over);
        scope.spawn(|| read_until(&path, &is_over, &rounds));
        for _ in 0..60 {
            let other = Child::start("overwrites", &path, &[next]);
            let pause = Duration::from_micros(20_000 + random.below(20_000));
            let reported = other.kill_after(pause);
            // None if it was killed before it had begun.
            let least = reported.map_or(0, |line| line.parse().expect("a number"));
            for which in 0..KEYS {
                let found = cache.get(key(which)).expect("a lookup").expect("an entry");
                let number = number_of(which, &found);
                assert!(number >= least, "{number}, but {least} was reported");
                next = next.max(number + 1);
            }
            let began = Instant::now();
            cache.put(key(0), value(0, next)).expect("a put");
            assert!(
                began.elapsed() < Duration::from_secs(1),
                "{:?}",
                began.elapsed()
            );
            assert!(cache.verify().run().expect("a check").is_clean());
        }
        let stats = cache.stats().expect("the counters");
        assert_eq!(stats.heap_bytes, before, "all in place");
    });
    let rounds = rounds.load(Ordering::Relaxed);
    println!("{next} overwrites of each key, {rounds} rounds of the reader");
    assert!(next > 200 && rounds > 20, "{next}, {rounds}");
}

// A writer that is stopped in the middle holds up no reader: whatever it has half done is read whole.
#[test]
fn stopped_overwriter_holds_up_no_reader() {
    let scratch = Scratch::new();
    let cache = open(&scratch.path);
    for which in 0..KEYS {
        cache.put(key(which), value(which, 0)).expect("a put");
    }
    let mut other = Child::start("overwrites", &scratch.path, &[1]);
    other.line().expect("it works");
    let mut random = Random::new(6);
    let mut last = 0;
    for _ in 0..40 {
        std::thread::sleep(Duration::from_micros(random.below(2_000)));
        other.stop();
        let began = Instant::now();
        for which in 0..KEYS {
            let found = cache.get(key(which)).expect("a lookup").expect("an entry");
            let number = number_of(which, &found);
            assert!(number + 1 >= last, "{number} after {last}");
            last = last.max(number);
        }
        assert_eq!(
            cache.iter().expect("a listing").flatten().count(),
            KEYS as usize
        );
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "{:?}",
            began.elapsed()
        );
        other.wake();
    }
    other.finish();
    assert!(cache.verify().run().expect("a check").is_clean());
    assert!(last > 50, "{last}");
}
