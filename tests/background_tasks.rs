//! Background tasks as they run in a program.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::time::{Duration, Instant};

use mmapcache::{MmapCache, Options};

/// So small that segments are soon begun and removed.
fn tiny() -> Options {
    let mut options = Options::new();
    options
        .region_slots(16)
        .max_segment_bytes(64 * 1024)
        .compaction_threshold(50, 1024);
    options
}

fn put(cache: &MmapCache, turn: u32) {
    let value = vec![turn as u8; 300];
    cache.put(&(turn % 200).to_le_bytes(), &value).unwrap();
}

fn holds_what_was_put_last(cache: &MmapCache, puts: u32) {
    assert_eq!(cache.len(), 200);
    for turn in puts - 200..puts {
        let value = cache.get(&(turn % 200).to_le_bytes()).unwrap();
        assert_eq!(value, Some(vec![turn as u8; 300]));
    }
    let report = cache.verify().run().unwrap();
    assert!(report.is_clean(), "{:?}", report.problems);
}

/// Returns how many removed files this process still has open or mapped.
fn removed_and_held(dir: &Path) -> usize {
    let of = |line: &str| line.contains(dir.to_str().unwrap()) && line.ends_with("(deleted)");
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let open = std::fs::read_dir("/proc/self/fd").unwrap().filter(|entry| {
        let target = std::fs::read_link(entry.as_ref().unwrap().path());
        target.is_ok_and(|target| of(&target.to_string_lossy()))
    });
    maps.lines().filter(|line| of(line)).count() + open.count()
}

// Segments that background tasks remove are given back, and all entries are there.
#[test]
fn background_removal_frees_segments() {
    for flushed in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let cache = tiny().open(dir.path().join("cache")).unwrap();
        let puts = 6_000;
        for turn in 0..puts {
            put(&cache, turn);
            if flushed && turn == 500 {
                cache.flush().unwrap();
            }
        }
        holds_what_was_put_last(&cache, puts);
        let began = Instant::now();
        let mut more = puts;
        // Of 1.9 MB written, an eighth may be left; it takes some puts until the last tasks have
        // ended.
        while cache.disk_usage().unwrap().heap > 512 * 1024 || removed_and_held(dir.path()) > 0 {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{:?}",
                cache.stats()
            );
            std::thread::sleep(Duration::from_millis(5));
            put(&cache, more);
            more += 1;
        }
        holds_what_was_put_last(&cache, more);
    }
}

// A handle dropped while its background task runs leaves the rest to the next one.
#[test]
fn dropped_handle_leaves_removal_resumable() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let mut puts = 0;
    for _ in 0..40 {
        let cache = tiny().exclusive(true).open(&path).unwrap();
        for _ in 0..400 {
            put(&cache, puts);
            puts += 1;
        }
        if puts == 400 {
            cache.flush().unwrap();
        }
    }
    let cache = tiny().open(&path).unwrap();
    holds_what_was_put_last(&cache, puts);
    cache.compact().unwrap();
    assert!(cache.disk_usage().unwrap().heap < 256 * 1024);
    holds_what_was_put_last(&cache, puts);
}
