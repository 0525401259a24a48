//! Tests of the tree and its locks.

use std::sync::{Arc, Mutex, OnceLock};

use serde::{Deserialize, Serialize};

use crate::dict::conditional::ETag;
use crate::dict::item_key::Scope;
use crate::dict::local::Local;
use crate::dict::{CachedDict, DictError, Format, LocalDict, LocalOptions, MmapDict};
use crate::engine::{Update, Version};

#[test]
fn empty_nodes_await_prune_interval() {
    let dict = LocalDict::<u8>::with(LocalOptions::new().prune_interval(3));
    for name in ["a", "b", "c"] {
        dict.insert([name, "x", "leaf"], 1).unwrap();
    }
    assert_eq!(dict.nodes(), 7);
    dict.remove(["a", "x", "leaf"]).unwrap();
    assert!(!dict.remove(["a", "x", "leaf"]).unwrap(), "not counted");
    dict.subdict(["b"]).unwrap().clear().unwrap();
    assert_eq!(dict.nodes(), 7);
    dict.insert(["b", "y"], 2).unwrap();
    dict.remove(["c", "x", "leaf"]).unwrap();
    assert_eq!(dict.nodes(), 2, "the root, and what holds b/y");
}

#[test]
fn empty_nodes_stay_without_interval() {
    for interval in [None, Some(0)] {
        let dict = LocalDict::<u8>::with(LocalOptions::new().prune_interval(interval));
        for _ in 0..200 {
            dict.insert(["a", "b"], 1).unwrap();
            dict.remove(["a", "b"]).unwrap();
        }
        assert_eq!((dict.nodes(), dict.prune_interval()), (2, None));
    }
}

#[test]
fn subdict_creates_no_nodes() {
    let dict = LocalDict::<u8>::new();
    let view = dict.subdict(["a", "b", "c"]).unwrap();
    assert_eq!((view.get("x").unwrap(), view.len().unwrap()), (None, 0));
    assert_eq!(dict.nodes(), 1);
}

// A listing of many levels returns each item once, although it copies 64 at a time.
#[test]
fn deep_listing_meets_items_once() {
    let dict = LocalDict::<u32>::new();
    let mut expected = Vec::new();
    for n in 0..1_000u32 {
        let (a, b) = (format!("{}", n % 7), format!("{}", n % 31));
        let parts = [&a[..], &b, &n.to_string()];
        let key = &parts[..1 + n as usize % 3];
        let at = dict.insert(key, n).unwrap();
        expected.retain(|(it, _): &(Vec<String>, _)| it.iter().ne(key.iter()));
        expected.push((key.iter().map(ToString::to_string).collect(), at));
    }
    let listed = dict.keys_and_etags().map(Result::unwrap);
    let mut listed: Vec<(Vec<String>, _)> = listed
        .map(|(key, etag)| (key.parts().map(str::to_owned).collect(), etag))
        .collect();
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected);
    assert_eq!(dict.len().unwrap(), expected.len() as u64);
}

#[test]
fn listing_continues_after_deletions() {
    let dict = LocalDict::<u32>::new();
    for n in 0..500 {
        dict.insert([format!("{:03}", n / 10), n.to_string()], n)
            .unwrap();
    }
    let mut met = 0;
    for key in dict.keys() {
        dict.remove(key.unwrap()).unwrap();
        met += 1;
    }
    assert_eq!((met, dict.len().unwrap()), (500, 0));
}

#[test]
fn longest_key_spares_the_stack() {
    let dict = LocalDict::<u8>::with(LocalOptions::new().prune_interval(1));
    let key = vec!["x"; 255];
    dict.insert(&key, 1).unwrap();
    assert_eq!((dict.len().unwrap(), dict.nodes()), (1, 255));
    assert_eq!(dict.keys().next().unwrap().unwrap().len(), 255);
    dict.remove(&key).unwrap();
    assert_eq!(dict.nodes(), 1);
}

/// A value that reads its dictionary when it is dropped.
#[derive(Clone, Serialize, Deserialize)]
struct Curious;

static ASKED: OnceLock<LocalDict<Curious>> = OnceLock::new();
static ANSWERS: Mutex<Vec<u64>> = Mutex::new(Vec::new());

impl Drop for Curious {
    fn drop(&mut self) {
        if let Some(dict) = ASKED.get() {
            let len = dict.len().expect("no lock is held");
            ANSWERS.lock().expect("no other test").push(len);
        }
    }
}

#[test]
fn dropped_value_may_reenter_dict() {
    let dict = ASKED.get_or_init(LocalDict::new);
    dict.insert("a", Curious).unwrap();
    for change in 0..3 {
        // Read, so that the tree has a decoded value.
        drop(dict.get_shared("a").unwrap());
        match change {
            0 => drop(dict.insert("a", Curious).unwrap()),
            1 => drop(dict.remove("a").unwrap()),
            _ => dict.clear().unwrap(),
        }
        dict.get_or_insert("a", Curious).map(drop).unwrap();
    }
    assert!(ANSWERS.lock().unwrap().len() > 6);
}

#[test]
fn decoded_value_is_shared_until_rewritten() {
    let dict = LocalDict::<String>::new();
    dict.insert("a", "x".to_owned()).unwrap();
    let first = dict.get_shared("a").unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &dict.get_shared("a").unwrap().unwrap()));
    dict.insert("a", "x".to_owned()).unwrap();
    assert!(!Arc::ptr_eq(
        &first,
        &dict.get_shared("a").unwrap().unwrap()
    ));
    // For another type it is decoded again.
    let chars = dict.with_format::<char>(dict.format());
    assert_eq!(chars.get("a").unwrap(), Some('x'));
    assert_eq!(dict.get("a").unwrap().as_deref(), Some("x"));
}

#[test]
fn mutual_updates_do_not_deadlock() {
    let dict = LocalDict::<u8>::new();
    let at = std::sync::Barrier::new(2);
    let increment = |value: Option<u8>| Update::Put(value.unwrap_or(0) + 1);
    std::thread::scope(|scope| {
        for (mine, theirs) in [("a", "b"), ("b", "a")] {
            let (dict, at) = (&dict, &at);
            let mut met = false;
            scope.spawn(move || {
                dict.try_update(mine, None, |value| {
                    if !std::mem::replace(&mut met, true) {
                        at.wait();
                        dict.update(theirs, increment)?;
                    }
                    Ok::<_, DictError>(increment(value))
                })
                .unwrap();
            });
        }
    });
    assert_eq!(
        (dict.get("a").unwrap(), dict.get("b").unwrap()),
        (Some(2), Some(2))
    );
}

#[test]
fn forgetting_removes_empty_nodes() {
    let memory = Local::new(LocalOptions::new().prune_interval(None));
    let scope = Scope::whole(Format::Json);
    let at = |key: [&str; 3]| scope.item_key(&key).unwrap();
    let etag = ETag::new(Version::from_nanos(1));
    for key in [["a", "b", "c"], ["a", "d", "e"]] {
        memory.keep(&at(key), etag, b"1");
    }
    assert_eq!(memory.nodes(), 4);
    for _ in 0..2 {
        memory.forget(&at(["a", "b", "c"]));
        assert_eq!(memory.nodes(), 3);
    }
    memory.forget(&at(["a", "d", "e"]));
    assert_eq!(memory.nodes(), 1);
}

// An update waits for its turn instead of making another one run again.
#[test]
fn concurrent_update_waits_its_turn() {
    let dict = LocalDict::<u8>::new();
    let (begun, ran) = (std::sync::Barrier::new(2), Mutex::new(0));
    let increment = |value: Option<u8>| {
        *ran.lock().unwrap() += 1;
        Update::Put(value.unwrap_or(0) + 1)
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut is_first = true;
            dict.update("a", |value| {
                if std::mem::take(&mut is_first) {
                    begun.wait();
                    // Long enough for the other update to end, if it did not wait.
                    std::thread::sleep(std::time::Duration::from_millis(100));
                }
                increment(value)
            })
            .unwrap();
        });
        begun.wait();
        dict.update("a", increment).unwrap();
    });
    assert_eq!((dict.get("a").unwrap(), *ran.lock().unwrap()), (Some(2), 2));
}

// The thread that forks holds the lock, as a thread that a signal interrupted may.
#[test]
fn lost_tree_is_an_error() {
    let dict = LocalDict::<u8>::new();
    dict.insert("key", 1).unwrap();
    let held = dict.store().lock().unwrap();
    assert!(crate::lock::tests::child_finds(|| {
        fn is_lost<T>(result: Result<T, DictError>) -> bool {
            matches!(result, Err(DictError::Forked))
        }
        let mut listed = dict.iter();
        is_lost(dict.get("key"))
            && is_lost(dict.insert("key", 2))
            && is_lost(dict.update("key", |_| Update::Delete))
            && is_lost(dict.remove("key"))
            && is_lost(dict.clear())
            && is_lost(dict.len())
            && is_lost(dict.random_key())
            && listed.next().is_some_and(is_lost)
            && listed.next().is_none()
            && dict.nodes() == 0
    }));
    drop(held);
    assert_eq!(dict.get("key").unwrap(), Some(1));
}

// Values that were in memory can be read from the files.
#[test]
fn lost_front_reads_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let files = MmapDict::<u8>::open(dir.path().join("d")).unwrap();
    let dict = CachedDict::new(files);
    dict.insert("key", 1).unwrap();
    dict.get("key").unwrap();
    let held = dict.memory().lock().unwrap();
    assert!(crate::lock::tests::child_finds(|| {
        let found = dict.get("key").is_ok_and(|value| value == Some(1));
        let put = dict.insert("key", 2).is_ok();
        let again = dict
            .get_shared("key")
            .is_ok_and(|value| value.is_some_and(|it| *it == 2));
        dict.forget();
        found && put && again && dict.held() == 0 && dict.clear().is_ok()
    }));
    drop(held);
    assert_eq!(dict.get("key").unwrap(), None);
}
