//! Forks during a rebuild, which only the parent can complete.
//!
//! Uses rebuilds through a handle and a writer, and does not read their files.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mmapcache::{Error, ErrorKind};

use super::child::{Part, say};
use super::orphans::{answers, outlives_its_parent};
use super::process::{fork, join};
use super::{LATE, assert_value, open, put, runs_well};

// A rebuild killed in the middle blocks no process, though a child forked in it lives on.
#[test]
fn killed_forked_rebuild_frees_lock() {
    outlives_its_parent("leaves a child amid a rebuild");
}

pub(super) fn leaves_a_child_amid_a_rebuild(part: &Part) {
    let cache = open(&part.path, LATE);
    put(&cache, "parents", "1").expect("a put");
    let items = std::iter::once_with(|| {
        fork(answers);
        std::thread::sleep(6 * LATE);
        Ok::<_, Error>((b"key", b"2"))
    });
    cache.atomic_rebuild(items).expect("to be killed before");
}

// A committed rebuild blocks no process, though a child forked in it lives on.
#[test]
fn committed_forked_rebuild_frees_lock() {
    outlives_its_parent("leaves a child and rebuilds");
}

pub(super) fn leaves_a_child_and_rebuilds(part: &Part) {
    let cache = open(&part.path, LATE);
    let mut writer = cache.writer().expect("the writer");
    writer.put(b"parents", b"0").expect("a put");
    let items = std::iter::once_with(|| {
        fork(|| {
            while cache.get(b"parents").expect("a lookup").as_deref() != Some(b"1") {
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

// The child's rebuild is refused; the parent's completes.
#[test]
fn childs_rebuild_is_refused() {
    runs_well("forks within a rebuild");
}

pub(super) fn forks_within_a_rebuild(part: &Part) {
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
            let refused = matches!(
                done.as_ref().map(|done| done.as_ref().map_err(Error::kind)),
                Ok(Err(ErrorKind::ForkedWriter))
            );
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
        assert!(cache.verify().run().expect("a check").is_clean());
        cache.clear().expect("an empty cache");
    }
    say("ran to its end");
}
