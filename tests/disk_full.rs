//! A full disk: every write happens or is refused with the old value intact, deleting works, and
//! nothing ends by SIGBUS.
//!
//! Needs a small file system of its own, mounted on a temporary directory, and so root. Without it
//! the test says that it was not run, and fails where `CI` is set: there it has to be.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use mmapcache::{Error, MmapCache, Options};

/// A tmpfs of some size on a directory, unmounted when it goes.
struct Small(tempfile::TempDir);

impl Small {
    fn mount(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory to mount on");
        let size = format!("size={bytes}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "mmapcache-test"])
            .arg(dir.path())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then_some(Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// The file system, or none where the machine does not allow it.
fn small(bytes: u64) -> Option<Small> {
    let small = Small::mount(bytes);
    if small.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI must be able to mount a tmpfs"
        );
        eprintln!("NOT RUN: mounting a tmpfs needs root");
    }
    small
}

fn key(i: u32) -> Vec<u8> {
    format!("key {i}").into_bytes()
}

fn assert_holds(cache: &MmapCache, expected: &HashMap<Vec<u8>, Vec<u8>>) {
    assert_eq!(cache.len(), expected.len() as u64);
    for (key, value) in expected {
        assert_eq!(cache.get(key).expect("a look").as_ref(), Some(value));
    }
    let report = cache.verify().expect("a report");
    assert!(report.is_clean(), "{:?}", report.faults);
}

/// Fills the disk with entries; returns what was acknowledged.
fn fill(cache: &MmapCache, value_len: usize) -> HashMap<Vec<u8>, Vec<u8>> {
    let mut expected = HashMap::new();
    for i in 0.. {
        let value = vec![i as u8; value_len];
        match cache.put(&key(i), &value) {
            Ok(_) => drop(expected.insert(key(i), value)),
            Err(Error::DiskFull { .. }) => return expected,
            Err(error) => panic!("put {i}: {error:?}"),
        }
    }
    unreachable!("the disk is never full")
}

#[test]
fn a_put_on_a_full_disk_is_refused_and_changes_nothing_and_deleting_makes_room() {
    let Some(disk) = small(2 << 20) else { return };
    for value_len in [0, 100, 3_000] {
        let path = disk.path().join(format!("cache-{value_len}"));
        let cache = Options::new()
            .clean_when(20, 64 << 10)
            .open(&path)
            .expect("a cache");
        let mut expected = fill(&cache, value_len);
        assert!(expected.len() > 100, "{}", expected.len());
        assert_holds(&cache, &expected);
        // Overwriting may be refused as well; the old value stays.
        for i in 0..50 {
            match cache.put(&key(i), &vec![0xee; value_len + 200]) {
                Ok(_) => drop(expected.insert(key(i), vec![0xee; value_len + 200])),
                Err(error) => assert!(matches!(error, Error::DiskFull { .. }), "{error:?}"),
            }
        }
        assert_holds(&cache, &expected);
        for i in 0..40 {
            assert!(
                cache
                    .delete(&key(i))
                    .expect("deleting works on a full disk"),
                "{i}"
            );
            expected.remove(&key(i));
        }
        assert_holds(&cache, &expected);
        assert!(matches!(
            cache.clear(),
            Ok(()) | Err(Error::DiskFull { .. })
        ));
        drop(cache);
        for entry in std::fs::read_dir(disk.path()).expect("the directory") {
            std::fs::remove_file(entry.expect("an entry").path()).expect("room for the next");
        }
    }
}

#[test]
fn after_room_was_made_work_goes_on() {
    let Some(disk) = small(2 << 20) else { return };
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![1; 1 << 20]).expect("room for the ballast");
    let path = disk.path().join("cache");
    let cache = MmapCache::open(&path).expect("a cache");
    let mut expected = fill(&cache, 500);
    std::fs::remove_file(ballast).expect("the ballast");
    for i in 0..200 {
        let i = 1_000_000 + i;
        cache
            .put(&key(i), b"afterwards")
            .expect("there is room again");
        expected.insert(key(i), b"afterwards".to_vec());
    }
    assert_holds(&cache, &expected);
    drop(cache);
    assert_holds(&MmapCache::open(&path).expect("the cache again"), &expected);
}

#[test]
fn creating_or_rebuilding_where_there_is_no_room_leaves_nothing_behind() {
    let Some(disk) = small(256 << 10) else { return };
    let path = disk.path().join("cache");
    let refused = Options::new().capacity(100_000).open(&path);
    assert!(
        matches!(refused, Err(Error::DiskFull { .. })),
        "{refused:?}"
    );
    let cache = MmapCache::open(&path).expect("a small cache fits");
    cache.put(b"k", b"v").expect("a put");
    let many = (0..100_000_u32).map(|i| Ok::<_, Error>((key(i), [0; 100])));
    assert!(matches!(
        cache.atomic_rebuild(many),
        Err(Error::DiskFull { .. })
    ));
    assert_eq!(cache.get(b"k").expect("a look").as_deref(), Some(&b"v"[..]));
    let names: Vec<_> = std::fs::read_dir(disk.path())
        .expect("the directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(names.len(), 4, "{names:?}");
}
