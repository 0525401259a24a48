//! `watch`: what it says of a cache in use, on a terminal and elsewhere, and how it ends.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use mmapcache::{MmapCache, Options};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::program::{fill, flip, place, program, run, stderr, stdout, tiny};
use crate::terminal::Terminal;

/// Limit for a watcher that prints nothing.
const LIMIT: Duration = Duration::from_secs(60);

/// A watcher that prints JSON, a line every 50 ms.
struct Watcher {
    child: Child,
    lines: Receiver<String>,
}

impl Watcher {
    fn start(cache: &Path) -> Self {
        let mut child = program()
            .args([OsStr::new("watch"), cache.as_ref()])
            .args(["--json", "--interval", "50ms"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut printed = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, lines) = mpsc::channel();
        // Closes the pipe when no test reads any more.
        std::thread::spawn(move || {
            while let Some(Ok(line)) = printed.next()
                && sender.send(line).is_ok()
            {}
        });
        Self { child, lines }
    }

    fn next(&mut self) -> Value {
        self.line().expect("a line")
    }

    /// Returns the next line, or `None` after the last.
    fn line(&mut self) -> Option<Value> {
        match self.lines.recv_timeout(LIMIT) {
            Ok(line) => Some(serde_json::from_str(&line).unwrap()),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                self.child.kill().unwrap();
                panic!("it prints nothing and does not end");
            }
        }
    }

    /// Returns the lines up to the first one that fits.
    fn until(&mut self, fits: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut seen = Vec::new();
        for _ in 0..400 {
            seen.push(self.next());
            if fits(seen.last().unwrap()) {
                return seen;
            }
        }
        panic!("{:?}", seen.last());
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Returns the exit code and the error output.
    fn end(self) -> (Option<i32>, String) {
        drop(self.lines);
        let output = self.child.wait_with_output().unwrap();
        (output.status.code(), stderr(&output))
    }
}

fn number(line: &Value, name: &str) -> f64 {
    line[name]
        .as_f64()
        .unwrap_or_else(|| panic!("{name}: {line}"))
}

// Rates are the increase of the totals, and watching blocks no writer.
#[test]
fn rates_follow_the_totals() {
    let (_dir, path) = place();
    let cache = fill(&tiny(), &path, 500);
    let mut watcher = Watcher::start(&path);
    let mut before = watcher.next();
    for turn in 0..200_u32 {
        cache.put(&turn.to_le_bytes(), b"value").unwrap();
        cache.put(&turn.to_le_bytes(), b"another").unwrap();
        cache.delete(&turn.to_le_bytes()).unwrap();
    }
    let wanted = cache.stats().unwrap();
    let seen = watcher.until(|line| line["deletes"] == wanted.deletes);
    for line in &seen {
        for (total, rate) in [
            ("puts", "puts_per_second"),
            ("overwrites", "overwrites_per_second"),
            ("deletes", "deletes_per_second"),
            ("heap_bytes", "heap_bytes_per_second"),
            ("dead_bytes", "dead_bytes_per_second"),
        ] {
            let rose = number(line, total) - number(&before, total);
            let by_rate = number(line, rate) * number(line, "seconds");
            assert!((rose - by_rate).abs() < 0.01, "{total}: {rose}, {by_rate}");
        }
        before = line.clone();
    }
    let last = seen.last().unwrap();
    assert_eq!(last["entries"], wanted.occupied);
    assert_eq!(last["segments"], wanted.segments);
    assert_eq!(last["lock"]["holder"], "nobody");
    watcher.signal(Signal::INT);
    assert_eq!(watcher.end(), (Some(0), String::new()));
}

#[test]
fn lock_holder_is_named() {
    let (_dir, path) = place();
    let cache = fill(&Options::new(), &path, 5);
    let mut watcher = Watcher::start(&path);
    let writer = cache.writer().unwrap();
    let seen = watcher.until(|line| line["lock"]["holder"] == "alive");
    assert_eq!(seen.last().unwrap()["lock"]["process"], std::process::id());
    drop(writer);
    watcher.until(|line| line["lock"]["holder"] == "nobody");
    watcher.signal(Signal::TERM);
    assert_eq!(watcher.end().0, Some(0));
}

// A rebuild is announced and adds to no rate, and watching continues.
#[test]
fn rebuild_makes_no_rate() {
    let (_dir, path) = place();
    let cache = fill(&tiny(), &path, 500);
    let mut watcher = Watcher::start(&path);
    watcher.next();
    cache.clear().unwrap();
    let seen = watcher.until(|line| line["generation"] == 2);
    let switch = seen.last().unwrap();
    assert_eq!(switch["switched"], "generation");
    assert_eq!(switch["puts_per_second"], Value::Null);
    assert_eq!(switch["entries"], 0);
    cache.put(b"key", b"value").unwrap();
    let seen = watcher.until(|line| line["entries"] == 1);
    assert!(seen.iter().all(|line| line["switched"] == Value::Null));
    assert!(
        seen.iter()
            .any(|line| number(line, "puts_per_second") > 0.0)
    );
    watcher.signal(Signal::INT);
    assert_eq!(watcher.end().0, Some(0));
}

// A cache that disappears ends the program with a message; one that never existed is a failure.
#[test]
fn vanished_cache_ends_watching() {
    let (dir, path) = place();
    drop(fill(&Options::new(), &path, 5));
    let mut watcher = Watcher::start(&path);
    watcher.next();
    for entry in fs::read_dir(dir.path()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    while watcher.line().is_some() {}
    let (code, complaint) = watcher.end();
    assert_eq!(code, Some(1));
    assert!(complaint.contains("the cache was removed"), "{complaint}");
    run(
        2,
        [OsStr::new("watch"), path.as_ref(), "--count=1".as_ref()],
    );
}

#[test]
fn impossible_header_is_shown_as_corrupt() {
    let (_dir, path) = place();
    drop(fill(&Options::new(), &path, 5));
    flip(&path, 57);
    let arguments = ["--count=1", "--interval=50ms"].map(OsStr::new);
    let watch = [OsStr::new("watch"), path.as_ref()];
    let output = run(1, watch.into_iter().chain(arguments));
    assert!(
        stdout(&output).contains("IMPLAUSIBLE"),
        "{}",
        stdout(&output)
    );
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(100)
        .unwrap();
    let output = run(1, watch.into_iter().chain(arguments));
    assert!(
        stderr(&output).contains("ends within its header"),
        "{}",
        stderr(&output)
    );
}

// Without a terminal there is a line for each interval, and no escape sequence.
#[test]
fn piped_watch_prints_plain_lines() {
    let (_dir, path) = place();
    drop(fill(&Options::new(), &path, 50));
    let watch = [OsStr::new("watch"), path.as_ref()];
    let output = run(
        0,
        watch
            .into_iter()
            .chain(["--count=3", "--interval=50ms"].map(OsStr::new)),
    );
    let text = stdout(&output);
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(!text.contains('\u{1b}'));
    let mut lines = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(lines.next().unwrap()[..3], ["time", "entries", "load"]);
    assert_eq!(lines.next().unwrap()[1], "42");
    for wrong in ["--interval=0s", "--interval=tomorrow", "--count=-1"] {
        run(2, watch.into_iter().chain([OsStr::new(wrong)]));
    }
}

#[test]
fn watch_tolerates_a_closed_pipe() {
    let (_dir, path) = place();
    drop(fill(&Options::new(), &path, 5));
    let mut watcher = Watcher::start(&path);
    watcher.next();
    assert_eq!(watcher.end(), (Some(0), String::new()));
}

// On a terminal the program redraws in place, and restores the terminal when it ends.
#[test]
fn terminal_is_restored_after_watching() {
    let (_dir, path) = place();
    let cache = fill(&tiny(), &path, 200);
    for (columns, rows) in [(100, 30), (44, 30), (12, 5)] {
        let terminal = Terminal::open(columns, rows);
        let modes = terminal.modes();
        let mut command = program();
        command
            .args([OsStr::new("watch"), path.as_ref()])
            .arg("--interval=50ms");
        command.env("TERM", "xterm").env_remove("NO_COLOR");
        let mut child = terminal.start(&mut command);
        let shown = terminal.read_until(|text| text.matches("\u{1b}[J").count() >= 4);
        cache.put(b"key", b"value").unwrap();
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert_eq!(terminal.modes(), modes);
        // No alternate screen, no hidden cursor: nothing that a killed program would leave set.
        assert!(!shown.contains("\u{1b}[?"), "{shown:?}");
        let frames: Vec<&str> = shown.split_inclusive("\u{1b}[J").collect();
        let drawn = frames[0].matches('\n').count();
        assert!(
            drawn >= 4 && drawn < usize::from(rows),
            "{drawn} lines of {rows}"
        );
        assert!(
            frames[1].starts_with(&format!("\u{1b}[{drawn}A")),
            "{:?}",
            frames[1]
        );
        for line in frames[1].split("\r\n").map(visible) {
            assert!(line.chars().count() < columns.into(), "{columns}: {line:?}");
        }
        assert!(frames[1].contains("\u{1b}[2m"), "colour");
    }
}

// A terminal without colour gets none, and one that cannot redraw gets lines.
#[test]
fn limited_terminal_gets_plain_output() {
    let (_dir, path) = place();
    drop(fill(&Options::new(), &path, 5));
    let terminal = Terminal::open(80, 24);
    let mut command = program();
    command.args([OsStr::new("watch"), path.as_ref()]);
    command
        .args(["--interval=50ms", "--count=2"])
        .env("TERM", "xterm")
        .env("NO_COLOR", "1");
    let mut child = terminal.start(&mut command);
    let shown = terminal.read_until(|text| text.matches("\u{1b}[J").count() == 3);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!shown.replace("\u{1b}[K", "").contains("m\u{1b}") && !shown.contains("\u{1b}[0m"));
    assert!(
        shown.contains("entries") && shown.contains("writer"),
        "{shown}"
    );
    command.env("TERM", "dumb");
    let mut child = terminal.start(&mut command);
    let shown = terminal.read_until(|text| text.matches('\n').count() == 3);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

#[test]
fn screen_remembers_a_rebuild() {
    let (_dir, path) = place();
    let cache = MmapCache::open(&path).unwrap();
    let terminal = Terminal::open(120, 24);
    let mut command = program();
    command
        .args([OsStr::new("watch"), path.as_ref()])
        .arg("--interval=50ms");
    command.env("TERM", "xterm");
    let mut child = terminal.start(&mut command);
    terminal.read_until(|text| text.contains("generation 1"));
    cache.clear().unwrap();
    terminal.read_until(|text| text.contains("rebuilt at"));
    std::thread::sleep(Duration::from_millis(120));
    terminal.read_until(|text| text.contains("rebuilt at") && text.contains("generation 2"));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// Returns a line without escape sequences.
fn visible(line: &str) -> String {
    let mut seen = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        seen.push_str(before);
        rest = after
            .split_once(|c: char| c.is_ascii_alphabetic())
            .map_or("", |(_, rest)| rest);
    }
    seen.push_str(rest);
    seen.replace('\r', "")
}
