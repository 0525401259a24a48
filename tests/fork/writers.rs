//! Writers that a forked child inherits: dead in the child, alive in the parent.
//!
//! Both processes live here; `orphans.rs` kills parents.

use mmapcache::{Durability, Error, ErrorKind, Options, Result, Update, Version, Writer};

use super::child::{Part, say};
use super::process::{end, fork, fork_here, join};
use super::{
    LATE, SOON, assert_locked, assert_locked_for_others, assert_value, open, put, runs_well,
};

// An inherited writer is dead in the child, and alive in the parent.
#[test]
fn inherited_writer_is_dead() {
    runs_well("inherits a writer");
}

pub(super) fn inherits_a_writer(part: &Part) {
    let cache = open(&part.path, LATE);
    let mut writer = cache.writer().expect("the writer");
    writer.put(b"key", b"1").expect("a put");
    // As during a rebuild by the parent: the next writer would remove the file.
    let staged = part.path.with_extension("new");
    std::fs::write(&staged, b"").expect("a file");
    let pid = fork(|| {
        let forked = writer.put(b"key", b"2").map(drop);
        assert!(
            matches!(
                forked.as_ref().map_err(Error::kind),
                Err(ErrorKind::ForkedWriter)
            ),
            "{forked:?}"
        );
        let forked = writer.delete(b"key").map(drop);
        assert!(
            matches!(
                forked.as_ref().map_err(Error::kind),
                Err(ErrorKind::ForkedWriter)
            ),
            "{forked:?}"
        );
        let forked = writer.atomic_rebuild([Ok::<_, Error>((b"key", b"2"))]);
        assert!(
            matches!(
                forked.as_ref().map_err(Error::kind),
                Err(ErrorKind::ForkedWriter)
            ),
            "{forked:?}"
        );
        let forked = writer.update(b"key", |_| Update::Delete).map(drop);
        assert!(
            matches!(
                forked.as_ref().map_err(Error::kind),
                Err(ErrorKind::ForkedWriter)
            ),
            "{forked:?}"
        );
        every_method_is_refused(&mut writer);
        assert_value(&cache, "key", "1");
        assert!(staged.exists(), "the parent's file");
    });
    join(pid);
    writer.put(b"key", b"3").expect("a put");
    writer.commit().expect("the end of a batch");
    assert_value(&cache, "key", "3");
    say("ran to its end");
}

/// Includes methods that would change nothing: their result would seem to be decided under the
/// lock.
fn every_method_is_refused(writer: &mut Writer<'_>) {
    #[track_caller]
    fn refused<T: std::fmt::Debug>(result: Result<T>) {
        assert!(
            matches!(
                result.as_ref().map_err(Error::kind),
                Err(ErrorKind::ForkedWriter)
            ),
            "{result:?}"
        );
    }
    refused(writer.entry(b"key"));
    refused(writer.entry(b"absent"));
    refused(writer.insert_if_absent(b"key", b"2"));
    refused(writer.insert_if_absent(b"new", b"2"));
    let other = Version::from_nanos(1);
    refused(writer.put_if(b"key", b"2", other));
    refused(writer.delete_if(b"key", other));
    refused(writer.update(b"key", |_| panic!("it is not asked")));
    refused(writer.delete(b"absent"));
}

#[test]
fn inherited_commit_is_refused() {
    runs_well("commits an inherited writer");
}

pub(super) fn commits_an_inherited_writer(part: &Part) {
    for durability in [Durability::Process, Durability::Sync] {
        let cache = Options::new()
            .durability(durability)
            .open(part.path.with_extension(format!("{durability:?}")))
            .expect("a new cache");
        for changed in [false, true] {
            let mut writer = Some(cache.writer().expect("the writer"));
            let held = writer.as_mut().expect("the writer");
            if changed {
                held.put(b"key", b"1").expect("a put");
            }
            let pid = fork_here();
            let committed = writer.take().expect("the writer").commit();
            if pid == 0 {
                let refused = matches!(
                    committed.as_ref().map_err(Error::kind),
                    Err(ErrorKind::ForkedWriter)
                );
                end(refused);
            }
            join(pid);
            committed.expect("the end of a batch");
        }
        assert_value(&cache, "key", "1");
    }
    say("ran to its end");
}

/// `update` on the handle takes the writer, and both processes return from the closure.
#[test]
fn update_that_forks_is_refused() {
    runs_well("forks in an update");
}

pub(super) fn forks_in_an_update(part: &Part) {
    let cache = open(&part.path, LATE);
    for update in [Update::Keep, Update::Put(b"2".to_vec()), Update::Delete] {
        put(&cache, "key", "1").expect("a put");
        let mut pid = None;
        let done = cache.update(b"key", |_| {
            pid = Some(fork_here());
            update
        });
        if pid == Some(0) {
            let refused = matches!(
                done.as_ref().map_err(Error::kind),
                Err(ErrorKind::ForkedWriter)
            );
            end(refused);
        }
        join(pid.expect("a forked child"));
        done.expect("an update");
    }
    assert_eq!(cache.len(), 0);
    say("ran to its end");
}

/// Both processes return from the progress callback.
#[test]
fn forked_copies_belong_to_parents() {
    runs_well("forks in a copy");
}

pub(super) fn forks_in_a_copy(part: &Part) {
    let cache = open(&part.path, LATE);
    for number in 0..100 {
        put(&cache, &format!("key {number}"), "1").expect("a put");
    }
    for at in 0..2 {
        let target = part.path.with_extension(format!("copy{at}"));
        let (mut pid, mut heard) = (None, 0);
        let copied = cache
            .backup()
            .on_progress(|_| {
                if heard == at {
                    pid = Some(fork_here());
                    if pid != Some(0) {
                        // By now the child has done what it would do.
                        std::thread::sleep(SOON);
                    }
                }
                heard += 1;
            })
            .to(&target);
        if pid == Some(0) {
            let refused = matches!(
                copied.as_ref().map_err(Error::kind),
                Err(ErrorKind::ForkedWriter)
            );
            end(refused);
        }
        join(pid.expect("a forked child"));
        assert_eq!(copied.expect("a copy").entries, 100);
        let copy = open(&target, LATE);
        assert!(copy.verify().run().expect("a check").is_clean());
        assert_eq!(copy.len(), 100);
    }
    say("ran to its end");
}

#[test]
fn forked_repairs_belong_to_parents() {
    runs_well("forks in a repair");
}

pub(super) fn forks_in_a_repair(part: &Part) {
    let cache = open(&part.path, LATE);
    for number in 0..100 {
        put(&cache, &format!("key {number}"), "1").expect("a put");
    }
    drop(cache);
    std::fs::remove_file(&part.path).expect("the index");
    let mut pid = None;
    let repaired = mmapcache::Repair::new(&part.path)
        .on_progress(|_| {
            if pid.is_none() {
                pid = Some(fork_here());
                if pid != Some(0) {
                    // By now the child has done what it would do.
                    std::thread::sleep(SOON);
                }
            }
        })
        .run();
    if pid == Some(0) {
        let refused = matches!(
            repaired.as_ref().map_err(Error::kind),
            Err(ErrorKind::ForkedWriter)
        );
        end(refused);
    }
    join(pid.expect("a forked child"));
    assert_eq!(repaired.expect("a repair").entries, 100);
    assert!(
        open(&part.path, LATE)
            .verify()
            .run()
            .expect("a check")
            .is_clean()
    );
    say("ran to its end");
}

// A forked child that drops a writer neither unlocks nor hangs.
#[test]
fn dropped_inherited_writer_keeps_lock() {
    runs_well("drops a writer");
}

pub(super) fn drops_a_writer(part: &Part) {
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

// A forked child takes the writer later, though it inherited a dead one.
#[test]
fn child_can_lock_after_parent() {
    runs_well("waits for the parent's writer");
}

pub(super) fn waits_for_the_parents_writer(part: &Part) {
    let cache = open(&part.path, LATE);
    let mut writer = cache.writer().expect("the writer");
    let pid = fork(|| {
        // The dead writer is still on this thread's stack, as when the parent forked.
        let mut own = cache.writer().expect("the writer, when the parent is done");
        own.put(b"childs", b"1").expect("a put");
    });
    writer.put(b"mine", b"2").expect("a put");
    std::thread::sleep(SOON);
    assert!(!cache.contains(b"childs").expect("a lookup"), "two writers");
    drop(writer);
    join(pid);
    assert_value(&cache, "childs", "1");
    assert_value(&cache, "mine", "2");
    say("ran to its end");
}
