//! Other files in the directory cost nothing, and the files of a killed rebuild are removed.
//!
//! A child process that may not list directories uses a cache in every way; only repair and
//! recovery list.
#![cfg(target_os = "linux")]

mod child;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use child::scratch::in_memory;
use child::{Child, Part, say, tight};
use mmapcache::{Error, MmapCache, Options};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Not a test: the entry point of the child processes.
#[test]
fn child() {
    child::play(&[
        ("may not list", may_not_list),
        ("rebuilds forever", rebuilds_forever),
    ]);
}

fn key(i: u32) -> Vec<u8> {
    format!("key {i}, some of them longer than a slot").into_bytes()
}

type Items = Vec<Result<(Vec<u8>, Vec<u8>), Error>>;

fn may_not_list(part: &Part) {
    let calls = [libc::SYS_getdents64];
    let rules = calls.into_iter().map(|call| (call, Vec::new())).collect();
    let arch = std::env::consts::ARCH.try_into().expect("a known machine");
    let refusing = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refusing, arch);
    let program: BpfProgram = filter.expect("a filter").try_into().expect("a program");
    seccompiler::apply_filter(&program).expect("a filter of one's own");
    let dir = part.path.parent().expect("a directory");
    let listed = fs::read_dir(dir).map(|entries| entries.filter_map(Result::ok).count());
    assert!(matches!(listed, Ok(0) | Err(_)), "the filter does nothing");

    let cache = tight().open(&part.path).expect("a new cache");
    for round in 0..3 {
        for i in 0..200 {
            cache.put(&key(i), &[round; 300]).expect("a put");
        }
    }
    assert!(cache.stats().expect("numbers").segments > 3);
    cache.flush().expect("a flush");
    work_on(&cache);
    // Another handle: a writer and a reader.
    drop(cache);
    let cache = MmapCache::open(&part.path).expect("the cache");
    work_on(&cache);
    let reader = Options::new().read_only(true).open(&part.path);
    let reader = reader.expect("the cache");
    assert_eq!(reader.keys().expect("a listing").count(), 200);
    let copied = reader.backup().to(dir.join("copy")).expect("a copy");
    assert_eq!(copied.entries, 200);
    assert_eq!(
        MmapCache::open(dir.join("copy")).expect("the copy").len(),
        200
    );
    cache.clear().expect("a clear");
    cache.put(b"k", b"v").expect("a put");
    say("done");
}

fn work_on(cache: &MmapCache) {
    let items: Items = cache.iter().expect("a listing").collect();
    assert_eq!(items.len(), 200);
    cache.atomic_rebuild(items).expect("a rebuild");
    for i in 0..400 {
        cache.put(&key(i), &[9; 300]).expect("a put");
    }
    for i in 200..400 {
        assert!(cache.delete(&key(i)).expect("a deletion"));
    }
    cache.compact().expect("a compaction");
    assert!(cache.verify().run().expect("a report").is_clean());
    assert!(cache.disk_usage().expect("numbers").heap > 200 * 300);
    assert!(cache.random_key().expect("a draw").is_some());
}

#[test]
fn cache_works_without_listing() {
    let scratch = child::scratch::Scratch::new();
    assert_eq!(
        Child::start("may not list", &scratch.path, &[]).finish(),
        "done"
    );
}

/// Rebuilds from an endless iterator until it is killed.
fn rebuilds_forever(part: &Part) {
    let cache = tight().open(&part.path).expect("the cache");
    let items = (0_u32..).map(|i| {
        if i == 500 {
            say("under way");
            std::thread::sleep(Duration::from_secs(60));
        }
        Ok::<_, Error>((key(i), vec![1; 300]))
    });
    cache.atomic_rebuild(items).expect("a rebuild");
}

fn staged(path: &Path) -> usize {
    let dir = fs::read_dir(path.parent().expect("a directory")).expect("a listing");
    let names = dir.map(|entry| entry.expect("an entry").file_name());
    names
        .filter(|name| name.to_string_lossy().ends_with(".new"))
        .count()
}

#[test]
fn next_writer_tidies_killed_rebuild() {
    let scratch = child::scratch::Scratch::new();
    let cache = tight().open(&scratch.path).expect("a cache");
    cache.put(b"kept", b"v").expect("a put");
    let mut rebuilder = Child::start("rebuilds forever", &scratch.path, &[]);
    rebuilder.expect("under way");
    rebuilder.kill();
    assert!(staged(&scratch.path) > 5);
    let next = MmapCache::open(&scratch.path).expect("the cache");
    next.put(b"another", b"v").expect("a put");
    assert_eq!(staged(&scratch.path), 0);
    assert_eq!((next.len(), cache.len()), (2, 2));
}

fn crowd(dir: &Path, count: u32) {
    for i in 0..count {
        fs::write(dir.join(format!("other {i}")), b"").expect("a file");
    }
}

/// Returns the fastest of five times 100,000 puts into a new cache, in seconds, and its longest
/// put.
fn load(dir: &Path) -> (f64, Duration) {
    let mut best = (f64::MAX, Duration::ZERO);
    for round in 0..5 {
        let mut options = Options::new();
        options.max_segment_bytes(1 << 20);
        let cache = options
            .open(dir.join(format!("cache {round}")))
            .expect("a cache");
        let (begun, mut longest) = (Instant::now(), Duration::ZERO);
        for i in 0..100_000_u32 {
            let put = Instant::now();
            cache.put(&i.to_le_bytes(), &[1; 100]).expect("a put");
            longest = longest.max(put.elapsed());
        }
        let took = begun.elapsed().as_secs_f64();
        if took < best.0 {
            best = (took, longest);
        }
    }
    best
}

#[test]
#[ignore = "a measurement; see docs/testing.md"]
fn crowded_directory_costs_nothing() {
    let (empty, crowded) = (in_memory(), in_memory());
    crowd(crowded.path(), 200_000);
    let (alone, crowd) = (load(empty.path()), load(crowded.path()));
    let ratio = crowd.0 / alone.0;
    println!(
        "beside 200,000 files {ratio:.2} x; longest put {:?}, {:?}",
        crowd.1, alone.1
    );
    assert!(ratio < 1.5);
}

#[test]
#[ignore = "a measurement; see docs/testing.md"]
fn many_caches_share_a_directory() {
    let dir = in_memory();
    let create = |from: u32, to: u32| {
        let begun = Instant::now();
        for i in from..to {
            let cache = MmapCache::open(dir.path().join(format!("c{i}"))).expect("a cache");
            cache.put(b"k", b"v").expect("a put");
        }
        begun.elapsed().as_secs_f64()
    };
    let first = create(0, 1_000);
    create(1_000, 9_000);
    let last = create(9_000, 10_000);
    println!(
        "the last 1,000 of 10,000 caches {:.2} x the first {first:.2} s",
        last / first
    );
    assert!(last < 3.0 * first);
}
