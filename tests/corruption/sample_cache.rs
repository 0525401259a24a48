//! A small cache with every kind of entry, all that was ever put into it, and images of other files
//! that can replace its own.
//!
//! Knows how to make the engine produce each kind; whether all are present is read from the files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mmapcache::{MmapCache, Options};

use super::checksums::{self, Checksum};
use super::image::{Image, Node, segment_number};
use super::layout::{self, Geometry, PAGE, Record, header, set_u32, u32_at, u64_at};

/// The values of each key in order; `None` for a deletion.
pub(crate) type History = BTreeMap<Vec<u8>, Vec<Option<Vec<u8>>>>;

/// The directory has room for 32 entries instead of a million, so that the index fits into 16 KiB.
const DIRECTORY_BITS: u32 = 5;
/// The bytes of a key that ends with a word of its record.
const WORD: usize = 8;

/// A cache that was flushed and closed.
#[derive(Clone, Debug)]
pub(crate) struct SampleCache {
    pub(crate) image: Image,
    pub(crate) history: History,
    /// The versions of the present entries.
    pub(crate) versions: BTreeMap<Vec<u8>, u64>,
    /// All records of the heap, dead ones included.
    pub(crate) records: Vec<Record>,
    pub(crate) others: OtherImages,
}

/// Files of another cache, or of this one at another time.
#[derive(Clone, Debug, Default)]
pub(crate) struct OtherImages {
    /// The same generation, earlier.
    pub(crate) earlier: Image,
    /// The same cache, replaced as a whole.
    pub(crate) rebuilt: Image,
    /// Another cache with the same keys.
    pub(crate) foreign: Image,
}

/// A directory for short-lived caches: in memory, if the system has one.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let root = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    tempfile::Builder::new()
        .prefix("mmapcache-")
        .tempdir_in(root)
        .expect("a scratch directory")
}

/// Options that fix the sample's geometry.
pub(crate) fn options() -> Options {
    let mut options = Options::new();
    options
        .region_slots(16)
        .max_segment_bytes(16 * 1024)
        .compaction_threshold(0, u64::MAX);
    options
}

impl SampleCache {
    /// Builds a sample. The cache's random seed decides where keys are stored, so that it may take
    /// some tries until every kind is present.
    pub(crate) fn make() -> Self {
        let mut missing = Vec::new();
        for _ in 0..200 {
            let mut sample = Builder::new("own").make();
            missing = KindCounts::of(&sample).missing();
            if missing.is_empty() {
                sample.others.foreign = Builder::new("strange").make().image;
                return sample;
            }
        }
        panic!("a sample has none of these: {missing:?}");
    }

    /// The same as a killed writer leaves it: marked as written under this boot, in these files.
    pub(crate) fn live(&self) -> Self {
        let mut live = self.clone();
        let index = live.image.bytes_mut("").expect("a sample has an index");
        layout::set_u64(index, header::DIRTY, 2);
        live
    }

    /// A cleanly closed sample, and the same as a killed writer leaves it.
    pub(crate) fn closed_and_live() -> [Self; 2] {
        let closed = Self::make();
        let live = closed.live();
        [closed, live]
    }

    /// Returns the value that a key has.
    pub(crate) fn value(&self, key: &[u8]) -> Option<&Vec<u8>> {
        self.history.get(key)?.last()?.as_ref()
    }

    /// Iterates over the present entries.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&Vec<u8>, &Vec<u8>)> {
        let last = |values: &'_ Vec<Option<Vec<u8>>>| values.last().is_some_and(Option::is_some);
        self.history
            .iter()
            .filter(move |(_, values)| last(values))
            .map(|(key, values)| {
                let value = values.last().and_then(Option::as_ref);
                (key, value.expect("only those that have one"))
            })
    }
}

/// Builds a sample.
struct Builder {
    _dir: tempfile::TempDir,
    path: PathBuf,
    salt: &'static str,
    history: History,
}

/// Returns the key with a number: of one byte to 150; the shortest fit into a slot.
pub(crate) fn key(number: u8) -> Vec<u8> {
    let length = match number % 6 {
        0 => 1,
        1 => 4,
        2 => WORD,
        3 => WORD + 1,
        4 => 40,
        _ => 150,
    };
    (0..length)
        .map(|at| {
            if at == 0 {
                number
            } else {
                b'a' + (at % 23) as u8
            }
        })
        .collect()
}

impl Builder {
    fn new(salt: &'static str) -> Self {
        let dir = scratch();
        let path = dir.path().join("cache");
        Self {
            _dir: dir,
            path,
            salt,
            history: History::new(),
        }
    }

    /// Returns a value that no other key has, nor this key at another time.
    fn value(&self, number: u8, round: u8, length: usize) -> Vec<u8> {
        let mut value = format!("{} {number} {round} ", self.salt).into_bytes();
        value.resize(length.max(value.len()), number ^ round);
        value
    }

    fn put(&mut self, cache: &MmapCache, number: u8, value: Vec<u8>) {
        cache.put(&key(number), &value).expect("a put");
        self.history
            .entry(key(number))
            .or_default()
            .push(Some(value));
    }

    fn delete(&mut self, cache: &MmapCache, number: u8) {
        assert!(cache.delete(&key(number)).expect("a deletion"));
        self.history.entry(key(number)).or_default().push(None);
    }

    fn make(mut self) -> SampleCache {
        let cache = options().open(&self.path).expect("a new cache");
        for number in 0..30 {
            self.put(&cache, number, self.value(number, 0, 0));
        }
        for number in [3, 9, 14, 20] {
            self.delete(&cache, number);
        }
        // Moves all live records to the next segment, and removes the first.
        cache.compact().expect("compacting");
        cache.flush().expect("flushing");
        let earlier = self.image();
        self.second_half(&cache);
        drop(cache);
        self.clean_a_bit();
        let (image, versions) = (self.image(), self.versions());
        let rebuilt = self.rebuild();
        SampleCache {
            records: layout::records(&image),
            others: OtherImages {
                earlier,
                rebuilt,
                foreign: Image::default(),
            },
            history: self.history,
            versions,
            image,
        }
    }

    /// Overwrites and deletes entries, and leaves free-list entries in the roster.
    fn second_half(&mut self, cache: &MmapCache) {
        for number in 20..32 {
            let length = [0, 1, 7, 300, 64, 900][usize::from(number % 6)];
            self.put(cache, number, self.value(number, 1, length));
        }
        self.put(cache, 7, Vec::new());
        self.put(cache, 8, self.value(8, 1, 2_000));
        self.put(cache, 7, self.value(7, 2, 10));
        self.put(cache, 10, Vec::new());
        for number in [0, 5, 12, 21, 22, 25] {
            self.delete(cache, number);
        }
        // One key returns, into a free position of the roster.
        self.put(cache, 12, self.value(12, 3, 33));
    }

    /// Lets cleaning begin the next segment, and read a part of the one before.
    fn clean_a_bit(&mut self) {
        let cache = options()
            // A lower threshold has each write clean a whole segment.
            .compaction_threshold(34, 0)
            .open(&self.path)
            .expect("opening again");
        self.put(&cache, 15, self.value(15, 4, 20));
        self.put(&cache, 16, self.value(16, 4, 20));
        drop(cache);
        let cache = options().open(&self.path).expect("opening again");
        self.delete(&cache, 17);
        self.put(&cache, 18, self.value(18, 4, 700));
        cache.flush().expect("flushing");
    }

    fn versions(&self) -> BTreeMap<Vec<u8>, u64> {
        let cache = options()
            .read_only(true)
            .open(&self.path)
            .expect("opening again");
        let versions = |item: mmapcache::Result<(Vec<u8>, mmapcache::Entry)>| {
            item.map(|(key, entry)| (key, entry.version().as_nanos()))
                .expect("an entry")
        };
        cache.entries().expect("a listing").map(versions).collect()
    }

    fn rebuild(&self) -> Image {
        let cache = options().open(&self.path).expect("opening again");
        let items: Vec<_> = cache.iter().expect("a listing").collect();
        cache.atomic_rebuild(items).expect("a rebuild");
        cache.flush().expect("flushing");
        drop(cache);
        self.image()
    }

    fn image(&self) -> Image {
        image_of(&self.path)
    }
}

/// Reads the files of the cache at a path, with a smaller directory.
pub(crate) fn image_of(path: &Path) -> Image {
    let mut image = Image::read(path).expect("files to read");
    let index = image.bytes_mut("").expect("an index");
    // Otherwise each written image would look like a copy, which the engine rebuilds.
    layout::set_u64(index, header::INODE, super::image::INODE_TO_COME);
    layout::set_u64(index, header::BORN, 0);
    layout::set_u64(index, header::VISITED, 1 << 62);
    *index = with_small_directory(index);
    let suffix = String::new();
    checksums::repair(&mut image, &Checksum::Header { suffix });
    image
}

/// Returns the same index with room for fewer directory entries than the engine reserves. It uses
/// far fewer, and nothing else depends on the number.
fn with_small_directory(index: &[u8]) -> Vec<u8> {
    let old = Geometry::of(index);
    let new = Geometry {
        directory_bits: DIRECTORY_BITS,
        ..old
    };
    assert!(layout::depth(index) <= DIRECTORY_BITS);
    let mut small = index[..PAGE + (8 << DIRECTORY_BITS)].to_vec();
    small.resize(new.regions_at(), 0);
    small.extend_from_slice(&index[old.regions_at()..]);
    set_u32(&mut small, header::DIRECTORY_BITS, DIRECTORY_BITS);
    small
}

/// How many of each kind of thing a sample's files have.
#[derive(Clone, Debug)]
pub(crate) struct KindCounts(BTreeMap<&'static str, usize>);

impl KindCounts {
    pub(crate) fn of(sample: &SampleCache) -> Self {
        let mut counts = BTreeMap::new();
        let index = sample.image.bytes("");
        let slots = layout::slots(index);
        let entries: Vec<_> = slots.iter().filter(|slot| slot.is_entry()).collect();
        counts.insert(
            "tombstones",
            slots.iter().filter(|slot| slot.control == 1).count(),
        );
        counts.insert("splits", layout::depth(index) as usize);
        counts.insert(
            "free regions",
            usize::from(u64_at(index, header::FREE_REGION) != 0),
        );
        counts.insert("holes", usize::from(u64_at(index, header::HOLE_HEAD) != 0));
        let cursor = u64_at(index, header::CURSOR) as u32 as usize * 8;
        counts.insert(
            "cleaning half-way",
            usize::from(cursor > layout::FIRST_RECORD),
        );
        counts.insert(
            "removed segments",
            (u64_at(index, header::OLDEST) & 0xffff) as usize,
        );
        let segments = sample.image.suffixes();
        let segments = segments
            .iter()
            .filter(|suffix| segment_number(suffix).is_some())
            .count();
        counts.insert("second segments", segments - 1);
        let live = |record: &&Record| {
            entries
                .iter()
                .any(|slot| slot.record() == (record.segment, record.at))
        };
        let records = &sample.records;
        counts.insert(
            "deletions",
            records.iter().filter(|record| record.is_deletion).count(),
        );
        counts.insert(
            "dead records",
            records.iter().filter(|record| !live(record)).count(),
        );
        let lives =
            |test: fn(&Record) -> bool| records.iter().filter(live).filter(move |r| test(r));
        counts.insert(
            "empty values",
            lives(|record| record.value.is_empty()).count(),
        );
        counts.insert(
            "long values",
            lives(|record| record.value.len() > 1_000).count(),
        );
        counts.insert("short keys", lives(|record| record.key.len() == 1).count());
        counts.insert(
            "whole keys",
            lives(|record| record.key.len() == WORD).count(),
        );
        counts.insert("long keys", lives(|record| record.key.len() > 100).count());
        let number = u32_at(index, header::DIRECTORY_BITS);
        counts.insert("small directories", usize::from(number == DIRECTORY_BITS));
        Self(counts)
    }

    /// Returns the kinds that are missing.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        self.0
            .iter()
            .filter(|(_, count)| **count == 0)
            .map(|(kind, _)| *kind)
            .collect()
    }
}

impl OtherImages {
    /// Returns the file of another image with that suffix, or any segment instead of a segment.
    pub(crate) fn file(image: &Image, suffix: &str) -> Option<Vec<u8>> {
        let same = image.nodes.get(suffix);
        let any_segment = || {
            segment_number(suffix)?;
            image
                .nodes
                .iter()
                .find(|(name, _)| segment_number(name).is_some())
                .map(|(_, node)| node)
        };
        match same.or_else(any_segment)? {
            Node::File(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }
}
