//! `verify`: levels and threads.

use std::os::unix::fs::FileExt;

use serde_json::json;

use crate::run::Workspace;

#[test]
fn levels_report_what_they_read() {
    let workspace = Workspace::new();
    workspace.fill("cache", 200);
    let report = |level| {
        let arguments = ["verify", "cache", "--level", level, "--jobs", "3", "--json"];
        let mut report = workspace.run(0, &arguments).json();
        assert_eq!(report["level"], level);
        [
            report["entries"].take(),
            report["records"].take(),
            report["totals_compared"].take(),
        ]
    };
    assert_eq!(report("headers"), [json!(0), json!(0), json!(false)]);
    assert_eq!(report("slots"), [json!(200), json!(0), json!(true)]);
    assert_eq!(report("records"), [json!(200), json!(200), json!(true)]);
    let arguments = ["verify", "cache", "--level", "slots"];
    let text = workspace.run(0, &arguments).normalised();
    // Small regions fill as the seed of the hash function says.
    let report = workspace.run(0, &[&arguments[..], &["--json"]].concat());
    let regions = report.json()["regions"].take();
    let expected = format!(
        "\
verify slots: no problems
  valid entries                    200  compared with the counters of the index
  regions                            {regions}
  problems                           0
  time TIME
"
    );
    // How wide the columns are depends on the time that it took.
    let same = text.split_whitespace().eq(expected.split_whitespace());
    assert!(same, "{text}");
    workspace.run(2, &["verify", "cache", "--level", "all"]);
    workspace.run(2, &["verify", "cache", "--jobs", "0"]);
}

#[test]
fn record_corruption_needs_record_level() {
    let workspace = Workspace::new();
    workspace.fill("cache", 200);
    let heap = std::fs::File::options()
        .write(true)
        .open(workspace.path("cache.heap"))
        .unwrap();
    heap.write_all_at(&[0x55; 8], 4_000).unwrap();
    workspace.run(0, &["verify", "cache", "--level", "headers"]);
    workspace.run(0, &["verify", "cache", "--level", "slots"]);
    let one = workspace
        .run(1, &["verify", "cache", "--jobs", "1"])
        .normalised();
    assert!(
        one.contains("DAMAGED") && one.contains("cache.heap: byte"),
        "{one}"
    );
    let four = workspace
        .run(1, &["verify", "cache", "--jobs", "4"])
        .normalised();
    // How wide the columns are depends on the time that it took.
    let same = four.split_whitespace().eq(one.split_whitespace());
    assert!(same, "{four}\n{one}");
}

#[test]
fn corrupt_entries_are_named_by_keys() {
    let workspace = Workspace::new();
    let cache = workspace.open("cache");
    let long = format!(
        "a key that is longer than its slot repeats {}",
        "x".repeat(300)
    );
    for (key, value) in [
        ("short\n", "value one"),
        (&long, "value two"),
        ("sound", "value three"),
    ] {
        cache.put(key.as_bytes(), value.as_bytes()).unwrap();
    }
    drop(cache);
    let flip = |wanted: &[u8]| {
        let path = workspace.path("cache.heap");
        let bytes = std::fs::read(&path).unwrap();
        let at = bytes
            .windows(wanted.len())
            .position(|window| window == wanted)
            .unwrap();
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.write_all_at(&[wanted[0] ^ 1], at as u64).unwrap();
    };
    let keys = |level: &str| {
        let arguments = ["verify", "cache", "--level", level, "--json"];
        let report = workspace.try_run(&arguments).json();
        let faults = report["faults"].as_array().unwrap().iter();
        let named = faults.filter_map(|fault| fault.get("key"));
        named
            .map(|key| key.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(keys("records"), Vec::<String>::new());
    // Damaged values: the keys are in the records, and their hashes in the slots.
    flip(b"value one");
    flip(b"value two");
    let found = keys("records");
    assert!(
        found.contains(&"short\n".to_owned()) && found.contains(&long),
        "{found:?}"
    );
    let text = workspace.run(1, &["verify", "cache"]).stdout();
    assert!(text.contains("; key short\\x0a\n"), "{text}");
    assert!(text.contains(&format!("; key {long}\n")), "{text}");
    assert!(!text.contains("sound"), "{text}");
    assert!(
        text.contains("\nnext: `mmapcache-inspect repair cache`"),
        "{text}"
    );
    // A damaged key is in no other place.
    flip(b"xxxxxxxx");
    let text = workspace.run(1, &["verify", "cache"]).stdout();
    assert!(text.contains("; key short\\x0a\n"), "{text}");
    assert!(!text.contains("xxx"), "{text}");
}

// A cache of a newer release is neither shown nor repaired.
#[test]
fn newer_release_is_left_alone() {
    let workspace = Workspace::new();
    workspace.fill("cache", 20);
    let index = workspace.path("cache");
    let file = std::fs::File::options().write(true).open(&index).unwrap();
    file.write_all_at(&[0x80], 79).unwrap();
    let mut header = crc32fast::Hasher::new();
    let bytes = std::fs::read(&index).unwrap();
    header.update(&bytes[..12]);
    header.update(&bytes[16..128]);
    file.write_all_at(&header.finalize().to_le_bytes(), 12)
        .unwrap();
    let before = [
        std::fs::read(&index),
        std::fs::read(workspace.path("cache.heap")),
    ]
    .map(Result::unwrap);
    for command in [
        ["repair", "cache"].as_slice(),
        &["repair", "cache", "--rewrite", "--keep"],
        &["verify", "cache"],
        &["compact", "cache"],
        &["put", "cache", "key", "value"],
        &["stats", "cache"],
        &["stats", "cache", "--full", "--json"],
        &["header", "cache"],
        &["slot", "cache", "--key", "key 001"],
        &["record", "cache", "0:128"],
        &["heap", "cache", "--json"],
        &["histogram", "cache"],
        &["map", "cache"],
        &["report", "cache", "--json"],
        &["report", "cache", "--html", "-"],
        &["watch", "cache", "--count", "1"],
        &["list", "cache"],
        &["get", "cache", "key 001"],
        &["copy", "cache", "copy"],
        &["export", "cache"],
        &["import", "new", "--from-cache", "cache"],
        &["labels", "cache"],
    ] {
        // Its fields may have another meaning, so no field is shown.
        let output = workspace.run(2, command);
        assert_eq!(output.stdout(), "", "{command:?}");
        let output = output.stderr();
        let named = output.contains("cache: feature flags 0x80000000 of a newer release");
        assert!(
            named && !output.contains("damaged"),
            "{command:?}: {output}"
        );
        assert_eq!(output.lines().count(), 1, "{command:?}: {output}");
    }
    let down = workspace.run(2, &["metrics", "cache"]).stdout();
    assert!(
        down.ends_with("mmapcache_up{cache=\"cache\"} 0\n"),
        "{down}"
    );
    let after = [
        std::fs::read(&index),
        std::fs::read(workspace.path("cache.heap")),
    ]
    .map(Result::unwrap);
    assert!(before == after);
}
