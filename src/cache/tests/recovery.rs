//! A writer stopped at each of its stores and file operations, one after the other.
//!
//! What it leaves must be the old or the new state to every reader at once, and whole and clean
//! again as soon as one more writer has been there. The writer stops by a panic that leaves the
//! files as a kill would: the only stores that unwinding adds are the holder's hint and the lock's
//! release.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::sync::{Relaxed, fuse};

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// Tiny, with a directory so small that its doubling and its end come soon.
fn options() -> Options {
    let mut options = tiny();
    options.directory_bits = 3;
    options
}

/// A directory in memory where there is one: the tests make thousands of caches, and nothing here
/// is about disks.
pub(super) fn scratch() -> Scratch {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }
    .unwrap();
    let path = dir.path().join("cache");
    Scratch { _dir: dir, path }
}

fn key(i: u32) -> Vec<u8> {
    format!("key {i:03}{}", "+".repeat(i as usize % 40)).into_bytes()
}

fn contents(cache: &MmapCache) -> Contents {
    let listed: Contents = cache.items().unwrap().map(|item| item.unwrap()).collect();
    for (key, value) in &listed {
        assert_eq!(
            cache.get(key).unwrap().as_ref(),
            Some(value),
            "listed but not found"
        );
    }
    listed
}

/// Runs `change` on a cache that `prepare` filled, and stops it at every step, with `stride`
/// between the stops.
fn stop_at_every_step(
    stride: u64,
    prepare: impl Fn(&MmapCache),
    change: impl Fn(&MmapCache),
) -> u64 {
    stop_with(&options(), stride, prepare, &[&change])
}

/// The same with other options, and for a change in several parts, each of which is done or not.
fn stop_with(
    options: &Options,
    stride: u64,
    prepare: impl Fn(&MmapCache),
    parts: &[&dyn Fn(&MmapCache)],
) -> u64 {
    let states = {
        let scratch = scratch();
        let cache = scratch.open(options);
        prepare(&cache);
        let mut states = vec![contents(&cache)];
        for part in parts {
            part(&cache);
            states.push(contents(&cache));
        }
        states
    };
    let change = |cache: &MmapCache| parts.iter().for_each(|part| part(cache));
    let mut images = 0;
    for steps in (0..).step_by(stride as usize) {
        let scratch = scratch();
        let cache = scratch.open(options);
        prepare(&cache);
        let reader = scratch.open(Options::new().read_only(true));
        fuse::set(steps);
        let outcome = catch_unwind(AssertUnwindSafe(|| change(&cache)));
        fuse::clear();
        if let Err(payload) = &outcome {
            assert!(
                payload.is::<fuse::Blown>(),
                "step {steps}: it failed by itself"
            );
        }
        images += 1;
        // A killed process gives up its lock wherever it was, in the middle of releasing it too.
        drop(cache);
        check_image(&scratch, options, &reader, &states, steps);
        if outcome.is_ok() {
            return images;
        }
    }
    images
}

fn check_image(
    scratch: &Scratch,
    options: &Options,
    reader: &MmapCache,
    states: &[Contents],
    steps: u64,
) {
    let seen = contents(reader);
    let before = states.iter().position(|state| *state == seen);
    assert!(
        before.is_some(),
        "step {steps}: an open reader sees neither the old nor the new: {seen:?}"
    );
    let fresh = scratch.open(Options::new().read_only(true));
    assert_eq!(
        contents(&fresh),
        seen,
        "step {steps}: a new reader sees something else"
    );
    // What is half done is no fault: a full check beside a writer that is stopped sees the same.
    let report = fresh.verify().unwrap();
    assert!(
        report.is_clean(),
        "step {steps}: before it is mended: {:?}",
        report.faults
    );
    // Whoever takes the lock finishes or takes back; that alone must make all of it right.
    let next = scratch.open(options);
    drop(next.writer().unwrap());
    let mended = contents(&next);
    let after = states.iter().rposition(|state| *state == mended);
    assert!(after.is_some(), "step {steps}: mending made something else");
    assert!(before <= after, "step {steps}: mending lost what was seen");
    let report = next.verify().unwrap();
    assert!(
        report.is_clean() && report.totals_compared,
        "step {steps}: {:?}",
        report.faults
    );
    assert_eq!(next.len() as usize, mended.len(), "step {steps}");
    // And work goes on.
    for i in 0..30 {
        next.put(&key(500 + i), b"afterwards").unwrap();
        next.delete(&key(500 + i / 2)).unwrap();
    }
    assert!(
        next.verify().unwrap().is_clean(),
        "step {steps}: after further work"
    );
    assert_eq!(
        next.get(&key(529)).unwrap().as_deref(),
        Some(&b"afterwards"[..])
    );
}

fn fill(count: u32) -> impl Fn(&MmapCache) {
    move |cache| {
        for i in 0..count {
            cache.put(&key(i), format!("value {i}").as_bytes()).unwrap();
        }
    }
}

#[test]
fn an_insertion_stopped_anywhere_is_done_or_undone() {
    let images = stop_at_every_step(1, fill(5), |cache| {
        cache.put(&key(99), b"new").unwrap();
    });
    assert!(images > 40, "{images}");
}

#[test]
fn an_insertion_into_a_deleted_slot_and_a_roster_hole_is_done_or_undone() {
    let prepare = |cache: &MmapCache| {
        fill(13)(cache);
        for i in 0..6 {
            assert!(cache.delete(&key(i)).unwrap());
        }
    };
    stop_at_every_step(1, prepare, |cache| {
        cache.put(&key(3), b"again").unwrap();
    });
}

#[test]
fn an_overwrite_stopped_anywhere_leaves_the_old_or_the_new_value() {
    stop_at_every_step(1, fill(5), |cache| {
        cache.put(&key(2), b"another, longer value").unwrap();
    });
    let twice = |cache: &MmapCache| {
        fill(5)(cache);
        cache.put(&key(2), b"in between").unwrap();
    };
    stop_at_every_step(1, twice, |cache| {
        cache.put(&key(2), b"the other meta").unwrap();
    });
}

#[test]
fn a_deletion_stopped_anywhere_is_done_or_undone() {
    stop_at_every_step(1, fill(5), |cache| assert!(cache.delete(&key(2)).unwrap()));
    // In a full group, where a tombstone stays.
    stop_at_every_step(1, fill(14), |cache| assert!(cache.delete(&key(2)).unwrap()));
}

#[test]
fn a_split_of_a_region_and_a_doubling_of_the_directory_are_done_or_undone() {
    // Fourteen of sixteen slots are the limit: the next insertion splits, and a directory of one
    // entry doubles.
    let images = stop_at_every_step(1, fill(14), |cache| {
        cache.put(&key(99), b"new").unwrap();
    });
    assert!(images > 200, "{images}: no region was rebuilt");
}

#[test]
fn a_purge_of_tombstones_is_done_or_undone() {
    let prepare = |cache: &MmapCache| {
        fill(14)(cache);
        for i in 0..8 {
            assert!(cache.delete(&key(i)).unwrap());
        }
        // Take slots until the region is full of entries and tombstones.
        for i in 40..44 {
            cache.put(&key(i), b"x").unwrap();
        }
    };
    stop_at_every_step(1, prepare, |cache| {
        for i in 50..53 {
            // One after the other: each may be the one that is stopped.
            if !cache.contains(&key(i)).unwrap() {
                cache.put(&key(i), b"y").unwrap();
                break;
            }
        }
    });
}

#[test]
fn a_table_that_outgrows_its_directory_is_the_old_or_the_new_one() {
    // Eight directory entries of sixteen slots, filled until regions must become larger.
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

#[test]
fn the_beginning_of_a_segment_is_done_or_undone() {
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

#[test]
fn a_segment_that_grows_is_as_long_as_before_or_longer() {
    let prepare = |cache: &MmapCache| {
        cache.put(b"small", b"1").unwrap();
    };
    let images = stop_at_every_step(1, prepare, |cache| {
        cache.put(b"beyond the first blocks", &[2; 9_000]).unwrap();
    });
    assert!(images > 1_000, "{images}");
}

#[test]
fn larger_regions_are_there_with_all_entries_or_not_at_all() {
    // A directory that cannot grow: the seventeenth entry needs larger regions, whatever the hash.
    let mut options = options();
    options.directory_bits = 0;
    larger_regions(&options, 13);
}

fn larger_regions(options: &Options, stride: u64) -> u64 {
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

#[test]
fn a_roster_without_its_holes_is_there_or_the_one_with_them() {
    roster_without_holes(9_000);
}

fn roster_without_holes(stride: u64) -> u64 {
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
fn a_flush_stopped_anywhere_changes_nothing() {
    let images = stop_at_every_step(1, fill(5), |cache| cache.flush().unwrap());
    assert!(images > 5, "{images}");
}

#[test]
fn changes_of_durable_and_of_exclusive_handles_are_done_or_undone() {
    let mut durable = options();
    durable.durability(Durability::Sync);
    let mut exclusive = options();
    exclusive.exclusive(true);
    for options in [durable, exclusive] {
        for change in [
            (99, Some(&b"new"[..])),
            (2, Some(&b"another"[..])),
            (2, None),
        ] {
            stop_with(
                &options,
                1,
                fill(5),
                &[&|cache| match change {
                    (i, Some(value)) => assert!(cache.put(&key(i), value).is_ok()),
                    (i, None) => assert!(cache.delete(&key(i)).unwrap()),
                }],
            );
        }
    }
}

#[test]
fn a_batch_stopped_anywhere_is_done_up_to_some_change_and_not_beyond_it() {
    stop_batch(1);
}

fn stop_batch(stride: u64) -> u64 {
    let scratch = scratch();
    let cache = scratch.open(&options());
    fill(12)(&cache);
    let mut states = vec![contents(&cache)];
    {
        let mut writer = cache.writer().unwrap();
        batch(&mut writer, |writer| {
            let _ = writer;
            states.push(contents(&cache));
        });
    }
    let mut images = 0;
    for steps in (0..).step_by(stride as usize) {
        let scratch = super::recovery::scratch();
        let cache = scratch.open(&options());
        fill(12)(&cache);
        let reader = scratch.open(Options::new().read_only(true));
        fuse::set(steps);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut writer = cache.writer().unwrap();
            batch(&mut writer, |_| {});
            writer.commit().unwrap();
        }));
        fuse::clear();
        drop(cache);
        images += 1;
        check_image(&scratch, &options(), &reader, &states, steps);
        if outcome.is_ok() {
            break;
        }
    }
    images
}

/// Insertions that split a region, an overwrite and a deletion, under one lock.
fn batch(writer: &mut Writer<'_>, mut done: impl FnMut(&Writer<'_>)) {
    for i in 20..24 {
        writer.put(&key(i), b"new").unwrap();
        done(writer);
    }
    writer.put(&key(3), b"another").unwrap();
    done(writer);
    assert!(writer.delete(&key(4)).unwrap());
    done(writer);
}

#[test]
fn cleaning_stopped_anywhere_loses_nothing() {
    let images = stop_cleaning(3);
    assert!(images > 100, "{images}");
}

fn stop_cleaning(stride: u64) -> u64 {
    let prepare = |cache: &MmapCache| {
        fill(20)(cache);
        let mut paused = options();
        paused.clean_when(10_000, 1 << 30);
        drop(cache.writer().unwrap());
        for round in 0..12_u8 {
            cache.put(b"churned", &[round; 400]).unwrap();
        }
    };
    stop_at_every_step(stride, prepare, |cache| cache.compact().unwrap())
}

#[test]
fn a_rebuild_stopped_anywhere_is_the_old_or_the_new_generation() {
    let images = stop_rebuild(7);
    assert!(images > 50, "{images}");
    stop_at_every_step(1, fill(8), |cache| cache.clear().unwrap());
}

fn stop_rebuild(stride: u64) -> u64 {
    let items = || (30..45_u32).map(|i| Ok::<_, crate::Error>((key(i), vec![i as u8; 20])));
    stop_at_every_step(stride, fill(20), |cache| {
        cache.atomic_rebuild(items()).unwrap()
    })
}

#[test]
fn creating_stopped_anywhere_leaves_nothing_or_an_empty_cache() {
    for steps in 0.. {
        let scratch = scratch();
        fuse::set(steps);
        let outcome = catch_unwind(AssertUnwindSafe(|| drop(scratch.open(&options()))));
        fuse::clear();
        let cache = scratch.open(&options());
        assert!(cache.is_empty());
        cache.put(b"k", b"v").unwrap();
        assert_clean(&cache);
        let names: Vec<_> = std::fs::read_dir(scratch.path().parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names.len(), 4, "step {steps}: {names:?}");
        if outcome.is_ok() {
            assert!(steps > 20);
            return;
        }
    }
}

/// Puts another boot's id into the header, as after a power loss.
fn reboot(path: &Path) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    file.write_all_at(&[0x5a; 16], 8 * word::BOOT_ID as u64)
        .unwrap();
}

#[test]
fn after_a_power_loss_index_and_roster_are_rebuilt_from_the_heap_alone() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    fill(200)(&cache);
    for i in 0..50 {
        assert!(cache.delete(&key(i)).unwrap());
        cache.put(&key(100 + i), b"newer").unwrap();
    }
    let (before, version) = (contents(&cache), cache.mtime(&key(60)).unwrap());
    let generation = cache.stats().unwrap().generation;
    drop(cache);
    reboot(scratch.path());
    // Whatever stood in the index and the roster is lost as well.
    let roster = scratch.path().with_extension("roster");
    let file = std::fs::File::options().write(true).open(&roster).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xaa; 400], 64).unwrap();
    let cache = scratch.open(&options());
    assert_eq!(contents(&cache), before);
    assert_eq!(cache.mtime(&key(60)).unwrap(), version);
    assert_clean(&cache);
    assert!(cache.put(b"later", b"v").unwrap() > version.unwrap());
    drop(cache);
    let again = scratch.open(&options());
    assert_eq!(
        again.stats().unwrap().generation,
        generation + 1,
        "recovered once, not twice"
    );
    assert_clean(&again);
}

#[test]
fn damage_to_what_was_synced_is_no_power_losss_work_and_stays_to_be_seen() {
    for flushed_before in [true, false] {
        let scratch = scratch();
        let cache = scratch.open(&Options::new());
        cache.flush().unwrap();
        cache.put(b"first", &[1; 100]).unwrap();
        if flushed_before {
            cache.flush().unwrap();
        }
        cache.put(b"second", &[2; 100]).unwrap();
        drop(cache);
        let heap = PathBuf::from(format!("{}.heap", scratch.path().display()));
        let file = std::fs::File::options().write(true).open(heap).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xaa; 8], 128 + 60).unwrap();
        reboot(scratch.path());
        let cache = scratch.open(&Options::new());
        assert_eq!(cache.get(b"first").unwrap(), None);
        assert_eq!(cache.get(b"second").unwrap().unwrap(), [2; 100]);
        let damaged = cache.verify().unwrap().damaged_bytes;
        assert_eq!(damaged > 0, flushed_before, "{damaged}");
    }
}

#[test]
fn recovery_from_the_heap_stopped_anywhere_can_begin_again() {
    stop_recovery(11);
}

fn stop_recovery(stride: u64) -> u64 {
    for (images, steps) in (1..).zip((0..).step_by(stride as usize)) {
        let scratch = scratch();
        let cache = scratch.open(&options());
        fill(40)(&cache);
        for i in 0..10 {
            assert!(cache.delete(&key(i)).unwrap());
        }
        let before = contents(&cache);
        drop(cache);
        reboot(scratch.path());
        fuse::set(steps);
        let outcome = catch_unwind(AssertUnwindSafe(|| drop(scratch.open(&options()))));
        fuse::clear();
        let cache = scratch.open(&options());
        assert_eq!(contents(&cache), before, "step {steps}");
        assert_clean(&cache);
        if outcome.is_ok() {
            assert!(steps > 1_000, "{steps}");
            return images;
        }
    }
    unreachable!("recovery has an end")
}

#[test]
fn finishing_what_was_left_can_be_stopped_and_finished_by_the_next() {
    stop_finishing(9);
}

fn stop_finishing(stride: usize) -> u64 {
    let mut images = 0;
    for first in (5..400).step_by(stride) {
        for second in 0.. {
            images += 1;
            let scratch = scratch();
            let cache = scratch.open(&options());
            fill(14)(&cache);
            let old = contents(&cache);
            let mut new = old.clone();
            new.insert(key(99), b"new".to_vec());
            fuse::set(first);
            let _ = catch_unwind(AssertUnwindSafe(|| drop(cache.put(&key(99), b"new"))));
            fuse::set(second);
            let outcome = catch_unwind(AssertUnwindSafe(|| drop(cache.writer().unwrap())));
            fuse::clear();
            drop(cache.writer().unwrap());
            let seen = contents(&cache);
            assert!(seen == old || seen == new, "{first}, {second}");
            assert_clean(&cache);
            if outcome.is_ok() {
                break;
            }
        }
    }
    images
}

/// What the tests above stop at some steps only, stopped at each.
#[test]
#[ignore = "a soak: minutes; see docs/testing.md"]
fn everything_is_stopped_at_each_of_its_steps() {
    let mut options = options();
    options.directory_bits = 0;
    let images = [
        ("larger regions", larger_regions(&options, 1)),
        ("a roster without its holes", roster_without_holes(97)),
        ("cleaning", stop_cleaning(1)),
        ("a rebuild", stop_rebuild(1)),
        ("recovery", stop_recovery(1)),
        ("finishing", stop_finishing(1)),
    ];
    for (name, images) in images {
        println!("{name}: {images} images");
    }
}

#[test]
fn a_copy_of_live_files_is_noticed_and_recovered() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    fill(60)(&cache);
    let copy = super::recovery::scratch();
    for suffix in ["", ".heap", ".roster"] {
        let name = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        std::fs::copy(name(scratch.path()), name(copy.path())).unwrap();
    }
    let copied = copy.open(&options());
    assert_eq!(contents(&copied), contents(&cache));
    assert_eq!(
        copied.stats().unwrap().generation,
        2,
        "dirty files under another inode are not believed"
    );
    copied.flush().unwrap();
    drop(copied);
    let third = super::recovery::scratch();
    for name in std::fs::read_dir(copy.path().parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap())
    {
        std::fs::copy(
            name.path(),
            third.path().parent().unwrap().join(name.file_name()),
        )
        .unwrap();
    }
    assert_eq!(
        third.open(&options()).stats().unwrap().generation,
        2,
        "clean ones are, once they were found to agree"
    );
}

#[test]
fn a_copy_on_another_device_is_noticed_though_its_inode_has_the_same_number() {
    use std::os::unix::fs::FileExt;
    for (boot_again, generation) in [(false, 2), (true, 1)] {
        let scratch = scratch();
        let cache = scratch.open(&options());
        fill(60)(&cache);
        let before = contents(&cache);
        if boot_again {
            // Then the mark is off, and devices may have other numbers.
            cache.flush().unwrap();
        }
        drop(cache);
        let file = std::fs::File::options()
            .write(true)
            .open(scratch.path())
            .unwrap();
        file.write_all_at(&[0x77; 8], 8 * word::DEVICE as u64)
            .unwrap();
        if boot_again {
            reboot(scratch.path());
        }
        let cache = scratch.open(&options());
        assert_eq!(contents(&cache), before);
        assert_eq!(cache.stats().unwrap().generation, generation);
    }
}

#[test]
fn a_copy_that_was_begun_when_all_was_flushed_is_not_believed_if_it_was_ended_later() {
    // Of the index the first page, or all of it, is as it was flushed.
    for early in [4096, 1 << 20] {
        let scratch = scratch();
        let cache = scratch.open(&options());
        fill(30)(&cache);
        cache.flush().unwrap();
        let before = contents(&cache);
        let mut index = std::fs::read(scratch.path()).unwrap();
        index.truncate(early);
        for i in 30..60 {
            cache.put(&key(i), &[1; 300]).unwrap();
        }
        cache.compact().unwrap();
        let copy = super::recovery::scratch();
        let dir = |scratch: &Scratch| scratch.path().parent().unwrap().to_owned();
        for entry in std::fs::read_dir(dir(&scratch)).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), dir(&copy).join(entry.file_name())).unwrap();
        }
        let now = std::fs::read(scratch.path()).unwrap();
        index.extend_from_slice(now.get(index.len()..).unwrap_or(&[]));
        std::fs::write(copy.path(), &index).unwrap();
        let copied = copy.open(&options());
        let found = contents(&copied);
        for (key, value) in &before {
            assert_eq!(found.get(key), Some(value), "{early}");
        }
        assert_clean(&copied);
    }
}

#[test]
fn a_segment_whose_header_a_power_loss_took_is_in_nobodys_way() {
    for left in [&[][..], &[0; 8192], &[0xaa; 8192]] {
        let scratch = scratch();
        let cache = scratch.open(&options());
        fill(20)(&cache);
        let before = contents(&cache);
        drop(cache);
        reboot(scratch.path());
        let name =
            |number: u32| PathBuf::from(format!("{}.heap.{number}", scratch.path().display()));
        std::fs::write(name(1), left).unwrap();
        std::fs::write(name(3), left).unwrap();
        let cache = scratch.open(&options());
        assert_eq!(contents(&cache), before);
        for i in 0..200_u32 {
            cache.put(&key(i), &[7; 500]).unwrap();
        }
        if left.first() == Some(&0xaa) {
            // Bytes that nobody knows are nobody's to remove; their number is not used.
            continue;
        }
        cache
            .atomic_rebuild(before.iter().map(Ok::<_, crate::Error>))
            .unwrap();
        for i in 0..200_u32 {
            cache.put(&key(i), &[7; 500]).unwrap();
        }
        assert_clean(&cache);
    }
}

/// Overwrites bytes of one of the cache's files, found by what follows the cache's path in its name.
fn overwrite(scratch: &Scratch, suffix: &str, at: u64, bytes: &[u8]) {
    let path = format!("{}{suffix}", scratch.path().display());
    let file = std::fs::File::options().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, bytes, at).unwrap();
}

#[test]
fn records_that_a_power_loss_took_leave_gaps_and_a_clean_cache() {
    for lost in [&[0; 300][..], &[0xaa; 300]] {
        let scratch = scratch();
        let cache = scratch.open(&options());
        fill(20)(&cache);
        let before = contents(&cache);
        drop(cache);
        reboot(scratch.path());
        overwrite(&scratch, ".heap", 500, lost);
        let cache = scratch.open(&options());
        let after = contents(&cache);
        assert!(after.len() < 20 && after.len() > 10, "{}", after.len());
        assert!(after.iter().all(|(key, value)| before[key] == *value));
        assert_clean(&cache);
        let generation = cache.stats().unwrap().generation;
        cache.compact().unwrap();
        assert_eq!(contents(&cache), after);
        assert_eq!(cache.stats().unwrap().generation, generation);
        assert_clean(&cache);
    }
}

#[test]
fn damage_that_no_power_loss_explains_is_left_for_who_wants_to_know() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    fill(20)(&cache);
    overwrite(&scratch, ".heap", 500, &[0xaa; 300]);
    let header = cache.handle.view.load_full();
    header.header().set(word::INTENT, 77);
    drop(cache.writer().unwrap());
    assert_eq!(cache.stats().unwrap().generation, 2, "it was rebuilt");
    assert!(cache.verify().unwrap().damaged_bytes > 0);
}

#[test]
fn versions_go_on_behind_a_deletion_of_which_nothing_is_left() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    let ahead = super::super::version::now() + 1_000_000_000_000;
    let view = cache.handle.view.load_full();
    view.header().set(word::LAST_MTIME, ahead);
    fill(5)(&cache);
    assert!(cache.delete(&key(4)).unwrap());
    let last = view.header().get(word::LAST_MTIME);
    cache.compact().unwrap();
    cache.flush().unwrap();
    drop((cache, view));
    // The index as it came to the disk before all of that.
    overwrite(&scratch, "", 8 * word::LAST_MTIME as u64, &[0; 8]);
    overwrite(&scratch, "", 8 * word::DIRTY as u64, &[2]);
    reboot(scratch.path());
    let cache = scratch.open(&options());
    let version = cache.put(b"next", b"v").unwrap();
    assert!(version.as_nanos() > last, "versions went back");
}

#[test]
fn preliminary_files_with_part_of_a_header_are_in_nobodys_way() {
    let scratch = scratch();
    for suffix in [".new", ".roster.new", ".heap.new"] {
        let path = format!("{}{suffix}", scratch.path().display());
        let torn = [[0; 8], [1; 8]].concat();
        std::fs::write(path, torn).unwrap();
    }
    let cache = scratch.open(&options());
    fill(20)(&cache);
    cache.clear().unwrap();
    fill(3)(&cache);
    assert_clean(&cache);
    // A segment with its magic, and no version yet.
    drop(cache);
    reboot(scratch.path());
    let path = format!("{}.heap.7", scratch.path().display());
    std::fs::write(&path, [&b"MMCSEGMT"[..], &[0; 504]].concat()).unwrap();
    let magic = <crate::format::segment::SegmentHeader as crate::format::seal::Sealed>::MAGIC;
    overwrite(&scratch, ".heap.7", 0, &magic);
    let cache = scratch.open(&options());
    assert_clean(&cache);
    assert!(!Path::new(&path).exists(), "there was nothing in it");
}

#[test]
fn a_segment_that_never_came_to_the_disk_is_not_met_again_by_the_cleaner() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    cache.handle.clean_pause.store(1_000, Relaxed);
    for i in 0..40 {
        cache.put(&key(i), &[1; 1_500]).unwrap();
    }
    drop(cache);
    reboot(scratch.path());
    let path = format!("{}.heap.2", scratch.path().display());
    let length = std::fs::metadata(&path).unwrap().len();
    std::fs::write(&path, vec![0; length as usize]).unwrap();
    let cache = scratch.open(&options());
    let left = contents(&cache);
    assert!(left.len() < 40 && left.len() > 20, "{}", left.len());
    let generation = cache.stats().unwrap().generation;
    cache.compact().unwrap();
    assert_eq!(
        cache.stats().unwrap().generation,
        generation,
        "rebuilt again"
    );
    assert_eq!(contents(&cache), left);
    assert_clean(&cache);
}

#[test]
fn what_a_rebuild_has_synced_is_not_removed_before_its_copies_are() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    fill(20)(&cache);
    let word = |at| cache.handle.view.load().header().get(at);
    assert_eq!(
        word(word::FLUSHED),
        0,
        "a cache that never flushed promised nothing"
    );
    cache
        .atomic_rebuild([Ok::<_, crate::Error>((b"k", b"v"))])
        .unwrap();
    assert_eq!(word(word::FLUSHED), 1);
    assert_eq!(word(word::SYNCED), word(word::TAIL));
}

#[test]
fn a_durable_put_that_had_to_replace_the_table_is_synced_like_any_other() {
    let scratch = scratch();
    let mut options = options();
    options.durability(Durability::Sync);
    let cache = scratch.open(&options);
    let mut switches = 0;
    for i in 0..300 {
        let before = cache.stats().unwrap().generation;
        cache.put(&key(i), b"durable").unwrap();
        let view = cache.handle.view.load();
        assert_eq!(
            view.header().get(word::SYNCED),
            view.header().get(word::TAIL),
            "put {i}"
        );
        switches += u32::from(cache.stats().unwrap().generation > before);
    }
    assert!(switches > 0);
}

#[test]
fn a_mark_that_a_killed_writer_did_not_sync_is_synced_by_the_next() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    cache.flush().unwrap();
    let header_word = || cache.handle.view.load().header().get(word::DIRTY);
    for steps in 0..20 {
        fuse::set(steps);
        let _ = catch_unwind(AssertUnwindSafe(|| cache.put(b"k", b"v").map(drop)));
        fuse::clear();
        if header_word() == 1 {
            cache.put(b"other", b"v").unwrap();
            assert_eq!(header_word(), 2);
            return;
        }
        cache.flush().unwrap();
    }
    panic!("no step lies between the mark and its sync");
}

#[test]
fn nobody_can_replace_a_cache_before_its_creator_has_named_all_its_files() {
    for steps in 0.. {
        let scratch = scratch();
        let path = scratch.path().to_owned();
        fuse::interrupt(steps, move || {
            let mut impatient = options();
            impatient
                .create(false)
                .lock_timeout(Some(std::time::Duration::from_millis(1)));
            // Whoever comes this early finds nothing, or a lock that is held.
            if let Ok(early) = impatient.open(&path) {
                let _ = early.atomic_rebuild([Ok::<_, crate::Error>((b"early", b"bird"))]);
            }
        });
        let created = options().open(scratch.path());
        let over = fuse::clear();
        let cache = created.unwrap();
        for i in 0..100 {
            cache.put(&key(i), b"v").unwrap();
        }
        assert_clean(&cache);
        let early = cache.get(b"early").unwrap();
        assert_eq!(
            cache.len(),
            100 + u64::from(early.is_some()),
            "step {steps}"
        );
        if over {
            return;
        }
    }
}
