//! A file that another program truncates while it is mapped: what that costs, and what it does not.
//!
//! No program that maps files can do better than the system allows; these tests pin down what the
//! documents say.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod child;

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;

use child::{Child, Part, Role};
use mmapcache::{MmapCache, Options, Repair};

const ENTRIES: u32 = 500;
const SIGBUS: i32 = 7;

#[test]
fn child() {
    const ROLES: &[Role] = &[("read what was mapped", read_what_was_mapped)];
    child::play(ROLES);
}

fn read_what_was_mapped(part: &Part) {
    let cache = Options::new().read_only(true).open(&part.path).unwrap();
    let found = |i: &u32| cache.get(&i.to_le_bytes()).unwrap().is_some();
    assert_eq!((0..ENTRIES).filter(found).count(), ENTRIES as usize);
    child::say("mapped");
    child::hear();
    (0..ENTRIES).filter(found).count();
    child::say("read");
}

fn heap_of(path: &std::path::Path) -> PathBuf {
    PathBuf::from(format!("{}.heap", path.display()))
}

// Readers of a truncated mapping end with SIGBUS; later ones open the rest.
#[test]
fn truncated_file_sigbus() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let cache = MmapCache::open(&path).unwrap();
    for i in 0..ENTRIES {
        cache.put(&i.to_le_bytes(), &[i as u8; 200]).unwrap();
    }
    drop(cache);
    let mut reader = Child::start("read what was mapped", &path, &[]);
    assert_eq!(reader.line().as_deref(), Some("mapped"));
    let heap = File::options().write(true).open(heap_of(&path)).unwrap();
    heap.set_len(40_000).unwrap();
    reader.tell("go on");
    let ended = reader.wait();
    assert_eq!(ended.signal(), Some(SIGBUS), "{ended}");
    // A new handle uses the file's real size: the entries after it are misses.
    let cache = MmapCache::open(&path).unwrap();
    let left = |cache: &MmapCache| {
        let found = |i: u32| cache.get(&i.to_le_bytes()).unwrap();
        (0..ENTRIES)
            .filter_map(|i| found(i).map(|value| assert_eq!(value, [i as u8; 200])))
            .count()
    };
    let whole = 40_000 / 232 - 1;
    assert!(
        (whole..=whole + 1).contains(&left(&cache)),
        "{}",
        left(&cache)
    );
    drop(cache);
    Repair::new(&path).run().unwrap();
    let cache = MmapCache::open(&path).unwrap();
    assert_eq!(left(&cache), cache.len() as usize);
    cache.put(b"new", b"v").unwrap();
    assert_eq!(cache.get(b"new").unwrap().unwrap(), b"v");
}
