//! persidict's dictionaries: `baseline.py` measures them, in a process that only works in its turn.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;

use crate::clock::Figures;
use crate::work::Work;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/dict/baseline.py");

/// The process. It ends when its input does.
pub(crate) struct Rival {
    child: Child,
    turns: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
    /// The measured package, with its version.
    pub(crate) name: String,
}

/// The first line of the script.
#[derive(Deserialize)]
struct Greeting {
    persidict: String,
    python: String,
    work: [u32; 3],
}

impl Rival {
    /// Starts the script under a Python that has persidict.
    pub(crate) fn start(python: &str, dir: &Path, entries: u64, work: &Work) -> Self {
        let mut child = Command::new(python)
            .arg(SCRIPT)
            .arg(dir)
            .args(["--turns", "--entries", &entries.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a Python with persidict: `cargo xtask bench dict` makes one");
        let answers = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut rival = Self {
            turns: child.stdin.take(),
            child,
            answers,
            name: String::new(),
        };
        let greeting: Greeting = serde_json::from_str(&rival.answer()).expect("a greeting");
        assert_eq!(greeting.work, work.fingerprints(), "it does other work");
        rival.name = format!(
            "persidict {}, Python {}",
            greeting.persidict, greeting.python
        );
        rival
    }

    fn answer(&mut self) -> String {
        let answer = self.answers.next().expect("the script ended early");
        answer.expect("a line")
    }

    /// Measures a round of one of its dictionaries.
    pub(crate) fn run(&mut self, dictionary: &str) -> Figures {
        let turns = self.turns.as_mut().expect("a pipe until the end");
        writeln!(turns, "{dictionary}").expect("the script to listen");
        serde_json::from_str(&self.answer()).expect("figures")
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        drop(self.turns.take());
        let _ = self.child.wait();
    }
}
