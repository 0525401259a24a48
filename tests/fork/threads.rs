//! Forks while other threads of the parent are in the middle of an operation.
//!
//! Those threads do not exist in the child, which must handle what they left in memory.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mmapcache::{ErrorKind, MmapCache, Result};

use super::child::{self, Part, say};
use super::process::{end_if_it_hangs, fork, join, kill};
use super::{LATE, open, put, runs_well};

// Children forked while other threads put, list and rebuild use the handle at once.
// L2: the fork handlers wait for no thread for long, and neither does the child.
#[test]
fn child_uses_busy_handle_immediately() {
    runs_well("forks amid its threads");
}

pub(super) fn forks_amid_its_threads(part: &Part) {
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
                let items = cache.iter().expect("a listing");
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
    assert!(cache.verify().run().expect("a check").is_clean());
    say("ran to its end");
}

/// Returns how many of the permanent keys a listing has.
fn staying_in(cache: &MmapCache) -> usize {
    loop {
        let keys: Result<Vec<_>> = cache.keys().expect("a listing").collect();
        match keys {
            Ok(keys) => return keys.iter().filter(|key| key.starts_with(b"stays")).count(),
            Err(error) => assert!(matches!(error.kind(), ErrorKind::Superseded), "{error}"),
        }
    }
}

fn uses_it_right_away(cache: &MmapCache) {
    end_if_it_hangs();
    assert!(cache.get(b"stays 7").expect("a lookup").is_some());
    assert!(cache.entry(b"stays 8").expect("a lookup").is_some());
    let mut writer = cache.writer().expect("the writer");
    writer.put(b"stays 9", b"childs").expect("a put");
    assert_eq!(staying_in(cache), 200);
}

// Children forked while caches are created keep no process from creating one there.
#[test]
fn child_forked_during_creation_locks_nothing() {
    runs_well("forks while it creates");
}

/// The children live on; the files of each cache are removed, and it is created once more.
pub(super) fn forks_while_it_creates(part: &Part) {
    end_if_it_hangs();
    // The fork handler is installed with the first lock.
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
