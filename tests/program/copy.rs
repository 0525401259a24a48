//! `copy`: its report, and what it refuses. `tests/copy.rs` tests the contents of a copy.

use std::os::unix::fs::FileExt;

use mmapcache::Options;

use crate::run::Workspace;

#[test]
fn copy_reports_numbers_and_works() {
    let workspace = Workspace::new();
    workspace.fill("cache", 100);
    let report = workspace
        .run(0, &["copy", "cache", "copy", "--json"])
        .json();
    assert_eq!(
        (&report["entries"], &report["damaged_bytes"]),
        (&100.into(), &0.into())
    );
    let arguments = ["copy", "cache", "other", "--destination-heap", "records"];
    let text = workspace.run(0, &arguments).normalised();
    assert!(text.starts_with("copy: complete and clean\n"), "{text}");
    assert!(text.contains(" 100\n"), "{text}");
    assert!(workspace.path("records").exists());
    workspace.run(0, &["verify", "copy"]);
    workspace.run(0, &["verify", "other", "--heap-path", "records"]);
    workspace.run(0, &["put", "copy", "key 007", "new"]);
    let values = |name: &str| {
        workspace
            .run(0, &["list", name, "--sort", "key", "--values", "--json"])
            .stdout()
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
    assert_eq!(values("cache"), workspace.run(0, &other).stdout());
    assert_ne!(values("copy"), values("cache"));
}

// A cache whose records are overwritten in place is locked for a moment, and its copy is of the same kind.
#[test]
fn copy_keeps_overwriting_in_place() {
    let workspace = Workspace::new();
    let mut options = Options::new();
    let cache = options.in_place(true).open(workspace.path("cache"));
    cache.unwrap().put(b"key", b"value").unwrap();
    workspace.run(0, &["copy", "cache", "copy"]);
    let state = workspace.run(0, &["stats", "copy"]).stdout();
    assert!(state.contains("overwrites in place"), "{state}");
    let json = workspace.run(0, &["stats", "copy", "--json"]).json();
    assert_eq!(json["in_place"], true);
    assert_eq!(json["header"]["sealed"]["in_place"], true);
    workspace.run(0, &["verify", "copy"]);
}

// Nothing is copied over an existing cache, or from a missing one.
#[test]
fn invalid_copies_are_refused() {
    let workspace = Workspace::new();
    workspace.fill("cache", 10);
    workspace.fill("taken", 5);
    for (from, to, what) in [
        ("cache", "taken", "exists"),
        ("cache", "cache", "original's files"),
        ("cache", "cache.heap.3", "original's files"),
        ("cache", "no/such/place", "no/such"),
        ("nowhere", "copy", "nowhere"),
    ] {
        let refused = workspace.run(2, &["copy", from, to]).stderr();
        assert!(refused.contains(what), "{from} to {to}: {refused}");
        assert_eq!(refused.lines().count(), 1, "{refused}");
    }
    assert_eq!(
        (
            workspace.open_read_only("taken").len(),
            workspace.open_read_only("cache").len()
        ),
        (5, 10)
    );
}

// A copy of a corrupt cache is clean, and the program counts the missing entries.
#[test]
fn copy_of_corruption_is_clean() {
    let workspace = Workspace::new();
    workspace.fill("cache", 100);
    let heap = std::fs::File::options()
        .write(true)
        .open(workspace.path("cache.heap"))
        .unwrap();
    heap.write_all_at(&[0x55; 8], 4_000).unwrap();
    let refused = workspace.run(1, &["copy", "cache", "copy"]).stderr();
    assert!(refused.contains("99 of 100 entries"), "{refused}");
    assert!(!workspace.path("copy").exists());
    let text = workspace
        .run(1, &["copy", "cache", "copy", "--allow-losses"])
        .stdout();
    assert!(text.contains("damaged bytes"), "{text}");
    assert!(text.starts_with("copy: clean, but NOT COMPLETE"), "{text}");
    workspace.run(0, &["verify", "copy"]);
    assert_eq!(workspace.open_read_only("copy").len(), 99);
}
