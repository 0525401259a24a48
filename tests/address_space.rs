//! Handles under limits of the address space: mappings in proportion to the cache, and errors that
//! name the limit.
//!
//! Limits are those of a process, so each is tried by a child process.

#![cfg(target_os = "linux")]

mod child;

use child::{Child, Part, say};
use mmapcache::{Error, MmapCache};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// No test of its own: what the other tests start as their child processes.
#[test]
fn child() {
    child::play(&[("limited", limited), ("too many", too_many)]);
}

/// Bytes of this process's address space.
fn used() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("sizes of this process");
    let first = pages.split_whitespace().next().expect("a size");
    first.parse::<u64>().expect("a number of pages") * rustix::param::page_size() as u64
}

fn limit(resource: Resource, bytes: u64) {
    let wanted = Rlimit {
        current: Some(bytes),
        maximum: getrlimit(resource).maximum,
    };
    setrlimit(resource, wanted).expect("a lower limit");
}

/// Works with a cache that grows, within 256 MiB.
fn limited(part: &Part) {
    limit(Resource::As, used() + (256 << 20));
    let before = used();
    let cache = MmapCache::open(&part.path).expect("a cache");
    say((used() - before) >> 20);
    let entries = 100_000_u32;
    for i in 0..entries {
        cache.put(&i.to_le_bytes(), &[7; 50]).expect("a put");
    }
    for i in 0..entries {
        assert_eq!(
            cache.get(&i.to_le_bytes()).expect("a look"),
            Some(vec![7; 50])
        );
    }
    assert_eq!(cache.keys().expect("a listing").count(), entries as usize);
    assert!(cache.verify().expect("a report").is_clean());
}

/// Opens handles until there is no more address space.
fn too_many(part: &Part) {
    let _first = MmapCache::open(&part.path).expect("a cache");
    limit(Resource::As, used() + (64 << 20));
    let mut handles = Vec::new();
    let error = loop {
        match MmapCache::open(&part.path) {
            Ok(cache) => handles.push(cache),
            Err(error) => break error,
        }
        assert!(handles.len() < 100, "no limit was met");
    };
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
    assert!(error.to_string().contains("RLIMIT_AS"), "{error}");
    handles.truncate(1);
    handles[0]
        .put(b"k", b"v")
        .expect("those that are open work");
    say(handles.len());
}

#[test]
fn limited_address_space_maps_little() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut child = Child::start("limited", &dir.path().join("cache"), &[]);
    let mib: u64 = child.line().expect("a size").parse().expect("a number");
    assert!(mib < 32, "{mib} MiB for an empty cache");
    child.finish();
}

#[test]
fn refused_mapping_names_the_limit() {
    let dir = tempfile::tempdir().expect("a directory");
    let kept = Child::start("too many", &dir.path().join("cache"), &[]).finish();
    assert_eq!(kept, "1");
}
