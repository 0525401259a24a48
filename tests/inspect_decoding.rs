//! The commands of `mmapcache-inspect` that decode single files: `slot`, `record`, `heap`,
//! `header`, `histogram`, `map` and `stats --full`.
//!
//! They read the golden cache, whose every byte is known, so that their output is compared with
//! `tests/snapshots` literally; only paths are replaced. `UPDATE_SNAPSHOTS=1` writes those files.
#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod golden_files;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use golden_files::{FILES, copy_to, with_suffix};
use mmapcache::inspect::CacheFiles;
use mmapcache::{Labels, MmapCache};
use serde_json::Value;
use tempfile::TempDir;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A copy of the golden cache.
struct Golden {
    _dir: TempDir,
    path: PathBuf,
}

impl Golden {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("cache");
        copy_to("v2", &path);
        Self { _dir: dir, path }
    }

    fn change(&self, suffix: &str, at: u64, bytes: &[u8]) {
        let file = File::options()
            .write(true)
            .open(with_suffix(&self.path, suffix));
        file.unwrap().write_all_at(bytes, at).unwrap();
    }

    /// Returns what a command prints, with its paths replaced, and asserts its exit code.
    #[track_caller]
    fn shows(&self, code: i32, arguments: &[&str]) -> String {
        let output = run(&self.path, arguments);
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{complaint}");
        let shown = String::from_utf8(output.stdout).unwrap();
        shown.replace(self.path.to_str().unwrap(), "CACHE")
    }

    /// Returns the place of a key's record.
    fn place(&self, key: &str) -> (u64, String) {
        let json = self.shows(0, &["slot", "--key", key, "--json"]);
        let value: Value = serde_json::from_str(&json).unwrap();
        let place = value["place"].as_str().unwrap().to_owned();
        let at = place.split_once(':').unwrap().1.parse().unwrap();
        (at, place)
    }
}

fn command(path: &Path, arguments: &[&str]) -> Command {
    let (first, rest) = arguments.split_first().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mmapcache-inspect"));
    command.arg(first).arg(path).args(rest);
    command.env_remove("CLICOLOR_FORCE").env_remove("NO_COLOR");
    command
}

fn run(path: &Path, arguments: &[&str]) -> Output {
    command(path, arguments).output().unwrap()
}

fn json(path: &Path, arguments: &[&str]) -> Value {
    let output = run(path, arguments);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn assert_shown(name: &str, shown: &str) {
    let path = format!("{ROOT}/tests/snapshots/{name}.txt");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&path, shown).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    assert!(shown == expected, "{name}:\n{shown}\nexpected:\n{expected}");
}

/// Every command that decodes single files, with arguments for the golden cache.
const COMMANDS: [&[&str]; 7] = [
    &["slot", "--key", "empty"],
    &["record", "0:128"],
    &["heap"],
    &["header"],
    &["histogram"],
    &["map"],
    &["stats", "--full"],
];

#[test]
fn slot_shows_its_linked_record() {
    let golden = Golden::new();
    assert_shown(
        "slot",
        &golden.shows(0, &["slot", "--key", "nul\\x00inside"]),
    );
    let shown = json(&golden.path, &["slot", "--key", "k", "--json"]);
    assert_eq!(shown["record"]["key"], "k");
    assert_eq!(shown["record"]["sound"], true);
    assert_eq!(shown["roster_slot"], shown["number"]);
    let number = shown["number"].to_string();
    assert_eq!(json(&golden.path, &["slot", &number, "--json"]), shown);
}

#[test]
fn corrupt_slot_names_wrong_bytes() {
    let golden = Golden::new();
    let slot = json(&golden.path, &["slot", "--key", "k", "--json"]);
    let number = slot["number"].to_string();
    let body = slot["body_at"].as_u64().unwrap();
    golden.change("", body, &[0xff; 4]);
    golden.change("", body + 4, &[9]);
    golden.change("", body + 6, &[9]);
    assert_shown("slot_damaged", &golden.shows(1, &["slot", &number]));
}

// A slot, record or segment that does not exist is absent, and no failure.
#[test]
fn absent_items_exit_with_one() {
    let golden = Golden::new();
    for arguments in [
        &["slot", "--key", "no such key"][..],
        &["slot", "4000000000"],
        &["record", "7:128"],
        &["heap", "7"],
    ] {
        let output = run(&golden.path, arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
    let output = run(&golden.path, &["record", "seven"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn record_shows_fields_and_bytes() {
    let golden = Golden::new();
    let (_, place) = golden.place("three hundred bytes");
    assert_shown(
        "record",
        &golden.shows(0, &["record", &place, "--limit", "80"]),
    );
    let shown = json(&golden.path, &["record", &place, "--json"]);
    assert_eq!(
        (&shown["key_len"], &shown["value_len"]),
        (&19.into(), &300.into())
    );
    assert_eq!(shown["bytes"].as_str().unwrap().len(), 2 * 256);
}

#[test]
fn corrupt_record_marks_wrong_bytes() {
    let golden = Golden::new();
    let (at, place) = golden.place("overwritten");
    golden.change(".heap", at + 16, &[0, 0, 7]);
    golden.change(".heap", at + 22, &[9]);
    golden.change(".heap", at + 24 + 11 + 16, &[1]);
    assert_shown("record_damaged", &golden.shows(1, &["record", &place]));
    let shown = json(&golden.path, &["record", &place, "--json"]);
    assert_eq!(shown["doubts"].as_array().unwrap().len(), 4);
}

// The heap is shown record by record, with corruption in its place.
#[test]
fn heap_shows_records_and_corruption() {
    let golden = Golden::new();
    assert_shown("heap", &golden.shows(0, &["heap"]));
    let (at, _) = golden.place("empty");
    golden.change(".heap", at + 8, &[0xee]);
    assert_shown("heap_damage", &golden.shows(1, &["heap", "0", "--damage"]));
    let lines = golden.shows(1, &["heap", "--json"]);
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let wrong: Vec<&Value> = lines
        .iter()
        .filter(|line| line["kind"] == "damage")
        .collect();
    assert_eq!(wrong.len(), 1);
    assert_eq!(wrong[0]["place"], format!("0:{at}"));
    let keys = |name: &str| lines.iter().filter(|line| line["key"] == name).count();
    assert_eq!((keys("overwritten"), keys("empty")), (2, 0));
    assert_eq!(
        golden.shows(0, &["heap", "--limit", "3"]).lines().count(),
        3
    );
}

#[test]
fn headers_are_shown_by_field() {
    let golden = Golden::new();
    assert_shown("header", &golden.shows(0, &["header"]));
    assert_eq!(golden.shows(0, &["header", "--doubtful"]), "");
    let shown = json(&golden.path, &["header", "--json"]);
    assert_eq!(shown["files"].as_array().unwrap().len(), 3);
    assert_eq!(shown["files"][0]["fields"][11]["name"], "region_slots");
    assert_eq!(shown["files"][0]["fields"][11]["value"], 16);
}

#[test]
fn impossible_header_fields_are_named() {
    let golden = Golden::new();
    golden.change("", 40, &[7; 8]);
    golden.change("", 240, &[0xff; 8]);
    golden.change(".roster", 40, &[9]);
    golden.change(".heap", 48, &[5]);
    golden.change(".heap", 124, &[5]);
    assert_shown(
        "header_doubtful",
        &golden.shows(1, &["header", "--doubtful"]),
    );
}

#[test]
fn charts_need_no_terminal() {
    let golden = Golden::new();
    let histogram = golden.shows(0, &["histogram"]);
    // Ages grow from day to day.
    let (before, after) = histogram.split_once("ages: ").unwrap();
    let (_, after) = after.split_once("\n\n").unwrap();
    assert_shown("histogram", &format!("{before}{after}"));
    assert_shown("map", &golden.shows(0, &["map"]));
    let shown = json(&golden.path, &["histogram", "--json"]);
    let entries = shown["entries"].as_u64().unwrap();
    assert_eq!(shown["key_bytes"]["count"], entries);
    assert_eq!(shown["age_seconds"]["count"], entries);
    let shown = json(&golden.path, &["map", "--json"]);
    let regions = shown["regions"].as_array().unwrap();
    let occupied: u64 = regions
        .iter()
        .map(|it| it["occupied"].as_u64().unwrap())
        .sum();
    assert_eq!(occupied, entries);
    assert_eq!(shown["segments"][0]["live_records"], entries);
}

#[test]
fn map_marks_the_corrupt_region() {
    let golden = Golden::new();
    let slot = json(&golden.path, &["slot", "--key", "k", "--json"]);
    golden.change("", slot["link_at"].as_u64().unwrap() + 4, &[9]);
    let shown = golden.shows(1, &["map"]);
    assert!(shown.contains("! has invalid values"), "{shown}");
    let full = json(&golden.path, &["stats", "--full", "--json"]);
    assert_eq!(full["full"]["census"]["implausible"], 1);
}

// Statistics say which process holds the lock, and how long probes are.
#[test]
fn stats_show_lock_and_probes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let cache = MmapCache::open(&path).unwrap();
    cache.put(b"key", b"value").unwrap();
    let stats = || json(&path, &["stats", "--full", "--json"]);
    assert_eq!(stats()["lock"]["holder"], "nobody");
    let writer = cache.writer().unwrap();
    let held = stats();
    assert_eq!(held["lock"]["holder"], "alive");
    assert_eq!(held["lock"]["process"], std::process::id());
    drop(writer);
    let full = &held["full"];
    assert_eq!(full["census"]["hit_groups"], 1.0);
    assert_eq!(full["census"]["segments"][0]["live_records"], 1);
    let index = &full["memory"][0];
    assert_eq!(index["role"], "index");
    assert_eq!(index["mapped"], fs::metadata(&path).unwrap().len());
    let shown = String::from_utf8(run(&path, &["stats", "--full"]).stdout).unwrap();
    for row in ["writer lock", "for absent keys", "segment 0", "all files"] {
        assert!(shown.contains(row), "{row}: {shown}");
    }
    assert_eq!(json(&path, &["stats", "--json"])["full"], Value::Null);
}

#[test]
fn keys_are_shown_with_ids() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("labels");
    let labels = Labels::open(&path).unwrap();
    for label in ["one", "two", "three"] {
        labels.get_or_intern(label).unwrap();
    }
    drop(labels);
    let slot = json(&path, &["slot", "--key", "three", "--json"]);
    assert_eq!(slot["record"]["version"], "3");
    assert_eq!(slot["doubts"], Value::Array(Vec::new()));
    for arguments in COMMANDS.iter().filter(|command| command[0] != "slot") {
        let output = run(&path, arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn inspecting_neither_changes_nor_waits() {
    let golden = Golden::new();
    let state = || {
        FILES.map(|(_, suffix)| {
            let path = with_suffix(&golden.path, suffix);
            let meta = path.metadata().unwrap();
            (fs::read(path).unwrap(), meta.mtime_nsec(), meta.ino())
        })
    };
    let before = state();
    for arguments in COMMANDS {
        run(&golden.path, arguments);
    }
    assert!(state() == before);
    assert_eq!(
        fs::read_dir(golden.path.parent().unwrap()).unwrap().count(),
        3
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let cache = MmapCache::open(&path).unwrap();
    let mut writer = cache.writer().unwrap();
    writer.put(b"empty", b"").unwrap();
    for arguments in COMMANDS {
        let output = run(&path, arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
    }
}

#[test]
fn colour_needs_terminal_or_force() {
    let golden = Golden::new();
    let drawn = |set: &[&str]| {
        let mut map = command(&golden.path, &["map"]);
        map.envs(set.iter().map(|name| (name, "1")));
        map.env("TERM", "xterm")
            .output()
            .unwrap()
            .stdout
            .contains(&0x1b)
    };
    assert!(!drawn(&[]));
    assert!(drawn(&["CLICOLOR_FORCE"]));
}

#[test]
fn terminal_keys_are_escaped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let cache = MmapCache::open(&path).unwrap();
    cache.put(b"\x1b[2Jkey", b"\x1b[2J").unwrap();
    for arguments in [
        &["heap"][..],
        &["slot", "--key", "hex:1b5b324a6b6579"],
        &["record", "0:128"],
    ] {
        let output = run(&path, arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(
            shown.contains("\\x1b[2Jkey") && !shown.contains('\x1b'),
            "{shown}"
        );
    }
}

#[test]
fn map_tolerates_a_closed_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let cache = MmapCache::open(&path).unwrap();
    for number in 0..20_000_u32 {
        cache.put(&number.to_le_bytes(), b"value").unwrap();
    }
    let mut child = command(&path, &["heap"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty());
}

#[test]
fn headerless_index_is_shown_from_heap() {
    let golden = Golden::new();
    let before = golden.shows(0, &["histogram", "--json"]);
    golden.change("", 80, &[0xff; 24]);
    let files = CacheFiles::open(&golden.path, None).unwrap();
    assert_ne!(files.header().unwrap().region_slots, 16);
    let scan = files.scan_index(|_, _| true, |_, _, _| {}).unwrap();
    assert_eq!(scan.regions[0].slots, 16);
    let after = golden.shows(0, &["histogram", "--json"]);
    let entries =
        |json: &str| -> Value { serde_json::from_str::<Value>(json).unwrap()["entries"].take() };
    assert_eq!(entries(&before), entries(&after));
    assert_eq!(
        run(&golden.path, &["stats"]).status.code(),
        Some(1),
        "the library refuses to open it"
    );
}

// A header of format 1 has some words at other places: they are not reported as damage.
#[test]
fn older_header_has_no_problems() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    copy_to("v1", &path);
    let files = CacheFiles::open(&path, None).unwrap();
    let state = files.state().unwrap();
    assert_eq!((state.puts, state.overwrites, state.deletes), (29, 1, 1));
    let problems: Vec<_> = files
        .problems()
        .iter()
        .map(|problem| problem.what)
        .collect();
    assert_eq!(problems, [mmapcache::Corruption::HeaderVersion]);
}

#[test]
fn upgrade_replaces_the_older_index() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    copy_to("v1", &path);
    let refused = run(&path, &["verify"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("mmapcache-inspect upgrade"));
    let first = json(&path, &["upgrade", "--json"]);
    assert_eq!(
        (&first["upgraded"], &first["entries"]),
        (&true.into(), &27.into())
    );
    assert_eq!(run(&path, &["verify"]).status.code(), Some(0));
    assert_eq!(json(&path, &["upgrade", "--json"])["upgraded"], false);
}
