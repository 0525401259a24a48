//! A memoised function that several processes share. Children are this test binary again.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::LazyLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cached::ConcurrentCached;
use cached::macros::concurrent_cached;
use mmapcache_cached::{MmapStore, mmapcache};
use tempfile::TempDir;

/// The directory that a test gives to its children.
const DIR: &str = "MMAPCACHE_CACHED_TEST_DIR";

/// That of the parent's static store. No file of it stays open in a child.
static OWN: LazyLock<TempDir> =
    LazyLock::new(|| TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap());

fn dir() -> PathBuf {
    env::var_os(DIR).map_or_else(|| OWN.path().to_owned(), PathBuf::from)
}

/// Notes a computation in a file that all processes append to.
fn note(dir: &Path) {
    let mut log = OpenOptions::new();
    let mut log = log.create(true).append(true).open(dir.join("log")).unwrap();
    log.write_all(b"computed\n").unwrap();
}

fn computations(dir: &Path) -> usize {
    fs::read_to_string(dir.join("log")).map_or(0, |log| log.lines().count())
}

/// Starts a process that runs one test of this binary, as a child.
fn start(test: &str, dir: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .spawn()
        .unwrap()
}

#[concurrent_cached(
    ty = "MmapStore<u64, u64>",
    create = r#"{ MmapStore::open(dir().join("squares")).unwrap() }"#
)]
fn square(number: u64) -> mmapcache::Result<u64> {
    note(&dir());
    Ok(number * number)
}

// The parent computes 12, the child 13; each finds what the other computed.
#[test]
fn results_are_shared() {
    if env::var_os(DIR).is_some() {
        assert_eq!(square(12).unwrap(), 144);
        assert_eq!(computations(&dir()), 1);
        assert_eq!(square(13).unwrap(), 169);
        return;
    }
    assert_eq!(square(12).unwrap(), 144);
    let child = start("results_are_shared", OWN.path()).wait().unwrap();
    assert!(child.success());
    assert_eq!(computations(OWN.path()), 2);
    assert_eq!((square(13).unwrap(), computations(OWN.path())), (169, 2));
}

/// Computes a value that takes its time, as a child does.
fn compute_slowly(pause: Duration) -> u64 {
    let store: MmapStore<u64, u64> = MmapStore::open(dir().join("slow")).unwrap();
    let value = store.cache_get_or_set_with(1, || {
        note(&dir());
        sleep(pause);
        42
    });
    value.unwrap()
}

#[test]
fn one_process_computes() {
    if env::var_os(DIR).is_some() {
        assert_eq!(compute_slowly(Duration::from_millis(500)), 42);
        return;
    }
    let dir = TempDir::new().unwrap();
    let children: Vec<_> = (0..3)
        .map(|_| start("one_process_computes", dir.path()))
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(computations(dir.path()), 1);
}

// The process that computes is killed: one that waits for it begins, long before its patience of 30
// seconds ends.
#[test]
fn waiters_take_over_from_the_dead() {
    if env::var_os(DIR).is_some() {
        compute_slowly(Duration::from_secs(60));
        return;
    }
    let dir = TempDir::new().unwrap();
    let mut child = start("waiters_take_over_from_the_dead", dir.path());
    let began = Instant::now();
    while computations(dir.path()) == 0 {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "the child computes nothing"
        );
        sleep(Duration::from_millis(5));
    }
    let store: MmapStore<u64, u64> = MmapStore::open(dir.path().join("slow")).unwrap();
    let waiter = std::thread::spawn(move || store.cache_get_or_set_with(1, || 43).unwrap());
    sleep(Duration::from_millis(200));
    assert!(!waiter.is_finished());
    let killed = Instant::now();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(waiter.join().unwrap(), 43);
    assert!(
        killed.elapsed() < Duration::from_secs(10),
        "{:?}",
        killed.elapsed()
    );
}
