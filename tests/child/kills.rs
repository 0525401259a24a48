//! Kills single writers during their work, and checks what they leave.
//!
//! The child's operations follow from their numbers. It acknowledges them one by one, or a batch at
//! its end, so that kills do not only hit acknowledgements. The parent therefore knows what the
//! cache must contain: everything that was acknowledged, and then some of the following operations,
//! in their order.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use mmapcache::{MmapCache, Options, Writer};

use super::contents::{Random, number_of, passing, value};
use super::{Child, Part, say, tight};

const KEYS: u64 = 1_200;
/// Operations that the child does under one lock and acknowledges together; then it does as many
/// one by one.
const BATCH: u64 = 32;

/// What a cache contains: the number of each key's value.
type Contents = BTreeMap<Vec<u8>, u64>;

#[derive(Debug)]
enum Operation {
    Put(u64),
    Delete(u64),
    /// Replaces everything by that many keys with new values.
    Rebuild(u64),
    Compact,
    Flush,
}

impl Operation {
    /// Returns the operation with this number, which determines all of it but the values' number.
    fn of(number: u64) -> Self {
        let mut random = Random::new(number.wrapping_mul(0xA5A5_5A5A_1234_5677));
        let key = random.below(KEYS);
        match random.below(400) {
            0 => Self::Rebuild(random.below(100)),
            1 => Self::Compact,
            2 => Self::Flush,
            3..150 => Self::Delete(key),
            _ => Self::Put(key),
        }
    }

    fn apply(&self, number: u64, contents: &mut Contents) {
        match *self {
            Self::Put(key) => {
                contents.insert(passing(key).into(), number);
            }
            Self::Delete(key) => {
                contents.remove(passing(key).as_bytes());
            }
            Self::Rebuild(keys) => {
                *contents = (0..keys).map(|key| (passing(key).into(), number)).collect();
            }
            Self::Compact | Self::Flush => {}
        }
    }

    fn perform(&self, number: u64, cache: &MmapCache) -> mmapcache::Result<()> {
        match *self {
            Self::Put(key) => {
                let key = passing(key);
                let value = value(key.as_bytes(), number);
                cache.put(key.as_bytes(), &value).map(drop)
            }
            Self::Delete(key) => cache.delete(passing(key).as_bytes()).map(drop),
            Self::Rebuild(keys) => cache.atomic_rebuild((0..keys).map(|key| {
                let key = passing(key);
                let value = value(key.as_bytes(), number);
                Ok::<_, Infallible>((key, value))
            })),
            Self::Compact => cache.compact(),
            Self::Flush => cache.flush(),
        }
    }

    /// As [`Operation::perform`], or `None` if a writer cannot do it.
    fn perform_held(&self, number: u64, writer: &mut Writer<'_>) -> Option<()> {
        match *self {
            Self::Put(key) => {
                let key = passing(key);
                let value = value(key.as_bytes(), number);
                writer.put(key.as_bytes(), &value).map(drop)
            }
            Self::Delete(key) => writer.delete(passing(key).as_bytes()).map(drop),
            Self::Rebuild(_) | Self::Compact | Self::Flush => return None,
        }
        .map(Some)
        .expect("an operation")
    }
}

/// Performs operations from the first number on until it is killed, and acknowledges each, or each
/// batch, with the next number. The second number selects the tight geometry.
pub(crate) fn writes(part: &Part) {
    let &[mut number, is_tight] = part.numbers.as_slice() else {
        panic!("two numbers");
    };
    let cache = options(is_tight == 1).open(&part.path).expect("the cache");
    say("ready");
    loop {
        number = write_batch(&cache, number);
        say(number);
        let done = Operation::of(number).perform(number, &cache);
        done.expect("an operation");
        number += 1;
        say(number);
    }
}

/// Performs operations through one writer while it can. Returns the number of the next one.
fn write_batch(cache: &MmapCache, first: u64) -> u64 {
    let mut number = first;
    let mut writer = cache.writer().expect("the writer");
    while (number / BATCH).is_multiple_of(2) {
        let done = Operation::of(number).perform_held(number, &mut writer);
        if done.is_none() {
            break;
        }
        number += 1;
    }
    number
}

fn options(is_tight: bool) -> Options {
    if is_tight { tight() } else { Options::new() }
}

/// A cache whose writers are killed, and what it must contain.
#[derive(Debug)]
struct KillTest<'a> {
    path: &'a Path,
    is_tight: bool,
    /// Opened before the first kill, and used after each.
    old: MmapCache,
    contents: Contents,
    /// Number of the next operation.
    next: u64,
    /// Kills after which an unacknowledged operation was found done.
    unacknowledged: u64,
}

/// Kills a writer `rounds` times. Returns how many operations were acknowledged, and after how many
/// kills one more was found done.
pub(crate) fn survive(path: &Path, is_tight: bool, rounds: u64, seed: u64) -> (u64, u64) {
    let mut test = KillTest {
        path,
        is_tight,
        old: options(is_tight).open(path).expect("a new cache"),
        contents: Contents::new(),
        next: 0,
        unacknowledged: 0,
    };
    let mut random = Random::new(seed);
    let mut longest = 60_000;
    for _ in 0..rounds {
        let (micros, before) = (random.below(longest), test.next);
        test.round(Duration::from_micros(micros));
        // Under an emulator the first operation may take longer.
        if micros > longest / 2 && test.next < before + 3 {
            longest = (2 * longest).min(4_000_000);
        }
    }
    test.assert_no_leftovers();
    (test.next, test.unacknowledged)
}

impl KillTest<'_> {
    fn round(&mut self, pause: Duration) {
        let numbers = [self.next, u64::from(self.is_tight)];
        let mut child = Child::start("writes until killed", self.path, &numbers);
        child.expect("ready");
        let last = child.kill_after(pause);
        let acknowledged = last.map_or(self.next, |last| last.parse().expect("a number"));
        while self.next < acknowledged {
            self.advance();
        }
        self.check_killed_writer(acknowledged);
        // The next write completes what the killed one left: one more operation may be present.
        self.old.put(b"after", b"").expect("a write after a kill");
        self.old.delete(b"after").expect("a write after a kill");
        self.check_killed_writer(acknowledged);
        self.unacknowledged += u64::from(self.next > acknowledged);
        self.is_clean();
        self.write_once_more();
        self.is_clean();
    }

    /// Applies the next operation to what the cache must contain.
    fn advance(&mut self) {
        Operation::of(self.next).apply(self.next, &mut self.contents);
        self.next += 1;
    }

    /// Asserts that the cache has everything acknowledged, and after it only a part of the next
    /// batch.
    fn check_killed_writer(&mut self, acknowledged: u64) {
        let found = contents_of(&self.old);
        let before = self.contents.clone();
        while found != self.contents {
            self.advance();
            let (lost, foreign) = differences(&found, &before);
            let under_way = self.next <= acknowledged + BATCH;
            assert!(
                under_way,
                "after {acknowledged} operations: lost {lost:?}, foreign {foreign:?}"
            );
        }
        let fresh = MmapCache::open(self.path).expect("the cache");
        assert_eq!(
            contents_of(&fresh),
            self.contents,
            "as a new handle sees it"
        );
        self.all_found_by(&fresh);
        self.all_found_by(&self.old);
    }

    fn all_found_by(&self, cache: &MmapCache) {
        for key in (0..KEYS).map(passing) {
            let found = cache.get(key.as_bytes()).expect("a lookup");
            let found = found.map(|value| number_of(key.as_bytes(), &value));
            let expected = self.contents.get(key.as_bytes()).copied();
            assert_eq!(found, expected, "{key:?}");
        }
    }

    /// Writes once more with the same handle.
    fn write_once_more(&mut self) {
        let operation = Operation::of(self.next);
        let done = operation.perform(self.next, &self.old);
        done.expect("an operation after a kill");
        self.advance();
        assert_eq!(contents_of(&self.old), self.contents, "one operation later");
    }

    fn is_clean(&self) {
        let report = self.old.verify().run().expect("a check");
        assert!(report.is_clean(), "{:?}", report.problems);
        assert!(report.totals_compared);
        assert_eq!(report.entries, self.contents.len() as u64);
        assert_eq!(self.old.len(), report.entries);
    }

    /// Asserts that a completed rebuild removes what interrupted ones left.
    fn assert_no_leftovers(&self) {
        self.old.clear().expect("an empty cache");
        let directory = self.path.parent().expect("a directory");
        let files = std::fs::read_dir(directory).expect("a directory");
        let names: Vec<_> = files
            .map(|file| file.expect("a file").file_name())
            .collect();
        assert!(names.len() <= 4, "{names:?}");
    }
}

/// Returns the keys whose value is missing on one side or the other.
fn differences<'a>(
    found: &'a Contents,
    expected: &'a Contents,
) -> (Vec<Named<'a>>, Vec<Named<'a>>) {
    let missing = |from: &Contents, of: &'a Contents| {
        of.iter()
            .filter(|&(key, number)| from.get(key) != Some(number))
            .map(|(key, &number)| (String::from_utf8_lossy(key), number))
            .collect()
    };
    (missing(found, expected), missing(expected, found))
}

/// A readable key and the number of its value.
type Named<'a> = (std::borrow::Cow<'a, str>, u64);

fn contents_of(cache: &MmapCache) -> Contents {
    let mut contents = Contents::new();
    for item in cache.iter().expect("a listing") {
        let (key, value) = item.expect("an item");
        let number = number_of(&key, &value);
        let before = contents.insert(key, number);
        assert_eq!(before, None, "a key that is listed twice");
    }
    contents
}
