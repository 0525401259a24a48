//! Memory of a process that fills a cache, and of one that then reads it; beside `MmapCache`.

use std::hint::black_box;
use std::path::Path;
use std::process::Command;

use mmapcache::{Cache, MmapCache};

use crate::cache::keys::{Random, key};

const LOOKUPS: u64 = 1_000_000;

/// Prints a row for each process.
pub(crate) fn measure(entries: u64) {
    println!("megabytes, {entries} entries of 16 and 100 bytes");
    println!("process              private resident   mapped    files");
    for kind in ["MmapCache", "Cache"] {
        let dir = tempfile::tempdir().expect("a directory");
        for does in ["fill", "read"] {
            let program = std::env::current_exe().expect("this program");
            let status = Command::new(program)
                .args(["memory-of", kind, does, &entries.to_string()])
                .arg(dir.path().join("files"))
                .status()
                .expect("a process");
            assert!(status.success(), "{kind}, {does}: {status}");
        }
    }
}

/// Uses a cache as one process does, and prints its row.
pub(crate) fn of(kind: &str, does: &str, entries: u64, path: &str) {
    let path = Path::new(path);
    let files = match kind {
        "Cache" => {
            let cache = Cache::open(path).expect("a cache");
            let insert = |key| {
                cache.insert(key, [7; 100]).expect("an insertion");
            };
            use_all(does, entries, insert, |key| {
                cache.get(key).expect("a lookup").is_some()
            });
            report(kind, does);
            cache.disk_usage()
        }
        _ => {
            let cache = MmapCache::open(path).expect("a cache");
            let put = |key| {
                cache.put(key, [7; 100]).expect("a put");
            };
            use_all(does, entries, put, |key| {
                cache.get(key).expect("a lookup").is_some()
            });
            report(kind, does);
            cache.disk_usage()
        }
    };
    println!(" {:>8.0}", megabytes(files.expect("sizes").total()));
}

fn use_all(does: &str, entries: u64, insert: impl Fn([u8; 16]), get: impl Fn([u8; 16]) -> bool) {
    if does == "fill" {
        (0..entries).for_each(|number| insert(key(number)));
        return;
    }
    let mut random = Random(0x1234_5678_9abc_def1);
    for _ in 0..LOOKUPS {
        assert!(black_box(get(key(random.below(entries)))), "an entry");
    }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Prints what this process has in memory, and how much of its files it has mapped.
fn report(kind: &str, does: &str) {
    let status = std::fs::read_to_string("/proc/self/status").expect("the system has /proc");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        megabytes(kib.expect("a size") * 1024)
    };
    print!(
        "{:<20} {:>7.1} {:>8.0} {:>8.0}",
        format!("{kind}, {does}"),
        field("RssAnon:"),
        field("VmRSS:"),
        megabytes(mapped()),
    );
}

/// Returns the bytes of all mappings of files with a path below a temporary directory.
fn mapped() -> u64 {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("the system has /proc");
    let ours = maps.lines().filter(|line| line.contains("/files"));
    let len = |line: &str| {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        let address = |text| u64::from_str_radix(text, 16).ok();
        Some(address(end)? - address(start)?)
    };
    ours.filter_map(len).sum()
}
