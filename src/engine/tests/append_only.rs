//! An append-only cache keeps what was put into it, whatever interface a caller uses.

use crate::error::ErrorKind;
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::engine::tests::*;
use crate::format::record::Variant;
use crate::{Error, Repair};

type Contents = BTreeMap<Vec<u8>, (Vec<u8>, Version)>;

/// Tiny, so that regions split, and segments begin and are cleaned.
fn options() -> Options {
    let mut options = tiny();
    options.append_only(true);
    options
}

fn key(i: u32) -> Vec<u8> {
    format!("key {i:03}{}", "+".repeat(i as usize % 40)).into_bytes()
}

fn fill(cache: &MmapCache, numbers: std::ops::Range<u32>) {
    for i in numbers {
        cache.put(&key(i), &[i as u8; 200]).unwrap();
    }
}

fn contents(cache: &MmapCache) -> Contents {
    let entry = |item: Result<(Vec<u8>, Entry)>| {
        let (key, entry) = item.unwrap();
        let version = entry.version();
        (key, (entry.into_value(), version))
    };
    cache.entries().unwrap().map(entry).collect()
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(cache: &MmapCache, done: Result<T>) {
    match done {
        Err(error) if matches!(error.kind(), ErrorKind::AppendOnly) => {
            assert_eq!(error.path(), Some(cache.path()));
        }
        other => panic!("{other:?}"),
    }
}

/// Asserts that a handle and a writer refuse every change of an existing entry, and every deletion.
#[track_caller]
fn assert_closed(cache: &MmapCache) {
    assert!(cache.is_append_only() && cache.stats().unwrap().append_only);
    let before = (
        contents(cache),
        cache.change_count(),
        cache.stats().unwrap(),
    );
    let (there, absent) = (key(3), b"absent".to_vec());
    let version = cache.version(&there).unwrap().expect("it was put");
    let items = || {
        before
            .0
            .iter()
            .map(|(key, (value, _))| Ok::<_, Error>((key, value)))
    };

    assert_refused(cache, cache.put(&there, b""));
    assert_refused(cache, cache.put(&there, b""));
    assert_refused(cache, cache.update(&there, |_| Update::Put(Vec::new())));
    assert_refused(cache, cache.clear());
    assert_refused(cache, cache.atomic_rebuild(items()));
    let mut writer = cache.writer().unwrap();
    assert_refused(cache, writer.put(&there, b""));
    assert_refused(cache, writer.update(&there, |_| Update::Put(Vec::new())));
    assert_refused(cache, writer.atomic_rebuild(items()));
    drop(writer);
    for key in [&there, &absent] {
        for seen in [version, Version::from_nanos(1)] {
            assert_refused(cache, cache.put_if(key, b"", seen));
            assert_refused(cache, cache.delete_if(key, seen));
            let mut writer = cache.writer().unwrap();
            assert_refused(cache, writer.put_if(key, b"", seen));
            assert_refused(cache, writer.delete_if(key, seen));
        }
        assert_refused(cache, cache.delete(key));
        assert_refused(cache, cache.update(key, |_| Update::Delete));
        let mut writer = cache.writer().unwrap();
        assert_refused(cache, writer.delete(key));
        assert_refused(cache, writer.update(key, |_| Update::Delete));
    }
    assert_eq!(
        (
            contents(cache),
            cache.change_count(),
            cache.stats().unwrap()
        ),
        before
    );
    assert_clean(cache);
}

/// Asserts that everything else is allowed.
#[track_caller]
fn assert_open(cache: &MmapCache, fresh: u32) {
    let before = contents(cache);
    let there = key(3);
    assert_eq!(cache.insert_if_absent(&there, b"").unwrap(), None);
    assert!(!cache.update(&there, |_| Update::Keep).unwrap());
    assert_eq!(contents(cache), before);
    cache.put(&key(fresh), b"put").unwrap();
    assert!(
        cache
            .insert_if_absent(&key(fresh + 1), b"inserted")
            .unwrap()
            .is_some()
    );
    let update = |seen: Option<&Entry>| {
        assert_eq!(seen, None);
        Update::Put(b"updated".to_vec())
    };
    assert!(cache.update(&key(fresh + 2), update).unwrap());
    let after = contents(cache);
    assert_eq!(after.len(), before.len() + 3);
    assert!(
        before
            .iter()
            .all(|(key, entry)| after.get(key) == Some(entry))
    );
    cache.flush().unwrap();
}

// Every operation that would change an entry is refused; new keys are stored.
// A1: a key keeps its first value and version.
#[test]
fn append_only_allows_only_new_keys() {
    for mut options in [Options::new(), tiny(), colliding()] {
        let scratch = scratch();
        let cache = scratch.open(options.append_only(true));
        fill(&cache, 0..60);
        assert_closed(&cache);
        assert_open(&cache, 100);
        // Another handle that does not ask for append-only, and one that does.
        let other = scratch.open(&Options::new());
        assert_closed(&other);
        assert_open(&other, 200);
        drop((cache, other));
        assert_closed(&scratch.open(&options));
    }
}

// Exclusive and durable handles of an append-only cache refuse changes too.
#[test]
fn exclusive_and_durable_handles_refuse_too() {
    let scratch = scratch();
    let mut options = options();
    let cache = scratch.open(options.exclusive(true).durability(Durability::Sync));
    fill(&cache, 0..10);
    assert_closed(&cache);
    assert_open(&cache, 100);
}

#[test]
fn append_only_option_must_match_file() {
    for made in [false, true] {
        let scratch = scratch();
        let open = |asked: Option<bool>| {
            let mut options = tiny();
            options.append_only = asked;
            options.open(scratch.path())
        };
        drop(open(Some(made)).unwrap());
        for asked in [None, Some(made)] {
            assert_eq!(open(asked).unwrap().is_append_only(), made);
        }
        let refused = open(Some(!made)).map_err(Error::into_kind);
        let Err(ErrorKind::OptionMismatch {
            option,
            asked,
            found,
        }) = refused
        else {
            panic!("opened with another value")
        };
        assert_eq!(
            (option, asked, found),
            ("append_only", u64::from(!made), u64::from(made))
        );
    }
    let scratch = scratch();
    assert!(
        !scratch.open(&Options::new()).is_append_only(),
        "unless it is asked for"
    );
}

// A cache with ids is append-only, whatever the options say.
#[test]
fn labels_are_append_only_regardless() {
    let scratch = scratch();
    let mut options = tiny();
    options.variant = Variant::Numbered;
    let cache = scratch.open(&options);
    for i in 0..10 {
        cache.writer().unwrap().id(&key(i)).unwrap();
    }
    assert_closed(&cache);
    let mut asked = Options::new();
    assert!(asked.append_only(true).open(scratch.path()).is_ok());
    let other = asked.append_only(false).open(scratch.path());
    assert!(matches!(
        other.as_ref().map_err(Error::kind),
        Err(ErrorKind::OptionMismatch { .. })
    ));
}

// The flag outlives growth, compaction, and every new generation.
#[test]
fn append_only_outlives_every_rewrite() {
    let scratch = scratch();
    let mut options = options();
    options.directory_bits = 2;
    let cache = scratch.open(&options);
    // More than 64 entries, for regions of 16 slots and a directory of four: regions are enlarged.
    fill(&cache, 0..300);
    let generation = |cache: &MmapCache| Arc::clone(&cache.handle.generation.load());
    assert!(generation(&cache).table.geometry().region_slots > 16);
    assert!(cache.stats().unwrap().segments > 3);
    assert_closed(&cache);
    cache.compact().unwrap();
    assert_closed(&cache);
    // The rewrites that corruption or the end of segment numbers causes.
    let generation = cache.stats().unwrap().generation;
    cache.writer().unwrap().rewrite_heap().unwrap();
    assert!(cache.stats().unwrap().generation > generation);
    assert_eq!(contents(&cache).len(), 300);
    assert_closed(&cache);
    assert_open(&cache, 1_000);
    drop(cache);
    assert_closed(&scratch.open(&Options::new()));
}

// Recovery and repair keep the flag, even if the index is lost.
// A2: each segment has the flag.
#[test]
fn append_only_outlives_a_lost_index() {
    let lost: [fn(&Path); 4] = [
        |path| {
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.write_all_at(&[0x5a; 16], 8 * word::BOOT_ID as u64)
                .unwrap();
        },
        |path| std::fs::remove_file(path).unwrap(),
        |path| std::fs::remove_file(path.with_extension("roster")).unwrap(),
        |path| std::fs::write(path, [0; 4096]).unwrap(),
    ];
    for (number, lose) in lost.into_iter().enumerate() {
        let scratch = scratch();
        let cache = scratch.open(&options());
        fill(&cache, 0..150);
        let before = contents(&cache);
        drop(cache);
        lose(scratch.path());
        if number > 0 {
            assert!(Repair::new(scratch.path()).run().unwrap().rebuilt);
        }
        let cache = scratch.open(&Options::new());
        assert_eq!(cache.stats().unwrap().generation, 2, "{number}");
        assert_eq!(contents(&cache), before, "{number}");
        assert_closed(&cache);
        assert_open(&cache, 500);
    }
}

// A segment whose header is restored is append-only again.
#[test]
fn restored_segment_header_keeps_the_flag() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    fill(&cache, 0..30);
    drop(cache);
    let heap = scratch.path().with_extension("heap");
    let file = std::fs::File::options().write(true).open(&heap).unwrap();
    file.write_all_at(&[0; 128], 0).unwrap();
    std::fs::remove_file(scratch.path().with_extension("roster")).unwrap();
    assert!(Repair::new(scratch.path()).run().unwrap().rebuilt);
    assert_closed(&scratch.open(&Options::new()));
    // Now from the segments alone.
    std::fs::remove_file(scratch.path()).unwrap();
    assert!(Repair::new(scratch.path()).run().unwrap().rebuilt);
    assert_closed(&scratch.open(&Options::new()));
}

#[test]
fn flipped_flag_breaks_the_checksum() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    fill(&cache, 0..10);
    drop(cache);
    for (name, at) in [("", 76), ("heap", 52)] {
        let path = scratch.path().with_extension(name);
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        assert_eq!(byte[0] & 2, 2, "the flag is in this byte");
        file.write_all_at(&[byte[0] ^ 2], at).unwrap();
        if name.is_empty() {
            assert!(MmapCache::open(scratch.path()).unwrap_err().is_corruption());
        }
    }
    // Neither is valid, so that no header is left to say it.
    assert!(
        Repair::new(scratch.path())
            .run()
            .unwrap_err()
            .is_corruption()
    );
}

// A key whose record was corrupted may be put again, and is then immutable.
#[test]
fn lost_entry_may_be_put_once() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    fill(&cache, 0..10);
    let flip = |i: u32| {
        let heap = scratch.path().with_extension("heap");
        let bytes = std::fs::read(&heap).unwrap();
        let at = bytes
            .windows(20)
            .position(|part| part == [i as u8; 20])
            .unwrap()
            + 9;
        let file = std::fs::File::options().write(true).open(&heap).unwrap();
        file.write_all_at(&[0xee], at as u64).unwrap();
    };
    flip(4);
    flip(5);
    assert_eq!(cache.get(&key(4)).unwrap(), None);
    cache.put(&key(4), b"put again").unwrap();
    assert_refused(&cache, cache.put(&key(4), b"and again"));
    assert!(
        cache
            .insert_if_absent(&key(5), b"inserted again")
            .unwrap()
            .is_some()
    );
    assert_eq!(cache.insert_if_absent(&key(5), b"and again").unwrap(), None);
    assert_eq!(cache.get(&key(4)).unwrap().unwrap(), b"put again");
    assert_eq!(cache.get(&key(5)).unwrap().unwrap(), b"inserted again");
    // Like any other entry it cannot be deleted.
    flip(6);
    assert_refused(&cache, cache.delete(&key(6)));
}

// Two handles put one key at the same time: both read the value of one of them.
#[test]
fn concurrent_puts_have_one_winner() {
    let scratch = scratch();
    let handles = [scratch.open(&options()), scratch.open(&Options::new())];
    let won: Vec<Vec<bool>> = std::thread::scope(|scope| {
        let race = |(name, cache)| {
            let put = move |i| match MmapCache::put(cache, &key(i), &[name]) {
                Ok(_) => true,
                Err(error) if matches!(error.kind(), ErrorKind::AppendOnly) => false,
                Err(other) => panic!("{other:?}"),
            };
            scope.spawn(move || (0..500).map(put).collect())
        };
        let racers: Vec<_> = (0..).zip(&handles).map(race).collect();
        racers
            .into_iter()
            .map(|racer| racer.join().unwrap())
            .collect()
    });
    for i in 0..500 {
        let winner = handles[0].get(&key(i)).unwrap().unwrap()[0];
        assert!(won[usize::from(winner)][i as usize] && !won[1 - usize::from(winner)][i as usize]);
    }
}
