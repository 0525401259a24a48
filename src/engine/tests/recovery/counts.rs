//! The numbers that a recovery reports as lost.
//!
//! Other files test which entries come back.

use crate::engine::tests::recovery::*;
use crate::{Labels, Repair};

/// Copies a cache's files except the one with a suffix, and returns the copy.
fn copy_without(scratch: &Scratch, left_out: &str) -> Scratch {
    let copy = crate::engine::tests::recovery::scratch();
    let dir = |scratch: &Scratch| scratch.path().parent().unwrap().to_owned();
    for entry in std::fs::read_dir(dir(scratch)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name.strip_prefix("cache") != Some(left_out) {
            std::fs::copy(entry.path(), dir(&copy).join(name)).unwrap();
        }
    }
    copy
}

fn damage(scratch: &Scratch, suffix: &str, at: u64) {
    let path = format!("{}{suffix}", scratch.path().display());
    let file = std::fs::File::options().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xaa; 3], at).unwrap();
}

/// Returns the place of a key's record.
fn place(cache: &MmapCache, key: &[u8]) -> (u16, u64) {
    let generation = cache.handle.generation.load_full();
    let hash = generation.hasher.hash(key);
    let located = generation
        .table
        .locate(generation.header().poll(), hash)
        .unwrap();
    let mut found = located.region.probe(hash);
    let place = found.next().unwrap().2.addr();
    (place.segment, place.bytes())
}

#[test]
fn corrupt_copy_counts_losses() {
    for flushed in [true, false] {
        let scratch = scratch();
        let cache = scratch.open(&options());
        fill(20)(&cache);
        if flushed {
            cache.flush().unwrap();
        }
        let (_, at) = place(&cache, &key(7));
        drop(cache);
        damage(&scratch, ".heap", at + 30);
        let copy = copy_without(&scratch, ".nothing");
        let cache = copy.open(&options());
        let told = cache.last_recovery().unwrap();
        assert_eq!((told.entries_before, told.entries), (Some(20), 19));
        assert_eq!((told.dropped, told.unwritten), (1, 0));
        assert!(told.damaged_bytes > 0, "{told}");
        let stats = cache.stats().unwrap();
        assert_eq!((stats.dropped, stats.recoveries), (1, 1));
        assert_clean(&cache);
        let copy = copy_without(&scratch, ".nothing");
        let repaired = Repair::new(copy.path()).run().unwrap();
        assert_eq!(repaired.entries_before, Some(20));
        assert_eq!((repaired.entries, repaired.dropped), (19, 1));
        assert!(repaired.damaged_bytes > 0, "{repaired:?}");
    }
}

#[test]
fn returning_older_value_is_counted() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    fill(20)(&cache);
    cache.put(&key(7), b"newer").unwrap();
    let (_, at) = place(&cache, &key(7));
    drop(cache);
    damage(&scratch, ".heap", at + 30);
    let copy = copy_without(&scratch, ".nothing");
    let cache = copy.open(&options());
    assert_eq!(cache.get(&key(7)).unwrap().unwrap(), b"value 7");
    let told = cache.last_recovery().unwrap();
    assert_eq!((told.entries_before, told.entries), (Some(20), 20));
    assert_eq!(told.dropped, 1, "its value was given up");
}

#[test]
fn copy_counts_lost_segment() {
    let scratch = scratch();
    let mut options = options();
    options.compaction_threshold(10_000, 1 << 30);
    let cache = scratch.open(&options);
    for i in 0..60 {
        cache.put(&key(i), &[1; 1_000]).unwrap();
    }
    let lost = (0..60).filter(|&i| place(&cache, &key(i)).0 == 0).count() as u64;
    assert!(lost > 5);
    drop(cache);
    let copy = copy_without(&scratch, ".heap");
    let cache = copy.open(&options);
    let told = cache.last_recovery().unwrap();
    assert_eq!((told.entries_before, told.entries), (Some(60), 60 - lost));
    assert_eq!(told.dropped, lost);
}

#[test]
fn valid_recovery_counts_no_losses() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    fill(200)(&cache);
    for round in 0..20 {
        for i in 0..50 {
            cache.put(&key(i + round), &[round as u8; 100]).unwrap();
        }
        assert!(cache.delete(&key(round)).unwrap());
    }
    let entries = cache.len();
    drop(cache);
    reboot(scratch.path());
    let cache = scratch.open(&options());
    let told = cache.last_recovery().unwrap();
    assert_eq!(
        (told.entries_before, told.entries),
        (Some(entries), entries)
    );
    assert_eq!(
        (told.dropped, told.unwritten, told.damaged_bytes),
        (0, 0, 0)
    );
    assert_eq!(cache.stats().unwrap().dropped, 0);
}

/// Records that were not synced before a power loss do not count as corrupt.
#[test]
fn unwritten_entries_are_no_corruption() {
    for synced in [false, true] {
        let scratch = scratch();
        let cache = scratch.open(&options());
        fill(10)(&cache);
        cache.flush().unwrap();
        cache.put(b"late", &[1; 100]).unwrap();
        let lost = if synced { key(3) } else { b"late".to_vec() };
        let (_, at) = place(&cache, &lost);
        drop(cache);
        damage(&scratch, ".heap", at + 26);
        reboot(scratch.path());
        let cache = scratch.open(&options());
        let told = cache.last_recovery().unwrap();
        assert_eq!((told.entries_before, told.entries), (Some(11), 10));
        let expected = if synced { (1, 0) } else { (0, 1) };
        assert_eq!((told.dropped, told.unwritten), expected, "{told}");
        assert_eq!(told.damaged_bytes > 0, synced);
        assert_eq!(cache.stats().unwrap().dropped, expected.0);
    }
}

#[test]
fn recovery_without_index_counts_stretches() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    fill(20)(&cache);
    let places = [3, 9].map(|i| place(&cache, &key(i)).1);
    // An impossible header.
    generation_of(&cache).header().corrupt(word::SYNC_ERROR, 9);
    for at in places {
        damage(&scratch, ".heap", at + 30);
    }
    cache.put(b"k", b"v").unwrap();
    let told = cache.last_recovery().unwrap();
    assert_eq!((told.entries_before, told.entries), (None, 18));
    assert_eq!((told.dropped, cache.stats().unwrap().dropped), (2, 2));
}

#[test]
fn copy_counts_lost_label() {
    let scratch = scratch();
    let labels = Labels::open(scratch.path()).unwrap();
    for i in 0..20 {
        labels.get_or_intern(key(i)).unwrap();
    }
    drop(labels);
    let bytes = std::fs::read(format!("{}.heap", scratch.path().display())).unwrap();
    let label = key(7);
    let at = bytes.windows(label.len()).position(|bytes| bytes == label);
    damage(&scratch, ".heap", at.unwrap() as u64);
    let copy = copy_without(&scratch, ".nothing");
    let labels = Labels::open(copy.path()).unwrap();
    let told = labels.last_recovery().unwrap();
    assert_eq!((told.entries_before, told.entries), (Some(20), 19));
    assert_eq!(told.dropped, 1);
}
