//! JSON for programs that keep 53 bits of a number.

use std::os::unix::fs::FileExt;

use mmapcache::{Cache, Labels};
use serde_json::Value;

use crate::run::Workspace;

/// The largest integer up to which every reader of JSON is exact.
const LARGEST: u64 = 1 << 53;

/// Every command that prints JSON, with arguments that suit the workspace.
const COMMANDS: &[&[&str]] = &[
    &["stats", "cache", "--json"],
    &["stats", "cache", "--full", "--json"],
    &["list", "cache", "--json"],
    &["list", "cache", "--values", "--sort", "age", "--json"],
    &["labels", "labels", "--json"],
    &["list", "labels", "--json"],
    &["get", "cache", "key 001", "--json"],
    &["verify", "cache", "--json"],
    &["slot", "cache", "--key", "key 001", "--json"],
    &["slot", "labels", "--key", "r/rust", "--json"],
    &["record", "cache", "0:128", "--json"],
    &["record", "labels", "0:128", "--json"],
    &["heap", "cache", "--json"],
    &["heap", "labels", "--json"],
    &["header", "cache", "--json"],
    &["histogram", "cache", "--json"],
    &["map", "cache", "--json"],
    &["report", "cache", "--json"],
    &[
        "watch",
        "cache",
        "--json",
        "--count",
        "1",
        "--interval",
        "10ms",
    ],
    &["put", "cache", "key 001", "new", "--json"],
    &["delete", "cache", "key 002", "no such key", "--json"],
    &["copy", "cache", "copy", "--json"],
    &["export", "cache"],
    &["import", "again", "--from-cache", "cache", "--json"],
    &["compact", "cache", "--json"],
    &["repair", "cache", "--json"],
    &["upgrade", "cache", "--json"],
    &["put", "pages", "key", "value", "--ttl", "60", "--json"],
    &["list", "pages", "--json"],
    &["stats", "pages", "--full", "--json"],
    &["get", "pages", "key", "--json"],
    &["export", "pages"],
    &["expire", "pages", "--json"],
    &["invalidate", "pages", "tag", "--json"],
    &["evict", "pages", "--to", "1GiB", "--json"],
];

fn with_all_inputs() -> Workspace {
    let workspace = Workspace::new();
    workspace.fill("cache", 20);
    let labels = Labels::open(workspace.path("labels")).unwrap();
    labels.get_or_intern("r/rust").unwrap();
    drop(Cache::open(workspace.path("pages")).unwrap());
    workspace
}

/// Fails at an integer that some reader would round.
fn assert_exact(value: &Value, at: &str) {
    match value {
        Value::Number(number) => {
            let large = number.as_u64().is_some_and(|number| number > LARGEST);
            assert!(!large, "{at}: {number}");
        }
        Value::Array(items) => {
            for item in items {
                assert_exact(item, at);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                assert_exact(member, &format!("{at}.{name}"));
            }
        }
        _ => {}
    }
}

/// All that a command printed: one value or one in each line.
fn values(out: &str) -> Vec<Value> {
    let stream = serde_json::Deserializer::from_str(out).into_iter();
    stream.map(|value| value.unwrap()).collect()
}

#[test]
fn large_numbers_are_json_strings() {
    let workspace = with_all_inputs();
    // No command that has the option is left out.
    for name in crate::help::commands(&workspace) {
        let help = workspace.run(0, &[&name, "--help"]).stdout();
        let here = COMMANDS.iter().any(|command| command[0] == name);
        // Metrics are floating-point numbers, as Prometheus has them.
        assert!(
            here || !help.contains("--json") || name == "metrics",
            "{name}"
        );
    }
    for command in COMMANDS {
        let found = values(&workspace.try_run(command).stdout());
        assert!(!found.is_empty(), "{command:?}");
        for value in &found {
            assert_exact(value, command[0]);
        }
    }
}

#[test]
fn versions_keep_all_digits() {
    let workspace = with_all_inputs();
    let entry = workspace
        .open_read_only("cache")
        .entry(b"key 001")
        .unwrap()
        .unwrap();
    let version = entry.version().as_nanos().to_string();
    let key = ["--key", "key 001", "--json"];
    let slot = workspace
        .run(0, &[&["slot", "cache"][..], &key].concat())
        .json();
    let get = workspace
        .run(0, &["get", "cache", "key 001", "--json"])
        .json();
    let listed = ["list", "cache", "--prefix", "key 001", "--json"];
    let list = workspace.run(0, &listed).json();
    let heap = workspace.run(0, &["heap", "cache", "--json"]).json_lines();
    let mut heap = heap.iter();
    let heap = heap.find(|line| line["key"] == "key 001").unwrap();
    for found in [&slot["record"]["version"], &get["version"]] {
        assert_eq!(found, &version);
    }
    assert_eq!(
        (&list["version"], &heap["version"]),
        (&version.clone().into(), &version.into())
    );
}

#[test]
fn impossible_counts_are_not_rounded() {
    let workspace = with_all_inputs();
    let index = std::fs::File::options()
        .write(true)
        .open(workspace.path("cache"));
    let index = index.unwrap();
    // The counters of entries and of live bytes, and that of changes.
    for at in [192, 248, 288] {
        index
            .write_all_at(&(u64::MAX - 1).to_le_bytes(), at)
            .unwrap();
    }
    let digits = (u64::MAX - 1).to_string();
    for command in COMMANDS
        .iter()
        .take(18)
        .filter(|command| command[1] == "cache")
    {
        let out = workspace.try_run(command).stdout();
        for value in values(&out) {
            assert_exact(&value, command[0]);
        }
    }
    let header = workspace.try_run(&["header", "cache", "--json"]).json();
    let fields = header["files"][0]["fields"].as_array().unwrap().iter();
    let found = fields.filter(|field| field["value"] == digits.as_str());
    assert_eq!(found.count(), 3);
}

#[test]
fn lines_of_either_form_import() {
    let workspace = with_all_inputs();
    let listed = workspace
        .run(0, &["list", "cache", "--values", "--json"])
        .stdout();
    assert!(listed.contains("\"version\":\""), "{listed}");
    let lines = listed + "{\"key\":\"old\",\"value\":\"v\",\"version\":1795236714539478846}\n";
    let report = workspace.run_with_input(0, &["import", "again", "-", "--json"], lines.as_bytes());
    assert_eq!(report.json()["stored"], 21);
    let values = |name: &str| workspace.open_read_only(name).get(b"key 013").unwrap();
    assert_eq!(values("again"), values("cache"));
}
