//! What labels promise, to one process.

use crate::Error;
use crate::error::ErrorKind;
use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;

use crate::engine::Durability;
use crate::format::index::word;
use crate::labels::*;
use crate::sync::failpoint;

fn open(dir: &tempfile::TempDir) -> Labels {
    Labels::open(dir.path().join("labels")).unwrap()
}

/// Regions of sixteen slots and segments of sixteen KiB: the index grows and the heap rotates soon.
fn tiny() -> Options {
    let mut options = Options::new();
    options.region_slots(16).max_segment_bytes(16 * 1024);
    options
}

fn text(number: u32) -> String {
    format!("label number {number}")
}

// Ids count up in the order of first insertion, and stay after reopening.
#[test]
fn ids_follow_first_insertion() {
    let dir = tempfile::tempdir().unwrap();
    let labels = open(&dir);
    for i in 0..5_000 {
        assert_eq!(labels.get_or_intern(text(i)).unwrap().number(), i);
    }
    for labels in [labels, open(&dir)] {
        assert_eq!(labels.len(), 5_000);
        for i in 0..5_000 {
            let id = LabelId::new(i);
            assert_eq!(labels.get(text(i)).unwrap(), Some(id));
            assert_eq!(labels.get_or_intern(text(i)).unwrap(), id);
            assert_eq!(labels.resolve_str(id).unwrap(), Some(text(i)));
        }
        assert_eq!(labels.resolve(LabelId::new(5_000)).unwrap(), None);
        assert_eq!(labels.resolve(LabelId::new(u32::MAX)).unwrap(), None);
        assert!(!labels.contains("never seen").unwrap());
        let listed: Vec<_> = labels.iter().unwrap().map(Result::unwrap).collect();
        let known: Vec<_> = (0..5_000)
            .map(|i| (LabelId::new(i), text(i).into_bytes()))
            .collect();
        assert_eq!(listed, known);
        assert!(labels.verify().run().unwrap().is_clean());
    }
}

// Only labels that are UTF-8 can be read as text.
#[test]
fn labels_are_bytes_of_any_length() {
    let dir = tempfile::tempdir().unwrap();
    let labels = open(&dir);
    let long = vec![7; 65_535];
    let all: Vec<Vec<u8>> = (1..300_usize)
        .map(|len| (0..len).map(|at| (at * len) as u8).collect())
        .chain([long, b"\xff\xfe".to_vec(), b"nul\0inside".to_vec()])
        .collect();
    let ids = labels.get_or_intern_many(&all).unwrap();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), all.len());
    let mut buffer = b"what was there before".to_vec();
    for (id, label) in ids.iter().zip(&all) {
        assert!(labels.resolve_into(*id, &mut buffer).unwrap());
        assert_eq!(&buffer, label);
        assert_eq!(labels.get(label).unwrap(), Some(*id));
    }
    let not_text = labels.get("\u{0}").unwrap();
    assert!(not_text.is_some(), "one byte, zero, was the first label");
    let id = labels.get(b"\xff\xfe").unwrap().unwrap();
    assert!(matches!(
        labels.resolve_str(id).as_ref().map_err(Error::kind),
        Err(ErrorKind::NotUtf8 { .. })
    ));
    for refused in [Vec::new(), vec![0; 65_536]] {
        assert!(matches!(
            labels.get_or_intern(&refused).as_ref().map_err(Error::kind),
            Err(ErrorKind::KeyLength { .. })
        ));
    }
    assert!(labels.verify().run().unwrap().is_clean());
}

// No operation deletes, overwrites or clears a label.
#[test]
fn labels_can_never_be_changed() {
    let dir = tempfile::tempdir().unwrap();
    let labels = open(&dir);
    let id = labels.get_or_intern("kept").unwrap();
    let cache = MmapCache::open(labels.path()).unwrap();
    let append_only = |error: Error| matches!(error.kind(), ErrorKind::AppendOnly);
    assert!(append_only(cache.put(b"kept", b"").unwrap_err()));
    assert!(append_only(cache.delete(b"kept").unwrap_err()));
    assert!(append_only(cache.clear().unwrap_err()));
    let items = [Ok::<_, Error>((b"other", b""))];
    assert!(append_only(cache.atomic_rebuild(items).unwrap_err()));
    assert!(matches!(
        cache.put(b"new", b"a value").as_ref().map_err(Error::kind),
        Err(ErrorKind::ValueTooLarge { max: 0, .. })
    ));
    cache.put(b"put as an entry", b"").unwrap();
    cache.compact().unwrap();
    assert_eq!(labels.resolve(id).unwrap().as_deref(), Some(&b"kept"[..]));
    assert_eq!(
        labels.get("put as an entry").unwrap(),
        Some(LabelId::new(1))
    );
    let keys: Vec<_> = cache.keys().unwrap().map(Result::unwrap).collect();
    assert_eq!(keys, [b"kept".to_vec(), b"put as an entry".to_vec()]);
    assert!(cache.verify().run().unwrap().is_clean());
}

#[test]
fn value_caches_are_no_labels() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("labels");
    MmapCache::open(&path).unwrap().put(b"k", b"v").unwrap();
    assert!(matches!(
        Labels::open(&path).as_ref().map_err(Error::kind),
        Err(ErrorKind::OptionMismatch { .. })
    ));
    let mut read_only = Options::new();
    read_only.read_only(true);
    let refused = Labels::open_with(&path, &read_only);
    assert!(matches!(
        refused.as_ref().map_err(Error::kind),
        Err(ErrorKind::OptionMismatch { .. })
    ));
}

#[test]
fn exhausted_ids_take_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = tiny();
    options.max_entries(100);
    let labels = Labels::open_with(dir.path().join("labels"), &options).unwrap();
    for i in 0..100 {
        labels.get_or_intern(text(i)).unwrap();
    }
    for _ in 0..3 {
        let refused = labels.get_or_intern("one too many");
        assert!(matches!(
            refused.as_ref().map_err(Error::kind),
            Err(ErrorKind::IdsExhausted { limit: 100, .. })
        ));
    }
    assert_eq!(labels.get_or_intern(text(99)).unwrap().number(), 99);
    assert_eq!(labels.len(), 100);
}

/// Damages the byte that is `back` bytes before label 4 of ten.
#[track_caller]
fn check_damage_before_a_label(back: usize) {
    let dir = tempfile::tempdir().unwrap();
    let labels = Labels::open_with(dir.path().join("labels"), &tiny()).unwrap();
    for i in 0..10 {
        labels.get_or_intern(text(i)).unwrap();
    }
    labels.flush().unwrap();
    let heap = dir.path().join("labels.heap");
    let mut bytes = std::fs::read(&heap).unwrap();
    let at = bytes
        .windows(14)
        .position(|window| window == b"label number 4");
    bytes[at.unwrap() - back] ^= 0x10;
    std::fs::write(&heap, &bytes).unwrap();

    assert_eq!(labels.resolve(LabelId::new(4)).unwrap(), None);
    assert_eq!(labels.get(text(4)).unwrap(), None);
    let next = labels.resolve_str(LabelId::new(5)).unwrap();
    assert_eq!(next, Some(text(5)));
    let again = labels.get_or_intern(text(4)).unwrap();
    assert_eq!(again.number(), 10);
    assert_eq!(labels.resolve(LabelId::new(4)).unwrap(), None);
    assert_eq!(labels.resolve_str(again).unwrap(), Some(text(4)));
    // A damaged label that the insertion did not find is still counted: then the listing ends with
    // an error that one is missing.
    let (listed, failed): (Vec<_>, Vec<_>) = labels.iter().unwrap().partition(Result::is_ok);
    assert_eq!(listed.len(), 10);
    assert!(failed.len() <= 1);
    assert!(
        failed
            .into_iter()
            .all(|error| error.unwrap_err().is_corruption())
    );
}

#[test]
fn corrupt_label_gets_new_id() {
    // The label, its number, its checksum.
    for back in [0, 8, 12] {
        check_damage_before_a_label(back);
    }
}

// Labels outlast growth, rewriting and recovery with their ids.
#[test]
fn ids_outlast_growth_and_recovery() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = tiny();
    options.directory_bits = 3;
    let path = dir.path().join("labels");
    let labels = Labels::open_with(&path, &options).unwrap();
    let check = |count: u32| {
        for i in 0..count {
            assert_eq!(labels.get(text(i)).unwrap(), Some(LabelId::new(i)), "{i}");
            assert_eq!(labels.resolve_str(LabelId::new(i)).unwrap(), Some(text(i)));
        }
        let report = labels.verify().run().unwrap();
        assert!(report.is_clean(), "{:?}", report.problems);
    };
    let mut count = 0;
    for _ in 0..4 {
        for _ in 0..300 {
            labels.get_or_intern(text(count)).unwrap();
            count += 1;
        }
        check(count);
        labels.cache.writer().unwrap().rewrite_heap().unwrap();
        check(count);
    }
    // The counters are invalid: the index is rebuilt from the heap.
    let generation = labels.cache.handle().generation.load_full();
    generation
        .header()
        .corrupt(crate::format::index::word::COUNTERS, u64::MAX);
    let next = labels.get_or_intern("after it").unwrap().number();
    assert!(next >= count, "{next} belongs to another label");
    check(count);
}

// If corruption made the roster shorter, no id is assigned twice.
// N3: a position that a slot claims is never given to another key.
#[test]
fn shortened_roster_repeats_no_id() {
    let dir = tempfile::tempdir().unwrap();
    let labels = Labels::open_with(dir.path().join("labels"), &tiny()).unwrap();
    for i in 0..20 {
        labels.get_or_intern(text(i)).unwrap();
    }
    let generation = labels.cache.handle().generation.load_full();
    let mut counters = generation.header().counters();
    for shorter in [19, 18, 17] {
        counters.roster_len = shorter;
        counters.occupied = shorter;
        generation.header().entry_words().set_counters(&counters);
    }
    let next = labels.get_or_intern("new").unwrap().number();
    assert!(next >= 20, "{next} belongs to another label");
    for i in 0..20 {
        assert_eq!(labels.resolve_str(LabelId::new(i)).unwrap(), Some(text(i)));
    }
}

// N3: reserved ids that are not within one block of the given ones lead to recovery, which learns from
// the heap which ids are reserved.
#[test]
fn corrupt_reserved_ids_are_rebuilt() {
    for reserved in [3, 1_000_000] {
        let dir = tempfile::tempdir().unwrap();
        let labels = Labels::open_with(dir.path().join("labels"), &tiny()).unwrap();
        for i in 0..20 {
            labels.get_or_intern(text(i)).unwrap();
        }
        let generation = labels.cache.handle().generation.load_full();
        generation.header().corrupt(word::LAST_MTIME, reserved);
        let next = labels.get_or_intern("new").unwrap().number();
        assert!(next >= 20, "{next}");
        let generation = labels.cache.handle().generation.load_full();
        assert_eq!(generation.header().recoveries(), 1, "{reserved}");
        assert_eq!(
            labels.resolve_str(LabelId::new(19)).unwrap(),
            Some(text(19))
        );
    }
}

// N1: the record says which id it is, so a roster position that leads to another label's slot names no
// label.
#[test]
fn misled_position_resolves_to_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let labels = open(&dir);
    for i in 0..3 {
        labels.get_or_intern(text(i)).unwrap();
    }
    let generation = labels.cache.handle().generation.load_full();
    let other = generation.roster.get(1).unwrap();
    generation.roster.set(2, other).unwrap();
    assert_eq!(labels.resolve_str(LabelId::new(1)).unwrap(), Some(text(1)));
    assert_eq!(labels.resolve(LabelId::new(2)).unwrap(), None);
}

#[test]
fn repair_without_index_keeps_ids() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("labels");
    let labels = Labels::open_with(&path, &tiny()).unwrap();
    for i in 0..500 {
        labels.get_or_intern(text(i)).unwrap();
    }
    drop(labels);
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(dir.path().join("labels.roster")).unwrap();
    assert!(
        Labels::open(&path).is_err(),
        "no new labels beside an old heap"
    );
    let repaired = crate::engine::Repair::new(&path).run().unwrap();
    assert_eq!(repaired.entries, 500);
    let labels = Labels::open(&path).unwrap();
    for i in 0..500 {
        assert_eq!(labels.get(text(i)).unwrap(), Some(LabelId::new(i)));
        assert_eq!(labels.resolve_str(LabelId::new(i)).unwrap(), Some(text(i)));
    }
    let next = labels.get_or_intern("next").unwrap().number();
    assert!(
        (500..510).contains(&next),
        "after all ids that may have been assigned: {next}"
    );
    assert!(labels.verify().run().unwrap().is_clean());
}

// Ids that may have been assigned stay unused through rewriting and repair.
#[test]
fn reserved_ids_survive_repair_unused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("labels");
    let labels = Labels::open_with(&path, &tiny()).unwrap();
    for i in 0..10 {
        labels.get_or_intern(text(i)).unwrap();
    }
    let reserved = 16;
    let rewrite = |labels: &Labels| labels.cache.writer().unwrap().rewrite_heap().unwrap();
    let corrupt_counters = |labels: &Labels| {
        let generation = labels.cache.handle().generation.load_full();
        let counters = crate::format::index::word::COUNTERS;
        generation.header().corrupt(counters, u64::MAX);
    };
    // A rebuild does not know whether more ids were assigned than it found.
    corrupt_counters(&labels);
    rewrite(&labels);
    assert_eq!(
        crate::engine::ids::ids_given(labels.cache.handle()).unwrap(),
        reserved
    );
    rewrite(&labels);
    assert_eq!(
        crate::engine::ids::ids_given(labels.cache.handle()).unwrap(),
        reserved
    );
    drop(labels);
    // Nor does a repair that has only the heap.
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(dir.path().join("labels.roster")).unwrap();
    crate::engine::Repair::new(&path).run().unwrap();
    let labels = Labels::open(&path).unwrap();
    assert_eq!(
        u64::from(labels.get_or_intern("new").unwrap().number()),
        reserved
    );
    assert_eq!(labels.iter().unwrap().count(), 11);
}

#[test]
fn reserved_ids_survive_growth_unused() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = tiny();
    options.directory_bits = 0;
    let labels = Labels::open_with(dir.path().join("labels"), &options).unwrap();
    let corrupt_counters = || {
        let generation = labels.cache.handle().generation.load_full();
        let counters = crate::format::index::word::COUNTERS;
        generation.header().corrupt(counters, u64::MAX);
    };
    for i in 0..15 {
        labels.get_or_intern(text(i)).unwrap();
    }
    corrupt_counters();
    assert_eq!(
        labels
            .get_or_intern("the last of the region")
            .unwrap()
            .number(),
        16
    );
    assert_eq!(labels.cache.stats().unwrap().slots, 16);
    // The index is rebuilt, with unused ids at its end, and then grows.
    corrupt_counters();
    assert_eq!(labels.get_or_intern("new").unwrap().number(), 24);
    assert_eq!(labels.cache.stats().unwrap().slots, 32);
}

#[cfg(feature = "serde")]
#[test]
fn ids_serialize_as_numbers() {
    let id = LabelId::new(7);
    let text = serde_json::to_string(&id).unwrap();
    assert_eq!(text, "7");
    assert_eq!(serde_json::from_str::<LabelId>(&text).unwrap(), id);
}

// Stops an insertion at every store and call; then another handle continues.
#[test]
fn stopped_insertion_leaves_ids_dense() {
    for before in [0, 7, 8, 13, 55] {
        for step in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("labels");
            let labels = Labels::open_with(&path, &tiny()).unwrap();
            for i in 0..before {
                labels.get_or_intern(text(i)).unwrap();
            }
            failpoint::set(step);
            let inserted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                labels.get_or_intern(text(before))
            }));
            let is_over = failpoint::clear();
            drop(labels);
            let labels = Labels::open_with(&path, &tiny()).unwrap();
            if let Ok(inserted) = inserted {
                assert_eq!(inserted.unwrap().number(), before);
            }
            assert_eq!(labels.get_or_intern(text(before)).unwrap().number(), before);
            assert_eq!(labels.get_or_intern("next").unwrap().number(), before + 1);
            let listed: Vec<_> = labels
                .iter()
                .unwrap()
                .map(|it| it.unwrap().0.number())
                .collect();
            assert_eq!(listed, (0..before + 2).collect::<Vec<_>>());
            let report = labels.verify().run().unwrap();
            assert!(report.is_clean(), "step {step}: {:?}", report.problems);
            if is_over {
                break;
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u8),
    Many(Vec<u8>),
    Get(u8),
    Reopen,
    Flush,
    Rewrite,
    /// An insertion of a label, killed after a number of steps.
    Kill(u8, u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => any::<u8>().prop_map(Step::Insert),
        1 => prop::collection::vec(any::<u8>(), 0..20).prop_map(Step::Many),
        3 => any::<u8>().prop_map(Step::Get),
        1 => Just(Step::Reopen),
        1 => Just(Step::Flush),
        1 => Just(Step::Rewrite),
        2 => (any::<u8>(), 0..80_u8).prop_map(|(label, steps)| Step::Kill(label, steps)),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn labels_behave_like_a_map(steps in steps(), durable: bool) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("labels");
        let mut options = tiny();
        options.directory_bits = 4;
        if durable {
            options.durability(Durability::Sync);
        }
        let reopen = || Labels::open_with(&path, &options).unwrap();
        let mut labels = reopen();
        let (mut list, mut map) = (Vec::new(), HashMap::new());
        let mut know = |label: &str, id: LabelId| {
            let next = list.len() as u32;
            let expected = *map.entry(label.to_owned()).or_insert_with(|| {
                list.push(label.to_owned());
                next
            });
            assert_eq!(id.number(), expected);
        };
        for step in steps {
            match step {
                Step::Insert(i) => know(&text(i.into()), labels.get_or_intern(text(i.into())).unwrap()),
                Step::Many(all) => {
                    let all: Vec<_> = all.into_iter().map(|i| text(i.into())).collect();
                    for (label, id) in all.iter().zip(labels.get_or_intern_many(&all).unwrap()) {
                        know(label, id);
                    }
                }
                Step::Get(i) => {
                    if let Some(id) = labels.get(text(i.into())).unwrap() {
                        know(&text(i.into()), id);
                    }
                }
                Step::Reopen => labels = reopen(),
                Step::Flush => labels.flush().unwrap(),
                Step::Rewrite => labels.cache.writer().unwrap().rewrite_heap().unwrap(),
                Step::Kill(i, steps) => {
                    failpoint::set(steps.into());
                    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        labels.get_or_intern(text(i.into()))
                    }));
                    failpoint::clear();
                    drop(labels);
                    labels = reopen();
                    know(&text(i.into()), labels.get_or_intern(text(i.into())).unwrap());
                }
            }
        }
        prop_assert_eq!(labels.len() as usize, list.len());
        for (id, label) in (0..).zip(&list) {
            let found = labels.resolve_str(LabelId::new(id)).unwrap();
            prop_assert_eq!(found.as_ref(), Some(label));
        }
        prop_assert!(labels.verify().run().unwrap().is_clean());
    }
}

// A listing of labels whose roster was truncated, or lost a position, ends with an error.
#[test]
fn short_label_listings_end_with_errors() {
    use std::os::unix::fs::FileExt;
    for is_cut in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("labels");
        let labels = Labels::open(&path).unwrap();
        for i in 0..300 {
            labels.get_or_intern(text(i)).unwrap();
        }
        drop(labels);
        let mut options = std::fs::File::options();
        let roster = options.write(true).open(dir.path().join("labels.roster"));
        let roster = roster.unwrap();
        if is_cut {
            roster.set_len(464).unwrap();
        } else {
            roster.write_all_at(&[0, 0, 0, 0x80], 64 + 4 * 31).unwrap();
        }
        let reader = Labels::open_with(&path, Options::new().read_only(true)).unwrap();
        let mut all = reader.iter().unwrap();
        let listed = all.by_ref().take_while(Result::is_ok).count();
        assert_eq!(listed, if is_cut { 100 } else { 299 });
        assert!(all.next().is_none(), "the error is the last item");
        let error = reader.iter().unwrap().find_map(Result::err).unwrap();
        assert!(error.is_corruption(), "{error:?}");
        if is_cut {
            let writer = Labels::open(&path).unwrap();
            assert_eq!(writer.iter().unwrap().filter(Result::is_ok).count(), 300);
        }
    }
}
