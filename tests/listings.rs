//! Changes one byte anywhere in the files, then lists or samples them in every way: each listing has
//! exactly the entries that were put, or returns an error.
//!
//! The expected entries are kept in a map. `tests/damage.rs` tries more kinds of damage and more
//! operations; here each listing must be exact.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod corruption;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use corruption::checker::{read_only, writable};
use corruption::image::{Image, with_suffix};
use corruption::layout::{self, Geometry};
use corruption::sample_cache::{image_of, options, scratch};
use mmapcache::dict::{CachedDict, Dict, Format, MmapDict, Store};
use mmapcache::{Labels, MmapCache, Options};

/// Changes of a byte: the lowest bit, the highest, and all.
const MASKS: [u8; 3] = [1, 0x80, 0xff];

/// The entries that were put.
type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// The files of a cache, its entries, and the check for its kind.
struct Sample {
    image: Image,
    expected: Entries,
    check: fn(&Case<'_>),
}

/// One changed byte, and the files that contain it.
struct Case<'a> {
    name: String,
    path: &'a Path,
    options: Options,
    expected: &'a Entries,
    /// Whether the check also makes a backup, which is slow.
    is_copied: bool,
}

impl Case<'_> {
    /// A listing whose items are expected key-value pairs.
    fn items<E: Debug>(
        &self,
        operation: &str,
        listing: impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), E>>,
    ) {
        self.listing(operation, listing, |(key, value)| {
            assert_eq!(
                self.expected.get(&key),
                Some(&value),
                "{}: {operation}",
                self.name
            );
            key
        });
    }

    /// A listing; `key` turns its items into keys. Each expected key comes at most once, and all come
    /// unless the listing returns an error.
    fn listing<T, E: Debug>(
        &self,
        operation: &str,
        listing: impl Iterator<Item = Result<T, E>>,
        key: impl Fn(T) -> Vec<u8>,
    ) {
        let (mut seen, mut failed) = (BTreeMap::new(), false);
        for item in listing {
            match item {
                Ok(item) => {
                    let key = key(item);
                    let is_known = self.expected.contains_key(&key);
                    assert!(
                        is_known,
                        "{}: {operation}: {key:?} was never put",
                        self.name
                    );
                    let before = seen.insert(key.clone(), ());
                    assert_eq!(before, None, "{}: {operation}: {key:?} twice", self.name);
                }
                Err(_) => failed = true,
            }
        }
        let (listed, put) = (seen.len(), self.expected.len());
        let is_short = listed < put && !failed;
        assert!(!is_short, "{}: {operation}: {listed} of {put}", self.name);
    }

    fn sampled<E: Debug>(&self, operation: &str, drawn: Result<Option<Vec<u8>>, E>) {
        match drawn {
            Ok(Some(key)) => {
                let is_known = self.expected.contains_key(&key);
                assert!(
                    is_known,
                    "{}: {operation}: {key:?} was never put",
                    self.name
                );
            }
            Ok(None) => panic!("{}: {operation}: nothing to sample", self.name),
            Err(_) => {}
        }
    }

    fn counted<E: Debug>(&self, operation: &str, counted: Result<u64, E>) {
        let put = self.expected.len() as u64;
        assert!(
            counted.is_err() || counted.unwrap() == put,
            "{}: {operation}",
            self.name
        );
    }
}

/// Turns a listing that could not begin into one whose first item is the error.
fn begun<I, T>(listing: mmapcache::Result<I>) -> impl Iterator<Item = mmapcache::Result<T>>
where
    I: Iterator<Item = mmapcache::Result<T>>,
{
    let (listing, error) = match listing {
        Ok(listing) => (Some(listing), None),
        Err(error) => (None, Some(Err(error))),
    };
    error.into_iter().chain(listing.into_iter().flatten())
}

fn check_cache(case: &Case<'_>) {
    let Ok(cache) = case.options.open(case.path) else {
        return;
    };
    check_open_cache(case, &cache);
    if case.is_copied {
        let elsewhere = scratch();
        let path = elsewhere.path().join("copy");
        if cache.backup().to(&path).is_ok() {
            let copy = MmapCache::open(&path).unwrap();
            check_open_cache(case, &copy);
            assert_eq!(copy.len() as usize, case.expected.len(), "{}", case.name);
        }
    }
}

fn check_open_cache(case: &Case<'_>, cache: &MmapCache) {
    case.listing("keys", begun(cache.keys()), |key| key);
    case.items("items", begun(cache.iter()));
    let entries = begun(cache.entries());
    let pairs = entries.map(|item| item.map(|(key, entry)| (key, entry.into_value())));
    case.items("entries", pairs);
    for _ in 0..3 {
        case.sampled("random_key", cache.random_key());
    }
}

fn check_dictionaries(case: &Case<'_>) {
    let Ok(cache) = case.options.open(case.path) else {
        return;
    };
    let dict = MmapDict::<String>::on(Arc::new(cache), Format::Json);
    check_dictionary(case, &dict);
    // Twice: the second time some values come from memory.
    let cached = CachedDict::new(dict);
    check_dictionary(case, &cached);
    check_dictionary(case, &cached);
}

fn check_dictionary(case: &Case<'_>, dict: &Dict<String, impl Store>) {
    let bytes = |key: &mmapcache::dict::DictKey| key.as_str().as_bytes().to_vec();
    case.listing("dict keys", dict.keys(), |key| bytes(&key));
    let items = dict.iter();
    let pairs = items.map(|item| item.map(|(key, value)| (bytes(&key), value.into_bytes())));
    case.items("dict items", pairs);
    case.counted("dict len", dict.len());
    let drawn = dict.random_key();
    case.sampled(
        "dict random_key",
        drawn.map(|key| key.map(|key| bytes(&key))),
    );
    let any = dict.any_key();
    case.sampled("dict any_key", any.map(|key| key.map(|key| bytes(&key))));
}

fn check_labels(case: &Case<'_>) {
    let Ok(labels) = Labels::open_with(case.path, &case.options) else {
        return;
    };
    check_open_labels(case, &labels);
    if case.is_copied {
        let elsewhere = scratch();
        let path = elsewhere.path().join("copy");
        if labels.backup().to(&path).is_ok() {
            check_open_labels(case, &Labels::open(&path).unwrap());
        }
    }
}

fn check_open_labels(case: &Case<'_>, labels: &Labels) {
    let all = begun(labels.iter());
    let pairs = all.map(|item| item.map(|(id, label)| (label, id.number().to_le_bytes().to_vec())));
    case.items("labels", pairs);
}

/// Keys of many lengths; some are overwritten or deleted.
fn caches() -> Sample {
    let dir = scratch();
    let path = dir.path().join("cache");
    let cache = options().open(&path).unwrap();
    let mut expected = Entries::new();
    for number in 0..40_u8 {
        let key = vec![number; 1 + usize::from(number) * 3 % 20];
        for round in 0..=number % 2 {
            let value = vec![round; usize::from(number) * 7 % 90];
            cache.put(&key, &value).unwrap();
            expected.insert(key.clone(), value);
        }
        if number % 5 == 0 {
            cache.delete(&key).unwrap();
            expected.remove(&key);
        }
    }
    cache.flush().unwrap();
    drop(cache);
    Sample {
        image: image_of(&path),
        expected,
        check: check_cache,
    }
}

fn dictionaries() -> Sample {
    let dir = scratch();
    let path = dir.path().join("cache");
    let options = options();
    let dict = MmapDict::<String>::open_with(&path, Format::Json, &options).unwrap();
    let mut expected = Entries::new();
    for number in 0..24 {
        let key = format!("group-{}/{}", number % 3, "k".repeat(1 + number));
        let value = format!("value {number}");
        dict.insert(key.split('/').collect::<Vec<_>>(), value.clone())
            .unwrap();
        expected.insert(key.into_bytes(), value.into_bytes());
    }
    dict.cache().flush().unwrap();
    drop(dict);
    Sample {
        image: image_of(&path),
        expected,
        check: check_dictionaries,
    }
}

/// Labels by their ids.
fn labels() -> Sample {
    let dir = scratch();
    let path = dir.path().join("cache");
    let mut options = Options::new();
    options.region_slots(16).max_segment_bytes(16 * 1024);
    let labels = Labels::open_with(&path, &options).unwrap();
    let mut expected = Entries::new();
    for number in 0..30_u8 {
        let label = vec![b'a' + number; 1 + usize::from(number) % 11];
        let id = labels.get_or_intern(&label).unwrap();
        expected.insert(label, id.number().to_le_bytes().to_vec());
    }
    labels.flush().unwrap();
    drop(labels);
    Sample {
        image: image_of(&path),
        expected,
        check: check_labels,
    }
}

fn open_to_change(path: &Path) -> File {
    let mut options = File::options();
    options.read(true).write(true).open(path).unwrap()
}

/// Changes each `stride`-th byte and opens the files for reading.
fn try_readers(sample: &Sample, stride: usize, copied: usize) {
    try_readers_at(sample, copied, |_, bytes| {
        (0..bytes.len()).step_by(stride).collect()
    });
}

/// Returns the offsets of the control bytes of all entries: a lookup misses a key whose byte changed.
fn controls(suffix: &str, bytes: &[u8]) -> Vec<usize> {
    if !suffix.is_empty() {
        return Vec::new();
    }
    let geometry = Geometry::of(bytes);
    let slots = layout::slots(bytes).into_iter();
    let entries = slots.filter(layout::Slot::is_entry);
    let control = |slot: layout::Slot| geometry.region(slot.region).start + 64 + slot.index;
    entries.map(control).collect()
}

fn try_readers_at(sample: &Sample, copied: usize, offsets: impl Fn(&str, &[u8]) -> Vec<usize>) {
    let dir = scratch();
    let path = dir.path().join("cache");
    sample.image.write_to(&path).unwrap();
    let mut cases = 0;
    for (suffix, bytes) in sample.image.files() {
        let file = open_to_change(&with_suffix(&path, suffix));
        for (turn, at) in offsets(suffix, bytes).into_iter().enumerate() {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at as u64).unwrap();
            let mask = MASKS[turn % MASKS.len()];
            file.write_all_at(&[byte[0] ^ mask], at as u64).unwrap();
            (sample.check)(&Case {
                name: format!("reader, {suffix:?} byte {at} mask {mask:#x}"),
                path: &path,
                options: read_only(),
                expected: &sample.expected,
                is_copied: cases % copied == 0,
            });
            file.write_all_at(&byte, at as u64).unwrap();
            cases += 1;
        }
    }
    assert!(cases > 20, "{cases}");
}

/// The same for writable handles: they may recover, so each case has its own files.
fn try_writers(sample: &Sample, stride: usize, copied: usize) {
    let mut cases = 0;
    for (suffix, bytes) in sample.image.files() {
        for at in (0..bytes.len()).step_by(stride) {
            let dir = scratch();
            let path = dir.path().join("cache");
            let mask = MASKS[(at / stride) % MASKS.len()];
            sample.image.write_to(&path).unwrap();
            let file = open_to_change(&with_suffix(&path, suffix));
            let mut byte = [0];
            file.read_exact_at(&mut byte, at as u64).unwrap();
            file.write_all_at(&[byte[0] ^ mask], at as u64).unwrap();
            (sample.check)(&Case {
                name: format!("writer, {suffix:?} byte {at} mask {mask:#x}"),
                path: &path,
                options: writable(),
                expected: &sample.expected,
                is_copied: cases % copied == 0,
            });
            cases += 1;
        }
    }
    assert!(cases > 100, "{cases}");
}

#[test]
fn unchanged_files_are_listed_completely() {
    for sample in [caches(), dictionaries(), labels()] {
        let dir = scratch();
        let path = dir.path().join("cache");
        sample.image.write_to(&path).unwrap();
        for options in [read_only(), writable()] {
            (sample.check)(&Case {
                name: "unchanged".to_owned(),
                path: &path,
                options,
                expected: &sample.expected,
                is_copied: true,
            });
        }
        let cache = MmapCache::open(&path).unwrap();
        assert_eq!(cache.keys().unwrap().count(), sample.expected.len());
        assert!(cache.keys().unwrap().all(|key| key.is_ok()));
    }
}

// `for item in &cache` cannot fail before its first item.
#[test]
fn borrowing_loop_starts_with_the_error() {
    let dir = scratch();
    let path = dir.path().join("cache");
    let cache = MmapCache::open(&path).unwrap();
    cache.put("key", "value").unwrap();
    assert_eq!((&cache).into_iter().count(), 1);
    let other = MmapCache::open(&path).unwrap();
    let none: [Result<(&str, &str), std::io::Error>; 0] = [];
    other.atomic_rebuild(none).unwrap();
    // The rebuilt cache cannot be opened.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "no cache").unwrap();
    let refused = cache.iter().unwrap_err().to_string();
    let mut items = (&cache).into_iter();
    assert_eq!(items.next().unwrap().unwrap_err().to_string(), refused);
    assert!(items.next().is_none() && items.next().is_none());
}

#[test]
fn changed_bytes_never_shorten_cache_listings() {
    let sample = caches();
    try_readers(&sample, 7, 50);
    try_writers(&sample, 53, 20);
}

#[test]
fn changed_bytes_never_shorten_dictionary_listings() {
    let sample = dictionaries();
    try_readers_at(&sample, 1, controls);
    try_readers(&sample, 37, 1);
    try_writers(&sample, 101, 1);
}

#[test]
fn changed_bytes_never_shorten_label_listings() {
    let sample = labels();
    try_readers(&sample, 7, 20);
    try_writers(&sample, 53, 20);
}

#[test]
#[ignore = "a soak; see docs/testing.md"]
fn soak_changed_bytes_never_shorten_listings() {
    for sample in [caches(), dictionaries(), labels()] {
        try_readers(&sample, 1, 50);
        try_writers(&sample, 3, 50);
    }
}
