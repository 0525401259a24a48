//! Bytes changed behind the engine's back: what it says then must be right, absent, or an error
//! that names the damage.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;

use super::recovery::scratch;
use super::*;
use crate::Error;

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

fn options() -> Options {
    let mut options = tiny();
    options.directory_bits = 3;
    options
}

/// Entries of every kind: short and long keys, no value and a long one, overwritten, deleted, and
/// moved by a split.
fn fill(cache: &MmapCache) -> Contents {
    let mut expected = Contents::new();
    for i in 0..24_u8 {
        let key = vec![i + 1; 1 + usize::from(i) * 3];
        let value = vec![i; usize::from(i % 5) * 40];
        cache.put(&key, b"first").unwrap();
        cache.put(&key, &value).unwrap();
        expected.insert(key, value);
    }
    for i in 0..4_u8 {
        let key = vec![i + 1; 1 + usize::from(i) * 3];
        assert!(cache.delete(&key).unwrap());
        expected.remove(&key);
    }
    expected
}

/// An error of a damaged cache must say that it is one.
fn tolerate<T>(result: crate::Result<T>, context: &str) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        // A version that is not this crate's may be damage too, and is refused in words of its own.
        Err(error)
            if error.is_corruption()
                || matches!(error, Error::Version { .. } | Error::Mismatch { .. }) =>
        {
            None
        }
        Err(error) => panic!("{context}: {error:?}"),
    }
}

/// Every public way of looking, none of which may give what was never put.
fn look(cache: &MmapCache, expected: &Contents, context: &str) {
    for (key, value) in expected {
        if let Some(Some(seen)) = tolerate(cache.get(key), context) {
            assert_eq!(&seen, value, "{context}");
        }
        if let Some(Some(entry)) = tolerate(cache.entry(key), context) {
            assert_eq!(entry.value(), value, "{context}");
        }
        tolerate(cache.contains(key), context);
        tolerate(cache.mtime(key), context);
    }
    for item in tolerate(cache.items(), context).into_iter().flatten() {
        if let Some((key, value)) = tolerate(item, context) {
            // A damaged deletion may let an older record speak; a value that nobody put may not.
            let right = expected
                .get(&key)
                .is_none_or(|expected| *expected == value || value == b"first");
            assert!(right, "{context}: {key:?}");
        }
    }
    for key in tolerate(cache.keys(), context).into_iter().flatten() {
        tolerate(key, context);
    }
    tolerate(cache.stats(), context);
    tolerate(cache.verify(), context);
    tolerate(cache.disk_usage(), context);
    cache.len();
}

fn work(cache: &MmapCache, expected: &Contents, context: &str) {
    let mut own = Contents::new();
    for (i, key) in expected.keys().enumerate().take(8) {
        let value = vec![0xcc; 30 + i];
        if tolerate(cache.put(key, &value), context).is_some() {
            own.insert(key.clone(), value);
        }
    }
    for i in 0..40_u8 {
        let key = [0xf0, i, i];
        if tolerate(cache.put(&key, &[i; 50]), context).is_some() {
            own.insert(key.to_vec(), vec![i; 50]);
        }
    }
    for (key, value) in &own {
        let seen = tolerate(cache.get(key), context).flatten();
        assert_eq!(
            seen.as_ref(),
            Some(value),
            "{context}: what was put afterwards"
        );
    }
    tolerate(cache.delete(&[0xf0, 1, 1]), context);
    tolerate(cache.compact(), context);
    for item in tolerate(cache.items(), context).into_iter().flatten() {
        tolerate(item, context);
    }
    tolerate(cache.clear(), context);
}

fn files(path: &Path) -> Vec<PathBuf> {
    ["", ".heap", ".roster"]
        .iter()
        .map(|suffix| PathBuf::from(format!("{}{suffix}", path.display())))
        .collect()
}

/// Applies `damage` to a file of a fresh cache and looks and works, by handles that were open
/// before and by new ones.
fn attack(file: usize, damage: impl Fn(&std::fs::File), context: &str) {
    let scratch = scratch();
    let cache = scratch.open(&options());
    let expected = fill(&cache);
    let reader = scratch.open(Options::new().read_only(true));
    look(&reader, &expected, context);
    let path = &files(scratch.path())[file];
    damage(
        &std::fs::File::options()
            .read(true)
            .write(true)
            .open(path)
            .unwrap(),
    );
    look(&reader, &expected, context);
    drop(cache);
    if let Some(fresh) = tolerate(Options::new().read_only(true).open(scratch.path()), context) {
        look(&fresh, &expected, context);
    }
    if let Some(fresh) = tolerate(options().open(scratch.path()), context) {
        look(&fresh, &expected, context);
        work(&fresh, &expected, context);
    }
}

fn flip(file: &std::fs::File, at: u64, mask: u8) {
    let mut byte = [0];
    if file.read_at(&mut byte, at).unwrap() == 1 {
        file.write_all_at(&[byte[0] ^ mask], at).unwrap();
    }
}

#[test]
fn no_changed_byte_of_the_header_page_is_believed() {
    for at in 0..640 {
        for mask in [0xff, 0x01, 0x80] {
            attack(
                0,
                |file| flip(file, at, mask),
                &format!("index byte {at} ^ {mask:#x}"),
            );
        }
    }
}

#[test]
fn no_changed_byte_of_directory_and_regions_is_believed() {
    let geometry = options().geometry(Path::new("x")).unwrap();
    let regions = geometry.regions_at();
    let region = geometry.region_bytes() as u64;
    for at in (4096..4160).chain((regions..regions + 3 * region).step_by(3)) {
        attack(0, |file| flip(file, at, 0xff), &format!("index byte {at}"));
    }
}

#[test]
fn no_changed_byte_of_heap_or_roster_is_believed() {
    for at in (0..4_000).step_by(5) {
        attack(1, |file| flip(file, at, 0xff), &format!("heap byte {at}"));
    }
    for at in 0..200 {
        attack(2, |file| flip(file, at, 0xff), &format!("roster byte {at}"));
    }
}

#[test]
fn a_zeroed_page_of_any_file_costs_entries_at_most() {
    for file in 0..3 {
        for page in 0..4 {
            let zero = |file: &std::fs::File| file.write_all_at(&[0; 4096], page * 4096).unwrap();
            attack(file, zero, &format!("file {file} page {page}"));
        }
    }
}

#[test]
fn cleaning_finds_the_live_records_that_damage_hid_from_its_walk() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    let first = cache.put(b"damaged", &[1; 200]).unwrap();
    for i in 0..30_u8 {
        cache.put(&[b'k', i], &[i; 300]).unwrap();
    }
    cache.put(b"dead", b"1").unwrap();
    cache.put(b"dead", b"2").unwrap();
    let heap = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&files(scratch.path())[1])
        .unwrap();
    flip(&heap, 128 + 100, 0xff);
    assert_eq!(
        cache.get(b"damaged").unwrap(),
        None,
        "a damaged entry is a miss"
    );
    assert!(cache.entry(b"damaged").unwrap_err().is_corruption());
    assert_eq!(
        cache.mtime(b"damaged").unwrap(),
        Some(first),
        "the index does not know yet"
    );
    assert!(cache.stats().unwrap().damaged_seen > 0);
    cache.compact().unwrap();
    assert_eq!(
        cache.mtime(b"damaged").unwrap(),
        None,
        "its segment is gone, and with it the entry"
    );
    assert_eq!(cache.stats().unwrap().dropped, 1);
    for i in 0..30_u8 {
        assert_eq!(cache.get(&[b'k', i]).unwrap().unwrap(), [i; 300]);
    }
    assert_clean(&cache);
    cache.put(b"damaged", b"whole again").unwrap();
    assert_eq!(cache.get(b"damaged").unwrap().unwrap(), b"whole again");
}

#[test]
fn a_damaged_segment_header_costs_nothing_that_its_records_still_say() {
    for at in [3, 8, 20, 40, 57, 70] {
        let scratch = scratch();
        let cache = scratch.open(&options());
        for i in 0..200_u32 {
            cache.put(&i.to_le_bytes(), &[1; 100]).unwrap();
        }
        let last = files(scratch.path())[1].with_extension("heap.1");
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .open(&last)
            .unwrap();
        flip(&file, at, 0x41);
        assert!(cache.delete(&0_u32.to_le_bytes()).unwrap());
        cache.put(&1_u32.to_le_bytes(), b"new").unwrap();
        let other = scratch.open(&options());
        other.put(b"x", b"y").unwrap();
        for handle in [&cache, &other] {
            assert_eq!(
                handle.get(&0_u32.to_le_bytes()).unwrap(),
                None,
                "byte {at}: it was deleted"
            );
            assert_eq!(
                handle.get(&1_u32.to_le_bytes()).unwrap().unwrap(),
                b"new",
                "byte {at}"
            );
            assert_eq!(handle.len(), 200);
        }
        other.compact().unwrap();
        assert_clean(&other);
    }
}

#[test]
fn a_segment_that_cannot_be_opened_is_not_taken_for_one_that_was_cleaned_away() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    for round in 0..3_u8 {
        for i in 0..100_u32 {
            cache.put(&i.to_le_bytes(), &[round; 200]).unwrap();
        }
    }
    drop(cache);
    let names: Vec<_> = std::fs::read_dir(scratch.path().parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains(".heap"))
        .collect();
    for name in &names {
        flip(
            &std::fs::File::options()
                .read(true)
                .write(true)
                .open(name)
                .unwrap(),
            57,
            0xcc,
        );
    }
    let began = std::time::Instant::now();
    let cache = scratch.open(&options());
    cache.compact().unwrap();
    assert_eq!(
        cache.items().unwrap().filter(|item| item.is_ok()).count(),
        100
    );
    assert!(
        began.elapsed() < std::time::Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert_clean(&cache);
}

#[test]
fn an_entry_with_a_damaged_position_is_not_lost_when_its_region_is_rebuilt() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    for i in 0..10_u32 {
        cache.put(&i.to_le_bytes(), b"old").unwrap();
    }
    let view = cache.handle.view.load_full();
    let hash = view.hasher.hash(&3_u32.to_le_bytes());
    let region = view
        .table
        .locate(view.header().poll(), hash)
        .unwrap()
        .region;
    let (_, slot, _) = region.probe(hash).next().unwrap();
    let mut identity = slot.identity();
    identity.position = 70_000;
    slot.set_identity(identity);
    // Acknowledged after the damage, so it has to stay through splits and larger regions.
    cache.put(&3_u32.to_le_bytes(), b"new").unwrap();
    for i in 10..400_u32 {
        cache.put(&i.to_le_bytes(), b"more").unwrap();
    }
    assert_eq!(cache.get(&3_u32.to_le_bytes()).unwrap().unwrap(), b"new");
    assert_eq!(cache.keys().unwrap().count(), 400);
    assert_clean(&cache);
}
