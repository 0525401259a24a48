//! Handles and writers that a forked child inherits.
//!
//! Each test starts its own process, whose only other thread is the test runner's idle one, unless
//! the test is about other threads.
#![expect(
    unsafe_code,
    reason = "fork, waitpid and _exit are calls of the C library"
)]

mod caches;
#[path = "../child/mod.rs"]
mod child;
mod computations;
#[cfg(feature = "dict")]
mod dictionaries;
mod handles;
mod memory;
mod orphans;
mod process;
mod rebuilds;
mod threads;
mod writers;

use std::path::Path;
use std::time::Duration;

use child::Child;
use mmapcache::{Error, ErrorKind, MmapCache, Options, Result};

type Role = (&'static str, fn(&child::Part));

/// Not a test: the entry point of the child processes.
#[test]
fn child() {
    let roles = [HANDLES, MEMORY, DICTIONARIES, COMPUTATIONS].concat();
    child::play(&roles);
}

const MEMORY: &[Role] = &[
    ("uses a pool amid threads", memory::uses_a_pool_amid_threads),
    (
        "uses a typed pool amid threads",
        memory::uses_a_typed_pool_amid_threads,
    ),
    (
        "drops handles amid threads",
        memory::drops_handles_amid_threads,
    ),
    (
        "uses decoded instances amid threads",
        memory::uses_decoded_instances_amid_threads,
    ),
    (
        "decodes what another thread decodes",
        memory::decodes_what_another_thread_decodes,
    ),
    ("forks while it decodes", memory::forks_while_it_decodes),
    ("uses labels amid threads", memory::uses_labels_amid_threads),
    ("makes pools amid threads", memory::makes_pools_amid_threads),
];

const COMPUTATIONS: &[Role] = &[
    (
        "waits for the parent's computation",
        computations::waits_for_the_parents_computation,
    ),
    (
        "forks within a computation",
        computations::forks_within_a_computation,
    ),
    (
        "leaves a child amid a computation",
        computations::leaves_a_child_amid_a_computation,
    ),
];

#[cfg(not(feature = "dict"))]
const DICTIONARIES: &[Role] = &[];
#[cfg(feature = "dict")]
const DICTIONARIES: &[Role] = &[
    (
        "uses a dictionary in memory amid threads",
        dictionaries::uses_a_dictionary_in_memory_amid_threads,
    ),
    (
        "uses a dictionary with two layers amid threads",
        dictionaries::uses_a_dictionary_with_two_layers_amid_threads,
    ),
    (
        "uses a dictionary in files amid threads",
        dictionaries::uses_a_dictionary_in_files_amid_threads,
    ),
    (
        "forks in a transformation in memory",
        dictionaries::forks_in_a_transformation_in_memory,
    ),
    (
        "forks in a transformation in files",
        dictionaries::forks_in_a_transformation_in_files,
    ),
    (
        "forks while it lists a dictionary",
        dictionaries::forks_while_it_lists_a_dictionary,
    ),
];

const HANDLES: &[Role] = &[
    ("counts in a child", caches::counts_in_a_child),
    ("inherits a batch", caches::inherits_a_batch),
    ("uses a handle", handles::uses_a_handle),
    ("forks twice", handles::forks_twice),
    ("drops a handle", handles::drops_a_handle),
    (
        "drops an exclusive handle",
        handles::drops_an_exclusive_handle,
    ),
    ("inherits a writer", writers::inherits_a_writer),
    (
        "commits an inherited writer",
        writers::commits_an_inherited_writer,
    ),
    ("forks in an update", writers::forks_in_an_update),
    ("forks in a copy", writers::forks_in_a_copy),
    ("forks in a repair", writers::forks_in_a_repair),
    ("drops a writer", writers::drops_a_writer),
    (
        "waits for the parent's writer",
        writers::waits_for_the_parents_writer,
    ),
    ("forks and is killed", orphans::forks_and_is_killed),
    (
        "leaves a great-grandchild",
        orphans::leaves_a_great_grandchild,
    ),
    ("executes a program", orphans::executes_a_program),
    (
        "leaves a child amid a rebuild",
        rebuilds::leaves_a_child_amid_a_rebuild,
    ),
    (
        "leaves a child and rebuilds",
        rebuilds::leaves_a_child_and_rebuilds,
    ),
    ("forks within a rebuild", rebuilds::forks_within_a_rebuild),
    ("becomes a daemon", orphans::becomes_a_daemon),
    (
        "leaves a child that writes",
        orphans::leaves_a_child_that_writes,
    ),
    ("forks amid its threads", threads::forks_amid_its_threads),
    ("forks while it creates", threads::forks_while_it_creates),
    ("forks while it lists", handles::forks_while_it_lists),
];

fn open(path: &Path, timeout: Duration) -> MmapCache {
    let mut options = Options::new();
    options.lock_timeout(Some(timeout));
    options.open(path).expect("the cache")
}

const SOON: Duration = Duration::from_millis(100);

const LATE: Duration = Duration::from_secs(10);

#[track_caller]
fn assert_value(cache: &MmapCache, key: &str, value: &str) {
    let found = cache.get(key.as_bytes()).expect("a lookup");
    assert_eq!(found.as_deref(), Some(value.as_bytes()), "{key}");
}

fn put(cache: &MmapCache, key: &str, value: &str) -> Result<()> {
    cache.put(key.as_bytes(), value.as_bytes()).map(drop)
}

/// Starts a process in the role, and asserts that it succeeds.
#[track_caller]
fn runs_well(role: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut child = Child::start(role, &dir.path().join("cache"), &[]);
    child.expect("ran to its end");
    child.finish();
}

#[track_caller]
fn assert_locked(cache: &MmapCache) {
    let refused = put(cache, "theirs", "");
    assert!(
        matches!(
            refused.as_ref().map_err(Error::kind),
            Err(ErrorKind::Locked { .. })
        ),
        "{refused:?}"
    );
}

/// Asserts that a process that was not forked finds the lock held.
#[track_caller]
fn assert_locked_for_others(path: &Path) {
    let mut other = Child::start("drops an exclusive handle", path, &[1]);
    other.expect("locked");
    other.finish();
}
