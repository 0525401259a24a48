//! `put`, `delete` and `compact`.

use mmapcache::{Labels, Options};
use serde_json::json;

use crate::run::Desk;

// A value comes from an argument, a file or standard input.
#[test]
fn put_accepts_all_value_sources() {
    let desk = Desk::new();
    let refused = desk.run(2, &["put", "cache", "k", "v"]);
    assert!(refused.err().contains("cache"), "{}", refused.err());
    assert!(
        !desk.path("cache").exists(),
        "a cache that nobody asked for"
    );
    desk.run(0, &["put", "cache", "k\\x00\\\\", "hex:00ff", "--create"]);
    std::fs::write(desk.path("file"), b"of a file\n").unwrap();
    desk.run(0, &["put", "cache", "file", "--file", "file", "--sync"]);
    desk.feed(0, &["put", "cache", "pipe", "-"], b"of a pipe\0");
    desk.run(0, &["put", "cache", "empty", ""]);
    let cache = desk.look("cache");
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
        assert!(!desk.run(2, wrong).err().is_empty());
    }
}

#[test]
fn put_reports_the_new_version() {
    let desk = Desk::new();
    desk.fill("cache", 3);
    let put = desk.run(0, &["put", "cache", "key 001", "new", "--json"]);
    let version = desk
        .look("cache")
        .entry(b"key 001")
        .unwrap()
        .unwrap()
        .version();
    let told = json!({ "stored": true, "bytes": 3, "version": version.as_nanos().to_string() });
    assert_eq!(put.json(), told);
    let arguments = ["put", "cache", "key 001", "newer", "--if-absent", "--json"];
    let kept = desk.run(1, &arguments);
    assert_eq!(
        kept.json(),
        json!({ "stored": false, "bytes": 5, "version": null })
    );
    assert_eq!(desk.look("cache").get(b"key 001").unwrap().unwrap(), b"new");
    desk.run(0, &["put", "cache", "another", "1", "--if-absent"]);
    assert_eq!(desk.look("cache").len(), 4);
}

// Keys that were not there are named, and the others are deleted.
#[test]
fn delete_names_absent_keys() {
    let desk = Desk::new();
    desk.fill("cache", 10);
    let deleted = desk.run(0, &["delete", "cache", "key 000", "key 00\\x31"]);
    assert_eq!(deleted.out(), "deleted 2\n");
    let arguments = [
        "delete", "cache", "hex:00ff", "key 002", "key 000", "--json",
    ];
    let deleted = desk.run(1, &arguments);
    let absent = json!([{ "key_base64": "AP8=" }, { "key": "key 000" }]);
    assert_eq!(deleted.json(), json!({ "deleted": 1, "absent": absent }));
    assert_eq!(desk.look("cache").len(), 7);
    // Nothing goes where one of the keys cannot be read.
    desk.run(2, &["delete", "cache", "key 005", "\\"]);
    assert_eq!(desk.look("cache").len(), 7);
    desk.run(2, &["delete", "nowhere", "key 005"]);
}

#[test]
fn compact_reports_sizes() {
    let desk = Desk::new();
    desk.fill("cache", 300);
    desk.fill("cache", 300);
    let compacted = desk.run(0, &["compact", "cache", "--json"]).json();
    let size = |when: &str, what: &str| compacted[when][what].as_u64().unwrap();
    assert!(size("after", "heap_bytes") < size("before", "heap_bytes"));
    assert_eq!(size("after", "live_bytes"), size("before", "live_bytes"));
    let disk = desk.look("cache").disk_usage().unwrap().total();
    assert_eq!(size("after", "disk_bytes"), disk);
    let text = desk.run(0, &["compact", "cache"]).out();
    for row in ["on the disk", "heap", "live", "dead", "was "] {
        assert!(text.contains(row), "{text}");
    }
    assert_eq!(desk.look("cache").len(), 300);
}

#[test]
fn append_only_cache_explains_refusals() {
    let desk = Desk::new();
    let kept = Options::new()
        .append_only(true)
        .open(desk.path("kept"))
        .unwrap();
    kept.put(b"k", b"v").unwrap();
    desk.run(0, &["put", "kept", "another", "1"]);
    for arguments in [&["put", "kept", "k", "new"][..], &["delete", "kept", "k"]] {
        let refused = desk.run(2, arguments);
        assert!(refused.err().contains("append-only"), "{}", refused.err());
    }
    assert_eq!(kept.get(b"k").unwrap().unwrap(), b"v");
    Labels::open(desk.path("labels"))
        .unwrap()
        .get_or_intern("a")
        .unwrap();
    for arguments in [
        &["put", "labels", "b", ""][..],
        &["delete", "labels", "a"],
        &["compact", "labels"],
    ] {
        let refused = desk.run(2, arguments);
        assert!(refused.err().contains("holds labels"), "{}", refused.err());
    }
}

// A writer that holds the lock is named, and waited for no longer than asked.
#[test]
fn lock_holder_is_named_on_timeout() {
    let desk = Desk::new();
    desk.fill("cache", 3);
    let cache = desk.open("cache");
    let writer = cache.writer().unwrap();
    for arguments in [
        &["put", "cache", "k", "v", "--wait", "0"][..],
        &["delete", "cache", "key 001", "--wait", "0"],
        &["compact", "cache", "--wait", "0"],
    ] {
        let refused = desk.run(2, arguments);
        let process = format!("process {}", std::process::id());
        assert!(refused.err().contains(&process), "{}", refused.err());
    }
    // Whoever looks does not wait.
    desk.run(0, &["list", "cache", "--sort", "key"]);
    desk.run(0, &["copy", "cache", "copy"]);
    drop(writer);
    assert_eq!(desk.look("cache").len(), 3);
}
