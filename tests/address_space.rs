//! Handles under limits of the address space: mappings in proportion to the cache, and errors that
//! name the limit.
//!
//! Limits apply to a process, so that each test uses a child process.

#![cfg(target_os = "linux")]

mod child;

use child::{Child, Part, say};
use mmapcache::{ErrorKind, MmapCache};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Not a test: the entry point of the child processes.
#[test]
fn child() {
    child::play(&[
        ("limited", limited),
        ("too many", too_many),
        ("a thousand", thousand),
        ("locked", locked),
    ]);
}

/// Returns the size of this process's address space.
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

/// Grows a cache within 256 MiB.
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
            cache.get(&i.to_le_bytes()).expect("a lookup"),
            Some(vec![7; 50])
        );
    }
    assert_eq!(cache.keys().expect("a listing").count(), entries as usize);
    assert!(cache.verify().run().expect("a report").is_clean());
}

/// Opens handles until the address space is used up.
fn too_many(part: &Part) {
    let _first = MmapCache::open(&part.path).expect("a cache");
    limit(Resource::As, used() + (64 << 20));
    let mut handles = Vec::new();
    let error = loop {
        match MmapCache::open(&part.path) {
            Ok(cache) => handles.push(cache),
            Err(error) => break error,
        }
        assert!(handles.len() < 10_000, "no limit was met");
    };
    assert!(matches!(error.kind(), ErrorKind::Io { .. }), "{error:?}");
    assert!(error.to_string().contains("RLIMIT_AS"), "{error}");
    handles.truncate(1);
    handles[0]
        .put(b"k", b"v")
        .expect("those that are open work");
    say(handles.len());
}

/// Opens a thousand handles within 16 GiB, and uses each.
fn thousand(part: &Part) {
    let most = getrlimit(Resource::Nofile).maximum;
    let files = Rlimit {
        current: most,
        maximum: most,
    };
    setrlimit(Resource::Nofile, files).expect("as many files as may be");
    limit(Resource::As, used() + (16 << 30));
    let handles: Vec<_> = (0..1_000)
        .map(|number| MmapCache::open(&part.path).unwrap_or_else(|e| panic!("{number}: {e}")))
        .collect();
    for (number, cache) in (0_u32..).zip(&handles) {
        cache.put(&number.to_le_bytes(), b"v").expect("a put");
    }
    assert_eq!(handles[0].len(), 1_000);
    say(handles.len());
}

/// Locks all memory that is mapped from here on, with a limit of 4 MiB, which does not apply to
/// root.
fn locked(part: &Part) {
    let most = getrlimit(Resource::Memlock).maximum.unwrap_or(u64::MAX);
    limit(Resource::Memlock, most.min(4 << 20));
    let unprivileged = rustix::process::Uid::from_raw(65_534);
    rustix::thread::set_thread_uid(unprivileged).expect("another user");
    let resident = std::fs::read_to_string("/proc/thread-self/status").expect("a status");
    assert!(resident.contains("CapEff:\t0000000000000000"), "{resident}");
    rustix::mm::mlockall(rustix::mm::MlockAllFlags::FUTURE).expect("to lock memory");
    // The directory alone exceeds the limit.
    let error = MmapCache::open(&part.path).expect_err("a mapping that may not be locked");
    assert!(matches!(error.kind(), ErrorKind::Io { .. }), "{error:?}");
    say(error);
}

#[test]
fn thousand_handles_fit_the_limit() {
    let dir = tempfile::tempdir().expect("a directory");
    let opened = Child::start("a thousand", &dir.path().join("cache"), &[]).finish();
    assert_eq!(opened, "1000");
}

#[test]
fn locked_memory_names_the_limit() {
    use std::os::unix::fs::PermissionsExt;
    if !rustix::process::geteuid().is_root() {
        eprintln!("NOT RUN: becoming another user needs root");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let all = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(dir.path(), all).expect("a directory for everybody");
    let said = Child::start("locked", &dir.path().join("cache"), &[]).finish();
    assert!(said.contains("RLIMIT_MEMLOCK"), "{said}");
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
