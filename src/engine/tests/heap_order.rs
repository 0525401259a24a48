//! Listings in the order of the heap: complete, without repetitions, beside writers and damage.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt;

use crate::engine::read::iter::Entries;
use crate::engine::tests::*;
use crate::error::{Error, ErrorKind, Result};
use crate::format::heap_addr::HeapAddr;
use crate::sync::Word;

/// Remembering this many moved entries makes a listing split often, sometimes, never.
const MOST_MOVED: [usize; 3] = [0, 5, 1 << 16];

fn list(cache: &MmapCache, most_moved: usize) -> Entries<'_> {
    let items = Entries::in_heap_order(&cache.handle, most_moved).unwrap();
    items.expect("the heap can be walked")
}

/// Returns what a listing returned, and its errors. No key may come twice.
fn collect(
    items: impl Iterator<Item = Result<(Vec<u8>, Entry)>>,
) -> (BTreeMap<Vec<u8>, Entry>, Vec<Error>) {
    let (mut listed, mut errors) = (BTreeMap::new(), Vec::new());
    for item in items {
        match item {
            Ok((key, entry)) => {
                let first = listed.insert(key.clone(), entry);
                assert!(first.is_none(), "{key:?} came twice");
            }
            Err(error) => errors.push(error),
        }
    }
    (listed, errors)
}

fn key(i: u32) -> Vec<u8> {
    let mut key = format!("key {i} ").into_bytes();
    // Some are longer than what is read ahead.
    key.resize(key.len() + (i as usize % 7) * 30, b'k');
    key
}

/// Returns the place of a key's record.
fn place_of(cache: &MmapCache, key: &[u8]) -> HeapAddr {
    let generation = generation_of(cache);
    let hash = generation.hasher.hash(key);
    let region = region_of(&generation, hash);
    let mut links = region.probe(hash).map(|(_, _, link)| link.addr());
    links
        .find(|place| {
            let segment = generation.segment(place.segment).unwrap();
            let mut found = Vec::new();
            segment.read_any(place.unit, &mut found, None).unwrap();
            found == key
        })
        .unwrap()
}

/// Changes a byte of the file at `path`.
fn flip(path: &Path, at: u64) {
    let mut options = std::fs::File::options();
    let file = options.read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

fn segment_path(scratch: &Scratch, number: u16) -> PathBuf {
    let heap = scratch.path().with_extension("heap");
    match number {
        0 => heap,
        number => PathBuf::from(format!("{}.{number}", heap.display())),
    }
}

// Both orders list the same entries, after any changes.
#[test]
fn both_orders_list_the_same() {
    for options in [Options::new(), tiny(), colliding()] {
        let scratch = Scratch::new();
        let cache = scratch.open(&options);
        assert!(list(&cache, 0).next().is_none(), "an empty cache");
        for round in 0..4_u32 {
            for i in (0..300).filter(|i| i % (round + 1) == 0) {
                match (i + round) % 5 {
                    0 => drop(cache.delete(&key(i)).unwrap()),
                    _ => drop(cache.put(&key(i), &vec![round as u8; (i * 13 % 900) as usize])),
                }
            }
            let (by_position, errors) = collect(cache.entries().unwrap());
            assert!(errors.is_empty() && by_position.len() > 200);
            let (by_place, errors) = collect(list(&cache, 0));
            assert!(errors.is_empty(), "{errors:?}");
            assert_eq!(by_place, by_position);
        }
        cache.compact().unwrap();
        let (by_place, _) = collect(list(&cache, 0));
        assert_eq!(by_place, collect(cache.entries().unwrap()).0);
    }
}

// A large cache is listed in the order in which it was written, a small one by positions.
#[test]
fn large_caches_follow_the_heap() {
    let scratch = scratch();
    let cache = scratch.open(&Options::new());
    let key = |i: u32| i.to_le_bytes();
    let order = || -> Vec<u32> {
        let keys = cache.iter().unwrap().map(|item| item.unwrap().0);
        keys.map(|key| u32::from_le_bytes(key.try_into().unwrap()))
            .collect()
    };
    let mut writer = cache.writer().unwrap();
    for i in 0..140_000 {
        writer.put(&key(i), b"1").unwrap();
        if i == 100 {
            writer.put(&key(3), b"2").unwrap();
            assert_eq!(order(), Vec::from_iter(0..=100), "by positions");
        }
    }
    drop(writer);
    let (first, rest) = ([0, 1, 2, 4], order());
    assert_eq!((rest.len(), &rest[..4]), (140_000, &first[..]));
    assert_eq!(rest[99..102], [100, 3, 101]);
}

/// Each entry has several records ahead of the listing, and is moved behind its end: the first record
/// that is met leads to it, and the others must not list it again.
#[test]
fn moved_entries_come_once() {
    for most_moved in MOST_MOVED {
        for options in [Options::new(), tiny(), colliding()] {
            let scratch = Scratch::new();
            let (cache, other) = (scratch.open(&options), scratch.open(&options));
            for round in 0..3_u8 {
                for i in 0..200 {
                    cache.put(&key(i), &[round; 40]).unwrap();
                }
            }
            let mut items = list(&cache, most_moved);
            let before: Vec<_> = items.by_ref().take(20).collect();
            for i in 0..200 {
                other.put(&key(i), &[9; 40]).unwrap();
            }
            let (listed, errors) = collect(before.into_iter().chain(items));
            assert!(errors.is_empty(), "{errors:?}");
            assert_eq!(listed.len(), 200, "{most_moved}");
            let newer = listed.values().filter(|entry| entry.value == [9; 40]);
            assert_eq!(newer.count(), 180);
        }
    }
}

/// Cleaning leaves two records of an entry with the same version, until the older one's segment goes.
#[test]
fn evacuated_twins_come_once() {
    let scratch = Scratch::new();
    let (cache, other) = (scratch.open(&tiny()), scratch.open(&tiny()));
    for i in 0..600 {
        cache.put(&key(i), &[1; 40]).unwrap();
    }
    let before = generation_of(&cache);
    for most_moved in MOST_MOVED {
        for moment in [0, 1, 300, 599] {
            let mut items = list(&cache, most_moved);
            let begun: Vec<_> = items.by_ref().take(moment).collect();
            other.compact().unwrap();
            let (listed, errors) = collect(begun.into_iter().chain(items));
            assert!(errors.is_empty(), "{errors:?}");
            assert_eq!(listed.len(), 600, "{most_moved}, {moment}");
        }
    }
    // A step of cleaning, and nothing is reclaimed: both copies are before the end.
    let mut segments: Vec<_> = before.segments().cloned().collect();
    segments.extend(generation_of(&other).segments().cloned());
    let numbers: BTreeSet<_> = segments.iter().map(|segment| segment.number()).collect();
    assert!(numbers.len() > 2, "records were copied to other segments");
}

/// Ends a writer's loop, also if the test fails.
struct Stop<'a>(&'a Word);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(1, Relaxed);
    }
}

/// Keys that are not deleted come exactly once beside a writer that overwrites, deletes, inserts, splits
/// regions and cleans; the others at most once while they are not inserted again.
#[test]
fn stable_keys_come_exactly_once() {
    for (options, most_moved) in [
        (tiny(), 2),
        (tiny(), 30),
        (colliding(), 3),
        (tiny(), 1 << 16),
    ] {
        let scratch = scratch();
        let (cache, other) = (scratch.open(&options), scratch.open(&options));
        for i in 0..400 {
            cache.put(&key(i), &[0; 30]).unwrap();
        }
        let is_over = Word::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0_u32.. {
                    if is_over.load(Relaxed) == 1 {
                        break;
                    }
                    let i = round.wrapping_mul(2_654_435_761) >> 20;
                    match round % 4 {
                        0 => drop(other.delete(&key(400 + i % 300)).unwrap()),
                        1 => drop(other.put(&key(400 + i % 300), &[1; 50]).unwrap()),
                        _ => drop(other.put(&key(i % 400), &[round as u8; 30]).unwrap()),
                    }
                }
            });
            let _stop = Stop(&is_over);
            let mut walks = 0;
            while walks < 12 {
                // The writer may begin or remove a segment each time.
                let items = Entries::in_heap_order(&cache.handle, most_moved).unwrap();
                let Some(items) = items else {
                    continue;
                };
                let mut counts = BTreeMap::new();
                let listed: Result<Vec<_>> = items.collect();
                if matches!(&listed, Err(error) if matches!(error.kind(), ErrorKind::Superseded)) {
                    // A larger table has replaced this one, and its segments are gone.
                    continue;
                }
                walks += 1;
                for (key, entry) in listed.unwrap() {
                    assert!(entry.value.windows(2).all(|two| two[0] == two[1]), "torn");
                    *counts.entry(key).or_insert(0) += 1;
                }
                for i in 0..400 {
                    assert_eq!(counts.get(&key(i)), Some(&1), "{i}, {most_moved}");
                }
            }
        });
    }
}

/// The record of a put that was killed is before the heap's end for some readers, and after it for
/// others: both orders list the same.
#[test]
fn killed_writers_leave_both_orders_equal() {
    use crate::sync::failpoint;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    for change in 0..3 {
        for steps in 0.. {
            let scratch = scratch();
            let cache = scratch.open(&tiny());
            for i in 0..20_u8 {
                cache.put(&[b'k', i], b"value").unwrap();
            }
            failpoint::set(steps);
            let outcome = catch_unwind(AssertUnwindSafe(|| match change {
                0 => drop(cache.put(b"new", b"value").unwrap()),
                1 => drop(cache.put(&[b'k', 3], b"other").unwrap()),
                _ => assert!(cache.delete(&[b'k', 3]).unwrap()),
            }));
            failpoint::clear();
            let reader = scratch.open(Options::new().read_only(true));
            // Between the record and its commit the end may look wrong; positions are read then.
            if let Some(items) = Entries::in_heap_order(&reader.handle, 0).unwrap() {
                let (by_place, errors) = collect(items);
                assert!(
                    errors.is_empty(),
                    "change {change}, step {steps}: {errors:?}"
                );
                let by_position = collect(reader.entries().unwrap()).0;
                assert_eq!(by_place, by_position, "change {change}, step {steps}");
            }
            if outcome.is_ok() {
                assert!(steps > 10);
                break;
            }
        }
    }
}

/// The same of a reader that mapped the segment before its file grew for that record.
#[test]
fn record_beyond_mapping_is_listed() {
    use crate::sync::failpoint;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    let mut listed_new = 0;
    for steps in 0.. {
        let scratch = scratch();
        let cache = scratch.open(&Options::new());
        for i in 0..20_u8 {
            cache.put(&[b'k', i], b"value").unwrap();
        }
        let reader = scratch.open(Options::new().read_only(true));
        assert_eq!(reader.get(&[b'k', 0]).unwrap().unwrap(), b"value");
        failpoint::set(steps);
        let put = || {
            let _ = cache.put(b"new", &[7; 9_000]).unwrap();
        };
        let outcome = catch_unwind(AssertUnwindSafe(put));
        failpoint::clear();
        if let Some(items) = Entries::in_heap_order(&reader.handle, 0).unwrap() {
            let (by_place, errors) = collect(items);
            assert!(errors.is_empty(), "step {steps}: {errors:?}");
            let by_position = collect(reader.entries().unwrap()).0;
            listed_new += usize::from(by_position.len() == 21);
            assert_eq!(by_place.len(), by_position.len(), "step {steps}");
        }
        if outcome.is_ok() {
            break;
        }
    }
    assert!(listed_new > 1, "{listed_new}");
}

// After an error that ends a listing nothing more comes.
#[test]
fn superseded_listings_end_at_once() {
    let scratch = Scratch::new();
    let (cache, other) = (scratch.open(&tiny()), scratch.open(&tiny()));
    for i in 0..200 {
        cache.put(&key(i), &[1; 40]).unwrap();
    }
    let items = list(&cache, 1 << 16);
    // Into segments that the listing has not mapped, and that are gone when it needs them.
    for i in 0..200 {
        other.put(&key(i), &[2; 40]).unwrap();
    }
    other.clear().unwrap();
    let mut after = items.skip_while(Result::is_ok);
    let error = after.next().unwrap().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Superseded), "{error}");
    assert_eq!(after.count(), 0);
}

// Where keys of one hash were moved, a damaged record hides none but its own.
#[test]
fn damaged_twin_hides_no_moved_entry() {
    let scratch = Scratch::new();
    let (cache, other) = (scratch.open(&colliding()), scratch.open(&colliding()));
    for i in 0..200 {
        cache.put(&key(i), &[1; 40]).unwrap();
    }
    let items = list(&cache, 1 << 16);
    for i in 0..200 {
        other.put(&key(i), &[2; 40]).unwrap();
    }
    let place = place_of(&other, &key(77));
    flip(&segment_path(&scratch, place.segment), place.bytes() + 30);
    let (listed, errors) = collect(items);
    assert_eq!((listed.len(), errors.len()), (199, 1), "{errors:?}");
}

// A damaged record is one error, at its place, and everything else is listed.
#[test]
fn damage_hides_only_itself() {
    for options in [Options::new(), tiny()] {
        for offset in [0, 4, 9, 21, 22, 30, 60] {
            let scratch = Scratch::new();
            let cache = scratch.open(&options);
            for i in 0..300 {
                cache.put(&key(i), &[1; 40]).unwrap();
            }
            let place = place_of(&cache, &key(77));
            let path = segment_path(&scratch, place.segment);
            flip(&path, place.bytes() + offset);
            let (listed, errors) = collect(list(&cache, 0));
            assert_eq!((listed.len(), errors.len()), (299, 1), "offset {offset}");
            assert!(!listed.contains_key(&key(77)));
            let (_, by_position) = collect(cache.entries().unwrap());
            assert_eq!(errors[0].to_string(), by_position[0].to_string());
        }
    }
}

// Damage in a dead record hides no entry, and is no error.
#[test]
fn damaged_dead_records_hide_nothing() {
    for offset in [4, 5, 20, 60] {
        let scratch = Scratch::new();
        let cache = scratch.open(&Options::new());
        for i in 0..100 {
            cache.put(&key(i), &[1; 40]).unwrap();
        }
        let place = place_of(&cache, &key(50));
        cache.put(&key(50), &[2; 40]).unwrap();
        flip(&segment_path(&scratch, 0), place.bytes() + offset);
        let (listed, errors) = collect(list(&cache, 0));
        assert_eq!((listed.len(), errors.len()), (100, 0), "offset {offset}");
    }
}

/// An entry that the index leads to only by its position is listed last, one that lost its position is
/// listed first: neither order of reading loses it.
#[test]
fn lost_index_words_hide_no_entry() {
    let scratch = Scratch::new();
    let cache = scratch.open(&tiny());
    for i in 0..300 {
        cache.put(&key(i), &[1; 40]).unwrap();
    }
    // The directory entry leads to the region of other hashes.
    let generation = generation_of(&cache);
    let depth = generation.header().poll().depth();
    assert!(depth > 1);
    let mut options = std::fs::File::options();
    let file = options.read(true).write(true).open(scratch.path()).unwrap();
    let mut entries = vec![0; 8 << depth];
    let at = crate::format::index::PAGE;
    file.read_exact_at(&mut entries, at).unwrap();
    let (first, last) = (entries[..8].to_vec(), entries[entries.len() - 8..].to_vec());
    assert_ne!(first, last);
    file.write_all_at(&last, at).unwrap();
    let lost = (0..300).filter(|&i| cache.get(&key(i)).ok().flatten().is_none());
    assert!(lost.count() > 0, "look-ups go by the directory");
    let (listed, _) = collect(list(&cache, 0));
    assert_eq!(listed.len(), 300);
}

/// Whatever word of the header is damaged, a listing ends, and lists nothing that was never put.
#[test]
fn damaged_headers_end_listings() {
    let scratch = scratch();
    let cache = scratch.open(&tiny());
    for i in 0..200 {
        cache.put(&key(i), &[(i % 200) as u8; 40]).unwrap();
    }
    let mut checked = 0;
    for at in (0..word::POLL + 64).map(|word| word as u64 * 8) {
        for byte in [0, 1, 4] {
            flip(scratch.path(), at + byte);
            if let Ok(Some(items)) = Entries::in_heap_order(&cache.handle, 3) {
                let (listed, errors) = collect(items);
                checked += 1;
                assert!(listed.len() == 200 || !errors.is_empty(), "{at}, {byte}");
                for (i, entry) in (0..200).map(|i| (i, listed.get(&key(i)))) {
                    assert!(entry.is_none_or(|entry| entry.value == [i as u8; 40]));
                }
            }
            flip(scratch.path(), at + byte);
        }
    }
    assert!(checked > 50, "{checked}");
}
