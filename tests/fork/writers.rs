//! Writers that a forked child inherits: dead in the child, alive in the parent.
//!
//! Both live on here; parents that are killed are the matter of `orphans.rs`.

use mmapcache::{Error, Update, Writer};

use super::child::{Part, say};
use super::process::{fork, join};
use super::{
    LATE, SOON, assert_locked, assert_locked_for_others, assert_value, open, put, runs_well,
};

#[test]
fn an_inherited_writer_is_dead_in_the_child_and_alive_in_the_parent() {
    runs_well("inherits a writer");
}

pub(super) fn inherits_a_writer(part: &Part) {
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

#[test]
fn a_forked_child_takes_the_writer_in_its_turn_though_a_dead_one_was_inherited() {
    runs_well("waits for the parent's writer");
}

pub(super) fn waits_for_the_parents_writer(part: &Part) {
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
