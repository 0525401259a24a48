//! Backups restored over the files of a cache while no process has it open.
//!
//! Restores files in the ways that people use, and checks what the cache then contains: what the
//! backup contained, and nothing that was written later. Also counts what is read if nothing was
//! restored.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use mmapcache::{MmapCache, Options};

/// Names the cache that a child process writes.
const CHILD: &str = "MMAPCACHE_RESTORE_CHILD";
/// The resolution of file times and the tolerance of a cache together.
const SOON: Duration = Duration::from_millis(150);
/// The same after a writer was killed during a change.
const LATER: Duration = Duration::from_millis(1_200);

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// The state of the cache when its files were backed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Flushed,
    Closed,
    Killed,
}

const STATES: [State; 3] = [State::Flushed, State::Closed, State::Killed];

/// Small segments, so that writes after the backup begin more of them.
fn options() -> Options {
    let mut options = Options::new();
    options
        .region_slots(16)
        .max_segment_bytes(64 * 1024)
        .background_threads(false);
    options
}

fn key(number: u32) -> Vec<u8> {
    format!("key {number:05}").into_bytes()
}

fn contents(cache: &MmapCache) -> Contents {
    let items = cache.iter().expect("a listing");
    let listed: Contents = items.map(|item| item.expect("an item")).collect();
    for (key, value) in &listed {
        let found = cache.get(key).expect("a lookup");
        assert_eq!(found.as_ref(), Some(value), "listed but not found");
    }
    listed
}

fn before_backup(path: &Path, state: State) {
    let cache = options().open(path).expect("a cache");
    for number in 0..200 {
        cache.put(&key(number), &[1; 300]).expect("a put");
    }
    if state == State::Flushed {
        cache.flush().expect("a flush");
    }
    drop(cache);
    if state == State::Killed {
        kill_a_writer(path, "begin");
    }
}

/// Lets a child process write, and kills it while it holds the lock.
fn kill_a_writer(path: &Path, what: &str) {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args([
            "child_writes_until_killed",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env(CHILD, path)
        .env("MMAPCACHE_RESTORE_WHAT", what)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let out = BufReader::new(child.stdout.take().expect("its output"));
    let mut lines = out.lines().map_while(Result::ok);
    assert!(
        lines.any(|line| line.ends_with("ready")),
        "the child failed"
    );
    child.kill().expect("a kill");
    child.wait().expect("its end");
}

#[test]
#[ignore = "run by other tests as a process of its own"]
fn child_writes_until_killed() {
    let path = PathBuf::from(std::env::var_os(CHILD).expect("run by another test"));
    let large = std::env::var("MMAPCACHE_RESTORE_WHAT").expect("what to write") == "large";
    let cache = if large {
        MmapCache::open(&path)
    } else {
        options().open(&path)
    };
    let cache = cache.expect("a cache");
    let mut writer = cache.writer().expect("the lock");
    let numbers = if large { 0..30_000 } else { 200..230 };
    for number in numbers {
        writer.put(&key(number), &[2; 1_000]).expect("a put");
    }
    println!("ready");
    loop {
        if large {
            writer.put(&key(7), &[3; 1_000]).expect("a put");
        } else {
            std::thread::sleep(LATER);
        }
    }
}

/// Overwrites, deletes and inserts: begins new segments, and cleans old ones.
fn after_backup(path: &Path) {
    let cache = options().open(path).expect("the cache");
    let segments = cache.stats().expect("its numbers").segments;
    for number in 0..100 {
        cache.put(&key(number), &[9; 500]).expect("a put");
    }
    for number in 100..150 {
        cache.delete(&key(number)).expect("a deletion");
    }
    for number in 1_000..1_300 {
        cache.put(&key(number), &[9; 500]).expect("a put");
    }
    assert!(cache.stats().expect("its numbers").segments > segments);
}

/// A way to restore files.
type Way = (&'static str, &'static [&'static str]);

/// Shell commands; `$B` is the backup, `$L` the directory of the cache.
const WAYS: [Way; 9] = [
    ("cp over", &["cp $B/* $L/"]),
    (
        "cp over, in the other order",
        &["for f in $(ls -r $B); do cp $B/$f $L/; done"],
    ),
    ("cp -p over", &["cp -p $B/* $L/"]),
    (
        "rm and cp",
        &["rm $L/cache $L/cache.roster $L/cache.heap", "cp $B/* $L/"],
    ),
    ("rm all and cp", &["rm $L/*", "cp $B/* $L/"]),
    (
        "tar",
        &[
            "tar -C $B -cf $L.tar .",
            "tar -C $L -xf $L.tar",
            "rm $L.tar",
        ],
    ),
    (
        "tar --overwrite",
        &[
            "tar -C $B -cf $L.tar .",
            "tar -C $L --overwrite -xf $L.tar",
            "rm $L.tar",
        ],
    ),
    (
        "rsync",
        &["command -v rsync || exit 77", "rsync -a --checksum $B/ $L/"],
    ),
    (
        "rsync --inplace",
        &[
            "command -v rsync || exit 77",
            "rsync -a --checksum --inplace $B/ $L/",
        ],
    ),
];

/// Restores, and returns whether the tools for that are installed.
fn restore(way: Way, backup: &Path, live: &Path) -> bool {
    let script = format!("set -e\n{}", way.1.join("\n"));
    let done = Command::new("sh")
        .args(["-c", &script])
        .env("B", backup)
        .env("L", live)
        .stdout(Stdio::null())
        .status()
        .expect("a shell");
    if done.code() == Some(77) {
        eprintln!("NOT RUN: {}: the tool is not installed", way.0);
        return false;
    }
    assert!(done.success(), "{}", way.0);
    true
}

/// Backs up a cache, writes to it, restores the backup, and asserts that the cache has the backup's
/// contents.
fn restore_by(way: Way, state: State, root: &Path) {
    let dir = tempfile::tempdir_in(root).expect("a directory");
    let [live, backup] = ["live", "backup"].map(|name| dir.path().join(name));
    fs::create_dir(&live).expect("a directory");
    let path = live.join("cache");
    before_backup(&path, state);
    let reader = Options::new()
        .read_only(true)
        .open(&path)
        .expect("a reader");
    let expected = contents(&reader);
    drop(reader);
    let copied = Command::new("cp")
        .arg("-a")
        .arg(&live)
        .arg(&backup)
        .status();
    assert!(copied.expect("cp").success());
    std::thread::sleep(SOON);
    after_backup(&path);
    std::thread::sleep(if state == State::Killed { LATER } else { SOON });
    if !restore(way, &backup, &live) {
        return;
    }
    let told = format!("{}, {state:?}", way.0);
    assert_contents(&path, &expected, &told);
    // Nothing is left that a later recovery could find.
    use std::os::unix::fs::FileExt;
    let index = fs::File::options()
        .write(true)
        .open(&path)
        .expect("the index");
    index.write_all_at(&[7; 16], 448).expect("another boot");
    drop(index);
    assert_contents(&path, &expected, &format!("{told}, after a restart"));
}

#[track_caller]
fn assert_contents(path: &Path, expected: &Contents, told: &str) {
    let cache = options().open(path).expect("the restored cache");
    let found = contents(&cache);
    let differ = |key: &&Vec<u8>| found.get(*key) != expected.get(*key);
    let all = expected.keys().chain(found.keys());
    let wrong: Vec<_> = all
        .filter(differ)
        .map(|key| String::from_utf8_lossy(key))
        .collect();
    assert!(
        wrong.is_empty(),
        "{told}: {} differ, {:?}",
        wrong.len(),
        wrong.first()
    );
    cache.put(b"afterwards", b"v").expect("a put");
    cache.delete(b"afterwards").expect("a deletion");
    let report = cache.verify().run().expect("a check");
    assert!(report.is_clean(), "{told}: {:?}", report.problems);
}

fn restore_all(root: &Path) {
    let work: Vec<_> = WAYS
        .iter()
        .flat_map(|&way| STATES.map(|state| (way, state)))
        .collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while let Some(&(way, state)) =
                    work.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    restore_by(way, state, root);
                }
            });
        }
    });
}

#[test]
fn backup_restored_in_place_is_valid() {
    let root = tempfile::tempdir().expect("a directory");
    restore_all(root.path());
}

/// On a file system in memory stores change no file times.
#[test]
fn backup_restored_in_memory_is_valid() {
    let Ok(root) = tempfile::tempdir_in("/dev/shm") else {
        return eprintln!("NOT RUN: there is no /dev/shm");
    };
    restore_all(root.path());
}

/// A flush makes the files newer for programs that compare file times, in memory too.
#[test]
fn flush_updates_times_of_changed_files() {
    for root in [std::env::temp_dir(), PathBuf::from("/dev/shm")] {
        let Ok(dir) = tempfile::tempdir_in(&root) else {
            eprintln!("NOT RUN: there is no {}", root.display());
            continue;
        };
        let path = dir.path().join("cache");
        let cache = MmapCache::open(&path).expect("a cache");
        for number in 0..50 {
            cache.put(&key(number), b"old").expect("a put");
        }
        cache.flush().expect("a flush");
        let written = |suffix: &str| {
            let path = format!("{}{suffix}", path.display());
            fs::metadata(path)
                .expect("a file")
                .modified()
                .expect("its time")
        };
        for _ in 0..3 {
            let before = ["", ".heap"].map(written);
            std::thread::sleep(SOON);
            cache.put(&key(7), b"new").expect("a put");
            cache.flush().expect("a flush");
            let after = ["", ".heap"].map(written);
            let told = root.display();
            assert!(
                after[0] > before[0] && after[1] > before[1],
                "{told}: {before:?} {after:?}"
            );
        }
    }
}

/// Returns the page faults of this thread.
fn faults() -> u64 {
    let stat = fs::read_to_string("/proc/thread-self/stat").expect("this thread's numbers");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    fields
        .split(' ')
        .nth(7)
        .expect("the minor faults")
        .parse()
        .expect("a number")
}

fn faults_of_opening(path: &Path) -> u64 {
    let before = faults();
    let cache = MmapCache::open(path).expect("the cache");
    cache.put(b"k", b"v").expect("a put");
    drop(cache);
    faults() - before
}

/// Opening reads no entries, however the last writer ended; it reads all of them if another program
/// changed a file.
#[test]
fn opening_reads_no_entries_after_kill() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cache");
    kill_a_writer(&path, "large");
    let killed = faults_of_opening(&path);
    let closed = faults_of_opening(&path);
    std::thread::sleep(LATER);
    let waited = faults_of_opening(&path);
    std::thread::sleep(SOON);
    let mode = fs::metadata(&path).expect("the index").permissions();
    fs::set_permissions(&path, mode).expect("the same mode again");
    let touched = faults_of_opening(&path);
    let again = faults_of_opening(&path);
    let told = format!("killed {killed}, closed {closed}, {waited}, touched {touched}, {again}");
    println!("{told}");
    for few in [killed, closed, waited, again] {
        assert!(few * 3 < touched, "{told}");
    }
    assert_eq!(
        MmapCache::open(&path)
            .expect("the cache")
            .stats()
            .expect("numbers")
            .recoveries,
        0
    );
}
