//! Runs of the program in a directory of their own.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use mmapcache::{MmapCache, Options};
use serde_json::Value;

/// A directory in which caches are named as on a command line: by their names alone.
pub(crate) struct Desk(pub(crate) tempfile::TempDir);

impl Desk {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn open(&self, name: &str) -> MmapCache {
        MmapCache::open(self.path(name)).unwrap()
    }

    pub(crate) fn look(&self, name: &str) -> MmapCache {
        Options::new()
            .read_only(true)
            .open(self.path(name))
            .unwrap()
    }

    /// A cache with some entries: `key 000` and so on, each value as long as its number.
    pub(crate) fn fill(&self, name: &str, count: usize) {
        let cache = self.open(name);
        for number in 0..count {
            let key = format!("key {number:03}");
            cache.put(key.as_bytes(), &vec![b'v'; number]).unwrap();
        }
    }

    /// Runs the program, and expects its exit code.
    #[track_caller]
    pub(crate) fn run(&self, code: i32, arguments: &[&str]) -> Said {
        self.feed(code, arguments, b"")
    }

    #[track_caller]
    pub(crate) fn feed(&self, code: i32, arguments: &[&str], input: &[u8]) -> Said {
        let said = self.say(arguments, input);
        let found = said.0.status.code();
        assert_eq!(found, Some(code), "{}{}", said.out(), said.err());
        said
    }

    /// Runs the program, however it ends.
    pub(crate) fn try_run(&self, arguments: &[&str]) -> Said {
        self.say(arguments, b"")
    }

    fn say(&self, arguments: &[&str], input: &[u8]) -> Said {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mmapcache-inspect"))
            .args(arguments)
            .current_dir(self.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let fed = child.stdin.take().unwrap().write_all(input);
        let said = Said(child.wait_with_output().unwrap());
        if !input.is_empty() {
            fed.unwrap();
        }
        said
    }
}

/// What a run printed.
pub(crate) struct Said(pub(crate) Output);

impl Said {
    pub(crate) fn out(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    pub(crate) fn err(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.0.stdout).unwrap()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.out().lines().map(str::to_owned).collect()
    }

    pub(crate) fn json_lines(&self) -> Vec<Value> {
        let lines = self.lines();
        let lines = lines.iter().map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    }

    /// What it printed, numbers that differ from run to run replaced.
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
