//! A process that reads what a crew writes, in every way that there is, and believes nothing.
//!
//! It knows which keys always exist, that what a value says never goes back, and that versions do
//! not either.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mmapcache::{Error, ErrorKind, MmapCache, Options, ValueRef, Version};

use super::contents::{Random, parse_key, passing, shared, staying};
use super::ledger::{PASSING, SHARED, STAYING, Said, WRITERS, owner};
use super::worker::Site;
use super::{Part, dismissal, say};

/// Where a logbook has what.
pub(crate) const VALUES: usize = 0;
pub(crate) const LISTINGS: usize = 1;
pub(crate) const SUPERSEDED: usize = 2;
pub(crate) const CHECKS: usize = 3;

/// Keys that are looked up in each round.
const LOOKS: u64 = 400;

/// Each reader opens the cache in a way of its own.
fn open(site: &Site, reader: u64) -> MmapCache {
    let mut options = Options::new();
    options.create(false);
    let path = match reader {
        0 => site.cache(),
        1 => {
            options.read_only(true);
            site.cache()
        }
        2 => {
            let at_once = Duration::ZERO;
            options.read_only(true).staleness_check_interval(at_once);
            site.linked(true)
        }
        _ => site.linked(false),
    };
    options.open(path).expect("the cache")
}

/// Reads until it is dismissed or killed, as the reader that the number names. The last one opens
/// the cache again for each round.
pub(crate) fn watches(part: &Part) {
    let reader = part.numbers[0];
    let dismissed = dismissal();
    let site = Site(part.path.clone());
    let log = site.logbook("reader", reader);
    let mut cache = open(&site, reader);
    let mut witness = Witness::new(reader);
    let before: [u64; 4] = std::array::from_fn(|which| log.read(which));
    say("ready");
    while !dismissed.load(Ordering::Relaxed) {
        witness.round(&cache);
        for (which, count) in witness.counts.into_iter().enumerate() {
            log.write(which, before[which] + count);
        }
        if reader == 3 {
            cache = open(&site, reader);
        }
    }
    say("done");
}

/// What was seen of a key last.
#[derive(Clone, Debug)]
struct Seen {
    /// The number of the newest value of each writer.
    numbers: [u64; WRITERS as usize],
    tallies: [u64; WRITERS as usize],
    number: u64,
    version: Version,
}

/// What a reader has seen so far, from which it knows what it may see next.
#[derive(Debug)]
pub(crate) struct Witness {
    random: Random,
    seen: HashMap<Vec<u8>, Seen>,
    changes: u64,
    rounds: u64,
    /// Values that are read where they lie, and copies of them.
    in_place: Vec<(ValueRef, Vec<u8>)>,
    counts: [u64; 4],
}

impl Witness {
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
        match cache.get(key).expect("a look") {
            Some(value) => self.saw(key, &value, None),
            None => may_be_absent(key),
        }
        if always_exists(key) {
            assert!(cache.contains(key).expect("a look"));
        }
    }

    fn entry(&mut self, cache: &MmapCache, key: &[u8]) {
        match cache.entry(key).expect("an entry that is not damaged") {
            Some(entry) => self.saw(key, entry.value(), Some(entry.version())),
            None => may_be_absent(key),
        }
    }

    fn mtime(&mut self, cache: &MmapCache, key: &[u8]) {
        match cache.version(key).expect("a look") {
            Some(version) => {
                let Some(seen) = self.seen.get_mut(key) else {
                    return;
                };
                assert!(version >= seen.version, "{version} after {seen:?}");
            }
            None => may_be_absent(key),
        }
    }

    #[expect(unsafe_code, reason = "nobody but the crew writes to these files")]
    fn get_ref(&mut self, cache: &MmapCache, key: &[u8]) {
        // SAFETY: the cache's files are the test's own, and written by this crate alone.
        let found = unsafe { cache.get_ref(key) };
        match found.expect("a look") {
            Some(value) => {
                self.saw(key, &value, Some(value.version()));
                if self.in_place.len() < 8 {
                    let copy = value.to_vec();
                    self.in_place.push((value, copy));
                }
            }
            None => may_be_absent(key),
        }
    }

    /// Values that are read where they lie stay as they were, whatever becomes of their entries.
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

    /// Whatever a value says never goes back, whichever handle shows it.
    fn saw(&mut self, key: &[u8], value: &[u8], version: Option<Version>) {
        self.counts[VALUES] += 1;
        let said = Said::of(key, value);
        let writer = said.writer() as usize;
        let name = String::from_utf8_lossy(key);
        let Some(seen) = self.seen.get_mut(key) else {
            let mut numbers = [0; WRITERS as usize];
            numbers[writer] = said.number;
            let seen = Seen {
                numbers,
                tallies: said.tallies,
                number: said.number,
                version: version.unwrap_or(Version::from_nanos(0)),
            };
            self.seen.insert(key.to_owned(), seen);
            return;
        };
        assert!(
            said.number >= seen.numbers[writer],
            "{name:?}: {said:?} after {seen:?}"
        );
        let back = said.tallies.iter().zip(&seen.tallies).any(|(a, b)| a < b);
        assert!(!back, "{name:?}: {said:?} after {seen:?}");
        if let Some(version) = version {
            let known = version == seen.version;
            assert!(
                version >= seen.version,
                "{name:?}: {version} after {seen:?}"
            );
            assert!(
                !known || said.number == seen.number,
                "{name:?}: {said:?} and {seen:?} of one version"
            );
            seen.version = version;
            seen.number = said.number;
        }
        seen.numbers[writer] = said.number;
        seen.tallies = said.tallies;
    }

    fn list_entries(&mut self, cache: &MmapCache) {
        let mut listing = Listing::default();
        for item in cache.entries().expect("a listing") {
            match item {
                Ok((key, entry)) => {
                    self.saw(&key, entry.value(), Some(entry.version()));
                    listing.met(&key);
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
                    listing.met(key);
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
                Ok(key) => listing.met(&key),
                Err(error) => return self.ended(&error),
            }
        }
        self.complete(&listing);
    }

    fn complete(&mut self, listing: &Listing) {
        listing.has_each_once();
        self.counts[LISTINGS] += 1;
    }

    fn ended(&mut self, error: &Error) {
        assert!(matches!(error.kind(), ErrorKind::Superseded), "{error:?}");
        self.counts[SUPERSEDED] += 1;
    }

    /// The full check takes no lock, and reports nothing but what is wrong.
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
fn may_be_absent(key: &[u8]) {
    let name = String::from_utf8_lossy(key);
    assert!(!always_exists(key), "{name:?} is always there, and was not");
}

/// The keys that one listing came by.
#[derive(Debug, Default)]
pub(crate) struct Listing(HashMap<Vec<u8>, u32>);

impl Listing {
    pub(crate) fn met(&mut self, key: &[u8]) {
        // Panics where it is no key of the ledgers.
        owner(key);
        *self.0.entry(key.to_owned()).or_default() += 1;
    }

    /// What always exists comes exactly once.
    pub(crate) fn has_each_once(&self) {
        let always = (0..STAYING * WRITERS).map(staying);
        for key in always.chain((0..SHARED).map(shared)) {
            let times = self.0.get(key.as_bytes()).copied();
            assert_eq!(times, Some(1), "times that {key:?} was listed");
        }
    }
}
