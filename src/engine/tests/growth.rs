//! Growth of a cache up to its limits, and its size after entries are deleted.
//!
//! Observes counters and files; does not stop splits or cleaning at their steps.

use crate::engine::tests::*;
use crate::format::Geometry;

// Thousands of entries split regions and rotate segments; all of them are there after reopening.
#[test]
fn growing_cache_keeps_all_entries() {
    for options in [tiny(), Options::new()] {
        let scratch = Scratch::new();
        let key = |i: u32| format!("key number {i}, some of them longer than a slot");
        {
            let cache = scratch.open(&options);
            for i in 0..5_000_u32 {
                cache.put(key(i).as_bytes(), &i.to_le_bytes()).unwrap();
            }
            assert_clean(&cache);
        }
        let cache = scratch.open(&options);
        assert_eq!(cache.len(), 5_000);
        for i in 0..5_000_u32 {
            assert_eq!(
                cache.get(key(i).as_bytes()).unwrap().as_deref(),
                Some(&i.to_le_bytes()[..]),
                "{i}"
            );
        }
        let mut listed: Vec<_> = cache.keys().unwrap().map(|key| key.unwrap()).collect();
        listed.sort();
        listed.dedup();
        assert_eq!(listed.len(), 5_000);
    }
}

#[test]
fn churn_keeps_files_small() {
    let scratch = Scratch::new();
    let cache = scratch.open(&tiny());
    let mut writer = cache.writer().unwrap();
    for i in 0..100_000_u32 {
        let key = (i % 100).to_le_bytes();
        writer
            .put(&key, &vec![i as u8; (i % 200) as usize])
            .unwrap();
    }
    drop(writer);
    let stats = cache.stats().unwrap();
    assert!(
        stats.heap_bytes < 4 * stats.live_bytes + 64 * 1024,
        "{stats:?}"
    );
    assert!(cache.disk_usage().unwrap().heap < 4 * stats.live_bytes + 128 * 1024);
    assert_clean(&cache);
    assert!(
        stats.generation > 1,
        "segment numbers ran out along the way: {stats:?}"
    );
}

// Keys that all collide coexist until the largest regions are full.
#[test]
fn colliding_keys_coexist_until_full() {
    let scratch = Scratch::new();
    let cache = scratch.open(&colliding());
    let mut put = 0_u32;
    let full = loop {
        match cache.put(&put.to_le_bytes(), &put.to_le_bytes()) {
            Ok(_) => put += 1,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(full.kind(), crate::ErrorKind::TableFull { .. }),
        "{full}"
    );
    assert!(put >= 1024, "{put}");
    for i in 0..put {
        assert_eq!(
            cache.get(&i.to_le_bytes()).unwrap().as_deref(),
            Some(&i.to_le_bytes()[..]),
            "{i} of {put}"
        );
    }
    assert_clean(&cache);
    for i in 0..put {
        assert!(cache.delete(&i.to_le_bytes()).unwrap());
    }
    assert!(cache.is_empty());
    cache.put(b"again", b"v").unwrap();
    assert_clean(&cache);
}

#[test]
fn max_entries_stops_only_insertions() {
    let scratch = Scratch::new();
    let cache = scratch.open(tiny().max_entries(100));
    for i in 0..100_u32 {
        cache.put(&i.to_le_bytes(), b"v").unwrap();
    }
    assert!(matches!(
        cache
            .put(b"one more", b"v")
            .as_ref()
            .map_err(crate::Error::kind),
        Err(crate::ErrorKind::TableFull { limit: 100, .. })
    ));
    cache.put(&5_u32.to_le_bytes(), b"w").unwrap();
    for round in 0..1_000_u32 {
        assert!(cache.delete(&(round % 100).to_le_bytes()).unwrap());
        cache.put(&(round % 100).to_le_bytes(), b"v").unwrap();
    }
    assert_clean(&cache);
}

#[test]
fn compacting_leaves_little_dead() {
    let scratch = Scratch::new();
    let cache = scratch.open(&Options::new());
    for i in 0..3_000_u32 {
        cache.put(&(i % 300).to_le_bytes(), &[1; 300]).unwrap();
    }
    assert!(cache.stats().unwrap().dead_bytes > 500_000);
    cache.compact().unwrap();
    let stats = cache.stats().unwrap();
    assert!(stats.dead_bytes < 1_000, "{stats:?}");
    assert_eq!(stats.segments, 1);
    assert_clean(&cache);
}

// A table that was emptied and compacted has slots in proportion to its entries.
#[test]
fn compacting_shrinks_a_sparse_table() {
    let scratch = Scratch::new();
    let cache = scratch.open(&Options::new());
    let mut writer = cache.writer().unwrap();
    for i in 0..20_000_u32 {
        writer.put(&i.to_le_bytes(), b"v").unwrap();
    }
    let generation = cache.stats().unwrap().generation;
    for i in 10..20_000_u32 {
        assert!(writer.delete(&i.to_le_bytes()).unwrap());
    }
    drop(writer);
    let after = cache.stats().unwrap().generation;
    assert_eq!(after, generation, "no delete does that");
    cache.compact().unwrap();
    assert_eq!(cache.keys().unwrap().count(), 10);
    assert!(
        cache.stats().unwrap().slots < 8_192,
        "{:?}",
        cache.stats().unwrap()
    );
    assert_clean(&cache);
}

/// Returns the bytes that the blocks of a cache's files take.
fn blocks_of(scratch: &Scratch) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let files = std::fs::read_dir(scratch.path().parent().unwrap()).unwrap();
    files
        .map(|file| file.unwrap().metadata().unwrap().blocks() * 512)
        .sum()
}

// Two pages of index, one of heap, one of roster.
#[test]
fn fresh_cache_takes_little_disk() {
    let scratch = Scratch::new();
    let cache = scratch.open(&Options::new());
    for i in 0..10_u32 {
        cache.put(&i.to_le_bytes(), &[1; 100]).unwrap();
        assert!(blocks_of(&scratch) <= 16 * 1024, "{i}");
    }
    let usage = cache.disk_usage().unwrap();
    assert!(usage.total() <= 16 * 1024, "{usage:?}");
}

// A small table takes the usual shape when it is full, once; whatever asked for that shape may open it
// before.
#[test]
fn small_table_grows_to_usual_shape() {
    let scratch = Scratch::new();
    let cache = scratch.open(&Options::new());
    let shape = || {
        let geometry = *generation_of(&cache).table.geometry();
        (geometry.region_slots, geometry.directory_bits)
    };
    assert_eq!(shape(), Geometry::SMALL);
    drop(scratch.open(Options::new().region_slots(512)));
    let refused = Options::new().region_slots(1024).open(scratch.path());
    assert!(matches!(
        refused.as_ref().map_err(crate::Error::kind),
        Err(crate::ErrorKind::OptionMismatch { .. })
    ));
    let mut outgrown = 0;
    for i in 0..2_000_u32 {
        cache.put(&i.to_le_bytes(), &i.to_le_bytes()).unwrap();
        if outgrown == 0 && shape() != Geometry::SMALL {
            outgrown = i;
        }
    }
    assert!((128..400).contains(&outgrown), "{outgrown}");
    assert_eq!(shape(), (512, 20));
    assert_eq!(cache.stats().unwrap().generation, 2);
    for i in 0..2_000_u32 {
        let value = cache.get(&i.to_le_bytes()).unwrap();
        assert_eq!(value.as_deref(), Some(&i.to_le_bytes()[..]));
    }
    assert_clean(&cache);
}

// Who asks for room gets it: at creation, and when a small cache is emptied.
#[test]
fn capacity_is_no_small_table() {
    let scratch = Scratch::new();
    let mut options = Options::new();
    options.capacity(10_000);
    drop(scratch.open(&Options::new()));
    for _ in 0..2 {
        let cache = scratch.open(&options);
        cache.clear().unwrap();
        assert!(cache.stats().unwrap().slots >= 10_000);
        assert!(generation_of(&cache).roster.capacity() >= 10_000);
    }
    let other = Scratch::new();
    let cache = other.open(&options);
    assert!(cache.stats().unwrap().slots >= 10_000);
    assert_eq!(cache.stats().unwrap().generation, 1);
}

// Each entry of a small heap can be deleted without another block: a full disk has none.
#[test]
fn small_heap_has_room_for_deletions() {
    for count in [1, 5, 20, 60] {
        let scratch = Scratch::new();
        let cache = scratch.open(&Options::new());
        for i in 0..count {
            cache.put(&[i; 40], b"").unwrap();
        }
        let before = blocks_of(&scratch);
        for i in 0..count {
            assert!(cache.delete(&[i; 40]).unwrap());
        }
        assert_eq!(blocks_of(&scratch), before, "{count}");
    }
}

#[test]
fn impossible_capacity_is_a_typed_error() {
    let scratch = Scratch::new();
    let mut options = tiny();
    options.directory_bits = 4;
    let most = u64::from(options.region_slots.unwrap()) << 4;
    for capacity in [most + 1, 1 << 62, u64::MAX] {
        let refused = options.capacity(capacity).open(scratch.path()).unwrap_err();
        assert!(
            matches!(refused.kind(), crate::ErrorKind::InvalidOption { option: "capacity", asked, .. } if *asked == capacity),
            "{refused:?}"
        );
        assert!(!scratch.path().exists());
    }
    let cache = scratch.open(options.capacity(most));
    cache.put(b"key", b"value").unwrap();
    let (generation, _) = cache.handle.current().unwrap();
    assert!(generation.roster.capacity() >= most);
    drop(generation);
    // An existing cache is opened; only a rebuild for the capacity is refused.
    let cache = scratch.open(options.capacity(most + 1));
    assert!(matches!(
        cache.clear().as_ref().map_err(crate::Error::kind),
        Err(crate::ErrorKind::InvalidOption { .. })
    ));
    assert_eq!(cache.len(), 1);
    assert_clean(&cache);
}

/// Some thousand million entries take more than any disk has.
#[test]
fn capacity_beyond_the_disk_allocates_nothing() {
    let scratch = Scratch::new();
    let room = rustix::fs::statvfs(scratch.path().parent().unwrap()).unwrap();
    let most = 1024_u64 << 20;
    if room.f_bavail * room.f_frsize >= most * 18 {
        eprintln!("NOT RUN: this disk has room for all that there can be");
        return;
    }
    let mut options = crate::Options::new();
    options.region_slots(1024).capacity(most);
    let refused = options.open(scratch.path()).unwrap_err();
    assert!(
        matches!(refused.kind(), crate::ErrorKind::DiskFull { .. }),
        "{refused:?}"
    );
    let left = std::fs::read_dir(scratch.path().parent().unwrap()).unwrap();
    assert_eq!(left.count(), 1, "the lock");
}

// S4: whatever a region is built for, it gets a tag that no region ever had.
#[test]
fn region_tags_are_never_reused() {
    let scratch = scratch();
    let cache = scratch.open(&tiny());
    let generation = cache.handle.generation.load_full();
    let (mut known, mut highest) = (Vec::new(), 0);
    for i in 0..2_000_u32 {
        cache.put(&(i % 300).to_le_bytes(), b"value").unwrap();
        cache.delete(&((i * 7) % 300).to_le_bytes()).unwrap();
        let regions = generation.header().counters().regions as u32;
        known.resize(regions as usize, 0);
        let tags = (0..regions).map(|number| generation.table.region(number).unwrap().stamp());
        let mut fresh: Vec<_> = tags
            .map(|state| state.incarnation())
            .zip(&mut known)
            .filter(|(tag, known)| *tag != **known)
            .map(|(tag, known)| std::mem::replace(known, tag).max(tag))
            .collect();
        fresh.sort_unstable();
        for tag in fresh {
            assert!(tag > highest, "{tag} after {highest}");
            highest = tag;
        }
    }
    assert!(highest > 50, "regions were rebuilt {highest} times");
}
