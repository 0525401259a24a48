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
    assert_eq!(
        desk.run(1, &["verify", "cache", "--jobs", "4"])
            .normalised(),
        one
    );
}
