//! Handles and writers that a forked child inherits.
//!
//! Each test starts a process of its own which has nothing but the harness's idle thread beside the
//! one that forks, unless it is about what other threads do meanwhile.
#![expect(
    unsafe_code,
    reason = "fork, waitpid and _exit are calls of the C library"
)]

mod child;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use child::{Child, Part, hear, say};
use mmapcache::{Error, MmapCache, Options, Result, Update, Writer};

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
        ("leaves a great-grandchild", leaves_a_great_grandchild),
        ("executes a program", executes_a_program),
        (
            "leaves a child amid a rebuild",
            leaves_a_child_amid_a_rebuild,
        ),
        ("leaves a child and rebuilds", leaves_a_child_and_rebuilds),
        ("forks within a rebuild", forks_within_a_rebuild),
        ("becomes a daemon", becomes_a_daemon),
        ("leaves a child that writes", leaves_a_child_that_writes),
        ("forks amid its threads", forks_amid_its_threads),
        ("forks while it creates", forks_while_it_creates),
        ("forks while it lists", forks_while_it_lists),
    ]);
}

/// Runs the closure in a forked child, which never comes back from it. Returns the child's process
/// id.
fn fork(body: impl FnOnce()) -> libc::pid_t {
    // SAFETY: no other thread of these processes holds a lock that is neither the C library's, which
    // sees to it, nor the cache's, which is what is tested.
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
    // As while the parent rebuilds: the next writer would remove it.
    let staged = part.path.with_extension("new");
    std::fs::write(&staged, b"").expect("a file");
    let pid = fork(|| {
        let forked = writer.put(b"key", b"2").map(drop);
        assert!(matches!(forked, Err(Error::Forked { .. })), "{forked:?}");
        let forked = writer.delete(b"key").map(drop);
        assert!(matches!(forked, Err(Error::Forked { .. })), "{forked:?}");
        let forked = writer.atomic_rebuild([Ok::<_, Error>((b"key", b"2"))]);
        assert!(matches!(forked, Err(Error::Forked { .. })), "{forked:?}");
        let forked = writer.update(b"key", |_| Update::Delete).map(drop);
        assert!(matches!(forked, Err(Error::Forked { .. })), "{forked:?}");
        assert_value(&cache, "key", "1");
        assert!(staged.exists(), "the parent's file");
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

/// The parent holds the writer while it is killed, and a child far down still lives.
#[test]
fn a_killed_writer_blocks_nobody_though_its_great_grandchild_lives_on() {
    outlives_its_parent("leaves a great-grandchild");
}

fn leaves_a_great_grandchild(part: &Part) {
    let cache = open(&part.path, LATE);
    let mut writer = cache.writer().expect("the writer");
    writer.put(b"parents", b"1").expect("a put");
    fork(|| join(fork(|| join(fork(answers)))));
    loop {
        std::thread::sleep(LATE);
    }
}

/// Says that it lives, now and whenever it is asked.
fn answers() {
    say("it lives");
    while hear().is_some() {
        say("it lives");
    }
}

#[test]
fn a_killed_writer_blocks_nobody_though_a_program_that_it_has_started_lives_on() {
    outlives_its_parent("executes a program");
}

fn executes_a_program(part: &Part) {
    let cache = open(&part.path, LATE);
    let mut writer = cache.writer().expect("the writer");
    writer.put(b"parents", b"1").expect("a put");
    let answering = "while echo '> it lives'; do read line || exit 0; done";
    let shell = std::process::Command::new("sh")
        .args(["-c", answering])
        .spawn();
    // Killed while it waits.
    let ended = shell.expect("a shell").wait();
    ended.expect("the end of the shell");
}

/// Starts a process that takes the writer and leaves another one behind, kills it, and expects that
/// everybody can write, while the one that is left still lives.
fn outlives_its_parent(role: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cache");
    let mut parent = Child::start(role, &path, &[]);
    parent.expect("it lives");
    let cache = open(&path, SOON);
    assert_locked(&cache);
    parent.kill();
    put(&cache, "mine", "1").expect("a put");
    assert_value(&cache, "parents", "1");
    assert_eq!(parent.ask("do you live?"), "it lives");
    put(&open(&path, SOON), "mine", "2").expect("a put");
    assert!(cache.verify().expect("a check").is_clean());
}

#[test]
fn a_rebuild_killed_in_the_middle_blocks_nobody_though_a_child_forked_in_it_lives_on() {
    outlives_its_parent("leaves a child amid a rebuild");
}

fn leaves_a_child_amid_a_rebuild(part: &Part) {
    let cache = open(&part.path, LATE);
    put(&cache, "parents", "1").expect("a put");
    let items = std::iter::once_with(|| {
        fork(answers);
        std::thread::sleep(6 * LATE);
        Ok::<_, Error>((b"key", b"2"))
    });
    cache.atomic_rebuild(items).expect("to be killed before");
}

#[test]
fn a_rebuild_that_is_committed_blocks_nobody_though_a_child_forked_in_it_lives_on() {
    outlives_its_parent("leaves a child and rebuilds");
}

fn leaves_a_child_and_rebuilds(part: &Part) {
    let cache = open(&part.path, LATE);
    let mut writer = cache.writer().expect("the writer");
    writer.put(b"parents", b"0").expect("a put");
    let items = std::iter::once_with(|| {
        fork(|| {
            while cache.get(b"parents").expect("a look").as_deref() != Some(b"1") {
                std::thread::yield_now();
            }
            answers();
        });
        Ok::<_, Error>((b"parents", b"1"))
    });
    writer.atomic_rebuild(items).expect("a rebuild");
    loop {
        std::thread::sleep(LATE);
    }
}

#[test]
fn a_child_forked_in_a_rebuild_that_goes_on_with_it_is_refused_and_the_parents_is_done() {
    runs_well("forks within a rebuild");
}

fn forks_within_a_rebuild(part: &Part) {
    for at in [0, 50, 100] {
        let cache = open(&part.path, LATE);
        put(&cache, "old", "1").expect("a put");
        let mut writer = cache.writer().expect("the writer");
        let mut pid = None;
        let items = (0..=100).filter_map(|number| {
            if number == at {
                // SAFETY: as in `fork`; the child ends below.
                pid = Some(unsafe { libc::fork() });
            }
            (number < 100).then(|| Ok::<_, Error>((format!("new {number}"), "2")))
        });
        let done = catch_unwind(AssertUnwindSafe(|| writer.atomic_rebuild(items)));
        if pid == Some(0) {
            let refused = matches!(done, Ok(Err(Error::Forked { .. })));
            drop(writer);
            let whole = cache.len() == 1 || cache.len() == 100;
            // SAFETY: as in `fork`.
            unsafe { libc::_exit(if refused && whole { 0 } else { 1 }) };
        }
        join(pid.expect("a forked child"));
        done.expect("no panic").expect("a rebuild");
        drop(writer);
        assert_eq!(cache.len(), 100);
        assert_value(&cache, "new 99", "2");
        assert!(cache.verify().expect("a check").is_clean());
        cache.clear().expect("an empty cache");
    }
    say("ran to its end");
}

#[test]
fn an_exclusive_handle_that_a_daemon_inherits_is_exclusive_again_from_its_first_write_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cache");
    let mut parent = Child::start("becomes a daemon", &path, &[]);
    parent.expect("the daemon writes");
    let cache = open(&path, SOON);
    assert_locked(&cache);
    assert_value(&cache, "daemons", "1");
    assert_eq!(parent.ask("write once more"), "done");
    assert_locked(&cache);
    assert_eq!(parent.ask("let go"), "gone");
    put(&cache, "mine", "1").expect("a put");
    assert!(cache.verify().expect("a check").is_clean());
}

/// Opens the cache, forks, and ends, as services do that were started from a shell.
fn becomes_a_daemon(part: &Part) {
    let mut options = Options::new();
    let mut cache = Some(
        options
            .exclusive(true)
            .open(&part.path)
            .expect("a new cache"),
    );
    let parent = std::process::id();
    fork(|| {
        while std::os::unix::process::parent_id() == parent {
            std::thread::sleep(Duration::from_millis(1));
        }
        let inherited = cache.take().expect("a handle");
        put(&inherited, "daemons", "1").expect("a put");
        say("the daemon writes");
        hear();
        inherited.clear().expect("an empty cache");
        put(&inherited, "daemons", "2").expect("a put");
        say("done");
        hear();
        drop(inherited);
        say("gone");
        hear();
    });
    // SAFETY: ends the process at once.
    unsafe { libc::_exit(0) }
}

#[test]
fn a_child_that_writes_while_its_parent_is_killed_keeps_its_own_lock_until_it_is_done() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cache");
    let mut parent = Child::start("leaves a child that writes", &path, &[]);
    parent.expect("the child writes");
    let cache = open(&path, SOON);
    parent.kill();
    assert_locked(&cache);
    assert_value(&cache, "parents", "1");
    assert_value(&cache, "childs", "1");
    assert_eq!(parent.ask("go on"), "done");
    put(&cache, "mine", "1").expect("a put");
    assert_value(&cache, "childs", "2");
    assert!(cache.verify().expect("a check").is_clean());
}

/// With the very handle that its parent wrote with a moment ago.
fn leaves_a_child_that_writes(part: &Part) {
    let cache = open(&part.path, LATE);
    put(&cache, "parents", "1").expect("a put");
    fork(|| {
        let mut writer = cache.writer().expect("the writer");
        writer.put(b"childs", b"1").expect("a put");
        say("the child writes");
        hear();
        writer.put(b"childs", b"2").expect("a put");
        writer.commit().expect("the end of a batch");
        say("done");
        hear();
    });
    loop {
        std::thread::sleep(LATE);
    }
}

/// Ends this process, should the rest of it take longer than a minute: a test that hangs fails.
fn end_if_it_hangs() {
    // SAFETY: only sets a timer, whose signal ends the process.
    unsafe { libc::alarm(60) };
}

#[test]
fn children_forked_while_other_threads_put_list_and_rebuild_use_the_handle_right_away() {
    runs_well("forks amid its threads");
}

fn forks_amid_its_threads(part: &Part) {
    let cache = child::tight().open(&part.path).expect("a new cache");
    for number in 0..200 {
        put(&cache, &format!("stays {number}"), "0").expect("a put");
    }
    let over = AtomicBool::new(false);
    let going = || !over.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in (0_u64..).take_while(|_| going()) {
                put(&cache, &format!("stays {}", round % 200), "1").expect("a put");
                put(&cache, &format!("comes {}", round % 50), "1").expect("a put");
                let key = format!("comes {}", (round + 25) % 50);
                cache.delete(key.as_bytes()).expect("a deletion");
            }
        });
        scope.spawn(|| {
            while going() {
                staying_in(&cache);
                let mut writer = cache.writer().expect("the writer");
                let items = cache.items().expect("a listing");
                writer.atomic_rebuild(items).expect("a rebuild");
                drop(writer);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        scope.spawn(|| {
            while going() {
                assert_eq!(staying_in(&open(&part.path, LATE)), 200);
            }
        });
        let ended = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..25 {
                join(fork(|| uses_it_right_away(&cache)));
            }
        }));
        over.store(true, Ordering::Relaxed);
        ended.expect("children that end well");
    });
    assert!(cache.verify().expect("a check").is_clean());
    say("ran to its end");
}

/// How many of the keys that always exist a listing has.
fn staying_in(cache: &MmapCache) -> usize {
    loop {
        let keys: Result<Vec<_>> = cache.keys().expect("a listing").collect();
        match keys {
            Ok(keys) => return keys.iter().filter(|key| key.starts_with(b"stays")).count(),
            Err(error) => assert!(matches!(error, Error::Superseded { .. }), "{error}"),
        }
    }
}

fn uses_it_right_away(cache: &MmapCache) {
    end_if_it_hangs();
    assert!(cache.get(b"stays 7").expect("a look").is_some());
    assert!(cache.entry(b"stays 8").expect("a look").is_some());
    let mut writer = cache.writer().expect("the writer");
    writer.put(b"stays 9", b"childs").expect("a put");
    assert_eq!(staying_in(cache), 200);
}

#[test]
fn children_forked_in_the_middle_of_a_listing_go_on_with_it() {
    runs_well("forks while it lists");
}

fn forks_while_it_lists(part: &Part) {
    let cache = child::tight().open(&part.path).expect("a new cache");
    for number in 0..300 {
        put(&cache, &format!("key {number}"), "1").expect("a put");
    }
    let mut items = cache.items().expect("a listing");
    let before = items.by_ref().take(100).filter(Result::is_ok).count();
    let pid = fork(|| {
        let after = items.by_ref().filter(Result::is_ok).count();
        assert_eq!(before + after, 300);
        put(&cache, "childs", "1").expect("a put");
    });
    join(pid);
    let after = items.filter(Result::is_ok).count();
    assert!(before + after >= 300, "{before} and {after}");
    say("ran to its end");
}

#[test]
fn children_forked_while_caches_are_created_keep_nobody_from_creating_one_there() {
    runs_well("forks while it creates");
}

/// The children live on; the files of each cache are removed, and it is created once more.
fn forks_while_it_creates(part: &Part) {
    end_if_it_hangs();
    // The forks are watched from the first lock on.
    drop(open(&part.path, LATE));
    let over = AtomicBool::new(false);
    let mut children = Vec::new();
    let created = std::thread::scope(|scope| {
        let creating = scope.spawn(|| {
            for number in 0.. {
                if over.load(Ordering::Relaxed) {
                    return number;
                }
                let path = part.path.with_extension((number / 2).to_string());
                drop(open(&path, LATE));
                for suffix in ["", ".roster", ".heap"] {
                    let mut name = path.clone().into_os_string();
                    name.push(suffix);
                    std::fs::remove_file(name).expect("a file of the cache");
                }
            }
            unreachable!("it counts for ever")
        });
        while children.len() < 100 && !creating.is_finished() {
            std::thread::sleep(Duration::from_millis(4));
            children.push(fork(|| std::thread::sleep(6 * LATE)));
        }
        over.store(true, Ordering::Relaxed);
        creating.join()
    });
    for pid in children {
        kill(pid);
    }
    assert!(created.expect("creations that are not kept waiting") > 4);
    say("ran to its end");
}

fn kill(pid: libc::pid_t) {
    // SAFETY: the process is a child that was not waited for, so its id is its own.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    // SAFETY: the process is a child that nobody else waits for; its status is not asked for.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
}
