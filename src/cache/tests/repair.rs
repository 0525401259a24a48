//! Caches whose index or roster is gone, and what comes back from the heap alone.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::*;
use crate::sync::fuse;
use crate::{Error, Repair, Repaired};

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

fn named(scratch: &Scratch, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", scratch.path().display()))
}

fn open_for_change(path: &Path) -> std::fs::File {
    std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

/// Entries in several segments: overwritten, deleted, put again, moved by cleaning.
fn fill(cache: &MmapCache) -> Contents {
    let mut expected = Contents::new();
    for round in 0..3_u8 {
        for i in 0..120_u32 {
            let (key, value) = (
                format!("key {i}").into_bytes(),
                vec![round; 60 + i as usize],
            );
            cache.put(&key, &value).unwrap();
            expected.insert(key, value);
        }
    }
    for i in 0..40_u32 {
        let key = format!("key {}", i * 3).into_bytes();
        assert!(cache.delete(&key).unwrap());
        expected.remove(&key);
    }
    expected
}

fn contents(cache: &MmapCache) -> Contents {
    cache.items().unwrap().map(|item| item.unwrap()).collect()
}

/// Repairs, and expects the cache to be whole and to go on working.
fn assert_repaired(scratch: &Scratch, expected: &Contents) -> Repaired {
    let repaired = Repair::new(scratch.path()).run().unwrap();
    let cache = scratch.open(&Options::new());
    assert_eq!(contents(&cache), *expected);
    assert_eq!(repaired.entries as usize, expected.len());
    assert_clean(&cache);
    cache.put(b"afterwards", b"v").unwrap();
    assert_eq!(cache.get(b"afterwards").unwrap().unwrap(), b"v");
    assert!(cache.delete(b"afterwards").unwrap());
    repaired
}

#[test]
fn a_lost_index_comes_back_from_the_heap_with_every_version_and_no_deleted_entry() {
    let scratch = scratch();
    let cache = scratch.open(&tiny());
    cache.clear().unwrap();
    let expected = fill(&cache);
    let versions: Vec<_> = expected
        .keys()
        .map(|key| cache.mtime(key).unwrap().unwrap())
        .collect();
    let generation = cache.stats().unwrap().generation;
    drop(cache);
    std::fs::remove_file(scratch.path()).unwrap();
    let refused = tiny().open(scratch.path()).unwrap_err();
    assert!(refused.is_corruption(), "{refused}");
    let repaired = assert_repaired(&scratch, &expected);
    assert!(repaired.rebuilt && repaired.segments > 1);
    assert_eq!((repaired.damaged_bytes, repaired.entries_before), (0, None));
    let cache = scratch.open(&tiny());
    assert!(
        cache.stats().unwrap().generation > generation,
        "the roster still told"
    );
    for (key, version) in expected.keys().zip(&versions) {
        assert_eq!(cache.mtime(key).unwrap().unwrap(), *version);
    }
    assert!(cache.put(b"later", b"").unwrap() > *versions.iter().max().unwrap());
}

#[test]
fn a_lost_or_damaged_roster_costs_nothing() {
    let damages: [&dyn Fn(&Path); 4] = [
        &|roster| std::fs::remove_file(roster).unwrap(),
        &|roster| std::fs::write(roster, b"something else").unwrap(),
        &|roster| open_for_change(roster).set_len(10).unwrap(),
        &|roster| {
            std::fs::remove_file(roster).unwrap();
            std::fs::create_dir(roster).unwrap();
        },
    ];
    for damage in damages {
        let scratch = scratch();
        let cache = scratch.open(&tiny());
        let expected = fill(&cache);
        let puts = cache.stats().unwrap().puts;
        drop(cache);
        damage(&named(&scratch, ".roster"));
        assert!(tiny().open(scratch.path()).unwrap_err().is_corruption());
        let repaired = assert_repaired(&scratch, &expected);
        assert_eq!(repaired.entries_before, Some(expected.len() as u64));
        assert!(
            scratch.open(&tiny()).stats().unwrap().puts > puts,
            "the totals go on where the index still had them"
        );
    }
}

#[test]
fn an_index_of_any_length_or_none_that_is_a_file_is_replaced() {
    let damages: [&dyn Fn(&Path); 8] = [
        &|index| open_for_change(index).set_len(0).unwrap(),
        &|index| open_for_change(index).set_len(100).unwrap(),
        &|index| open_for_change(index).set_len(4096).unwrap(),
        &|index| open_for_change(index).write_all_at(&[0; 4096], 0).unwrap(),
        &|index| open_for_change(index).write_all_at(&[0xff; 64], 0).unwrap(),
        &|index| {
            std::fs::remove_file(index).unwrap();
            std::fs::create_dir(index).unwrap();
        },
        &|index| {
            std::fs::remove_file(index).unwrap();
            symlink("nowhere", index).unwrap();
        },
        &|index| {
            std::fs::remove_file(index).unwrap();
            let made = std::process::Command::new("mkfifo").arg(index).status();
            assert!(made.unwrap().success());
        },
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let scratch = scratch();
        let cache = scratch.open(&tiny());
        let expected = fill(&cache);
        drop(cache);
        damage(scratch.path());
        if number == 6 {
            // The link's target is where a cache would be made: there is nothing to repair there.
            let error = Repair::new(scratch.path()).run();
            assert!(error.is_ok() || matches!(error, Err(Error::NotFound { .. })));
            std::fs::remove_file(scratch.path()).unwrap();
        }
        let repaired = assert_repaired(&scratch, &expected);
        assert!(repaired.rebuilt, "{number}");
        assert_eq!(
            !repaired.kept.is_empty(),
            matches!(number, 5 | 7),
            "{number}"
        );
    }
}

#[test]
fn damage_to_slots_is_repaired_though_the_cache_opens() {
    let scratch = scratch();
    let cache = scratch.open(&tiny());
    let expected = fill(&cache);
    let view = cache.handle.view.load_full();
    let hash = view.hasher.hash(expected.keys().next().unwrap());
    let region = view
        .table
        .locate(view.header().poll(), hash)
        .unwrap()
        .region;
    // Behind the header, the control bytes and the marks: its links.
    let at = view.table.region_at(region.number()) + 64 + 32;
    drop((cache, view));
    open_for_change(scratch.path())
        .write_all_at(&[0x5a; 128], at)
        .unwrap();
    let repaired = assert_repaired(&scratch, &expected);
    assert!(repaired.rebuilt);
    assert!(
        !Repair::new(scratch.path()).run().unwrap().rebuilt,
        "now it is right"
    );
}

#[test]
fn damaged_records_are_lost_and_said_to_be_and_a_rewritten_heap_is_clean() {
    let scratch = scratch();
    let cache = scratch.open(&Options::new());
    for i in 0..50_u32 {
        cache.put(&i.to_le_bytes(), &[i as u8; 100]).unwrap();
    }
    drop(cache);
    std::fs::remove_file(scratch.path()).unwrap();
    let heap = open_for_change(&named(&scratch, ".heap"));
    // A record has 24 + 4 + 100 bytes: the ninth to the twelfth.
    heap.write_all_at(&[0xee; 300], 128 + 8 * 128 + 30).unwrap();
    let repaired = Repair::new(scratch.path()).run().unwrap();
    assert_eq!((repaired.entries, repaired.records), (47, 47));
    assert_eq!(repaired.damaged_bytes, 3 * 128);
    let cache = scratch.open(&Options::new());
    assert_eq!(contents(&cache).len(), 47);
    assert_eq!(cache.verify().unwrap().damaged_bytes, 3 * 128);
    drop(cache);
    let again = Repair::new(scratch.path())
        .rewrite_heap(true)
        .run()
        .unwrap();
    assert_eq!((again.rebuilt, again.damaged_bytes), (false, 0));
    let cache = scratch.open(&Options::new());
    assert_eq!(contents(&cache).len(), 47);
    assert_clean(&cache);
}

#[test]
fn a_lost_segment_is_named_and_the_others_come_back() {
    let scratch = scratch();
    let mut options = tiny();
    options.clean_when(10_000, 1 << 30);
    let cache = scratch.open(&options);
    let expected = fill(&cache);
    drop(cache);
    std::fs::remove_file(scratch.path()).unwrap();
    std::fs::remove_file(named(&scratch, ".heap.1")).unwrap();
    let repaired = Repair::new(scratch.path()).run().unwrap();
    assert_eq!(repaired.missing_segments, [1]);
    let cache = scratch.open(&options);
    assert_clean(&cache);
    for (key, value) in contents(&cache) {
        let newest = expected.get(&key);
        assert!(
            newest.is_none_or(|newest| newest.len() == value.len()),
            "another key's value"
        );
    }
}

#[test]
fn a_segment_without_its_header_is_read_all_the_same() {
    for lost_index in [true, false] {
        let scratch = scratch();
        let cache = scratch.open(&tiny());
        let expected = fill(&cache);
        drop(cache);
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
        // With the index the heap is known; without it one header must be left to say it.
        for path in segments.iter().skip(usize::from(lost_index)) {
            open_for_change(path).write_all_at(&[0; 100], 0).unwrap();
        }
        assert_repaired(&scratch, &expected);
    }
}

#[test]
fn without_any_header_that_says_whose_heap_it_is_nothing_is_touched() {
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

#[test]
fn where_there_is_nothing_there_is_nothing_to_repair() {
    let scratch = scratch();
    let error = Repair::new(scratch.path()).run().unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

#[test]
fn a_sound_cache_is_left_as_it_is() {
    let scratch = scratch();
    let cache = scratch.open(&tiny());
    let expected = fill(&cache);
    let generation = cache.stats().unwrap().generation;
    let repaired = assert_repaired(&scratch, &expected);
    assert!(!repaired.rebuilt);
    assert_eq!(cache.stats().unwrap().generation, generation);
}

#[test]
fn damaged_files_are_kept_if_asked_and_their_mode_is_passed_on() {
    let scratch = scratch();
    let cache = scratch.open(&tiny());
    let expected = fill(&cache);
    drop(cache);
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
    // The superseded mark apart, which tells handles that are still open.
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
fn a_handle_that_was_open_before_the_repair_goes_on_with_the_new_index() {
    let scratch = scratch();
    let cache = scratch.open(&tiny());
    let reader = scratch.open(Options::new().read_only(true));
    let expected = fill(&cache);
    open_for_change(scratch.path())
        .write_all_at(&[0; 100], 0)
        .unwrap();
    Repair::new(scratch.path()).run().unwrap();
    cache.put(b"new", b"1").unwrap();
    assert_eq!(
        cache.stats().unwrap().generation,
        2,
        "it writes where nobody looks"
    );
    assert_eq!(reader.get(b"new").unwrap().unwrap(), b"1");
    assert_eq!(reader.len() as usize, expected.len() + 1);
    assert_clean(&cache);
}

/// Repairs in vain while somebody holds a lock, and with success once the holder is gone.
#[track_caller]
fn assert_waits_for<T>(holder: T, scratch: &Scratch) {
    let mut options = Options::new();
    options.lock_timeout(Some(Duration::from_millis(20)));
    let repair = || Repair::new(scratch.path()).options(&options).run();
    let error = repair().unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    drop(holder);
    assert!(repair().unwrap().rebuilt);
}

#[test]
fn a_repair_waits_for_a_writer_of_the_damaged_index() {
    let scratch = scratch();
    let cache = scratch.open(&tiny());
    cache.put(b"k", b"v").unwrap();
    let writer = cache.writer().unwrap();
    open_for_change(scratch.path())
        .write_all_at(&[0; 100], 0)
        .unwrap();
    assert_waits_for(writer, &scratch);
}

#[test]
fn a_repair_waits_for_whoever_creates_or_repairs_a_cache_here() {
    let scratch = scratch();
    drop(scratch.open(&tiny()));
    std::fs::remove_file(scratch.path()).unwrap();
    let creating = open_for_change(&named(&scratch, ".lock"));
    fs2::FileExt::lock_exclusive(&creating).unwrap();
    assert_waits_for(creating, &scratch);
}

#[test]
fn the_index_of_another_cache_does_not_speak_for_this_heap() {
    let (scratch, other) = (scratch(), super::scratch());
    let cache = scratch.open(&tiny());
    let expected = fill(&cache);
    other.open(&tiny()).put(b"other", b"v").unwrap();
    drop(cache);
    std::fs::copy(other.path(), scratch.path()).unwrap();
    assert!(tiny().open(scratch.path()).unwrap_err().is_corruption());
    assert_repaired(&scratch, &expected);
}

#[test]
fn a_segment_of_another_cache_does_not_speak_for_the_one_whose_roster_is_there() {
    let (scratch, other) = (scratch(), super::scratch());
    let cache = scratch.open(&tiny());
    let expected = fill(&cache);
    let later = other.open(&tiny());
    later.put(b"other", b"v").unwrap();
    drop((cache, later));
    std::fs::remove_file(scratch.path()).unwrap();
    let sealed_for_another_name = std::fs::read(named(&other, ".heap")).unwrap();
    std::fs::write(named(&scratch, ".heap"), sealed_for_another_name).unwrap();
    Repair::new(scratch.path()).run().unwrap();
    let cache = scratch.open(&tiny());
    assert_eq!(cache.get(b"other").unwrap(), None, "it is another cache's");
    for (key, value) in contents(&cache) {
        let newest = expected.get(&key);
        assert!(newest.is_none_or(|newest| newest.len() == value.len()));
    }
    assert!(!cache.is_empty());
}

#[test]
fn a_sync_that_failed_under_this_boot_is_not_forgotten_by_a_repair() {
    let scratch = scratch();
    let cache = scratch.open(&tiny());
    cache.put(b"k", b"v").unwrap();
    cache.handle.view.load().header().set(word::SYNC_ERROR, 1);
    drop(cache);
    std::fs::remove_file(named(&scratch, ".roster")).unwrap();
    assert!(Repair::new(scratch.path()).run().unwrap().rebuilt);
    let cache = scratch.open(&tiny());
    assert!(matches!(cache.flush(), Err(Error::SyncFailed { .. })));
}

#[test]
fn a_repair_stopped_anywhere_can_begin_again() {
    for lost in ["", ".roster"] {
        for steps in (0..).step_by(7) {
            let scratch = scratch();
            let cache = scratch.open(&tiny());
            let mut expected = Contents::new();
            for i in 0..30_u8 {
                cache.put(&[i], &[i; 20]).unwrap();
                expected.insert(vec![i], vec![i; 20]);
            }
            assert!(cache.delete(&[3]).unwrap());
            expected.remove(&vec![3]);
            drop(cache);
            std::fs::remove_file(named(&scratch, lost)).unwrap();
            fuse::set(steps);
            let stopped = catch_unwind(AssertUnwindSafe(|| {
                Repair::new(scratch.path()).run().map(drop)
            }));
            fuse::clear();
            assert_repaired(&scratch, &expected);
            if stopped.is_ok() {
                assert!(steps > 300, "{steps}");
                break;
            }
        }
    }
}

#[test]
fn an_index_lost_in_the_middle_of_a_switch_brings_back_the_generation_that_counted() {
    let items = || (0..20_u8).map(|i| Ok::<_, Error>(([b'n', i], [i; 30])));
    for steps in 0.. {
        let scratch = scratch();
        let cache = scratch.open(&tiny());
        for i in 0..20_u8 {
            cache.put(&[b'o', i], &[i; 30]).unwrap();
        }
        let old = contents(&cache);
        let new: Contents = (0..20_u8).map(|i| (vec![b'n', i], vec![i; 30])).collect();
        fuse::set(steps);
        let stopped = catch_unwind(AssertUnwindSafe(|| cache.atomic_rebuild(items())));
        fuse::clear();
        drop(cache);
        let counted = contents(&scratch.open(Options::new().read_only(true)));
        assert!(counted == old || counted == new);
        let both = named(&scratch, ".heap").exists() && named(&scratch, ".heap.new").exists();
        std::fs::remove_file(scratch.path()).unwrap();
        Repair::new(scratch.path()).run().unwrap();
        let cache = scratch.open(&tiny());
        let back = contents(&cache);
        assert_clean(&cache);
        // Until the old segments go, nothing but the index tells which of two heaps counts; the
        // rebuild has not returned yet.
        assert!(back == counted || (both && back == old), "step {steps}");
        if stopped.is_ok() {
            assert!(back == new);
            return;
        }
    }
}

#[test]
fn a_heap_made_to_waste_time_is_read_in_bounded_time() {
    let scratch = scratch();
    let cache = scratch.open(&Options::new());
    for i in 0..2_000_u32 {
        cache.put(&i.to_le_bytes(), &[1; 400]).unwrap();
    }
    drop(cache);
    std::fs::remove_file(scratch.path()).unwrap();
    // Headers of records everywhere, each with a length that nearly fits and a sum that does not.
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

#[test]
fn progress_goes_up_to_the_whole_heap() {
    let scratch = scratch();
    let cache = scratch.open(&Options::new());
    for i in 0..5_000_u32 {
        cache.put(&i.to_le_bytes(), &[7; 1_000]).unwrap();
    }
    drop(cache);
    std::fs::remove_file(scratch.path()).unwrap();
    let mut told = Vec::new();
    Repair::new(scratch.path())
        .on_progress(|progress| told.push(progress))
        .run()
        .unwrap();
    assert!(told.len() > 4, "{told:?}");
    assert!(
        told.windows(2)
            .all(|pair| pair[0].read_bytes <= pair[1].read_bytes)
    );
    let last = told.last().unwrap();
    assert_eq!((last.read_bytes, last.records), (last.heap_bytes, 5_000));
}
