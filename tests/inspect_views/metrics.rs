//! `metrics`: its output, parsed as a collector parses it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mmapcache::{MmapCache, Options};

use crate::program::{fill, flip, json, place, run, stderr, stdout, tiny};

type Labels = BTreeMap<String, String>;

/// A text in the exposition format 0.0.4, as far as numbers and labels go.
#[derive(Debug, Default)]
struct Exposition {
    kinds: BTreeMap<String, String>,
    samples: BTreeMap<(String, Labels), f64>,
}

impl Exposition {
    /// Parses a text, and asserts that it follows the format.
    fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'));
        let mut read = Self::default();
        let mut closed = BTreeSet::new();
        let (mut helped, mut current) = (None, String::new());
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(!help.is_empty() && !help.contains('\\'), "{line}");
                helped = Some(name.to_owned());
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert_eq!(
                    helped.take().as_deref(),
                    Some(name),
                    "help and type belong together"
                );
                assert!(["gauge", "counter"].contains(&kind), "{line}");
                assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
                assert!(closed.insert(std::mem::replace(&mut current, name.to_owned())));
                assert!(!closed.contains(name), "{name} comes twice");
                read.kinds.insert(name.to_owned(), kind.to_owned());
            } else {
                let (name, labels, value) = sample(line);
                assert_eq!(
                    name, current,
                    "samples of a name follow its type without a gap"
                );
                let twice = read.samples.insert((name, labels), value);
                assert_eq!(twice, None, "{line}");
            }
        }
        read
    }

    fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()));
        self.samples
            .get(&(name.to_owned(), labels.collect()))
            .copied()
    }
}

/// Parses a line into name, labels and number.
fn sample(line: &str) -> (String, Labels, f64) {
    let plain = |c: char| c == '_' || c.is_ascii_alphabetic();
    let end = line.find(|c: char| !plain(c)).unwrap();
    let (name, mut rest) = line.split_at(end);
    assert!(name.starts_with("mmapcache_"), "{line}");
    let mut labels = Labels::new();
    while let Some(label) = rest.strip_prefix(['{', ',']) {
        let (name, quoted) = label.split_once("=\"").unwrap();
        assert!(name.chars().all(plain), "{line}");
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        rest = loop {
            match chars.next().unwrap() {
                (at, '"') => break &quoted[at + 1..],
                (_, '\\') => value.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    other => panic!("\\{other} in {line}"),
                }),
                (_, c) => value.push(c),
            }
        };
        assert_eq!(labels.insert(name.to_owned(), value), None);
    }
    let value = rest.trim_start_matches('}').strip_prefix(' ').unwrap();
    (name.to_owned(), labels, value.parse().unwrap())
}

fn metrics(expected: i32, caches: &[&Path]) -> Exposition {
    let command = [OsStr::new("metrics")];
    let output = run(
        expected,
        command
            .into_iter()
            .chain(caches.iter().map(|path| path.as_os_str())),
    );
    Exposition::parse(&stdout(&output))
}

#[test]
fn metrics_match_the_library() {
    let (_dir, path) = place();
    let cache = fill(&tiny(), &path, 1_000);
    let (stats, disk) = (cache.stats().unwrap(), cache.disk_usage().unwrap());
    let writer = cache.writer().unwrap();
    let read = metrics(0, &[&path]);
    drop(writer);
    let label = ("cache", path.to_str().unwrap());
    for (name, expected) in [
        ("up", 1),
        ("implausible", 0),
        ("entries", stats.occupied),
        ("deleted_slots", stats.deleted),
        ("slots", stats.slots),
        ("heap_bytes", stats.heap_bytes),
        ("heap_live_bytes", stats.live_bytes),
        ("heap_dead_bytes", stats.dead_bytes),
        ("heap_segments", stats.segments),
        ("generation", 1),
        ("locked", 1),
        ("unsynced", 1),
        ("sync_failed", 0),
        ("puts_total", 1_000),
        ("overwrites_total", 0),
        ("deletes_total", 143),
        ("changes_total", stats.changes),
    ] {
        let found = read.get(&format!("mmapcache_{name}"), &[label]);
        assert_eq!(found, Some(expected as f64), "{name}");
    }
    for (file, bytes) in [
        ("index", disk.index),
        ("heap", disk.heap),
        ("roster", disk.roster),
    ] {
        let found = read.get("mmapcache_disk_bytes", &[label, ("file", file)]);
        assert_eq!(found, Some(bytes as f64), "{file}");
    }
    let created = read
        .get("mmapcache_created_timestamp_seconds", &[label])
        .unwrap();
    let since = stats.created.duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!((created - since.as_secs_f64()).abs() < 0.001);
    assert_eq!(read.kinds.len(), 25, "{:?}", read.kinds.keys());
}

// A cache that cannot be read is down, and the others are up.
#[test]
fn unreadable_cache_is_down() {
    let (dir, sound) = place();
    fill(&tiny(), &sound, 100);
    let [damaged, absent] = ["damaged", "absent"].map(|name| dir.path().join(name));
    fill(&tiny(), &damaged, 100);
    flip(&damaged, 57);
    let up = |read: &Exposition, cache: &Path| {
        read.get("mmapcache_up", &[("cache", cache.to_str().unwrap())])
    };
    let read = metrics(1, &[&damaged, &sound]);
    assert_eq!(
        (up(&read, &damaged), up(&read, &sound)),
        (Some(0.0), Some(1.0))
    );
    let label = [("cache", damaged.to_str().unwrap())];
    assert_eq!(read.get("mmapcache_entries", &label), None);
    assert!(read.get("mmapcache_implausible", &label) > Some(0.0));
    let caches = [&*absent, &*damaged, &*sound];
    let read = metrics(2, &caches);
    assert_eq!(
        caches.map(|cache| up(&read, cache)),
        [Some(0.0), Some(0.0), Some(1.0)]
    );
    let output = run(
        2,
        [OsStr::new("metrics"), absent.as_ref(), damaged.as_ref()],
    );
    assert_eq!(stderr(&output).lines().count(), 2, "{}", stderr(&output));
}

// Paths of any bytes are labels that differ, and a path named twice counts once.
#[test]
fn paths_become_distinct_labels() {
    let dir = tempfile::tempdir().unwrap();
    let names: [&[u8]; 4] = [
        b"a \"b\"\\\n{}",
        b"\xff\xfe",
        b"\\xff\\xfe",
        "\u{fc}".as_bytes(),
    ];
    let paths = names.map(|name| dir.path().join(OsString::from_vec(name.to_vec())));
    for path in &paths {
        drop(MmapCache::open(path).unwrap());
    }
    let all: Vec<&Path> = paths.iter().chain(&paths).map(|path| &**path).collect();
    let read = metrics(0, &all);
    let up = read
        .samples
        .keys()
        .filter(|(name, _)| name == "mmapcache_up");
    let labels: Vec<&str> = up.map(|(_, labels)| labels["cache"].as_str()).collect();
    assert_eq!(labels.len(), 4, "{labels:?}");
    let ends = |end: &str| labels.iter().any(|label| label.ends_with(end));
    assert!(
        ends("/\u{fc}") && ends("/\\xff\\xfe") && ends("/\\\\xff\\\\xfe"),
        "{labels:?}"
    );
}

// The collector may read the new file.
#[test]
fn metrics_file_is_replaced_atomically() {
    let (dir, path) = place();
    fill(&Options::new(), &path, 10);
    let file = dir.path().join("cache.prom");
    let write = |expected, more: &[&str]| {
        let fixed = [
            OsStr::new("metrics"),
            path.as_ref(),
            "--output".as_ref(),
            file.as_ref(),
        ];
        let output = run(
            expected,
            fixed.into_iter().chain(more.iter().map(OsStr::new)),
        );
        assert!(output.stdout.is_empty());
    };
    let entries = || {
        let read = Exposition::parse(&fs::read_to_string(&file).unwrap());
        read.get("mmapcache_entries", &[("cache", path.to_str().unwrap())])
    };
    write(0, &[]);
    assert_eq!(entries(), Some(8.0));
    MmapCache::open(&path).unwrap().clear().unwrap();
    write(0, &[]);
    assert_eq!(entries(), Some(0.0));
    let others = fs::metadata(&file).unwrap().permissions().mode() & 0o044;
    let plain = dir.path().join("plain");
    fs::write(&plain, "as the umask lets").unwrap();
    assert_eq!(
        others,
        fs::metadata(&plain).unwrap().permissions().mode() & 0o044
    );
    write(0, &["--json"]);
    write(0, &[]);
    fs::write(&file, "node_load1 0.5\n").unwrap();
    write(2, &[]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "node_load1 0.5\n");
    write(0, &["--force"]);
    assert_eq!(entries(), Some(0.0));
    run(
        2,
        [
            OsStr::new("metrics"),
            path.as_ref(),
            "--output".as_ref(),
            path.as_ref(),
        ],
    );
    assert_eq!(MmapCache::open(&path).unwrap().len(), 0);
}

// JSON has the same numbers under the same names.
#[test]
fn json_matches_the_metrics() {
    let (dir, path) = place();
    fill(&tiny(), &path, 100);
    let absent = dir.path().join("absent");
    let read = metrics(2, &[&path, &absent]);
    let arguments = [
        OsStr::new("metrics"),
        path.as_ref(),
        absent.as_ref(),
        "--json".as_ref(),
    ];
    let value = json(&run(2, arguments));
    assert_eq!(value[0]["mmapcache_entries"], 85);
    assert_eq!(value[1]["mmapcache_up"], 0);
    let label = ("cache", path.to_str().unwrap());
    for name in read
        .kinds
        .keys()
        .filter(|name| *name != "mmapcache_disk_bytes")
    {
        let by_text = read.get(name, &[label]).unwrap();
        // Reading JSON loses the last bit of a fraction.
        let by_json = value[0][name].as_f64().unwrap();
        assert!(
            (by_json - by_text).abs() <= by_text * 1e-15,
            "{name}: {by_json}, {by_text}"
        );
    }
    let index = read.get("mmapcache_disk_bytes", &[label, ("file", "index")]);
    assert_eq!(value[0]["mmapcache_disk_bytes_index"].as_f64(), index);
}
