//! `labels`: by id, by beginning, one alone.

use mmapcache::Labels;
use serde_json::json;

use crate::run::Workspace;

fn labelled() -> Workspace {
    let workspace = Workspace::new();
    let labels = Labels::open(workspace.path("labels")).unwrap();
    for label in [&b"r/aww"[..], b"r/rust", b"\xff\n", b"u/me", b"r/art"] {
        labels.get_or_intern(label).unwrap();
    }
    workspace
}

#[test]
fn labels_are_listed_by_id() {
    let workspace = labelled();
    let all = workspace.run(0, &["labels", "labels"]);
    let lines = [
        "0\tr/aww",
        "1\tr/rust",
        "2\t\\xff\\x0a",
        "3\tu/me",
        "4\tr/art",
    ];
    assert_eq!(all.lines(), lines);
    let some = workspace.run(0, &["labels", "labels", "--prefix", "r/", "--limit", "2"]);
    assert_eq!(some.lines(), ["0\tr/aww", "1\tr/rust"]);
    let arguments = ["labels", "labels", "--prefix", "hex:ff", "--json"];
    let coded = workspace.run(0, &arguments).json_lines();
    assert_eq!(coded, [json!({ "id": 2, "label_base64": "/wo=" })]);
}

#[test]
fn absent_id_is_reported() {
    let workspace = labelled();
    assert_eq!(
        workspace
            .run(0, &["labels", "labels", "--id", "3"])
            .stdout(),
        "3\tu/me\n"
    );
    let absent = workspace.run(1, &["labels", "labels", "--id", "5"]);
    assert!(absent.stdout().is_empty() && absent.stderr().contains("no label has the id 5"));
}

#[test]
fn label_listing_shows_no_times() {
    let workspace = labelled();
    let arguments = ["list", "labels", "--json", "--prefix", "r/r"];
    let listed = workspace.run(0, &arguments).json_lines();
    assert_eq!(listed, [json!({ "key": "r/rust", "id": 1, "size": 0 })]);
    let long = workspace.run(0, &["list", "labels", "--long", "--prefix", "u"]);
    assert_eq!(long.stdout(), "         3  u/me\n");
}

#[test]
fn value_cache_shows_no_labels() {
    let workspace = Workspace::new();
    workspace.fill("cache", 3);
    let refused = workspace.run(2, &["labels", "cache"]);
    assert!(
        refused.stderr().contains("record variant"),
        "{}",
        refused.stderr()
    );
}

// Corrupt labels are left out or refused, and never shown otherwise.
#[test]
fn corrupt_labels_are_never_misread() {
    use std::os::unix::fs::FileExt;
    for file in ["labels", "labels.heap", "labels.roster"] {
        for at in (0..4_400).step_by(211) {
            let workspace = labelled();
            let sound = workspace.run(0, &["labels", "labels"]).lines();
            let damaged = std::fs::File::options()
                .read(true)
                .write(true)
                .open(workspace.path(file));
            let damaged = damaged.unwrap();
            let mut byte = [0];
            if damaged.read_at(&mut byte, at).unwrap() == 1 {
                damaged.write_all_at(&[!byte[0]], at).unwrap();
            }
            let output = workspace.try_run(&["labels", "labels"]);
            let code = output.0.status.code();
            assert!(
                matches!(code, Some(0..=2)),
                "{file} at {at}: {}",
                output.stderr()
            );
            for line in output.lines() {
                assert!(sound.contains(&line), "{file} at {at}: {line}");
            }
        }
    }
}

// Lines that cannot be labels are reported.
#[test]
fn imported_lines_become_labels_once() {
    let workspace = Workspace::new();
    let mut text = b"r/aww\nr/rust\n\nr/aww\n".to_vec();
    text.extend([b'x'; 65_535]);
    text.push(b'\n');
    text.extend([b'y'; 65_536]);
    text.extend(b"\nlast");
    std::fs::write(workspace.path("lines"), text).unwrap();
    let report = workspace.run(2, &["import", "--labels", "labels", "lines"]);
    assert_eq!(report.stdout(), "5 lines, 4 new labels\n");
    assert!(report.stderr().contains("2 lines skipped"));
    let again = workspace.run(2, &["import", "--labels", "labels", "lines", "--json"]);
    assert_eq!(again.json()["new"], 0);
    let last = workspace.run(0, &["labels", "labels", "--id", "3"]);
    assert_eq!(last.stdout(), "3\tlast\n");
    let refused = workspace.run(2, &["import", "labels", "lines"]);
    assert!(!refused.stderr().is_empty());
}
