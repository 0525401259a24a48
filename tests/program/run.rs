//! Runs the program in a temporary directory.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use mmapcache::{MmapCache, Options};
use serde_json::Value;

/// A temporary directory, the working directory of the runs.
pub(crate) struct Workspace(pub(crate) tempfile::TempDir);

impl Workspace {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn open(&self, name: &str) -> MmapCache {
        MmapCache::open(self.path(name)).unwrap()
    }

    pub(crate) fn open_read_only(&self, name: &str) -> MmapCache {
        Options::new()
            .read_only(true)
            .open(self.path(name))
            .unwrap()
    }

    /// Stores entries `key 000` and so on; the length of each value is its number.
    pub(crate) fn fill(&self, name: &str, count: usize) {
        let cache = self.open(name);
        for number in 0..count {
            let key = format!("key {number:03}");
            cache.put(key.as_bytes(), &vec![b'v'; number]).unwrap();
        }
    }

    /// Runs the program, and asserts its exit code.
    #[track_caller]
    pub(crate) fn run(&self, code: i32, arguments: &[&str]) -> RunOutput {
        self.run_with_input(code, arguments, b"")
    }

    #[track_caller]
    pub(crate) fn run_with_input(&self, code: i32, arguments: &[&str], input: &[u8]) -> RunOutput {
        let output = self.output(arguments, input);
        let found = output.0.status.code();
        assert_eq!(found, Some(code), "{}{}", output.stdout(), output.stderr());
        output
    }

    /// Runs the program with any exit code.
    pub(crate) fn try_run(&self, arguments: &[&str]) -> RunOutput {
        self.output(arguments, b"")
    }

    fn output(&self, arguments: &[&str], input: &[u8]) -> RunOutput {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mmapcache-inspect"))
            .args(arguments)
            .current_dir(self.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let fed = child.stdin.take().unwrap().write_all(input);
        let output = RunOutput(child.wait_with_output().unwrap());
        if !input.is_empty() {
            fed.unwrap();
        }
        output
    }
}

/// The output of a run.
pub(crate) struct RunOutput(pub(crate) Output);

impl RunOutput {
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.0.stdout).unwrap()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.stdout().lines().map(str::to_owned).collect()
    }

    pub(crate) fn json_lines(&self) -> Vec<Value> {
        let lines = self.lines();
        let lines = lines.iter().map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    }

    /// Returns standard output without the numbers that differ between runs.
    pub(crate) fn normalised(&self) -> String {
        let lines = self.lines();
        let lines = lines.iter().map(|line| match line.split_once(" ms") {
            Some((start, rest)) if start.trim_start().starts_with("time") => {
                format!("  time TIME{rest}\n")
            }
            _ if line.trim_start().starts_with("time") => "  time TIME\n".to_owned(),
            _ => format!("{}\n", line.trim_end()),
        });
        lines.collect()
    }
}
