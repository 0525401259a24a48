//! Deadlines: when entries are fresh, and that nothing lengthens a life.

mod cleaning;
mod damage;
mod decisions;
mod groups;
mod keys;
mod long_values;
mod operations;
mod races;
mod stale;
#[cfg(feature = "serde")]
mod typed;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::cache::{Cache, InsertOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::os::clock::set_clock_ahead;
use crate::{Labels, MmapCache, Options, Repair};

const HOUR: Duration = Duration::from_secs(3_600);

fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    (dir, path)
}

fn ttl(ttl: Duration) -> InsertOptions {
    InsertOptions::new().ttl(ttl)
}

/// Options for an entry that expired a second ago.
fn expired() -> InsertOptions {
    InsertOptions::new().expires_at(SystemTime::now() - Duration::from_secs(1))
}

/// Small segments, so that cleaning moves records soon.
fn tiny() -> Options {
    let mut options = Options::new();
    options
        .region_slots(16)
        .max_segment_bytes(16 * 1024)
        .compaction_threshold(50, 1024);
    options
}

/// Sets the clock of this thread, and sets it back when it is dropped.
struct ClockSet;

impl ClockSet {
    fn ahead(by: Duration) -> Self {
        set_clock_ahead(by.as_millis() as i64);
        Self
    }
}

impl Drop for ClockSet {
    fn drop(&mut self) {
        set_clock_ahead(0);
    }
}

#[track_caller]
fn assert_close(left: Option<Duration>, expected: Duration) {
    let left = left.expect("a deadline");
    let minute = Duration::from_secs(60);
    assert!(left <= expected && expected - left < minute, "{left:?}");
}

/// Returns the mark of an entry: how often it counts as used.
fn mark(cache: &Cache, key: &[u8]) -> u8 {
    let generation = cache.cache.handle().generation.load_full();
    let hash = generation.hasher.hash(key);
    let located = generation.table.locate(generation.header().poll(), hash);
    let region = located.unwrap().region;
    let (index, ..) = region.probe(hash).next().unwrap();
    region.mark(index)
}

#[test]
fn entries_expire_at_their_deadline() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    cache.insert("forever", "1").unwrap();
    cache.insert_with("hour", "2", &ttl(HOUR)).unwrap();
    cache.insert_with("past", "3", &expired()).unwrap();
    cache
        .insert_with("zero", "4", &ttl(Duration::ZERO))
        .unwrap();
    cache.insert_with("max", "5", &ttl(Duration::MAX)).unwrap();
    cache
        .insert_with("soon", "6", &ttl(Duration::from_millis(300)))
        .unwrap();
    // Another handle, as another process has it.
    let other = Cache::open(&path).unwrap();
    for cache in [&cache, &other] {
        assert_eq!(cache.get("forever").unwrap().unwrap(), b"1");
        assert_eq!(cache.get("hour").unwrap().unwrap(), b"2");
        assert_close(cache.entry("hour").unwrap().unwrap().remaining(), HOUR);
        assert_eq!(cache.entry("forever").unwrap().unwrap().expires_at(), None);
        assert_eq!(cache.entry("max").unwrap().unwrap().expires_at(), None);
        for key in ["past", "zero"] {
            assert_eq!(cache.get(key).unwrap(), None, "{key}");
            assert_eq!(cache.entry(key).unwrap(), None, "{key}");
            assert!(!cache.contains(key).unwrap(), "{key}");
        }
    }
    let deadline = other.entry("soon").unwrap().map(|entry| entry.expires_at());
    std::thread::sleep(Duration::from_millis(301));
    assert_eq!(other.get("soon").unwrap(), None, "{deadline:?}");
    assert_eq!(other.len_with_expired(), 6);
}

#[test]
fn negative_entries_differ_from_absence() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    cache.insert_absent("missing", HOUR).unwrap();
    assert_eq!(cache.get("missing").unwrap(), None);
    let entry = cache.entry("missing").unwrap().unwrap();
    assert!(entry.is_negative() && entry.value().is_empty());
    assert_close(entry.remaining(), HOUR);
    assert_eq!(cache.entry("unknown").unwrap(), None);
    assert_eq!(cache.add("missing", "now", &ttl(HOUR)).unwrap(), None);
    cache.insert_absent("missing", Duration::ZERO).unwrap();
    assert!(cache.add("missing", "now", &ttl(HOUR)).unwrap().is_some());
    let entry = cache.entry("missing").unwrap().unwrap();
    assert!(!entry.is_negative());
    assert_eq!(entry.into_value(), b"now");
}

#[test]
fn conditional_calls_ignore_expired_entries() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    cache.insert_with("expired", "old", &expired()).unwrap();
    assert!(!cache.touch("expired", HOUR).unwrap());
    assert!(!cache.persist("expired").unwrap());
    assert_eq!(cache.get("expired").unwrap(), None);
    assert!(cache.add("expired", "new", &ttl(HOUR)).unwrap().is_some());
    assert_eq!(cache.add("expired", "other", &ttl(HOUR)).unwrap(), None);
    assert_eq!(cache.get("expired").unwrap().unwrap(), b"new");
    assert!(cache.remove("expired").unwrap());
    assert!(!cache.remove("expired").unwrap());
    cache.insert_with("expired", "old", &expired()).unwrap();
    assert!(!cache.remove("expired").unwrap());
    assert_eq!(cache.len_with_expired(), 0);
}

#[test]
fn touch_keeps_value_and_version() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    let version = cache.insert_with("key", "value", &ttl(HOUR)).unwrap();
    cache.insert("later", "x").unwrap();
    assert!(cache.touch("key", 2 * HOUR).unwrap());
    let entry = cache.entry("key").unwrap().unwrap();
    assert_eq!((entry.value(), entry.version()), (&b"value"[..], version));
    assert_close(entry.remaining(), 2 * HOUR);
    assert!(cache.persist("key").unwrap());
    assert_eq!(cache.entry("key").unwrap().unwrap().expires_at(), None);
    assert!(cache.touch("key", Duration::ZERO).unwrap());
    assert_eq!(cache.get("key").unwrap(), None);
    // Versions continue after the newest one, not after the one that was repeated.
    assert!(cache.insert("key", "again").unwrap() > version);
    let newest = cache.insert("later", "y").unwrap();
    assert!(newest > cache.entry("key").unwrap().unwrap().version());
}

#[test]
fn sweep_removes_expired_entries_only() {
    let (_dir, path) = place();
    let cache = Cache::open_with(&path, &tiny()).unwrap();
    for i in 0..3_000_u32 {
        let options = match i % 3 {
            0 => expired(),
            1 => ttl(HOUR),
            _ => InsertOptions::new(),
        };
        cache
            .insert_with(i.to_le_bytes(), "value", &options)
            .unwrap();
    }
    // The insertions have removed some.
    let swept = cache.sweep().unwrap();
    assert!(swept > 10 && swept <= 1_000, "{swept}");
    assert_eq!(cache.sweep().unwrap(), 0);
    // Put again after it was listed: the removal looks again under the lock.
    let mut listed = vec![1_u32.to_le_bytes().to_vec()];
    assert_eq!(
        crate::cache::sweep::remove_ended(&cache, &mut listed).unwrap(),
        0
    );
    assert_eq!(cache.len_with_expired(), 2_000);
    for i in 0..3_000_u32 {
        let found = cache.get(i.to_le_bytes()).unwrap();
        assert_eq!(found.is_some(), i % 3 != 0, "{i}");
    }
}

/// What of each of the entries of [`fill`] is there.
fn freshness(cache: &Cache) -> Vec<[bool; 2]> {
    let entry = |i: u32| cache.entry(i.to_le_bytes()).unwrap();
    (0..300)
        .map(|i| {
            let found = entry(i);
            [
                found.is_some(),
                found.is_some_and(|entry| entry.expires_at().is_some()),
            ]
        })
        .collect()
}

fn fill(cache: &Cache) {
    for round in 0..10 {
        for i in 0..300_u32 {
            let options = match (round, i % 3) {
                (9, 0) => expired(),
                (9, 1) => ttl(HOUR),
                (9, _) => InsertOptions::new(),
                // Longer than the last round's.
                _ => ttl(10 * HOUR),
            };
            cache
                .insert_with(i.to_le_bytes(), [7; 90], &options)
                .unwrap();
        }
    }
    for i in (0..300_u32).step_by(30) {
        cache.touch((i + 1).to_le_bytes(), Duration::ZERO).unwrap();
        cache.touch((i + 2).to_le_bytes(), HOUR).unwrap();
    }
}

// Cleaning, a rewrite of the heap, a backup and a rebuild from the heap all keep each deadline.
#[test]
fn deadlines_outlive_every_rewrite() {
    let (dir, path) = place();
    let cache = Cache::open_with(&path, &tiny()).unwrap();
    fill(&cache);
    let expected = freshness(&cache);
    assert_eq!(expected.iter().filter(|found| found[0]).count(), 190);
    assert_eq!(expected.iter().filter(|found| found[1]).count(), 100);
    cache.cache.compact().unwrap();
    assert_eq!(freshness(&cache), expected);
    let mut writer = cache.cache.writer().unwrap();
    writer.rewrite_heap().unwrap();
    drop(writer);
    assert_eq!(freshness(&cache), expected);
    let copy = dir.path().join("copy");
    cache.backup().to(&copy).unwrap();
    assert_eq!(freshness(&Cache::open(&copy).unwrap()), expected);
    assert!(cache.verify().run().unwrap().is_clean());
    drop(cache);
    std::fs::remove_file(&path).unwrap();
    Repair::new(&path).run().unwrap();
    let cache = Cache::open(&path).unwrap();
    assert_eq!(freshness(&cache), expected);
    assert!(cache.verify().run().unwrap().is_clean());
}

// A flipped bit anywhere in index or heap may end a life; it never makes an expired value fresh, and
// never moves a deadline.
#[test]
fn flipped_bits_lengthen_no_life() {
    let (_dir, path) = place();
    let cache = Cache::open_with(&path, &tiny()).unwrap();
    cache.insert_with("expired", "old", &expired()).unwrap();
    cache.insert_with("fresh", "value", &ttl(HOUR)).unwrap();
    let deadline = cache.entry("fresh").unwrap().unwrap().expires_at();
    drop(cache);
    let heap = path.with_extension("heap");
    for (file, bytes) in [(&heap, 128..224), (&path, 8_192..16_384)] {
        let original = std::fs::read(file).unwrap();
        for at in bytes {
            if original.get(at).is_none() {
                break;
            }
            for bit in [0, 3, 7] {
                write_byte(file, at, original[at] ^ (1 << bit));
                let options = tiny().read_only(true).clone();
                let looked = Cache::open_with(&path, &options);
                if let Ok(cache) = looked {
                    assert_eq!(cache.get("expired").ok().flatten(), None, "byte {at}");
                    if let Ok(Some(entry)) = cache.entry("fresh") {
                        assert_eq!(entry.expires_at(), deadline, "byte {at}");
                    }
                }
            }
            write_byte(file, at, original[at]);
        }
    }
}

fn write_byte(path: &Path, at: usize, byte: u8) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(&[byte], at as u64).unwrap();
}

#[track_caller]
fn assert_other_type<T>(opened: Result<T>, expected: &str) {
    match opened.map(drop).map_err(Error::into_kind) {
        Err(ErrorKind::OtherType { made_by }) => assert_eq!(made_by, expected),
        other => panic!("{other:?}"),
    }
}

// Expired and negative entries must not pass for values of an engine.
#[test]
fn types_refuse_each_others_files() {
    let (dir, path) = place();
    let (plain, labels) = (dir.path().join("plain"), dir.path().join("labels"));
    drop(Cache::open(&path).unwrap());
    drop(MmapCache::open(&plain).unwrap());
    drop(Labels::open(&labels).unwrap());
    assert_other_type(MmapCache::open(&path), "Cache");
    assert_other_type(Cache::open(&plain), "MmapCache");
    assert_other_type(Cache::open(&labels), "Labels");
    let raw = Options::new().raw(true).clone();
    assert_other_type(Cache::open_with(&plain, &raw), "MmapCache");
    let refused = Labels::open(&path).map(drop).map_err(Error::into_kind);
    assert!(matches!(refused, Err(ErrorKind::OptionMismatch { .. })));
    assert!(Cache::open(&path).is_ok() && MmapCache::open(&plain).is_ok());
}

// Tools see what is in the files, and what they store stays a cache's.
#[test]
fn raw_handles_see_every_entry() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    cache.insert_with("expired", "old", &expired()).unwrap();
    cache.insert_absent("missing", HOUR).unwrap();
    let raw = Options::new().raw(true).open(&path).unwrap();
    assert_eq!(raw.get("expired").unwrap().unwrap(), b"old");
    assert_eq!(raw.get("missing").unwrap().unwrap(), b"");
    raw.put("put", "value").unwrap();
    raw.compact().unwrap();
    assert_eq!(cache.get("put").unwrap().unwrap(), b"value");
    assert_eq!(cache.get("expired").unwrap(), None);
    assert!(cache.entry("missing").unwrap().unwrap().is_negative());
}

// The files at the path are replaced by a cache's while an engine has them open.
#[test]
fn attached_engine_notices_a_cache() {
    let (dir, path) = place();
    let mut options = Options::new();
    options.staleness_check_interval(Duration::ZERO);
    let engine = options.open(&path).unwrap();
    engine.put("key", "value").unwrap();
    let other = dir.path().join("other");
    let cache = Cache::open(&other).unwrap();
    cache.insert_with("key", "expired", &expired()).unwrap();
    drop(cache);
    for suffix in ["heap", "roster", "lock"] {
        crate::os::files::rename(&other.with_extension(suffix), &path.with_extension(suffix))
            .unwrap();
    }
    crate::os::files::rename(&other, &path).unwrap();
    assert_other_type(engine.get("absent"), "Cache");
    assert_other_type(engine.put("key", "value"), "Cache");
}
