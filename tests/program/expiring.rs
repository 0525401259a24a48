//! Commands on the files of a `Cache`: they are shown, checked, copied and repaired as they are.

use std::time::Duration;

use mmapcache::{Cache, InsertOptions};

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
