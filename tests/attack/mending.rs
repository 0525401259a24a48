//! What a repair must bring back: of each key the newest record that verifies.
//!
//! Finds that by reading the heap's bytes, whatever stands in index and roster.

use std::collections::BTreeMap;
use std::path::Path;

use mmapcache::{ErrorKind, Repair};

use super::image::{Image, Node, segment_number};
use super::layout::{FIRST_RECORD, Record, header, u32_at, u64_at};
use super::look::{read_only, writable};
use super::reach::Reach;
use super::seals;
use super::specimen::Specimen;

/// Repairs the damaged files at `path`, and compares what is there afterwards with what the heap
/// says.
pub(crate) fn repair(specimen: &Specimen, image: &Image, reach: &Reach, path: &Path) {
    // By a header that lies under a right checksum, other files belong to the cache.
    let believable = !reach.estranged && !reach.version && segments_are_told_apart(specimen, image);
    match Repair::new(path).options(&writable()).run() {
        Ok(_) if !believable => {}
        Ok(repaired) => {
            let cache = read_only().open(path).expect("a repaired cache opens");
            let listed: BTreeMap<_, _> = cache
                .iter()
                .expect("a listing")
                .map(|item| item.expect("an item of a repaired cache"))
                .collect();
            assert_eq!(repaired.entries as usize, listed.len());
            if reach.forged.is_empty() {
                compare(specimen, &listed, &entries(specimen, image));
            }
            let report = cache.verify().run().expect("a check");
            let right = report
                .problems
                .iter()
                .all(|fault| fault.what == mmapcache::Corruption::RecordBytes);
            assert!(right, "after a repair: {:?}", report.problems);
        }
        Err(error)
            if matches!(error.kind(), ErrorKind::UnsupportedVersion { .. }) && reach.version => {}
        Err(error)
            if matches!(error.kind(), ErrorKind::HeapMissing { .. }) && reach.lacks_segment =>
        {
            assert!(
                !believable || !says_what_it_is(specimen, image),
                "a repair has a segment to go by"
            );
        }
        Err(error) => {
            assert!(error.is_corruption(), "repair: {error:?}");
            assert!(
                !believable || !says_what_it_is(specimen, image),
                "repair: {error:?}"
            );
        }
    }
}

/// Each key has what the heap says of it; or what it had before, where the index still knew better
/// than a heap with a damaged deletion.
fn compare(
    specimen: &Specimen,
    listed: &BTreeMap<Vec<u8>, Vec<u8>>,
    heap: &BTreeMap<Vec<u8>, Vec<u8>>,
) {
    let strange = listed
        .keys()
        .find(|key| !specimen.history.contains_key(*key));
    assert!(strange.is_none(), "after a repair there is {strange:?}");
    for key in specimen.history.keys() {
        let (now, heap, before) = (listed.get(key), heap.get(key), specimen.value(key));
        assert!(
            now == heap || now == before,
            "after a repair {key:?}: {now:?} for {heap:?}"
        );
    }
}

/// Whether the header of each segment is what it was, or cannot be believed, or is another cache's
/// while the index tells whose cache this is, and a segment agrees.
fn segments_are_told_apart(specimen: &Specimen, image: &Image) -> bool {
    let told = image.bytes("").get(..128) == specimen.image.bytes("").get(..128)
        && says_what_it_is(specimen, image);
    image
        .files()
        .filter(|(suffix, _)| segment_number(suffix).is_some())
        .all(|(suffix, bytes)| {
            let (Some(head), sound) = (bytes.get(..120), specimen.image.bytes(suffix)) else {
                return true;
            };
            let valid = seals::header_sum(head) == u32_at(head, header::CRC);
            let foreign = head[16..40] != sound[16..40];
            !valid || sound.get(..120) == Some(head) || (told && foreign)
        })
}

/// Whether one segment has its header, from which everything else can be told.
fn says_what_it_is(specimen: &Specimen, image: &Image) -> bool {
    // A name that leads in a circle is no place to put a cache.
    let has_place = !matches!(image.nodes.get(""), Some(Node::Symlink(_)));
    has_place
        && image.files().any(|(suffix, bytes)| {
            let sound = specimen.image.bytes(suffix);
            segment_number(suffix).is_some() && bytes.get(..120) == sound.get(..120)
        })
}

/// What the records say that verify.
fn entries(specimen: &Specimen, image: &Image) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let heap_id = u64_at(specimen.image.bytes(""), header::HEAP_ID);
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
            if !ends || !seals::is_sealed(bytes, heap_id, &record) {
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
