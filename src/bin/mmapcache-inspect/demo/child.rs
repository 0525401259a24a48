//! Another process of this program, for as long as a demonstration needs it.
//!
//! Knows how it is started, told to stop, and heard; not what it does.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use crate::failure::Failure;
use crate::site::Site;

use super::source::Source;

/// A started process. Dropping it tells it to stop and waits until it has.
#[derive(Debug)]
pub(super) struct Child {
    process: std::process::Child,
    said: BufReader<ChildStdout>,
}

impl Child {
    /// Starts a hidden command on a cache and the files that it was filled from.
    pub(super) fn start(command: &str, source: &Source, site: &Site) -> Result<Self, Failure> {
        let program = std::env::current_exe()
            .map_err(Failure::file(Path::new("this program"), "find itself"))?;
        let mut process = Command::new(&program);
        process.arg(command).arg(&site.cache).arg(&source.root);
        for part in &source.selection.parts {
            process.arg("--part").arg(part);
        }
        let limits = [
            ("--file-limit", source.selection.file_limit),
            ("--total-limit", source.selection.total_limit),
        ];
        for (name, limit) in limits {
            process.args([name, &limit.to_string()]);
        }
        if let Some(heap) = &site.heap {
            process.arg("--heap-path").arg(heap);
        }
        let mut process = process
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Failure::file(&program, "start another process of itself"))?;
        let Some(said) = process.stdout.take() else {
            return Err(Failure::Request("a process without an output".to_owned()));
        };
        let said = BufReader::new(said);
        Ok(Self { process, said })
    }

    /// Waits until the process has said a line: that it is at work.
    pub(super) fn wait_for_line(&mut self) -> Result<(), Failure> {
        let mut line = String::new();
        let read = self.said.read_line(&mut line);
        match read.map_err(Failure::file(Path::new("a process"), "listen to it"))? {
            0 => Err(Failure::Request(
                "a process of the demonstration ended early".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// Tells the process to stop, waits until it has, and returns what it said. How it judged its
    /// own work stands in there too, so its exit code says nothing more.
    pub(super) fn finish(mut self) -> Result<String, Failure> {
        drop(self.process.stdin.take());
        let mut said = String::new();
        self.said
            .read_to_string(&mut said)
            .map_err(Failure::file(Path::new("a process"), "listen to it"))?;
        Ok(said)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
