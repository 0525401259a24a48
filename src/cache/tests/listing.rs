//! Keys and their versions in a listing that leaves the values alone.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;

use super::*;
use crate::format::record::Variant;
use crate::format::roster::Position;

/// What borrowing gives, and how often it failed.
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

/// Changes a byte of the record of a key, so far from its beginning.
fn damage(scratch: &Scratch, cache: &MmapCache, key: &[u8], offset: u64) {
    let (view, _) = cache.handle.current().unwrap();
    let located = view
        .table
        .locate(view.header().poll(), view.hasher.hash(key))
        .unwrap();
    let (_, _, link) = located.region.probe(view.hasher.hash(key)).next().unwrap();
    let heap = scratch.path().with_extension("heap");
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(heap)
        .unwrap();
    let mut byte = [0];
    let at = link.place().bytes() + offset;
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

#[test]
fn borrowed_keys_of_any_length_come_with_the_versions_of_their_last_puts() {
    for options in [Options::new(), tiny(), colliding()] {
        let scratch = Scratch::new();
        let cache = scratch.open(&options);
        let mut put = BTreeMap::new();
        for round in 0..2 {
            // Shorter and longer than what the index holds, and by the byte around it.
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

#[test]
fn keys_are_listed_without_a_look_at_their_values_and_never_wrong() {
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
    // The part of a key that the index does not repeat.
    damage(&scratch, &cache, &key(5), 24 + 39);
    // Its time, and its length.
    damage(&scratch, &cache, &key(6), 8);
    damage(&scratch, &cache, &key(7), 20);
    let (listed, failed) = borrowed(&cache);
    assert_eq!(failed, 3);
    let expected: Vec<_> = (0..5).map(|i| key(i).to_vec()).collect();
    assert_eq!(Vec::from_iter(listed.into_keys()), expected);
}

#[test]
fn the_version_of_a_numbered_key_is_its_number() {
    let scratch = Scratch::new();
    let mut options = tiny();
    options.variant = Variant::Numbered;
    let cache = scratch.open(&options);
    let mut numbers = BTreeMap::new();
    for i in 0..50_usize {
        let key = vec![i as u8 + 1; 1 + 3 * i];
        let number = cache.writer().unwrap().number(&key).unwrap();
        numbers.insert(key, Version(number));
    }
    assert_eq!(borrowed(&cache), (numbers, 0));
}

/// Stores a word of a file.
fn overwrite_word(path: &std::path::Path, at: u64, change: impl FnOnce(u64) -> u64) {
    let mut options = std::fs::File::options();
    let file = options.read(true).write(true).open(path).unwrap();
    let mut word = [0; 8];
    file.read_exact_at(&mut word, at).unwrap();
    let changed = change(u64::from_le_bytes(word)).to_le_bytes();
    file.write_all_at(&changed, at).unwrap();
}

/// What a listing of items gives, and how often it failed.
fn items(cache: &MmapCache) -> (Vec<Vec<u8>>, usize) {
    let (mut keys, mut failed) = (Vec::new(), 0);
    for item in cache.items().unwrap() {
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

#[test]
fn a_position_that_leads_to_the_slot_of_another_lists_nothing_twice() {
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

#[test]
fn a_slot_that_says_another_version_than_its_record_is_damage_in_a_listing() {
    let scratch = Scratch::new();
    let cache = scratch.open(&Options::new());
    cache.put(b"key", b"value").unwrap();
    let (view, _) = cache.handle.current().unwrap();
    let Position::Slot(number) = view.roster.get(0).unwrap() else {
        unreachable!("the only entry");
    };
    let (region, index) = view.table.slot_home(number);
    // The first word of pair a.
    overwrite_word(
        scratch.path(),
        view.table.body_at(region, index) + 8,
        |mtime| mtime ^ 1,
    );
    assert_eq!(items(&cache), (vec![], 1));
}
