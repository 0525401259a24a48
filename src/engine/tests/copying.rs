//! Copies stopped at any step, and copies of a cache that a writer changes or left half changed.

use crate::error::ErrorKind;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::Error;
use crate::engine::backup::Counted;
use crate::engine::tests::*;
use crate::sync::failpoint;

type Contents = BTreeMap<Vec<u8>, (Vec<u8>, Version)>;

fn key(i: u32) -> Vec<u8> {
    format!("key {i:03}{}", "+".repeat(i as usize % 40)).into_bytes()
}

/// Fills some segments, with dead records and deletions in all of them.
fn fill(cache: &MmapCache) {
    for round in 0..3_u8 {
        for i in 0..150 {
            cache.put(&key(i), &[round; 100]).unwrap();
        }
        for i in (0..150).step_by(5) {
            cache.delete(&key(i)).unwrap();
        }
    }
}

fn contents(cache: &MmapCache) -> Contents {
    let listed = cache.entries().unwrap().map(|item| {
        let (key, entry) = item.unwrap();
        let version = entry.version();
        (key, (entry.into_value(), version))
    });
    let listed: Contents = listed.collect();
    for (key, (value, _)) in &listed {
        assert_eq!(cache.get(key).unwrap().as_ref(), Some(value));
    }
    listed
}

fn look(path: &Path) -> MmapCache {
    Options::new().read_only(true).open(path).unwrap()
}

/// Asserts that the cache is valid and can be written, and returns what it contained before.
#[track_caller]
fn assert_works(path: &Path) -> Contents {
    let copy = MmapCache::open(path).unwrap();
    assert_clean(&copy);
    let found = contents(&copy);
    let last = found.values().map(|(_, version)| *version).max();
    for i in 0..40 {
        let version = copy.put(&key(i), b"in the copy").unwrap();
        assert!(Some(version) > last, "versions went back");
    }
    copy.compact().unwrap();
    assert_clean(&copy);
    assert_eq!(copy.get(&key(7)).unwrap().unwrap(), b"in the copy");
    found
}

fn beside(scratch: &Scratch, name: &str) -> PathBuf {
    scratch.path().with_file_name(name)
}

fn open_heap(scratch: &Scratch) -> std::fs::File {
    std::fs::File::options()
        .write(true)
        .open(beside(scratch, "cache.heap"))
        .unwrap()
}

// A copy has every entry with its version, and changes independently of the original.
#[test]
fn copy_is_complete_and_independent() {
    let (source, other) = (scratch(), scratch());
    let cache = source.open(&tiny());
    fill(&cache);
    let before = contents(&cache);
    let copied = look(source.path()).backup().to(other.path()).unwrap();
    assert_eq!(copied.entries, cache.len());
    assert_eq!(copied.damaged_bytes, 0);
    assert_eq!(assert_works(other.path()), before);
    assert_eq!(contents(&cache), before, "the copy's changes");
    assert_clean(&cache);
    let geometry = |cache: &MmapCache| *cache.handle.generation.load().table.geometry();
    assert_eq!(geometry(&look(other.path())), geometry(&cache));
}

/// Returns how many steps `work` takes.
fn steps_of(work: impl FnOnce()) -> u64 {
    let count = std::rc::Rc::new(std::cell::Cell::new(0));
    let seen = std::rc::Rc::clone(&count);
    failpoint::observe(move |_| seen.set(seen.get() + 1));
    work();
    failpoint::stop_observing();
    count.get()
}

// A copy stopped at any step leaves no cache, and the next copy is complete.
#[test]
fn stopped_copy_leaves_no_cache() {
    let source = scratch();
    let cache = source.open(&tiny());
    fill(&cache);
    let before = contents(&cache);
    let mut made = 0;
    let all = steps_of(|| {
        cache.backup().to(beside(&source, "first")).unwrap();
    });
    // The last steps, after the rename, are few.
    let stops = (0..all - 40).step_by(23).chain((all - 40..).step_by(4));
    for steps in stops {
        let path = beside(&source, "copy");
        failpoint::set(steps);
        let outcome = catch_unwind(AssertUnwindSafe(|| cache.backup().to(&path).unwrap()));
        let over = !failpoint::clear() && outcome.is_err();
        if let Err(payload) = &outcome {
            assert!(payload.is::<failpoint::Killed>() && over, "step {steps}");
        }
        if path.exists() {
            // It was stopped after the rename that makes the copy a cache.
            made += 1;
        } else {
            assert!(outcome.is_err(), "step {steps}");
            assert!(matches!(
                Options::new()
                    .read_only(true)
                    .open(&path)
                    .as_ref()
                    .map_err(Error::kind),
                Err(ErrorKind::NotFound)
            ));
            cache.backup().to(&path).unwrap();
        }
        assert_eq!(assert_works(&path), before, "step {steps}");
        for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
            let file = entry.unwrap().path();
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            assert!(!name.ends_with(".new"), "step {steps}: {name}");
            if name.starts_with("copy") {
                std::fs::remove_file(file).unwrap();
            }
        }
        if outcome.is_ok() {
            assert!(steps > 500 && made > 1, "{steps} steps, {made} whole");
            return;
        }
    }
}

// Other handles change the cache at any step of a copy: the copy still has the state of one moment.
#[test]
fn copy_is_of_one_moment() {
    type Change = fn(&MmapCache);
    let changes: [(&str, Change); 4] = [
        ("compact", |cache| cache.compact().unwrap()),
        ("clear", |cache| cache.clear().unwrap()),
        ("overwrite", |cache| {
            let mut writer = cache.writer().unwrap();
            for i in 0..150 {
                writer.put(&key(i), &[9; 130]).unwrap();
            }
        }),
        ("grow", |cache| {
            let mut writer = cache.writer().unwrap();
            for i in 200..900 {
                writer.put(&key(i), b"new").unwrap();
            }
        }),
    ];
    for (name, change) in changes {
        for steps in (0..).step_by(151) {
            let source = scratch();
            let cache = source.open(&tiny());
            fill(&cache);
            let before = contents(&cache);
            let path = source.path().to_owned();
            failpoint::interrupt(steps, move || change(&MmapCache::open(path).unwrap()));
            let copy = beside(&source, "copy");
            let copied = look(source.path()).backup().to(&copy);
            let over = failpoint::clear();
            copied.unwrap();
            let found = assert_works(&copy);
            let after = contents(&cache);
            assert!(
                found == before || found == after,
                "{name} at step {steps}: {} entries",
                found.len()
            );
            if over {
                assert!(steps > 300);
                break;
            }
        }
    }
}

// A copy made after a writer was killed has exactly the entries that readers see.
#[test]
fn copy_matches_readers_after_a_kill() {
    type Change = fn(&MmapCache);
    let changes: [(&str, Change); 4] = [
        ("insert", |cache| {
            cache.put(b"a new key", b"1").unwrap();
        }),
        ("overwrite", |cache| {
            cache.put(&key(7), b"other").unwrap();
        }),
        ("delete", |cache| {
            cache.delete(&key(7)).unwrap();
        }),
        ("compact", |cache| cache.compact().unwrap()),
    ];
    for (name, change) in changes {
        for steps in (0..).step_by(if name == "compact" { 71 } else { 1 }) {
            let source = scratch();
            let cache = source.open(&tiny());
            fill(&cache);
            failpoint::set(steps);
            let outcome = catch_unwind(AssertUnwindSafe(|| change(&cache)));
            failpoint::clear();
            drop(cache);
            let reader = look(source.path());
            let copy = beside(&source, "copy");
            reader.backup().to(&copy).unwrap();
            assert_eq!(
                assert_works(&copy),
                contents(&reader),
                "{name} killed at step {steps}"
            );
            if outcome.is_ok() {
                assert!(steps > 10);
                break;
            }
        }
    }
}

// A corrupt record is left out, and the copy is clean.
#[test]
fn copy_omits_corrupt_records() {
    use std::os::unix::fs::FileExt;
    let (source, other) = (scratch(), scratch());
    let cache = source.open(&Options::new());
    for i in 0..100 {
        cache.put(&key(i), &[5; 100]).unwrap();
    }
    let heap = open_heap(&source);
    heap.write_all_at(&[0xAA; 8], 5_000).unwrap();
    let refused = cache.backup().to(other.path()).unwrap_err();
    let ErrorKind::Incomplete {
        found: 99,
        counted: 100,
        damaged_bytes: 100..300,
    } = refused.kind()
    else {
        panic!("{refused:?}");
    };
    assert!(refused.is_corruption() && !other.path().exists());
    let lossy = cache.backup().allow_losses(true);
    let copied = lossy.to(other.path()).unwrap();
    assert_eq!((copied.entries, copied.entries_before), (99, Some(100)));
    assert!((100..300).contains(&copied.damaged_bytes), "{copied:?}");
    assert_eq!(assert_works(other.path()).len(), 99);
}

// The clock is set back by an hour, which would otherwise hide the loss: a version that original
// and copy both issue would be one tag for two values.
#[test]
fn copied_versions_never_go_back() {
    use std::os::unix::fs::FileExt;
    for lost in [false, true] {
        let (source, other) = (scratch(), scratch());
        let cache = source.open(&Options::new());
        cache.put(b"stays", b"v").unwrap();
        let end = || cache.handle.generation.load().header().tail().bytes();
        let last = || cache.handle.generation.load().header().last_version();
        let ahead = last() + 3_600_000_000_000;
        generation_of(&cache)
            .header()
            .corrupt(word::LAST_MTIME, ahead);
        let from = end();
        let newest = cache.put(b"newest", b"v").unwrap();
        assert!(cache.delete(b"newest").unwrap());
        assert!(newest.as_nanos() > ahead && last() > newest.as_nanos());
        if lost {
            let damage = vec![0xAA; (end() - from) as usize];
            let heap = open_heap(&source);
            heap.write_all_at(&damage, from).unwrap();
        }
        let reader = look(source.path());
        if lost {
            // No one can tell what the damaged bytes held.
            let refused = reader.backup().to(other.path()).unwrap_err();
            assert!(
                matches!(refused.kind(), ErrorKind::Incomplete { .. }),
                "{refused:?}"
            );
        }
        let lossy = reader.backup().allow_losses(lost);
        let copied = lossy.to(other.path()).unwrap();
        assert_eq!((copied.entries, copied.damaged_bytes > 0), (1, lost));
        let copy = MmapCache::open(other.path()).unwrap();
        let version = copy.put(b"newest", b"another").unwrap();
        assert!(version.as_nanos() > last(), "{version} after {}", last());
        assert_clean(&copy);
    }
}

// Entries whose records were cut off are missing from the count: the copy fails, unless losses are
// allowed.
#[test]
fn copy_refuses_truncated_entries() {
    for cut in [3_000, 9_000] {
        let (source, other) = (scratch(), scratch());
        let cache = source.open(&Options::new());
        for i in 0..100 {
            cache.put(&key(i), &[5; 100]).unwrap();
        }
        let heap = open_heap(&source);
        heap.set_len(cut).unwrap();
        let reader = look(source.path());
        let refused = reader.backup().to(other.path()).unwrap_err();
        assert!(
            matches!(refused.kind(), ErrorKind::Incomplete { counted: 100, .. }),
            "{refused:?}"
        );
        let lossy = reader.backup().allow_losses(true);
        let copied = lossy.to(other.path()).unwrap();
        assert_eq!(copied.entries_before, Some(100));
        assert!(copied.entries < 100, "{copied:?}");
        assert_eq!(assert_works(other.path()).len() as u64, copied.entries);
    }
}

// A copy without one of its segments fails, names the segment, and leaves nothing.
#[test]
fn copy_names_the_lost_segment() {
    let source = scratch();
    let cache = source.open(&tiny());
    fill(&cache);
    let numbers = cache.handle.names.segment_numbers().unwrap();
    let lost = cache.handle.names.segment(
        numbers[numbers.len() / 2],
        crate::os::file_names::Stage::Final,
    );
    std::fs::remove_file(&lost).unwrap();
    let path = beside(&source, "copy");
    match look(source.path()).backup().to(&path) {
        Err(error) if matches!(error.kind(), ErrorKind::HeapMissing { .. }) => {
            assert_eq!(error.path(), Some(&*lost));
        }
        other => panic!("{other:?}"),
    }
    assert!(!path.exists());
}

#[test]
fn copy_overwrites_no_existing_file() {
    let source = scratch();
    let cache = source.open(&tiny());
    fill(&cache);
    for taken in ["copy", "copy.roster", "copy.heap", "copy.heap.3"] {
        let file = beside(&source, taken);
        std::fs::write(&file, b"not a cache").unwrap();
        match cache.backup().to(beside(&source, "copy")) {
            Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists) => {
                assert_eq!(error.path(), Some(&*file));
            }
            other => panic!("{taken}: {other:?}"),
        }
        assert_eq!(std::fs::read(&file).unwrap(), b"not a cache");
        std::fs::remove_file(&file).unwrap();
    }
    let own = [
        "cache",
        "cache.new",
        "cache.roster",
        "cache.heap",
        "cache.lock",
    ];
    for name in own.into_iter().chain(["cache.heap.77", "cache.heap.9.new"]) {
        let copied = cache.backup().to(beside(&source, name));
        assert!(
            matches!(
                copied.as_ref().map_err(Error::kind),
                Err(ErrorKind::Unsupported { .. })
            ),
            "{name}: {copied:?}"
        );
    }
    assert_clean(&cache);
}

/// Records of labels of up to four bytes are two words long, and a copied heap ends after its last
/// record: a copy made after each insertion has all labels under their ids, the last one too.
#[test]
fn copied_labels_may_have_any_length() {
    let source = scratch();
    let labels = crate::Labels::open(source.path()).unwrap();
    let mut ids = BTreeMap::new();
    for round in 0..4_u8 {
        for len in (1..=20).rev() {
            let label = vec![b'a' + round; len];
            ids.insert(labels.get_or_intern(&label).unwrap(), label);
            let path = beside(&source, &format!("copy {round} {len}"));
            let copied = labels.backup().to(&path).unwrap();
            assert_eq!((copied.entries, copied.damaged_bytes), (labels.len(), 0));
            let copy = crate::Labels::open(&path).unwrap();
            let listed: BTreeMap<_, _> = copy.iter().unwrap().map(Result::unwrap).collect();
            assert_eq!(listed, ids, "round {round}, length {len}");
            let next = copy.get_or_intern("another label").unwrap();
            assert!(ids.keys().all(|id| *id < next));
            assert!(copy.verify().run().unwrap().is_clean());
        }
    }
}

/// The same for other readers of a heap that ends after a short record: a repair, and the next
/// writer's recovery.
#[test]
fn short_labels_survive_truncated_heaps() {
    for (len, is_repaired) in (1..=8).flat_map(|len| [(len, false), (len, true)]) {
        let source = scratch();
        let labels = crate::Labels::open(source.path()).unwrap();
        for label in ["first label", &"x".repeat(len)] {
            labels.get_or_intern(label).unwrap();
        }
        labels.flush().unwrap();
        let cache = MmapCache::open(source.path()).unwrap();
        let end = cache.handle.generation.load().header().tail().bytes();
        drop((labels, cache));
        open_heap(&source).set_len(end).unwrap();
        if is_repaired {
            let repaired = Repair::new(source.path()).run().unwrap();
            assert_eq!((repaired.entries, repaired.damaged_bytes), (2, 0));
        }
        let labels = crate::Labels::open(source.path()).unwrap();
        let last = labels.get("x".repeat(len)).unwrap().unwrap();
        assert_eq!(last.number(), 1, "length {len}");
        assert_eq!(labels.resolve(last).unwrap().unwrap().len(), len);
        assert!(labels.verify().run().unwrap().is_clean());
        assert!(labels.get_or_intern("the next").unwrap() > last);
    }
}

/// Beside a writer that never pauses, the copy compares with the fewest entries that existed.
#[test]
fn copies_beside_writers_notice_losses() {
    use std::os::unix::fs::FileExt;
    let source = scratch();
    // With room for the next key: the store at which the writer is killed is not one of a split.
    let cache = source.open(Options::new().capacity(1_000));
    for i in 0..100 {
        cache.put(&key(i), &[5; 100]).unwrap();
    }
    let counted = Counted::at_rest(&cache.handle.generation.load());
    assert_eq!((counted.entries, counted.least), (Some(100), 100));
    // A writer was killed during a change, so that the exact number is unknown.
    failpoint::set(12);
    let killed = catch_unwind(AssertUnwindSafe(|| cache.put(b"another key", &[1; 100])));
    failpoint::clear();
    assert!(killed.is_err());
    drop(cache);
    let reader = look(source.path());
    let counted = Counted::at_rest(&reader.handle.generation.load());
    assert!(
        counted.entries.is_none() && counted.least == 100,
        "{:?}",
        counted.least
    );
    reader.backup().to(beside(&source, "whole")).unwrap();
    // A scan does not count zeros as damage; the number of entries tells.
    let generation = reader.handle.generation.load_full();
    let end = generation.header().tail().bytes() as usize;
    open_heap(&source)
        .write_all_at(&vec![0; 3_000], end as u64 - 3_000)
        .unwrap();
    let refused = reader.backup().to(beside(&source, "copy")).unwrap_err();
    assert!(
        matches!(refused.kind(), ErrorKind::Incomplete { counted: 100, .. }),
        "{refused:?}"
    );
}
