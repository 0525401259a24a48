//! A process that reads while others write, and checks every answer.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mmapcache::{Error, ErrorKind, MmapCache, Options};

use super::contents::{is_key, number_of, passing, staying, staying_number};
use super::{Part, dismissal, say};

/// How many generations of values exist at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Mode {
    /// Each key changes by itself.
    Each = 0,
    /// All values have the number of the current generation.
    Generations = 1,
}

/// Reads until its input is closed, and then says what it has read. The numbers: how many keys are
/// permanent, how many come and go, the mode, and whether to open writable handles, which may wait.
pub(crate) fn reads(part: &Part) {
    let &[stay, pass, mode, may_write] = part.numbers.as_slice() else {
        panic!("four numbers");
    };
    let dismissed = dismissal();
    let old = MmapCache::open(&part.path).expect("a cache");
    let mut reader = Reader::new(stay, pass, mode == Mode::Generations as u64);
    say("ready");
    while !dismissed.load(Ordering::Relaxed) {
        reader.round(&old);
        if reader.rounds.is_multiple_of(8) {
            reader.open_and_round(&part.path, may_write == 1);
        }
    }
    say(format!(
        "{} values, {} listings to the end, {} superseded, up to number {}, opened in at most {:?}",
        reader.values, reader.listed, reader.superseded, reader.newest, reader.longest_opening
    ));
}

/// What a reader has read so far, which limits what it may read next.
#[derive(Debug)]
struct Reader {
    stay: u64,
    pass: u64,
    generations: bool,
    /// The latest number of each key.
    latest: HashMap<Vec<u8>, u64>,
    newest: u64,
    rounds: u64,
    values: u64,
    listed: u64,
    superseded: u64,
    longest_opening: Duration,
}

impl Reader {
    fn new(stay: u64, pass: u64, generations: bool) -> Self {
        Self {
            stay,
            pass,
            generations,
            latest: HashMap::new(),
            newest: 0,
            rounds: 0,
            values: 0,
            listed: 0,
            superseded: 0,
            longest_opening: Duration::ZERO,
        }
    }

    /// Reads one round with a new handle; every second one is read-only in any case.
    fn open_and_round(&mut self, path: &Path, may_write: bool) {
        let read_only = !may_write || self.rounds.is_multiple_of(16);
        let began = Instant::now();
        let fresh = Options::new().create(false).read_only(read_only).open(path);
        let fresh = fresh.expect("the cache again");
        self.longest_opening = self.longest_opening.max(began.elapsed());
        self.round(&fresh);
    }

    fn round(&mut self, cache: &MmapCache) {
        self.rounds += 1;
        for number in 0..self.stay {
            self.get_staying(cache, &staying(number));
            if self.pass > 0 {
                let number = (number + self.rounds * self.stay) % self.pass;
                self.get_passing(cache, &passing(number));
            }
        }
        self.list_keys(cache);
        self.list_items(cache);
    }

    fn get_staying(&mut self, cache: &MmapCache, key: &str) {
        let key = key.as_bytes();
        let entry = cache.entry(key).expect("an entry that is not damaged");
        let name = String::from_utf8_lossy(key);
        let entry = entry.unwrap_or_else(|| panic!("{name:?} is always there, and was not"));
        self.saw(key, entry.value());
        assert!(cache.contains(key).expect("a lookup"), "{name:?} was there");
    }

    fn get_passing(&mut self, cache: &MmapCache, key: &str) {
        let key = key.as_bytes();
        if let Some(entry) = cache.entry(key).expect("an entry that is not damaged") {
            self.saw(key, entry.value());
        }
    }

    /// Checks a value: through no handle does a key go back to an older number.
    fn saw(&mut self, key: &[u8], value: &[u8]) {
        self.values += 1;
        let number = number_of(key, value);
        let before = if self.generations {
            self.newest
        } else {
            self.latest.insert(key.to_owned(), number).unwrap_or(0)
        };
        let name = String::from_utf8_lossy(key);
        assert!(number >= before, "{name:?}: {number} after {before}");
        self.newest = self.newest.max(number);
    }

    fn list_keys(&mut self, cache: &MmapCache) {
        let mut times = vec![0; self.stay as usize];
        for key in cache.keys().expect("a listing") {
            let key = match key {
                Ok(key) => key,
                Err(error) => return self.ended(&error),
            };
            assert!(is_key(&key), "{:?}", String::from_utf8_lossy(&key));
            if let Some(number) = staying_number(&key) {
                times[number as usize] += 1;
            }
        }
        self.all_once(&times);
    }

    fn list_items(&mut self, cache: &MmapCache) {
        let mut times = vec![0; self.stay as usize];
        let mut generation = None;
        for item in cache.iter().expect("a listing") {
            let (key, value) = match item {
                Ok(item) => item,
                Err(error) => return self.ended(&error),
            };
            self.values += 1;
            let number = number_of(&key, &value);
            if self.generations {
                assert_eq!(*generation.get_or_insert(number), number, "two generations");
            }
            if let Some(number) = staying_number(&key) {
                times[number as usize] += 1;
            }
        }
        self.all_once(&times);
    }

    fn all_once(&mut self, times: &[u32]) {
        for (number, &times) in times.iter().enumerate() {
            let key = staying(number as u64);
            assert_eq!(times, 1, "times that {key:?} was listed");
        }
        self.listed += 1;
    }

    fn ended(&mut self, error: &Error) {
        assert!(matches!(error.kind(), ErrorKind::Superseded), "{error:?}");
        self.superseded += 1;
    }
}
