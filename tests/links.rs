//! Symbolic links, hard links and devices under the names of a cache's files.
#![cfg(target_os = "linux")]
#![expect(clippy::disallowed_methods, reason = "files are moved by hand")]

mod child;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use child::tight;
use mmapcache::{Error, ErrorKind, MmapCache, Options, Repair};
use rustix::fs::inotify;

/// Fills a cache with `count` entries, in more than one segment.
fn filled(path: &Path, count: u32) {
    let cache = tight().open(path).expect("a cache");
    for i in 0..count {
        cache.put(&i.to_le_bytes(), &[i as u8; 200]).expect("a put");
    }
}

#[track_caller]
fn holds(path: &Path, options: &Options, count: u32) {
    let cache = options.open(path).expect("a cache");
    assert_eq!(cache.len(), u64::from(count));
    for i in 0..count {
        let value = cache.get(&i.to_le_bytes()).expect("a lookup");
        assert_eq!(value, Some(vec![i as u8; 200]));
    }
}

/// Moves a file to another directory, and leaves a link to it.
fn move_and_link(from: &Path, to: &Path) {
    fs::rename(from, to).expect("a rename");
    symlink(to, from).expect("a link");
}

/// An operator moved the heap to a larger disk. Recovery must not give its entries up.
#[test]
fn linked_heap_is_refused_losslessly() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = dir.path().join("cache");
    filled(&path, 120);
    let reader = Options::new()
        .read_only(true)
        .open(&path)
        .expect("a reader");
    let writer = tight().open(&path).expect("a handle");
    let heap = dir.path().join("cache.heap");
    let target = elsewhere.path().join("moved");
    move_and_link(&heap, &target);
    let bytes = fs::read(&target).expect("the heap");

    let is_refused = |error: &Error| {
        let (ErrorKind::Unsupported { .. } | ErrorKind::HeapMissing { .. }) = error.kind() else {
            panic!("{error:?}");
        };
        let path = error.path().expect("a path");
        assert!(path.ends_with("cache.heap") && !error.is_corruption());
        let text = error.to_string();
        assert!(
            text.contains("symbolic link") && text.contains("heap_path"),
            "{text}"
        );
    };
    is_refused(&reader.get(&0_u32.to_le_bytes()).expect_err("a link"));
    is_refused(
        &writer
            .put(&0_u32.to_le_bytes(), b"new")
            .expect_err("a link"),
    );
    is_refused(&writer.compact().expect_err("a link"));
    drop((reader, writer));
    is_refused(&tight().open(&path).expect_err("a link"));
    // An index that must be rebuilt is rebuilt from the whole heap, or not at all.
    fs::remove_file(dir.path().join("cache.roster")).expect("the roster");
    is_refused(&Repair::new(&path).run().expect_err("a link"));
    assert_eq!(fs::read(&target).expect("the heap"), bytes);

    fs::remove_file(&heap).expect("the link");
    fs::rename(&target, &heap).expect("the heap back");
    assert_eq!(Repair::new(&path).run().expect("a repair").entries, 120);
    holds(&path, &tight(), 120);
}

/// The caller's own path may be a link: it is resolved once, when the cache is opened.
#[test]
fn given_paths_may_be_links() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (path, heap) = (dir.path().join("cache"), dir.path().join("heap"));
    let mut options = tight();
    options.heap_path(elsewhere.path().join("h"));
    drop(options.open(elsewhere.path().join("c")).expect("a cache"));
    symlink(elsewhere.path().join("c"), &path).expect("a link");
    symlink(elsewhere.path().join("h"), &heap).expect("a link");
    let mut options = tight();
    options.heap_path(&heap);
    let cache = options.open(&path).expect("a cache");
    for i in 0..120_u32 {
        cache.put(&i.to_le_bytes(), &[i as u8; 200]).expect("a put");
    }
    assert_eq!(
        cache.path(),
        elsewhere.path().join("c").canonicalize().unwrap()
    );
    drop(cache);
    holds(&path, &options, 120);
    assert_eq!(fs::read_dir(dir.path()).expect("the directory").count(), 2);
}

#[test]
fn linked_roster_is_refused_and_repaired() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = dir.path().join("cache");
    filled(&path, 120);
    let (roster, target) = (
        dir.path().join("cache.roster"),
        elsewhere.path().join("moved"),
    );
    move_and_link(&roster, &target);
    let bytes = fs::read(&target).expect("the roster");
    for read_only in [true, false] {
        let error = tight()
            .read_only(read_only)
            .open(&path)
            .expect_err("a link");
        let is_foreign = matches!(error.kind(), ErrorKind::NotACacheFile { .. });
        let named = is_foreign && error.path() == Some(&roster);
        assert!(
            named && error.to_string().contains("symbolic link"),
            "{error}"
        );
    }
    assert_eq!(Repair::new(&path).run().expect("a repair").entries, 120);
    assert_eq!(fs::read(&target).expect("the roster"), bytes);
    holds(&path, &tight(), 120);
}

/// A link that replaces the index of an open cache is not followed either.
#[test]
fn index_link_is_not_followed_later() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (path, other) = (dir.path().join("cache"), elsewhere.path().join("other"));
    filled(&path, 10);
    filled(&other, 20);
    let cache = tight()
        .staleness_check_interval(std::time::Duration::ZERO)
        .open(&path)
        .expect("a cache");
    fs::remove_file(&path).expect("the index");
    symlink(&other, &path).expect("a link");
    let error = cache.put(b"k", b"v").expect_err("a link");
    assert!(
        matches!(error.kind(), ErrorKind::NotACacheFile { .. }),
        "{error:?}"
    );
    holds(&other, &tight(), 20);
}

/// A hard link is the same file under another name, and removing one name leaves the other.
#[test]
fn hard_links_name_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    filled(&path, 60);
    let kept = dir.path().join("kept");
    fs::hard_link(dir.path().join("cache.heap"), &kept).expect("a link");
    let bytes = fs::read(&kept).expect("the first segment");
    let cache = tight().open(&path).expect("a cache");
    cache.compact().expect("compacting");
    let items: Vec<_> = cache.iter().expect("a listing").collect();
    cache.atomic_rebuild(items).expect("a rebuild");
    assert_eq!(fs::read(&kept).expect("the first segment"), bytes);
    holds(&path, &tight(), 60);
}

/// Anything but a regular file is recognized before it is opened: opening a device may have
/// effects.
#[test]
fn devices_are_never_opened() {
    for name in [
        "cache",
        "cache.heap",
        "cache.heap.1",
        "cache.roster",
        "cache.lock",
        "cache.new",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (path, at) = (dir.path().join("cache"), dir.path().join(name));
        if name == "cache.heap.1" {
            filled(&path, 10);
        }
        // Needs no rights; opening it for reading and writing would succeed at once.
        let made = Command::new("mkfifo").arg(&at).status().expect("mkfifo");
        assert!(made.success());
        let events = inotify::init(inotify::CreateFlags::NONBLOCK).expect("inotify");
        inotify::add_watch(&events, &at, inotify::WatchFlags::OPEN).expect("a watch");
        let opened = tight().open(&path).and_then(|cache| {
            (0..200_u32).try_for_each(|i| cache.put(&i.to_le_bytes(), &[0; 200]).map(drop))
        });
        assert!(opened.is_err(), "{name}");
        drop(Options::new().read_only(true).open(&path));
        drop(Repair::new(&path).run());
        #[cfg(feature = "inspect")]
        drop(mmapcache::inspect::CacheFiles::open(&path, None));
        drop(MmapCache::open(&path));
        let mut buffer = [0; 1024];
        let seen = rustix::io::read(&events, &mut buffer);
        assert_eq!(seen, Err(rustix::io::Errno::AGAIN), "{name} was opened");
    }
}
