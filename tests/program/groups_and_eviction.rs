//! `invalidate` and `evict`.

use std::time::Duration;

use mmapcache::{Cache, InsertOptions};

use crate::run::Workspace;

#[test]
fn invalidate_ends_a_group() {
    let workspace = Workspace::new();
    let cache = Cache::open(workspace.path("pages")).unwrap();
    let grouped = InsertOptions::new().tag("a \x01").namespace("n");
    cache.insert_with("both", "1", &grouped).unwrap();
    cache
        .insert_with("tagged", "1", &InsertOptions::new().tag("a \x01"))
        .unwrap();
    cache
        .insert_with("named", "1", &InsertOptions::new().namespace("n"))
        .unwrap();
    cache.insert("none", "1").unwrap();
    let there = || {
        let mut keys: Vec<_> = cache.keys().unwrap().map(|key| key.unwrap()).collect();
        keys.sort();
        keys
    };
    let said = workspace.run(0, &["invalidate", "pages", "no such tag"]);
    assert_eq!(said.stdout(), "invalidated the tag no such tag\n");
    assert_eq!(there().len(), 4);
    let json = workspace
        .run(0, &["invalidate", "pages", r"a \x01", "--json", "--sync"])
        .json();
    assert_eq!(
        (&json["invalidated"], &json["tag"]),
        (&true.into(), &"a \x01".into())
    );
    assert_eq!(there(), [&b"named"[..], b"none"]);
    let json = workspace
        .run(0, &["invalidate", "pages", "n", "--namespace", "--json"])
        .json();
    assert_eq!(json["namespace"], "n");
    assert_eq!(there(), [b"none"]);
    workspace.fill("plain", 3);
    for wrong in ["plain", "nowhere"] {
        workspace.run(2, &["invalidate", wrong, "n"]);
        workspace.run(2, &["evict", wrong, "--to", "1MiB"]);
    }
    assert!(!workspace.path("nowhere").exists());
}

#[test]
fn evict_makes_files_smaller() {
    let workspace = Workspace::new();
    let cache = Cache::builder(workspace.path("pages"))
        .max_bytes(64 << 20)
        .open()
        .unwrap();
    for number in 0..200_u32 {
        cache
            .insert(number.to_le_bytes(), vec![7; 100_000])
            .unwrap();
    }
    let before = cache.disk_usage().unwrap().total();
    assert!(before > 16 << 20);
    let json = workspace
        .run(0, &["evict", "pages", "--to", "8MiB", "--json"])
        .json();
    assert_eq!(json["bytes_before"], before);
    assert!(json["bytes"].as_u64().unwrap() <= 8 << 20, "{json}");
    let left = cache.len_with_expired();
    assert!(left > 0 && left < 100 && json["entries"] == left, "{json}");
    assert_eq!(json["entries_before"], 200);
    let text = workspace
        .run(0, &["evict", "pages", "--to", "64MiB"])
        .stdout();
    assert!(
        text.starts_with(&format!("evicted 0 of {left} entries in ")),
        "{text}"
    );
    // The index alone takes more.
    workspace.run(1, &["evict", "pages", "--to", "1KiB"]);
    for wrong in [&["evict", "pages"][..], &["evict", "pages", "--to", "1MB"]] {
        workspace.run(2, wrong);
    }
    drop(cache);
    let cache = Cache::open(workspace.path("pages")).unwrap();
    cache
        .insert_with(
            "key",
            "still works",
            &InsertOptions::new().ttl(Duration::from_secs(60)),
        )
        .unwrap();
}
