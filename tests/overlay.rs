//! File systems on which one path is not one file: overlayfs, and FUSE.
//!
//! A cache on overlayfs, as in a container: the first writer has its files copied to the upper
//! layer, while readers have the lower ones mapped.
//!
//! Readers run in child processes, so that a signal ends only them.
#![cfg(target_os = "linux")]

mod child;
mod volume;

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use child::{Child, Part, hear, say};
use mmapcache::{ErrorKind, Labels, MmapCache, Options};
use volume::{Bound, Overlay};

const ENTRIES: u32 = 200;

/// Not a test: the entry point of the child processes.
#[test]
fn child() {
    child::play(&[
        ("follows", follows),
        ("sees appended records", sees_appended_records),
        ("sees appended labels", sees_appended_labels),
    ]);
}

fn value(i: u32, round: u32) -> Vec<u8> {
    vec![(i + round * 7) as u8; 300]
}

fn write(cache: &MmapCache, round: u32) {
    for i in 0..ENTRIES {
        cache
            .put(&i.to_le_bytes(), &value(i, round))
            .expect("a put");
    }
}

fn reader(path: &Path, interval: Duration) -> MmapCache {
    let mut options = Options::new();
    options.read_only(true).staleness_check_interval(interval);
    options.open(path).expect("a reader")
}

/// Reads entries in every way, in the round that the parent names.
fn follows(part: &Part) {
    let cache = reader(&part.path, Duration::from_millis(20));
    let mut keys = Vec::new();
    keys.extend((0..ENTRIES).map(u32::to_le_bytes));
    let seen = |round: u32| {
        let got = (0..ENTRIES)
            .all(|i| cache.get(&i.to_le_bytes()).expect("a lookup") == Some(value(i, round)));
        let mut many = 0;
        let each = |i: usize, found: Option<&[u8]>| {
            many += u32::from(found == Some(&value(i as u32, round)[..]));
        };
        cache.get_many(&keys, each).expect("a lookup");
        let mut listed = 0;
        for item in cache.iter().expect("a listing") {
            let (key, found) = item.expect("an item");
            let i = u32::from_le_bytes(key[..4].try_into().expect("a key"));
            listed += u32::from(found == value(i, round));
        }
        got && many == ENTRIES && listed == ENTRIES
    };
    assert!(seen(0));
    say("read");
    while let Some(line) = hear() {
        let round = line.parse().expect("a round");
        let start = Instant::now();
        while !seen(round) {
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "stale in round {round}"
            );
        }
        say("seen");
    }
    assert!(cache.verify().run().expect("a report").is_clean());
}

#[test]
fn hits_follow_the_first_writer() {
    let fill = |dir: &Path| write(&MmapCache::open(dir.join("cache")).expect("a cache"), 0);
    let Some(overlay) = Overlay::mount(fill) else {
        return;
    };
    let path = overlay.path().join("cache");
    let mut reading = Child::start("follows", &path, &[]);
    reading.expect("read");
    assert!(!overlay.is_upper("cache"));
    let cache = MmapCache::open(&path).expect("a writer");
    for round in 1..6 {
        write(&cache, round);
        assert!(overlay.is_upper("cache"));
        assert_eq!(reading.ask(&round.to_string()), "seen");
    }
    let items: Vec<_> = cache.iter().expect("a listing").collect();
    cache.atomic_rebuild(items).expect("a rebuild");
    write(&cache, 6);
    assert_eq!(reading.ask("6"), "seen");
    reading.finish();
}

/// Has index and roster copied up, but not the heap: as between two steps of a first writer.
fn copy_up_index(path: &Path) {
    for name in ["cache", "cache.roster"] {
        let path = path.with_file_name(name);
        File::options().write(true).open(path).expect("the file");
    }
}

/// The reader has mapped the live index and the lower segment, whose copy grows: appended records
/// cause neither an error of corruption nor a signal.
fn sees_appended_records(part: &Part) {
    copy_up_index(&part.path);
    let hour = Duration::from_secs(3_600);
    let (first, second) = (reader(&part.path, hour), reader(&part.path, hour));
    for cache in [&first, &second] {
        assert_eq!(
            cache.get(&0_u32.to_le_bytes()).expect("a lookup"),
            Some(value(0, 0))
        );
    }
    let mut listing = second.iter().expect("a listing");
    let writer = MmapCache::open(&part.path).expect("a writer");
    for round in 1..4 {
        write(&writer, round);
        for i in 0..ENTRIES {
            let found = first.get(&i.to_le_bytes()).expect("a lookup");
            assert_eq!(found, Some(value(i, round)), "round {round}");
        }
    }
    // More entries than the roster had room for.
    for i in 0..3_000_u32 {
        writer
            .put(format!("more {i}").as_bytes(), b"v")
            .expect("a put");
    }
    assert_eq!(
        first.keys().expect("a listing").count(),
        3_000 + ENTRIES as usize
    );
    let mut listed = 0;
    for item in listing.by_ref() {
        item.expect("an item");
        listed += 1;
    }
    assert_eq!(listed, ENTRIES);
    assert!(second.verify().run().expect("a report").is_clean());
    say("done");
}

#[test]
fn appended_records_are_no_corruption() {
    let fill = |dir: &Path| {
        // Room for all entries: a table that grows ends a listing of the table before.
        let options = Options::new().capacity(4_000).clone();
        let cache = options.open(dir.join("cache")).expect("a cache");
        write(&cache, 0);
        cache.flush().expect("a flush");
    };
    let Some(overlay) = Overlay::mount(fill) else {
        return;
    };
    let path = overlay.path().join("cache");
    let said = Child::start("sees appended records", &path, &[]).finish();
    assert_eq!(said, "done");
}

fn sees_appended_labels(part: &Part) {
    copy_up_index(&part.path);
    let mut options = Options::new();
    options
        .read_only(true)
        .staleness_check_interval(Duration::from_secs(3_600));
    let reader = Labels::open_with(&part.path, &options).expect("a reader");
    assert!(reader.get("label 0").expect("a lookup").is_some());
    let labels = Labels::open(&part.path).expect("a writer");
    for i in 0..2_000 {
        let label = format!("label {i}");
        let id = labels.get_or_intern(&label).expect("an id");
        assert_eq!(
            reader.resolve(id).expect("a lookup"),
            Some(label.clone().into_bytes())
        );
        assert_eq!(reader.get(&label).expect("a lookup"), Some(id));
    }
    say("done");
}

#[test]
fn appended_labels_are_no_corruption() {
    let fill = |dir: &Path| {
        let labels = Labels::open(dir.join("cache")).expect("labels");
        labels.get_or_intern("label 0").expect("an id");
        labels.flush().expect("a flush");
    };
    let Some(overlay) = Overlay::mount(fill) else {
        return;
    };
    let path = overlay.path().join("cache");
    let said = Child::start("sees appended labels", &path, &[]).finish();
    assert_eq!(said, "done");
}

/// Two FUSE mounts of one directory behave like two machines: each has its own pages. So FUSE is
/// refused, for the index and for the heap, unless the caller vouches for a single mount.
#[test]
fn fuse_needs_a_voucher() {
    let Some(fuse) = Bound::mount() else {
        return;
    };
    let dir = tempfile::tempdir().expect("a directory");
    let refused = |result: mmapcache::Result<MmapCache>| {
        let error = result.expect_err("FUSE");
        let text = error.to_string();
        assert!(
            matches!(error.kind(), ErrorKind::Unsupported { .. }),
            "{error:?}"
        );
        assert!(
            text.contains("FUSE") && text.contains("allow_network_fs(true)"),
            "{text}"
        );
    };
    refused(MmapCache::open(fuse.path().join("cache")));
    let heap = fuse.path().join("heap");
    refused(
        Options::new()
            .heap_path(&heap)
            .open(dir.path().join("cache")),
    );
    let mut options = Options::new();
    let cache = options
        .allow_network_fs(true)
        .open(fuse.path().join("cache"));
    let cache = cache.expect("a cache, by its caller's word");
    cache.put(b"k", b"v").expect("a put");
    assert_eq!(
        cache.get(b"k").expect("a lookup").as_deref(),
        Some(&b"v"[..])
    );
}
