//! What depends on the file system: how long building and overwriting take with copy-on-write, and
//! how much is written for a small change.
//!
//! Needs file systems, and so root; see `tests/volume/mod.rs`. Times are compared within one run,
//! and asserted only in ignored tests:
//!
//!     cargo test --release --test file_systems -- --ignored --nocapture

#![cfg(target_os = "linux")]

mod volume;

use std::fs;
use std::path::Path;
use std::time::Instant;

use mmapcache::{Error, MmapCache};
use volume::{Kind, Volume};

const ENTRIES: u64 = 200_000;

fn key(i: u64) -> Vec<u8> {
    format!("a key of the usual length {i:08}").into_bytes()
}

fn put_all(cache: &MmapCache, with: u8) {
    let mut writer = cache.writer().expect("the lock");
    for i in 0..ENTRIES {
        let at = i.wrapping_mul(0x9e37_79b9) % ENTRIES;
        writer.put(&key(at), &[with; 100]).expect("a put");
    }
}

/// Returns the seconds that each step takes.
fn steps(path: &Path) -> Vec<(&'static str, f64)> {
    let mut times = Vec::new();
    let mut time = |what, step: &mut dyn FnMut()| {
        let start = Instant::now();
        step();
        times.push((what, start.elapsed().as_secs_f64()));
    };
    let cache = MmapCache::open(path).expect("a cache");
    time("create", &mut || put_all(&cache, 1));
    cache.flush().expect("a flush");
    time("overwrite after a sync", &mut || put_all(&cache, 2));
    time("compact", &mut || cache.compact().expect("room"));
    let copy = path.with_file_name("copy");
    time("hot copy", &mut || {
        let copied = cache.backup().to(&copy).expect("a copy");
        assert_eq!(copied.entries, ENTRIES);
    });
    time("rebuild", &mut || {
        let items = (0..ENTRIES).map(|i| Ok::<_, Error>((key(i), [3; 100])));
        cache.atomic_rebuild(items).expect("a rebuild");
    });
    assert_eq!(cache.len(), ENTRIES);
    assert!(cache.verify().run().expect("a report").is_clean());
    times
}

// Building and overwriting on btrfs take at most three times as long as on ext4.
#[test]
#[ignore = "compares times, for a machine of its own"]
fn btrfs_takes_at_most_three_times() {
    let mut all = Vec::new();
    for kind in [Kind::Ext4(4096), Kind::Btrfs] {
        let Some(volume) = Volume::mount(kind, 2 << 30) else {
            return;
        };
        all.push(steps(&volume.cache()));
    }
    for (ext4, btrfs) in all[0].iter().zip(&all[1]) {
        let ratio = btrfs.1 / ext4.1;
        eprintln!(
            "{}: {:.2} s on ext4, {:.2} on btrfs, {ratio:.2} x",
            ext4.0, ext4.1, btrfs.1
        );
    }
    for (ext4, btrfs) in all[0].iter().zip(&all[1]) {
        assert!(
            btrfs.1 <= 3.0 * ext4.1,
            "{}: {} s against {}",
            ext4.0,
            btrfs.1,
            ext4.1
        );
    }
}

/// Returns the bytes that this process has had written to disks so far.
fn written() -> u64 {
    let io = fs::read_to_string("/proc/self/io").expect("what this process wrote");
    let line = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "));
    line.expect("a number of bytes").parse().expect("a number")
}

/// Since Linux 6.16 the page cache of ext4 and XFS keeps what one call wrote in one unit, and a
/// store to one page of it has the whole unit written again.
#[test]
fn small_change_writes_few_pages() {
    for kind in [Kind::Ext4(4096), Kind::Xfs] {
        let Some(volume) = Volume::mount(kind, 512 << 20) else {
            continue;
        };
        let cache = MmapCache::open(volume.cache()).expect("a cache");
        let start = Instant::now();
        put_all(&cache, 1);
        let loading = start.elapsed();
        cache.flush().expect("a flush");
        let before = written();
        for i in 0..100 {
            cache.put(&key(i * 1_999), &[2; 100]).expect("a put");
        }
        cache.flush().expect("a flush");
        let written = written() - before;
        eprintln!("{kind:?}: {written} bytes for 100 overwrites, loaded in {loading:.2?}");
        assert!(written < 4 << 20, "{kind:?}: {written} bytes");
    }
}
