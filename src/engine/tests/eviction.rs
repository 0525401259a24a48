//! Limits of a `Cache`: what is evicted, what stays, and what the files take at any moment.

use crate::engine::clean::bound;
use crate::engine::read::lookup::{self, Answer};
use crate::engine::statistics::{Counter, Statistics};
use crate::engine::tests::*;
use crate::engine::write::cache_words;
use crate::engine::write::put::Terms;
use crate::error::ErrorKind;
use crate::format::record::Variant;
use crate::format::settings::{Bound, EvictionPolicy, Settings};

pub(super) const MIB: u64 = 1 << 20;

pub(super) fn cache_options() -> Options {
    Options {
        variant: Variant::Expiring,
        ..Options::new()
    }
}

/// Opens a cache with these limits.
pub(super) fn limited(scratch: &Scratch, settings: Settings) -> MmapCache {
    let mut cache = MmapCache::open_with(scratch.path(), &cache_options()).unwrap();
    cache.handle.statistics = Some(Statistics::new());
    set(&cache, settings);
    cache
}

/// Returns what was counted.
pub(super) fn counted(cache: &MmapCache, counter: Counter) -> u64 {
    cache.handle.fold_statistics();
    generation_of(cache).header().statistics()[counter as usize]
}

pub(super) fn set(cache: &MmapCache, settings: Settings) {
    let mut writer = cache.writer().unwrap();
    let generation = Arc::clone(&writer.session().mutator.generation);
    cache_words::set_settings(generation.header(), settings);
}

pub(super) fn bytes(max_bytes: u64) -> Settings {
    Settings {
        max_bytes,
        ..Settings::default()
    }
}

pub(super) fn entries(max_entries: u64) -> Settings {
    Settings {
        max_entries,
        ..Settings::default()
    }
}

/// Looks a key up as `Cache` does, which marks it.
pub(super) fn is_there(cache: &MmapCache, key: &[u8]) -> bool {
    let found = lookup::read_terms(&cache.handle, key, &mut Vec::new());
    matches!(found.unwrap(), Answer::Found(_))
}

pub(super) fn key(number: u32) -> [u8; 12] {
    *format!("key {number:08}").as_bytes().first_chunk().unwrap()
}

/// Sizes from 10 bytes to 64 KiB, most of them small.
pub(super) fn length(number: u32) -> usize {
    let random = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    10 + ((random as usize % 65_526) >> (random % 7))
}

// After each put, the blocks of all files are within the bound and its step; in the end they are
// within the bound but for a segment, and most of the bound is used.
#[test]
fn files_stay_within_bound() {
    let scratch = scratch();
    let limit = 16 * MIB;
    let cache = limited(&scratch, bytes(limit));
    let bound = Bound(limit);
    let mut most = 0;
    for number in 0..8_000 {
        cache.put(key(number), vec![7; length(number)]).unwrap();
        most = most.max(cache.disk_usage().unwrap().total());
    }
    assert!(most <= limit + bound.step(), "{most}");
    let used = cache.disk_usage().unwrap().total();
    assert!(used <= limit + bound.segment(), "{used}");
    let live = generation_of(&cache).header().counters().live;
    assert!(live > limit / 2, "{live}");
    assert_clean(&cache);
    let evicted = counted(&cache, Counter::EvictedSize);
    assert_eq!(evicted + cache.len(), 8_000);
}

// What is read again and again stays, whatever else is put.
#[test]
fn used_entries_outlive_others() {
    let scratch = scratch();
    let cache = limited(&scratch, bytes(4 * MIB));
    let mut hits = 0;
    for number in 0..60_000 {
        let hot = key(number % 500);
        hits += u32::from(is_there(&cache, &hot));
        if !is_there(&cache, &hot) {
            cache.put(hot, [1; 300]).unwrap();
        }
        cache.put(key(1_000 + number), [2; 300]).unwrap();
    }
    assert!(hits > 59_000, "{hits}");
    assert!(!is_there(&cache, &key(1_000)), "the oldest is gone");
    assert_clean(&cache);
}

// FIFO evicts them all the same.
#[test]
fn fifo_ignores_uses() {
    let scratch = scratch();
    let settings = Settings {
        eviction: EvictionPolicy::Fifo,
        ..entries(1_000)
    };
    let cache = limited(&scratch, settings);
    for number in 0..3_000 {
        cache.put(key(number), [1; 30]).unwrap();
        is_there(&cache, &key(0));
    }
    assert!(!is_there(&cache, &key(0)));
    assert!(is_there(&cache, &key(2_999)));
}

#[test]
fn entries_stay_within_number() {
    let scratch = scratch();
    let cache = limited(&scratch, entries(1_000));
    for number in 0..20_000 {
        cache.put(key(number), [1; 30]).unwrap();
        assert!(cache.len() <= 1_000, "{number}");
    }
    assert!(cache.len() > 950, "{}", cache.len());
    let evicted = counted(&cache, Counter::EvictedNumber);
    assert_eq!(evicted + cache.len(), 20_000);
    let moved = generation_of(&cache).header().tail().segment;
    assert!(moved < 400, "{moved} segments");
    assert_clean(&cache);
}

// A policy without eviction refuses instead, and what is there stays.
#[test]
fn full_cache_refuses_without_eviction() {
    let scratch = scratch();
    let refuse = |settings| Settings {
        eviction: EvictionPolicy::Refuse,
        ..settings
    };
    let cache = limited(&scratch, refuse(bytes(2 * MIB)));
    let refused = (0..100_000).find_map(|number| cache.put(key(number), [1; 3_000]).err());
    let refused = refused.unwrap();
    assert!(matches!(refused.kind(), ErrorKind::CacheFull { limit } if *limit == 2 * MIB));
    assert!(is_there(&cache, &key(0)));

    set(&cache, refuse(entries(cache.len())));
    let refused = cache.put("new", "value").unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::TableFull { .. }));
    cache.put(key(0), "overwritten").unwrap();
}

#[test]
fn huge_values_evict_nothing() {
    let scratch = scratch();
    let cache = limited(&scratch, bytes(16 * MIB));
    cache.put("small", "value").unwrap();
    let refused = cache.put("huge", vec![0; MIB as usize]).unwrap_err();
    let ErrorKind::ValueTooLarge { max, .. } = *refused.kind() else {
        panic!("{refused}");
    };
    assert!(is_there(&cache, b"small"));
    cache.put("huge", vec![0; max as usize - 8]).unwrap();
}

// Each put evicts a bounded piece, until the files are as small as the new bound asks.
#[test]
fn lowered_bound_is_reached_stepwise() {
    let scratch = scratch();
    let cache = limited(&scratch, bytes(64 * MIB));
    for number in 0..60_000 {
        cache.put(key(number), vec![1; 1_000]).unwrap();
    }
    let before = cache.disk_usage().unwrap().total();
    set(&cache, bytes(8 * MIB));
    cache.put("one", "more").unwrap();
    let after_one = cache.disk_usage().unwrap().total();
    assert!(before - after_one < 16 * MIB, "{before} {after_one}");
    for number in 0..2_000 {
        cache.put(key(number), [2; 1_000]).unwrap();
    }
    let used = cache.disk_usage().unwrap().total();
    assert!(used <= 8 * MIB + Bound(8 * MIB).step(), "{used}");
    assert_clean(&cache);
}

// E3: a rebuild from the heap may bring back what was evicted, but not what was removed after that.
#[test]
fn removed_entries_never_return() {
    let scratch = scratch();
    let cache = limited(&scratch, bytes(4 * MIB));
    let mut number = 0;
    while counted(&cache, Counter::EvictedSize) < 100 {
        cache.put(key(number), [2; 300]).unwrap();
        number += 1;
    }
    let gone: Vec<_> = (0..number)
        .filter(|&n| !is_there(&cache, &key(n)))
        .collect();
    for &number in &gone {
        assert!(!cache.delete(key(number)).unwrap());
    }
    drop(cache);
    std::fs::remove_file(scratch.path()).unwrap();
    crate::Repair::new(scratch.path()).run().unwrap();
    let cache = MmapCache::open_with(scratch.path(), &cache_options()).unwrap();
    assert!(cache.len() > 1_000, "{}", cache.len());
    let back = gone
        .iter()
        .filter(|&&number| is_there(&cache, &key(number)));
    assert_eq!(back.count(), 0);
    assert!(gone.len() >= 100, "{}", gone.len());
}

// Cleaning drops what expired instead of moving it.
#[test]
fn cleaning_drops_expired_entries() {
    let scratch = scratch();
    let cache = limited(&scratch, Settings::default());
    let put = |number, deadline| {
        let terms = Terms {
            deadline: Some(deadline),
            ..Terms::PLAIN
        };
        let put = |writer: &mut Writer<'_>| writer.put_with(&key(number), &[1; 500], terms);
        cache.write(put).unwrap();
    };
    (0..1_000).for_each(|number| put(number, 1));
    (1_000..2_000).for_each(|number| put(number, u64::MAX / 2));
    cache.compact().unwrap();
    assert_eq!(cache.len(), 1_000);
    assert_eq!(counted(&cache, Counter::Expired), 1_000);
    assert_clean(&cache);
}

// Puts remove what expired elsewhere, without any other reason to clean.
#[test]
fn puts_sweep_expired_entries() {
    let scratch = scratch();
    let cache = limited(&scratch, Settings::default());
    let expired = Terms {
        deadline: Some(1),
        ..Terms::PLAIN
    };
    for number in 0..1_000 {
        let put = |writer: &mut Writer<'_>| writer.put_with(&key(number), &[1; 20], expired);
        cache.write(put).unwrap();
    }
    for number in 1_000..1_400 {
        cache.put(key(number), [1; 20]).unwrap();
    }
    assert_eq!(cache.len(), 400);
    assert_clean(&cache);
}

// E1: a slot that a flipped bit makes look expired ends no life: the record decides.
#[test]
fn flipped_slot_bits_expire_nothing() {
    let scratch = scratch();
    let cache = limited(&scratch, Settings::default());
    let terms = Terms {
        deadline: Some(u64::MAX >> 20),
        ..Terms::PLAIN
    };
    cache
        .write(|writer| writer.put_with(b"key", b"value", terms))
        .unwrap();
    let generation = generation_of(&cache);
    let region = region_of(&generation, generation.hasher.hash(b"key"));
    let (_, slot, _) = region.probe(generation.hasher.hash(b"key")).next().unwrap();
    slot.set_deadline(Some(1));
    for _ in 0..8 {
        assert_eq!(cache.write(|writer| writer.sweep(1_000)).unwrap(), 0);
    }
    assert!(is_there(&cache, b"key"));
}

// A reader's marks change the files' times. The next writer must not take that for a foreign change,
// which it would verify all files for.
#[test]
fn marks_are_no_foreign_change() {
    use std::os::unix::fs::MetadataExt;
    let scratch = Scratch::new();
    let cache = limited(&scratch, Settings::default());
    cache.put("key", "value").unwrap();
    cache.flush().unwrap();
    for _ in 0..2 {
        // The first store after a page was written back sets the file's time.
        let file = std::fs::File::open(scratch.path()).unwrap();
        file.sync_all().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(is_there(&cache, b"key"));
        let meta = file.metadata().unwrap();
        let changed = meta.ctime() as u64 * 1_000_000_000 + meta.ctime_nsec() as u64;
        let visited = generation_of(&cache).header().visited();
        assert!(changed <= visited + 50_000_000, "{changed} {visited}");
    }
    assert_eq!(mark(&cache, b"key"), 2, "it was marked");
}

#[test]
fn read_only_handles_never_mark() {
    let scratch = scratch();
    let cache = limited(&scratch, Settings::default());
    cache.put("key", "value").unwrap();
    let mut options = cache_options();
    options.read_only(true);
    let reader = MmapCache::open_with(scratch.path(), &options).unwrap();
    assert!(is_there(&reader, b"key"));
    assert_eq!(mark(&cache, b"key"), 0);
    for expected in [1, 2, 3, 3] {
        assert!(is_there(&cache, b"key"));
        assert_eq!(mark(&cache, b"key"), expected);
    }
}

fn mark(cache: &MmapCache, key: &[u8]) -> u8 {
    let generation = generation_of(cache);
    let hash = generation.hasher.hash(key);
    let region = region_of(&generation, hash);
    let (index, _, _) = region.probe(hash).next().unwrap();
    region.mark(index)
}

// A key that was evicted not long ago begins as if it had been used; a new key does not.
#[test]
fn returning_keys_begin_as_used() {
    let scratch = scratch();
    let cache = limited(&scratch, entries(1_000));
    (0..2_000).for_each(|number| cache.put(key(number), "1").map(drop).unwrap());
    let used = |numbers: std::ops::Range<u32>| {
        let begins = |&number: &u32| {
            cache.put(key(number), "2").unwrap();
            mark(&cache, &key(number)) == 3
        };
        numbers.filter(begins).count()
    };
    let returning = used(800..900);
    let new = used(5_000..5_100);
    assert!(returning > 60 && new < 10, "{returning} {new}");
}

// The counted bytes are never less than the blocks: otherwise the bound would not hold.
#[test]
fn counted_bytes_cover_blocks() {
    let scratch = scratch();
    let cache = limited(&scratch, bytes(32 * MIB));
    for number in 0..30_000 {
        cache
            .put(key(number), vec![1; length(number) / 64])
            .unwrap();
        if number % 500 == 0 {
            let counted = bound::disk_bytes(&generation_of(&cache));
            let blocks = cache.disk_usage().unwrap().total();
            assert!(counted + 65_536 >= blocks, "{number}: {counted} {blocks}");
        }
    }
}
