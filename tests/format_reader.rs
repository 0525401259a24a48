//! `tests/format_reader.py`, a reader that was written from `docs/format.md` alone, reads a cache
//! while another process writes to it.
//!
//! The writer is this process. Each value has its key and a growing number, so that an answer is
//! correct only if the key had that number between question and answer.
#![cfg(target_endian = "little")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mmapcache::{Cache, InsertOptions, MmapCache, Options};

const READER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/format_reader.py");
/// The reader, which stops after a number of loads until it gets a line.
const STOPPING: &str = "
import os, sys
import format_reader as reader
load, left = reader.File.word, 0
def word(file, at):
    global left
    loaded, left = load(file, at), left - 1
    if left == 0:
        print('stopped', flush=True)
        sys.stdin.readline()
    return loaded
reader.File.word = word
cache = reader.Cache(os.path.realpath(sys.argv[1]))
for line in sys.stdin:
    asked, loads = line.split()
    left = int(loads)
    cache.segments.clear()
    if asked == 'list':
        try:
            found = sum(len(item[1]) > 0 for item in cache.items())
        except reader.Superseded:
            found = 'again'
    else:
        found = cache.again(cache.get, bytes.fromhex(asked))
        found = '-' if found is None else found.hex()
    left = 0
    print(found, cache.retries, flush=True)
";
/// Permanent keys.
const KEYS: usize = 400;
const QUESTIONS: u64 = 8_000;
const LISTINGS: usize = 12;

/// Returns a Python that has `xxhash`: the system's, or one in a new virtual environment.
fn python(dir: &Path) -> Option<PathBuf> {
    let works = |python: &Path| {
        let tried = Command::new(python)
            .args(["-c", "import xxhash; xxhash.xxh3_64_intdigest"])
            .output();
        tried.is_ok_and(|output| output.status.success())
    };
    let system = PathBuf::from("python3");
    if works(&system) {
        return Some(system);
    }
    let venv = dir.join("venv");
    let own = venv.join("bin/python");
    let _ = Command::new("python3")
        .args(["-m", "venv"])
        .arg(&venv)
        .output();
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--timeout",
        "10",
        "xxhash",
    ];
    let _ = Command::new(&own).args(pip).output();
    if works(&own) {
        return Some(own);
    }
    assert!(std::env::var_os("CI").is_none(), "CI must have xxhash");
    // Written to the descriptor, because the test runner captures what a passing test prints.
    let what = "NOT RUN: the reader in Python needs xxhash (apt-get install python3-xxhash)\n";
    std::io::stderr().write_all(what.as_bytes()).unwrap();
    None
}

fn key(number: usize) -> Vec<u8> {
    // Of many lengths.
    format!("key {number}{}", "-".repeat(number % 50)).into_bytes()
}

/// Returns a value with its key's number and its own; of lengths on both sides of the limit for
/// short records.
fn value(key: usize, number: u64) -> Vec<u8> {
    let filler = "v".repeat((number * 37 % 900) as usize);
    format!("{key} {number} {filler}").into_bytes()
}

fn number_of(key: usize, found: &[u8]) -> u64 {
    let text = std::str::from_utf8(found).unwrap();
    let mut words = text.split(' ');
    assert_eq!(words.next(), Some(&*key.to_string()), "{text}");
    let number = words.next().unwrap().parse().unwrap();
    assert_eq!(found, value(key, number));
    number
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    let pairs = pairs.map(|two| std::str::from_utf8(two).unwrap());
    pairs
        .map(|two| u8::from_str_radix(two, 16).unwrap())
        .collect()
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// The values that the writer has begun to store, and those that it has stored, by key.
struct WriteLog {
    begun: Vec<AtomicU64>,
    stored: Vec<AtomicU64>,
    rebuilds: AtomicU64,
    stop: AtomicBool,
}

impl WriteLog {
    fn new() -> Self {
        let zeros = || (0..KEYS).map(|_| AtomicU64::new(0)).collect();
        Self {
            begun: zeros(),
            stored: zeros(),
            rebuilds: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        }
    }

    fn put(&self, cache: &MmapCache, key_number: usize) {
        let next = self.begun[key_number].fetch_add(1, Ordering::SeqCst) + 1;
        cache
            .put(&key(key_number), &value(key_number, next))
            .unwrap();
        self.stored[key_number].store(next, Ordering::SeqCst);
    }

    fn wait_for_rebuild(&self) {
        let (before, began) = (self.rebuilds.load(Ordering::SeqCst), Instant::now());
        while self.rebuilds.load(Ordering::SeqCst) == before {
            assert!(began.elapsed() < Duration::from_secs(120), "no rebuild");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Overwrites, inserts, deletes, compacts and rebuilds until it is told to stop.
    fn write(&self, cache: &MmapCache) {
        let mut random = Random(7);
        for turn in 1_u64.. {
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            self.put(cache, random.below(KEYS));
            let passing = format!("passing {}", random.below(3_000));
            if turn.is_multiple_of(3) {
                cache.delete(passing.as_bytes()).unwrap();
            } else {
                cache.put(passing.as_bytes(), passing.as_bytes()).unwrap();
            }
            if turn.is_multiple_of(1_000) {
                cache.compact().unwrap();
            }
            if turn.is_multiple_of(250) {
                let items: Vec<_> = cache.iter().unwrap().collect();
                cache.atomic_rebuild(items).unwrap();
                self.rebuilds.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

/// Asks the reader for one key after the other, and checks each answer. Returns its retries.
fn ask(python: &Path, path: &Path, log: &WriteLog) -> u64 {
    let mut reader = Command::new(python)
        .arg(READER)
        .args([path.as_os_str(), "get".as_ref()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut questions = reader.stdin.take().unwrap();
    let mut answers = BufReader::new(reader.stdout.take().unwrap());
    let (mut random, mut retries) = (Random(11), 0);
    let mut latest: HashMap<usize, u64> = HashMap::new();
    for turn in 0..QUESTIONS {
        let asked = random.below(KEYS);
        let absent = turn.is_multiple_of(4);
        let wanted = match absent {
            true => format!("absent {turn}").into_bytes(),
            false => key(asked),
        };
        if turn.is_multiple_of(QUESTIONS / 4) {
            log.wait_for_rebuild();
        }
        let from = log.stored[asked].load(Ordering::SeqCst);
        writeln!(questions, "{}", hex(&wanted)).unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        let to = log.begun[asked].load(Ordering::SeqCst);
        let (found, tried) = answer
            .trim_end()
            .rsplit_once(' ')
            .expect("the reader failed");
        retries = tried.parse().unwrap();
        if absent {
            assert_eq!(found, "-", "a value of a key that was never put");
            continue;
        }
        assert_ne!(found, "-", "key {asked} was there all the time");
        let number = number_of(asked, &unhex(found));
        assert!(
            (from..=to).contains(&number),
            "{number}, not {from} to {to}"
        );
        // A reader never sees an entry go back.
        let before = latest.insert(asked, number).unwrap_or(0);
        assert!(before <= number, "{number} after {before}");
    }
    drop(questions);
    assert!(reader.wait().unwrap().success());
    retries
}

/// A reader that can be stopped.
struct Stopped {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    retries: u64,
}

impl Stopped {
    fn start(python: &Path, path: &Path) -> Self {
        let mut process = Command::new(python)
            .args(["-B", "-c", STOPPING])
            .arg(path)
            .env("PYTHONPATH", Path::new(READER).parent().unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            questions: process.stdin.take().unwrap(),
            answers: BufReader::new(process.stdout.take().unwrap()),
            process,
            retries: 0,
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the reader failed");
        line.trim_end().to_owned()
    }

    /// Asks, and makes a change after `loads` loads. Returns `None` if the reader needed fewer;
    /// otherwise the answer, and whether the reader read anything again.
    fn ask(&mut self, what: &str, loads: u32, change: impl FnOnce()) -> Option<(String, bool)> {
        writeln!(self.questions, "{what} {loads}").unwrap();
        let mut line = self.line();
        let stopped = line == "stopped";
        if stopped {
            change();
            writeln!(self.questions).unwrap();
            line = self.line();
        }
        let (answer, retries) = line.rsplit_once(' ').unwrap();
        let retries = retries.parse().unwrap();
        let again = retries > self.retries;
        self.retries = retries;
        stopped.then(|| (answer.to_owned(), again))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Changes that a reader can meet at any moment.
const CHANGES: [fn(&MmapCache, &WriteLog, u64); 3] = [
    // The entry is overwritten, and its old segment removed.
    |cache, log, _| {
        log.put(cache, 1);
        cache.compact().unwrap();
    },
    // Regions are split: nearly all of them, while there are few.
    |cache, log, turn| {
        log.put(cache, 1);
        let more = if cache.len() < 6_000 {
            cache.len()
        } else {
            100
        };
        for number in 0..more {
            let key = format!("more {turn} {number}");
            cache.put(key.as_bytes(), b"more").unwrap();
        }
    },
    // Everything is replaced.
    |cache, log, _| {
        let items: Vec<_> = cache.iter().unwrap().collect();
        cache.atomic_rebuild(items).unwrap();
        log.put(cache, 1);
    },
];

fn list(python: &Path, path: &Path) -> Output {
    let mut command = Command::new(python);
    command
        .arg(READER)
        .args([path.as_os_str(), "list".as_ref()]);
    command.output().unwrap()
}

fn listed(output: &Output) -> Vec<(Vec<u8>, Vec<u8>)> {
    let lines = std::str::from_utf8(&output.stdout).unwrap().lines();
    let lines = lines.map(|line| line.split_once(' ').unwrap());
    lines
        .map(|(key, value)| (unhex(key), unhex(value.trim_start_matches('.'))))
        .collect()
}

/// Lists while the writer writes; each permanent key comes once, with a correct value. Returns how
/// many listings were complete: one that a rebuild ends must be started again.
fn list_while_written(python: &Path, path: &Path, log: &WriteLog) -> usize {
    let numbers: HashMap<_, _> = (0..KEYS).map(|number| (key(number), number)).collect();
    let read = |counts: &[AtomicU64]| -> Vec<u64> {
        let counts = counts.iter();
        counts.map(|count| count.load(Ordering::SeqCst)).collect()
    };
    let mut whole = 0;
    for _ in 0..LISTINGS {
        let from = read(&log.stored);
        let output = list(python, path);
        let to = read(&log.begun);
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            assert!(why.trim_end().ends_with("Superseded"), "{why}");
            continue;
        }
        let mut seen = vec![0; KEYS];
        for (key, value) in listed(&output) {
            let Some(&number) = numbers.get(&key) else {
                assert!(key.starts_with(b"passing ") && key == value, "{key:?}");
                continue;
            };
            seen[number] += 1;
            let found = number_of(number, &value);
            assert!((from[number]..=to[number]).contains(&found), "{found}");
        }
        assert!(seen.iter().all(|&times| times == 1), "{seen:?}");
        whole += 1;
    }
    whole
}

#[test]
fn documented_reader_follows_a_writer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let Some(python) = python(dir.path()) else {
        return;
    };
    let mut options = Options::new();
    options
        .region_slots(16)
        .max_segment_bytes(64 * 1024)
        .compaction_threshold(50, 1024);
    let cache = options.open(&path).unwrap();
    let log = WriteLog::new();
    (0..KEYS).for_each(|number| log.put(&cache, number));
    std::thread::scope(|scope| {
        // Stops the writer even if a check fails: otherwise the test would never end.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let _stop = Stop(&log.stop);
        scope.spawn(|| log.write(&cache));
        let before = log.rebuilds.load(Ordering::SeqCst);
        let retries = ask(&python, &path, &log);
        let rebuilds = log.rebuilds.load(Ordering::SeqCst) - before;
        println!("{QUESTIONS} questions, {rebuilds} rebuilds, {retries} retries");
        // Each rebuild that the reader follows is a retry.
        assert!(retries > 0, "nothing was ever read again");
        let whole = list_while_written(&python, &path, &log);
        println!("{whole} whole listings of {LISTINGS}");
        assert!(whole > 0, "no listing was whole");
    });
    // Without a writer the reader finds exactly what the library has.
    let output = list(&python, &path);
    assert!(output.status.success(), "{output:?}");
    let theirs = listed(&output);
    let ours: BTreeMap<_, _> = cache.iter().unwrap().map(Result::unwrap).collect();
    assert_eq!(theirs.len(), ours.len());
    assert!(theirs.into_iter().collect::<BTreeMap<_, _>>() == ours);
}

#[test]
fn reader_stopped_anywhere_stays_right() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let Some(python) = python(dir.path()) else {
        return;
    };
    let mut options = Options::new();
    options.region_slots(16).max_segment_bytes(64 * 1024);
    let cache = options.open(&path).unwrap();
    let log = WriteLog::new();
    (0..KEYS).for_each(|number| log.put(&cache, number));
    let mut reader = Stopped::start(&python, &path);
    let wanted = [hex(b"absent"), hex(&key(1))];
    let (mut turn, mut agains) = (0, [[0; 3]; 2]);
    for (which, change) in CHANGES.iter().enumerate() {
        for (present, wanted) in wanted.iter().enumerate() {
            let mut stops = 0;
            for loads in 1.. {
                turn += 1;
                let from = log.stored[1].load(Ordering::SeqCst);
                let asked = reader.ask(wanted, loads, || change(&cache, &log, turn));
                let to = log.begun[1].load(Ordering::SeqCst);
                let Some((found, again)) = asked else {
                    break;
                };
                stops += 1;
                agains[present][which] += u32::from(again);
                if present == 0 {
                    assert_eq!(found, "-");
                } else {
                    assert_ne!(found, "-", "change {which} after {loads} loads");
                    let number = number_of(1, &unhex(&found));
                    assert!(
                        (from..=to).contains(&number),
                        "{number}, not {from} to {to}"
                    );
                }
            }
            assert!(stops >= 4, "only {stops} loads");
        }
    }
    println!("read again: {agains:?}");
    // A hit may be from before the change; a rebuild, a split and a removed segment are noticed.
    let [absent, present] = agains;
    assert!(absent[1] > 0 && absent[2] > 0 && present[0] > 0 && present[2] > 0);
    // A listing has every permanent key, or says that it must be started again.
    for (loads, change) in (1..700).step_by(29).zip(CHANGES.iter().cycle()) {
        turn += 1;
        let least = cache.len();
        let asked = reader.ask("list", loads, || change(&cache, &log, turn));
        let (found, _) = asked.unwrap();
        if found != "again" {
            let found: u64 = found.parse().unwrap();
            assert!((least..=cache.len()).contains(&found), "{found} of {least}");
        }
    }
}

// The extension is no part of the value, and the entries of the cache itself are not listed.
#[test]
fn documented_reader_understands_a_cache() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let Some(python) = python(dir.path()) else {
        return;
    };
    let cache = Cache::open(&path).unwrap();
    let mut expected = BTreeMap::new();
    for number in 0..64 {
        let mut options = InsertOptions::new();
        let parts: [fn(InsertOptions) -> InsertOptions; 5] = [
            |options| options.stale_for(Duration::from_secs(1)),
            |options| options.cost(Duration::from_secs(1)),
            |options| options.tag("a"),
            |options| options.namespace("b"),
            |options| options.ttl(Duration::from_secs(3_600)),
        ];
        for (bit, part) in parts.iter().enumerate() {
            if number >> bit & 1 == 1 {
                options = part(options);
            }
        }
        let value = value(number, 150 * (number as u64 / 32));
        cache.insert_with(key(number), &value, &options).unwrap();
        expected.insert(key(number), value);
    }
    cache.insert("long", [b'v'; 5_000]).unwrap();
    expected.insert(b"long".to_vec(), vec![b'v'; 5_000]);
    assert!(cache.touch("long", Duration::from_secs(60)).unwrap());
    cache.invalidate_tag("unknown").unwrap();
    let output = list(&python, &path);
    assert!(output.status.success(), "{output:?}");
    let listed = listed(&output);
    assert_eq!(listed.len(), expected.len());
    assert!(listed.into_iter().collect::<BTreeMap<_, _>>() == expected);
}
