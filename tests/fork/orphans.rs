//! Children that outlive a parent which was killed, or ended, with the lock.
//!
//! What they inherited must block no process, unless it is their own by then.

use std::time::Duration;

use mmapcache::Options;

use super::child::scratch::Scratch;
use super::child::{Child, Part, hear, say};
use super::process::{fork, join};
use super::{LATE, SOON, assert_locked, assert_value, open, put};

// A parent killed while it writes blocks no process, though its forked child lives on.
#[test]
fn killed_parent_frees_the_lock() {
    let scratch = Scratch::new();
    let mut parent = Child::start("forks and is killed", &scratch.path, &[]);
    parent.expect("the child is there");
    let cache = open(&scratch.path, SOON);
    assert_locked(&cache);
    parent.kill();
    put(&cache, "mine", "1").expect("a put");
    assert_value(&cache, "parents", "1");
    assert_eq!(parent.ask("are you there?"), "yes");
    put(&cache, "mine", "2").expect("a put");
    assert!(cache.verify().run().expect("a check").is_clean());
    assert_eq!(parent.ask("put"), "done");
    assert_value(&cache, "orphans", "1");
}

/// Holds the writer until it is killed; its forked child answers in its place.
pub(super) fn forks_and_is_killed(part: &Part) {
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

/// The parent is killed while it holds the writer, and a descendant still lives.
#[test]
fn grandchild_keeps_no_killed_lock() {
    outlives_its_parent("leaves a great-grandchild");
}

pub(super) fn leaves_a_great_grandchild(part: &Part) {
    let cache = open(&part.path, LATE);
    let mut writer = cache.writer().expect("the writer");
    writer.put(b"parents", b"1").expect("a put");
    fork(|| join(fork(|| join(fork(answers)))));
    loop {
        std::thread::sleep(LATE);
    }
}

/// Says that it lives, at once and whenever it is asked.
pub(super) fn answers() {
    say("it lives");
    while hear().is_some() {
        say("it lives");
    }
}

// A killed writer blocks no process, though a program that it started lives on.
#[test]
fn started_program_keeps_no_lock() {
    outlives_its_parent("executes a program");
}

pub(super) fn executes_a_program(part: &Part) {
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

/// Starts a process that takes the writer and leaves another process, kills it, and asserts that
/// any process can write while the one that is left still lives.
pub(super) fn outlives_its_parent(role: &str) {
    let scratch = Scratch::new();
    let mut parent = Child::start(role, &scratch.path, &[]);
    parent.expect("it lives");
    let cache = open(&scratch.path, SOON);
    assert_locked(&cache);
    parent.kill();
    put(&cache, "mine", "1").expect("a put");
    assert_value(&cache, "parents", "1");
    assert_eq!(parent.ask("do you live?"), "it lives");
    put(&open(&scratch.path, SOON), "mine", "2").expect("a put");
    assert!(cache.verify().run().expect("a check").is_clean());
}

// An exclusive handle that a daemon inherits is exclusive again from its first write on.
#[test]
fn daemon_regains_exclusivity_by_writing() {
    let scratch = Scratch::new();
    let mut parent = Child::start("becomes a daemon", &scratch.path, &[]);
    parent.expect("the daemon writes");
    let cache = open(&scratch.path, SOON);
    assert_locked(&cache);
    assert_value(&cache, "daemons", "1");
    assert_eq!(parent.ask("write once more"), "done");
    assert_locked(&cache);
    assert_eq!(parent.ask("let go"), "gone");
    put(&cache, "mine", "1").expect("a put");
    assert!(cache.verify().run().expect("a check").is_clean());
}

/// Opens the cache, forks, and ends, like a service that is started from a shell.
pub(super) fn becomes_a_daemon(part: &Part) {
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

// A child that writes while its parent is killed keeps its own lock until it is done.
#[test]
fn writing_orphan_keeps_its_lock() {
    let scratch = Scratch::new();
    let mut parent = Child::start("leaves a child that writes", &scratch.path, &[]);
    parent.expect("the child writes");
    let cache = open(&scratch.path, SOON);
    parent.kill();
    assert_locked(&cache);
    assert_value(&cache, "parents", "1");
    assert_value(&cache, "childs", "1");
    assert_eq!(parent.ask("go on"), "done");
    put(&cache, "mine", "1").expect("a put");
    assert_value(&cache, "childs", "2");
    assert!(cache.verify().run().expect("a check").is_clean());
}

/// With the handle that its parent has just written with.
pub(super) fn leaves_a_child_that_writes(part: &Part) {
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
