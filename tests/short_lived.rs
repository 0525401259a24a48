//! Handles and processes that write a few times and end, like those of a command-line tool: the
//! space of a cache stays bounded, though none of them lives until its background task ends.
//!
//! `docs/testing.md` has the command of the soak.

mod child;

use std::path::Path;
use std::time::Duration;

use child::contents::Random;
use child::scratch::Scratch;
use child::{Child, Part, say};
use mmapcache::{Durability, MmapCache, Options};

/// Live entries, and bytes of their values.
const ENTRIES: u64 = 20_000;
const VALUE: usize = 500;
const MIB: u64 = 1 << 20;

/// Not a test: the entry point of the child processes.
#[test]
fn child() {
    child::play(&[("overwrites", overwrites)]);
}

fn put(cache: &MmapCache, number: u64, fill: u64) {
    let value = [fill as u8; VALUE];
    cache.put(&number.to_le_bytes(), &value).expect("a put");
}

/// Overwrites entries that its seed chooses, and ends.
fn overwrites(part: &Part) {
    let [seed, count] = part.numbers[..] else {
        panic!("a seed and a count");
    };
    let cache = MmapCache::open(&part.path).expect("the cache");
    overwrite(&cache, seed, count);
    say("done");
}

fn overwrite(cache: &MmapCache, seed: u64, count: u64) {
    let mut random = Random::new(seed);
    for _ in 0..count {
        put(cache, random.below(ENTRIES), seed);
    }
}

/// The same in one batch, which a durable handle syncs once.
fn overwrite_at_once(cache: &MmapCache, seed: u64, count: u64) {
    let mut random = Random::new(seed);
    let mut writer = cache.writer().expect("the writer");
    for _ in 0..count {
        let key = random.below(ENTRIES).to_le_bytes();
        writer.put(&key, &[seed as u8; VALUE]).expect("a put");
    }
    writer.commit().expect("the end of a batch");
}

/// Puts all entries, leaves as much dead as cleaning ignores, and flushes, which makes a sync come
/// before each removal from then on.
fn filled(options: &Options, path: &Path) {
    let cache = options.open(path).expect("a new cache");
    let mut writer = cache.writer().expect("the writer");
    for number in 0..ENTRIES {
        let put = writer.put(&number.to_le_bytes(), &[0; VALUE]);
        put.expect("a put");
    }
    writer.commit().expect("the end of a batch");
    overwrite_at_once(&cache, 7, 3 * ENTRIES / 2);
    cache.flush().expect("a flush");
}

/// Returns the bytes of all files in the directory of the cache, without removed ones.
fn blocks(scratch: &Scratch) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let directory = scratch.path.parent().expect("a directory");
    let files = std::fs::read_dir(directory).expect("it");
    files
        .filter_map(|file| file.expect("a file").metadata().ok())
        .map(|file| file.blocks() * 512)
        .sum()
}

fn live(scratch: &Scratch) -> u64 {
    let cache = Options::new()
        .read_only(true)
        .open(&scratch.path)
        .expect("the cache");
    assert_eq!(cache.len(), ENTRIES);
    cache.stats().expect("the counters").live_bytes
}

/// Asserts that the files take at most four times the live bytes, and `beside` bytes.
#[track_caller]
fn assert_bounded(scratch: &Scratch, live: u64, beside: u64) -> u64 {
    let blocks = blocks(scratch);
    let most = 4 * live + beside;
    assert!(
        blocks <= most,
        "{blocks} bytes on the disk, with {live} live"
    );
    blocks
}

fn assert_whole(scratch: &Scratch) {
    let cache = MmapCache::open(&scratch.path).expect("the cache");
    let report = cache.verify().run().expect("a check");
    assert!(report.is_clean(), "{:?}", report.problems);
    assert_eq!(cache.len(), ENTRIES);
    for number in 0..ENTRIES {
        let found = cache.get(&number.to_le_bytes()).expect("a lookup");
        assert_eq!(found.expect("an entry").len(), VALUE);
    }
}

/// Processes that overwrite a hundred entries each. Returns the most that the files took.
fn churn_by_processes(scratch: &Scratch, processes: u64, most: u64) -> u64 {
    let live = live(scratch);
    let mut seen = 0;
    for seed in 1..=processes {
        let done = Child::start("overwrites", &scratch.path, &[seed, 100]).finish();
        assert_eq!(done, "done");
        seen = seen.max(assert_bounded(scratch, live, most));
    }
    seen
}

#[test]
fn short_lived_processes_leave_space_bounded() {
    let scratch = Scratch::new();
    filled(&Options::new(), &scratch.path);
    let most = churn_by_processes(&scratch, 100, 0);
    println!("processes: at most {most} bytes");
    assert_whole(&scratch);
}

#[test]
#[ignore = "a soak: minutes; see docs/testing.md"]
fn two_thousand_processes_leave_space_bounded() {
    let scratch = Scratch::new();
    filled(&Options::new(), &scratch.path);
    let most = churn_by_processes(&scratch, 2_000, 80 * MIB);
    std::thread::sleep(Duration::from_secs(60));
    Child::start("overwrites", &scratch.path, &[0, 1]).finish();
    let live = live(&scratch);
    let after = assert_bounded(&scratch, live, 16 * MIB);
    println!("{live} bytes live; at most {most} on the disk, {after} after the last write");
    assert_whole(&scratch);
}

/// Handles that overwrite ten entries each, one after the other: no background task ends in so
/// short a time.
fn churn_by_handles(options: &Options, handles: u64) {
    let scratch = Scratch::new();
    filled(options, &scratch.path);
    let live = live(&scratch);
    let mut most = 0;
    for seed in 1..=handles {
        let cache = options.open(&scratch.path).expect("the cache");
        overwrite_at_once(&cache, seed, 10);
        drop(cache);
        most = most.max(assert_bounded(&scratch, live, 16 * MIB));
    }
    println!("at most {most} bytes");
    assert_whole(&scratch);
}

#[test]
fn short_lived_handles_leave_space_bounded() {
    churn_by_handles(&Options::new(), 800);
}

#[test]
fn short_lived_durable_handles_bound_space() {
    churn_by_handles(Options::new().durability(Durability::Sync), 500);
}

#[test]
fn handles_without_threads_bound_space() {
    churn_by_handles(Options::new().background_threads(false), 800);
}

/// Each handle deletes one entry: fewer bytes are live, and the copies of cleaning must not pile
/// up.
#[test]
fn deletions_never_grow_the_files() {
    let scratch = Scratch::new();
    filled(&Options::new(), &scratch.path);
    let most = 4 * live(&scratch) + 16 * MIB;
    for number in 0..ENTRIES {
        let cache = MmapCache::open(&scratch.path).expect("the cache");
        assert!(cache.delete(&number.to_le_bytes()).expect("a deletion"));
        drop(cache);
        if number % 100 == 0 {
            assert!(blocks(&scratch) <= most, "{}", blocks(&scratch));
        }
    }
    let cache = MmapCache::open(&scratch.path).expect("the cache");
    assert!(cache.is_empty());
    drop(cache);
    // The table keeps its size; the heap has no live bytes.
    assert!(blocks(&scratch) <= 24 * MIB, "{}", blocks(&scratch));
}
