//! Repairs damaged slots, records and segment headers.
//!
//! `foreign_files.rs` tests files of another cache.

use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

use crate::Repair;
use crate::engine::tests::repair::*;

// Corrupt slots are repaired, though the cache can be opened.
#[test]
fn corrupt_slots_are_repaired() {
    let scratch = scratch();
    let cache = scratch.open(&tiny());
    let expected = fill(&cache);
    let generation = cache.handle.generation.load_full();
    let hash = generation.hasher.hash(expected.keys().next().unwrap());
    let region = region_of(&generation, hash);
    // After the header and the control bytes come the links.
    let at = generation.table.region_at(region.number()) + 64 + 16;
    drop((cache, generation));
    open_for_change(scratch.path())
        .write_all_at(&[0x5a; 128], at)
        .unwrap();
    let repaired = assert_repaired(&scratch, &expected);
    assert!(repaired.rebuilt);
    assert!(
        !Repair::new(scratch.path()).run().unwrap().rebuilt,
        "the repair is complete"
    );
}

// Corrupt records are reported as lost, and a rewritten heap is clean.
#[test]
fn repair_reports_lost_records() {
    let scratch = scratch();
    let cache = scratch.open(&Options::new());
    for i in 0..50_u32 {
        cache.put(&i.to_le_bytes(), &[i as u8; 100]).unwrap();
    }
    drop(cache);
    std::fs::remove_file(scratch.path()).unwrap();
    let heap = open_for_change(&named(&scratch, ".heap"));
    // Each record has 24 + 4 + 100 bytes: this hits the ninth to the twelfth.
    heap.write_all_at(&[0xee; 300], 128 + 8 * 128 + 30).unwrap();
    let repaired = Repair::new(scratch.path()).run().unwrap();
    assert_eq!((repaired.entries, repaired.records), (47, 47));
    assert_eq!(repaired.damaged_bytes, 3 * 128);
    let cache = scratch.open(&Options::new());
    assert_eq!(contents(&cache).len(), 47);
    assert_eq!(cache.verify().run().unwrap().damaged_bytes, 3 * 128);
    drop(cache);
    let again = Repair::new(scratch.path())
        .rewrite_heap(true)
        .run()
        .unwrap();
    let told = (again.rebuilt, again.damaged_bytes, again.rewritten);
    assert_eq!(
        told,
        (false, 3 * 128, true),
        "losses are reported nevertheless"
    );
    let cache = scratch.open(&Options::new());
    assert_eq!(contents(&cache).len(), 47);
    assert_clean(&cache);
}

#[test]
fn segment_without_header_is_read() {
    for lost_index in [true, false] {
        let (scratch, expected) = filled();
        if lost_index {
            std::fs::remove_file(scratch.path()).unwrap();
        } else {
            std::fs::remove_file(named(&scratch, ".roster")).unwrap();
        }
        let segments: Vec<_> = std::fs::read_dir(scratch.path().parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().contains(".heap"))
            .collect();
        // The index identifies the heap; without it one segment header must be left to do so.
        for path in segments.iter().skip(usize::from(lost_index)) {
            open_for_change(path).write_all_at(&[0; 100], 0).unwrap();
        }
        assert_repaired(&scratch, &expected);
    }
}

// If no header identifies the heap, a repair changes nothing.
#[test]
fn repair_refuses_an_unidentified_heap() {
    let scratch = scratch();
    let cache = scratch.open(&Options::new());
    cache.put(b"k", b"v").unwrap();
    drop(cache);
    std::fs::remove_file(scratch.path()).unwrap();
    open_for_change(&named(&scratch, ".heap"))
        .write_all_at(&[0; 100], 0)
        .unwrap();
    let before = std::fs::read(named(&scratch, ".heap")).unwrap();
    let error = Repair::new(scratch.path()).run().unwrap_err();
    assert!(error.is_corruption(), "{error}");
    assert_eq!(std::fs::read(named(&scratch, ".heap")).unwrap(), before);
    assert!(!scratch.path().exists());
}

// A repair keeps corrupt files on request, and the new files have their mode.
#[test]
fn repair_keeps_corrupt_files_on_request() {
    let (scratch, expected) = filled();
    let mode = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(scratch.path(), mode).unwrap();
    open_for_change(scratch.path())
        .write_all_at(&[0; 200], 0)
        .unwrap();
    let (index, roster) = (
        std::fs::read(scratch.path()).unwrap(),
        std::fs::read(named(&scratch, ".roster")).unwrap(),
    );
    std::fs::write(named(&scratch, ".damaged"), b"of an earlier repair").unwrap();
    let repaired = Repair::new(scratch.path())
        .keep_damaged(true)
        .run()
        .unwrap();
    let kept = [
        named(&scratch, ".damaged.1"),
        named(&scratch, ".roster.damaged"),
    ];
    assert_eq!(repaired.kept, kept);
    // Except for the superseded mark, which handles that are still open need.
    assert_eq!(std::fs::read(&kept[0]).unwrap()[136..], index[136..]);
    assert_eq!(std::fs::read(&kept[1]).unwrap(), roster);
    assert_eq!(
        std::fs::read(named(&scratch, ".damaged")).unwrap(),
        b"of an earlier repair"
    );
    assert_eq!(
        std::fs::metadata(scratch.path()).unwrap().mode() & 0o777,
        0o640
    );
    let cache = scratch.open(&tiny());
    assert_eq!(contents(&cache), expected);
    assert_clean(&cache);
}

#[test]
fn hostile_heap_repairs_in_bounded_time() {
    let scratch = scratch();
    let cache = scratch.open(&Options::new());
    for i in 0..2_000_u32 {
        cache.put(&i.to_le_bytes(), &[1; 400]).unwrap();
    }
    drop(cache);
    std::fs::remove_file(scratch.path()).unwrap();
    // Record headers everywhere, each with a plausible length and a wrong checksum.
    let heap = open_for_change(&named(&scratch, ".heap"));
    let mut record = [0_u8; 24];
    record[4..8].copy_from_slice(&400_000_u32.to_le_bytes());
    record[8] = 1;
    record[20..22].copy_from_slice(&8_u16.to_le_bytes());
    record[22] = 1;
    for at in (128..500_000_u64).step_by(24) {
        heap.write_all_at(&record, at).unwrap();
    }
    let began = Instant::now();
    let repaired = Repair::new(scratch.path()).run().unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    assert!(repaired.damaged_bytes >= 499_000 && repaired.entries < 2_000);
}
