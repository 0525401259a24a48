//! Keys and their versions in a listing that leaves the values alone.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;

use super::*;
use crate::format::record::Variant;

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
