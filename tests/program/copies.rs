//! `copy`: what it tells, and what it refuses. What is in a copy, `tests/copy.rs` says.

use std::os::unix::fs::FileExt;

use crate::run::Desk;

// A copy is reported with its numbers, and is a cache like any other.
#[test]
fn copy_reports_numbers_and_works() {
    let desk = Desk::new();
    desk.fill("cache", 100);
    let told = desk.run(0, &["copy", "cache", "copy", "--json"]).json();
    assert_eq!(
        (&told["entries"], &told["damaged_bytes"]),
        (&100.into(), &0.into())
    );
    let arguments = ["copy", "cache", "other", "--destination-heap", "records"];
    let text = desk.run(0, &arguments).normalised();
    assert!(text.starts_with("copy: whole and clean\n"), "{text}");
    assert!(text.contains(" 100\n"), "{text}");
    assert!(desk.path("records").exists());
    desk.run(0, &["verify", "copy"]);
    desk.run(0, &["verify", "other", "--heap-path", "records"]);
    desk.run(0, &["put", "copy", "key 007", "new"]);
    let values = |name: &str| {
        desk.run(0, &["list", name, "--sort", "key", "--values", "--json"])
            .out()
    };
    let other = [
        "list",
        "other",
        "--heap-path",
        "records",
        "--sort",
        "key",
        "--values",
        "--json",
    ];
    assert_eq!(values("cache"), desk.run(0, &other).out());
    assert_ne!(values("copy"), values("cache"));
}

// Nothing is copied over an existing cache, or from a missing one.
#[test]
fn invalid_copies_are_refused() {
    let desk = Desk::new();
    desk.fill("cache", 10);
    desk.fill("taken", 5);
    for (from, to, what) in [
        ("cache", "taken", "already"),
        ("cache", "cache", "original's files"),
        ("cache", "cache.heap.3", "original's files"),
        ("cache", "no/such/place", "no/such"),
        ("nowhere", "copy", "nowhere"),
    ] {
        let refused = desk.run(2, &["copy", from, to]).err();
        assert!(refused.contains(what), "{from} to {to}: {refused}");
        assert_eq!(refused.lines().count(), 1, "{refused}");
    }
    assert_eq!(
        (desk.look("taken").len(), desk.look("cache").len()),
        (5, 10)
    );
}

// A copy of a corrupt cache is clean, and the program counts the missing entries.
#[test]
fn copy_of_corruption_is_clean() {
    let desk = Desk::new();
    desk.fill("cache", 100);
    let heap = std::fs::File::options()
        .write(true)
        .open(desk.path("cache.heap"))
        .unwrap();
    heap.write_all_at(&[0x55; 8], 4_000).unwrap();
    let refused = desk.run(1, &["copy", "cache", "copy"]).err();
    assert!(refused.contains("99 of 100 entries"), "{refused}");
    assert!(!desk.path("copy").exists());
    let text = desk
        .run(1, &["copy", "cache", "copy", "--allow-losses"])
        .out();
    assert!(text.contains("damaged bytes"), "{text}");
    assert!(text.starts_with("copy: clean, but NOT WHOLE"), "{text}");
    desk.run(0, &["verify", "copy"]);
    assert_eq!(desk.look("copy").len(), 99);
}
