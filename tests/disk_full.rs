//! A full disk: every write succeeds, or is refused with the old value intact; deletions work, and
//! no process gets a SIGBUS.
//!
//! Child processes use the full disk: a signal then ends the child, and the test says which. Needs
//! small file systems, and so root; see `tests/volume/mod.rs`.

#![cfg(target_os = "linux")]

mod child;
mod volume;

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use child::contents::Random;
use child::{Child, Part, hear, say, tight};
use mmapcache::{Cache, Error, ErrorKind, MmapCache, Options, Repair, Result};
use volume::{Kind, Volume};

/// Not a test: the entry point of the child processes.
#[test]
fn child() {
    child::play(&[
        ("uses full disk", uses_full_disk),
        ("opens", opens),
        ("counts", counts),
        ("reads later", reads_later),
        ("splits", splits),
        ("evicts", evicts),
    ]);
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Offset of the boot id in the index header: `docs/format.md`.
const BOOT_ID: u64 = 448;

fn key(i: u64) -> Vec<u8> {
    format!("key {i}").into_bytes()
}

/// Regions of 16 slots and segments of 16 KiB, or the defaults.
fn options(small: bool) -> Options {
    if small { tight() } else { Options::new() }
}

/// A cache and its expected entries.
struct Checker {
    cache: MmapCache,
    model: Model,
    options: Options,
    path: std::path::PathBuf,
    random: Random,
    /// Whether the disk may be full.
    full: bool,
    refused: u64,
    /// Deletions since the last successful put, which left the reserve complete.
    deletions: u64,
}

/// Deletions that the reserve of the smallest heap allows.
const RESERVED: u64 = 20;

impl Checker {
    /// Returns the result, or `None` if the operation was refused for lack of room and that is
    /// allowed.
    #[track_caller]
    fn happened<T>(&mut self, what: &str, outcome: Result<T>) -> Option<T> {
        match outcome {
            Ok(done) => Some(done),
            Err(error) if matches!(error.kind(), ErrorKind::DiskFull { .. }) && self.full => {
                assert!(!error.is_corruption());
                self.refused += 1;
                None
            }
            Err(error) => panic!("{what}: {error:?}"),
        }
    }

    fn put(&mut self, key: Vec<u8>, len: usize) {
        let value = vec![self.random.below(256) as u8; len];
        let outcome = self.cache.put(&key, &value);
        if self.happened("put", outcome).is_some() {
            self.model.insert(key.clone(), value);
            self.deletions = 0;
        }
        let found = self.cache.get(&key).expect("a lookup");
        assert_eq!(found.as_ref(), self.model.get(&key));
    }

    fn delete(&mut self, key: &[u8]) {
        let outcome = self.cache.delete(key);
        self.deletions += 1;
        match self.happened("delete", outcome) {
            Some(found) => assert_eq!(found, self.model.remove(key).is_some()),
            None => assert!(self.deletions > RESERVED, "deleting works on a full disk"),
        }
        let found = self.cache.get(key).expect("a lookup");
        assert_eq!(found.as_ref(), self.model.get(key));
    }

    fn open_again(&mut self) {
        let outcome = self.options.open(&self.path);
        if let Some(cache) = self.happened("open", outcome) {
            self.cache = cache;
        }
    }

    /// Returns some of the present keys.
    fn some(&mut self, count: usize) -> Vec<Vec<u8>> {
        let first = self.random.below(self.model.len().max(1) as u64) as usize;
        let keys = self.model.keys().skip(first).chain(self.model.keys());
        keys.take(count).cloned().collect()
    }

    fn compare(&self) {
        assert_eq!(self.cache.len(), self.model.len() as u64);
        let listed: Model = self
            .cache
            .iter()
            .expect("a listing")
            .map(|item| item.expect("an item"))
            .collect();
        assert_eq!(listed, self.model);
        for (key, value) in &self.model {
            assert_eq!(self.cache.get(key).expect("a lookup").as_ref(), Some(value));
        }
        let report = self.cache.verify().run().expect("a report");
        assert!(report.is_clean(), "{:?}", report.problems);
    }

    /// Runs every kind of operation, each on another state of the full disk.
    fn round(&mut self, round: u64) {
        for i in 0..40 {
            let len = [0, 30, 300, 1500][self.random.below(4) as usize];
            self.put(key(1_000 * round + i), len);
        }
        for key in self.some(20) {
            let len = self.random.below(900) as usize;
            self.put(key, len);
        }
        for key in self.some(10) {
            self.delete(&key);
        }
        let outcome = self.cache.compact();
        self.happened("compact", outcome);
        self.put(key(round), 100);
        for key in self.some(30) {
            self.delete(&key);
        }
        let items: Vec<_> = self.model.clone().into_iter().map(Ok::<_, Error>).collect();
        let outcome = self.cache.atomic_rebuild(items);
        self.happened("atomic_rebuild", outcome);
        let outcome = self.cache.flush();
        self.happened("flush", outcome);
        self.put(key(round + 1), 3_000);
        self.open_again();
        self.compare();
    }

    /// Changes the boot id: the next writer reads the heap.
    fn recover(&mut self) {
        self.put(key(7), 7);
        let index = std::fs::File::options()
            .write(true)
            .open(&self.path)
            .expect("the index");
        let other = self.random.below(u64::MAX).to_le_bytes();
        index.write_all_at(&other, BOOT_ID).expect("another boot");
        // Recovery needs room; until it succeeds, nothing can be written.
        self.deletions = RESERVED;
        self.open_again();
        let mut reader = self.options.clone();
        let reader = reader.read_only(true).open(&self.path).expect("a reader");
        for (key, value) in &self.model {
            assert_eq!(reader.get(key).expect("a lookup").as_ref(), Some(value));
        }
    }

    fn clear(&mut self) {
        let outcome = self.cache.clear();
        if self.happened("clear", outcome).is_some() {
            self.model.clear();
        }
        self.compare();
    }
}

/// Uses a cache, first while the disk may be full and then with room. The numbers select the
/// geometry and the seed.
fn uses_full_disk(part: &Part) {
    let options = options(part.numbers[0] != 0);
    let cache = options.open(&part.path).expect("a cache, full disk or not");
    let items = cache.iter().expect("a listing");
    let model = items.map(|item| item.expect("an item")).collect();
    let mut checker = Checker {
        cache,
        model,
        options,
        path: part.path.clone(),
        random: Random::new(part.numbers[1]),
        full: true,
        refused: 0,
        deletions: 0,
    };
    checker.compare();
    checker.round(1);
    checker.round(2);
    checker.recover();
    checker.clear();
    checker.round(3);
    say(checker.refused);
    assert_eq!(hear().as_deref(), Some("there is room"));
    checker.full = false;
    // After a refusal cleaning pauses for 256 writes; that is not a refusal of its own.
    checker.round(4);
    checker.recover();
    checker.round(5);
    checker.clear();
    checker.round(6);
}

/// Creates a cache on a volume with some entries that the child does not know.
fn prepare(path: &Path, small: bool, entries: u64) {
    let cache = options(small).open(path).expect("a cache");
    for i in 0..entries {
        let len = [0, 30, 300, 900][(i % 4) as usize];
        cache.put(&key(i), &vec![i as u8; len]).expect("a put");
    }
}

/// Uses a full disk with `left` bytes free. Returns how many operations were refused.
fn work_with(kind: Kind, small: bool, left: u64) -> Option<u64> {
    let volume = Volume::mount(kind, 8 << 20)?;
    prepare(&volume.cache(), small, 150);
    volume.forget_pages();
    volume::read_all(volume.path());
    volume.fill(left);
    let numbers = [u64::from(small), left / 1024 + 1];
    let mut child = Child::start("uses full disk", &volume.cache(), &numbers);
    let refused = child.line();
    let refused = refused.unwrap_or_else(|| panic!("{kind:?} {small} {left}: the child is gone"));
    volume.make_room();
    child.tell("there is room");
    child.finish();
    Some(refused.parse().expect("a number"))
}

/// Leaves these amounts of room in KiB, one after the other.
fn sweep(kind: Kind, small: bool, lefts: impl IntoIterator<Item = u64>) {
    let mut refused = Vec::new();
    for left in lefts {
        let Some(count) = work_with(kind, small, left << 10) else {
            return;
        };
        refused.push(count);
    }
    eprintln!("{kind:?}, small {small}: refused {refused:?}");
    assert!(refused[0] > 50, "the disk was not full: {refused:?}");
}

// Whatever room a tmpfs has left, each operation happens or is refused.
#[test]
fn full_tmpfs_volume_writes_or_refuses() {
    sweep(Kind::Tmpfs, true, [0, 4, 8, 12, 20, 32, 48, 64, 80, 104]);
    sweep(Kind::Tmpfs, false, [0, 24, 64, 108]);
}

// Every file was read from beginning to end, holes included, so that the page cache has it in large
// units, and a store to one needs blocks for the whole unit.
#[test]
fn full_ext_volume_writes_or_refuses() {
    sweep(Kind::Ext4(4096), true, [0, 4, 16, 40, 72, 96]);
    sweep(Kind::Ext4(4096), false, [0, 24, 64]);
}

// Blocks that are smaller than a page are allocated before a store needs them.
// H2: each store goes to an allocated byte, on a full disk too.
#[test]
fn sub_page_blocks_cause_no_sigbus() {
    sweep(Kind::Ext4(1024), true, [0, 9, 36, 75]);
    sweep(Kind::Ext4(1024), false, [0]);
}

/// A directory of several pages ends where files are read in larger units.
#[test]
fn multi_page_directory_causes_no_sigbus() {
    // How much room the files have when the disk is full varies.
    let mut splits = 0;
    for entries in [24_000, 12_000, 20_000, 16_000, 10_000, 8_000] {
        let Some(volume) = Volume::mount(Kind::Ext4(4096), 32 << 20) else {
            return;
        };
        let cache = Options::new().region_slots(16).open(volume.cache());
        let cache = cache.expect("a cache");
        let mut writer = cache.writer().expect("the lock");
        for i in 0..entries {
            writer.put(&key(i), b"v").expect("a put");
        }
        drop(writer);
        drop(cache);
        volume.forget_pages();
        volume::read_all(volume.path());
        volume.fill(0);
        let split = Child::start("splits", &volume.cache(), &[entries]).finish();
        splits += split.parse::<u64>().expect("a number");
    }
    assert!(splits > 0, "nothing was tried");
}

/// Puts new keys until the disk is full, and says how many regions were split.
fn splits(part: &Part) {
    let entries = part.numbers[0];
    let cache = MmapCache::open(&part.path).expect("the cache");
    let before = cache.stats().expect("numbers").slots;
    let mut next = entries;
    while cache.put(&key(next), b"v").is_ok() {
        next += 1;
    }
    for i in 0..next {
        assert!(cache.get(&key(i)).expect("a lookup").is_some(), "{i}");
    }
    say((cache.stats().expect("numbers").slots - before) / 16);
}

// Tries each 4 KiB of room on every file system.
#[test]
#[ignore = "takes two minutes"]
fn soak_full_disks_write_or_refuse() {
    for kind in [Kind::Tmpfs, Kind::Ext4(4096), Kind::Ext4(1024)] {
        for small in [true, false] {
            sweep(kind, small, (0..=128).step_by(4).chain([160, 256, 512]));
        }
    }
}

/// A value that is mostly zeros, so that a copy of the cache can have many holes.
fn zeros(i: u64) -> Vec<u8> {
    let mut value = vec![0; 6_000];
    value[..8].copy_from_slice(&i.to_le_bytes());
    value
}

const ZEROS: u64 = 200;

fn assert_zeros(cache: &MmapCache) {
    for i in 0..ZEROS {
        let found = cache.get(&key(i)).expect("a lookup");
        assert_eq!(found, Some(zeros(i)), "{i}");
    }
}

/// Opens a sparse copy for reading, and reads when the parent says so.
fn reads_later(part: &Part) {
    let cache = Options::new().read_only(true).open(&part.path);
    let cache = cache.expect("a reader");
    for i in [0, ZEROS - 1] {
        assert_eq!(cache.get(&key(i)).expect("a lookup"), Some(zeros(i)));
    }
    say("opened");
    assert_eq!(hear().as_deref(), Some("read"));
    assert_zeros(&cache);
}

/// Opens a sparse copy: for reading if the number says so, otherwise for writing.
fn opens(part: &Part) {
    let reads = part.numbers[0] != 0;
    let cache = match Options::new().read_only(reads).open(&part.path) {
        Ok(cache) => cache,
        Err(error) if matches!(error.kind(), ErrorKind::DiskFull { .. }) => {
            assert!(!error.is_corruption());
            return say("refused");
        }
        Err(error) => panic!("{error:?}"),
    };
    assert_zeros(&cache);
    assert_eq!(cache.keys().expect("a listing").count() as u64, ZEROS);
    if !reads {
        for i in 0..ZEROS {
            cache.put(&key(i), b"over it").expect("a put");
        }
        cache.compact().expect("room to compact");
        let report = cache.verify().run().expect("a report");
        assert!(report.is_clean(), "{:?}", report.problems);
    }
    say("opened");
}

fn open_copy(path: &Path, reads: bool) -> String {
    Child::start("opens", path, &[u64::from(reads)]).finish()
}

/// Makes a copy without its zeros, when some of them have no room. On a disk, readers need no room.
fn copy_with_holes(kind: Kind, reader: &str) {
    let Some(volume) = Volume::mount(kind, 8 << 20) else {
        return;
    };
    let source = tempfile::tempdir().expect("a directory");
    // A table with holes of its own, so that opening already needs room.
    let cache = Options::new()
        .region_slots(512)
        .open(source.path().join("cache"));
    let cache = cache.expect("a cache");
    for i in 0..ZEROS {
        cache.put(&key(i), &zeros(i)).expect("a put");
    }
    cache.flush().expect("a flush");
    drop(cache);
    for (name, _) in volume::listing(source.path()) {
        let copied = Command::new("cp")
            .arg("--sparse=always")
            .args([source.path().join(&name), volume.path().join(&name)])
            .status();
        assert!(copied.expect("cp").success());
    }
    volume.forget_pages();
    volume.fill(0);
    let before = volume.listing();
    assert_eq!(open_copy(&volume.cache(), true), reader);
    assert_eq!(open_copy(&volume.cache(), false), "refused");
    assert_eq!(volume.listing(), before);
    volume.make_room();
    let mut reader = Child::start("reads later", &volume.cache(), &[]);
    reader.expect("opened");
    volume.fill(0);
    reader.tell("read");
    reader.finish();
    volume.make_room();
    assert_eq!(open_copy(&volume.cache(), true), "opened");
    assert_eq!(open_copy(&volume.cache(), false), "opened");
}

// Writers refuse a sparse copy on a full disk; readers serve it.
#[test]
fn sparse_copy_serves_only_readers() {
    copy_with_holes(Kind::Ext4(4096), "opened");
    copy_with_holes(Kind::Ext4(1024), "opened");
}

// On a full tmpfs reading needs room too: readers refuse the copy as well.
#[test]
fn sparse_tmpfs_copy_is_refused() {
    copy_with_holes(Kind::Tmpfs, "refused");
}

/// Sets a file's times later than any writer can have.
fn touch_later(file: &Path) {
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    let file = std::fs::File::options()
        .write(true)
        .open(file)
        .expect("the file");
    file.set_modified(std::time::SystemTime::now())
        .expect("its time");
}

/// A single hole is noticed; and if there is room for it, the rest of the file needs none.
#[test]
fn one_hole_needs_one_block() {
    for kind in [Kind::Ext4(4096), Kind::Tmpfs] {
        let Some(volume) = Volume::mount(kind, 8 << 20) else {
            return;
        };
        prepare(&volume.cache(), false, 2_000);
        let heap = volume.path().join("cache.heap");
        let file = std::fs::File::options()
            .write(true)
            .open(&heap)
            .expect("the heap");
        let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        // At zeros after the last record, so that nothing is corrupt, and no recovery is needed.
        let last = file.metadata().expect("the heap's length").len() / 4096 - 1;
        rustix::fs::fallocate(&file, flags, last * 4096, 4096).expect("a hole");
        drop(file);
        // File times tell that another program changed the files; after a kill, to a second.
        touch_later(&heap);
        volume.fill(0);
        assert_eq!(
            Child::start("counts", &volume.cache(), &[]).finish(),
            "refused"
        );
        volume.make_room();
        volume.fill(16 << 10);
        let found = Child::start("counts", &volume.cache(), &[]).finish();
        assert!(found.parse::<u64>().expect("a number") > 1_900, "{found}");
    }
}

/// Opens the cache for writing, deletes an entry and says how many others it finds.
fn counts(part: &Part) {
    let counted = MmapCache::open(&part.path).and_then(|cache| {
        cache.delete(&key(1_999))?;
        let items = cache.iter()?.filter(Result::is_ok);
        Ok(items.count())
    });
    match counted {
        Ok(count) => say(count),
        Err(error) if matches!(error.kind(), ErrorKind::DiskFull { .. }) => say("refused"),
        Err(error) => panic!("{error:?}"),
    }
}

/// Puts entries with values of `len` bytes until the disk is full. Returns how many.
fn fill_up(cache: &MmapCache, len: usize) -> u64 {
    for i in 0.. {
        match cache.put(&key(i), &vec![i as u8; len]) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::DiskFull { .. }) => return i,
            Err(error) => panic!("{error:?}"),
        }
    }
    unreachable!("the disk is never full")
}

/// A cache with its own eviction, which deletes its oldest entries when the disk is full.
#[test]
fn deleting_oldest_entries_makes_room() {
    let Some(volume) = Volume::mount(Kind::Tmpfs, 8 << 20) else {
        return;
    };
    let cache = MmapCache::open(volume.cache()).expect("a cache");
    let full = fill_up(&cache, 20_000);
    assert!(full > 300, "{full}");
    let mut next = full;
    for round in 0..5 {
        for i in 0..60 {
            let found = cache.delete(&key(60 * round + i));
            assert!(found.expect("deleting works on a full disk"));
        }
        // A record without room for its copy stays in its place.
        match cache.compact() {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::DiskFull { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
        for _ in 0..20 {
            cache.put(&key(next), &[1; 20_000]).expect("room again");
            next += 1;
        }
    }
    assert_eq!(cache.len(), next - 300);
    for i in 300..full {
        let found = cache.get(&key(i)).expect("a lookup");
        assert_eq!(found, Some(vec![i as u8; 20_000]), "{i}");
    }
    let report = cache.verify().run().expect("a report");
    assert!(report.is_clean(), "{:?}", report.problems);
}

/// Overwriting leaves more dead bytes than a small disk has room for, long before cleaning begins
/// by itself.
#[test]
fn disk_full_of_dead_bytes_accepts() {
    for (kind, mib, len) in [
        (Kind::Tmpfs, 6, 60_000),
        (Kind::Tmpfs, 6, 900),
        (Kind::Ext4(4096), 12, 2_000_000),
    ] {
        let Some(volume) = Volume::mount(kind, mib << 20) else {
            return;
        };
        let cache = MmapCache::open(volume.cache()).expect("a cache");
        let entries = (2 << 20) / len as u64 + 1;
        let mut writer = cache.writer().expect("the lock");
        for i in 0..20 * entries {
            let value = vec![i as u8; len];
            writer
                .put(&key(i % entries), &value)
                .expect("dead bytes make room");
        }
        drop(writer);
        assert_eq!(cache.len(), entries);
        for i in 19 * entries..20 * entries {
            let found = cache.get(&key(i % entries)).expect("a lookup");
            assert_eq!(found, Some(vec![i as u8; len]));
        }
        let report = cache.verify().run().expect("a report");
        assert!(report.is_clean(), "{:?}", report.problems);
    }
}

/// Deletions may use up their reserve; then only clearing makes room: it needs no more than it
/// frees.
#[test]
fn clear_empties_a_full_disk() {
    for (kind, mib, len) in [
        (Kind::Tmpfs, 1, 100),
        (Kind::Tmpfs, 8, 100),
        (Kind::Tmpfs, 8, 60_000),
        (Kind::Ext4(4096), 8, 100),
        (Kind::Ext4(1024), 8, 900),
    ] {
        let Some(volume) = Volume::mount(kind, mib << 20) else {
            return;
        };
        let cache = MmapCache::open(volume.cache()).expect("a cache");
        let mut before = 0;
        for round in 0..3 {
            let entries = fill_up(&cache, len);
            volume.fill(0);
            if round == 1 {
                cache.flush().expect("a flush");
            }
            let deleted = (0..entries).take_while(|&i| cache.delete(&key(i)).is_ok());
            let deleted = deleted.count() as u64;
            assert_eq!(cache.len(), entries - deleted, "{kind:?}");
            cache.clear().expect("clearing a full disk");
            assert_eq!(cache.len(), 0);
            assert_eq!(cache.get(&key(entries - 1)).expect("a lookup"), None);
            let report = cache.verify().run().expect("a report");
            assert!(report.is_clean(), "{:?}", report.problems);
            volume.make_room();
            assert!(
                entries * 3 > before * 2,
                "{kind:?}: {entries}, was {before}"
            );
            before = entries;
        }
        drop(cache);
        let cache = MmapCache::open(volume.cache()).expect("the cache");
        assert_eq!(cache.len(), 0);
        cache.put(b"k", b"v").expect("a put");
    }
}

/// If the file system reports no sizes, no limit is known.
#[test]
fn ramfs_without_sizes_is_not_full() {
    let Some(volume) = Volume::mount(Kind::Ramfs, 0) else {
        return;
    };
    let stat = rustix::fs::statvfs(volume.path()).expect("the state of the file system");
    assert_eq!(
        stat.f_blocks, 0,
        "this is about file systems that do not tell"
    );
    let cache = MmapCache::open(volume.cache()).expect("a cache");
    for i in 0..5_000 {
        cache.put(&key(i), &[1; 300]).expect("a put");
    }
    assert!(cache.verify().run().expect("a report").is_clean());
    drop(cache);
    let cache = MmapCache::open(volume.cache()).expect("the cache");
    assert_eq!(cache.len(), 5_000);
}

/// Without any room, the reserve guarantees this many deletions.
#[test]
fn full_disk_allows_eighty_deletions() {
    for kind in [Kind::Tmpfs, Kind::Ext4(4096), Kind::Ext4(1024)] {
        let Some(volume) = Volume::mount(kind, 8 << 20) else {
            return;
        };
        let cache = MmapCache::open(volume.cache()).expect("a cache");
        let entries = fill_up(&cache, 100);
        volume.fill(0);
        let deleted = (0..entries).take_while(|&i| cache.delete(&key(i)).is_ok());
        let deleted = deleted.count();
        eprintln!("{kind:?}: {deleted} of {entries}");
        assert!(deleted >= 80);
        assert_eq!(cache.len(), entries - deleted as u64);
    }
}

// A creation or a rebuild without room leaves nothing.
#[test]
fn failed_creation_leaves_nothing() {
    for (kind, step) in [
        (Kind::Tmpfs, 4),
        (Kind::Ext4(4096), 4),
        (Kind::Ext4(1024), 3),
    ] {
        let Some(volume) = Volume::mount(kind, 8 << 20) else {
            return;
        };
        let mut refused = 0;
        for left in (0..=72).step_by(step) {
            volume.fill(left << 10);
            let before = volume.listing();
            match MmapCache::open(volume.cache()) {
                Ok(cache) => {
                    cache.put(b"k", b"v").expect("the first page is there");
                    drop(cache);
                    for (name, _) in volume.listing() {
                        if name.starts_with("cache") {
                            std::fs::remove_file(volume.path().join(name)).expect("the cache");
                        }
                    }
                }
                Err(error) => {
                    assert!(
                        matches!(error.kind(), ErrorKind::DiskFull { .. }),
                        "{error:?}"
                    );
                    refused += 1;
                    let mut after = volume.listing();
                    // It guards creation, and is never removed.
                    after.retain(|(name, _)| name != "cache.lock");
                    assert_eq!(after, before, "{left} KiB left");
                }
            }
            let _ = std::fs::remove_file(volume.path().join("cache.lock"));
            volume.make_room();
        }
        // It takes 16 KiB.
        assert!((4..=8).contains(&refused), "{refused}");
        let cache = MmapCache::open(volume.cache()).expect("a cache");
        cache.put(b"k", b"v").expect("a put");
        let many = (0..200_000_u64).map(|i| Ok::<_, Error>((key(i), [0; 100])));
        let error = cache.atomic_rebuild(many).expect_err("no room");
        assert!(
            matches!(error.kind(), ErrorKind::DiskFull { .. }),
            "{error:?}"
        );
        assert_eq!(
            cache.get(b"k").expect("a lookup").as_deref(),
            Some(&b"v"[..])
        );
        assert_eq!(volume.listing().len(), 4, "{:?}", volume.listing());
    }
}

#[test]
fn repair_without_room_changes_nothing() {
    for kind in [Kind::Tmpfs, Kind::Ext4(4096)] {
        let Some(volume) = Volume::mount(kind, 8 << 20) else {
            return;
        };
        let path = volume.cache();
        prepare(&path, true, 300);
        let cache = MmapCache::open(&path).expect("the cache");
        let listed: Result<Model> = cache.iter().expect("a listing").collect();
        let model = listed.expect("no damage");
        drop(cache);
        std::fs::remove_file(volume.path().join("cache.roster")).expect("the roster");
        for left in (0..16).step_by(4) {
            volume.fill(left << 10);
            let before = volume.listing();
            let error = Repair::new(&path).run().expect_err("no room");
            assert!(
                matches!(error.kind(), ErrorKind::DiskFull { .. }),
                "{error:?}"
            );
            assert_eq!(volume.listing(), before);
            volume.make_room();
        }
        Repair::new(&path).run().expect("a repair");
        let cache = MmapCache::open(&path).expect("the cache");
        let listed: Result<Model> = cache.iter().expect("a listing").collect();
        assert_eq!(listed.expect("no damage"), model);
    }
}

#[test]
fn exhausted_inodes_are_disk_full() {
    let Some(volume) = Volume::mount(Kind::Tmpfs, 8 << 20) else {
        return;
    };
    let limited = Command::new("mount")
        .args(["-o", "remount,nr_inodes=8"])
        .arg(volume.path())
        .status();
    assert!(limited.expect("mount").success());
    let cache = tight().open(volume.cache()).expect("a cache");
    let mut put = 0;
    let full = loop {
        match cache.put(&key(put), &[1; 3_000]) {
            Ok(_) => put += 1,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(full.kind(), ErrorKind::DiskFull { needed: 0, .. }),
        "{full:?}"
    );
    assert!(full.to_string().contains("another file"), "{full}");
    for i in 0..put {
        let found = cache.get(&key(i)).expect("a lookup");
        assert_eq!(found, Some(vec![1; 3_000]), "{i}");
    }
    assert!(cache.delete(&key(0)).expect("deleting works"));
    assert_eq!(cache.len(), put - 1);
    cache.clear().expect("clearing needs no room");
    assert_eq!(cache.len(), 0);
    assert!(cache.verify().run().expect("a report").is_clean());
}

/// Inserts four times what the disk has room for, in values of up to 64 KiB.
fn evicts(part: &Part) {
    let cache = Cache::open(&part.path).expect("a cache");
    let mut random = Random::new(7);
    let mut bytes = 0;
    for number in 0.. {
        let value = vec![number as u8; random.below(65_536) as usize];
        let inserted = cache.insert(key(number), &value);
        inserted.unwrap_or_else(|error| panic!("{number} after {bytes} bytes: {error}"));
        assert_eq!(cache.get(key(number)).expect("a value"), Some(value));
        bytes += random.below(65_536);
        if bytes > 4 * part.numbers[0] {
            break;
        }
    }
    let report = cache.verify().run().expect("a report");
    assert!(report.is_clean(), "{:?}", report.problems);
    say(cache.len_with_expired());
}

// A cache without limits evicts on a full disk before it refuses: whatever is inserted is stored.
#[test]
fn full_disk_evicts_oldest_entries() {
    const BYTES: u64 = 24 << 20;
    for kind in [Kind::Tmpfs, Kind::Ext4(4096)] {
        let Some(volume) = Volume::mount(kind, BYTES) else {
            return;
        };
        let mut child = Child::start("evicts", &volume.cache(), &[BYTES]);
        let left = child.line().expect("it stored everything");
        let left: u64 = left.parse().expect("a number");
        child.finish();
        assert!(left > 100, "{kind:?}: {left}");
    }
}
