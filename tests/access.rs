//! Permissions and owners of a cache's files, and files that a cache must not touch.
//!
//! Changing owners needs root; otherwise these tests say that they did not run, and fail if `CI` is
//! set.
#![cfg(target_os = "linux")]

mod child;
mod collider;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use child::scratch::in_memory;
use child::user::is_root;
use child::{Child, Part, say, tight};
use mmapcache::{ErrorKind, MmapCache, Options, Repair, Result};
use rustix::fs::{FlockOperation, Mode, flock};

/// Not a test: the entry point of the child processes.
#[test]
fn child() {
    child::play(&[("has a umask", has_a_umask), ("acts as user", acts_as_user)]);
}

/// Offset of the boot id in the index header: `docs/format.md`.
const BOOT_ID: u64 = 448;

/// Changes the boot id: the next writer reads the heap.
fn reboot(path: &Path) {
    let index = fs::File::options()
        .write(true)
        .open(path)
        .expect("the index");
    index.write_all_at(&[7; 8], BOOT_ID).expect("another boot");
}

/// Makes the cache create every kind of file: segments, generations, a larger table, a recovery.
fn everything(path: &Path, options: &Options) -> Result<()> {
    let fill = |cache: &MmapCache| -> Result<()> {
        for i in 0..300_u32 {
            cache.put(&(i % 120).to_le_bytes(), &[i as u8; 200])?;
        }
        Ok(())
    };
    let cache = options.open(path)?;
    fill(&cache)?;
    cache.compact()?;
    let items: Vec<_> = cache.iter()?.collect();
    cache.atomic_rebuild(items)?;
    fill(&cache)?;
    let seed = collider::seed_of(path);
    for i in 0..40 {
        cache.put(&collider::key(seed, i), b"outgrows regions of 16 slots")?;
    }
    cache.put(b"and so", b"there is something to recover")?;
    drop(cache);
    reboot(path);
    fill(&options.open(path)?)?;
    options.open(path)?.clear()?;
    fill(&options.open(path)?)
}

/// Rebuilds index and roster.
fn repair(path: &Path) {
    fs::remove_file(path.with_file_name("cache.roster")).expect("the roster");
    let repaired = Repair::new(path).run().expect("a repair");
    assert!(repaired.rebuilt);
}

fn files(path: &Path) -> Vec<PathBuf> {
    let dir = path.parent().expect("a directory");
    let entries = fs::read_dir(dir).expect("the directory");
    entries
        .map(|entry| entry.expect("an entry").path())
        .collect()
}

fn modes(path: &Path) -> BTreeSet<u32> {
    files(path)
        .iter()
        .map(|file| file.metadata().expect("a mode").mode() & 0o7777)
        .collect()
}

fn has_a_umask(part: &Part) {
    rustix::process::umask(Mode::from_raw_mode(part.numbers[0] as u32));
    let mut options = tight();
    if part.numbers[1] != 0 {
        options.file_mode(part.numbers[1] as u32);
    }
    everything(&part.path, &options).expect("nothing in the way");
    repair(&part.path);
}

// Only the owner can access the files, unless the caller asks otherwise, whatever the umask is.
#[test]
fn files_are_private_unless_asked_otherwise() {
    for umask in [0, 0o077, 0o777] {
        for (asked, mode) in [(0, 0o600), (0o640, 0o640), (0o666, 0o666)] {
            let dir = in_memory();
            let path = dir.path().join("cache");
            Child::start("has a umask", &path, &[umask, asked]).finish();
            assert_eq!(modes(&path), BTreeSet::from([mode]), "{umask:o}");
        }
    }
}

/// A cache in a directory that all users may write to, with all its files given to one user.
fn owned_by(owner: u32, group: u32, mode: u32) -> (tempfile::TempDir, PathBuf) {
    let dir = in_memory();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).expect("a mode");
    let path = dir.path().join("cache");
    let cache = tight().open(&path).expect("a cache");
    for i in 0..120_u32 {
        cache.put(&i.to_le_bytes(), &[i as u8; 200]).expect("a put");
    }
    drop(cache);
    for file in files(&path) {
        chown(&file, Some(owner), Some(group)).expect("an owner");
        fs::set_permissions(&file, Permissions::from_mode(mode)).expect("a mode");
    }
    (dir, path)
}

fn owners(path: &Path) -> BTreeSet<(u32, u32, u32)> {
    let metas = files(path)
        .into_iter()
        .filter(|file| file.extension() != Some("lock".as_ref()))
        .map(|file| file.metadata().expect("an owner"));
    metas
        .map(|meta| (meta.uid(), meta.gid(), meta.mode() & 0o7777))
        .collect()
}

// Root keeps mode, owner and group.
#[test]
fn root_keeps_mode_and_owners() {
    if !is_root() {
        return;
    }
    for mode in [0o600, 0o640, 0o664] {
        let (_dir, path) = owned_by(1234, 5678, mode);
        everything(&path, &tight()).expect("nothing in the way of root");
        repair(&path);
        assert_eq!(owners(&path), BTreeSet::from([(1234, 5678, mode)]));
    }
}

/// Becomes the user and group of the numbers, and changes everything.
fn acts_as_user(part: &Part) {
    let (user, group) = (part.numbers[0] as u32, part.numbers[1] as u32);
    child::user::become_user(user, group);
    match everything(&part.path, &tight()) {
        Ok(()) => {
            repair(&part.path);
            say("done");
        }
        Err(error) => {
            let path = error.path().expect("a path");
            assert!(path.starts_with(part.path.parent().expect("a directory")));
            say(error
                .io_error()
                .unwrap_or_else(|| panic!("{error:?}"))
                .kind());
        }
    }
}

// Other users who may write can do everything, and gain no rights by it.
#[test]
fn permitted_users_gain_no_rights() {
    if !is_root() {
        return;
    }
    let cases = [
        // With the group's rights; with everyone's; with none.
        ((1234, 5678, 0o660), (4321, 5678), (4321, 5678, 0o660)),
        ((1234, 5678, 0o666), (4321, 4321), (4321, 4321, 0o666)),
        ((1234, 5678, 0o676), (4321, 4321), (4321, 4321, 0o666)),
        ((1234, 5678, 0o600), (1234, 4321), (1234, 4321, 0o600)),
        ((1234, 5678, 0o640), (1234, 4321), (1234, 4321, 0o600)),
    ];
    for (was, (user, group), becomes) in cases {
        let (_dir, path) = owned_by(was.0, was.1, was.2);
        let said = Child::start("acts as user", &path, &[user, group]).finish();
        assert_eq!(said, "done", "{was:?}");
        assert_eq!(owners(&path), BTreeSet::from([becomes]), "{was:?}");
    }
    let (_dir, path) = owned_by(1234, 5678, 0o640);
    let before = owners(&path);
    let said = Child::start("acts as user", &path, &[4321, 4321]).finish();
    assert_eq!(said, "permission denied");
    assert_eq!(owners(&path), before);
}

/// Every name beside a cache that the cache may use.
const COMPANIONS: [&str; 10] = [
    "cache.new",
    "cache.heap",
    "cache.heap.new",
    "cache.heap.1",
    "cache.heap.1.new",
    "cache.heap.40",
    "cache.heap.40.new",
    "cache.roster",
    "cache.roster.new",
    "cache.lock",
];

/// What an attacker may leave under a name.
#[derive(Clone, Copy, Debug)]
enum Trap {
    Link,
    LinkToNothing,
    LinkToAnEmptyFile,
    HardLink,
    HardLinkToAnEmptyFile,
    File,
    Folder,
    Fifo,
}

const TRAPS: [Trap; 8] = [
    Trap::Link,
    Trap::LinkToNothing,
    Trap::LinkToAnEmptyFile,
    Trap::HardLink,
    Trap::HardLinkToAnEmptyFile,
    Trap::File,
    Trap::Folder,
    Trap::Fifo,
];

/// Files that must not change.
struct Untouched {
    dir: tempfile::TempDir,
}

impl Untouched {
    fn new() -> Self {
        let dir = in_memory();
        fs::write(dir.path().join("letter"), "dear diary").expect("a letter");
        fs::write(dir.path().join("empty"), "").expect("an empty file");
        Self { dir }
    }

    fn set(&self, trap: Trap, at: &Path) {
        let untouched = |name| self.dir.path().join(name);
        let set = match trap {
            Trap::Link => symlink(untouched("letter"), at),
            Trap::LinkToNothing => symlink(untouched("nothing"), at),
            Trap::LinkToAnEmptyFile => symlink(untouched("empty"), at),
            Trap::HardLink => fs::hard_link(untouched("letter"), at),
            Trap::HardLinkToAnEmptyFile => fs::hard_link(untouched("empty"), at),
            Trap::File => fs::write(at, "mine"),
            Trap::Folder => fs::create_dir(at),
            Trap::Fifo => {
                let made = Command::new("mkfifo").arg(at).status();
                made.map(|status| assert!(status.success()))
            }
        };
        set.expect("a trap");
    }

    #[track_caller]
    fn assert_untouched(&self, trap: Trap, at: &Path) {
        let letter = fs::read(self.dir.path().join("letter")).expect("the letter");
        assert_eq!(letter, b"dear diary", "{trap:?} at {at:?}");
        let empty = fs::read(self.dir.path().join("empty")).expect("the empty file");
        assert_eq!(empty, b"", "{trap:?} at {at:?}");
        assert!(!self.dir.path().join("nothing").exists(), "{at:?}");
        match trap {
            Trap::File => assert_eq!(fs::read(at).expect("the file"), b"mine", "{at:?}"),
            Trap::Folder => assert!(at.is_dir(), "{at:?}"),
            _ => {}
        }
    }

    fn remove(&self, at: &Path) {
        if at.is_dir() && !at.is_symlink() {
            fs::remove_dir(at).expect("the trap");
        } else if at.symlink_metadata().is_ok() {
            fs::remove_file(at).expect("the trap");
        }
    }
}

/// Returns the result, or `None` if an error names one of the cache's files.
#[track_caller]
fn tolerate<T>(dir: &Path, outcome: Result<T>) -> Option<T> {
    match outcome {
        Ok(done) => Some(done),
        Err(error) => {
            let expected = matches!(
                error.kind(),
                ErrorKind::AlreadyExists
                    | ErrorKind::NotACacheFile { .. }
                    | ErrorKind::Corrupted { .. }
                    | ErrorKind::Io { .. }
            );
            let named = error.path().is_some_and(|path| path.starts_with(dir));
            assert!(expected && named, "{error:?}");
            None
        }
    }
}

// No file under one of the cache's names is followed or written when a cache is created.
#[test]
fn creation_follows_no_foreign_file() {
    for trap in TRAPS {
        for name in COMPANIONS {
            let dir = in_memory();
            let dir = dir.path();
            let untouched = Untouched::new();
            let at = dir.join(name);
            untouched.set(trap, &at);
            let path = dir.join("cache");
            tolerate(dir, everything(&path, &tight()));
            untouched.assert_untouched(trap, &at);
            if !path.exists() {
                untouched.remove(&at);
                everything(&path, &tight()).expect("nothing in the way any more");
            }
        }
    }
}

// No file under one of the cache's names is followed or written while a cache is used.
#[test]
fn open_cache_follows_no_foreign_file() {
    for trap in TRAPS {
        for name in COMPANIONS {
            let dir = in_memory();
            let dir = dir.path();
            let path = dir.join("cache");
            let cache = tight().open(&path).expect("a cache");
            let mut model = BTreeMap::new();
            for i in 0..20_u32 {
                model.insert(i, vec![i as u8; 100]);
                cache.put(&i.to_le_bytes(), &model[&i]).expect("a put");
            }
            let untouched = Untouched::new();
            let at = dir.join(name);
            if at.exists() {
                continue;
            }
            untouched.set(trap, &at);
            let mut rebuilt = false;
            for round in 1..=3 {
                for i in 0..300_u32 {
                    let value = vec![(i * round) as u8; 200];
                    if tolerate(dir, cache.put(&(i % 60).to_le_bytes(), &value)).is_some() {
                        model.insert(i % 60, value);
                    }
                }
                let items: Vec<_> = cache.iter().expect("a listing").collect();
                rebuilt |= tolerate(dir, cache.atomic_rebuild(items)).is_some();
                tolerate(dir, cache.compact());
            }
            untouched.assert_untouched(trap, &at);
            let holds = |cache: &MmapCache| {
                assert_eq!(cache.len(), model.len() as u64);
                for (i, value) in &model {
                    let found = cache.get(&i.to_le_bytes()).expect("a lookup");
                    assert_eq!(found.as_ref(), Some(value), "{trap:?} at {name}");
                }
            };
            holds(&cache);
            drop(cache);
            // Recovery creates files, too.
            reboot(&path);
            drop(tolerate(dir, tight().open(&path)));
            untouched.assert_untouched(trap, &at);
            if !rebuilt {
                untouched.remove(&at);
            }
            let cache = tight().open(&path).expect("nothing in the way any more");
            holds(&cache);
            assert!(cache.verify().run().expect("a report").is_clean());
        }
    }
}

/// Locking a file blocks others who lock it: a cache may lock only an empty file of the right name.
#[test]
fn foreign_lock_file_is_not_locked() {
    for trap in [Trap::Link, Trap::LinkToAnEmptyFile, Trap::HardLink] {
        let dir = in_memory();
        let untouched = Untouched::new();
        untouched.set(trap, &dir.path().join("cache.lock"));
        let letter = fs::File::open(untouched.dir.path().join("letter")).expect("the letter");
        let empty = fs::File::open(untouched.dir.path().join("empty")).expect("the empty file");
        flock(&letter, FlockOperation::LockExclusive).expect("a lock");
        flock(&empty, FlockOperation::LockExclusive).expect("a lock");
        let mut options = Options::new();
        options.lock_timeout(Some(std::time::Duration::from_millis(50)));
        let error = options.open(dir.path().join("cache"));
        let error = error.expect_err("a foreign file");
        assert!(
            matches!(
                error.kind(),
                ErrorKind::AlreadyExists | ErrorKind::NotACacheFile { .. }
            ),
            "{trap:?}: {error:?}"
        );
    }
}

/// Caches named like each other's files.
const NAMES: [&str; 10] = [
    "c",
    "c.new",
    "c.heap",
    "c.heap.new",
    "c.heap.1",
    "c.heap.1.new",
    "c.roster",
    "c.roster.new",
    "c.lock",
    "c.new.new",
];

/// One of these caches, and what was put into it.
struct Neighbour {
    path: PathBuf,
    model: BTreeMap<u32, Vec<u8>>,
}

impl Neighbour {
    fn work(&mut self, round: u32) {
        let dir = self.path.parent().expect("a directory").to_owned();
        let Some(cache) = tolerate(&dir, tight().open(&self.path)) else {
            return;
        };
        for i in 0..60 {
            let value = vec![(i + round) as u8; 400];
            if tolerate(&dir, cache.put(&i.to_le_bytes(), &value)).is_some() {
                self.model.insert(i, value);
            }
        }
        let items: Vec<_> = cache.iter().expect("a listing").collect();
        tolerate(&dir, cache.atomic_rebuild(items));
        drop(cache);
        reboot(&self.path);
        drop(tolerate(&dir, tight().open(&self.path)));
    }

    fn check(&self) {
        if self.model.is_empty() {
            return;
        }
        // Another cache may have the name of a file that the next writer needs.
        let cache = Options::new().read_only(true).open(&self.path);
        let cache = cache.unwrap_or_else(|error| panic!("{:?}: {error}", self.path));
        assert_eq!(cache.len(), self.model.len() as u64);
        for (i, value) in &self.model {
            let found = cache.get(&i.to_le_bytes()).expect("a lookup");
            assert_eq!(found.as_ref(), Some(value), "{:?}", self.path);
        }
        let report = cache.verify().run().expect("a report");
        assert!(report.is_clean(), "{:?}", report.problems);
    }
}

fn neighbours<'a>(names: impl IntoIterator<Item = &'a str>) {
    let dir = in_memory();
    let mut all = Vec::new();
    for name in names {
        all.push(Neighbour {
            path: dir.path().join(name),
            model: BTreeMap::new(),
        });
        for round in 0..2 {
            for neighbour in &mut all {
                neighbour.work(round);
            }
        }
        all.iter().for_each(Neighbour::check);
    }
    assert!(all.iter().any(|neighbour| neighbour.model.len() == 60));
}

// A cache named like another one's file overwrites nothing, and is not overwritten.
#[test]
fn caches_with_confusable_names_coexist() {
    for first in NAMES {
        for second in NAMES {
            if first != second {
                neighbours([first, second]);
            }
        }
    }
}

// Caches with all these names share one directory.
#[test]
fn all_confusable_names_coexist() {
    for start in 0..NAMES.len() {
        neighbours((0..NAMES.len()).map(|i| NAMES[(start + i * 3) % NAMES.len()]));
    }
}

/// A process that holds the creation lock does not block others forever.
#[test]
fn waiting_for_creation_lock_times_out() {
    let dir = in_memory();
    let path = dir.path().join("cache");
    let lock = fs::File::create(dir.path().join("cache.lock")).expect("the lock file");
    flock(&lock, FlockOperation::NonBlockingLockExclusive).expect("the lock");
    let mut options = Options::new();
    options.lock_timeout(Some(std::time::Duration::from_millis(50)));
    let error = options.open(&path).expect_err("another process creates it");
    assert!(
        matches!(error.kind(), ErrorKind::Locked { .. }),
        "{error:?}"
    );
    drop(lock);
    options.open(&path).expect("a cache");
}
