//! The bytes of the files, every 10 ms, while four processes insert values of 10 bytes to 1 MiB.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use mmapcache::Cache;

use crate::cache::keys::{Random, key};

const BOUND: u64 = 256 << 20;
const WRITERS: u64 = 4;

pub(crate) fn measure(seconds: u64) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cache");
    let cache = Cache::builder(&path)
        .max_bytes(BOUND)
        .open()
        .expect("a cache");
    let program = std::env::current_exe().expect("this program");
    let start = |seed: u64| {
        Command::new(&program)
            .args([
                "storm-writer",
                path.to_str().expect("a path"),
                &seed.to_string(),
            ])
            .spawn()
            .expect("a process")
    };
    let mut writers: Vec<_> = (1..=WRITERS).map(start).collect();
    let begin = Instant::now();
    let (mut most, mut samples) = (0, 0);
    while begin.elapsed() < Duration::from_secs(seconds) {
        most = most.max(blocks(dir.path()));
        samples += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    for writer in &mut writers {
        writer.kill().expect("a kill");
        writer.wait().expect("an end");
    }
    let over = most.saturating_sub(BOUND);
    let step = BOUND / 16;
    let entries = cache.len_with_expired();
    println!(
        "{samples} samples: at most {over} bytes above the bound; a step is {step}; {entries} entries"
    );
    assert!(over <= step, "the bound does not hold");
    let report = cache.verify().run().expect("a report");
    assert!(report.is_clean(), "{:?}", report.problems);
}

/// Inserts until it is killed.
pub(crate) fn write(path: &str, seed: &str) {
    let cache = Cache::open(path).expect("a cache");
    let mut random = Random(seed.parse::<u64>().expect("a seed") << 20 | 1);
    let value = vec![7; 1 << 20];
    loop {
        let len = (10 + random.below(1 << 20) as usize) >> random.below(14);
        let number = random.below(200_000);
        cache
            .insert(key(number), &value[..len.max(10)])
            .expect("an insertion");
        if random.below(1_000) == 0 {
            cache.flush().expect("a flush");
        }
    }
}

/// Returns the bytes of the blocks of all files in a directory.
fn blocks(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let files = std::fs::read_dir(dir).expect("the directory");
    let blocks = |file: std::io::Result<std::fs::DirEntry>| {
        // A file may be removed while they are listed.
        file.ok()?.metadata().ok().map(|meta| meta.blocks() * 512)
    };
    files.filter_map(blocks).sum()
}
