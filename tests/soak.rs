//! Long runs, each with a short form that always runs. `docs/testing.md` has the commands and the
//! measurements.
//!
//! The short forms of the rebuilds and of the kills are in `tests/processes.rs`.

mod child;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use child::contents::Random;
use child::scratch::Scratch;
use child::{Child, Part, kills, reader, rebuilds, say, tight};
use mmapcache::{MmapCache, Options, Stats};

/// Not a test: the entry point of the child processes.
#[test]
fn child() {
    child::play(&[
        ("opens", opens),
        ("reads", reader::reads),
        ("writes until killed", kills::writes),
    ]);
}

impl Scratch {
    fn open(&self) -> MmapCache {
        MmapCache::open(&self.path).expect("a cache")
    }
}

/// Returns a key of 20 to 40 bytes for each number.
fn key(number: u64) -> Vec<u8> {
    let length = 20 + Random::new(number).below(21) as usize;
    let mut key = format!("{number:020}").into_bytes();
    key.resize(length, b'k');
    key
}

/// Returns the 100 bytes of a number.
fn value(number: u64) -> Vec<u8> {
    let mut random = Random::new(!number);
    let bytes = (0..13).flat_map(|_| random.next().to_le_bytes());
    bytes.take(100).collect()
}

#[test]
fn growing_cache_finds_everything() {
    grow(20_000);
}

// A cache grows from empty to a million keys, and finds all of them.
#[test]
#[ignore = "a soak: minutes; see docs/testing.md"]
fn soak_million_keys_are_found() {
    let reopening = grow(1_000_000);
    assert!(reopening < Duration::from_millis(10), "{reopening:?}");
}

/// Opens the cache and prints how many microseconds that took, and how many the first lookup.
fn opens(part: &Part) {
    let began = Instant::now();
    let cache = MmapCache::open(&part.path).expect("the cache");
    let opening = began.elapsed();
    let found = cache.get(&key(part.numbers[0])).expect("a lookup");
    let looked = began.elapsed() - opening;
    assert_eq!(found, Some(value(part.numbers[0])));
    say(format!("{} {}", opening.as_micros(), looked.as_micros()));
}

/// Fills an empty cache and reads all of it. Returns how long it takes to open.
fn grow(count: u64) -> Duration {
    let scratch = Scratch::new();
    let cache = scratch.open();
    fill(&cache, count);
    let began = Instant::now();
    for number in 0..count {
        let found = cache.get(&key(number)).expect("a lookup");
        assert_eq!(found, Some(value(number)), "{number}");
    }
    println!("read back in {:?}", began.elapsed());
    list(&cache, count);
    drop(cache);
    // In a process that has not allocated and freed a million keys.
    let said = Child::start("opens", &scratch.path, &[count - 1]).finish();
    println!("opened again in another process, and one key read: {said} microseconds");
    let micros = said
        .split(' ')
        .next()
        .and_then(|micros| micros.parse().ok());
    Duration::from_micros(micros.expect("a number"))
}

fn fill(cache: &MmapCache, count: u64) {
    let mut longest = Duration::ZERO;
    let all = Instant::now();
    for number in 0..count {
        let (key, value) = (key(number), value(number));
        let began = Instant::now();
        cache.put(&key, &value).expect("a put");
        longest = longest.max(began.elapsed());
        if number == 0 {
            let fresh = cache.disk_usage().expect("the blocks").total();
            println!("one entry takes {fresh} bytes");
            assert!(fresh <= 64 * 1024, "{fresh}");
        }
    }
    let usage = cache.disk_usage().expect("the blocks").total();
    println!(
        "{count} puts in {:?}, the longest {longest:?}; {usage} bytes",
        all.elapsed()
    );
}

fn list(cache: &MmapCache, count: u64) {
    let began = Instant::now();
    let mut seen = HashSet::new();
    for key in cache.keys().expect("a listing") {
        assert!(
            seen.insert(key.expect("a key")),
            "a key that is listed twice"
        );
    }
    println!("listed in {:?}", began.elapsed());
    assert_eq!(seen.len() as u64, count);
    assert!((0..count).all(|number| seen.contains(&key(number))));
}

#[test]
fn overwritten_values_are_reclaimed() {
    overwrite(100_000);
}

// Ten million updates leave the files small without a call of `compact`.
#[test]
#[ignore = "a soak: minutes; see docs/testing.md"]
fn soak_updates_need_no_compaction() {
    overwrite(10_000_000);
}

/// Overwrites a thousand keys with values of all sizes, a thousand times in each batch.
fn overwrite(updates: u64) {
    const KEYS: u64 = 1_000;
    let scratch = Scratch::new();
    let cache = scratch.open();
    let mut random = Random::new(7);
    let mut most = (0, 0);
    let mut longest = Duration::ZERO;
    let began = Instant::now();
    for _ in 0..updates / 1_000 {
        let batch = Instant::now();
        let mut writer = cache.writer().expect("the writer");
        for _ in 0..1_000 {
            let number = random.below(KEYS);
            let value = vec![number as u8; 1 + random.below(1_000) as usize];
            writer.put(&key(number), &value).expect("a put");
        }
        writer.commit().expect("the end of a batch");
        longest = longest.max(batch.elapsed());
        most = most.max(within_bounds(&cache));
    }
    println!(
        "{updates} updates in {:?}, the longest thousand {longest:?}",
        began.elapsed()
    );
    println!("at most {} bytes on the disk, with {} live", most.0, most.1);
    let report = cache.verify().run().expect("a check");
    assert!(report.is_clean(), "{:?}", report.problems);
}

/// Returns the bytes on the disk, and how many of them are live.
fn within_bounds(cache: &MmapCache) -> (u64, u64) {
    let total = cache.disk_usage().expect("the blocks").total();
    let live = cache.stats().expect("the counters").live_bytes;
    let limit = 4 * live + (16 << 20);
    assert!(total < limit, "{total} bytes on the disk, with {live} live");
    (total, live)
}

#[test]
fn deleted_slots_are_reclaimed() {
    // Smaller regions fill sooner: without purging them, the table would double.
    let slots = replace_in_turn(Options::new().region_slots(256), 40_000, 1_000);
    assert!(slots.1 * 2 <= slots.0 * 3, "{slots:?}");
}

// A million insertions and deletions at most double the slots of a table.
#[test]
#[ignore = "a soak: minutes; see docs/testing.md"]
fn soak_churn_keeps_table_size_bounded() {
    let slots = replace_in_turn(&Options::new(), 1_000_000, 5_000);
    assert!(slots.1 <= slots.0 * 2, "{slots:?}");
}

/// Inserts a key and deletes the oldest, `pairs` times, in a table with `entries` entries. Returns
/// the slots of the table before and after.
fn replace_in_turn(options: &Options, pairs: u64, entries: u64) -> (u64, u64) {
    let scratch = Scratch::new();
    let cache = options.open(&scratch.path).expect("a new cache");
    for number in 0..entries {
        cache.put(&key(number), &value(number)).expect("a put");
    }
    let before = (cache.stats().expect("the counters"), time_of_misses(&cache));
    let groups = (groups_of_a_miss(&cache), &mut 0.0_f64);
    let (began, mut share) = (Instant::now(), 0);
    for number in 0..pairs {
        let fresh = entries + number;
        cache.put(&key(fresh), &value(fresh)).expect("a put");
        assert!(cache.delete(&key(number)).expect("a deletion"), "{number}");
        if number % 500 == 0 {
            share = share.max(stays_small(
                &cache.stats().expect("the counters"),
                &before.0,
            ));
        }
        if number % (pairs / 50) == 0 {
            *groups.1 = groups.1.max(groups_of_a_miss(&cache));
        }
    }
    println!("{pairs} pairs in {:?}", began.elapsed());
    let after = (cache.stats().expect("the counters"), time_of_misses(&cache));
    println!("100,000 misses: {:?} before, {:?} after", before.1, after.1);
    println!(
        "groups probed by a miss: {:.2} before, at most {:.2}",
        groups.0, groups.1
    );
    assert!(*groups.1 <= 2.0 * groups.0, "{groups:?}");
    println!("{} slots before, {} after", before.0.slots, after.0.slots);
    println!("at most {share} % of the slots were those of deleted entries");
    stays_small(&after.0, &before.0);
    assert_eq!(cache.len(), entries);
    assert!((pairs..pairs + entries).all(|number| {
        let found = cache.get(&key(number)).expect("a lookup");
        found == Some(value(number))
    }));
    (before.0.slots, after.0.slots)
}

/// Each region is purged when seven eighths of its slots are taken, by entries or tombstones.
#[track_caller]
fn stays_small(now: &Stats, before: &Stats) -> u64 {
    assert!((now.occupied + now.deleted) * 8 <= now.slots * 7, "{now:?}");
    assert!(now.slots <= 2 * before.slots, "{now:?}");
    now.deleted * 100 / now.slots
}

/// Returns how many groups of eight slots a miss reads on average.
fn groups_of_a_miss(cache: &MmapCache) -> f64 {
    cache.verify().run().expect("a report").miss_groups
}

fn time_of_misses(cache: &MmapCache) -> Duration {
    let keys: Vec<_> = (0..100_000).map(|number| key(number + (1 << 40))).collect();
    let began = Instant::now();
    let found = keys
        .iter()
        .filter(|key| cache.contains(key).expect("a lookup"));
    assert_eq!(found.count(), 0);
    began.elapsed()
}

// A thousand rebuilds run while other processes read.
#[test]
#[ignore = "a soak: minutes; see docs/testing.md"]
fn soak_readers_see_whole_generations() {
    for options in [Options::new(), tight()] {
        let scratch = Scratch::new();
        let began = Instant::now();
        let seen = rebuilds::under_readers(&scratch.path, &options, 1_000);
        println!("1,000 rebuilds in {:?}", began.elapsed());
        for line in seen {
            println!("a reader: {line}");
            assert!(line.contains("up to number"), "{line}");
        }
    }
}

#[test]
#[ignore = "a soak: minutes; see docs/testing.md"]
fn single_writer_survives_300_kills() {
    for is_tight in [false, true] {
        let scratch = Scratch::new();
        let began = Instant::now();
        let (operations, unacknowledged) = kills::survive(&scratch.path, is_tight, 300, 99);
        println!(
            "300 kills in {:?}: {operations} operations",
            began.elapsed()
        );
        println!(
            "after {unacknowledged} kills an operation was done that had not been acknowledged"
        );
        assert!(operations > 600, "{operations} operations in all");
    }
}
