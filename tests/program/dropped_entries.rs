//! Commands that drop damaged entries report them, in text and exit code.

use std::os::unix::fs::FileExt;

use crate::run::Workspace;

/// Returns a copy, made by `cp`, of a cache with one damaged record.
fn damaged_copy() -> Workspace {
    let workspace = Workspace::new();
    workspace.fill("cache", 100);
    let bytes = std::fs::read(workspace.path("cache.heap")).unwrap();
    let at = bytes.windows(7).position(|bytes| bytes == b"key 050");
    let heap = std::fs::File::options()
        .write(true)
        .open(workspace.path("cache.heap"))
        .unwrap();
    heap.write_all_at(&[0; 3], at.unwrap() as u64).unwrap();
    for suffix in ["", ".heap", ".roster"] {
        let name = |name: &str| workspace.path(&format!("{name}{suffix}"));
        std::fs::copy(name("cache"), name("copy")).unwrap();
    }
    workspace
}

#[test]
fn repair_with_losses_exits_with_one() {
    let report = damaged_copy().run(1, &["repair", "copy", "--json"]).json();
    assert_eq!(report["entries_before"], 100);
    assert_eq!(
        (&report["entries"], &report["dropped"]),
        (&99.into(), &1.into())
    );
    assert!(report["damaged_bytes"].as_u64().unwrap() > 0, "{report}");
    let text = damaged_copy().run(1, &["repair", "copy"]).stdout();
    assert!(text.contains("the old index counted 100"), "{text}");
    assert!(text.contains("damaged or missing"), "{text}");
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
        let workspace = damaged_copy();
        let output = workspace.run_with_input(1, command, input);
        let all = output.stdout() + &output.stderr();
        assert!(all.contains("damaged or missing"), "{command:?}: {all}");
        let stats = workspace.run(0, &["stats", "copy", "--json"]).json();
        assert_eq!(stats["dropped"], 1, "{command:?}: {stats}");
        workspace.run(0, &["put", "copy", "another", "v"]);
    }
}
