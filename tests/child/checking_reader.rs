//! A process that reads in every way what a process group writes, and checks every answer.
//!
//! It knows which keys always exist, and that neither values nor versions of a key go back.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mmapcache::{Error, ErrorKind, MmapCache, Options, ValueRef, Version};

use super::contents::{Random, parse_key, passing, shared, staying};
use super::expected_state::{PASSING, ParsedValue, SHARED, STAYING, WRITERS, owner};
use super::worker::TestDir;
use super::{Part, dismissal, say};

/// Positions of the counts in the log.
pub(crate) const VALUES: usize = 0;
pub(crate) const LISTINGS: usize = 1;
pub(crate) const SUPERSEDED: usize = 2;
pub(crate) const CHECKS: usize = 3;

/// Keys that are looked up in each round.
const LOOKS: u64 = 400;

/// Each reader opens the cache in its own way.
fn open(dir: &TestDir, reader: u64) -> MmapCache {
    let mut options = Options::new();
    options.create(false);
    let path = match reader {
        0 => dir.cache(),
        1 => {
            options.read_only(true);
            dir.cache()
        }
        2 => {
            let at_once = Duration::ZERO;
            options.read_only(true).staleness_check_interval(at_once);
            dir.linked(true)
        }
        _ => dir.linked(false),
    };
    options.open(path).expect("the cache")
}

/// Reads until its input is closed or it is killed; the first number says which reader it is. The
/// last reader opens the cache again for each round.
pub(crate) fn read_until_closed(part: &Part) {
    let which = part.numbers[0];
    let dismissed = dismissal();
    let dir = TestDir(part.path.clone());
    let log = dir.ack_log("reader", which);
    let mut cache = open(&dir, which);
    let mut reader = CheckingReader::new(which);
    let before: [u64; 4] = std::array::from_fn(|at| log.read(at));
    say("ready");
    while !dismissed.load(Ordering::Relaxed) {
        reader.round(&cache);
        for (at, count) in reader.counts.into_iter().enumerate() {
            log.write(at, before[at] + count);
        }
        if which == 3 {
            cache = open(&dir, which);
        }
    }
    say("done");
}

/// What was last read of a key.
#[derive(Clone, Debug)]
struct Seen {
    /// The number of each writer's newest value.
    numbers: [u64; WRITERS as usize],
    tallies: [u64; WRITERS as usize],
    number: u64,
    version: Version,
}

/// What a reader has read so far, which limits what it may read next.
#[derive(Debug)]
pub(crate) struct CheckingReader {
    random: Random,
    seen: HashMap<Vec<u8>, Seen>,
    changes: u64,
    rounds: u64,
    /// Values borrowed from the mapping, and copies of them.
    in_place: Vec<(ValueRef, Vec<u8>)>,
    counts: [u64; 4],
}

impl CheckingReader {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            seen: HashMap::new(),
            changes: 0,
            rounds: 0,
            in_place: Vec::new(),
            counts: [0; 4],
        }
    }

    pub(crate) fn round(&mut self, cache: &MmapCache) {
        self.rounds += 1;
        for _ in 0..LOOKS {
            let key = self.some_key();
            match self.random.below(5) {
                0 => self.get(cache, &key),
                1 => self.mtime(cache, &key),
                2 => self.get_ref(cache, &key),
                _ => self.entry(cache, &key),
            }
        }
        self.hold_in_place();
        self.counts_grow(cache);
        match self.rounds % 8 {
            0..4 => self.list_entries(cache),
            4 | 5 => self.list_items(cache),
            6 => self.list_keys(cache),
            _ => self.check(cache),
        }
    }

    fn some_key(&mut self) -> Vec<u8> {
        match self.random.below(4) {
            0 => shared(self.random.below(SHARED)),
            1 => staying(self.random.below(STAYING * WRITERS)),
            _ => passing(self.random.below(PASSING * WRITERS)),
        }
        .into_bytes()
    }

    fn get(&mut self, cache: &MmapCache, key: &[u8]) {
        match cache.get(key).expect("a lookup") {
            Some(value) => self.saw(key, &value, None),
            None => assert_may_be_absent(key),
        }
        if always_exists(key) {
            assert!(cache.contains(key).expect("a lookup"));
        }
    }

    fn entry(&mut self, cache: &MmapCache, key: &[u8]) {
        match cache.entry(key).expect("an entry that is not damaged") {
            Some(entry) => self.saw(key, entry.value(), Some(entry.version())),
            None => assert_may_be_absent(key),
        }
    }

    fn mtime(&mut self, cache: &MmapCache, key: &[u8]) {
        match cache.version(key).expect("a lookup") {
            Some(version) => {
                let Some(seen) = self.seen.get_mut(key) else {
                    return;
                };
                assert!(version >= seen.version, "{version} after {seen:?}");
            }
            None => assert_may_be_absent(key),
        }
    }

    #[expect(
        unsafe_code,
        reason = "only this test's processes write to these files"
    )]
    fn get_ref(&mut self, cache: &MmapCache, key: &[u8]) {
        // SAFETY: the cache's files are the test's own, and written by this crate alone.
        let found = unsafe { cache.get_ref(key) };
        if let Err(error) = &found
            && matches!(error.kind(), ErrorKind::Unsupported { .. })
        {
            // Nothing is lent of a cache whose values are overwritten.
            assert!(cache.stats().expect("the counters").in_place, "{error}");
            return;
        }
        match found.expect("a lookup") {
            Some(value) => {
                self.saw(key, &value, Some(value.version()));
                if self.in_place.len() < 8 {
                    let copy = value.to_vec();
                    self.in_place.push((value, copy));
                }
            }
            None => assert_may_be_absent(key),
        }
    }

    /// Asserts that borrowed values never change, whatever becomes of their entries.
    fn hold_in_place(&mut self) {
        for (value, copy) in &self.in_place {
            assert_eq!(&value[..], copy, "a value that changed where it lies");
        }
        if self.rounds.is_multiple_of(16) {
            self.in_place.clear();
        }
    }

    fn counts_grow(&mut self, cache: &MmapCache) {
        let changes = cache.change_count();
        let before = self.changes;
        assert!(changes >= before, "{changes} changes after {before}");
        self.changes = changes;
        let always = STAYING * WRITERS + SHARED;
        assert!(cache.len() >= always, "{} entries", cache.len());
    }

    /// Checks a value: through no handle does a key go back to an older one.
    fn saw(&mut self, key: &[u8], value: &[u8], version: Option<Version>) {
        self.counts[VALUES] += 1;
        let parsed = ParsedValue::of(key, value);
        let writer = parsed.writer() as usize;
        let name = String::from_utf8_lossy(key);
        let Some(seen) = self.seen.get_mut(key) else {
            let mut numbers = [0; WRITERS as usize];
            numbers[writer] = parsed.number;
            let seen = Seen {
                numbers,
                tallies: parsed.tallies,
                number: parsed.number,
                version: version.unwrap_or(Version::from_nanos(0)),
            };
            self.seen.insert(key.to_owned(), seen);
            return;
        };
        assert!(
            parsed.number >= seen.numbers[writer],
            "{name:?}: {parsed:?} after {seen:?}"
        );
        let back = parsed.tallies.iter().zip(&seen.tallies).any(|(a, b)| a < b);
        assert!(!back, "{name:?}: {parsed:?} after {seen:?}");
        if let Some(version) = version {
            let known = version == seen.version;
            assert!(
                version >= seen.version,
                "{name:?}: {version} after {seen:?}"
            );
            assert!(
                !known || parsed.number == seen.number,
                "{name:?}: {parsed:?} and {seen:?} of one version"
            );
            seen.version = version;
            seen.number = parsed.number;
        }
        seen.numbers[writer] = parsed.number;
        seen.tallies = parsed.tallies;
    }

    fn list_entries(&mut self, cache: &MmapCache) {
        let mut listing = Listing::default();
        for item in cache.entries().expect("a listing") {
            match item {
                Ok((key, entry)) => {
                    self.saw(&key, entry.value(), Some(entry.version()));
                    listing.add(&key);
                }
                Err(error) => return self.ended(&error),
            }
        }
        self.complete(&listing);
    }

    fn list_items(&mut self, cache: &MmapCache) {
        let mut listing = Listing::default();
        let mut items = cache.iter().expect("a listing");
        while let Some(item) = items.next_borrowed() {
            match item {
                Ok((key, value)) => {
                    self.saw(key, value, None);
                    listing.add(key);
                }
                Err(error) => return self.ended(&error),
            }
        }
        self.complete(&listing);
    }

    fn list_keys(&mut self, cache: &MmapCache) {
        let mut listing = Listing::default();
        for key in cache.keys().expect("a listing") {
            match key {
                Ok(key) => listing.add(&key),
                Err(error) => return self.ended(&error),
            }
        }
        self.complete(&listing);
    }

    fn complete(&mut self, listing: &Listing) {
        listing.assert_each_once();
        self.counts[LISTINGS] += 1;
    }

    fn ended(&mut self, error: &Error) {
        assert!(matches!(error.kind(), ErrorKind::Superseded), "{error:?}");
        self.counts[SUPERSEDED] += 1;
    }

    /// Runs a full check, which takes no lock and must find no fault beside writers.
    fn check(&mut self, cache: &MmapCache) {
        let report = cache.verify().run().expect("a check");
        assert!(report.is_clean(), "{:?}", report.problems);
        self.counts[CHECKS] += 1;
    }
}

fn always_exists(key: &[u8]) -> bool {
    parse_key(key).is_some_and(|(word, _)| word != "comes")
}

#[track_caller]
fn assert_may_be_absent(key: &[u8]) {
    let name = String::from_utf8_lossy(key);
    assert!(!always_exists(key), "{name:?} is always there, and was not");
}

/// The keys of one listing.
#[derive(Debug, Default)]
pub(crate) struct Listing(HashMap<Vec<u8>, u32>);

impl Listing {
    pub(crate) fn add(&mut self, key: &[u8]) {
        // Panics on a key that no writer writes.
        owner(key);
        *self.0.entry(key.to_owned()).or_default() += 1;
    }

    /// Asserts that each permanent key came exactly once.
    pub(crate) fn assert_each_once(&self) {
        let always = (0..STAYING * WRITERS).map(staying);
        for key in always.chain((0..SHARED).map(shared)) {
            let times = self.0.get(key.as_bytes()).copied();
            assert_eq!(times, Some(1), "times that {key:?} was listed");
        }
    }
}
