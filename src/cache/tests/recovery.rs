//! A writer stopped at each of its stores and file operations, one after the other.
//!
//! What it leaves must be the old or the new state to every reader at once, and whole and clean
//! again as soon as one more writer has been there. The writer stops by a panic that leaves the
//! files as a kill would: the only stores that unwinding adds are the holder's hint and the lock's
//! release.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::sync::fuse;

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
    let (old, new) = {
        let scratch = scratch();
        let cache = scratch.open(&options());
        prepare(&cache);
        let old = contents(&cache);
        change(&cache);
        (old, contents(&cache))
    };
    let mut images = 0;
    for steps in (0..).step_by(stride as usize) {
        let scratch = scratch();
        let cache = scratch.open(&options());
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
        check_image(&scratch, &reader, &old, &new, steps);
        if outcome.is_ok() {
            return images;
        }
    }
    images
}

fn check_image(scratch: &Scratch, reader: &MmapCache, old: &Contents, new: &Contents, steps: u64) {
    let seen = contents(reader);
    assert!(
        seen == *old || seen == *new,
        "step {steps}: an open reader sees neither: {seen:?}"
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
    let next = scratch.open(&options());
    drop(next.writer().unwrap());
    let mended = contents(&next);
    assert!(
        mended == *old || mended == *new,
        "step {steps}: mending made something else"
    );
    assert!(
        seen == *old || mended == *new,
        "step {steps}: mending lost what was seen"
    );
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
fn cleaning_stopped_anywhere_loses_nothing() {
    let prepare = |cache: &MmapCache| {
        fill(20)(cache);
        let mut paused = options();
        paused.clean_when(10_000, 1 << 30);
        drop(cache.writer().unwrap());
        for round in 0..12_u8 {
            cache.put(b"churned", &[round; 400]).unwrap();
        }
    };
    let images = stop_at_every_step(3, prepare, |cache| cache.compact().unwrap());
    assert!(images > 100, "{images}");
}

#[test]
fn a_rebuild_stopped_anywhere_is_the_old_or_the_new_generation() {
    let items = || (30..45_u32).map(|i| Ok::<_, crate::Error>((key(i), vec![i as u8; 20])));
    let images = stop_at_every_step(7, fill(20), |cache| cache.atomic_rebuild(items()).unwrap());
    assert!(images > 50, "{images}");
    stop_at_every_step(1, fill(8), |cache| cache.clear().unwrap());
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
fn recovery_from_the_heap_stopped_anywhere_can_begin_again() {
    for steps in (0..).step_by(11) {
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
            return;
        }
    }
}

#[test]
fn finishing_what_was_left_can_be_stopped_and_finished_by_the_next() {
    for first in (5..400).step_by(9) {
        for second in 0.. {
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
        "clean ones are"
    );
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
