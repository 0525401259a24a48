//! Handles and writers that a forked child inherits.
//!
//! Each test starts a process of its own which has nothing but the harness's idle thread beside the
//! one that forks.
#![expect(
    unsafe_code,
    reason = "fork, waitpid and _exit are calls of the C library"
)]

mod child;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use child::{Child, Part, hear, say};
use mmapcache::{Error, MmapCache, Options, Result, Writer};

/// No test of its own: what the other tests start as their child processes.
#[test]
fn child() {
    child::play(&[
        ("uses a handle", uses_a_handle),
        ("forks twice", forks_twice),
        ("drops a handle", drops_a_handle),
        ("drops an exclusive handle", drops_an_exclusive_handle),
        ("inherits a writer", inherits_a_writer),
        ("drops a writer", drops_a_writer),
        (
            "waits for the parent's writer",
            waits_for_the_parents_writer,
        ),
        ("forks and is killed", forks_and_is_killed),
    ]);
}

/// Runs the closure in a forked child, which never comes back from it. Returns the child's process
/// id.
fn fork(body: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the harness's other thread waits for this one and holds no lock that the child takes.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "a forked child");
    if pid > 0 {
        return pid;
    }
    let well = catch_unwind(AssertUnwindSafe(body)).is_ok();
    // SAFETY: ends the process at once, with nothing that belongs to the parent.
    unsafe { libc::_exit(if well { 0 } else { 1 }) }
}

/// Waits until the forked child has ended, and expects that it ended well.
#[track_caller]
fn join(pid: libc::pid_t) {
    let mut status = -1;
    // SAFETY: `status` is a live integer, and the process is a child that nobody else waits for.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!((waited, status), (pid, 0), "the forked child failed");
}

fn open(path: &Path, timeout: Duration) -> MmapCache {
    let mut options = Options::new();
    options.lock_timeout(Some(timeout));
    options.open(path).expect("the cache")
}

const SOON: Duration = Duration::from_millis(100);
const LATE: Duration = Duration::from_secs(10);

#[track_caller]
fn assert_value(cache: &MmapCache, key: &str, value: &str) {
    let found = cache.get(key.as_bytes()).expect("a look");
    assert_eq!(found.as_deref(), Some(value.as_bytes()), "{key}");
}

fn put(cache: &MmapCache, key: &str, value: &str) -> Result<()> {
    cache.put(key.as_bytes(), value.as_bytes()).map(drop)
}

/// Starts a process in the role, and expects it to come to its end.
#[track_caller]
fn runs_well(role: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut child = Child::start(role, &dir.path().join("cache"), &[]);
    child.expect("ran to its end");
    child.finish();
}

#[test]
fn a_forked_child_reads_writes_and_lists_with_the_handle_that_it_inherited() {
    runs_well("uses a handle");
}

fn uses_a_handle(part: &Part) {
    let cache = open(&part.path, LATE);
    put(&cache, "before", "1").expect("a put");
    let pid = fork(|| {
        assert_value(&cache, "before", "1");
        put(&cache, "childs", "2").expect("a put");
        assert!(cache.delete(b"before").expect("a deletion"));
        put(&cache, "before", "3").expect("a put");
        let keys: Result<Vec<_>> = cache.keys().expect("a listing").collect();
        assert_eq!(keys.expect("keys").len(), 2);
        cache.clear().expect("an empty cache");
        put(&cache, "after", "4").expect("a put");
    });
    join(pid);
    assert_value(&cache, "after", "4");
    assert_eq!(cache.len(), 1);
    put(&cache, "after", "5").expect("a put");
    assert!(cache.verify().expect("a check").is_clean());
    say("ran to its end");
}

#[test]
fn parent_child_and_grandchild_all_write_with_one_handle() {
    runs_well("forks twice");
}

fn forks_twice(part: &Part) {
    let cache = open(&part.path, LATE);
    let many = |who: &str| {
        for number in 0..300 {
            put(&cache, &format!("{who} {number}"), who).expect("a put");
        }
    };
    let pid = fork(|| {
        let pid = fork(|| many("grandchild"));
        many("child");
        join(pid);
    });
    many("parent");
    join(pid);
    assert_eq!(cache.len(), 900);
    assert_value(&cache, "grandchild 299", "grandchild");
    assert!(cache.verify().expect("a check").is_clean());
    say("ran to its end");
}

#[test]
fn a_forked_child_that_drops_a_handle_takes_nothing_from_its_parent() {
    runs_well("drops a handle");
}

fn drops_a_handle(part: &Part) {
    let mut cache = Some(open(&part.path, LATE));
    put(cache.as_ref().expect("a handle"), "key", "1").expect("a put");
    let pid = fork(|| {
        drop(cache.take());
        let fresh = open(&part.path, LATE);
        put(&fresh, "childs", "2").expect("a put");
    });
    join(pid);
    let cache = cache.expect("a handle");
    assert_value(&cache, "childs", "2");
    let mut writer = cache.writer().expect("the writer");
    writer.put(b"key", b"3").expect("a put");
    let pid = fork(|| assert_locked(&open(&part.path, SOON)));
    join(pid);
    drop(writer);
    say("ran to its end");
}

#[track_caller]
fn assert_locked(cache: &MmapCache) {
    let refused = put(cache, "theirs", "");
    assert!(matches!(refused, Err(Error::Locked { .. })), "{refused:?}");
}

/// Whether the lock is held, as a process sees it that was not forked.
#[track_caller]
fn assert_locked_for_others(path: &Path) {
    let mut other = Child::start("drops an exclusive handle", path, &[1]);
    other.expect("locked");
    other.finish();
}

#[test]
fn a_forked_child_that_drops_an_exclusive_handle_leaves_the_lock_to_its_parent() {
    runs_well("drops an exclusive handle");
}

fn drops_an_exclusive_handle(part: &Part) {
    if part.numbers == [1] {
        assert_locked(&open(&part.path, SOON));
        say("locked");
        return;
    }
    let mut options = Options::new();
    options.exclusive(true).lock_timeout(Some(SOON));
    let mut cache = Some(options.open(&part.path).expect("a new cache"));
    let pid = fork(|| {
        let inherited = cache.take().expect("a handle");
        assert_locked(&inherited);
        drop(inherited);
    });
    join(pid);
    assert_locked_for_others(&part.path);
    put(cache.as_ref().expect("a handle"), "mine", "1").expect("a put");
    assert_locked_for_others(&part.path);
    drop(cache);
    put(&open(&part.path, SOON), "mine", "2").expect("a put");
    say("ran to its end");
}

#[test]
fn an_inherited_writer_is_dead_in_the_child_and_alive_in_the_parent() {
    runs_well("inherits a writer");
}

fn inherits_a_writer(part: &Part) {
    let cache = open(&part.path, LATE);
    let mut writer = cache.writer().expect("the writer");
    writer.put(b"key", b"1").expect("a put");
    let pid = fork(|| {
        let forked = writer.put(b"key", b"2").map(drop);
        assert!(matches!(forked, Err(Error::Forked { .. })), "{forked:?}");
        let forked = writer.delete(b"key").map(drop);
        assert!(matches!(forked, Err(Error::Forked { .. })), "{forked:?}");
        assert_value(&cache, "key", "1");
    });
    join(pid);
    writer.put(b"key", b"3").expect("a put");
    writer.commit().expect("the end of a batch");
    assert_value(&cache, "key", "3");
    say("ran to its end");
}

#[test]
fn a_forked_child_that_drops_a_writer_neither_unlocks_nor_hangs() {
    runs_well("drops a writer");
}

fn drops_a_writer(part: &Part) {
    let cache = open(&part.path, SOON);
    let mut writer = Some(cache.writer().expect("the writer"));
    let pid = fork(|| {
        drop(writer.take());
        assert_locked(&cache);
        assert_locked(&open(&part.path, SOON));
    });
    join(pid);
    assert_locked_for_others(&part.path);
    let held: &mut Writer<'_> = writer.as_mut().expect("a writer");
    held.put(b"mine", b"1").expect("a put");
    drop(writer);
    put(&cache, "mine", "2").expect("a put");
    say("ran to its end");
}

#[test]
fn a_forked_child_takes_the_writer_in_its_turn_though_a_dead_one_was_inherited() {
    runs_well("waits for the parent's writer");
}

fn waits_for_the_parents_writer(part: &Part) {
    let cache = open(&part.path, LATE);
    let mut writer = cache.writer().expect("the writer");
    let pid = fork(|| {
        // The dead writer is still on this thread's stack, as it was when the parent forked.
        let mut own = cache.writer().expect("the writer, when the parent is done");
        own.put(b"childs", b"1").expect("a put");
    });
    writer.put(b"mine", b"2").expect("a put");
    std::thread::sleep(SOON);
    assert!(!cache.contains(b"childs").expect("a look"), "two writers");
    drop(writer);
    join(pid);
    assert_value(&cache, "childs", "1");
    assert_value(&cache, "mine", "2");
    say("ran to its end");
}

struct Scratch {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

#[test]
fn a_parent_killed_while_it_writes_blocks_nobody_though_its_forked_child_lives_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cache");
    let scratch = Scratch { _dir: dir, path };
    let mut parent = Child::start("forks and is killed", &scratch.path, &[]);
    parent.expect("the child is there");
    let cache = open(&scratch.path, SOON);
    assert_locked(&cache);
    parent.kill();
    put(&cache, "mine", "1").expect("a put");
    assert_value(&cache, "parents", "1");
    assert_eq!(parent.ask("are you there?"), "yes");
    put(&cache, "mine", "2").expect("a put");
    assert!(cache.verify().expect("a check").is_clean());
    assert_eq!(parent.ask("put"), "done");
    assert_value(&cache, "orphans", "1");
}

/// The parent holds the writer until it is killed; its forked child answers in its place.
fn forks_and_is_killed(part: &Part) {
    let cache = open(&part.path, LATE);
    let mut writer = cache.writer().expect("the writer");
    writer.put(b"parents", b"1").expect("a put");
    fork(|| {
        say("the child is there");
        while let Some(line) = hear() {
            if line == "put" {
                put(&open(&part.path, LATE), "orphans", "1").expect("a put");
                say("done");
            } else {
                say("yes");
            }
        }
    });
    loop {
        std::thread::sleep(LATE);
    }
}
