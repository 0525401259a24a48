//! Entries of a `Cache` in lines of JSON, and in other caches.

use std::time::{Duration, SystemTime};

use mmapcache::{Cache, CacheEntry, InsertOptions, Options};

use crate::run::Workspace;

const HOUR: Duration = Duration::from_secs(3_600);

/// A cache with entries of all kinds, and with entries of its own.
fn with_all_kinds(workspace: &Workspace) -> Cache {
    let cache = Cache::open(workspace.path("pages")).unwrap();
    let all = InsertOptions::new().ttl(HOUR).stale_for(HOUR).cost(HOUR);
    cache
        .insert_with("all", "value", &all.tag("t").namespace("n"))
        .unwrap();
    cache
        .insert_with("forever", "v", &InsertOptions::new().no_expiry())
        .unwrap();
    cache
        .insert_with(
            "long",
            vec![b'x'; 10_000],
            &InsertOptions::new().ttl(2 * HOUR),
        )
        .unwrap();
    // Its deadline is an entry of the cache itself.
    cache.touch("long", HOUR).unwrap();
    cache.insert_absent("absent", HOUR).unwrap();
    let past = InsertOptions::new().ttl(Duration::ZERO);
    cache
        .insert_with("stale", "old", &past.stale_for(HOUR))
        .unwrap();
    cache.insert_with("expired", "old", &past).unwrap();
    cache
        .insert_with("invalid", "old", &InsertOptions::new().tag("gone"))
        .unwrap();
    cache.invalidate_tag("gone").unwrap();
    cache
}

fn entry(cache: &Cache, key: &str) -> CacheEntry {
    cache.entry(key).unwrap().unwrap()
}

fn assert_near(at: Option<SystemTime>, expected: Option<SystemTime>) {
    let (at, expected) = (at.unwrap(), expected.unwrap());
    assert!(at <= expected && expected < at + Duration::from_secs(30));
}

/// Asserts that a cache has all entries that readers of `with_all_kinds` find.
fn assert_restored(workspace: &Workspace, from: &Cache, name: &str) {
    let cache = Cache::open(workspace.path(name)).unwrap();
    assert_eq!(cache.keys().unwrap().count(), 5);
    for key in ["all", "forever", "long", "stale"] {
        let (old, new) = (entry(from, key), entry(&cache, key));
        assert_eq!(new.value(), old.value(), "{key}");
        // The millisecond of the version itself cannot be stored, and is rounded down.
        let (was, is) = (old.expires_at(), new.expires_at());
        let earlier = was.zip(is).map(|(was, is)| was.duration_since(is).unwrap());
        assert_eq!(was.is_some(), is.is_some(), "{key}");
        assert!(
            earlier.is_none_or(|by| by <= Duration::from_millis(1)),
            "{key}"
        );
        assert_eq!(new.stale_for(), old.stale_for(), "{key}");
        assert_eq!((new.cost(), new.is_stale()), (old.cost(), old.is_stale()));
    }
    let absent = entry(&cache, "absent");
    assert!(absent.is_negative());
    assert_near(entry(from, "absent").expires_at(), absent.expires_at());
    assert!(entry(&cache, "all").has_tag("t") && entry(&cache, "all").has_namespace("n"));
    cache.invalidate_tag("t").unwrap();
    assert_eq!(cache.get("all").unwrap(), None);
}

#[test]
fn lines_restore_a_cache() {
    let workspace = Workspace::new();
    let cache = with_all_kinds(&workspace);
    let exported = workspace.run(0, &["export", "pages"]);
    let lines = exported.json_lines();
    assert_eq!(lines.len(), 5, "{lines:?}");
    let line = |key: &str| lines.iter().find(|line| line["key"] == key).unwrap();
    assert_eq!(line("all")["value"], "value");
    assert!(line("all")["remaining_ms"].as_u64().unwrap() > 3_500_000);
    assert_eq!(line("all")["tag_hash"].as_str().unwrap().len(), 16);
    assert!(line("forever")["expires_at_ms"].is_null());
    assert_eq!(line("absent")["negative"], true);
    let text = exported.stdout();
    workspace.run_with_input(0, &["import", "again", "-"], text.as_bytes());
    assert_restored(&workspace, &cache, "again");
    // A listing has what is expired too: it is skipped.
    let listed = workspace
        .run(0, &["list", "pages", "--values", "--json"])
        .stdout();
    let report =
        workspace.run_with_input(0, &["import", "listed", "-", "--json"], listed.as_bytes());
    assert_eq!(report.json()["expired"], 2, "{listed}");
    assert_restored(&workspace, &cache, "listed");
}

#[test]
fn copied_entries_keep_their_terms() {
    let workspace = Workspace::new();
    let cache = with_all_kinds(&workspace);
    workspace.run(0, &["import", "new", "--from-cache", "pages"]);
    assert_restored(&workspace, &cache, "new");
    workspace.run(0, &["export", "pages", "--to-cache", "other"]);
    assert_restored(&workspace, &cache, "other");
    workspace.run(0, &["copy", "pages", "copy"]);
    let copy = Cache::open(workspace.path("copy")).unwrap();
    assert_eq!(entry(&copy, "all"), entry(&cache, "all"));
    workspace.run(0, &["export", "pages", "--dir", "files"]);
    let value = std::fs::read(workspace.path("files/all")).unwrap();
    assert_eq!(value, b"value");
    assert!(!workspace.path("files/absent").exists());
}

// A deadline that a cache without deadlines forgot would make the entry live for ever.
#[test]
fn deadlines_are_not_forgotten() {
    let workspace = Workspace::new();
    drop(with_all_kinds(&workspace));
    workspace.fill("plain", 0);
    let lines = workspace.run(0, &["export", "pages"]).stdout();
    let report = workspace.run_with_input(2, &["import", "plain", "-", "--json"], lines.as_bytes());
    assert!(
        report.stderr().contains("only a `Cache` keeps"),
        "{}",
        report.stderr()
    );
    assert_eq!(
        (&report.json()["stored"], &report.json()["unfit"]),
        (&1.into(), &4.into())
    );
    workspace.run(2, &["import", "plain", "--from-cache", "pages"]);
    assert_eq!(workspace.open("plain").len(), 1);
}

#[test]
fn plain_lines_get_default_lives() {
    let workspace = Workspace::new();
    let builder = Cache::builder(workspace.path("pages")).time_to_live(Some(HOUR));
    let cache = builder.open().unwrap();
    let lines = "\n{\"key\":\"a\",\"value\":\"1\"}\n{\"key\":\"b\",\"value\":\"2\",\"remaining_ms\":60000}\n";
    workspace.run_with_input(0, &["import", "pages", "-"], lines.as_bytes());
    workspace.run(0, &["put", "pages", "c", "3"]);
    for (key, life) in [("a", HOUR), ("b", Duration::from_secs(60)), ("c", HOUR)] {
        assert_near(
            Some(SystemTime::now() + life - Duration::from_secs(20)),
            entry(&cache, key).expires_at(),
        );
    }
    workspace.run(0, &["delete", "pages", "c"]);
    workspace.run(1, &["delete", "pages", "c"]);
    let wrong = "{\"key\":\"d\",\"value\":\"1\",\"tag_hash\":\"5\"}\n";
    workspace.run_with_input(2, &["import", "pages", "-"], wrong.as_bytes());
    assert_eq!(cache.keys().unwrap().count(), 2);
}

#[test]
fn records_show_their_terms() {
    let workspace = Workspace::new();
    drop(with_all_kinds(&workspace));
    let key = |key: &'static str| ["slot", "pages", "--key", key];
    let text = workspace.run(0, &key("all")).stdout();
    for row in [
        "stale for",
        "3600.00 s",
        "tag's hash",
        "namespace's hash",
        "expires",
    ] {
        assert!(text.contains(row), "{row}: {text}");
    }
    let json = |name| {
        workspace
            .run(0, &[&key(name)[..], &["--json"]].concat())
            .json()
    };
    let record = &json("all")["record"];
    assert_eq!(record["stale_for_ms"], 3_600_000);
    let exported = workspace.run(0, &["export", "pages"]).json_lines();
    let line = exported.iter().find(|line| line["key"] == "all").unwrap();
    for name in ["expires_at_ms", "cost_us", "tag_hash", "namespace_hash"] {
        assert_eq!(record[name], line[name], "{name}");
    }
    assert_eq!(json("absent")["record"]["negative"], true);
    assert!(json("forever")["record"].get("expires_at_ms").is_none());
}

#[test]
fn shown_values_have_no_extension() {
    let workspace = Workspace::new();
    drop(with_all_kinds(&workspace));
    assert_eq!(workspace.run(0, &["get", "pages", "all"]).stdout(), "value");
    let json = workspace.run(0, &["get", "pages", "all", "--json"]).json();
    assert_eq!(
        (&json["value"], &json["negative"]),
        (&"value".into(), &false.into())
    );
    let absent = workspace.run(1, &["get", "pages", "absent"]);
    assert!(absent.stderr().contains("known not to exist") && absent.stdout().is_empty());
    for sort in [&[][..], &["--sort", "size"]] {
        let list = [&["list", "pages", "--prefix", "all", "--values"][..], sort].concat();
        assert_eq!(workspace.run(0, &list).stdout(), "all\tvalue\n");
        let json = workspace.run(0, &[&list[..], &["--json"]].concat()).json();
        assert_eq!(
            (&json["size"], &json["value"]),
            (&5.into(), &"value".into())
        );
    }
    // Entries of the cache itself are there, and hidden.
    let raw = Options::new()
        .raw(true)
        .open(workspace.path("pages"))
        .unwrap();
    assert_eq!(raw.len(), 9);
    assert_eq!(workspace.run(0, &["list", "pages"]).lines().len(), 7);
}
