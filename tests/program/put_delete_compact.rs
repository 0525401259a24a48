//! `put`, `delete` and `compact`.

use mmapcache::{Labels, Options};
use serde_json::json;

use crate::run::Workspace;

// A value comes from an argument, a file or standard input.
#[test]
fn put_accepts_all_value_sources() {
    let workspace = Workspace::new();
    let refused = workspace.run(2, &["put", "cache", "k", "v"]);
    assert!(refused.stderr().contains("cache"), "{}", refused.stderr());
    assert!(
        !workspace.path("cache").exists(),
        "a cache without --create"
    );
    workspace.run(0, &["put", "cache", "k\\x00\\\\", "hex:00ff", "--create"]);
    std::fs::write(workspace.path("file"), b"of a file\n").unwrap();
    workspace.run(0, &["put", "cache", "file", "--file", "file", "--sync"]);
    workspace.run_with_input(0, &["put", "cache", "pipe", "-"], b"of a pipe\0");
    workspace.run(0, &["put", "cache", "empty", ""]);
    let cache = workspace.open_read_only("cache");
    let values: [(&[u8], &[u8]); 4] = [
        (b"k\0\\", b"\0\xff"),
        (b"file", b"of a file\n"),
        (b"pipe", b"of a pipe\0"),
        (b"empty", b""),
    ];
    for (key, value) in values {
        assert_eq!(cache.get(key).unwrap().as_deref(), Some(value));
    }
    assert_eq!(cache.len(), 4);
    for wrong in [&["put", "cache", "k"][..], &["put", "cache", "k\\", "v"]] {
        assert!(!workspace.run(2, wrong).stderr().is_empty());
    }
}

#[test]
fn put_reports_the_new_version() {
    let workspace = Workspace::new();
    workspace.fill("cache", 3);
    let put = workspace.run(0, &["put", "cache", "key 001", "new", "--json"]);
    let version = workspace
        .open_read_only("cache")
        .entry(b"key 001")
        .unwrap()
        .unwrap()
        .version();
    let report = json!({ "stored": true, "bytes": 3, "version": version.as_nanos().to_string() });
    assert_eq!(put.json(), report);
    let arguments = ["put", "cache", "key 001", "newer", "--if-absent", "--json"];
    let kept = workspace.run(1, &arguments);
    assert_eq!(
        kept.json(),
        json!({ "stored": false, "bytes": 5, "version": null })
    );
    assert_eq!(
        workspace
            .open_read_only("cache")
            .get(b"key 001")
            .unwrap()
            .unwrap(),
        b"new"
    );
    workspace.run(0, &["put", "cache", "another", "1", "--if-absent"]);
    assert_eq!(workspace.open_read_only("cache").len(), 4);
}

#[test]
fn delete_names_absent_keys() {
    let workspace = Workspace::new();
    workspace.fill("cache", 10);
    let deleted = workspace.run(0, &["delete", "cache", "key 000", "key 00\\x31"]);
    assert_eq!(deleted.stdout(), "deleted 2\n");
    let arguments = [
        "delete", "cache", "hex:00ff", "key 002", "key 000", "--json",
    ];
    let deleted = workspace.run(1, &arguments);
    let absent = json!([{ "key_base64": "AP8=" }, { "key": "key 000" }]);
    assert_eq!(deleted.json(), json!({ "deleted": 1, "absent": absent }));
    assert_eq!(workspace.open_read_only("cache").len(), 7);
    // An invalid key prevents all deletions.
    workspace.run(2, &["delete", "cache", "key 005", "\\"]);
    assert_eq!(workspace.open_read_only("cache").len(), 7);
    workspace.run(2, &["delete", "nowhere", "key 005"]);
}

#[test]
fn compact_reports_sizes() {
    let workspace = Workspace::new();
    workspace.fill("cache", 300);
    workspace.fill("cache", 300);
    let compacted = workspace.run(0, &["compact", "cache", "--json"]).json();
    let size = |when: &str, what: &str| compacted[when][what].as_u64().unwrap();
    assert!(size("after", "heap_bytes") < size("before", "heap_bytes"));
    assert_eq!(size("after", "live_bytes"), size("before", "live_bytes"));
    let disk = workspace
        .open_read_only("cache")
        .disk_usage()
        .unwrap()
        .total();
    assert_eq!(size("after", "disk_bytes"), disk);
    let text = workspace.run(0, &["compact", "cache"]).stdout();
    for row in ["on the disk", "heap", "live", "dead", "was "] {
        assert!(text.contains(row), "{text}");
    }
    assert_eq!(workspace.open_read_only("cache").len(), 300);
}

#[test]
fn append_only_cache_explains_refusals() {
    let workspace = Workspace::new();
    let kept = Options::new()
        .append_only(true)
        .open(workspace.path("kept"))
        .unwrap();
    kept.put(b"k", b"v").unwrap();
    workspace.run(0, &["put", "kept", "another", "1"]);
    for arguments in [&["put", "kept", "k", "new"][..], &["delete", "kept", "k"]] {
        let refused = workspace.run(2, arguments);
        assert!(
            refused.stderr().contains("append-only"),
            "{}",
            refused.stderr()
        );
    }
    assert_eq!(kept.get(b"k").unwrap().unwrap(), b"v");
    Labels::open(workspace.path("labels"))
        .unwrap()
        .get_or_intern("a")
        .unwrap();
    for arguments in [
        &["put", "labels", "b", ""][..],
        &["delete", "labels", "a"],
        &["compact", "labels"],
    ] {
        let refused = workspace.run(2, arguments);
        assert!(
            refused.stderr().contains("holds labels"),
            "{}",
            refused.stderr()
        );
    }
}

#[test]
fn lock_holder_is_named_on_timeout() {
    let workspace = Workspace::new();
    workspace.fill("cache", 3);
    let cache = workspace.open("cache");
    let writer = cache.writer().unwrap();
    for arguments in [
        &["put", "cache", "k", "v", "--wait", "0"][..],
        &["delete", "cache", "key 001", "--wait", "0"],
        &["compact", "cache", "--wait", "0"],
    ] {
        let refused = workspace.run(2, arguments);
        let process = format!("process {}", std::process::id());
        assert!(refused.stderr().contains(&process), "{}", refused.stderr());
    }
    // Readers do not wait.
    workspace.run(0, &["list", "cache", "--sort", "key"]);
    workspace.run(0, &["copy", "cache", "copy"]);
    drop(writer);
    assert_eq!(workspace.open_read_only("cache").len(), 3);
}
