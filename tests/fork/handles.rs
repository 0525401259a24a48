//! Handles that a forked child inherits, uses and drops, while its parent lives on.
//!
//! No process holds the lock at the moment of the fork, except for exclusive handles.

use mmapcache::{Options, Result};

use super::child::{self, Part, say};
use super::process::{fork, join};
use super::{
    LATE, SOON, assert_locked, assert_locked_for_others, assert_value, open, put, runs_well,
};

// A forked child reads, writes and lists with the handle that it inherited.
#[test]
fn inherited_handle_works_in_child() {
    runs_well("uses a handle");
}

pub(super) fn uses_a_handle(part: &Part) {
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
    assert!(cache.verify().run().expect("a check").is_clean());
    say("ran to its end");
}

// Parent, child and grandchild all write with one handle.
#[test]
fn three_generations_share_one_handle() {
    runs_well("forks twice");
}

pub(super) fn forks_twice(part: &Part) {
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
    assert!(cache.verify().run().expect("a check").is_clean());
    say("ran to its end");
}

// A forked child that drops a handle takes nothing from its parent.
#[test]
fn dropped_inherited_handle_costs_nothing() {
    runs_well("drops a handle");
}

pub(super) fn drops_a_handle(part: &Part) {
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

// A forked child that drops an exclusive handle leaves the lock to its parent.
#[test]
fn dropped_exclusive_handle_keeps_lock() {
    runs_well("drops an exclusive handle");
}

pub(super) fn drops_an_exclusive_handle(part: &Part) {
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
fn forked_listing_continues_in_both() {
    runs_well("forks while it lists");
}

pub(super) fn forks_while_it_lists(part: &Part) {
    let cache = child::tight().open(&part.path).expect("a new cache");
    for number in 0..300 {
        put(&cache, &format!("key {number}"), "1").expect("a put");
    }
    let mut items = cache.iter().expect("a listing");
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
