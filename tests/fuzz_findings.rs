//! Findings of the fuzzers, each as a test of its own.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod corruption;

use corruption::checker::writable;
use corruption::image::Image;
use corruption::layout::{self, FIRST_POSITION, FIRST_RECORD, Geometry, header, set_u32, set_u64};
use corruption::sample_cache::{SampleCache, scratch};
use mmapcache::inspect::CacheFiles;
use mmapcache::{Error, ErrorKind, MmapCache, Options};

/// Writes out changed files and opens the cache for writing.
fn changed(image: &Image) -> (tempfile::TempDir, MmapCache) {
    let dir = scratch();
    let path = dir.path().join("cache");
    image.write_to(&path).unwrap();
    let cache = writable().open(path).unwrap();
    (dir, cache)
}

/// Puts enough keys to replace every region, and asserts that each acknowledged one is present.
fn every_acknowledged_key_is_there(cache: &MmapCache, context: &str) {
    let key = |number: u32| format!("acknowledged {number}").into_bytes();
    for number in 0..200 {
        cache.put(&key(number), &number.to_le_bytes()).unwrap();
    }
    for number in 0..200_u32 {
        let value = cache.get(&key(number)).unwrap();
        assert_eq!(
            value.as_deref(),
            Some(&number.to_le_bytes()[..]),
            "{context}: {number}"
        );
    }
    let report = cache.verify().run().unwrap();
    assert!(report.is_clean(), "{context}: {:?}", report.problems);
}

// A region whose header claims the hashes of other regions does not replace them.
#[test]
fn forged_region_depth_loses_no_key() {
    let sample = SampleCache::make().live();
    let index = sample.image.bytes("");
    let depth_at = 12;
    let mut regions: Vec<_> = layout::slots(index)
        .iter()
        .map(|slot| slot.region)
        .collect();
    regions.dedup();
    assert!(regions.len() > 1);
    for region in regions {
        for by in [1, u8::MAX] {
            let mut image = sample.image.clone();
            let at = Geometry::of(index).region(region).start + depth_at;
            let depth = &mut image.bytes_mut("").unwrap()[at];
            *depth = depth.wrapping_add(by);
            let (_dir, cache) = changed(&image);
            every_acknowledged_key_is_there(&cache, &format!("region {region} deeper by {by}"));
        }
    }
}

// There is one problem for all missing segments, of which a corrupt word can name many.
#[test]
fn missing_segments_are_reported_once() {
    let mut image = SampleCache::make().image;
    set_u64(image.bytes_mut("").unwrap(), header::TAIL, 0xffff_0000_0000);
    let dir = scratch();
    let path = dir.path().join("cache");
    image.write_to(&path).unwrap();
    let files = CacheFiles::open(&path, None).unwrap();
    let missing = |what: &str| what.contains("missing");
    assert!(
        files
            .problems()
            .iter()
            .any(|problem| missing(problem.what.as_str()))
    );
    assert!(files.problems().len() < 10, "{:?}", files.problems());
}

// An entry that the roster does not name is not lost when the table grows.
#[test]
fn unlisted_entry_survives_table_growth() {
    const HOLE: u32 = 1 << 31;
    let sample = SampleCache::make().live();
    let slots = layout::slots(sample.image.bytes(""));
    let entries: Vec<_> = slots.iter().filter(|slot| slot.is_entry()).collect();
    // A free-list entry, and the slot of another entry.
    for (slot, other) in entries.iter().zip(entries.iter().skip(1)) {
        let slot_number = other.region as u32 * 16 + other.index as u32;
        for value in [HOLE, slot_number] {
            let mut image = sample.image.clone();
            let position = FIRST_POSITION + 4 * slot.position as usize;
            set_u32(image.bytes_mut(".roster").unwrap(), position, value);
            // Regions that seem empty are never split: the table is enlarged instead, by the
            // roster.
            let index = image.bytes_mut("").unwrap();
            let geometry = Geometry::of(index);
            for region in slots.iter().map(|slot| geometry.region(slot.region)) {
                set_u64(index, region.start + 16, 0);
            }
            let mut records = sample.records.iter();
            let own = records.find(|record| (record.segment, record.at) == slot.record());
            let key = &own.unwrap().key;
            let (_dir, cache) = changed(&image);
            cache.put(key, b"acknowledged").unwrap();
            every_acknowledged_key_is_there(&cache, &format!("{slot:?} {value:#x}"));
            assert_eq!(
                cache.get(key).unwrap().as_deref(),
                Some(&b"acknowledged"[..])
            );
        }
    }
}

// A check of a corrupt cache does not wait at every entry for a writer that was killed.
#[test]
fn check_ignores_killed_writers() {
    let dir = scratch();
    let path = dir.path().join("cache");
    let cache = MmapCache::open(&path).unwrap();
    let mut writer = cache.writer().unwrap();
    for number in 0..3_000_u32 {
        writer.put(&number.to_le_bytes(), b"value").unwrap();
    }
    drop(writer);
    let mut image = Image::read(&path).unwrap();
    let before = image.clone();
    set_u64(image.bytes_mut("").unwrap(), header::HOLDER, 1);
    image.bytes_mut(".heap").unwrap()[FIRST_RECORD..].fill(0);
    image.store_over(&before, &path).unwrap();
    let began = std::time::Instant::now();
    let report = cache.verify().run().unwrap();
    assert!(report.problem_count >= 3_000, "{}", report.problem_count);
    // With ten milliseconds for each entry it would take thirty seconds.
    assert!(
        began.elapsed() < std::time::Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}

// An open refuses a heap path that is the name of another file of the cache.
#[test]
fn heap_path_avoids_own_files() {
    let cases = [
        ("cache", "cache"),
        ("cache", "cache.new"),
        ("cache", "cache.roster"),
        ("cache", "cache.roster.new"),
        ("cache", "cache.lock"),
        // Segments are numbered: the third would have the index's name.
        ("cache.2", "cache"),
    ];
    for (index, heap) in cases {
        let dir = scratch();
        let opened = Options::new()
            .heap_path(dir.path().join(heap))
            .open(dir.path().join(index));
        assert!(
            matches!(
                opened.as_ref().map_err(Error::kind),
                Err(ErrorKind::Unsupported { .. })
            ),
            "{index} {heap}: {opened:?}"
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

// A listing of a corrupt cache does not report that the cache was rebuilt.
#[test]
fn corrupt_listing_is_not_superseded() {
    let mut image = SampleCache::make().live().image;
    let index = image.bytes_mut("").unwrap();
    let poll = layout::u64_at(index, header::POLL);
    set_u64(index, header::POLL, poll | 1 << 63);
    let segments: Vec<_> = image.suffixes().into_iter().map(str::to_owned).collect();
    for suffix in segments.iter().filter(|suffix| suffix.starts_with(".heap")) {
        image.bytes_mut(suffix).unwrap()[..8].fill(0);
    }
    let dir = scratch();
    let path = dir.path().join("cache");
    image.write_to(&path).unwrap();
    let cache = Options::new().read_only(true).open(path).unwrap();
    let errors: Vec<Error> = cache.iter().unwrap().filter_map(Result::err).collect();
    assert!(!errors.is_empty());
    for error in errors {
        assert!(error.is_corruption(), "{error}");
    }
}

// A check rejects a count of regions for which the file has no room.
#[test]
fn oversized_region_count_is_rejected() {
    let sound = changed(&SampleCache::make().live().image);
    let entries = sound.1.verify().run().unwrap().entries;
    for shift in 0..64 {
        let mut image = SampleCache::make().live().image;
        let index = image.bytes_mut("").unwrap();
        set_u64(index, header::REGIONS, u64::MAX >> shift);
        let dir = scratch();
        let path = dir.path().join("cache");
        image.write_to(&path).unwrap();
        match Options::new().read_only(true).open(path) {
            Ok(cache) => assert_eq!(cache.verify().run().unwrap().entries, entries, "{shift}"),
            Err(error) => assert!(error.is_corruption(), "{error}"),
        }
    }
}
