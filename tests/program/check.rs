//! `verify`: levels and threads.

use std::os::unix::fs::FileExt;

use serde_json::json;

use crate::run::Desk;

#[test]
fn levels_report_what_they_read() {
    let desk = Desk::new();
    desk.fill("cache", 200);
    let told = |level| {
        let arguments = ["verify", "cache", "--level", level, "--jobs", "3", "--json"];
        let mut told = desk.run(0, &arguments).json();
        assert_eq!(told["level"], level);
        [
            told["entries"].take(),
            told["records"].take(),
            told["totals_compared"].take(),
        ]
    };
    assert_eq!(told("headers"), [json!(0), json!(0), json!(false)]);
    assert_eq!(told("slots"), [json!(200), json!(0), json!(true)]);
    assert_eq!(told("records"), [json!(200), json!(200), json!(true)]);
    let text = desk
        .run(0, &["verify", "cache", "--level", "slots"])
        .normalised();
    let expected = "\
verify slots: nothing is wrong
  entries right                    200  compared with the counters of the index
  regions                            1
  faults                             0
  time TIME
";
    // How wide the columns are depends on the time that it took.
    let same = text.split_whitespace().eq(expected.split_whitespace());
    assert!(same, "{text}");
    desk.run(2, &["verify", "cache", "--level", "all"]);
    desk.run(2, &["verify", "cache", "--jobs", "0"]);
}

// Corruption of a record is found by the level that reads records.
#[test]
fn record_corruption_needs_record_level() {
    let desk = Desk::new();
    desk.fill("cache", 200);
    let heap = std::fs::File::options()
        .write(true)
        .open(desk.path("cache.heap"))
        .unwrap();
    heap.write_all_at(&[0x55; 8], 4_000).unwrap();
    desk.run(0, &["verify", "cache", "--level", "headers"]);
    desk.run(0, &["verify", "cache", "--level", "slots"]);
    let one = desk
        .run(1, &["verify", "cache", "--jobs", "1"])
        .normalised();
    assert!(
        one.contains("DAMAGED") && one.contains("cache.heap: byte"),
        "{one}"
    );
    let four = desk
        .run(1, &["verify", "cache", "--jobs", "4"])
        .normalised();
    // How wide the columns are depends on the time that it took.
    let same = four.split_whitespace().eq(one.split_whitespace());
    assert!(same, "{four}\n{one}");
}

#[test]
fn corrupt_entries_are_named_by_keys() {
    let desk = Desk::new();
    let cache = desk.open("cache");
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
        let path = desk.path("cache.heap");
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
        let told = desk.try_run(&arguments).json();
        let faults = told["faults"].as_array().unwrap().iter();
        let named = faults.filter_map(|fault| fault.get("key").or(fault.get("key_start")));
        named
            .map(|key| key.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(keys("records"), Vec::<String>::new());
    // A value: the slot has the one key, and the record all of the other.
    flip(b"value one");
    flip(b"value two");
    let found = keys("records");
    assert!(
        found.contains(&"short\n".to_owned()) && found.contains(&long),
        "{found:?}"
    );
    let text = desk.run(1, &["verify", "cache"]).out();
    assert!(text.contains("; key short\\x0a\n"), "{text}");
    assert!(text.contains(&format!("; key {long}\n")), "{text}");
    assert!(!text.contains("sound"), "{text}");
    assert!(
        text.contains("\nnext: `mmapcache-inspect repair cache`"),
        "{text}"
    );
    // The key itself, behind what the slot repeats of it.
    flip(b"xxxxxxxx");
    let text = desk.run(1, &["verify", "cache"]).out();
    assert!(
        text.contains("; a key that starts with a key that is longer"),
        "{text}"
    );
    assert!(!text.contains("xxx"), "{text}");
}

// A cache of a newer release is neither shown nor repaired.
#[test]
fn newer_release_is_left_alone() {
    let desk = Desk::new();
    desk.fill("cache", 20);
    let index = desk.path("cache");
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
        std::fs::read(desk.path("cache.heap")),
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
        // Its fields may mean something else: none of them is shown.
        let said = desk.run(2, command);
        assert_eq!(said.out(), "", "{command:?}");
        let said = said.err();
        let named = said.contains("cache: feature flags 0x80000000 of a newer release");
        assert!(named && !said.contains("damaged"), "{command:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{command:?}: {said}");
    }
    let down = desk.run(2, &["metrics", "cache"]).out();
    assert!(
        down.ends_with("mmapcache_up{cache=\"cache\"} 0\n"),
        "{down}"
    );
    let after = [
        std::fs::read(&index),
        std::fs::read(desk.path("cache.heap")),
    ]
    .map(Result::unwrap);
    assert!(before == after);
}
