//! Entries that a command gave up on its way: it says so, and its exit code does.

use std::os::unix::fs::FileExt;

use crate::run::Desk;

/// A copy, by another program, of a cache of which one record is damaged.
fn damaged_copy() -> Desk {
    let desk = Desk::new();
    desk.fill("cache", 100);
    let bytes = std::fs::read(desk.path("cache.heap")).unwrap();
    let at = bytes.windows(7).position(|bytes| bytes == b"key 050");
    let heap = std::fs::File::options()
        .write(true)
        .open(desk.path("cache.heap"))
        .unwrap();
    heap.write_all_at(&[0; 3], at.unwrap() as u64).unwrap();
    for suffix in ["", ".heap", ".roster"] {
        let name = |name: &str| desk.path(&format!("{name}{suffix}"));
        std::fs::copy(name("cache"), name("copy")).unwrap();
    }
    desk
}

#[test]
fn repair_with_losses_exits_with_one() {
    let told = damaged_copy().run(1, &["repair", "copy", "--json"]).json();
    assert_eq!(told["entries_before"], 100);
    assert_eq!(
        (&told["entries"], &told["dropped"]),
        (&99.into(), &1.into())
    );
    assert!(told["damaged_bytes"].as_u64().unwrap() > 0, "{told}");
    let text = damaged_copy().run(1, &["repair", "copy"]).out();
    assert!(text.contains("the old index said 100"), "{text}");
    assert!(text.contains("entries given up"), "{text}");
}

#[test]
fn lossy_change_exits_with_one() {
    let lines = b"{\"key\":\"k\",\"value\":\"v\"}\n";
    let commands: [(&[&str], &[u8]); 4] = [
        (&["put", "copy", "k", "v"], b""),
        (&["delete", "copy", "key 001"], b""),
        (&["compact", "copy"], b""),
        (&["import", "copy", "-"], lines),
    ];
    for (command, input) in commands {
        let desk = damaged_copy();
        let said = desk.feed(1, command, input);
        let all = said.out() + &said.err();
        assert!(all.contains("given up"), "{command:?}: {all}");
        let stats = desk.run(0, &["stats", "copy", "--json"]).json();
        assert_eq!(stats["dropped"], 1, "{command:?}: {stats}");
        desk.run(0, &["put", "copy", "another", "v"]);
    }
}
