//! Runs the program `mmapcache-inspect`, and checks what it prints and writes and how it exits.
//!
//! Uses caches through the library's public interface only.
#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use mmapcache::inspect::CacheFiles;
use mmapcache::{MmapCache, Options};
use serde_json::Value;
use tempfile::TempDir;

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_mmapcache-inspect"))
}

fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Output {
    program().args(arguments).output().unwrap()
}

fn run_with_input<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>, input: &[u8]) -> Output {
    let mut child = program()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&input).unwrap());
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    output
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn assert_code(output: &Output, expected: i32) {
    assert_eq!(
        code(output),
        expected,
        "stdout: {}\nstderr: {}",
        stdout(output),
        stderr(output)
    );
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    (dir, cache)
}

fn fill(path: &Path, entries: &[(&[u8], &[u8])]) {
    let cache = MmapCache::open(path).unwrap();
    for (key, value) in entries {
        cache.put(key, value).unwrap();
    }
}

fn entries_of(path: &Path) -> Entries {
    let cache = Options::new().read_only(true).open(path).unwrap();
    cache.iter().unwrap().map(|item| item.unwrap()).collect()
}

/// Returns the regular files below a directory, by their relative paths.
fn files_of(root: &Path) -> Entries {
    let mut found = Entries::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            if meta.is_dir() {
                dirs.push(path);
            } else if meta.is_file() {
                let key = path.strip_prefix(root).unwrap().as_os_str().as_bytes();
                found.insert(key.to_vec(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Creates a tree with awkward names and contents of every kind.
fn make_tree(root: &Path) {
    let every_byte: Vec<u8> = (0..=255).collect();
    let large: Vec<u8> = (0..6_000_000_u32).map(|i| (i % 251) as u8).collect();
    let files: [(&[u8], &[u8]); 9] = [
        (b"plain.txt", b"text\n"),
        (b"empty", b""),
        (b"deep/er/and deeper/file", b"x"),
        (b"not\xff\xfeutf8/\x80", b"\xff\xfe\x00"),
        (b"new\nline", b"\n\n"),
        (b"-dash", b"'quotes' \"and\" \\"),
        (b"hex:41", b"no hex"),
        (b"every byte", &every_byte),
        (b"large", &large),
    ];
    for (name, content) in files {
        let path = root.join(OsStr::from_bytes(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    for number in 0..600 {
        fs::write(root.join(format!("deep/{number}")), number.to_string()).unwrap();
    }
}

fn file_names(dir: &Path) -> Vec<OsString> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    names
}

#[test]
fn imported_tree_exports_identically() {
    let (dir, cache) = place();
    let (tree, copy) = (dir.path().join("tree"), dir.path().join("copy"));
    make_tree(&tree);
    let imported = run([
        OsStr::new("import"),
        cache.as_ref(),
        tree.as_ref(),
        "--json".as_ref(),
    ]);
    assert_code(&imported, 0);
    assert_eq!(json(&imported)["stored"], 609);
    assert_eq!(entries_of(&cache), files_of(&tree));
    let exported = run([
        OsStr::new("export"),
        cache.as_ref(),
        "--dir".as_ref(),
        copy.as_ref(),
    ]);
    assert_code(&exported, 0);
    assert_eq!(files_of(&copy), files_of(&tree));
}

#[test]
fn exported_lines_recreate_the_cache() {
    let (dir, cache) = place();
    let every_byte: Vec<u8> = (0..=255).collect();
    let long_key = vec![b'k'; 65_535];
    fill(
        &cache,
        &[
            (b"text", b"\"quoted\" \\ and \n broken"),
            (b"\xff\x00", b"\xfe"),
            (b"\0", b""),
            (&every_byte, &every_byte),
            (&long_key, b"value"),
            ("schl\u{fc}ssel".as_bytes(), "\u{2028}\u{1f980}".as_bytes()),
        ],
    );
    let exported = run([OsStr::new("export"), cache.as_ref()]);
    assert_code(&exported, 0);
    assert_eq!(exported.stdout.iter().filter(|&&b| b == b'\n').count(), 6);
    let by_pipe = dir.path().join("by_pipe");
    let imported = run_with_input(
        [OsStr::new("import"), by_pipe.as_ref(), "-".as_ref()],
        &exported.stdout,
    );
    assert_code(&imported, 0);
    assert_eq!(entries_of(&by_pipe), entries_of(&cache));
    let (by_file, lines) = (dir.path().join("by_file"), dir.path().join("lines"));
    fs::write(&lines, &exported.stdout).unwrap();
    assert_code(
        &run([OsStr::new("import"), by_file.as_ref(), lines.as_ref()]),
        0,
    );
    assert_eq!(entries_of(&by_file), entries_of(&cache));
}

// A line that cannot be read is named and skipped, and the others are stored.
#[test]
fn unreadable_lines_are_skipped() {
    let (_dir, cache) = place();
    let input =
        b"{\"key\":\"a\",\"value\":\"1\"}\n\nnonsense\n{\"key\":\"b\",\"value_base64\":\"Mg==\"}";
    let output = run_with_input([OsStr::new("import"), cache.as_ref(), "-".as_ref()], input);
    assert_code(&output, 2);
    assert!(stderr(&output).contains("line 3"), "{}", stderr(&output));
    let expected = [
        (b"a".to_vec(), b"1".to_vec()),
        (b"b".to_vec(), b"2".to_vec()),
    ];
    assert_eq!(entries_of(&cache), Entries::from(expected));
}

// Links are not followed, and a cache is not imported into itself.
#[test]
fn import_skips_links_and_itself() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), b"content").unwrap();
    fs::write(tree.join("cache.txt"), b"a neighbour").unwrap();
    symlink("file", tree.join("link")).unwrap();
    symlink("/", tree.join("root")).unwrap();
    let cache = tree.join("cache");
    for _ in 0..2 {
        let output = run([OsStr::new("import"), cache.as_ref(), tree.as_ref()]);
        assert_code(&output, 0);
        let keys: Vec<_> = entries_of(&cache).into_keys().collect();
        assert_eq!(keys, [b"cache.txt".to_vec(), b"file".to_vec()]);
    }
}

// Files that no segment can hold are counted, and the others are stored.
#[test]
fn oversized_files_are_counted() {
    let (dir, cache) = place();
    let segment = 16 * 1024;
    drop(
        Options::new()
            .max_segment_bytes(segment)
            .open(&cache)
            .unwrap(),
    );
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("small"), b"fits").unwrap();
    fs::write(tree.join("almost"), vec![1; segment as usize - 8]).unwrap();
    fs::write(tree.join("large"), vec![1; segment as usize + 1]).unwrap();
    let output = run([
        OsStr::new("import"),
        cache.as_ref(),
        tree.as_ref(),
        "--json".as_ref(),
    ]);
    assert_code(&output, 2);
    let counts = json(&output);
    assert_eq!(
        (&counts["stored"], &counts["unfit"]),
        (&1.into(), &2.into())
    );
    for name in ["almost", "large"] {
        assert!(stderr(&output).contains(name), "{}", stderr(&output));
    }
    assert_eq!(entries_of(&cache).len(), 1);
}

// Keys that lead out of the directory are refused, and the others exported.
#[test]
fn escaping_keys_are_not_exported() {
    let (dir, cache) = place();
    fill(
        &cache,
        &[
            (b"../escaped", b"1"),
            (b"/absolute", b"2"),
            (b"a//b", b"3"),
            (b"nul\0", b"4"),
            (b"good/file", b"5"),
        ],
    );
    let out = dir.path().join("in/out");
    let output = run([
        OsStr::new("export"),
        cache.as_ref(),
        "--dir".as_ref(),
        out.as_ref(),
    ]);
    assert_code(&output, 2);
    let expected = [(b"good/file".to_vec(), b"5".to_vec())];
    assert_eq!(
        files_of(&dir.path().join("in/out")),
        Entries::from(expected)
    );
    assert!(!dir.path().join("in/escaped").exists());
    assert!(stderr(&output).contains("nul\\x00"), "{}", stderr(&output));
    let again = run([
        OsStr::new("export"),
        cache.as_ref(),
        "--dir".as_ref(),
        out.as_ref(),
    ]);
    assert_code(&again, 2);
    assert!(stderr(&again).contains("not empty"), "{}", stderr(&again));
}

// Every listed key can be pasted back, and gives its value.
#[test]
fn listed_keys_can_be_pasted() {
    let (_dir, cache) = place();
    let keys: [&[u8]; 7] = [
        b"plain",
        b"back\\slash",
        b"\xff\x00bin",
        b"-x",
        b"hex:41",
        b"it's",
        b"tab\tnew\nline",
    ];
    let pairs: Vec<_> = keys.iter().map(|&key| (key, key)).collect();
    fill(&cache, &pairs);
    let listed = run([OsStr::new("list"), cache.as_ref()]);
    assert_code(&listed, 0);
    let text = stdout(&listed);
    assert_eq!(text.lines().count(), keys.len());
    let mut values = Vec::new();
    for line in text.lines() {
        let got = run([OsStr::new("get"), cache.as_ref(), line.as_ref()]);
        assert_code(&got, 0);
        values.push(got.stdout);
    }
    values.sort();
    let mut expected: Vec<_> = keys.iter().map(|key| key.to_vec()).collect();
    expected.sort();
    assert_eq!(values, expected);
    let by_hex = run([OsStr::new("get"), cache.as_ref(), "hex:2d78".as_ref()]);
    assert_eq!(by_hex.stdout, b"-x");
}

#[test]
fn listing_respects_prefix_and_limit() {
    let (_dir, cache) = place();
    fill(
        &cache,
        &[(b"a/1", b"one"), (b"a/2", b"t\two"), (b"b/1", b"three")],
    );
    let list = |more: &[&str]| {
        let mut arguments = vec![OsStr::new("list"), cache.as_ref()];
        arguments.extend(more.iter().map(OsStr::new));
        let output = run(arguments);
        assert_code(&output, 0);
        let mut lines: Vec<_> = stdout(&output).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(list(&["--prefix", "a/"]), ["a/1", "a/2"]);
    assert_eq!(list(&["--prefix", "hex:62"]), ["b/1"]);
    assert_eq!(list(&["--limit", "2"]).len(), 2);
    assert_eq!(
        list(&["--prefix", "a/", "--values"]),
        ["a/1\tone", "a/2\tt\\x09wo"]
    );
    let lines = list(&["--prefix", "b", "--values", "--json"]);
    let line: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(
        (&line["key"], &line["value"]),
        (&"b/1".into(), &"three".into())
    );
    assert_eq!((&line["size"], lines.len()), (&5.into(), 1));
}

// Exit codes tell absence from failure, and errors are one line.
#[test]
fn exit_codes_distinguish_absence() {
    let (dir, cache) = place();
    fill(&cache, &[(b"key", b"value")]);
    assert_code(&run([OsStr::new("get"), cache.as_ref(), "key".as_ref()]), 0);
    let absent = run([OsStr::new("get"), cache.as_ref(), "other".as_ref()]);
    assert_code(&absent, 1);
    assert!(absent.stdout.is_empty());
    let missing = dir.path().join("missing");
    for command in ["stats", "list", "verify", "export"] {
        let output = run([OsStr::new(command), missing.as_ref()]);
        assert_code(&output, 2);
        assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
        assert!(
            stderr(&output).contains("no cache here"),
            "{}",
            stderr(&output)
        );
    }
    let bad_key = run([OsStr::new("get"), cache.as_ref(), "\\q".as_ref()]);
    assert_code(&bad_key, 2);
    let bad_source = dir.path().join("no source");
    let new = dir.path().join("new");
    let output = run([OsStr::new("import"), new.as_ref(), bad_source.as_ref()]);
    assert_code(&output, 2);
    assert!(
        stderr(&output).contains("No such file"),
        "{}",
        stderr(&output)
    );
    assert!(
        !new.exists(),
        "nothing is created for a source that is not there"
    );
    assert_code(&run(["nonsense"]), 2);
}

#[test]
fn export_tolerates_a_closed_pipe() {
    let (_dir, cache) = place();
    let filled = MmapCache::open(&cache).unwrap();
    let mut writer = filled.writer().unwrap();
    for number in 0..20_000_u32 {
        writer
            .put(format!("key {number}").as_bytes(), &[b'v'; 100])
            .unwrap();
    }
    drop(writer);
    for command in ["list", "export"] {
        let mut child = program()
            .args([OsStr::new(command), cache.as_ref()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 10];
        let mut pipe = child.stdout.take().unwrap();
        pipe.read_exact(&mut first).unwrap();
        drop(pipe);
        let output = child.wait_with_output().unwrap();
        assert_code(&output, 0);
        assert_eq!(stderr(&output), "");
    }
}

#[test]
fn stats_match_the_library() {
    let (_dir, cache) = place();
    fill(&cache, &[(b"a", b"1"), (b"b", b"2"), (b"b", b"3")]);
    let opened = MmapCache::open(&cache).unwrap();
    opened.delete(b"a").unwrap();
    let (stats, disk) = (opened.stats().unwrap(), opened.disk_usage().unwrap());
    let output = run([OsStr::new("stats"), cache.as_ref(), "--json".as_ref()]);
    assert_code(&output, 0);
    let value = json(&output);
    for (name, expected) in [
        ("occupied", 1),
        ("deleted", stats.deleted),
        ("slots", stats.slots),
        ("heap_bytes", stats.heap_bytes),
        ("live_bytes", stats.live_bytes),
        ("dead_bytes", stats.dead_bytes),
        ("generation", 1),
        ("puts", 3),
        ("overwrites", 1),
        ("deletes", 1),
    ] {
        assert_eq!(value[name], expected, "{name}");
    }
    assert_eq!(value["disk"]["total"], disk.total());
    assert_eq!(value["refused"], Value::Null);
    assert_eq!(value["implausible"], Value::Array(Vec::new()));
    assert_eq!(value["header"]["changing"]["occupied"], 1);
    assert_eq!(value["header"]["sealed"]["checksum_ok"], true);
    let text = stdout(&run([OsStr::new("stats"), cache.as_ref()]));
    assert!(text.lines().any(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        words == ["entries", "1"]
    }));
}

// An append-only cache says so, and an import adds to it and changes nothing.
#[test]
fn import_respects_append_only() {
    let (_dir, cache) = place();
    let opened = Options::new().append_only(true).open(&cache).unwrap();
    opened.put(b"there", b"as it was").unwrap();
    let import = |line: &[u8]| {
        let arguments = [OsStr::new("import"), cache.as_ref(), "-".as_ref()];
        run_with_input(arguments, line)
    };
    assert_code(&import(br#"{"key": "new", "value": "added"}"#), 0);
    let refused = import(br#"{"key": "there", "value": "another"}"#);
    assert_code(&refused, 2);
    assert_eq!(stderr(&refused).lines().count(), 1);
    assert!(stderr(&refused).contains("append-only: entries are never changed"));
    assert_eq!(opened.get(b"there").unwrap().unwrap(), b"as it was");
    assert_eq!(opened.get(b"new").unwrap().unwrap(), b"added");
    let (_other, plain) = place();
    fill(&plain, &[(b"key", b"value")]);
    for (path, append_only) in [(&cache, true), (&plain, false)] {
        let value = json(&run([
            OsStr::new("stats"),
            path.as_ref(),
            "--json".as_ref(),
        ]));
        assert_eq!(value["append_only"], append_only);
        assert_eq!(value["header"]["sealed"]["append_only"], append_only);
        let text = stdout(&run([OsStr::new("stats"), path.as_ref()]));
        let word = if append_only { "yes" } else { "no" };
        assert!(
            text.lines()
                .any(|line| line.split_whitespace().eq(["append-only", word])),
            "{text}"
        );
    }
}

/// Returns the offset of some bytes in a file.
fn find(path: &Path, wanted: &[u8]) -> u64 {
    let bytes = fs::read(path).unwrap();
    let at = bytes.windows(wanted.len()).position(|some| some == wanted);
    at.unwrap() as u64
}

fn flip(path: &Path, at: u64) {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

#[test]
fn verify_locates_a_flipped_byte() {
    let (dir, cache) = place();
    fill(
        &cache,
        &[
            (b"sound", b"a value"),
            (b"struck", b"THE VALUE THAT IS HIT"),
        ],
    );
    let heap = dir.path().join("cache.heap");
    assert_code(&run([OsStr::new("verify"), cache.as_ref()]), 0);
    let struck = find(&heap, b"THE VALUE");
    flip(&heap, struck);
    let text = run([OsStr::new("verify"), cache.as_ref()]);
    assert_code(&text, 1);
    assert!(
        stdout(&text).contains("cache.heap: byte "),
        "{}",
        stdout(&text)
    );
    let output = run([OsStr::new("verify"), cache.as_ref(), "--json".as_ref()]);
    assert_code(&output, 1);
    let report = json(&output);
    assert_eq!(
        (&report["clean"], &report["entries"]),
        (&false.into(), &1.into())
    );
    let near = report["faults"].as_array().unwrap().iter().any(|fault| {
        let at = fault["at"].as_u64().unwrap();
        fault["path"].as_str().unwrap().ends_with("cache.heap") && at <= struck && struck - at < 64
    });
    assert!(near, "{report}");
    let got = run([OsStr::new("get"), cache.as_ref(), "struck".as_ref()]);
    assert_code(&got, 1);
    assert!(stderr(&got).contains("corrupt"), "{}", stderr(&got));
    let exported = run([OsStr::new("export"), cache.as_ref()]);
    assert_code(&exported, 1);
    assert_eq!(
        stdout(&exported),
        "{\"key\":\"sound\",\"value\":\"a value\"}\n"
    );
}

// A copy in a read-only directory can be inspected, and nothing is written.
#[test]
fn inspecting_leaves_no_trace() {
    let (dir, cache) = place();
    fill(&cache, &[(b"key", b"value")]);
    let copy = dir.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for name in ["cache", "cache.heap", "cache.roster"] {
        fs::copy(dir.path().join(name), copy.join(name)).unwrap();
        fs::set_permissions(copy.join(name), fs::Permissions::from_mode(0o444)).unwrap();
    }
    let (names, contents) = (file_names(&copy), files_of(&copy));
    let mode = |mode| fs::set_permissions(&copy, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o555);
    let copied = copy.join("cache");
    let outputs = [
        run([OsStr::new("stats"), copied.as_ref()]),
        run([OsStr::new("list"), copied.as_ref()]),
        run([OsStr::new("get"), copied.as_ref(), "key".as_ref()]),
        run([OsStr::new("verify"), copied.as_ref()]),
        run([OsStr::new("export"), copied.as_ref()]),
    ];
    mode(0o755);
    for output in &outputs {
        assert_code(output, 0);
        assert!(!output.stdout.is_empty());
    }
    assert_eq!(file_names(&copy), names);
    assert_eq!(files_of(&copy), contents);
}

#[test]
fn broken_header_is_still_shown() {
    let (_dir, cache) = place();
    fill(&cache, &[(b"key", b"value"), (b"another", b"value")]);
    // The seed of the hash function: nothing but its check tells that it is wrong.
    flip(&cache, 57);
    let output = run([OsStr::new("stats"), cache.as_ref(), "--json".as_ref()]);
    assert_code(&output, 1);
    let value = json(&output);
    assert_eq!(
        (&value["occupied"], &value["generation"]),
        (&2.into(), &1.into())
    );
    assert_eq!(value["header"]["sealed"]["checksum_ok"], false);
    assert_eq!(value["header"]["sealed"]["region_slots"], 16);
    assert!(value["refused"].as_str().unwrap().contains("checksum"));
    let text = run([OsStr::new("stats"), cache.as_ref()]);
    assert_code(&text, 1);
    assert!(
        stdout(&text).contains("refuses to open"),
        "{}",
        stdout(&text)
    );
    assert!(stdout(&text).contains("region slots"), "{}", stdout(&text));
    assert_eq!(stderr(&text).lines().count(), 1, "{}", stderr(&text));
}

#[test]
fn foreign_files_are_not_decoded() {
    let dir = tempfile::tempdir().unwrap();
    let noise: Vec<u8> = (0..20_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    for (name, content) in [
        ("empty", &b""[..]),
        ("text", b"A text of two lines,\nand nothing else.\n"),
        ("ones", &[0xff; 5000]),
        ("zeros", &[0; 5000]),
        ("noise", &noise),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        for command in ["stats", "header", "map", "list", "verify", "repair"] {
            let output = run([OsStr::new(command), path.as_ref()]);
            assert_code(&output, 1);
            assert_eq!(stdout(&output), "", "{command} {name}");
            let said = stderr(&output);
            let told = said.contains("not a cache") && said.contains("check the path");
            assert!(
                told && said.lines().count() == 1,
                "{command} {name}: {said}"
            );
        }
        assert!(fs::read(&path).unwrap() == content, "{name}: was changed");
    }
    // A directory is no file that could be moved away.
    let output = run([OsStr::new("stats"), dir.path().as_ref()]);
    assert_code(&output, 1);
    let said = stderr(&output);
    assert!(
        said.contains("not a cache") && !said.contains("move"),
        "{said}"
    );
}

#[test]
fn truncated_index_is_still_described() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("short");
    fs::write(&path, b"MMCINDEX").unwrap();
    let output = run([OsStr::new("stats"), path.as_ref(), "--json".as_ref()]);
    assert_code(&output, 1);
    let value = json(&output);
    assert!(!value["implausible"].as_array().unwrap().is_empty());
    assert_eq!(value["files"][0]["len"], 8);
    assert!(value["refused"].is_string());
}

#[test]
fn lost_index_differs_from_absence() {
    let (dir, cache) = place();
    fill(&cache, &[(b"key", b"value")]);
    fs::remove_file(&cache).unwrap();
    for command in [["stats"].as_slice(), &["list"], &["verify"], &["metrics"]] {
        let output = run([OsStr::new(command[0]), cache.as_ref()]);
        assert_code(&output, 2);
        let said = stderr(&output);
        assert!(said.contains("cache.heap"), "{command:?}: {said}");
        assert!(said.contains("repair"), "{command:?}: {said}");
    }
    let nowhere = dir.path().join("nowhere");
    let said = stderr(&run([OsStr::new("stats"), nowhere.as_ref()]));
    assert!(said.contains("no cache here"), "{said}");
}

// A missing or foreign roster or segment is named.
#[test]
fn missing_companion_file_is_named() {
    let (dir, cache) = place();
    fill(&cache, &[(b"key", b"value")]);
    let says = |what: &str| {
        let output = run([OsStr::new("stats"), cache.as_ref(), "--json".as_ref()]);
        assert_code(&output, 1);
        let faults = json(&output)["implausible"].clone();
        let mut faults = faults.as_array().unwrap().iter();
        faults.any(|fault| fault["what"].as_str().unwrap().contains(what))
    };
    let heap = dir.path().join("cache.heap");
    let aside = dir.path().join("aside");
    fs::copy(&heap, &aside).unwrap();
    fs::remove_file(&heap).unwrap();
    assert!(says("a missing last segment"));
    fs::write(&heap, vec![0; 8192]).unwrap();
    assert!(says("the magic of another kind of file"));
    fs::copy(&aside, &heap).unwrap();
    assert_code(&run([OsStr::new("stats"), cache.as_ref()]), 0);
    fs::remove_file(dir.path().join("cache.roster")).unwrap();
    assert!(says("a missing roster"));
}

#[test]
fn live_cache_looks_consistent() {
    let (_dir, path) = place();
    let cache = MmapCache::open(&path).unwrap();
    let (mut opened, mut consistent) = (0, 0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 0..40_000_u32 {
                let key = (number % 3_000).to_string();
                match number {
                    _ if number % 9_001 == 9_000 => cache.clear().unwrap(),
                    _ if number % 4_001 == 4_000 => cache.compact().unwrap(),
                    _ if number % 3 == 0 => drop(cache.delete(key.as_bytes()).unwrap()),
                    _ => drop(cache.put(key.as_bytes(), &[7; 300]).unwrap()),
                }
            }
        });
        while !writer.is_finished() {
            let files = CacheFiles::open(&path, None).unwrap();
            assert_eq!(files.problems(), []);
            opened += 1;
            consistent += u32::from(files.is_consistent());
        }
    });
    assert!(
        opened > 0 && consistent > 0,
        "{opened} times opened, {consistent} times consistent"
    );
}

// A heap at another path is found where the options or the index say it is.
#[test]
fn separate_heap_is_found() {
    let (dir, cache) = place();
    let heaps = dir.path().join("heaps");
    fs::create_dir(&heaps).unwrap();
    let heap = heaps.join("h");
    let line = b"{\"key\":\"k\",\"value\":\"v\"}\n";
    let import = [
        OsStr::new("import"),
        cache.as_ref(),
        "-".as_ref(),
        "--heap-path".as_ref(),
        heap.as_ref(),
    ];
    assert_code(&run_with_input(import, line), 0);
    assert_eq!(file_names(&heaps), ["h"]);
    let get = [
        OsStr::new("--heap-path"),
        heap.as_ref(),
        "get".as_ref(),
        cache.as_ref(),
        "k".as_ref(),
    ];
    let got = run(get);
    assert_code(&got, 0);
    assert_eq!(got.stdout, b"v");
}

// The demonstration compares a tree while another process writes.
#[test]
fn demo_compares_beside_a_writer() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    make_tree(&tree);
    let temporary = dir.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let output = program()
        .args([OsStr::new("demo"), tree.as_ref()])
        .env("TMPDIR", &temporary)
        .output()
        .unwrap();
    assert_code(&output, 0);
    let text = stdout(&output);
    // All files but the one above the limit for single files.
    assert!(text.contains("stored 608 entries"), "{text}");
    let rows: Vec<Vec<_>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert!(rows.contains(&vec!["differences", "0"]), "{text}");
    assert!(rows.contains(&vec!["files", "read", "back", "608", "as", "expected"]));
    assert!(!text.contains("NOT the expected"), "{text}");
    assert!(file_names(&temporary).is_empty(), "the cache is removed");
}

#[test]
fn killed_writers_cache_is_inspectable() {
    let (dir, cache) = place();
    let tree = dir.path().join("tree");
    make_tree(&tree);
    assert_code(
        &run([OsStr::new("import"), cache.as_ref(), tree.as_ref()]),
        0,
    );
    for _ in 0..8 {
        let mut writer = program()
            .args([OsStr::new("demo-write"), cache.as_ref(), tree.as_ref()])
            .args(["--file-limit=1000", "--total-limit=1000000"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 8];
        let mut said = writer.stdout.take().unwrap();
        said.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"writing\n");
        writer.kill().unwrap();
        writer.wait().unwrap();
        assert_code(&run([OsStr::new("stats"), cache.as_ref()]), 0);
        assert_code(&run([OsStr::new("verify"), cache.as_ref()]), 0);
        let mut entries = entries_of(&cache);
        entries.retain(|key, _| !key.starts_with(b"\0"));
        assert!(
            entries == files_of(&tree),
            "an entry is not what its file is"
        );
    }
}

#[test]
fn demo_notices_a_differing_file() {
    let (dir, cache) = place();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let odd = OsString::from_vec(b"odd\xff".to_vec());
    fs::write(tree.join(&odd), b"content").unwrap();
    assert_code(
        &run([OsStr::new("import"), cache.as_ref(), tree.as_ref()]),
        0,
    );
    let read = || {
        run([
            OsStr::new("demo-read"),
            cache.as_ref(),
            tree.as_ref(),
            "--file-limit=1000".as_ref(),
            "--total-limit=1000".as_ref(),
        ])
    };
    assert_code(&read(), 0);
    fs::write(tree.join(&odd), b"Content").unwrap();
    let changed = read();
    assert_code(&changed, 1);
    assert_eq!(
        json(&changed)["differences"],
        2,
        "by the files, and by the listing"
    );
    assert!(
        stderr(&changed).contains("odd\\xff"),
        "{}",
        stderr(&changed)
    );
}

// The program reports each action of the repair.
#[test]
fn repair_restores_a_lost_index() {
    let (_dir, cache) = place();
    fill(&cache, &[(b"a", b"1"), (b"b", b"22"), (b"gone", b"x")]);
    assert!(MmapCache::open(&cache).unwrap().delete(b"gone").unwrap());
    let before = entries_of(&cache);
    fs::write(&cache, b"no index any more").unwrap();
    assert_code(&run([OsStr::new("list"), cache.as_os_str()]), 1);
    let output = run([
        OsStr::new("repair"),
        cache.as_os_str(),
        OsStr::new("--keep"),
    ]);
    assert_code(&output, 0);
    assert!(stdout(&output).contains("rebuilt"), "{}", stdout(&output));
    assert_eq!(
        stderr(&output),
        "",
        "no progress bar where there is no terminal"
    );
    assert_eq!(entries_of(&cache), before);
    let kept = cache.with_extension("damaged");
    assert_eq!(fs::read(kept).unwrap(), b"no index any more");
    assert_code(&run([OsStr::new("verify"), cache.as_os_str()]), 0);
    let again = run([
        OsStr::new("repair"),
        cache.as_os_str(),
        OsStr::new("--json"),
    ]);
    assert_code(&again, 0);
    let report = json(&again);
    assert_eq!(report["rebuilt"], false);
    assert_eq!(report["entries"], 2);
}

// Repair exits with 1 if something is lost, and with 2 if there is no cache.
#[test]
fn repair_exit_code_tells_losses() {
    let (_dir, cache) = place();
    let absent = run([OsStr::new("repair"), cache.as_os_str()]);
    assert_code(&absent, 2);
    assert!(
        stderr(&absent).contains("no cache here"),
        "{}",
        stderr(&absent)
    );
    fill(&cache, &[(b"first", &[1; 200]), (b"second", &[2; 200])]);
    let heap = fs::File::options()
        .write(true)
        .open(cache.with_extension("heap"))
        .unwrap();
    heap.write_all_at(&[0xaa; 16], 128 + 60).unwrap();
    fs::remove_file(cache.with_extension("roster")).unwrap();
    let output = run([
        OsStr::new("repair"),
        cache.as_os_str(),
        OsStr::new("--json"),
    ]);
    assert_code(&output, 1);
    assert_eq!(json(&output)["entries"], 1);
    assert_eq!(json(&output)["entries_before"], 2);
    // The rewritten heap lacks what is lost; that is reported once more, and then no longer.
    for code in [1, 0] {
        let again = [
            OsStr::new("repair"),
            cache.as_os_str(),
            OsStr::new("--rewrite"),
        ];
        assert_code(&run(again), code);
    }
    assert_code(&run([OsStr::new("verify"), cache.as_os_str()]), 0);
}
