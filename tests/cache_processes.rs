//! Processes of one cache: they count and take, so that no addition is lost and no value is taken
//! twice, and they keep its bound together.

mod child;

use child::scratch::Scratch;
use child::{Child, Part, hear, say};
use mmapcache::{Cache, Durability, InsertOptions, Options, Update};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

const PROCESSES: usize = 4;
/// Values that each process tries to take, and its additions.
const VALUES: u32 = 500;

/// Not a test: the entry point of the child processes.
#[test]
fn child() {
    child::play(&[("takes", takes), ("fills", fills)]);
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
        // The same in another type than that of counters, decided by what is there.
        let written = cache.update("text", |entry| {
            let was = entry.map_or("0", |entry| {
                std::str::from_utf8(entry.value()).expect("text")
            });
            let next = was.parse::<u128>().expect("a number") + 1;
            Update::Put((next.to_string().into(), options))
        });
        written.expect("an update").expect("a version");
        exchange(&cache);
    }
    cache.increment("taken", taken, &options).expect("a sum");
    // One process of all adds it.
    if cache.add("first", "", &options).expect("an add").is_some() {
        cache.increment("firsts", 1, &options).expect("a count");
    }
    say("done");
}

/// Adds 1 to a number, by its version: again if another process was faster.
fn exchange(cache: &Cache) {
    let options = InsertOptions::new();
    loop {
        let Some(entry) = cache.entry("exchanged").expect("a lookup") else {
            cache.add("exchanged", [0; 8], &options).expect("an add");
            continue;
        };
        let was = u64::from_le_bytes(entry.value().try_into().expect("8 bytes"));
        let next = (was + 1).to_le_bytes();
        let exchanged = cache.insert_if("exchanged", next, entry.version(), &options);
        if exchanged.expect("an exchange").is_some() {
            return;
        }
    }
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
    assert_eq!(count("exchanged"), PROCESSES as i64 * i64::from(VALUES));
    let text = cache.get("text").expect("a lookup").expect("a text");
    assert_eq!(text, (PROCESSES as u32 * VALUES).to_string().as_bytes());
    assert_eq!(count("taken"), i64::from(VALUES));
    assert_eq!(count("firsts"), 1);
}

const BOUND: u64 = 24 << 20;

/// Returns the options of one of the writers.
fn writer_options(number: u64) -> Options {
    let mut options = Options::new();
    options.background_threads(number.is_multiple_of(2));
    if number == 3 {
        options.durability(Durability::Sync);
    }
    options
}

/// Inserts values up to the longest that a bound admits, until it is killed.
fn fills(part: &Part) {
    let number = part.numbers[0];
    let cache = Cache::open_with(&part.path, &writer_options(number)).expect("the cache");
    say("ready");
    let value = vec![7; BOUND as usize / 16 - 100];
    let mut random = number;
    loop {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let key = (random >> 33) % 20_000;
        let len = ((random >> 40) as usize % value.len()) >> (key % 14);
        cache
            .insert(key.to_le_bytes(), &value[..len])
            .expect("an insertion");
        cache.get((key / 2).to_le_bytes()).expect("a lookup");
        match random >> 60 {
            0 => cache
                .invalidate_tag(key.to_le_bytes())
                .expect("an invalidation"),
            1 if number == 1 => cache.flush().expect("a flush"),
            2 => drop(cache.remove(key.to_le_bytes()).expect("a removal")),
            _ => {}
        }
    }
}

/// Returns the bytes of the blocks of all files of a directory.
fn blocks(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).expect("a directory").flatten();
    let blocks = files.filter_map(|file| Some(file.metadata().ok()?.blocks() * 512));
    blocks.sum()
}

// Writers flush, sync, clean in the background and are killed: the files of a bounded cache exceed
// the bound by its step at most, at any moment.
#[test]
fn processes_stay_within_bound() {
    let scratch = Scratch::new();
    let builder = Cache::builder(&scratch.path).max_bytes(BOUND);
    let cache = builder.open().expect("a cache");
    let dir = scratch.path.parent().expect("a directory");
    let start = |number: usize| {
        let mut child = Child::start("fills", &scratch.path, &[number as u64]);
        child.expect("ready");
        child
    };
    let mut children: Vec<_> = (0..PROCESSES).map(start).collect();
    let mut most = 0;
    for round in 0..8 {
        let until = Instant::now() + Duration::from_millis(500);
        while Instant::now() < until {
            most = most.max(blocks(dir));
            std::thread::sleep(Duration::from_millis(1));
        }
        // Dropping the old one kills it.
        children[round % PROCESSES] = start(round % PROCESSES);
    }
    drop(children);
    assert!(most <= BOUND + (4 << 20), "{most}");
    assert!(most > BOUND / 4 * 3, "{most}");
    cache.insert("one", "more").expect("an insertion");
    let report = cache.verify().run().expect("a report");
    assert!(report.is_clean(), "{:?}", report.problems);
}
