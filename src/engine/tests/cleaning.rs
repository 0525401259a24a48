//! What cleaning skips because this handle knows that it is dead, and what it must not skip.
//!
//! All records have one size, so that the place of each is known, and a wrong length leads to the
//! beginning of another.

use std::os::unix::fs::FileExt;

use crate::engine::tests::*;
use crate::format::heap_addr::CleanCursor;

const RECORD: u64 = 328;
const KEY: usize = 2;
const VALUE: usize = RECORD as usize - 24 - KEY;
/// More keys than the first segment takes.
const KEYS: u8 = 210;
/// The key that is overwritten.
const DEAD: u8 = 3;

/// Opens a handle for which cleaning always pays, and which pauses it until told to begin.
fn paused(scratch: &Scratch) -> MmapCache {
    let mut options = tiny();
    options
        .max_segment_bytes(64 * 1024)
        .compaction_threshold(0, 0);
    let cache = scratch.open(&options);
    pause(&cache, 10_000);
    cache
}

fn pause(cache: &MmapCache, writes: u64) {
    cache.handle.clean_pause.store(writes, crate::sync::Relaxed);
}

fn put(cache: &MmapCache, key: u8, value: u8) {
    cache.put(&[b'k', key], &[value; VALUE]).unwrap();
}

fn filled(scratch: &Scratch) -> MmapCache {
    let cache = paused(scratch);
    (0..KEYS).for_each(|key| put(&cache, key, key));
    cache
}

/// Asserts that every entry is present with its value, and stays when all is cleaned.
fn assert_all_there(cache: &MmapCache, overwritten: &[(u8, u8)]) {
    let dropped = cache.stats().unwrap().dropped;
    cache.compact().unwrap();
    for key in 0..KEYS {
        let value = overwritten
            .iter()
            .find(|over| over.0 == key)
            .map_or(key, |over| over.1);
        let found = cache.get(&[b'k', key]).unwrap();
        assert_eq!(found, Some(vec![value; VALUE]), "{key}");
    }
    assert_eq!(cache.stats().unwrap().dropped, dropped);
    assert_clean(cache);
}

fn heap(scratch: &Scratch) -> std::fs::File {
    let path = format!("{}.heap", scratch.path().display());
    std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

fn record_at(key: u8) -> u64 {
    128 + u64::from(key) * RECORD
}

/// Makes the record's length span its neighbours too.
fn lengthen(scratch: &Scratch, key: u8, neighbours: u64) {
    let value_len = VALUE as u64 + neighbours * RECORD;
    let bytes = (value_len as u32).to_le_bytes();
    heap(scratch)
        .write_all_at(&bytes, record_at(key) + 4)
        .unwrap();
}

fn flip_in_value(scratch: &Scratch, at: u64) {
    let mut byte = [0];
    heap(scratch).read_exact_at(&mut byte, at + 100).unwrap();
    heap(scratch)
        .write_all_at(&[byte[0] ^ 0x10], at + 100)
        .unwrap();
}

/// Cleans one step and returns the cursor.
fn clean_a_step(cache: &MmapCache) -> CleanCursor {
    pause(cache, 0);
    put(cache, 0, 0);
    pause(cache, 10_000);
    let cursor = generation_of(cache).header().clean_cursor().unwrap();
    assert_eq!(cursor.addr.segment, 0);
    assert!(cursor.addr.bytes() > record_at(DEAD + 1));
    cursor
}

// The handle that overwrote a record passes over it while cleaning, without a read.
#[test]
fn overwriter_cleans_dead_records_unread() {
    for elsewhere in [false, true] {
        let scratch = scratch();
        let cache = filled(&scratch);
        put(&cache, DEAD, 99);
        flip_in_value(&scratch, record_at(DEAD));
        // For a handle of another process the record may be live.
        let cleaner = if elsewhere { paused(&scratch) } else { cache };
        assert_eq!(clean_a_step(&cleaner).damage, elsewhere);
        assert_all_there(&cleaner, &[(DEAD, 99)]);
    }
}

// The handle that deleted an entry passes over its record while cleaning, without a read.
#[test]
fn deleter_cleans_dead_records_unread() {
    let scratch = scratch();
    let cache = filled(&scratch);
    assert!(cache.delete(&[b'k', DEAD]).unwrap());
    flip_in_value(&scratch, record_at(DEAD));
    assert!(!clean_a_step(&cache).damage);
    put(&cache, DEAD, 99);
    assert_all_there(&cache, &[(DEAD, 99)]);
}

// A dead record with a corrupt length hides no live record from the cleaner.
#[test]
fn corrupt_dead_length_hides_no_record() {
    for neighbours in [1, 2, 50] {
        let scratch = scratch();
        let cache = filled(&scratch);
        put(&cache, DEAD, 99);
        lengthen(&scratch, DEAD, neighbours);
        assert_all_there(&cache, &[(DEAD, 99)]);
    }
}

// A dead record whose corrupt length spans other dead records is passed over with them.
#[test]
fn dead_record_may_overlap_dead_ones() {
    let scratch = scratch();
    let cache = filled(&scratch);
    for key in DEAD..DEAD + 3 {
        put(&cache, key, 99);
    }
    lengthen(&scratch, DEAD, 2);
    assert!(!clean_a_step(&cache).damage);
    assert_all_there(&cache, &[(DEAD, 99), (DEAD + 1, 99), (DEAD + 2, 99)]);
}

// A length that was corrupted before its record was overwritten does not mislead the cleaner.
#[test]
fn overwritten_corrupt_length_is_ignored() {
    let scratch = scratch();
    let cache = filled(&scratch);
    lengthen(&scratch, DEAD, 1);
    put(&cache, DEAD, 99);
    assert_all_there(&cache, &[(DEAD, 99)]);
}

/// A recovery that rejects the newest record of a key makes the one before it live again: the
/// cleaner must not skip that.
#[test]
fn recovered_record_is_no_longer_dead() {
    for elsewhere in [false, true] {
        let scratch = scratch();
        let cache = filled(&scratch);
        let generation = cache.handle.generation.load_full();
        let newest = generation.header().tail();
        put(&cache, DEAD, 99);
        let path = format!("{}.heap.{}", scratch.path().display(), newest.segment);
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.write_all_at(&[0; 8], newest.bytes() + 100).unwrap();
        // An impossible header has the next writer rebuild the index from the heap.
        generation.header().corrupt(word::OLDEST, 77);
        let other = paused(&scratch);
        put(if elsewhere { &other } else { &cache }, 0, 0);
        assert_eq!(
            cache.get(&[b'k', DEAD]).unwrap(),
            Some(vec![DEAD; VALUE]),
            "an older value came back"
        );
        clean_a_step(&cache);
        assert_all_there(&cache, &[]);
    }
}

// Two handles write in turn; each cleans what either left dead, and no live entry.
#[test]
fn handles_clean_each_others_dead_records() {
    let scratch = scratch();
    let mut options = tiny();
    options.compaction_threshold(20, 0);
    let handles = [scratch.open(&options), scratch.open(&options)];
    let mut expected = std::collections::BTreeMap::new();
    let mut random = 1_u64;
    for turn in 0..4_000_u32 {
        random = random.wrapping_mul(6_364_136_223_846_793_005) + 1;
        let key = [(random >> 33) as u8 % 60];
        let cache = &handles[(random >> 50) as usize & 1];
        if (random >> 55).is_multiple_of(5) {
            let there = expected.remove(&key).is_some();
            assert_eq!(cache.delete(&key).unwrap(), there);
        } else {
            let value = vec![turn as u8; (random >> 40) as usize % 300];
            cache.put(&key, &value).unwrap();
            expected.insert(key, value);
        }
    }
    for cache in handles {
        for key in 0..60 {
            assert_eq!(cache.get(&[key]).unwrap(), expected.get(&[key]).cloned());
        }
        assert_clean(&cache);
        let stats = cache.stats().unwrap();
        assert!(stats.heap_bytes < 4 * stats.live_bytes + 4 * 16 * 1024);
    }
}

#[test]
fn cleaning_keeps_records_of_any_size() {
    let scratch = scratch();
    let cache = paused(&scratch);
    let sizes: Vec<u32> = (0..40)
        .chain(960..1040)
        .chain([4_000, 9_000, 50_000])
        .collect();
    let value = |size: u32| -> Vec<u8> { (0..size).map(|at| (at * 31 + size) as u8).collect() };
    let mut versions = Vec::new();
    for &size in &sizes {
        versions.push(cache.put(&size.to_le_bytes(), &value(size)).unwrap());
    }
    let before = cache.handle.generation.load().header().tail().segment;
    cache.compact().unwrap();
    assert!(cache.handle.generation.load().header().oldest() > before);
    for (&size, version) in sizes.iter().zip(versions) {
        let entry = cache.entry(&size.to_le_bytes()).unwrap().unwrap();
        assert_eq!(entry.value(), value(size), "{size}");
        assert_eq!(entry.version(), version);
    }
    assert_clean(&cache);
}

/// A twentieth of the entries is overwritten again and again, so that cleaning mostly meets live
/// records: the dead bytes stay below twice the threshold, plus one segment and the unused ends of
/// segments.
#[test]
fn dead_bytes_respect_clean_threshold() {
    const SEGMENT: u64 = 512 * 1024;
    // So large that the size of a write determines how much is cleaned, not the minimum, and that
    // 32 records fill a segment.
    let value = vec![7; 16_200];
    for percent in [4, 30] {
        let scratch = Scratch::new();
        let mut options = Options::new();
        options
            .max_segment_bytes(SEGMENT)
            .compaction_threshold(percent, 0);
        let cache = scratch.open(&options);
        (0..1_024_u32).for_each(|i| {
            cache.put(&i.to_le_bytes(), &value).unwrap();
        });
        let mut most = 0;
        for turn in 0..700_u32 {
            cache.put(&(turn % 51).to_le_bytes(), &value).unwrap();
            most = most.max(cache.stats().unwrap().dead_bytes);
        }
        let live = cache.stats().unwrap().live_bytes;
        let bound = 2 * live * u64::from(percent) / 100 + SEGMENT + live / 64;
        println!("{percent} %: {most} dead, {bound} allowed, {live} live");
        assert!(most <= bound, "{percent} %: {most} of {bound}");
        assert_clean(&cache);
    }
}
