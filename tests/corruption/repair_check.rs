//! What a repair must restore: the newest record of each key that verifies.
//!
//! Finds it by reading the heap's bytes, without index and roster.

use std::collections::BTreeMap;
use std::path::Path;

use mmapcache::{ErrorKind, Repair};

use super::affected::Affected;
use super::checker::{read_only, writable};
use super::checksums;
use super::image::{Image, Node, segment_number};
use super::layout::{FIRST_RECORD, Record, header, u32_at, u64_at};
use super::sample_cache::SampleCache;

/// Repairs the damaged files at `path`, and compares the entries with what the heap says.
pub(crate) fn run(sample: &SampleCache, image: &Image, affected: &Affected, path: &Path) {
    // A forged header with a valid checksum names other files as the cache's.
    let trusted =
        !affected.foreign_header && !affected.version && segments_can_be_identified(sample, image);
    match Repair::new(path).options(&writable()).run() {
        Ok(_) if !trusted => {}
        Ok(repaired) => {
            let cache = read_only().open(path).expect("a repaired cache opens");
            let listed: BTreeMap<_, _> = cache
                .iter()
                .expect("a listing")
                .map(|item| item.expect("an item of a repaired cache"))
                .collect();
            assert_eq!(repaired.entries as usize, listed.len());
            if affected.forged.is_empty() {
                compare(sample, &listed, &entries(sample, image));
            }
            let report = cache.verify().run().expect("a check");
            let right = report
                .problems
                .iter()
                .all(|fault| fault.what == mmapcache::Corruption::RecordBytes);
            assert!(right, "after a repair: {:?}", report.problems);
        }
        Err(error)
            if matches!(error.kind(), ErrorKind::UnsupportedVersion { .. }) && affected.version => {
        }
        Err(error)
            if matches!(error.kind(), ErrorKind::HeapMissing { .. })
                && affected.segment_missing =>
        {
            assert!(
                !trusted || !has_a_valid_header(sample, image),
                "a repair has a segment to go by"
            );
        }
        Err(error) => {
            assert!(error.is_corruption(), "repair: {error:?}");
            assert!(
                !trusted || !has_a_valid_header(sample, image),
                "repair: {error:?}"
            );
        }
    }
}

/// Asserts that each key has what the heap says; or what it had before, if the index still had more
/// than a heap with a damaged deletion.
fn compare(
    sample: &SampleCache,
    listed: &BTreeMap<Vec<u8>, Vec<u8>>,
    heap: &BTreeMap<Vec<u8>, Vec<u8>>,
) {
    let unknown = listed.keys().find(|key| !sample.history.contains_key(*key));
    assert!(unknown.is_none(), "after a repair there is {unknown:?}");
    for key in sample.history.keys() {
        let (now, heap, before) = (listed.get(key), heap.get(key), sample.value(key));
        assert!(
            now == heap || now == before,
            "after a repair {key:?}: {now:?} for {heap:?}"
        );
    }
}

/// Whether each segment's header is unchanged or invalid, or another cache's while the index and a
/// segment say whose cache this is.
fn segments_can_be_identified(sample: &SampleCache, image: &Image) -> bool {
    let told = image.bytes("").get(..128) == sample.image.bytes("").get(..128)
        && has_a_valid_header(sample, image);
    image
        .files()
        .filter(|(suffix, _)| segment_number(suffix).is_some())
        .all(|(suffix, bytes)| {
            let (Some(head), sound) = (bytes.get(..120), sample.image.bytes(suffix)) else {
                return true;
            };
            let valid = checksums::header_sum(head) == u32_at(head, header::CRC);
            let foreign = head[16..40] != sound[16..40];
            !valid || sound.get(..120) == Some(head) || (told && foreign)
        })
}

/// Whether one segment has its header, from which a repair can learn the rest.
fn has_a_valid_header(sample: &SampleCache, image: &Image) -> bool {
    // A repair cannot create a cache under a link that leads to itself.
    let has_place = !matches!(image.nodes.get(""), Some(Node::Symlink(_)));
    has_place
        && image.files().any(|(suffix, bytes)| {
            let sound = sample.image.bytes(suffix);
            segment_number(suffix).is_some() && bytes.get(..120) == sound.get(..120)
        })
}

/// Returns the entries of the records that verify.
fn entries(sample: &SampleCache, image: &Image) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let heap_id = u64_at(sample.image.bytes(""), header::HEAP_ID);
    let mut newest: BTreeMap<Vec<u8>, Record> = BTreeMap::new();
    for (suffix, bytes) in image.files() {
        let Some(segment) = segment_number(suffix) else {
            continue;
        };
        for at in (FIRST_RECORD..bytes.len()).step_by(8) {
            let Some(record) = Record::parse(bytes, segment, at) else {
                continue;
            };
            let ends = record.range().end.next_multiple_of(8) <= bytes.len();
            if !ends || !checksums::has_valid_checksum(bytes, heap_id, &record) {
                continue;
            }
            let rank = |record: &Record| (record.mtime, record.segment, record.at);
            if newest
                .get(&record.key)
                .is_none_or(|known| rank(known) < rank(&record))
            {
                newest.insert(record.key.clone(), record);
            }
        }
    }
    let live = newest.into_iter().filter(|(_, record)| !record.is_deletion);
    live.map(|(key, record)| (key, record.value)).collect()
}
