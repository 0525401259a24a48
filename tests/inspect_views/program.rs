//! Runs the program on caches in scratch directories.
//!
//! Knows how the program is started and what it can answer, but no command.

use std::ffi::OsStr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mmapcache::{MmapCache, Options};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_mmapcache-inspect"))
}

/// Runs the program, and asserts its exit code.
#[track_caller]
pub(crate) fn run<S: AsRef<OsStr>>(
    expected: i32,
    arguments: impl IntoIterator<Item = S>,
) -> Output {
    let output = program().args(arguments).output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(expected),
        "stdout: {}\nstderr: {}",
        String::from_utf8_lossy(&output.stdout),
        stderr(&output)
    );
    output
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub(crate) fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A path for a cache in a temporary directory.
pub(crate) fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    (dir, cache)
}

/// Regions and segments so small that there are many.
pub(crate) fn tiny() -> Options {
    let mut options = Options::new();
    options
        .region_slots(16)
        .max_segment_bytes(64 * 1024)
        .compaction_threshold(50, 1024);
    options
}

/// Puts keys of one kind, with values of many lengths, and deletes every seventh.
pub(crate) fn fill(options: &Options, path: &Path, count: u32) -> MmapCache {
    let cache = options.open(path).unwrap();
    let mut writer = cache.writer().unwrap();
    for number in 0..count {
        let value = vec![b'v'; (number % 300) as usize];
        writer
            .put(format!("key {number}").as_bytes(), &value)
            .unwrap();
    }
    for number in (0..count).step_by(7) {
        writer.delete(format!("key {number}").as_bytes()).unwrap();
    }
    drop(writer);
    cache
}

/// Flips a byte.
pub(crate) fn flip(path: &Path, at: u64) {
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[!byte[0]], at).unwrap();
}
