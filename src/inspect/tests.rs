//! Decoding of valid files, and of files with any bytes.
#![cfg(not(loom))]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, TryRecvError};

use proptest::prelude::*;
use tempfile::TempDir;

use crate::format::index::IndexHeader as DiskHeader;
use crate::format::seal;
use crate::format::segment::SegmentHeader;
use crate::inspect::cache_file::FileRole;
use crate::inspect::lock_state::LockOwner;
use crate::inspect::page_cache::PageSample;
use crate::inspect::region_state::RegionState;
use crate::inspect::slot::SlotState;
use crate::inspect::*;
use crate::{Corruption, ErrorKind, Labels, Options, Problem};

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
    options.region_slots(16).max_segment_bytes(16 * 1024);
    options
}

/// Returns a cache with several segments and regions, and its entries.
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

fn all_slots(files: &CacheFiles) -> Vec<Slot> {
    (0..files.slot_count().unwrap())
        .map(|number| files.slot(number).unwrap().unwrap())
        .collect()
}

/// Returns the entries that the slots lead to.
fn entries(files: &CacheFiles) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut found = BTreeMap::new();
    for slot in all_slots(files).iter().filter(|slot| slot.is_entry()) {
        assert_eq!(slot.problems, []);
        let record = files.record(slot.address.unwrap()).unwrap().unwrap();
        assert!(record.is_valid(), "{record:?}");
        assert_eq!(slot.differences(&record, files.path()), []);
        let value = files.value(&record, u64::MAX).unwrap();
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
    let files = CacheFiles::open(&path, None).unwrap();
    assert_eq!(entries(&files), expected);
    for key in expected.keys() {
        let slots = files.find_slots(key).unwrap();
        let found = slots.iter().any(|&number| {
            let slot = files.slot(number).unwrap().unwrap();
            let record = files.record(slot.address.unwrap()).unwrap().unwrap();
            slot.probe.is_some() && record.key == *key
        });
        assert!(found);
    }
    assert_eq!(files.slot(u32::MAX).unwrap(), None);
}

/// Scans the index without a visitor.
fn scan(files: &CacheFiles) -> IndexScan {
    files.scan_index(|_, _| true, |_, _, _| {}).unwrap()
}

/// Returns the records of a segment.
fn records(files: &CacheFiles, segment: u16) -> Vec<Record> {
    let mut found = Vec::new();
    let scanned = files.scan_segment(segment, |record| {
        found.push(record);
        true
    });
    assert_eq!(scanned.unwrap(), Some(true));
    found
}

#[test]
fn index_scan_equals_single_slots() {
    let (_dir, path, expected) = small();
    let files = CacheFiles::open(&path, None).unwrap();
    let (mut key_bytes, mut value_bytes, mut versions) = (0, 0, Vec::new());
    let entry = |key_len: u16, value_len: u32, version| {
        key_bytes += usize::from(key_len);
        value_bytes += value_len as usize;
        versions.push(version);
    };
    let scan = files.scan_index(|_, _| true, entry).unwrap();
    let slots = all_slots(&files);
    let live = |slot: &&Slot| slot.region_state == RegionState::Live;
    let of = |state| {
        slots
            .iter()
            .filter(live)
            .filter(move |slot| slot.state == state)
    };
    assert!(scan.consistent);
    assert_eq!(scan.entries, expected.len() as u64);
    assert_eq!(scan.deleted, of(SlotState::Deleted).count() as u64);
    assert_eq!(scan.empty, of(SlotState::Empty).count() as u64);
    assert_eq!(scan.invalid, 0);
    assert_eq!(scan.slots(), slots.iter().filter(live).count() as u64);
    for (groups, count) in (1..).zip(&scan.entries_by_groups) {
        let found = of(SlotState::Full).filter(|slot| slot.probe == Some(groups));
        assert_eq!(*count, found.count() as u64);
    }
    assert_eq!(scan.entries_by_groups.iter().sum::<u64>(), scan.entries);
    assert_eq!(key_bytes, expected.keys().map(Vec::len).sum::<usize>());
    assert_eq!(value_bytes, expected.values().map(Vec::len).sum::<usize>());
    let version = |slot: &Slot| {
        let record = files.record(slot.address.unwrap()).unwrap();
        record.unwrap().version
    };
    let mut stored: Vec<u64> = of(SlotState::Full).map(version).collect();
    versions.sort_unstable();
    stored.sort_unstable();
    assert_eq!(versions, stored);
}

#[test]
fn index_scan_matches_the_header() {
    let (_dir, path, _) = small();
    let files = CacheFiles::open(&path, None).unwrap();
    let scan = scan(&files);
    let state = files.state().unwrap();
    let segments = files.segments();
    assert!(segments.len() > 3);
    let live = segments.iter().map(|&number| scan.live_records(number));
    let live = live.fold((0, 0), |(count, bytes), one| (count + one.0, bytes + one.1));
    assert_eq!(live, (state.occupied, state.live_bytes));
    assert_eq!(scan.live_bytes, state.live_bytes);
    let regions = scan.regions.iter();
    let occupied: u64 = regions.map(|region| u64::from(region.occupied)).sum();
    assert_eq!(occupied, state.occupied);
}

// Each record of a scan can also be decoded by its address.
#[test]
fn segment_scans_find_every_record() {
    let (_dir, path, _) = small();
    let files = CacheFiles::open(&path, None).unwrap();
    let (mut puts, mut deletions) = (0, 0);
    for number in files.segments() {
        let start = HeapAddress::new(number, 0);
        let all = files.segment_bytes(start, u64::MAX).unwrap();
        let file = files.segment_file(number).unwrap();
        assert_eq!(all, fs::read(&file.path).unwrap());
        let mut at = 128;
        for found in records(&files, number) {
            assert!(found.is_valid());
            assert_eq!(found.address, HeapAddress::new(number, at));
            at = found.end;
            let record = files.record(found.address).unwrap().unwrap();
            assert!(record.is_valid());
            let fields = |record: &Record| (record.end, record.value_at, record.value_len);
            assert_eq!(fields(&record), fields(&found));
            assert_eq!((record.kind(), &record.key), (found.kind(), &found.key));
            match found.kind() {
                Some("entry") => puts += 1,
                Some("deletion") => deletions += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(puts, 2 * KEYS);
    assert_eq!(deletions, KEYS.div_ceil(7));
}

#[test]
fn segment_scans_end_on_request() {
    let (_dir, path, _) = small();
    let files = CacheFiles::open(&path, None).unwrap();
    let mut left = 3;
    let scanned = files.scan_segment(1, |_| {
        left -= 1;
        left > 0
    });
    assert_eq!((scanned.unwrap(), left), (Some(false), 0));
    assert_eq!(files.scan_segment(999, |_| true).unwrap(), None);
}

// The scan continues after the corrupt record.
#[test]
fn corrupt_record_locates_the_corruption() {
    let (_dir, path, _) = small();
    let files = CacheFiles::open(&path, None).unwrap();
    let valid = records(&files, 1);
    let address = valid[1].address;
    let at = address.at;
    let problems = || files.record(address).unwrap().unwrap().problems;
    for (offset, bytes, what) in [
        (22, &[9][..], Corruption::RecordKind),
        (20, &[0, 0], Corruption::RecordWithoutKey),
        (16, &[1], Corruption::RecordUnusedBytes),
        (4, &[0xff; 4], Corruption::RecordTruncated),
    ] {
        let changed = HeapAddress::new(1, at + offset);
        let before = files.segment_bytes(changed, bytes.len() as u64).unwrap();
        set(&heap(&path, 1), at + offset, bytes);
        let found = problems();
        assert!(
            found
                .iter()
                .any(|problem| problem.at == at + offset && problem.what == what),
            "{found:?}"
        );
        let scanned = records(&files, 1);
        assert_eq!(scanned.len(), valid.len());
        let damaged = &scanned[1];
        assert_eq!((damaged.address, damaged.end), (address, valid[1].end));
        assert_eq!((damaged.is_valid(), damaged.kind()), (false, None));
        set(&heap(&path, 1), at + offset, &before);
        assert_eq!(problems(), []);
    }
    set(&heap(&path, 1), at + 30, &[0xee]);
    assert_eq!(problems()[0].what, Corruption::RecordChecksum);
}

/// The offset and the bytes of a change, and the offset and kind of the problem that it causes.
type SlotDamage = (u64, Vec<u8>, u64, Corruption);

fn slot_damages(slot: &Slot) -> Vec<SlotDamage> {
    let (control, link, body) = (slot.control_at, slot.link_at, slot.body_at);
    // The lowest bits that select the region.
    let other_region = vec![(slot.link >> 56) as u8 ^ 0xf0];
    let at_link: [(u64, &[u8], Corruption); 4] = [
        (0, &[0; 8], Corruption::ControlWithoutEntry),
        (4, &[0xff, 0xee], Corruption::LinkToMissingSegment),
        (0, &[2, 0, 0, 0], Corruption::LinkToHeader),
        (3, &[0x7f], Corruption::LinkBeyondEnd),
    ];
    let at_body: [(u64, Vec<u8>, u64, Corruption); 2] = [
        (0, vec![0xff; 4], 0, Corruption::PositionBeyondEnd),
        (0, vec![0; 4], 0, Corruption::EntryUnlisted),
    ];
    let mut all = vec![
        (control, vec![0x33], control, Corruption::ControlByte),
        (control, vec![0], control, Corruption::EntryWithoutControl),
        (
            link + 7,
            other_region,
            body + 6,
            Corruption::EntryInOtherRegion,
        ),
        (link + 6, vec![1], link, Corruption::EntryDeleted),
    ];
    all.extend(at_link.map(|(at, bytes, what)| (link + at, bytes.to_vec(), link, what)));
    all.extend(at_body.map(|(at, bytes, problem, what)| (body + at, bytes, body + problem, what)));
    all
}

#[test]
fn corrupt_slot_locates_the_corruption() {
    let (_dir, path, _) = small();
    let files = CacheFiles::open(&path, None).unwrap();
    let slots = all_slots(&files);
    let short = |slot: &&Slot| slot.is_entry() && slot.position > 0;
    let slot = slots.iter().find(short).unwrap();
    for (at, bytes, problem_at, what) in slot_damages(slot) {
        let before = files.index_bytes(at, bytes.len() as u64).unwrap();
        set(&path, at, &bytes);
        let found = files.slot(slot.number).unwrap().unwrap().problems;
        let located = |problem: &Problem| problem.at == problem_at && problem.what == what;
        assert!(found.iter().any(located), "{what}: {found:?}");
        set(&path, at, &before);
        assert_eq!(files.slot(slot.number).unwrap().unwrap(), *slot);
    }
}

// The layout then comes from the header of a segment, or from that of the index if it fits.
#[test]
fn corrupt_index_header_uses_segments() {
    let (_dir, path, expected) = small();
    // All change the checksum. The first two and the last change sizes; the last ones are possible.
    let damages: [(u64, &[u8]); 4] = [
        (80, &[0xff; 16]),
        (96, &[0; 16]),
        (32, &[0xff; 16]),
        (80, &[32, 0, 0, 0, 16]),
    ];
    for (at, bytes) in damages {
        let before = fs::read(&path).unwrap();
        set(&path, at, bytes);
        let files = CacheFiles::open(&path, None).unwrap();
        assert_eq!(entries(&files), expected);
        assert_eq!(scan(&files).entries, expected.len() as u64);
        fs::write(&path, before).unwrap();
    }
}

#[test]
fn unfinished_append_is_no_corruption() {
    let (_dir, path, _) = small();
    let files = CacheFiles::open(&path, None).unwrap();
    let tail = files.state().unwrap().tail;
    set(&heap(&path, tail.segment), tail.at, b"half of a record");
    let found = records(&files, tail.segment);
    assert_eq!(found.last().unwrap().end, tail.at);
    assert!(found.iter().all(Record::is_valid));
    // With an invalid header the scan reads the whole file.
    set(&path, 240, &[0xff; 8]);
    let files = CacheFiles::open(&path, None).unwrap();
    let found = records(&files, tail.segment);
    assert!(!found.iter().all(Record::is_valid));
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
    let files = CacheFiles::open(&path, None).unwrap();
    let refused = files.slot(0).unwrap_err();
    assert!(refused.is_corruption(), "{refused}");
    assert!(files.scan_index(|_, _| true, |_, _, _| {}).is_err());
    assert!(files.scan_segment(0, |_| true).is_err());
}

#[test]
fn newer_index_is_not_decoded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    drop(options().open(&path).unwrap());
    let mut header: DiskHeader = bytemuck::pod_read_unaligned(&fs::read(&path).unwrap()[..128]);
    header.flags |= 1 << 31;
    set(&path, 0, &seal::seal(header));
    fs::remove_file(heap(&path, 0)).unwrap();
    let files = CacheFiles::open(&path, None).unwrap();
    let refused = files.is_id_cache().unwrap_err();
    let named =
        matches!(refused.kind(), ErrorKind::UnsupportedVersion { flags, .. } if *flags == 1 << 31);
    assert!(named && !refused.is_corruption(), "{refused:?}");
    assert_eq!(files.header().unwrap().checksum_ok, Some(true));
    let what = Corruption::HeaderFlags;
    let first = &files.problems()[0];
    assert_eq!((first.at, first.what), (76, what));
    assert_eq!(files.files()[0].problem, Some(what));
    let fields = files.fields(&files.files()[0]).unwrap();
    let flags = fields.iter().find(|field| field.name == "flags");
    assert_eq!(flags.unwrap().problem, Some(what));
}

#[test]
fn newer_segment_is_reported() {
    let (_dir, path, _) = small();
    let file = heap(&path, 0);
    let bytes = fs::read(&file).unwrap();
    let mut header: SegmentHeader = bytemuck::pod_read_unaligned(&bytes[..120]);
    header.flags |= 1 << 31;
    set(&file, 0, &seal::seal(header));
    let files = CacheFiles::open(&path, None).unwrap();
    let segment = files.segment_file(0).unwrap();
    let what = Some(Corruption::HeaderFlags);
    assert_eq!(segment.problem, what);
    let fields = files.fields(segment).unwrap();
    let wrong = fields.iter().filter(|field| field.problem.is_some());
    let wrong: Vec<_> = wrong.map(|field| (field.name, field.problem)).collect();
    assert_eq!(wrong, [("flags", what)]);
}

#[test]
fn ids_of_keys_are_decoded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("labels");
    let labels = Labels::open(&path).unwrap();
    for number in 0..500_u32 {
        labels.get_or_intern(key(number)).unwrap();
    }
    let files = CacheFiles::open(&path, None).unwrap();
    assert!(files.is_id_cache().unwrap());
    let scan = scan(&files);
    assert_eq!((scan.entries, scan.invalid), (500, 0));
    let mut numbers = Vec::new();
    for slot in all_slots(&files).iter().filter(|slot| slot.is_entry()) {
        let record = files.record(slot.address.unwrap()).unwrap().unwrap();
        assert!(record.is_valid(), "{record:?}");
        assert_eq!(slot.differences(&record, files.path()), []);
        assert_eq!(record.version, u64::from(slot.position) + 1);
        numbers.push(record.version);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=500).collect::<Vec<_>>());
}

#[test]
fn lock_owner_is_read_without_locking() {
    let (_dir, path, _) = small();
    let cache = options().open(&path).unwrap();
    let lock = || CacheFiles::open(&path, None).unwrap().lock().unwrap();
    assert_eq!(lock().owner, LockOwner::None);
    let writer = cache.writer().unwrap();
    let held = lock();
    assert_eq!(held.owner, LockOwner::Alive);
    assert_eq!(held.process, Some(std::process::id()));
    drop(writer);
    assert_eq!(lock().owner, LockOwner::None);
    if held.by_word {
        set(&path, 584, &held.number.to_le_bytes());
        assert_eq!(lock().owner, LockOwner::Alive, "the handle is open");
        drop(cache);
        assert_eq!(lock().owner, LockOwner::Dead);
    }
}

#[test]
fn only_corrupt_fields_have_problems() {
    let (_dir, path, _) = small();
    let wrong_fields = || {
        let files = CacheFiles::open(&path, None).unwrap();
        let mut found = Vec::new();
        for file in files.files() {
            let fields = files.fields(file).unwrap();
            assert_eq!(fields.is_empty(), file.role == FileRole::Lock);
            let wrong = fields.iter().filter(|field| field.problem.is_some());
            found.extend(wrong.map(|field| (file.role, field.name)));
        }
        found
    };
    assert_eq!(wrong_fields(), []);
    set(&path, 160, &[1]);
    set(&path, 240, &[0xff; 8]);
    set(&heap(&path, 1), 48, &[7]);
    set(&heap(&path, 2), 40, &[7]);
    let found = wrong_fields();
    for wrong in [
        (FileRole::Index, "unused"),
        (FileRole::Index, "counters.regions"),
        (FileRole::Segment(1), "number"),
        (FileRole::Segment(1), "crc"),
        (FileRole::Segment(2), "crc"),
    ] {
        assert!(found.contains(&wrong), "{found:?}");
    }
}

#[test]
fn slots_are_found_by_offset() {
    let (_dir, path, _) = small();
    let files = CacheFiles::open(&path, None).unwrap();
    for slot in all_slots(&files) {
        let end = slot.body_at + 8;
        for at in [slot.body_at, end - 1] {
            assert_eq!(files.slot_at(at).unwrap(), Some(slot.number));
        }
        assert_ne!(files.slot_at(end).unwrap(), Some(slot.number));
        assert_eq!(files.slot_at(slot.link_at).unwrap(), None);
    }
    assert_eq!(files.slot_at(0).unwrap(), None);
    assert_eq!(files.slot_at(u64::MAX).unwrap(), None);
}

#[test]
fn fresh_pages_are_resident() {
    let (_dir, path, _) = small();
    let files = CacheFiles::open(&path, None).unwrap();
    for file in files.files() {
        // Not every file system supports the reads.
        if let Some(found) = PageSample::take(&file.path).unwrap() {
            assert_eq!(found.sampled, file.len.div_ceil(4096).min(256));
            assert!(found.bytes() <= file.len);
            // The unused part of the directory is a hole, in which most of the sample may be.
            let holes = file.role == FileRole::Index;
            assert!(found.resident > 0 || file.len == 0 || holes, "{found:?}");
            assert!(found.resident < found.sampled || !holes, "{found:?}");
        }
    }
}

#[test]
fn evicted_pages_are_not_resident() {
    let (_dir, path, _) = small();
    let files = CacheFiles::open(&path, None).unwrap();
    let file = fs::File::open(heap(&path, 0)).unwrap();
    let segment = files.segment_file(0).unwrap();
    file.sync_all().unwrap();
    // The kernel keeps pages that another processor has just touched, so try again.
    let mut last = None;
    for _ in 0..100 {
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        last = PageSample::take(&segment.path).unwrap();
        if last
            .as_ref()
            .is_none_or(|found| found.resident < found.sampled)
        {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("{last:?}");
}

#[test]
fn concurrent_writers_cause_no_problems() {
    let (_dir, path, _) = small();
    let cache = options().open(&path).unwrap();
    let (reading, stop) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        // Ends when the reader drops the sender, also by a panic.
        scope.spawn(move || {
            let mut round = 0;
            while stop.try_recv() == Err(TryRecvError::Empty) {
                let number = round * 17 % (2 * KEYS);
                cache.put(&key(number), &value(number + round)).unwrap();
                cache.delete(&key(round * 5 % (2 * KEYS))).unwrap();
                round += 1;
            }
        });
        let reading = reading;
        for _ in 0..60 {
            let files = CacheFiles::open(&path, None).unwrap();
            let scan = scan(&files);
            assert!(scan.entries <= 4 * u64::from(KEYS));
            assert!(!scan.consistent || scan.invalid == 0, "{}", scan.invalid);
            files.lock().unwrap();
            let number = *files.segments().last().unwrap();
            let mut left = 50;
            let visit = |_| {
                left -= 1;
                left > 0
            };
            files.scan_segment(number, visit).unwrap();
            files.slot(scan.entries as u32).unwrap();
        }
        drop(reading);
    });
}

#[test]
fn killed_writers_change_is_no_damage() {
    let (_dir, path, _) = small();
    let files = CacheFiles::open(&path, None).unwrap();
    let slots = all_slots(&files);
    let slot = slots.iter().find(|slot| slot.is_entry()).unwrap();
    // As after a kill between the stores of control byte and link, but without the redo record.
    set(&path, slot.link_at, &[0; 8]);
    assert!(scan(&files).consistent);
    set(&path, 320, &[1; 8]);
    let scan = scan(&files);
    assert_eq!((scan.consistent, scan.invalid), (false, 1));
}

/// Calls all functions.
fn inspect_everything(path: &Path) {
    let Ok(files) = CacheFiles::open(path, None) else {
        return;
    };
    let _ = (files.scan_index(|_, _| true, |_, _, _| {}), files.lock());
    for file in files.files() {
        files.fields(file).unwrap();
        let _ = files.resident_bytes(file);
    }
    let Ok(slots) = files.slot_count() else {
        return;
    };
    let step = (slots / 500).max(1);
    for number in (0..slots).step_by(step as usize).chain([u32::MAX]) {
        let Ok(Some(slot)) = files.slot(number) else {
            continue;
        };
        if let Some(address) = slot.address
            && let Ok(Some(record)) = files.record(address)
        {
            let _ = slot.differences(&record, path);
            let _ = files.value(&record, u64::MAX);
        }
    }
    for number in files.segments() {
        let _ = files.scan_segment(number, |_| true);
        for at in [0, 1, 128, 129, 16_000, u64::MAX] {
            let _ = files.slot_at(at);
            let _ = files.record(HeapAddress::new(number, at));
        }
    }
    let _ = files.find_slots(&key(1));
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
        // Half of the changes of the index are in its header page.
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
        inspect_everything(&path);
    }
}
