//! Changes that move entries, or begin regions, segments or generations, stopped at any step: the
//! result is the old state or the new one.
//!
//! `changes.rs` tests the puts and deletions themselves.

use crate::engine::tests::recovery::stop::{stop_at_every_step, stop_with};
use crate::engine::tests::recovery::*;
use crate::sync::Relaxed;

// A split of a region and a doubling of the directory are done or undone.
// S6: stopped anywhere, the old region or the new ones have all entries.
#[test]
fn stopped_split_is_atomic() {
    // Fourteen of sixteen slots are the limit: the next insertion splits the region, and doubles
    // the directory of one entry.
    let images = stop_at_every_step(1, fill(14), |cache| {
        cache.put(&key(99), b"new").unwrap();
    });
    assert!(images > 150, "{images}: no region was rebuilt");
}

#[test]
fn stopped_tombstone_purge_is_atomic() {
    let prepare = |cache: &MmapCache| {
        fill(14)(cache);
        for i in 0..8 {
            assert!(cache.delete(&key(i)).unwrap());
        }
        // Takes slots until the region is full of entries and tombstones.
        for i in 40..44 {
            cache.put(&key(i), b"x").unwrap();
        }
    };
    stop_at_every_step(1, prepare, |cache| {
        for i in 50..53 {
            // One after the other: any of them may be stopped.
            if !cache.contains(&key(i)).unwrap() {
                cache.put(&key(i), b"y").unwrap();
                break;
            }
        }
    });
}

// A table that outgrows its directory is the old or the new one.
#[test]
fn stopped_table_growth_is_atomic() {
    // Eight directory entries of sixteen slots, filled until regions must be enlarged.
    let prepare = fill(100);
    let change = |cache: &MmapCache| {
        let mut writer = cache.writer().unwrap();
        writer.put(&key(100), b"new").unwrap();
    };
    stop_at_every_step(1, prepare, change);
    let scratch = scratch();
    let cache = scratch.open(&options());
    fill(300)(&cache);
    assert!(
        cache.stats().unwrap().generation > 1,
        "the directory was never too small"
    );
}

// H3: no header names a segment that is not complete.
#[test]
fn stopped_segment_creation_is_atomic() {
    let prepare = |cache: &MmapCache| {
        cache.put(b"large", &[1; 9_000]).unwrap();
        cache.put(b"small", b"1").unwrap();
    };
    let images = stop_at_every_step(1, prepare, |cache| {
        cache.put(b"second", &[2; 9_000]).unwrap();
    });
    assert!(
        images > 1_000,
        "{images}: the record was not stored word by word"
    );
}

// A segment that grows has its old length, or a larger one.
#[test]
fn stopped_segment_growth_is_atomic() {
    let prepare = |cache: &MmapCache| {
        cache.put(b"small", b"1").unwrap();
    };
    let images = stop_at_every_step(1, prepare, |cache| {
        cache.put(b"beyond the first blocks", &[2; 9_000]).unwrap();
    });
    assert!(images > 1_000, "{images}");
}

// Enlarged regions have all entries, or do not exist.
#[test]
fn stopped_region_growth_is_atomic() {
    // The directory cannot grow: the seventeenth entry needs larger regions, whatever the hash.
    let mut options = options();
    options.directory_bits = 0;
    larger_regions(&options, 13);
}

pub(super) fn larger_regions(options: &Options, stride: u64) -> u64 {
    let generation = |cache: &MmapCache| cache.stats().unwrap().generation;
    let images = stop_with(
        options,
        stride,
        fill(16),
        &[&|cache| {
            cache.put(&key(99), b"new").unwrap();
            assert_eq!(generation(cache), 2, "the regions were not enlarged");
        }],
    );
    assert!(images * stride > 500, "{images}");
    images
}

// A roster without its free entries is there, or the one with them.
#[test]
fn stopped_roster_compaction_is_atomic() {
    roster_without_holes(9_000);
}

pub(super) fn roster_without_holes(stride: u64) -> u64 {
    let number = |i: u32| i.to_le_bytes();
    let prepare = |cache: &MmapCache| {
        cache.handle.clean_pause.store(1 << 20, Relaxed);
        let mut writer = cache.writer().unwrap();
        for i in 0..4_200 {
            writer.put(&number(i), b"").unwrap();
        }
        for i in 0..3_700 {
            writer.delete(&number(i)).unwrap();
        }
    };
    let mut larger = tiny();
    larger.region_slots(64).max_segment_bytes(1 << 20);
    stop_with(
        &larger,
        stride,
        prepare,
        &[&|cache| {
            let before = cache.stats().unwrap().generation;
            cache.compact().unwrap();
            let after = cache.stats().unwrap().generation;
            assert_eq!(after, before + 1, "the roster was not rebuilt");
        }],
    )
}

#[test]
fn stopped_cleaning_loses_nothing() {
    let images = stop_cleaning(3);
    assert!(images > 100, "{images}");
}

pub(super) fn stop_cleaning(stride: u64) -> u64 {
    let prepare = |cache: &MmapCache| {
        fill(20)(cache);
        let mut paused = options();
        paused.compaction_threshold(10_000, 1 << 30);
        drop(cache.writer().unwrap());
        for round in 0..12_u8 {
            cache.put(b"churned", &[round; 400]).unwrap();
        }
    };
    stop_at_every_step(stride, prepare, |cache| cache.compact().unwrap())
}

// A rebuild stopped at any step is the old or the new generation.
// G1: the index at the path finds its own heap and roster, under either name.
#[test]
fn stopped_rebuild_is_atomic() {
    let images = stop_rebuild(7);
    assert!(images > 50, "{images}");
    stop_at_every_step(1, fill(8), |cache| cache.clear().unwrap());
}

pub(super) fn stop_rebuild(stride: u64) -> u64 {
    let items = || (30..45_u32).map(|i| Ok::<_, crate::Error>((key(i), vec![i as u8; 20])));
    stop_at_every_step(stride, fill(20), |cache| {
        cache.atomic_rebuild(items()).unwrap()
    })
}
