//! The bytes of the files, every 10 ms, while four processes insert values of 10 bytes to 1 MiB.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mmapcache::Cache;

use crate::cache::keys::{Random, key};

const BOUND: u64 = 256 << 20;
/// How far the files may be above the bound for longer than a moment.
const STEP: u64 = BOUND / 16;
/// Samples that a moment has.
const MOMENT: u64 = 20;
const WRITERS: u64 = 4;

pub(crate) fn measure(seconds: u64) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cache");
    let cache = Cache::builder(&path)
        .max_bytes(BOUND)
        .open()
        .expect("a cache");
    let mut writers: Vec<Child> = (1..=WRITERS).map(|seed| start(&path, seed)).collect();
    let begin = Instant::now();
    let (mut most, mut samples, mut above, mut longest) = (0, 0, 0, 0);
    while begin.elapsed() < Duration::from_secs(seconds) {
        let bytes = blocks(dir.path());
        most = most.max(bytes);
        above = if bytes > BOUND + STEP { above + 1 } else { 0 };
        longest = longest.max(above);
        samples += 1;
        for writer in &mut writers {
            let ended = writer.try_wait().expect("a process");
            assert!(ended.is_none(), "a writer ended by itself: {ended:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    for writer in &mut writers {
        writer.kill().expect("a kill");
        writer.wait().expect("an end");
    }
    let usage = cache.disk_usage().expect("sizes").total();
    println!(
        "{samples} samples: at most {} bytes above the bound; a step is {STEP}; at most {longest} \
         samples in a row were further above; {usage} bytes at the end; {} entries",
        most.saturating_sub(BOUND),
        cache.len_with_expired()
    );
    assert!(longest <= MOMENT, "the bound does not hold");
    assert!(most > BOUND / 2, "too few insertions: give it more seconds");
    let report = cache.verify().run().expect("a report");
    assert!(report.is_clean(), "{:?}", report.problems);
}

/// Starts a process that inserts until its input ends, which it does if this process dies.
fn start(path: &Path, seed: u64) -> Child {
    let program = std::env::current_exe().expect("this program");
    Command::new(program)
        .arg("storm-writer")
        .arg(path)
        .arg(seed.to_string())
        .stdin(Stdio::piped())
        .spawn()
        .expect("a process")
}

/// Inserts until it is killed, or its input ends.
pub(crate) fn write(path: &str, seed: &str) {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let cache = Cache::open(path).expect("a cache");
    let mut random = Random(seed.parse::<u64>().expect("a seed") << 20 | 1);
    let value = vec![7; 1 << 20];
    loop {
        let len = (10 + random.below((1 << 20) - 10) as usize) >> random.below(14);
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
