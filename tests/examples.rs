//! Runs each program in `examples/`, as cargo built it with this test, and keeps them short.
//!
//! `cargo test` builds examples. `cargo test --test examples` does not: a program that is missing
//! or older than its source fails here, with the command that builds it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

const MOST_LINES: usize = 80;

/// Returns the sources of all examples, sorted.
fn sources() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut sources: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    sources.sort();
    assert!(sources.len() >= 5, "{sources:?}");
    sources
}

fn modified(path: impl AsRef<Path>) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

/// Returns whether a program is as new as every file in cargo's list of what it was built from,
/// which includes the library's.
fn is_fresh(program: &Path) -> bool {
    let Ok(list) = fs::read_to_string(program.with_extension("d")) else {
        return false;
    };
    let (_, files) = list.split_once(": ").unwrap();
    let files = files.trim_end().replace("\\ ", "\0");
    let mut files = files.split(' ').map(|file| file.replace('\0', " "));
    program.exists()
        && files.all(|file| Path::new(&file).exists() && modified(file) <= modified(program))
}

#[test]
fn every_example_runs() {
    let own = std::env::current_exe().unwrap();
    let built = own.parent().unwrap().with_file_name("examples");
    for source in sources() {
        let program = built.join(source.file_stem().unwrap());
        assert!(
            is_fresh(&program),
            "{} is missing or old: run `cargo build --examples` with the options of this run",
            program.display()
        );
        let output = Command::new(&program).output().unwrap();
        assert!(output.status.success(), "{program:?}: {output:?}");
        assert!(!output.stdout.is_empty(), "{program:?} prints nothing");
    }
}

#[test]
fn examples_are_short() {
    for source in sources() {
        let text = fs::read_to_string(&source).unwrap();
        let lines = text.lines().count();
        assert!(lines <= MOST_LINES, "{source:?} has {lines} lines");
        let name = source.file_stem().unwrap().to_str().unwrap();
        let command = format!("//!     cargo run --example {name}");
        let is_command = |line: &str| {
            let rest = line.strip_prefix(&command);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(" --features "))
        };
        assert!(
            text.lines().any(is_command),
            "{source:?} does not say how to run it"
        );
    }
}
