//! Takes any bytes as the records of a segment, with their checksums repaired half of the time: the
//! engine has to find the records that another reading of `docs/format.md` finds, and nothing else.
#![no_main]

#[path = "../../tests/corruption/mod.rs"]
mod corruption;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use corruption::checksums;
use corruption::image::Image;
use corruption::layout::{FIRST_RECORD, RECORD_HEADER, Record, header, set_u32, set_u64};
use libfuzzer_sys::fuzz_target;
use mmapcache::{Corruption, MmapCache, Options, Problem, Version};
use mmapcache_fuzz::{Contents, Scratch, contents};

/// An empty cache that seems to be a copy made beside a writer: the first handle rebuilds it from
/// its heap.
static EMPTY: LazyLock<(Image, u64)> = LazyLock::new(|| {
    mmapcache::fuzzing::reseed(0);
    let scratch = Scratch::new();
    drop(options().open(scratch.cache()).expect("an empty cache"));
    let mut image = Image::read(&scratch.cache()).expect("its files");
    let index = image.bytes_mut("").expect("its index");
    set_u64(index, header::DIRTY, 2);
    set_u64(index, header::INODE, 0);
    let heap_id = checksums::heap_id(&image).expect("a heap");
    (image, heap_id)
});

fn options() -> Options {
    let mut options = Options::new();
    options
        .region_slots(16)
        .max_segment_bytes(16 * 1024)
        .compaction_threshold(50, 1024)
        .narrow(3, false);
    options
}

fuzz_target!(|data: &[u8]| {
    let Some((&how, data)) = data.split_first() else {
        return;
    };
    let (mut image, heap_id) = EMPTY.clone();
    mmapcache::fuzzing::reseed(1);
    let segment = image.bytes_mut(".heap").expect("its segment");
    let count = data.len().min(segment.len() - FIRST_RECORD);
    segment[FIRST_RECORD..FIRST_RECORD + count].copy_from_slice(&data[..count]);
    repair_some(segment, heap_id, how);
    let read = Read::all(segment, heap_id);

    let scratch = Scratch::new();
    image.write_to(&scratch.cache()).expect("the files");
    let cache = options()
        .open(scratch.cache())
        .expect("a cache that reads its heap");
    read.compare(&cache);
    cache.compact().expect("compaction");
    read.compare(&cache);
    assert_writable(&cache, &read);
});

/// Makes the checksums of all records valid, or of some.
fn repair_some(segment: &mut [u8], heap_id: u64, how: u8) {
    let (mut at, mut turn) = (FIRST_RECORD, 0);
    while at + RECORD_HEADER <= segment.len() {
        let Some(record) = Record::parse(segment, 0, at) else {
            at += 8;
            continue;
        };
        if how == 0 || how >> (turn % 8) & 1 == 1 {
            let sum = checksums::record_sum(heap_id, 0, at, &segment[record.range()]);
            set_u32(segment, at, sum);
        }
        turn += 1;
        at = record.range().end.next_multiple_of(8);
    }
}

/// The records of a segment.
struct Read {
    /// The newest record of each key.
    newest: BTreeMap<Vec<u8>, Record>,
    /// Every value that any record has, with its key.
    anywhere: BTreeSet<(Vec<u8>, Vec<u8>)>,
    /// Whether the engine need not find all records: it gives up after computing too many checksums
    /// in vain.
    exhausting: bool,
}

impl Read {
    fn all(segment: &[u8], heap_id: u64) -> Self {
        let sealed = |at: usize| {
            let record = Record::parse(segment, 0, at)?;
            let whole = record.range().end.next_multiple_of(8) <= segment.len();
            (whole && checksums::has_valid_checksum(segment, heap_id, &record)).then_some(record)
        };
        let mut read = Self {
            newest: BTreeMap::new(),
            anywhere: BTreeSet::new(),
            exhausting: false,
        };
        let (mut at, mut in_vain) = (FIRST_RECORD, 0);
        while at < segment.len() {
            let Some(record) = sealed(at) else {
                in_vain += Record::parse(segment, 0, at).map_or(8, |record| record.range().len());
                at += 8;
                continue;
            };
            at = record.range().end.next_multiple_of(8);
            let older = read.newest.get(&record.key).map_or(0, |known| known.mtime);
            if record.mtime >= older {
                read.newest.insert(record.key.clone(), record);
            }
        }
        read.exhausting = in_vain > 4 * segment.len();
        for record in (FIRST_RECORD..segment.len()).step_by(8).filter_map(sealed) {
            read.anywhere.insert((record.key, record.value));
        }
        read
    }

    fn contents(&self) -> Contents {
        let live = self.newest.values().filter(|record| !record.is_deletion);
        let version = |record: &Record| Version::from_nanos(record.mtime);
        live.map(|record| (record.key.clone(), (record.value.clone(), version(record))))
            .collect()
    }

    fn compare(&self, cache: &MmapCache) {
        let found = contents(cache);
        if !self.exhausting {
            assert_eq!(found, self.contents());
        }
        for (key, (value, _)) in found {
            assert!(
                self.anywhere.contains(&(key, value)),
                "a value that no record has"
            );
        }
        let report = cache.verify().run().expect("a check");
        let no_record = |problem: &Problem| problem.what == Corruption::RecordBytes;
        assert!(
            report.problems.iter().all(no_record),
            "{:?}",
            report.problems
        );
        assert_eq!(report.entries, cache.len());
    }
}

/// Asserts that every key can be overwritten and deleted, whatever the segment held.
fn assert_writable(cache: &MmapCache, read: &Read) {
    for (number, key) in read.newest.keys().enumerate() {
        if number % 2 == 0 {
            cache.put(key, b"again").expect("a put");
            assert_eq!(
                cache.get(key).expect("a lookup").as_deref(),
                Some(&b"again"[..])
            );
        } else {
            cache.delete(key).expect("a deletion");
            assert_eq!(cache.get(key).expect("a lookup"), None);
        }
    }
    let before = contents(cache);
    drop(cache.writer().expect("the lock"));
    assert_eq!(contents(cache), before);
    let again = Options::new()
        .read_only(true)
        .open(cache.path())
        .expect("another handle");
    assert_eq!(contents(&again), before);
}
