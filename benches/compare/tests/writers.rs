//! Runs the program with two processes that overwrite at once, as the workload `writers` does. In the
//! end the program checks that every key has a value that was put under it, and fails if not.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Those of the compiled stores that let several processes write.
fn shared() -> impl Iterator<Item = &'static str> {
    let by_feature = [
        (true, "mmapcache"),
        (true, "mmapcache-durable"),
        (cfg!(feature = "lmdb"), "lmdb"),
        (cfg!(feature = "redb"), "redb-shared"),
        (cfg!(feature = "sqlite"), "sqlite"),
        (cfg!(feature = "tdb"), "tdb"),
    ];
    let compiled = by_feature.into_iter().filter(|(is_there, _)| *is_there);
    compiled.map(|(_, name)| name)
}

fn two_processes(store: &str, dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mmapcache-compare"))
        .args(["measure", "--store", store, "--workload", "writers"])
        .args(["--entries", "500", "--value", "100"])
        .args(["--figure", "writers_processes_2", "--dir"])
        .arg(dir)
        .output()
        .expect("the program")
}

fn figures(store: &str) -> Value {
    let dir = tempfile::tempdir().expect("a directory");
    let output = two_processes(store, dir.path());
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{store}: {complaint}");
    serde_json::from_slice(&output.stdout).expect("figures")
}

#[test]
fn two_processes_overwrite_at_once() {
    for store in shared() {
        let figures = figures(store);
        let number = |end: &str| {
            let name = format!("writers_processes_2{end}");
            let number = figures[&name].as_f64();
            number.unwrap_or_else(|| panic!("{store} has no {name}: {figures}"))
        };
        assert!(number("") > 0.0, "{store}: {figures}");
        assert!(
            (0.0..=1.0).contains(&number("_slowest")),
            "{store}: {figures}"
        );
        assert!(
            (0.0..=1.0).contains(&number("_waiting")),
            "{store}: {figures}"
        );
        // The percentile is rounded up, by less than a hundredth.
        let longest = 1.01 * number("_longest");
        assert!(number("_p99") <= longest, "{store}: {figures}");
        assert!(
            figures.get("writers_processes_4").is_none(),
            "{store}: {figures}"
        );
        assert!(
            figures.get("writers_threads_2").is_none(),
            "{store}: {figures}"
        );
    }
}

// Each holds a lock as long as it is open, or lives in memory.
#[test]
fn other_stores_say_why_not() {
    for store in ["hashbrown", "mmapcache-writer", "mmapcache-exclusive"] {
        let figures = figures(store);
        let reason = figures["writers_processes_2"].as_str();
        assert!(
            reason.is_some_and(|reason| !reason.is_empty()),
            "{store}: {figures}"
        );
    }
}
