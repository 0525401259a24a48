//! Another process of this program, for the duration of a demonstration.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use crate::failure::Failure;
use crate::location::Location;

use super::source::Source;

/// A started process. Dropping it closes its input, which stops it, and waits for its end.
#[derive(Debug)]
pub(super) struct Child {
    process: std::process::Child,
    output: BufReader<ChildStdout>,
}

impl Child {
    /// Starts a hidden command with a cache and the files that it was filled from.
    pub(super) fn start(
        command: &str,
        source: &Source,
        location: &Location,
    ) -> Result<Self, Failure> {
        let program = std::env::current_exe()
            .map_err(Failure::file(Path::new("this program"), "find its path"))?;
        let mut process = Command::new(&program);
        process.arg(command).arg(&location.cache).arg(&source.root);
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
        if let Some(heap) = &location.heap {
            process.arg("--heap-path").arg(heap);
        }
        let mut process = process
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Failure::file(&program, "start it again"))?;
        let Some(output) = process.stdout.take() else {
            return Err(Failure::Request("a process without an output".to_owned()));
        };
        let output = BufReader::new(output);
        Ok(Self { process, output })
    }

    /// Waits until the process prints a line, which means that it is active.
    pub(super) fn wait_for_line(&mut self) -> Result<(), Failure> {
        let mut line = String::new();
        let read = self.output.read_line(&mut line);
        match read.map_err(Failure::file(Path::new("a process"), "read its output"))? {
            0 => Err(Failure::Request(
                "a process of the demonstration ended early".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// Stops the process, waits for its end, and returns its output. The output contains the result, so
    /// the exit code is not needed.
    pub(super) fn finish(mut self) -> Result<String, Failure> {
        drop(self.process.stdin.take());
        let mut text = String::new();
        self.output
            .read_to_string(&mut text)
            .map_err(Failure::file(Path::new("a process"), "read its output"))?;
        Ok(text)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
