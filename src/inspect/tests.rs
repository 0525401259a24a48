//! Sound files seen from outside, and files of which any byte may be wrong.
#![cfg(not(loom))]

use crate::error::ErrorKind;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, TryRecvError};

use proptest::prelude::*;
use tempfile::TempDir;

use crate::format::index::IndexHeader;
use crate::format::seal;
use crate::format::segment::SegmentHeader;
use crate::inspect::*;
use crate::{Corruption, Labels, Options, Problem};

/// Entries of the small cache, some of them deleted, some overwritten.
const KEYS: u32 = 300;

fn key(number: u32) -> Vec<u8> {
    format!("{number} {}", "k".repeat(number as usize % 40)).into_bytes()
}

fn value(number: u32) -> Vec<u8> {
    vec![number as u8; number as usize % 700]
}

fn options() -> Options {
    let mut options = Options::new();
    options
        .region_slots(16)
        .inline_key_bytes(8)
        .max_segment_bytes(16 * 1024);
    options
}

/// A cache of several segments and regions, and what is in it.
fn small() -> (TempDir, PathBuf, BTreeMap<Vec<u8>, Vec<u8>>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let cache = options()
        .compaction_threshold(0, u64::MAX)
        .open(&path)
        .unwrap();
    for number in 0..KEYS {
        cache.put(&key(number), b"first").unwrap();
        cache.put(&key(number), &value(number)).unwrap();
    }
    for number in (0..KEYS).step_by(7) {
        cache.delete(&key(number)).unwrap();
    }
    cache.flush().unwrap();
    let entries = cache.iter().unwrap().map(Result::unwrap).collect();
    (dir, path, entries)
}

fn all_slots(anatomy: &Anatomy) -> Vec<Slot> {
    (0..anatomy.slots().unwrap())
        .map(|number| anatomy.slot(number).unwrap().unwrap())
        .collect()
}

/// What the slots lead to.
fn entries(anatomy: &Anatomy) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut found = BTreeMap::new();
    for slot in all_slots(anatomy).iter().filter(|slot| slot.is_entry()) {
        assert_eq!(slot.doubts, []);
        let record = anatomy.record(slot.place.unwrap()).unwrap().unwrap();
        assert!(record.is_sound(), "{record:?}");
        assert_eq!(
            slot.differences(&record, anatomy.overview().path.as_path()),
            []
        );
        let value = anatomy.value(&record, u64::MAX).unwrap();
        found.insert(record.key, value);
    }
    found
}

fn set(path: &Path, at: u64, bytes: &[u8]) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

fn heap(path: &Path, number: u16) -> PathBuf {
    let suffix = if number == 0 {
        ".heap".to_owned()
    } else {
        format!(".heap.{number}")
    };
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[test]
fn slots_lead_to_all_entries() {
    let (_dir, path, expected) = small();
    let anatomy = Anatomy::open(&path, None).unwrap();
    assert_eq!(entries(&anatomy), expected);
    assert_eq!(anatomy.layout().unwrap().source, LayoutSource::Index);
    for key in expected.keys() {
        let slots = anatomy.slots_of(key).unwrap();
        let found = slots.iter().any(|&number| {
            let slot = anatomy.slot(number).unwrap().unwrap();
            let record = anatomy.record(slot.place.unwrap()).unwrap().unwrap();
            slot.probe.is_some() && record.key == *key
        });
        assert!(found);
    }
    assert_eq!(anatomy.slot(u32::MAX).unwrap(), None);
}

#[test]
fn census_equals_single_inspections() {
    let (_dir, path, expected) = small();
    let anatomy = Anatomy::open(&path, None).unwrap();
    let census = anatomy.census().unwrap();
    let slots = all_slots(&anatomy);
    let live = |slot: &&Slot| slot.region_state == RegionState::Live;
    let of = |state| {
        slots
            .iter()
            .filter(live)
            .filter(move |slot| slot.state == state)
    };
    assert!(census.steady);
    assert_eq!(census.entries, expected.len() as u64);
    assert_eq!(census.deleted, of(SlotState::Deleted).count() as u64);
    assert_eq!(census.empty, of(SlotState::Empty).count() as u64);
    assert_eq!(census.implausible, 0);
    assert_eq!(census.slots(), slots.iter().filter(live).count() as u64);
    for (groups, count) in (1..).zip(&census.probes) {
        let found = of(SlotState::Full).filter(|slot| slot.probe == Some(groups));
        assert_eq!(*count, found.count() as u64);
    }
    assert_eq!(census.probes.iter().sum::<u64>(), census.entries);
    let bytes = |len: fn(&(&Vec<u8>, &Vec<u8>)) -> usize| -> u128 {
        expected.iter().map(|entry| len(&entry) as u128).sum()
    };
    assert_eq!(census.key_bytes.sum, bytes(|(key, _)| key.len()));
    assert_eq!(census.value_bytes.sum, bytes(|(_, value)| value.len()));
    assert_eq!(census.ages.count(), census.entries);
}

// The segments of a census add up to the counts of the header.
#[test]
fn census_segments_match_the_header() {
    let (_dir, path, _) = small();
    let anatomy = Anatomy::open(&path, None).unwrap();
    let census = anatomy.census().unwrap();
    let header = anatomy.overview().changing.clone().unwrap();
    let sum = |of: fn(&SegmentCount) -> u64| -> u64 { census.segments.iter().map(of).sum() };
    assert!(census.segments.len() > 3);
    assert_eq!(sum(|segment| segment.used), header.heap_bytes());
    assert_eq!(sum(|segment| segment.live_bytes), header.live_bytes);
    assert_eq!(sum(|segment| segment.live_records), header.occupied);
    assert_eq!(
        sum(|segment| segment.dead_bytes) + 128 * census.segments.len() as u64,
        header.dead_bytes()
    );
    let regions: u64 = census
        .regions
        .iter()
        .map(|region| u64::from(region.occupied))
        .sum();
    assert_eq!(regions, header.occupied);
}

// A walk finds every record of the heap, and each can be read by its place.
#[test]
fn walk_finds_every_heap_record() {
    let (_dir, path, _) = small();
    let anatomy = Anatomy::open(&path, None).unwrap();
    let (mut puts, mut deletions) = (0, 0);
    for number in anatomy.segments() {
        let segment = anatomy.segment(number).unwrap().unwrap();
        let all = anatomy.bytes(number, 0, u64::MAX).unwrap();
        assert_eq!(all, fs::read(segment.path()).unwrap());
        let mut at = 128;
        for found in segment.records() {
            let Stretch::Record(walked) = found.unwrap() else {
                panic!("damage in a sound heap");
            };
            assert_eq!(walked.place, HeapPlace::new(number, at));
            at += walked.bytes;
            let record = anatomy.record(walked.place).unwrap().unwrap();
            assert!(record.is_sound());
            assert_eq!((record.end, &record.key), (at, &walked.key));
            assert_eq!(record.kind, Some(walked.kind));
            match walked.kind {
                RecordKind::Entry => puts += 1,
                RecordKind::Deletion => deletions += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(puts, 2 * KEYS);
    assert_eq!(deletions, KEYS.div_ceil(7));
}

// A corrupt record says where it is wrong, and the walk goes on after it.
#[test]
fn corrupt_record_locates_the_corruption() {
    let (_dir, path, _) = small();
    let anatomy = Anatomy::open(&path, None).unwrap();
    let segment = anatomy.segment(1).unwrap().unwrap();
    let walk =
        |segment: &Segment| -> Vec<Stretch> { segment.records().map(Result::unwrap).collect() };
    let sound = walk(&segment);
    let Stretch::Record(second) = sound[1].clone() else {
        panic!("damage in a sound heap");
    };
    let at = second.place.at;
    let doubts = || anatomy.record(second.place).unwrap().unwrap().doubts;
    for (offset, bytes, what) in [
        (22, &[9][..], Corruption::RecordKind),
        (20, &[0, 0], Corruption::RecordWithoutKey),
        (16, &[1], Corruption::RecordUnusedBytes),
        (4, &[0xff; 4], Corruption::RecordTruncated),
    ] {
        let before = anatomy.bytes(1, at + offset, bytes.len() as u64).unwrap();
        set(&heap(&path, 1), at + offset, bytes);
        let found = doubts();
        assert!(
            found
                .iter()
                .any(|fault| fault.at == at + offset && fault.what == what),
            "{found:?}"
        );
        let walked = walk(&segment);
        assert_eq!(walked.len(), sound.len());
        assert!(matches!(walked[1], Stretch::Damage { from, .. } if from == second.place));
        set(&heap(&path, 1), at + offset, &before);
        assert_eq!(doubts(), []);
    }
    set(&heap(&path, 1), second.place.at + 30, &[0xee]);
    assert_eq!(doubts()[0].what, Corruption::RecordChecksum);
}

// A corrupt region says where it is wrong, and a valid one says nothing.
#[test]
fn corrupt_region_locates_the_corruption() {
    let (_dir, path, _) = small();
    let anatomy = Anatomy::open(&path, None).unwrap();
    let regions: Vec<Region> = (0..anatomy.layout().unwrap().regions)
        .map(|number| anatomy.region(number).unwrap().unwrap())
        .collect();
    assert!(regions.iter().all(|region| region.doubts.is_empty()));
    let live = |region: &&Region| region.state == RegionState::Live && region.depth > 0;
    let region = regions.iter().find(live).unwrap();
    for (offset, bytes, word, what) in [
        (0, &[9][..], 0, Corruption::RegionState),
        (6, &[1, 1], 0, Corruption::RegionTag),
        (1, &[0xee], 8, Corruption::DirectoryMismatch),
        (8, &[0xff; 4], 8, Corruption::RegionPrefix),
        (12, &[21], 8, Corruption::RegionPrefix),
        (16, &[0xff], 16, Corruption::RegionCounts),
        (20, &[0xff], 16, Corruption::RegionCounts),
    ] {
        let at = region.at + offset;
        let before = anatomy.index_bytes(at, bytes.len() as u64).unwrap();
        set(&path, at, bytes);
        let found = anatomy.region(region.number).unwrap().unwrap().doubts;
        let told = |fault: &Problem| fault.at == region.at + word && fault.what == what;
        assert!(found.iter().any(told), "{what}: {found:?}");
        set(&path, at, &before);
    }
    assert_eq!(
        anatomy.region(region.number).unwrap().as_ref(),
        Some(region)
    );
}

/// What is stored where in a slot, and which fault that is, where.
type SlotDamage = (u64, Vec<u8>, u64, Corruption);

fn slot_damages(slot: &Slot) -> Vec<SlotDamage> {
    let (control, link, body) = (slot.control_at, slot.link_at, slot.body_at);
    let other_hash = vec![0xff ^ slot.control | 0x80];
    // The lowest bits by which a region is found.
    let other_region = vec![(slot.link >> 56) as u8 ^ 0xf0];
    let at_link: [(u64, &[u8], Corruption); 4] = [
        (0, &[0; 8], Corruption::ControlWithoutEntry),
        (4, &[0xff, 0xee], Corruption::LinkToMissingSegment),
        (0, &[2, 0, 0, 0], Corruption::LinkToHeader),
        (3, &[0x7f], Corruption::LinkBeyondEnd),
    ];
    let at_body: [(u64, Vec<u8>, u64, Corruption); 4] = [
        (0, vec![0xff; 4], 0, Corruption::PositionBeyondEnd),
        (0, vec![0; 4], 0, Corruption::EntryUnlisted),
        (4, vec![0, 0], 4, Corruption::EntryWithoutKey),
        (40, b"x".to_vec(), 6, Corruption::EntryHash),
    ];
    let mut all = vec![
        (control, vec![0x33], control, Corruption::ControlByte),
        (control, vec![0], control, Corruption::EntryWithoutControl),
        (control, other_hash, body + 6, Corruption::EntryHash),
        (
            link + 7,
            other_region,
            body + 6,
            Corruption::EntryInOtherRegion,
        ),
    ];
    all.extend(at_link.map(|(at, bytes, what)| (link + at, bytes.to_vec(), link, what)));
    all.extend(at_body.map(|(at, bytes, place, what)| (body + at, bytes, body + place, what)));
    all
}

#[test]
fn corrupt_slot_locates_the_corruption() {
    let (_dir, path, _) = small();
    let anatomy = Anatomy::open(&path, None).unwrap();
    let slots = all_slots(&anatomy);
    let short = |slot: &&Slot| slot.is_entry() && slot.key_len <= 8 && slot.position > 0;
    let slot = slots.iter().find(short).unwrap();
    for (at, bytes, place, what) in slot_damages(slot) {
        let before = anatomy.index_bytes(at, bytes.len() as u64).unwrap();
        set(&path, at, &bytes);
        let found = anatomy.slot(slot.number).unwrap().unwrap().doubts;
        let told = found
            .iter()
            .any(|fault| fault.at == place && fault.what == what);
        assert!(told, "{what}: {found:?}");
        set(&path, at, &before);
        assert_eq!(anatomy.slot(slot.number).unwrap().unwrap(), *slot);
    }
}

// An index whose header is corrupt is decoded by the headers of the segments.
#[test]
fn corrupt_index_header_uses_segments() {
    let (_dir, path, expected) = small();
    // The sizes, and with them the checksum; the last ones could be right, and are not.
    let damages: [(u64, &[u8], LayoutSource); 4] = [
        (80, &[0xff; 16], LayoutSource::Segment(0)),
        (96, &[0; 16], LayoutSource::Segment(0)),
        (32, &[0xff; 16], LayoutSource::DamagedIndex),
        (80, &[32, 0, 0, 0, 16], LayoutSource::Segment(0)),
    ];
    for (at, bytes, source) in damages {
        let before = fs::read(&path).unwrap();
        set(&path, at, bytes);
        let anatomy = Anatomy::open(&path, None).unwrap();
        let found = anatomy.layout().unwrap().source;
        let same_kind = std::mem::discriminant(&found) == std::mem::discriminant(&source);
        assert!(same_kind, "{found:?}");
        assert_eq!(entries(&anatomy), expected);
        assert_eq!(anatomy.census().unwrap().entries, expected.len() as u64);
        fs::write(&path, before).unwrap();
    }
}

#[test]
fn unfinished_append_is_no_corruption() {
    let (_dir, path, _) = small();
    let anatomy = Anatomy::open(&path, None).unwrap();
    let tail = anatomy.overview().changing.as_ref().unwrap().tail;
    set(&heap(&path, tail.segment), tail.at, b"half of a record");
    let segment = anatomy.segment(tail.segment).unwrap().unwrap();
    assert_eq!(segment.end(), tail.at);
    let damage = |found| matches!(found, Ok(Stretch::Damage { .. }));
    assert!(!segment.records().any(damage));
    // Where the header cannot be believed, all of the file is looked at.
    set(&path, 240, &[0xff; 8]);
    let anatomy = Anatomy::open(&path, None).unwrap();
    let segment = anatomy.segment(tail.segment).unwrap().unwrap();
    assert!(segment.records().any(damage));
}

// Without any valid header, reading an entry is an error of corruption.
#[test]
fn missing_valid_header_is_an_error() {
    let (_dir, path, _) = small();
    set(&path, 80, &[0xff; 16]);
    for number in 0.. {
        let segment = heap(&path, number);
        if !segment.exists() {
            break;
        }
        set(&segment, 16, &[0xff; 60]);
    }
    let anatomy = Anatomy::open(&path, None).unwrap();
    let refused = anatomy.slot(0).unwrap_err();
    assert!(refused.is_corruption(), "{refused}");
    assert!(anatomy.census().is_err() && anatomy.segment(0).is_err());
}

#[test]
fn newer_index_is_not_decoded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    drop(options().open(&path).unwrap());
    let mut header: IndexHeader = bytemuck::pod_read_unaligned(&fs::read(&path).unwrap()[..128]);
    header.flags |= 1 << 31;
    set(&path, 0, &seal::seal(header));
    fs::remove_file(heap(&path, 0)).unwrap();
    let anatomy = Anatomy::open(&path, None).unwrap();
    let refused = anatomy.layout().unwrap_err();
    let said =
        matches!(refused.kind(), ErrorKind::UnsupportedVersion { flags, .. } if *flags == 1 << 31);
    assert!(said && !refused.is_corruption(), "{refused:?}");
    let overview = anatomy.overview();
    assert_eq!(overview.sealed.as_ref().unwrap().checksum_ok, Some(true));
    let what = Corruption::HeaderFlags;
    let first = &overview.implausible[0];
    assert_eq!((first.at, first.what), (76, what));
    assert_eq!(overview.files[0].fault, Some(what));
    let header = anatomy.header(&overview.files[0]).unwrap();
    let flags = header.fields.iter().find(|field| field.name == "flags");
    assert_eq!(flags.unwrap().doubt, Some(what));
}

#[test]
fn newer_segment_says_so() {
    let (_dir, path, _) = small();
    let file = heap(&path, 0);
    let bytes = fs::read(&file).unwrap();
    let mut header: SegmentHeader = bytemuck::pod_read_unaligned(&bytes[..120]);
    header.flags |= 1 << 31;
    set(&file, 0, &seal::seal(header));
    let anatomy = Anatomy::open(&path, None).unwrap();
    let files = &anatomy.overview().files;
    let segment = files.iter().find(|one| one.role == Role::Segment(0));
    let what = Some(Corruption::HeaderFlags);
    assert_eq!(segment.unwrap().fault, what);
    let header = anatomy.header(segment.unwrap()).unwrap();
    let doubtful = header.fields.iter().filter(|field| field.doubt.is_some());
    let doubtful: Vec<_> = doubtful.map(|field| (field.name, field.doubt)).collect();
    assert_eq!(doubtful, [("flags", what)]);
}

#[test]
fn ids_of_keys_are_decoded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("labels");
    let labels = Labels::open(&path).unwrap();
    for number in 0..500_u32 {
        labels.get_or_intern(key(number)).unwrap();
    }
    let anatomy = Anatomy::open(&path, None).unwrap();
    assert!(anatomy.layout().unwrap().numbered);
    let census = anatomy.census().unwrap();
    assert_eq!((census.entries, census.implausible), (500, 0));
    let mut numbers = Vec::new();
    for slot in all_slots(&anatomy).iter().filter(|slot| slot.is_entry()) {
        let record = anatomy.record(slot.place.unwrap()).unwrap().unwrap();
        assert!(record.is_sound(), "{record:?}");
        assert_eq!(
            slot.differences(&record, anatomy.overview().path.as_path()),
            []
        );
        assert_eq!(record.version, u64::from(slot.position) + 1);
        numbers.push(record.version);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=500).collect::<Vec<_>>());
}

#[test]
fn lock_holder_is_seen_without_locking() {
    let (_dir, path, _) = small();
    let cache = options().open(&path).unwrap();
    let look = || Anatomy::open(&path, None).unwrap().lock().unwrap();
    assert_eq!(look().holder, Holder::Nobody);
    let writer = cache.writer().unwrap();
    let held = look();
    assert_eq!(held.holder, Holder::Alive);
    assert_eq!(held.process, Some(std::process::id()));
    drop(writer);
    assert_eq!(look().holder, Holder::Nobody);
    if held.by_word {
        set(&path, 584, &held.number.to_le_bytes());
        assert_eq!(look().holder, Holder::Alive, "the handle lives");
        drop(cache);
        assert_eq!(look().holder, Holder::Dead);
    }
}

// Every field of a valid cache is consistent, and a corrupt one is not.
#[test]
fn valid_fields_are_consistent() {
    let (_dir, path, _) = small();
    let doubted = || {
        let anatomy = Anatomy::open(&path, None).unwrap();
        let mut found = Vec::new();
        for file in &anatomy.overview().files {
            let header = anatomy.header(file).unwrap();
            assert_eq!(header.fields.is_empty(), file.role == Role::Lock);
            let doubted = header.fields.iter().filter(|field| field.doubt.is_some());
            found.extend(doubted.map(|field| (file.role, field.name)));
        }
        found
    };
    assert_eq!(doubted(), []);
    set(&path, 160, &[1]);
    set(&path, 240, &[0xff; 8]);
    set(&heap(&path, 1), 48, &[7]);
    set(&heap(&path, 2), 40, &[7]);
    let found = doubted();
    for wrong in [
        (Role::Index, "unused"),
        (Role::Index, "counters.regions"),
        (Role::Segment(1), "number"),
        (Role::Segment(1), "crc"),
        (Role::Segment(2), "crc"),
    ] {
        assert!(found.contains(&wrong), "{found:?}");
    }
}

#[test]
fn fresh_pages_are_resident() {
    let (_dir, path, _) = small();
    let anatomy = Anatomy::open(&path, None).unwrap();
    for file in &anatomy.overview().files {
        // Not every file system can tell.
        if let Some(found) = anatomy.residency(file).unwrap() {
            assert_eq!(found.asked, file.len.div_ceil(4096).min(256));
            assert!(found.bytes() <= file.len);
            assert!(found.resident > 0 || file.len == 0, "{found:?}");
            // The directory's room is a hole.
            let holes = file.role == Role::Index;
            assert!(found.resident < found.asked || !holes, "{found:?}");
        }
    }
}

#[test]
fn forgotten_pages_are_not_resident() {
    let (_dir, path, _) = small();
    let anatomy = Anatomy::open(&path, None).unwrap();
    let file = fs::File::open(heap(&path, 0)).unwrap();
    let mut files = anatomy.overview().files.iter();
    let segment = files.find(|file| file.role == Role::Segment(0)).unwrap();
    file.sync_all().unwrap();
    // The kernel keeps pages that another processor has just touched: it is asked again then.
    let mut last = None;
    for _ in 0..100 {
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        last = anatomy.residency(segment).unwrap();
        if last
            .as_ref()
            .is_none_or(|found| found.resident < found.asked)
        {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("{last:?}");
}

// Inspecting a cache that others write to never fails, and reports no corruption.
#[test]
fn inspecting_beside_writers_reports_nothing() {
    let (_dir, path, _) = small();
    let cache = options().open(&path).unwrap();
    let (looking, watch) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        // Ends with the looks, also where they fail.
        scope.spawn(move || {
            let mut round = 0;
            while watch.try_recv() == Err(TryRecvError::Empty) {
                let number = round * 17 % (2 * KEYS);
                cache.put(&key(number), &value(number + round)).unwrap();
                cache.delete(&key(round * 5 % (2 * KEYS))).unwrap();
                round += 1;
            }
        });
        let looking = looking;
        for _ in 0..60 {
            let anatomy = Anatomy::open(&path, None).unwrap();
            let census = anatomy.census().unwrap();
            assert!(census.entries <= 4 * u64::from(KEYS));
            let accused = census.steady && census.implausible > 0;
            assert!(!accused, "{} slots", census.implausible);
            anatomy.lock().unwrap();
            let number = *anatomy.segments().last().unwrap();
            let segment = anatomy.segment(number).unwrap();
            for found in segment.iter().flat_map(Segment::records).take(50) {
                found.unwrap();
            }
            anatomy.slot(census.entries as u32).unwrap();
        }
        drop(looking);
    });
}

#[test]
fn killed_writers_census_reports_nothing() {
    let (_dir, path, _) = small();
    let anatomy = Anatomy::open(&path, None).unwrap();
    let slots = all_slots(&anatomy);
    let slot = slots.iter().find(|slot| slot.is_entry()).unwrap();
    // Between the control byte and the link, the intent armed.
    set(&path, slot.link_at, &[0; 8]);
    assert!(anatomy.census().unwrap().steady);
    set(&path, 320, &[1; 8]);
    let census = anatomy.census().unwrap();
    assert_eq!((census.steady, census.implausible), (false, 1));
}

/// Runs everything over what is there.
fn look_at_everything(path: &Path) {
    let Ok(anatomy) = Anatomy::open(path, None) else {
        return;
    };
    let _ = (anatomy.census(), anatomy.lock());
    for file in &anatomy.overview().files {
        anatomy.header(file).unwrap();
    }
    let Ok(layout) = anatomy.layout().cloned() else {
        return;
    };
    for number in (0..layout.regions).chain([u32::MAX]) {
        let _ = anatomy.region(number);
    }
    let step = (anatomy.slots().unwrap() / 500).max(1);
    for number in (0..anatomy.slots().unwrap())
        .step_by(step as usize)
        .chain([u32::MAX])
    {
        let Ok(Some(slot)) = anatomy.slot(number) else {
            continue;
        };
        if let Some(place) = slot.place
            && let Ok(Some(record)) = anatomy.record(place)
        {
            let _ = slot.differences(&record, path);
            let _ = anatomy.value(&record, u64::MAX);
        }
    }
    for number in anatomy.segments() {
        if let Ok(Some(segment)) = anatomy.segment(number) {
            for found in segment.records() {
                found.unwrap();
            }
        }
        for at in [0, 1, 128, 129, 16_000, u64::MAX] {
            let _ = anatomy.record(HeapPlace::new(number, at));
        }
    }
    let _ = anatomy.slots_of(&key(1));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn inspection_ends_on_any_bytes(
        damages in prop::collection::vec((0..4_usize, any::<prop::sample::Index>(), any::<u64>()), 1..12),
        cut in prop::option::of((0..3_usize, any::<prop::sample::Index>())),
    ) {
        let (_dir, path, _) = small();
        let mut roster = path.as_os_str().to_owned();
        roster.push(".roster");
        // The header page is struck as often as all the rest of the index.
        let files = [path.clone(), path.clone(), heap(&path, 0), roster.into()];
        for (file, at, word) in damages {
            let len = if file == 0 { 608 } else { fs::metadata(&files[file]).unwrap().len() };
            set(&files[file], at.index(len as usize - 8) as u64, &word.to_le_bytes());
        }
        if let Some((file, at)) = cut {
            let file = fs::File::options().write(true).open(&files[file + 1]).unwrap();
            let len = file.metadata().unwrap().len();
            file.set_len(at.index(len as usize) as u64).unwrap();
        }
        look_at_everything(&path);
    }
}
