//! Compares the public interface, one item per line, with `tests/api.txt`: no name, signature or
//! trait changes by accident.
//!
//! `UPDATE_SNAPSHOTS=1 cargo test --all-features --test api` writes the file. The lines come from
//! rustdoc's JSON, which only a nightly rustdoc writes, or one with `RUSTC_BOOTSTRAP=1`; the test
//! uses its own toolchain with that variable.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod render;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use render::Crate;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The most structs, enums and traits that the root and some modules may export.
const MOST_TYPES: [(&str, usize); 5] = [
    ("", 45),
    ("dict::", 16),
    ("inspect::", 13),
    ("intern::", 12),
    ("iter::", 7),
];
/// All of them together: 70 before `Cache`, whose types come on top.
const MOST_IN_ALL: usize = 92;

/// Runs rustdoc on the library with all features, and returns its JSON file.
fn rustdoc_json() -> PathBuf {
    // A directory of its own, because the command that runs this test may have locked the other
    // one.
    let target = Path::new(ROOT).join("target/api");
    let made = Command::new(env!("CARGO"))
        .args(["rustdoc", "--lib", "--all-features", "--quiet", "--"])
        .args(["-Z", "unstable-options", "--output-format", "json"])
        .args(["--cap-lints", "allow"])
        .current_dir(ROOT)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", &target)
        .env_remove("RUSTDOCFLAGS")
        .env_remove("RUSTFLAGS")
        .output()
        .expect("cargo starts");
    assert!(
        made.status.success(),
        "rustdoc wrote no JSON:\n{}",
        String::from_utf8_lossy(&made.stderr)
    );
    target.join("doc/mmapcache.json")
}

fn lines() -> Vec<String> {
    let json = fs::read(rustdoc_json()).unwrap();
    Crate::new(serde_json::from_slice(&json).unwrap()).lines()
}

#[test]
fn public_interface_is_as_recorded() {
    let now = lines();
    let path = Path::new(ROOT).join("tests/api.txt");
    if env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&path, now.join("\n") + "\n").unwrap();
        return;
    }
    let recorded = fs::read_to_string(&path).unwrap();
    let recorded: BTreeSet<&str> = recorded.lines().collect();
    let now: BTreeSet<&str> = now.iter().map(String::as_str).collect();
    let gone: Vec<_> = recorded.difference(&now).collect();
    let new: Vec<_> = now.difference(&recorded).collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "the public interface changed; if that was meant, record it with UPDATE_SNAPSHOTS=1\n\
         gone: {gone:#?}\nnew: {new:#?}"
    );
}

#[test]
fn modules_export_few_types() {
    let recorded = fs::read_to_string(Path::new(ROOT).join("tests/api.txt")).unwrap();
    let words = ["pub struct ", "pub enum ", "pub trait "];
    let types = recorded.lines().filter_map(|line| {
        let path = words.iter().find_map(|word| line.strip_prefix(word))?;
        path.strip_prefix("mmapcache::")?.split(['<', ' ']).next()
    });
    let all: Vec<_> = types.collect();
    assert!(all.len() <= MOST_IN_ALL, "{} types", all.len());
    for (module, most) in MOST_TYPES {
        let own = all.iter().filter_map(|path| path.strip_prefix(module));
        let own: Vec<_> = own.filter(|name| !name.contains("::")).collect();
        assert!(own.len() <= most, "{module} {}: {own:#?}", own.len());
        assert!(own.len() > most / 2, "{module} {own:#?}");
    }
}
