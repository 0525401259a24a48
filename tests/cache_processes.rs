//! Processes that count and take in one cache: no addition is lost, and no value is taken twice.

mod child;

use child::scratch::Scratch;
use child::{Child, Part, hear, say};
use mmapcache::{Cache, InsertOptions};

const PROCESSES: usize = 4;
/// Values that each process tries to take, and its additions.
const VALUES: u32 = 500;

/// Not a test: the entry point of the child processes.
#[test]
fn child() {
    child::play(&[("takes", takes)]);
}

/// Takes all values that are there, and counts them in the cache.
fn takes(part: &Part) {
    let cache = Cache::open(&part.path).expect("the cache");
    say("ready");
    hear().expect("the start");
    let options = InsertOptions::new();
    let mut taken = 0;
    for number in 0..VALUES {
        let value = cache.take(number.to_le_bytes()).expect("a take");
        taken += value.map_or(0, |value| i64::from(value[0]));
        cache.increment("steps", 1, &options).expect("a step");
    }
    cache.increment("taken", taken, &options).expect("a sum");
    // One process of all adds it.
    if cache.add("first", "", &options).expect("an add").is_some() {
        cache.increment("firsts", 1, &options).expect("a count");
    }
    say("done");
}

#[test]
fn processes_count_and_take_once() {
    let scratch = Scratch::new();
    let cache = Cache::open(&scratch.path).expect("a cache");
    for number in 0..VALUES {
        cache.insert(number.to_le_bytes(), [1]).expect("a value");
    }
    let mut children: Vec<_> = (0..PROCESSES)
        .map(|_| Child::start("takes", &scratch.path, &[]))
        .collect();
    for child in &mut children {
        child.expect("ready");
    }
    for child in &mut children {
        child.tell("go");
    }
    for child in &mut children {
        child.expect("done");
    }
    let count = |key: &str| {
        cache
            .increment(key, 0, &InsertOptions::new())
            .expect("a count")
    };
    assert_eq!(count("steps"), PROCESSES as i64 * i64::from(VALUES));
    assert_eq!(count("taken"), i64::from(VALUES));
    assert_eq!(count("firsts"), 1);
}
