//! Commands on the files of a `Cache`: they are shown, checked, copied and repaired as they are.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use mmapcache::inspect::CacheFiles;
use mmapcache::{Cache, InsertOptions, Options};

use crate::run::Workspace;

// A user who maintains caches needs one program for both types; an expired entry is not lost from view.
#[test]
fn commands_accept_expiring_caches() {
    let workspace = Workspace::new();
    let hour = InsertOptions::new().ttl(Duration::from_secs(3_600));
    let cache = Cache::open(workspace.path("cache")).unwrap();
    cache.insert_with("fresh", "value", &hour).unwrap();
    let at_once = InsertOptions::new().ttl(Duration::ZERO);
    cache.insert_with("expired", "old", &at_once).unwrap();
    for command in [
        &["stats", "cache"][..],
        &["header", "cache"],
        &["verify", "cache"],
        &["heap", "cache"],
        &["map", "cache"],
        &["get", "cache", "expired"],
        &["slot", "cache", "--key", "fresh"],
        &["record", "cache", "0:128"],
        &["compact", "cache"],
        &["copy", "cache", "copy"],
        &["repair", "copy"],
        &["verify", "copy"],
    ] {
        workspace.run(0, command);
    }
    let mut keys = workspace.run(0, &["list", "copy"]).lines();
    keys.sort();
    assert!(keys.len() == 2 && keys[1].contains("fresh"), "{keys:?}");
    let copy = Cache::open(workspace.path("copy")).unwrap();
    assert_eq!(
        copy.entry("fresh").unwrap(),
        cache.entry("fresh").unwrap(),
        "value, version and deadline"
    );
    assert_eq!(copy.get("expired").unwrap(), None);
}

/// A cache with an entry of each kind.
fn with_all_kinds(workspace: &Workspace) -> Cache {
    let hour = InsertOptions::new().ttl(Duration::from_secs(7_210));
    let cache = Cache::open(workspace.path("pages")).unwrap();
    cache.insert_with("fresh", "value", &hour).unwrap();
    cache.insert("forever", "a longer value").unwrap();
    cache
        .insert_absent("negative", Duration::from_secs(7_210))
        .unwrap();
    let at_once = InsertOptions::new().ttl(Duration::ZERO);
    cache.insert_with("expired", "old", &at_once).unwrap();
    cache
}

/// Writes a word of the changing part of the header.
fn set_header_word(workspace: &Workspace, at: u64, value: u64) {
    let index = File::options().write(true).open(workspace.path("pages"));
    let index = index.unwrap();
    index.write_all_at(&value.to_le_bytes(), at).unwrap();
}

#[test]
fn listings_show_states() {
    let workspace = Workspace::new();
    let cache = with_all_kinds(&workspace);
    let mut lines = workspace.run(0, &["list", "pages", "--long"]).lines();
    lines.sort_by_key(|line| line.rsplit(' ').next().map(str::to_owned));
    let expected = [
        "expired",
        "fresh for ever",
        "fresh for 2.0 h",
        "negative for 2.0 h",
    ];
    assert_eq!(lines.len(), expected.len());
    for (line, state) in lines.iter().zip(expected) {
        assert!(line.contains(state), "{line}");
    }
    for sorted in [
        &["list", "pages", "--expired"][..],
        &[
            "list",
            "pages",
            "--expired",
            "--sort",
            "size",
            "--limit",
            "1",
        ],
    ] {
        assert_eq!(workspace.run(0, sorted).lines(), ["expired"]);
    }
    let listed = workspace.run(0, &["list", "pages", "--json", "--values"]);
    for line in listed.json_lines() {
        let key = line["key"].as_str().unwrap();
        assert_eq!(line["expired"], key == "expired", "{line}");
        assert_eq!(line["negative"], key == "negative", "{line}");
        assert_eq!(
            line["remaining_seconds"].is_null(),
            key == "forever",
            "{line}"
        );
        assert!(line["age_seconds"].as_f64().unwrap() < 3_600.0, "{line}");
    }
    // The cache's own entries are no user's business.
    let files = CacheFiles::open(workspace.path("pages"), None).unwrap();
    let id = files.header().unwrap().cache_id;
    let raw = Options::new()
        .raw(true)
        .open(workspace.path("pages"))
        .unwrap();
    raw.put([&id[..], b"g1234567"].concat(), "").unwrap();
    assert_eq!(workspace.run(0, &["list", "pages"]).lines().len(), 4);
    assert_eq!(
        workspace
            .run(0, &["list", "pages", "--sort", "size"])
            .lines()
            .len(),
        4
    );
    drop(cache);
    workspace.fill("plain", 3);
    let refused = workspace.run(2, &["list", "plain", "--expired"]).stderr();
    assert!(refused.contains("no deadlines"), "{refused}");
}

#[test]
fn expire_removes_expired_entries() {
    let workspace = Workspace::new();
    let cache = with_all_kinds(&workspace);
    let removed = workspace
        .run(0, &["expire", "pages", "--json", "--sync"])
        .json();
    assert_eq!(
        (&removed["removed"], &removed["entries"]),
        (&1.into(), &3.into())
    );
    assert_eq!(cache.len_with_expired(), 3);
    let text = workspace.run(0, &["expire", "pages"]).stdout();
    assert!(text.starts_with("removed 0 of 3 entries in "), "{text}");
    workspace.fill("plain", 3);
    let refused = workspace.run(2, &["expire", "plain"]).stderr();
    assert!(refused.contains("made by MmapCache"), "{refused}");
    workspace.run(2, &["expire", "nowhere"]);
    assert!(!workspace.path("nowhere").exists());
}

#[test]
fn put_gives_a_deadline() {
    let workspace = Workspace::new();
    workspace.run(2, &["put", "new", "key", "value", "--ttl", "60"]);
    workspace.run(
        0,
        &["put", "new", "key", "value", "--ttl", "60", "--create"],
    );
    workspace.run(
        1,
        &["put", "new", "key", "again", "--ttl", "60", "--if-absent"],
    );
    workspace.run(0, &["put", "new", "old", "value", "--ttl", "0"]);
    workspace.run(
        0,
        &["put", "new", "old", "value", "--ttl", "60", "--if-absent"],
    );
    let cache = Cache::open(workspace.path("new")).unwrap();
    for key in ["key", "old"] {
        let entry = cache.entry(key).unwrap().unwrap();
        assert_eq!(entry.value(), b"value");
        let left = entry.remaining().unwrap();
        assert!(left <= Duration::from_secs(60) && left > Duration::from_secs(30));
    }
}

// What eviction finds: entries that were not used go first.
#[test]
fn stats_show_uses() {
    let workspace = Workspace::new();
    let cache = Cache::open(workspace.path("pages")).unwrap();
    for key in ["unused", "once", "often"] {
        cache.insert(key, "value").unwrap();
    }
    for key in ["once", "often", "often", "often", "often"] {
        assert!(cache.contains(key).unwrap());
    }
    drop(cache);
    let json = workspace
        .run(0, &["stats", "pages", "--full", "--json"])
        .json();
    assert_eq!(
        json["full"]["census"]["uses"],
        serde_json::json!([1, 1, 0, 1])
    );
    let stats = workspace.run(0, &["stats", "pages", "--full"]).stdout();
    assert!(stats.contains("unused, go first"), "{stats}");
    workspace.fill("plain", 3);
    let stats = workspace.run(0, &["stats", "plain", "--full"]).stdout();
    assert!(!stats.contains("unused, go first"), "{stats}");
}

// The words that processes add to, in several shards, and the settings, which have a check.
#[test]
fn cache_figures_are_shown_everywhere() {
    let workspace = Workspace::new();
    let cache = with_all_kinds(&workspace);
    let at_once = InsertOptions::new().ttl(Duration::ZERO);
    cache.insert_with("also", "old", &at_once).unwrap();
    drop(cache);
    let counted: [u64; 11] = [70, 5, 10, 15, 31, 32, 33, 34, 35, 36, 37];
    // What the handles have counted themselves.
    for at in (1_280..3_328).step_by(8) {
        set_header_word(&workspace, at, 0);
    }
    for (at, count) in (0..).step_by(8).zip(counted) {
        // Half of it in another shard.
        set_header_word(&workspace, 1_280 + at, count / 2);
        set_header_word(&workspace, 1_280 + 3 * 128 + at, count - count / 2);
    }
    let stats = workspace.run(0, &["stats", "pages", "--full"]).stdout();
    for row in [
        "hit ratio                                85.0 %",
        "evicted by size                              34",
        "max bytes                                  none",
        "expired                                       2  40.0 %",
        "without a deadline                            1  20.0 %",
    ] {
        assert!(stats.contains(row), "{row}: {stats}");
    }
    let json = workspace
        .run(0, &["stats", "pages", "--full", "--json"])
        .json();
    assert_eq!(json["cache"]["evicted_number"], 35);
    assert_eq!(json["cache"]["settings"]["eviction"], "clock");
    assert_eq!(json["freshness"]["negative"], 1);
    let metrics = workspace.run(0, &["metrics", "pages"]).stdout();
    for line in [
        "mmapcache_cache_hits_total{cache=\"pages\",kind=\"stale\"} 5\n",
        "mmapcache_cache_misses_total{cache=\"pages\"} 15\n",
        "mmapcache_cache_removals_total{cache=\"pages\",cause=\"invalidated\"} 37\n",
        "mmapcache_cache_insertions_total{cache=\"pages\"} 31\n",
        "mmapcache_cache_max_bytes{cache=\"pages\"} 0\n",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let report = workspace.run(0, &["report", "pages", "--json"]).json();
    assert_eq!(report["cache"]["hit_ratio"], 0.85);
    let page = workspace
        .run(0, &["report", "pages", "--html", "-"])
        .stdout();
    assert!(page.contains("85.0 %"), "{page}");
    let watch = ["watch", "pages", "--count", "2", "--interval", "20ms"];
    let lines = workspace.run(0, &watch).stdout();
    assert!(
        lines.contains("0 look-ups/s, hits none, 0 evictions/s"),
        "{lines}"
    );
    // The first word of the settings and of their copy: neither check holds.
    set_header_word(&workspace, 1_024, 1);
    let stats = workspace.run(0, &["stats", "pages"]).stdout();
    assert!(!stats.contains("CORRUPT"), "{stats}");
    set_header_word(&workspace, 1_152, 1);
    let stats = workspace.run(0, &["stats", "pages"]).stdout();
    assert!(stats.contains("CORRUPT"), "{stats}");
    let json = workspace.run(0, &["stats", "pages", "--json"]).json();
    assert!(json["cache"]["settings"].is_null() && json["cache"]["hits"] == 70);
    workspace.fill("plain", 3);
    let json = workspace
        .run(0, &["stats", "plain", "--full", "--json"])
        .json();
    assert!(json.get("cache").is_none() && json.get("freshness").is_none());
    let metrics = workspace.run(0, &["metrics", "plain"]).stdout();
    assert!(!metrics.contains("mmapcache_cache_"), "{metrics}");
}
