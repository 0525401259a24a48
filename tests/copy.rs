//! Copies a cache that four processes write to, and labels; kills copying processes.

mod child;
mod volume;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use child::ack_log::AckLog;
use child::contents::{Random, number_of, passing, value};
use child::scratch::Scratch;
use child::{Child, Part, dismissal, say, tight};
use volume::{Kind, Volume};

use mmapcache::{Error, ErrorKind, LabelId, Labels, MmapCache, Options};

const WRITERS: u64 = 4;
/// Keys of each writer, which no other process writes.
const KEYS: u64 = 400;
/// Position of a writer's next operation in its log.
const NEXT: usize = 0;

/// Not a test: the entry point of the child processes.
#[test]
fn child() {
    child::play(&[("writes", writes), ("copies", copies), ("interns", interns)]);
}

/// What a writer's keys contain: the number of each value.
type Contents = BTreeMap<Vec<u8>, u64>;

/// An operation of a writer, which follows from its number.
enum Operation {
    Put(Vec<u8>),
    Delete(Vec<u8>),
    Compact,
    /// Rebuilds all entries of all writers unchanged.
    Rebuild,
}

impl Operation {
    fn of(writer: u64, number: u64) -> Self {
        let mut random = Random::new(number.wrapping_mul(0x5851_F42D_4C95_7F2D) ^ writer);
        let key = passing(writer * KEYS + random.below(KEYS)).into_bytes();
        match random.below(600) {
            0 => Self::Rebuild,
            1 | 2 => Self::Compact,
            3..180 => Self::Delete(key),
            _ => Self::Put(key),
        }
    }

    fn apply(&self, number: u64, contents: &mut Contents) {
        match self {
            Self::Put(key) => drop(contents.insert(key.clone(), number)),
            Self::Delete(key) => drop(contents.remove(key)),
            Self::Compact | Self::Rebuild => {}
        }
    }

    fn perform(&self, number: u64, cache: &MmapCache) {
        match self {
            Self::Put(key) => drop(cache.put(key, &value(key, number)).expect("a put")),
            Self::Delete(key) => drop(cache.delete(key).expect("a deletion")),
            Self::Compact => cache.compact().expect("a compaction"),
            Self::Rebuild => {
                let mut writer = cache.writer().expect("the writer");
                let items: Vec<_> = cache.iter().expect("a listing").collect();
                let items = items.into_iter().map(|item| item.expect("an item"));
                let same = writer.atomic_rebuild(items.map(Ok::<_, Infallible>));
                same.expect("a rebuild");
            }
        }
    }
}

fn ack_log(cache: &Path, writer: u64) -> AckLog {
    AckLog::open(&cache.with_file_name(format!("log {writer}")))
}

fn writes(part: &Part) {
    let writer = part.numbers[0];
    let cache = MmapCache::open(&part.path).expect("the cache");
    let log = ack_log(&part.path, writer);
    let dismissed = dismissal();
    say("ready");
    let mut number = log.read(NEXT);
    while !dismissed.load(Ordering::Relaxed) {
        Operation::of(writer, number).perform(number, &cache);
        number += 1;
        log.write(NEXT, number);
    }
}

fn options(is_tight: bool) -> Options {
    if is_tight { tight() } else { Options::new() }
}

fn look(path: &Path) -> MmapCache {
    let mut options = Options::new();
    options.read_only(true).open(path).expect("the cache")
}

fn contents_of(cache: &MmapCache) -> Contents {
    let items = cache.iter().expect("a listing").map(|item| {
        let (key, value) = item.expect("an item");
        let number = number_of(&key, &value);
        (key, number)
    });
    items.collect()
}

#[track_caller]
fn assert_clean(cache: &MmapCache) {
    let report = cache.verify().run().expect("a check");
    assert!(report.is_clean(), "{:?}", report.problems);
    assert!(report.totals_compared);
    assert_eq!(report.entries, cache.len());
}

/// The acknowledged state of four writers at two moments.
struct Checker {
    /// The contents of each writer's keys, and the number of its next operation.
    known: Vec<(Contents, u64)>,
}

impl Checker {
    fn new() -> Self {
        Self {
            known: (0..WRITERS).map(|_| (Contents::new(), 0)).collect(),
        }
    }

    /// Asserts that each writer's keys in the copy are as they were after one of its operations:
    /// one that ended after the copy began, and began before the copy was made.
    fn check_copy(&mut self, found: &Contents, before: &[u64], after: &[u64]) {
        let mut all = 0;
        for (writer, (known, next)) in (0..).zip(&mut self.known) {
            let owned = |key: &[u8]| {
                let number = std::str::from_utf8(key).ok().and_then(|key| {
                    let digits = key.strip_prefix("comes ")?.split(',').next()?;
                    digits.parse::<u64>().ok()
                });
                number.is_some_and(|number| number / KEYS == writer)
            };
            let found: Contents = found
                .iter()
                .filter(|(key, _)| owned(key))
                .map(|(key, &number)| (key.clone(), number))
                .collect();
            all += found.len();
            while *next < before[writer as usize] {
                Operation::of(writer, *next).apply(*next, known);
                *next += 1;
            }
            let (mut then, mut number) = (known.clone(), *next);
            while then != found {
                let end = after[writer as usize];
                assert!(
                    number <= end,
                    "writer {writer}: not as at any moment from {} to {end}",
                    before[writer as usize]
                );
                Operation::of(writer, number).apply(number, &mut then);
                number += 1;
            }
        }
        assert_eq!(all, found.len(), "a key that no writer has");
    }
}

/// Copies again and again while the writers work. Returns how many operations there were.
fn copy_beside_writers(is_tight: bool, copies: u32) -> u64 {
    let scratch = Scratch::new();
    let cache = options(is_tight).open(&scratch.path).expect("a new cache");
    let logs: Vec<_> = (0..WRITERS)
        .map(|one| ack_log(&scratch.path, one))
        .collect();
    let next = || logs.iter().map(|log| log.read(NEXT)).collect::<Vec<_>>();
    let start = |writer| Child::start("writes", &scratch.path, &[writer]);
    let mut writers: Vec<_> = (0..WRITERS).map(start).collect();
    writers.iter_mut().for_each(|writer| writer.expect("ready"));
    let mut checker = Checker::new();
    let path = scratch.path.with_file_name("copy");
    for turn in 0..copies {
        std::thread::sleep(Duration::from_millis(20));
        let source = if turn.is_multiple_of(2) {
            look(&scratch.path)
        } else {
            MmapCache::open(&scratch.path).expect("the cache")
        };
        let before = next();
        let copied = source.backup().to(&path).expect("a copy");
        let after = next();
        assert_eq!(copied.damaged_bytes, 0);
        let copy = look(&path);
        assert_clean(&copy);
        let found = contents_of(&copy);
        assert_eq!(found.len() as u64, copied.entries);
        let counted = copied.entries_before.unwrap_or(copied.entries);
        assert_eq!(counted, copied.entries);
        checker.check_copy(&found, &before, &after);
        goes_on(&path);
        assert!(writers.iter_mut().all(Child::is_alive), "a writer gave up");
        remove(&path);
    }
    writers.into_iter().for_each(|writer| drop(writer.finish()));
    keeps_versions(&cache, &path);
    next().iter().sum()
}

/// Asserts that a copy can be written like any cache, and stays valid.
fn goes_on(path: &Path) {
    let copy = MmapCache::open(path).expect("the copy");
    for number in 0..200 {
        let key = passing(number).into_bytes();
        copy.put(&key, &value(&key, 7)).expect("a put");
        copy.delete(passing(number / 2).as_bytes())
            .expect("a deletion");
    }
    copy.compact().expect("a compaction");
    assert_clean(&copy);
}

/// Asserts that without writers the copy has the same entries, versions included.
fn keeps_versions(cache: &MmapCache, path: &Path) {
    cache.backup().to(path).expect("a copy");
    let entries = |cache: &MmapCache| {
        let entries = cache.entries().expect("a listing");
        let entries = entries.map(|item| item.expect("an entry"));
        entries.collect::<BTreeMap<_, _>>()
    };
    assert_eq!(entries(&look(path)), entries(cache));
}

/// Removes all files of a cache.
fn remove(path: &Path) {
    let name = path.file_name().expect("a name").to_str().expect("text");
    for entry in std::fs::read_dir(path.parent().expect("a directory")).expect("a directory") {
        let entry = entry.expect("a file");
        if entry.file_name().to_str().expect("text").starts_with(name) {
            std::fs::remove_file(entry.path()).expect("a file that can go");
        }
    }
}

// The copy has the state of each writer at one moment.
#[test]
fn copy_beside_writers_is_consistent() {
    for (is_tight, copies) in [(true, 8), (false, 4)] {
        let operations = copy_beside_writers(is_tight, copies);
        println!("tight: {is_tight}: {operations} operations, {copies} copies");
        assert!(operations > 1_000, "{operations} operations");
    }
}

/// The same for minutes.
#[test]
#[ignore = "a soak: minutes of copies beside four writers; see docs/testing.md"]
fn hundreds_of_copies_are_consistent() {
    for is_tight in [true, false] {
        let operations = copy_beside_writers(is_tight, 300);
        println!("tight: {is_tight}: {operations} operations, 300 copies");
    }
}

fn copies(part: &Part) {
    let cache = look(&part.path);
    say("ready");
    let path = part.path.with_file_name("copy");
    cache.backup().to(path).expect("a copy");
    say("done");
    child::hear();
}

// A killed copier leaves no cache, and the next copy is complete.
#[test]
fn killed_copier_leaves_no_cache() {
    let scratch = Scratch::new();
    let cache = tight().open(&scratch.path).expect("a new cache");
    let mut writer = Child::start("writes", &scratch.path, &[0]);
    writer.expect("ready");
    let log = ack_log(&scratch.path, 0);
    while log.read(NEXT) < 2_000 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let path = scratch.path.with_file_name("copy");
    let (mut killed, mut random) = (0, Random::new(5));
    for _ in 0..20 {
        let mut copier = Child::start("copies", &scratch.path, &[]);
        copier.expect("ready");
        std::thread::sleep(Duration::from_micros(random.below(25_000)));
        copier.kill();
        let mut options = Options::new();
        match options.read_only(true).open(&path) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound) => {
                killed += 1;
                cache.backup().to(&path).expect("the next copy");
            }
            Ok(_) => {}
            Err(error) => panic!("half a copy: {error}"),
        }
        assert_clean(&look(&path));
        contents_of(&look(&path));
        goes_on(&path);
        remove(&path);
    }
    println!("{killed} copies were killed");
    assert!(killed > 0 && writer.is_alive());
    writer.finish();
}

fn interns(part: &Part) {
    let labels = Labels::open(&part.path).expect("the labels");
    let dismissed = dismissal();
    say("ready");
    // Ends, so that a reader of all of them also comes to an end.
    for number in 0..20_000 {
        let label = format!("label {} of {}", number, part.numbers[0]);
        labels.get_or_intern(label).expect("an id");
        if dismissed.load(Ordering::Relaxed) {
            break;
        }
    }
}

// New labels in the copy get the ids that follow.
#[test]
fn copied_labels_keep_their_ids() {
    let scratch = Scratch::new();
    let labels = Labels::open_with(&scratch.path, &tight()).expect("new labels");
    let start = |which| Child::start("interns", &scratch.path, &[which]);
    let mut children: Vec<_> = (0..2).map(start).collect();
    children.iter_mut().for_each(|child| child.expect("ready"));
    let path = scratch.path.with_file_name("copy");
    for _ in 0..8 {
        let before = labels.len();
        let copied = labels.backup().to(&path).expect("a copy");
        let copy = Labels::open_with(&path, &Options::new()).expect("the copy");
        assert!(copy.verify().run().expect("a check").is_clean());
        // One label that is counted may not be readable yet.
        assert!(copied.entries + 1 >= before);
        assert_eq!(copied.entries, copy.len());
        for listed in copy.iter().expect("a listing") {
            let (id, label) = listed.expect("a label");
            assert_eq!(labels.get(&label).expect("a lookup"), Some(id));
        }
        for number in 0..50 {
            let fresh = copy
                .get_or_intern(format!("fresh {number}"))
                .expect("an id");
            // The copy lacks only labels that the original interned during the copy.
            let next = copied.entries..=labels.len();
            assert!(next.contains(&(u64::from(fresh.number()) - number)));
        }
        assert!(copy.verify().run().expect("a check").is_clean());
        drop(copy);
        remove(&path);
    }
    children.into_iter().for_each(|child| drop(child.finish()));
}

// Labels with a limit can be copied, and the copy can be filled up to the limit.
#[test]
fn copied_labels_keep_their_limit() {
    let scratch = Scratch::new();
    let mut options = Options::new();
    let labels = Labels::open_with(&scratch.path, options.max_entries(20)).expect("new labels");
    for number in 0..10 {
        labels
            .get_or_intern(format!("label {number}"))
            .expect("an id");
    }
    let path = scratch.path.with_file_name("copy");
    labels.backup().to(&path).expect("a copy");
    let copy = Labels::open(&path).expect("the copy");
    for number in 10..20 {
        let id = copy
            .get_or_intern(format!("label {number}"))
            .expect("an id");
        assert_eq!(id, LabelId::new(number));
    }
    assert!(matches!(
        copy.get_or_intern("one more").as_ref().map_err(Error::kind),
        Err(ErrorKind::IdsExhausted { .. })
    ));
    assert!(copy.verify().run().expect("a check").is_clean());
}

#[test]
fn copy_stays_append_only() {
    let scratch = Scratch::new();
    let cache = tight()
        .append_only(true)
        .open(&scratch.path)
        .expect("a new cache");
    for number in 0..300 {
        cache
            .put(passing(number).as_bytes(), b"stays")
            .expect("a put");
    }
    let path = scratch.path.with_file_name("copy");
    cache.backup().to(&path).expect("a copy");
    let copy = MmapCache::open(&path).expect("the copy");
    assert!(copy.is_append_only());
    let refused = copy.delete(passing(3).as_bytes());
    assert!(matches!(
        refused.as_ref().map_err(Error::kind),
        Err(ErrorKind::AppendOnly)
    ));
    copy.put(b"one more", b"1").expect("a put");
    assert_eq!(copy.len(), 301);
    assert_clean(&copy);
}

// A copy may be on another file system, and its heap at another path.
#[test]
fn copy_may_cross_file_systems() {
    let scratch = Scratch::new();
    let cache = tight().open(&scratch.path).expect("a new cache");
    for number in 0..300 {
        let key = passing(number).into_bytes();
        cache.put(&key, &value(&key, number)).expect("a put");
    }
    let memory = Path::new("/dev/shm");
    let other = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    let other = other.expect("a directory");
    let mut options = Options::new();
    options.heap_path(other.path().join("records"));
    let path = other.path().join("copy");
    let mut told = Vec::new();
    let copied = cache
        .backup()
        .options(&options)
        .on_progress(|progress| told.push(progress))
        .to(&path)
        .expect("a copy");
    assert_eq!(copied.entries, 300);
    let last = told.last().expect("something was told");
    assert_eq!(last.total_bytes, 2 * copied.heap_bytes);
    assert!(last.records == copied.records && last.done_bytes == last.total_bytes);
    assert!(other.path().join("records.1").exists());
    let copy = options.open(&path).expect("the copy");
    assert_eq!(contents_of(&copy), contents_of(&cache));
}

// A copy without room leaves nothing, and succeeds when there is room.
#[test]
fn full_disk_copy_leaves_nothing() {
    let scratch = Scratch::new();
    let cache = Options::new().open(&scratch.path).expect("a new cache");
    for number in 0..300 {
        cache
            .put(passing(number).as_bytes(), &[7; 10_000])
            .expect("a put");
    }
    for kind in [Kind::Tmpfs, Kind::Ext4(4096)] {
        let Some(volume) = Volume::mount(kind, 16 << 20) else {
            return;
        };
        for left in [0, 100_000, 1 << 20, 2_900_000] {
            volume.fill(left);
            let copied = cache.backup().to(volume.cache());
            assert!(
                matches!(
                    copied.as_ref().map_err(Error::kind),
                    Err(ErrorKind::DiskFull { .. })
                ),
                "{left}: {copied:?}"
            );
            let names = volume.listing().into_iter().map(|(name, _)| name);
            assert!(names.clone().all(|name| !name.ends_with(".new")), "{left}");
            assert!(!volume.cache().exists());
            volume.make_room();
        }
        cache.backup().to(volume.cache()).expect("a copy");
        let copy = look(&volume.cache());
        assert_clean(&copy);
        assert_eq!(copy.len(), 300);
    }
}
