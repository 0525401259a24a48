//! `list`: orders, limits, sizes and times.

use crate::run::Workspace;

fn mixed() -> Workspace {
    let workspace = Workspace::new();
    let cache = workspace.open("cache");
    // By age: c, a, d, b, and `e` last, which is overwritten once.
    for (key, len) in [
        ("c", 30),
        ("a", 500),
        ("e", 1),
        ("d", 20),
        ("b", 4_000),
        ("e", 10),
    ] {
        cache.put(key.as_bytes(), &vec![b'v'; len]).unwrap();
    }
    workspace
}

#[test]
fn entries_follow_the_requested_order() {
    let workspace = mixed();
    for (order, expected) in [("key", "abcde"), ("size", "bacde"), ("age", "ebdac")] {
        let keys = |more: &[&str]| {
            let arguments = [&["list", "cache", "--sort", order], more].concat();
            workspace.run(0, &arguments).lines().concat()
        };
        let backward: String = expected.chars().rev().collect();
        assert_eq!(keys(&[]), expected);
        assert_eq!(keys(&["--reverse"]), backward);
        for limit in 0..7 {
            let most = expected.len().min(limit);
            let limit = limit.to_string();
            assert_eq!(keys(&["--limit", &limit]), expected[..most]);
            assert_eq!(keys(&["--limit", &limit, "--reverse"]), backward[..most]);
        }
    }
    workspace.run(2, &["list", "cache", "--reverse"]);
}

#[test]
fn listing_shows_sizes_and_times() {
    let workspace = mixed();
    let arguments = ["list", "cache", "--sort", "size", "--limit", "1", "--json"];
    let listed = workspace.run(0, &arguments).json_lines();
    let version = workspace
        .open_read_only("cache")
        .version(b"b")
        .unwrap()
        .unwrap();
    assert_eq!(listed[0]["key"], "b");
    assert_eq!(listed[0]["size"], 4_000);
    assert_eq!(listed[0]["version"], version.as_nanos().to_string());
    let time = listed[0]["time"].as_str().unwrap().to_owned();
    assert!(time.ends_with(" UTC"), "{time}");
    let arguments = ["list", "cache", "--prefix", "b", "--long"];
    let long = workspace.run(0, &arguments).stdout();
    assert_eq!(long, format!("   3.9 KiB  {time}  b\n"));
    let arguments = ["list", "cache", "--sort", "age", "--limit", "1", "--values"];
    assert_eq!(workspace.run(0, &arguments).stdout(), "e\tvvvvvvvvvv\n");
    let unsorted = workspace
        .run(0, &["list", "cache", "--values", "--json"])
        .json_lines();
    assert_eq!(unsorted.len(), 5);
    for line in unsorted {
        let len = line["value"].as_str().unwrap().len();
        assert_eq!(line["size"], len);
    }
}

#[test]
fn list_tolerates_a_closed_pipe() {
    let workspace = Workspace::new();
    workspace.fill("cache", 900);
    let program = env!("CARGO_BIN_EXE_mmapcache-inspect");
    let script = format!("set -o pipefail; {program} list cache --sort age --values | head -n 1");
    let mut shell = std::process::Command::new("bash");
    let output = shell
        .args(["-c", &script])
        .current_dir(workspace.0.path())
        .output()
        .unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
}
