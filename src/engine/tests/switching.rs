//! Replacing a whole cache, and what handles and entries keep through it.
//!
//! All writers complete here; `recovery/` stops them.

use crate::engine::read::lookup::is_unchanged;
use crate::engine::tests::*;
use crate::index::attempt::Attempt;

#[test]
fn rebuild_replaces_all_or_nothing() {
    let scratch = Scratch::new();
    let cache = scratch.open(&tiny());
    let reader = scratch.open(&tiny());
    for i in 0..500_u32 {
        cache.put(&i.to_le_bytes(), b"old").unwrap();
    }
    let last = cache.version(&499_u32.to_le_bytes()).unwrap().unwrap();
    let failing = (0..300_u32).map(|i| {
        if i < 299 {
            Ok((i.to_le_bytes(), *b"new"))
        } else {
            Err("gave out")
        }
    });
    assert!(matches!(
        cache
            .atomic_rebuild(failing)
            .as_ref()
            .map_err(crate::Error::kind),
        Err(crate::ErrorKind::RebuildSource { .. })
    ));
    assert_eq!(cache.len(), 500);
    let names: Vec<_> = std::fs::read_dir(scratch.path().parent().unwrap())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(
        !names
            .iter()
            .any(|name| name.to_string_lossy().ends_with(".new")),
        "{names:?}"
    );
    let items = (0..300_u32)
        .chain(0..300)
        .enumerate()
        .map(|(n, i)| Ok::<_, crate::Error>((i.to_le_bytes(), (n as u32).to_le_bytes())));
    cache.atomic_rebuild(items).unwrap();
    for handle in [&cache, &reader] {
        assert_eq!(handle.len(), 300);
        assert_eq!(
            handle.get(&7_u32.to_le_bytes()).unwrap().as_deref(),
            Some(&307_u32.to_le_bytes()[..])
        );
        assert_eq!(handle.get(&400_u32.to_le_bytes()).unwrap(), None);
        assert!(handle.version(&7_u32.to_le_bytes()).unwrap().unwrap() > last);
        assert_clean(handle);
    }
    reader.put(b"from the other handle", b"x").unwrap();
    assert_eq!(
        cache.get(b"from the other handle").unwrap().as_deref(),
        Some(&b"x"[..])
    );
    cache.clear().unwrap();
    assert!(reader.is_empty());
    assert!(cache.put(b"k", b"v").unwrap() > last);
    assert_clean(&reader);
}

// Versions survive cleaning, splitting, rebuilding and reopening.
#[test]
fn versions_survive_all_rewrites() {
    let scratch = Scratch::new();
    let options = tiny();
    let cache = scratch.open(&options);
    let versions: Vec<_> = (0..200_u32)
        .map(|i| cache.put(&i.to_le_bytes(), &[7; 50]).unwrap())
        .collect();
    for round in 0..2_000_u32 {
        cache.put(b"noise", &[round as u8; 100]).unwrap();
    }
    cache.compact().unwrap();
    drop(cache);
    let cache = scratch.open(&options);
    for (i, version) in (0..200_u32).zip(&versions) {
        assert_eq!(cache.version(&i.to_le_bytes()).unwrap(), Some(*version));
        assert_eq!(
            cache.entry(&i.to_le_bytes()).unwrap().unwrap().version(),
            *version
        );
    }
    assert!(versions.windows(2).all(|pair| pair[0] < pair[1]));
    assert_clean(&cache);
}

#[test]
fn manual_file_replacement_is_noticed() {
    let scratch = Scratch::new();
    let mut options = Options::new();
    options.staleness_check_interval(std::time::Duration::ZERO);
    let cache = scratch.open(&options);
    cache.put(b"k", b"v").unwrap();
    for name in std::fs::read_dir(scratch.path().parent().unwrap()).unwrap() {
        std::fs::remove_file(name.unwrap().path()).unwrap();
    }
    cache.put(b"n", b"w").unwrap();
    assert_eq!(cache.get(b"n").unwrap().unwrap(), b"w");
    assert_eq!(
        scratch.open(&options).len(),
        1,
        "the put went to a new cache at the path"
    );
}

/// Returns how many misses in a row it takes until a reader notices files that replaced its own.
fn misses_until_replaced_files_are_seen(interval: std::time::Duration) -> u32 {
    let scratch = Scratch::new();
    let mut options = Options::new();
    options.staleness_check_interval(interval);
    let reader = scratch.open(&options);
    for _ in 0..5 {
        assert!(reader.get(b"new").unwrap().is_none());
    }
    for name in std::fs::read_dir(scratch.path().parent().unwrap()).unwrap() {
        std::fs::remove_file(name.unwrap().path()).unwrap();
    }
    scratch.open(&Options::new()).put(b"new", b"v").unwrap();
    // Longer than the interval, and than a tick of the coarse clock.
    std::thread::sleep(std::time::Duration::from_millis(30));
    (0..100)
        .find(|_| reader.get(b"new").unwrap().is_some())
        .expect("files that were replaced are never seen")
}

// A reader that misses notices replaced files after fewer than thirteen misses, or at once if the
// options say so.
#[test]
fn misses_reveal_replaced_files() {
    use std::time::Duration;
    assert_eq!(misses_until_replaced_files_are_seen(Duration::ZERO), 0);
    assert!(misses_until_replaced_files_are_seen(Duration::from_millis(1)) < 13);
}

// M3: the engine never changes a record that a caller may have mapped.
#[test]
fn in_place_value_outlives_its_entry() {
    let scratch = Scratch::new();
    let cache = scratch.open(&tiny());
    let version = cache.put(b"key", b"a value in place").unwrap();
    #[expect(
        unsafe_code,
        reason = "no other thread writes to the files of this test"
    )]
    // SAFETY: M3: the files are this test's own.
    let value = unsafe { cache.get_ref(b"key") }.unwrap().unwrap();
    assert_eq!(
        (&value[..], value.version()),
        (&b"a value in place"[..], version)
    );
    for round in 0..3_000_u32 {
        cache.put(b"key", &round.to_le_bytes()).unwrap();
    }
    cache.clear().unwrap();
    assert_eq!(&value[..], b"a value in place");
}

// A miss is retried if its region was replaced before a generation switch began.
#[test]
fn stale_region_miss_is_retried() {
    let scratch = Scratch::new();
    let cache = scratch.open(&tiny());
    let (generation, _) = cache.handle.current().unwrap();
    let hashes: Vec<_> = (0..32_u8).map(|i| generation.hasher.hash(&[i])).collect();
    let mut i = 0_u32;
    // Readers pause after they found their regions, until one is split at an unchanged depth.
    let (hash, located) = loop {
        let poll = generation.header().poll();
        let locate = |hash| (hash, generation.table.locate(poll, hash).unwrap());
        let stopped: Vec<_> = hashes.iter().copied().map(locate).collect();
        i += 1;
        cache.put(&i.to_le_bytes(), b"v").unwrap();
        let moved = stopped.into_iter().find(|(hash, located)| {
            let (now, entry) = generation.table.look_again(located, *hash).unwrap();
            now == poll && entry != located.entry
        });
        if let Some(moved) = moved {
            break moved;
        }
    };
    // Then a switch begins, and takes long.
    let (header, poll) = (generation.header(), located.poll);
    header.set_poll(poll.with_superseded(true));
    assert!(!is_unchanged(&cache.handle, &generation, &located, hash).unwrap());
    let again = generation.table.locate(poll, hash).unwrap();
    let still = is_unchanged(&cache.handle, &generation, &again, hash).unwrap();
    assert!(still, "the mark alone is no reason");
    header.set_poll(poll);
}

// Each kind of read may be the first to notice a rebuild.
#[test]
fn every_read_notices_a_rebuild() {
    let ways: [fn(&MmapCache) -> bool; 6] = [
        |reader| reader.get(b"key").unwrap().unwrap() == b"new",
        |reader| reader.get(b"gone").unwrap().is_none(),
        |reader| reader.entry(b"key").unwrap().unwrap().value == b"new",
        |reader| reader.contains(b"gone").unwrap().eq(&false),
        |reader| {
            let mut values = Vec::new();
            let each = |_, value: Option<&[u8]>| values.push(value.map(<[u8]>::to_vec));
            reader.get_many(["gone", "key"], each).unwrap();
            values == [None, Some(b"new".to_vec())]
        },
        |reader| {
            let items: Vec<_> = reader.iter().unwrap().map(Result::unwrap).collect();
            items == [(b"key".to_vec(), b"new".to_vec())]
        },
    ];
    for (way, sees_it) in ways.iter().enumerate() {
        let scratch = Scratch::new();
        let cache = scratch.open(&tiny());
        cache.put(b"key", b"old").unwrap();
        cache.put(b"gone", b"old").unwrap();
        let reader = scratch.open(&tiny());
        assert_eq!(reader.get(b"key").unwrap().unwrap(), b"old");
        assert_eq!(reader.get(b"absent").unwrap(), None);
        cache
            .atomic_rebuild([Ok::<_, crate::Error>((b"key", b"new"))])
            .unwrap();
        assert!(sees_it(&reader), "way {way}");
    }
}

#[test]
fn fast_path_rejects_split_regions() {
    let scratch = Scratch::new();
    let cache = scratch.open(&tiny());
    let (generation, _) = cache.handle.current().unwrap();
    let mut elsewhere = 0;
    for i in 0..2_000_u32 {
        // A reader pauses after it read the state word, until the directory has doubled.
        let poll = generation.header().poll();
        cache.put(&i.to_le_bytes(), b"v").unwrap();
        if generation.header().poll() == poll {
            continue;
        }
        for key in 0..=i {
            let hash = generation.hasher.hash(&key.to_le_bytes());
            let located = generation.table.locate(poll, hash).unwrap();
            elsewhere += u32::from(located.region.probe(hash).next().is_none());
            let glance = generation.table.fast_path(poll, hash, false, false);
            assert!(!matches!(glance, Attempt::Absent), "{key} is there");
        }
    }
    assert!(elsewhere > 10, "no region had lost a key");
}

// A writer that was active while files were replaced leaves no mutator to the next one.
#[test]
fn replaced_files_reset_the_mutator() {
    let scratch = Scratch::new();
    let mut options = tiny();
    options.staleness_check_interval(std::time::Duration::from_secs(1 << 40));
    let cache = scratch.open(&options);
    cache.put(b"k", b"old").unwrap();
    let writer = cache.writer().unwrap();
    for found in std::fs::read_dir(scratch.path().parent().unwrap()).unwrap() {
        std::fs::remove_file(found.unwrap().path()).unwrap();
    }
    let other = scratch.open(&options);
    cache.handle.reopen_if_replaced().unwrap();
    drop(writer);
    cache.put(b"k", b"new").unwrap();
    assert_eq!(cache.get(b"k").unwrap().unwrap(), b"new");
    assert_eq!(other.get(b"k").unwrap().unwrap(), b"new");
}
