//! Child processes: the test binary runs one of its tests again, with orders in the environment.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use mmapcache_redis::Server;
use rustix::process::{Pid, Signal, kill_process};

/// Set for children only.
const DIR: &str = "NEAR_DIR";

/// What a child was told.
pub(crate) struct Orders {
    pub(crate) dir: std::path::PathBuf,
    pub(crate) port: u16,
}

impl Orders {
    /// Returns the orders, if this process is a child.
    pub(crate) fn of_this_process() -> Option<Self> {
        Some(Self {
            dir: std::env::var_os(DIR)?.into(),
            port: std::env::var("NEAR_PORT").unwrap().parse().unwrap(),
        })
    }

    /// The server, named alike for all.
    pub(crate) fn server(&self) -> Server {
        server_at(self.port)
    }
}

/// The server behind a port, which may be a proxy's: all share the copies.
pub(crate) fn server_at(port: u16) -> Server {
    let url = format!("redis://127.0.0.1:{port}/");
    Server::try_from(url.as_str()).unwrap().named("redis")
}

/// Tells the parent something.
pub(crate) fn say(word: &str) {
    println!("\nchild says {word}");
}

/// A child, which is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Running {
    /// Runs `test` of this binary as a child.
    pub(crate) fn start(test: &str, dir: &Path, port: u16) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(DIR, dir)
            .env("NEAR_PORT", port.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    /// Waits until the child says something, and returns it.
    pub(crate) fn hear(&mut self) -> String {
        loop {
            let mut line = String::new();
            let length = self.said.read_line(&mut line).unwrap();
            assert!(length > 0, "the child ended in silence");
            if let Some(word) = line.strip_prefix("child says ") {
                return word.trim_end().to_owned();
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
