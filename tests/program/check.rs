//! `verify`: levels and threads.

use std::os::unix::fs::FileExt;

use serde_json::json;

use crate::run::Desk;

#[test]
fn each_level_tells_what_it_looked_at() {
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
    assert_eq!(text, expected);
    desk.run(2, &["verify", "cache", "--level", "all"]);
    desk.run(2, &["verify", "cache", "--jobs", "0"]);
}

#[test]
fn damage_of_a_record_is_found_by_the_level_that_reads_records() {
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
fn a_cache_of_a_newer_release_is_shown_and_neither_repaired_nor_called_damaged() {
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
    ] {
        let said = desk.run(2, command).err();
        let named = said.contains("cache: feature flags 0x80000000 of a newer release");
        assert!(named && !said.contains("damaged"), "{command:?}: {said}");
    }
    let shown = desk.run(1, &["header", "cache"]).normalised();
    assert!(
        shown.contains("flags that this crate does not know"),
        "{shown}"
    );
    let after = [
        std::fs::read(&index),
        std::fs::read(desk.path("cache.heap")),
    ]
    .map(Result::unwrap);
    assert!(before == after);
}
