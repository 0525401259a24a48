//! `import --from-cache` and `export --to-cache`.

use crate::run::Workspace;

fn entries(workspace: &Workspace, name: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let cache = workspace.open_read_only(name);
    let mut entries: Vec<_> = cache.iter().unwrap().map(|item| item.unwrap()).collect();
    entries.sort();
    entries
}

#[test]
fn copied_entries_get_new_versions() {
    let workspace = Workspace::new();
    workspace.fill("cache", 600);
    let version = |name: &str| {
        workspace
            .open_read_only(name)
            .version(b"key 007")
            .unwrap()
            .unwrap()
    };
    let report = workspace.run(0, &["import", "new", "--from-cache", "cache", "--json"]);
    assert_eq!(report.json()["stored"], 600);
    workspace.open("there").put(b"was there", b"1").unwrap();
    let report = workspace.run(0, &["export", "cache", "--to-cache", "there"]);
    assert!(
        report.stdout().starts_with("stored 600 entries"),
        "{}",
        report.stdout()
    );
    assert_eq!(entries(&workspace, "new"), entries(&workspace, "cache"));
    assert_eq!(workspace.open_read_only("there").len(), 601);
    assert!(version("new") > version("cache"));
}

#[test]
fn invalid_copies_are_refused_early() {
    let workspace = Workspace::new();
    workspace.fill("cache", 3);
    let labels = mmapcache::Labels::open(workspace.path("labels")).unwrap();
    labels.get_or_intern("a label").unwrap();
    for arguments in [
        &["import", "new"][..],
        &["import", "new", "-", "--from-cache", "cache"],
        &["import", "new", "--from-cache", "nowhere"],
        &["import", "new", "--from-cache", "labels"],
        &["import", "cache", "--from-cache", "cache"],
        &["import", "labels", "--from-cache", "cache"],
        &["export", "cache", "--to-cache", "cache"],
        &["export", "cache", "--to-cache", "new", "--dir", "files"],
    ] {
        assert!(!workspace.run(2, arguments).stderr().is_empty());
        assert!(!workspace.path("new").exists(), "{arguments:?}");
    }
    assert_eq!(
        (workspace.open_read_only("cache").len(), labels.len()),
        (3, 1)
    );
}
