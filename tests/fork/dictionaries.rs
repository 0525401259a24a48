//! Dictionaries that a forked child inherits while other threads of the parent use them.

use mmapcache::Update;
use mmapcache::dict::{CachedDict, Dict, DictError, LocalDict, MmapDict, Store};
use mmapcache::{ErrorKind, Options};

use super::child::{Part, say};
use super::memory::{fork_amid, with_two_threads};
use super::process::{end, fork, fork_here, join_in_time};
use super::runs_well;

/// Changes and reads a dictionary in every way.
fn use_dict(dict: &Dict<u64, impl Store>, number: u64) {
    let key = ["busy".to_owned(), (number % 17).to_string()];
    dict.insert(&key, number).expect("an insertion");
    dict.update(&key, |value| Update::Put(value.unwrap_or(0) + 1))
        .expect("a transformation");
    dict.get(&key).expect("a lookup");
    if number.is_multiple_of(16) {
        dict.remove(&key).expect("a deletion");
        let listed: Result<Vec<_>, _> = dict.iter().collect();
        listed.expect("a listing");
    }
}

/// What each child finds and does.
fn child_uses_dict(dict: &Dict<u64, impl Store>, number: usize) {
    assert_eq!(dict.get("known").expect("a lookup"), Some(7));
    let key = format!("child {number}").replace(' ', "-");
    dict.insert(&key, number as u64).expect("an insertion");
    assert_eq!(dict.require(&key).expect("it is there"), number as u64);
    assert_eq!(dict.take(&key).expect("a deletion"), Some(number as u64));
    assert!(dict.len().expect("a count") >= 1);
    assert!(dict.random_key().expect("a draw").is_some());
    with_two_threads(|| (0..20).for_each(|number| use_dict(dict, number)));
}

#[test]
fn local_dict_works_in_forked_children() {
    runs_well("uses a dictionary in memory amid threads");
}

pub(super) fn uses_a_dictionary_in_memory_amid_threads(_: &Part) {
    let dict = LocalDict::<u64>::new();
    dict.insert("known", 7).expect("an insertion");
    fork_amid(
        |number| use_dict(&dict, number),
        |number| {
            child_uses_dict(&dict, number);
            dict.clear().expect("an empty dictionary");
            assert_eq!(dict.get_shared("known").expect("a lookup"), None);
        },
    );
    assert_eq!(dict.get("known").expect("a lookup"), Some(7));
    say("ran to its end");
}

#[test]
fn cached_dict_works_in_forked_children() {
    runs_well("uses a dictionary with two layers amid threads");
}

pub(super) fn uses_a_dictionary_with_two_layers_amid_threads(part: &Part) {
    let files = MmapDict::<u64>::open(&part.path).expect("a new dictionary");
    let dict = CachedDict::new(files.clone());
    dict.insert("known", 7).expect("an insertion");
    fork_amid(
        |number| use_dict(&dict, number),
        |number| {
            assert_eq!(
                dict.get_shared("known").expect("a lookup").as_deref(),
                Some(&7)
            );
            child_uses_dict(&dict, number);
            dict.forget();
        },
    );
    assert_eq!(files.get("known").expect("a lookup"), Some(7));
    say("ran to its end");
}

#[test]
fn mmap_dict_works_in_forked_children() {
    runs_well("uses a dictionary in files amid threads");
}

pub(super) fn uses_a_dictionary_in_files_amid_threads(part: &Part) {
    let dict = MmapDict::<u64>::open(&part.path).expect("a new dictionary");
    dict.insert("known", 7).expect("an insertion");
    fork_amid(
        |number| use_dict(&dict, number),
        |number| child_uses_dict(&dict, number),
    );
    say("ran to its end");
}

/// A transformation in memory runs outside the tree: both processes continue it, each in its own
/// memory.
#[test]
fn local_transformation_may_fork() {
    runs_well("forks in a transformation in memory");
}

pub(super) fn forks_in_a_transformation_in_memory(_: &Part) {
    let dict = LocalDict::<u64>::new();
    let mut pid = None;
    let done = dict.update("key", |_| {
        pid = Some(fork_here());
        Update::Put(1)
    });
    let right = done.is_ok() && dict.get("key").is_ok_and(|value| value == Some(1));
    if pid == Some(0) {
        // Other threads of the child can use the dictionary, and do not wait for those of the
        // parent.
        let next = dict.update("key", |_| Update::Put(2)).is_ok();
        end(right && next);
    }
    join_in_time(pid.expect("a forked child"));
    assert!(right);
    say("ran to its end");
}

/// In files a transformation holds the parent's writer lock: whatever the closure returns, the
/// child gets an error.
#[test]
fn transformation_in_files_refuses_children() {
    runs_well("forks in a transformation in files");
}

pub(super) fn forks_in_a_transformation_in_files(part: &Part) {
    let dict = Options::new()
        .open(&part.path)
        .map(|cache| MmapDict::<u64>::on(cache.into(), Default::default()))
        .expect("a new dictionary");
    dict.insert("key", 1).expect("an insertion");
    for write in [Update::Put(2), Update::Keep, Update::Delete] {
        let mut pid = None;
        let done: Result<_, DictError> = dict.try_update("key", 6, |_| {
            pid = Some(fork_here());
            Ok(write)
        });
        if pid == Some(0) {
            let refused = done.is_err_and(|error| match error {
                DictError::Backend { source, .. } => {
                    let path = Some(dict.cache().path());
                    matches!(source.kind(), ErrorKind::ForkedWriter) && source.path() == path
                }
                _ => false,
            });
            end(refused);
        }
        join_in_time(pid.expect("a forked child"));
        done.expect("a transformation");
    }
    assert_eq!(dict.get("key").expect("a lookup"), None);
    say("ran to its end");
}

/// An iterator takes a few items at a time, and continues in both processes.
#[test]
fn local_listing_continues_in_children() {
    runs_well("forks while it lists a dictionary");
}

pub(super) fn forks_while_it_lists_a_dictionary(_: &Part) {
    let dict = LocalDict::<u64>::new();
    for number in 0..300 {
        dict.insert(number.to_string(), number)
            .expect("an insertion");
    }
    let items = std::cell::RefCell::new(dict.iter());
    let list = |count| {
        let mut items = items.borrow_mut();
        items.by_ref().take(count).filter(Result::is_ok).count()
    };
    assert_eq!(list(100), 100);
    join_in_time(fork(|| assert_eq!(list(1_000), 200)));
    assert_eq!(list(1_000), 200);
    say("ran to its end");
}
