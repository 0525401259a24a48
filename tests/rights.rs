//! Rights beyond the mode: access control lists, and directories with the sticky bit.
//!
//! The users are real: child processes with other user ids. That needs root; otherwise these tests
//! say that they did not run, and fail if `CI` is set.
#![cfg(target_os = "linux")]

mod child;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use child::user::{become_user, is_root};
use child::{Child, Part, dismissal, hear, say, tight};
use mmapcache::{ErrorKind, MmapCache, Options, Repair, Result};
use rustix::fs::{XattrFlags, getxattr, removexattr, setxattr};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// The users, each with one group.
const OWNER: (u64, u64) = (1234, 5678);
const NAMED: (u64, u64) = (4321, 4321);
const IN_GROUP: (u64, u64) = (1111, 5678);
const STRANGER: (u64, u64) = (9999, 9999);

/// Entries of 64 KiB: 3 MiB in all.
const LARGE: u64 = 48;

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

/// Not a test: the entry point of the child processes.
#[test]
fn child() {
    child::play(&[
        ("churns", churns),
        ("churns without ACLs", churns_without_acls),
        ("serves", serves),
        ("overwrites", overwrites),
        ("opens", opens),
        ("opens new files", opens_new_files),
    ]);
}

fn directory(mode: u32) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    fs::set_permissions(dir.path(), Permissions::from_mode(mode)).expect("a mode");
    dir
}

/// Encodes an ACL: tag, rights and id of each entry.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(perm.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// `u::rw u:NAMED:rw g::GROUP m::rw o::-`.
fn named_user(group: u16) -> Vec<u8> {
    let no_id = u32::MAX;
    acl(&[
        (0x01, 6, no_id),
        (0x02, 6, NAMED.0 as u32),
        (0x04, group, no_id),
        (0x10, 6, no_id),
        (0x20, 0, no_id),
    ])
}

fn has_acl(path: &Path) -> bool {
    getxattr(path, ACCESS, &mut [0; 256][..]).is_ok()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("the directory");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files
}

/// As a user, creates files of every kind: segments, a generation, and a recovery's.
fn churns(part: &Part) {
    become_user(part.numbers[0] as u32, part.numbers[1] as u32);
    let mut options = tight();
    if let Some(&mode) = part.numbers.get(2) {
        options.file_mode(mode as u32);
    }
    let cache = options.open(&part.path).expect("a cache");
    for i in 0..300_u32 {
        cache
            .put(&(i % 60).to_le_bytes(), &[i as u8; 200])
            .expect("a put");
    }
    let items: Vec<_> = cache.iter().expect("a listing").collect();
    cache.atomic_rebuild(items).expect("a rebuild");
    for i in 0..300_u32 {
        cache
            .put(&(i % 60).to_le_bytes(), &[i as u8; 200])
            .expect("a put");
    }
    assert!(cache.verify().run().expect("a report").is_clean());
    say("done");
}

/// The same on a file system without ACLs, as far as new files are concerned.
fn churns_without_acls(part: &Part) {
    let rules = [(libc::SYS_fsetxattr, Vec::new())].into_iter().collect();
    let refused = SeccompAction::Errno(libc::EOPNOTSUPP as u32);
    let arch = std::env::consts::ARCH.try_into().expect("a known machine");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, arch).expect("a filter");
    let program: BpfProgram = filter.try_into().expect("a program");
    seccompiler::apply_filter(&program).expect("a filter of one's own");
    churns(part);
}

/// As a user, tries to open each file of the cache, and prints how many there are, and how many can
/// be read and written.
fn opens(part: &Part) {
    become_user(part.numbers[0] as u32, part.numbers[1] as u32);
    let all = files(part.path.parent().expect("a directory"));
    let all: Vec<_> = all.iter().filter(|path| path.is_file()).collect();
    let read = all.iter().filter(|path| File::open(path).is_ok()).count();
    let write = |path: &&&PathBuf| File::options().write(true).open(path).is_ok();
    let written = all.iter().filter(write).count();
    say(format!("{} {read} {written}", all.len()));
}

/// As a user, tries to open every new file in the directory until the parent says stop, and prints
/// how often that succeeded.
fn opens_new_files(part: &Part) {
    become_user(part.numbers[0] as u32, part.numbers[1] as u32);
    let dismissed = dismissal();
    let mut opened = 0;
    say("here");
    while !dismissed.load(Ordering::Relaxed) {
        for entry in fs::read_dir(part.path.parent().expect("a directory")).expect("a listing") {
            opened += u32::from(File::open(entry.expect("an entry").path()).is_ok());
        }
    }
    say(opened);
}

#[track_caller]
fn expect_rights(path: &Path, user: (u64, u64), may: bool) {
    let said = Child::start("opens", path, &[user.0, user.1]).finish();
    let counts: Vec<usize> = said
        .split(' ')
        .map(|n| n.parse().expect("a number"))
        .collect();
    let all = counts[0];
    assert!(all >= 4, "{said}");
    let expected = if may { all } else { 0 };
    assert_eq!(counts[1..], [expected; 2], "{user:?}");
}

fn churn(path: &Path, user: (u64, u64)) {
    let said = Child::start("churns", path, &[user.0, user.1]).finish();
    assert_eq!(said, "done");
}

/// The owner's cache in a directory that all users can write to.
fn owned(mode: u32) -> (tempfile::TempDir, PathBuf) {
    let dir = directory(0o777);
    let path = dir.path().join("cache");
    drop(tight().open(&path).expect("a cache"));
    for file in files(dir.path()) {
        chown(&file, Some(OWNER.0 as u32), Some(OWNER.1 as u32)).expect("an owner");
        fs::set_permissions(&file, Permissions::from_mode(mode)).expect("a mode");
    }
    (dir, path)
}

/// The ACL lets one more user in and shuts the group out, whose bits in the mode are the mask. New
/// files keep that, whichever user creates and owns them.
#[test]
fn acl_survives_every_new_file() {
    if !is_root() {
        return;
    }
    for writers in [[NAMED, OWNER], [OWNER, NAMED], [(0, 0), NAMED]] {
        let (dir, path) = owned(0o600);
        for file in files(dir.path()) {
            setxattr(&file, ACCESS, &named_user(0), XattrFlags::empty()).expect("an ACL");
        }
        for writer in writers {
            churn(&path, writer);
            if writer.0 == 0 {
                let repaired = Repair::new(&path).run().expect("a repair");
                assert!(!repaired.rebuilt);
                fs::remove_file(dir.path().join("cache.roster")).expect("the roster");
                Repair::new(&path).run().expect("a repair");
            }
            expect_rights(&path, OWNER, true);
            expect_rights(&path, NAMED, true);
            expect_rights(&path, IN_GROUP, false);
            expect_rights(&path, STRANGER, false);
        }
    }
}

/// If ACLs cannot be set, new files grant the least that any user had: the mode of the index, whose
/// group bits are the mask, would let the group in.
#[test]
fn files_without_acls_grant_no_more() {
    if !is_root() {
        return;
    }
    let (dir, path) = owned(0o600);
    for file in files(dir.path()) {
        setxattr(&file, ACCESS, &named_user(0), XattrFlags::empty()).expect("an ACL");
    }
    let said = Child::start("churns without ACLs", &path, &[OWNER.0, OWNER.1]).finish();
    assert_eq!(said, "done");
    let made: Vec<_> = files(dir.path())
        .into_iter()
        .filter(|file| !file.ends_with("cache.lock"))
        .collect();
    assert!(made.len() > 3 && !made.iter().any(|file| has_acl(file)));
    for file in made {
        let meta = file.metadata().expect("a mode");
        assert_eq!(meta.mode() & 0o777, 0o600, "{file:?}");
    }
}

/// The requested mode reduces a directory's default ACL, as for any new file; later files have the
/// rights of the index, whatever the directory's ACL is by then.
#[test]
fn mode_reduces_the_default_acl() {
    if !is_root() {
        return;
    }
    for (mode, may) in [(0o600, false), (0o660, true)] {
        let dir = directory(0o777);
        let path = dir.path().join("cache");
        setxattr(dir.path(), DEFAULT, &named_user(6), XattrFlags::empty()).expect("an ACL");
        let churned = Child::start("churns", &path, &[OWNER.0, OWNER.1, mode]).finish();
        assert_eq!(churned, "done");
        expect_rights(&path, OWNER, true);
        expect_rights(&path, NAMED, may);
        expect_rights(&path, IN_GROUP, may);
        expect_rights(&path, STRANGER, false);
        // From here on the files have no ACL, and the directory has one.
        for file in files(dir.path()) {
            let _ = removexattr(&file, ACCESS);
            fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("a mode");
        }
        churn(&path, OWNER);
        for file in files(dir.path()) {
            assert!(!has_acl(&file), "{file:?}");
            let meta = file.metadata().expect("a mode");
            assert_eq!(meta.mode() & 0o777, 0o640, "{file:?}");
        }
    }
}

/// New files are created for their creator alone, and then get the rights of the index: at no
/// moment does the directory's default ACL apply.
#[test]
fn new_files_are_never_wider() {
    if !is_root() {
        return;
    }
    let (dir, path) = owned(0o600);
    setxattr(dir.path(), DEFAULT, &named_user(6), XattrFlags::empty()).expect("an ACL");
    let mut watcher = Child::start("opens new files", &path, &[NAMED.0, NAMED.1]);
    watcher.expect("here");
    for _ in 0..5 {
        churn(&path, OWNER);
    }
    assert_eq!(watcher.finish(), "0");
    expect_rights(&path, OWNER, true);
    expect_rights(&path, NAMED, false);
}

// ---- directories with the sticky bit

/// As a user, with one handle, does what the parent says and answers with the result.
fn serves(part: &Part) {
    become_user(part.numbers[0] as u32, part.numbers[1] as u32);
    let mut options = tight();
    // With background threads, the space would exceed its bound for a while.
    options.file_mode(0o666).background_threads(false);
    let cache = options.open(&part.path).expect("a cache");
    say("here");
    while let Some(line) = hear() {
        match obey(&cache, &line) {
            Ok(()) => say("done"),
            Err(error) if matches!(error.kind(), ErrorKind::NotRemovable { .. }) => {
                assert!(error.to_string().contains("sticky bit"), "{error}");
                assert!(!error.is_corruption());
                say("not removable");
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

fn obey(cache: &MmapCache, line: &str) -> Result<()> {
    let key = |i: u32| (i % 60).to_le_bytes();
    match line {
        "overwrite" => (0..20_000).try_for_each(|i| cache.put(&key(i), &[i as u8; 200]).map(drop)),
        "put" => cache.put(&key(0), b"new").map(drop),
        "read" => {
            (0..60).try_for_each(|i| cache.get(&key(i)).map(|found| assert!(found.is_some())))
        }
        "delete" => cache.delete(&key(59)).map(|there| assert!(there)),
        "compact" => cache.compact(),
        "flush" => cache.flush(),
        "clear" => cache.clear(),
        "rebuild" => {
            let items: Vec<_> = cache.iter()?.collect();
            cache.atomic_rebuild(items)
        }
        other => panic!("{other}"),
    }
}

fn serving(path: &Path, user: (u64, u64)) -> Child {
    let mut child = Child::start("serves", path, &[user.0, user.1]);
    child.expect("here");
    child
}

/// As a user, with a new handle and default options, overwrites some entries of 64 KiB and ends.
fn overwrites(part: &Part) {
    let [user, group, from, count] = part.numbers[..] else {
        panic!("a user, a group, the first entry and a count");
    };
    become_user(user as u32, group as u32);
    let mut options = Options::new();
    options.file_mode(0o666);
    let cache = options.open(&part.path).expect("a cache");
    let value = vec![from as u8; 64 << 10];
    let put = |i: u64| cache.put(&(i % LARGE).to_le_bytes(), &value).map(drop);
    let done = (from..from + count).try_for_each(put);
    if from == 0 {
        // The owner fills the cache, and the next processes find it flushed.
        cache.flush().expect("a flush");
    }
    match done {
        Ok(()) => say("done"),
        Err(error) if matches!(error.kind(), ErrorKind::NotRemovable { .. }) => {
            say("not removable")
        }
        Err(error) => panic!("{error:?}"),
    }
    // Ends at once, so that a background sync cannot complete.
    std::process::exit(0);
}

fn bytes(dir: &Path) -> u64 {
    let len = |file: &PathBuf| file.metadata().expect("a size").len();
    files(dir)
        .iter()
        .filter(|file| file.to_string_lossy().contains("heap"))
        .map(len)
        .sum()
}

/// The sticky bit keeps one user from removing another's segments: puts are refused to bound the
/// space, and the first user who may continues the removal.
#[test]
fn unremovable_segments_refuse_puts() {
    if !is_root() {
        return;
    }
    for flushed in [false, true] {
        let dir = directory(0o1777);
        let path = dir.path().join("cache");
        let mut owner = serving(&path, OWNER);
        assert_eq!(owner.ask("overwrite"), "done");
        if flushed {
            assert_eq!(owner.ask("flush"), "done");
        }
        let mut other = serving(&path, NAMED);
        assert_eq!(other.ask("overwrite"), "not removable");
        // 12 KiB are live, and twice the threshold of half of that and 1 KiB may be dead.
        assert!(bytes(dir.path()) < 200_000, "{}", bytes(dir.path()));
        assert_eq!(other.ask("put"), "not removable");
        assert_eq!(other.ask("compact"), "not removable");
        assert_eq!(other.ask("read"), "done");
        assert_eq!(other.ask("delete"), "done");
        // The owner removes its own segments, and is stopped by the first of the other user's, who
        // removes those.
        owner.ask("overwrite");
        owner.ask("compact");
        assert_eq!(other.ask("put"), "done");
        owner.finish();
        other.finish();
        let cache = tight().open(&path).expect("a cache");
        assert!(cache.verify().run().expect("a report").is_clean());
    }
}

/// The same for processes that end after a few puts. Before a segment of a flushed cache is
/// removed, a background thread syncs what replaces it, and such a process seldom lives until that
/// ends.
#[test]
fn unremovable_segments_refuse_short_lived_processes() {
    if !is_root() {
        return;
    }
    for puts in [1, 4] {
        let dir = directory(0o1777);
        let path = dir.path().join("cache");
        let mut from = 0;
        let mut overwrite = |user: (u64, u64), count| {
            let numbers = [user.0, user.1, from, count];
            from += count;
            Child::start("overwrites", &path, &numbers).finish()
        };
        assert_eq!(overwrite(OWNER, 3 * LARGE), "done");
        // 3 MiB are live, so that cleaning starts at 7 MiB of dead bytes. If no background sync
        // completes, a put syncs once 9.5 MiB of evacuated segments are left. A segment has 1 MiB.
        let most = (3 + 7 + 9 + 3) << 20;
        let mut done = 0;
        while overwrite(NAMED, puts) == "done" {
            done += puts;
            assert!(bytes(dir.path()) < most, "{}", bytes(dir.path()));
        }
        assert!(done > 0);
        let refused = bytes(dir.path());
        for _ in 0..3 {
            assert_eq!(overwrite(NAMED, puts), "not removable");
        }
        assert!(bytes(dir.path()) <= refused);
        // Each process of the owner removes one or more of the owner's segments, and may be refused
        // nevertheless: it ends at the first segment of the other user.
        let mut turns = 0;
        while overwrite(NAMED, puts) != "done" {
            overwrite(OWNER, puts);
            turns += 1;
            assert!(turns < 20, "{}", bytes(dir.path()));
        }
        assert!(turns > 0);
        let cache = Options::new().open(&path).expect("a cache");
        assert_eq!(cache.len(), LARGE);
        assert!(cache.verify().run().expect("a report").is_clean());
    }
}

/// A switch that could not be completed is refused before it begins, for any user.
#[test]
fn unremovable_files_refuse_rebuilds() {
    if !is_root() {
        return;
    }
    let dir = directory(0o1777);
    let path = dir.path().join("cache");
    let mut owner = serving(&path, OWNER);
    assert_eq!(owner.ask("overwrite"), "done");
    assert_eq!(owner.ask("rebuild"), "done");
    let mut other = serving(&path, NAMED);
    assert_eq!(other.ask("put"), "done", "after the owner's rebuild");
    assert_eq!(
        other.ask("rebuild"),
        "not removable",
        "of the owner's index"
    );
    // Until it has segments of its own.
    other.ask("overwrite");
    let before = files(dir.path());
    assert_eq!(owner.ask("rebuild"), "not removable");
    assert_eq!(owner.ask("clear"), "not removable");
    assert_eq!(files(dir.path()), before);
    assert_eq!(owner.ask("read"), "done");
    owner.ask("compact");
    assert_eq!(other.ask("put"), "done");
    owner.finish();
    other.finish();
    // Root can do all of it.
    let cache = tight().open(&path).expect("a cache");
    let items: Vec<_> = cache.iter().expect("a listing").collect();
    cache.atomic_rebuild(items).expect("a rebuild");
    assert!(cache.verify().run().expect("a report").is_clean());
}
