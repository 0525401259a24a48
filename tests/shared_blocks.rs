//! File systems on which files share blocks, or are copied on write: on a full disk a write
//! succeeds or is refused there too, and no process gets a SIGBUS.
//!
//! Child processes use the full disk: a signal then ends the child, and the test says so. Needs
//! file systems, and so root; see `tests/volume/mod.rs`.

#![cfg(target_os = "linux")]

mod child;
mod volume;

use std::path::Path;
use std::process::Command;

use child::{Child, Part, hear, say};
use mmapcache::{ErrorKind, MmapCache};
use volume::{Kind, Volume};

const ENTRIES: u64 = 20_000;
const MIB: u64 = 1 << 20;

/// Not a test: the entry point of the child processes.
#[test]
fn child() {
    child::play(&[("overwrites", overwrites)]);
}

fn key(i: u64) -> Vec<u8> {
    format!("key {i}").into_bytes()
}

/// Opens the cache, waits until the disk is full, overwrites and deletes entries all over it, and
/// prints how many overwrites succeeded.
fn overwrites(part: &Part) {
    let cache = MmapCache::open(&part.path).expect("the cache");
    if part.numbers[0] != 0 {
        cache
            .backup()
            .to(part.path.with_file_name("copy"))
            .expect("a copy");
    }
    cache.put(&key(0), &[9; 1000]).expect("a put");
    say("opened");
    assert_eq!(hear().as_deref(), Some("full"));
    let mut done = 0;
    for i in 0..2_000 {
        let at = i * 7_919 % ENTRIES;
        let outcome = cache.put(&key(at), &[2; 1000]);
        match outcome {
            Ok(_) => done += 1,
            Err(error) if matches!(error.kind(), ErrorKind::DiskFull { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
        let expected = if outcome_is_new(&cache, at) { 2 } else { 1 };
        assert!(at == 0 || cache.get(&key(at)).expect("a lookup") == Some(vec![expected; 1000]));
        if i % 500 == 499 {
            match cache.flush() {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), ErrorKind::DiskFull { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    }
    for i in 0..20 {
        match cache.delete(&key(i)) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::DiskFull { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(cache.verify().run().expect("a report").is_clean());
    say(done);
}

fn outcome_is_new(cache: &MmapCache, at: u64) -> bool {
    cache
        .get(&key(at))
        .expect("a lookup")
        .is_some_and(|value| value[0] == 2)
}

/// How the files come to share blocks with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    None,
    Backup,
    /// Another program shares them before the cache is opened.
    Before,
    /// Another program shares them while the cache is open.
    While,
}

fn share(dir: &Path) {
    let target = dir.join("shared");
    std::fs::create_dir(&target).expect("a directory");
    for (name, _) in volume::listing(dir) {
        if name.starts_with("cache") {
            let copied = Command::new("cp")
                .arg("--reflink=always")
                .args([dir.join(&name), target.join(&name)])
                .status();
            assert!(copied.expect("cp").success());
        }
    }
}

fn fill(kind: Kind, bytes: u64, sharing: Sharing) {
    let Some(volume) = Volume::mount(kind, bytes) else {
        return;
    };
    let cache = MmapCache::open(volume.cache()).expect("a cache");
    for i in 0..ENTRIES {
        cache.put(&key(i), &[1; 1000]).expect("a put");
    }
    cache.flush().expect("a flush");
    drop(cache);
    volume.forget_pages();
    volume::read_all(volume.path());
    if sharing == Sharing::Before {
        share(volume.path());
    }
    let copies = u64::from(sharing == Sharing::Backup);
    let mut child = Child::start("overwrites", &volume.cache(), &[copies]);
    child.expect("opened");
    if sharing == Sharing::While {
        share(volume.path());
    }
    // During this time no writer checks what is shared.
    std::thread::sleep(std::time::Duration::from_millis(300));
    volume.fill(0);
    child.tell("full");
    let done = child.finish();
    eprintln!("{kind:?}, {sharing:?}: {done} overwrites happened");
}

#[test]
fn xfs_sharing_blocks_never_gives_sigbus() {
    for sharing in [
        Sharing::None,
        Sharing::Backup,
        Sharing::Before,
        Sharing::While,
    ] {
        fill(Kind::Xfs, 320 * MIB, sharing);
    }
}

#[test]
fn btrfs_without_room_never_gives_sigbus() {
    for sharing in [Sharing::None, Sharing::Backup] {
        fill(Kind::Btrfs, 256 * MIB, sharing);
    }
}
