//! Single power losses, written into the files by hand, and their recovery.
//!
//! `power.rs` generates others at random.

use crate::engine::tests::recovery::*;
use crate::sync::Relaxed;

// After a power loss index and roster are rebuilt from the heap alone.
#[test]
fn power_loss_rebuilds_from_heap() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    fill(200)(&cache);
    for i in 0..50 {
        assert!(cache.delete(&key(i)).unwrap());
        cache.put(&key(100 + i), b"newer").unwrap();
    }
    let (before, version) = (contents(&cache), cache.version(&key(60)).unwrap());
    let generation = cache.stats().unwrap().generation;
    drop(cache);
    reboot(scratch.path());
    // The contents of index and roster are lost as well.
    let roster = scratch.path().with_extension("roster");
    let file = std::fs::File::options().write(true).open(&roster).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xaa; 400], 64).unwrap();
    let cache = scratch.open(&options());
    assert_eq!(contents(&cache), before);
    assert_eq!(cache.version(&key(60)).unwrap(), version);
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

// Corruption of synced records cannot be due to a power loss, and `verify` still reports it.
#[test]
fn synced_corruption_stays_visible() {
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
        let damaged = cache.verify().run().unwrap().damaged_bytes;
        assert_eq!(damaged > 0, flushed_before, "{damaged}");
    }
}

/// Writes twenty entries without a flush, and changes the boot id. Returns the entries.
fn written_before_the_boot(scratch: &Scratch) -> Contents {
    let cache = scratch.open(&options());
    fill(20)(&cache);
    let before = contents(&cache);
    drop(cache);
    reboot(scratch.path());
    before
}

// A segment whose header a power loss took does not stop a writer.
#[test]
fn unwritten_segment_header_blocks_nothing() {
    for left in [&[][..], &[0; 8192], &[0xaa; 8192]] {
        let scratch = scratch();
        let before = written_before_the_boot(&scratch);
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
            // The file's bytes are unknown, so that it is kept, and its number is not used.
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

/// Overwrites bytes of the cache's file with a suffix.
fn overwrite(scratch: &Scratch, suffix: &str, at: u64, bytes: &[u8]) {
    let path = format!("{}{suffix}", scratch.path().display());
    let file = std::fs::File::options().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, bytes, at).unwrap();
}

// Records that a power loss took become filler records in a clean cache.
#[test]
fn lost_records_become_filler() {
    for lost in [&[0; 300][..], &[0xaa; 300]] {
        let scratch = scratch();
        let before = written_before_the_boot(&scratch);
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

// Corruption that no power loss explains is left for `verify` to report.
#[test]
fn unexplained_corruption_stays_visible() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    fill(20)(&cache);
    overwrite(&scratch, ".heap", 500, &[0xaa; 300]);
    let header = cache.handle.generation.load_full();
    header.header().corrupt(word::INTENT, 77);
    drop(cache.writer().unwrap());
    assert_eq!(cache.stats().unwrap().generation, 2, "it was rebuilt");
    assert!(cache.verify().run().unwrap().damaged_bytes > 0);
}

// Versions continue after those of a deletion that is lost.
// G3: the header of the newest segment remembers the version of a deletion that was dropped.
#[test]
fn versions_outlive_a_lost_deletion() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    let ahead = crate::engine::version::now() + 1_000_000_000_000;
    let generation = cache.handle.generation.load_full();
    generation.header().corrupt(word::LAST_MTIME, ahead);
    fill(5)(&cache);
    assert!(cache.delete(&key(4)).unwrap());
    let last = generation.header().last_version();
    cache.compact().unwrap();
    cache.flush().unwrap();
    drop((cache, generation));
    // The index as it was written to the disk before that.
    overwrite(&scratch, "", 8 * word::LAST_MTIME as u64, &[0; 8]);
    overwrite(&scratch, "", 8 * word::DIRTY as u64, &[2]);
    reboot(scratch.path());
    let cache = scratch.open(&options());
    let version = cache.put(b"next", b"v").unwrap();
    assert!(version.as_nanos() > last, "versions went back");
}

// Staged files with part of a header do not stop a writer.
#[test]
fn torn_staged_files_block_nothing() {
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
    // A segment with its magic but no version yet.
    drop(cache);
    reboot(scratch.path());
    let path = format!("{}.heap.7", scratch.path().display());
    std::fs::write(&path, [&b"MMCSEGMT"[..], &[0; 504]].concat()).unwrap();
    let magic = <crate::format::segment::SegmentHeader as crate::format::seal::SealedHeader>::MAGIC;
    overwrite(&scratch, ".heap.7", 0, &magic);
    let cache = scratch.open(&options());
    assert_clean(&cache);
    assert!(!Path::new(&path).exists(), "there was nothing in it");
}

// The cleaner never reads a segment that was not written to the disk.
#[test]
fn cleaner_skips_never_written_segment() {
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
