//! `import --from-cache` and `export --to-cache`.

use crate::run::Desk;

fn entries(desk: &Desk, name: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let cache = desk.look(name);
    let mut entries: Vec<_> = cache.iter().unwrap().map(|item| item.unwrap()).collect();
    entries.sort();
    entries
}

#[test]
fn transferred_entries_get_new_versions() {
    let desk = Desk::new();
    desk.fill("cache", 600);
    let version = |name: &str| desk.look(name).version(b"key 007").unwrap().unwrap();
    let told = desk.run(0, &["import", "new", "--from-cache", "cache", "--json"]);
    assert_eq!(told.json()["stored"], 600);
    desk.open("there").put(b"was there", b"1").unwrap();
    let told = desk.run(0, &["export", "cache", "--to-cache", "there"]);
    assert!(
        told.out().starts_with("stored 600 entries"),
        "{}",
        told.out()
    );
    assert_eq!(entries(&desk, "new"), entries(&desk, "cache"));
    assert_eq!(desk.look("there").len(), 601);
    assert!(version("new") > version("cache"));
}

#[test]
fn senseless_transfers_are_refused_early() {
    let desk = Desk::new();
    desk.fill("cache", 3);
    let labels = mmapcache::Labels::open(desk.path("labels")).unwrap();
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
        assert!(!desk.run(2, arguments).err().is_empty());
        assert!(!desk.path("new").exists(), "{arguments:?}");
    }
    assert_eq!((desk.look("cache").len(), labels.len()), (3, 1));
}
