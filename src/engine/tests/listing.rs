//! Listings of keys and versions without values, and listings of corrupt caches.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;

use crate::engine::tests::*;
use crate::error::{ErrorKind, Result};
use crate::format::record::Variant;
use crate::format::roster::Position;

/// Lists borrowed keys, and counts the errors.
fn borrowed(cache: &MmapCache) -> (BTreeMap<Vec<u8>, Version>, usize) {
    let (mut listed, mut failed) = (BTreeMap::new(), 0);
    let mut keys = cache.keys().unwrap();
    while let Some(next) = keys.next_borrowed() {
        match next {
            Ok((key, version)) => {
                let first = listed.insert(key.to_vec(), version);
                assert_eq!(first, None, "{key:?} came twice");
            }
            Err(error) => {
                assert!(error.is_corruption());
                failed += 1;
            }
        }
    }
    (listed, failed)
}

/// Flips a byte of a key's record at an offset.
fn damage(scratch: &Scratch, cache: &MmapCache, key: &[u8], offset: u64) {
    let (generation, _) = cache.handle.current().unwrap();
    let located = generation
        .table
        .locate(generation.header().poll(), generation.hasher.hash(key))
        .unwrap();
    let (_, _, link) = located
        .region
        .probe(generation.hasher.hash(key))
        .next()
        .unwrap();
    let heap = scratch.path().with_extension("heap");
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(heap)
        .unwrap();
    let mut byte = [0];
    let at = link.addr().bytes() + offset;
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

// Borrowed keys of any length have the versions of their last puts.
#[test]
fn borrowed_keys_carry_their_versions() {
    for options in [Options::new(), tiny(), colliding()] {
        let scratch = Scratch::new();
        let cache = scratch.open(&options);
        let mut put = BTreeMap::new();
        for round in 0..2 {
            // Shorter and longer than the inline length, and by one byte around it.
            for len in (1..60).chain([500, 5_000]) {
                if round == 0 || len % 3 == 0 {
                    let key = vec![len as u8; len];
                    let version = cache.put(&key, &vec![round; 37 * len % 2_000]).unwrap();
                    put.insert(key, version);
                }
            }
        }
        for len in (1..60).step_by(4) {
            cache.delete(&vec![len as u8; len]).unwrap();
            put.remove(&vec![len as u8; len]);
        }
        assert_eq!(borrowed(&cache), (put.clone(), 0));
        cache.compact().unwrap();
        assert_eq!(borrowed(&cache), (put, 0));
    }
}

// Keys are listed without their values, and a corrupt key is never listed.
#[test]
fn listing_keys_reads_no_values() {
    let scratch = Scratch::new();
    let cache = scratch.open(&Options::new());
    let key = |i: u8| [b'a' + i; 40];
    for i in 0..8 {
        cache.put(&key(i), &[i; 3_000]).unwrap();
    }
    damage(&scratch, &cache, &key(2), 24 + 40 + 1_500);
    assert!(cache.entry(&key(2)).unwrap_err().is_corruption());
    let (listed, failed) = borrowed(&cache);
    assert_eq!((listed.len(), failed), (8, 0), "the value alone is damaged");
    damage(&scratch, &cache, &key(5), 24 + 39);
    // The lengths of value and key.
    damage(&scratch, &cache, &key(6), 4);
    damage(&scratch, &cache, &key(7), 20);
    let (listed, failed) = borrowed(&cache);
    assert_eq!(failed, 3);
    let expected: Vec<_> = (0..5).map(|i| key(i).to_vec()).collect();
    assert_eq!(Vec::from_iter(listed.into_keys()), expected);
}

// The version of a listed key that has an id is its id.
#[test]
fn listed_versions_are_the_ids() {
    let scratch = Scratch::new();
    let mut options = tiny();
    options.variant = Variant::Numbered;
    let cache = scratch.open(&options);
    let mut numbers = BTreeMap::new();
    for i in 0..50_usize {
        let key = vec![i as u8 + 1; 1 + 3 * i];
        let number = cache.writer().unwrap().id(&key).unwrap();
        numbers.insert(key, Version(number));
    }
    assert_eq!(borrowed(&cache), (numbers, 0));
}

/// Changes a word of a file.
fn overwrite_word(path: &std::path::Path, at: u64, change: impl FnOnce(u64) -> u64) {
    let mut options = std::fs::File::options();
    let file = options.read(true).write(true).open(path).unwrap();
    let mut word = [0; 8];
    file.read_exact_at(&mut word, at).unwrap();
    let changed = change(u64::from_le_bytes(word)).to_le_bytes();
    file.write_all_at(&changed, at).unwrap();
}

/// Lists items, and counts the errors.
fn items(cache: &MmapCache) -> (Vec<Vec<u8>>, usize) {
    let (mut keys, mut failed) = (Vec::new(), 0);
    for item in cache.iter().unwrap() {
        match item {
            Ok((key, _)) => keys.push(key),
            Err(error) => {
                assert!(error.is_corruption());
                failed += 1;
            }
        }
    }
    (keys, failed)
}

// A position that leads to another entry's slot lists no entry twice.
#[test]
fn misled_position_lists_nothing_twice() {
    let scratch = Scratch::new();
    let cache = scratch.open(&Options::new());
    for key in [b"a", b"b"] {
        cache.put(key, b"value").unwrap();
    }
    // Both positions in one word.
    let at = crate::format::roster::HEADER_BYTES;
    let roster = scratch.path().with_extension("roster");
    overwrite_word(&roster, at, |word| word & 0xffff_ffff | word << 32);
    assert_eq!(items(&cache), (vec![b"a".to_vec()], 1));
}

/// Asserts that every way of listing and sampling fails on a cache that lacks positions.
fn assert_all_listings_fail(cache: &MmapCache) {
    let keys: Result<Vec<_>> = cache.keys().unwrap().collect();
    let items: Result<Vec<_>> = cache.iter().unwrap().collect();
    let entries: Result<Vec<_>> = cache.entries().unwrap().collect();
    for error in [
        keys.err(),
        items.err(),
        entries.err(),
        cache.random_key().err(),
    ] {
        assert!(error.expect("an error").is_corruption());
    }
    let mut keys = cache.keys().unwrap();
    let listed = keys.by_ref().filter(|key| key.is_ok()).count();
    assert!((listed as u64) < cache.len());
    assert!(keys.next().is_none(), "the error is the last item");
}

fn cut_roster(scratch: &Scratch, len: u64) {
    let roster = scratch.path().with_extension("roster");
    let file = std::fs::File::options().write(true).open(roster).unwrap();
    file.set_len(len).unwrap();
}

#[cfg(feature = "dict")]
fn assert_dictionary_fails(cache: MmapCache) {
    use crate::dict::{Format, MmapDict};
    let dict = MmapDict::<u8>::on(std::sync::Arc::new(cache), Format::Json);
    assert!(dict.len().is_err() && dict.keys().any(|key| key.is_err()));
}

/// A roster that another program truncated. Readers list what is left and then fail; a writable
/// handle rebuilds the roster from the heap.
#[test]
fn truncated_rosters_end_listings_with_errors() {
    for (count, len) in [(10, 64), (10, 100), (1_000, 64), (1_000, 464)] {
        let scratch = Scratch::new();
        let cache = scratch.open(&Options::new());
        for i in 0..count {
            cache.put(format!("key {i}").as_bytes(), b"value").unwrap();
        }
        drop(cache);
        cut_roster(&scratch, len);
        let reader = scratch.open(Options::new().read_only(true));
        assert_all_listings_fail(&reader);
        assert_eq!(reader.get(b"key 9").unwrap().unwrap(), b"value");
        #[cfg(feature = "dict")]
        assert_dictionary_fails(reader);

        let writer = scratch.open(&Options::new());
        assert_eq!(writer.keys().unwrap().filter(Result::is_ok).count(), count);
        assert_clean(&writer);
        writer.atomic_rebuild(writer.iter().unwrap()).unwrap();
        assert_eq!(writer.len() as usize, count);
    }
}

/// A handle that was open when the roster lost an entry recovers nothing, and a rebuild from the
/// listing must change nothing.
#[test]
fn short_listings_rebuild_nothing() {
    let scratch = Scratch::new();
    let cache = scratch.open(&Options::new());
    for i in 0..1_000 {
        cache.put(format!("key {i}").as_bytes(), b"value").unwrap();
    }
    // The second position of a word becomes a free-list entry, which no count contradicts.
    let at = crate::format::roster::HEADER_BYTES + 8 * 20;
    let roster = scratch.path().with_extension("roster");
    overwrite_word(&roster, at, |word| word | 1 << 63);
    let mut items = cache.iter().unwrap();
    assert_eq!(items.by_ref().take(999).filter(Result::is_ok).count(), 999);
    match items.next() {
        Some(Err(error)) => assert!(
            matches!(
                error.kind(),
                ErrorKind::Incomplete {
                    found: 999,
                    counted: 1_000,
                    ..
                }
            ),
            "{error:?}"
        ),
        other => panic!("{other:?}"),
    }
    assert!(items.next().is_none());
    match cache.atomic_rebuild(cache.iter().unwrap()) {
        Err(error) if matches!(error.kind(), ErrorKind::RebuildSource { .. }) => {}
        other => panic!("{other:?}"),
    }
    for i in 0..1_000 {
        let key = format!("key {i}");
        assert_eq!(cache.get(key.as_bytes()).unwrap().unwrap(), b"value");
    }
}

/// A listing takes each change by others since it began for a deletion; a writer killed during a
/// change makes a difference of one.
/// R1: an entry keeps its position through all changes, so it is listed once.
#[test]
fn listings_beside_changes_are_complete() {
    let scratch = Scratch::new();
    let (cache, other) = (scratch.open(&tiny()), scratch.open(&tiny()));
    let key = |i: u32| format!("key {i}").into_bytes();
    for i in 0..500 {
        cache.put(&key(i), b"value").unwrap();
    }
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..20_000_u32 {
                let key = key(250 + round * 7 % 250);
                match round % 3 {
                    0 => drop(other.delete(&key).unwrap()),
                    _ => drop(other.put(&key, &[round as u8; 40]).unwrap()),
                }
            }
        });
        while !writer.is_finished() {
            let listed: Result<Vec<_>> = cache.keys().unwrap().collect();
            assert!(listed.unwrap().len() >= 250);
            let listed: Result<Vec<_>> = cache.iter().unwrap().collect();
            assert!(listed.unwrap().len() >= 250);
        }
    });
}

/// After a writer was killed anywhere in a change, listings end without an error, and still report
/// a missing entry.
#[test]
fn killed_writers_leave_listings_exact() {
    use crate::sync::failpoint;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    for is_deletion in [false, true] {
        for steps in 0.. {
            let scratch = scratch();
            let cache = scratch.open(&tiny());
            for i in 0..20_u8 {
                cache.put(&[b'k', i], b"value").unwrap();
            }
            failpoint::set(steps);
            let outcome = catch_unwind(AssertUnwindSafe(|| match is_deletion {
                false => drop(cache.put(b"new", b"value").unwrap()),
                true => assert!(cache.delete(&[b'k', 3]).unwrap()),
            }));
            failpoint::clear();
            let reader = scratch.open(Options::new().read_only(true));
            let listed: Result<Vec<_>> = reader.keys().unwrap().collect();
            assert!((19..=21).contains(&listed.unwrap().len()), "step {steps}");
            // Positions 0 to 3 become free.
            let roster = scratch.path().with_extension("roster");
            let hole = 1 << 63 | 1 << 31;
            overwrite_word(&roster, crate::format::roster::HEADER_BYTES, |_| hole);
            overwrite_word(&roster, crate::format::roster::HEADER_BYTES + 8, |_| hole);
            let listed: Result<Vec<_>> = reader.keys().unwrap().collect();
            assert!(listed.is_err(), "step {steps}");
            if outcome.is_ok() {
                assert!(steps > 10);
                break;
            }
        }
    }
}

/// No checksum covers slots: a listing compares the key in the record with the hash bits there.
#[test]
fn links_to_other_entries_are_corrupt() {
    let scratch = Scratch::new();
    let cache = scratch.open(&Options::new());
    for i in 0..50_u8 {
        cache.put(&[b'k', i, 9, 9, 9], b"value").unwrap();
    }
    let (generation, _) = cache.handle.current().unwrap();
    let Position::Slot(number) = generation.roster.get(7).unwrap() else {
        unreachable!("nothing was deleted");
    };
    let (region, index) = generation.table.slot_home(number);
    let body = generation.table.body_at(region, index);
    for (at, mask) in [(body, 1 << 50), (body, 1 << 63)] {
        overwrite_word(scratch.path(), at, |word| word ^ mask);
        let (listed, failed) = borrowed(&cache);
        assert_eq!((listed.len(), failed), (49, 1), "{mask:#x}");
        assert!(
            listed
                .keys()
                .all(|key| key.len() == 5 && key[2..] == [9; 3])
        );
        for _ in 0..200 {
            let drawn = cache.random_key().unwrap().unwrap();
            assert!(listed.contains_key(&drawn), "{drawn:?} was never put");
        }
        overwrite_word(scratch.path(), at, |word| word ^ mask);
    }
    assert_eq!(borrowed(&cache).1, 0);
}

/// The error names a corrupt position by its byte in the roster, not in the index.
#[test]
fn corrupt_positions_name_roster_bytes() {
    let scratch = Scratch::new();
    let cache = scratch.open(&Options::new());
    for i in 0..10_u8 {
        cache.put(&[i], b"value").unwrap();
    }
    let roster = scratch.path().with_extension("roster");
    let at = crate::format::roster::HEADER_BYTES + 4 * 6;
    overwrite_word(&roster, at, |word| word | 0x7fff_fff0);
    match cache.keys().unwrap().find(Result::is_err) {
        Some(Err(error)) => {
            let named =
                matches!(error.kind(), ErrorKind::Corrupted { at: said, .. } if *said == at);
            assert!(named && error.path() == Some(&roster), "{error:?}");
        }
        other => panic!("{other:?}"),
    }
}
