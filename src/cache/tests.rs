//! Tests of the engine from inside: with geometries and hashes that make every rare path common.

mod damage;
mod disk;
#[cfg(loom)]
mod loom;
#[cfg(not(loom))]
mod many;
#[cfg(not(loom))]
mod model;
mod power;
mod recovery;
mod repair;

use std::path::{Path, PathBuf};

use super::*;
use crate::format::HashKind;

/// A cache in a directory of its own, with regions and segments so small that everything happens
/// soon.
struct Scratch {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Scratch {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        Self { _dir: dir, path }
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn open(&self, options: &Options) -> MmapCache {
        options.open(&self.path).unwrap()
    }
}

/// Regions of sixteen slots, segments of sixteen KiB, cleaning from the first KiB on.
fn tiny() -> Options {
    let mut options = Options::new();
    options
        .region_slots(16)
        .max_segment_bytes(16 * 1024)
        .clean_when(50, 1024);
    options
}

/// The same, with a hash of five bits and a directory of four entries.
fn colliding() -> Options {
    let mut options = tiny();
    options.hash_kind = HashKind::Colliding;
    options.directory_bits = 2;
    options
}

#[track_caller]
fn assert_clean(cache: &MmapCache) {
    let report = cache.verify().unwrap();
    assert!(report.is_clean(), "{:?}", report.faults);
    assert!(report.totals_compared);
    assert_eq!(report.entries, cache.len());
}

#[test]
fn a_value_comes_back_and_an_empty_one_is_not_an_absent_one() {
    let scratch = Scratch::new();
    let cache = scratch.open(&Options::new());
    assert_eq!(cache.get(b"k").unwrap(), None);
    cache.put(b"k", b"").unwrap();
    assert_eq!(cache.get(b"k").unwrap(), Some(Vec::new()));
    cache.put(b"k", b"value").unwrap();
    assert_eq!(cache.get(b"k").unwrap().as_deref(), Some(&b"value"[..]));
    assert!(cache.delete(b"k").unwrap());
    assert!(!cache.delete(b"k").unwrap());
    assert_eq!(cache.get(b"k").unwrap(), None);
    assert_clean(&cache);
}

#[test]
fn thousands_of_entries_split_regions_roll_segments_and_are_all_there_after_reopening() {
    for options in [tiny(), Options::new()] {
        let scratch = Scratch::new();
        let key = |i: u32| format!("key number {i}, some of them longer than a slot");
        {
            let cache = scratch.open(&options);
            for i in 0..5_000_u32 {
                cache.put(key(i).as_bytes(), &i.to_le_bytes()).unwrap();
            }
            assert_clean(&cache);
        }
        let cache = scratch.open(&options);
        assert_eq!(cache.len(), 5_000);
        for i in 0..5_000_u32 {
            assert_eq!(
                cache.get(key(i).as_bytes()).unwrap().as_deref(),
                Some(&i.to_le_bytes()[..]),
                "{i}"
            );
        }
        let mut listed: Vec<_> = cache.keys().unwrap().map(|key| key.unwrap()).collect();
        listed.sort();
        listed.dedup();
        assert_eq!(listed.len(), 5_000);
    }
}

#[test]
fn churn_on_few_keys_keeps_the_files_small() {
    let scratch = Scratch::new();
    let cache = scratch.open(&tiny());
    let mut writer = cache.writer().unwrap();
    for i in 0..100_000_u32 {
        let key = (i % 100).to_le_bytes();
        writer
            .put(&key, &vec![i as u8; (i % 200) as usize])
            .unwrap();
    }
    drop(writer);
    let stats = cache.stats().unwrap();
    assert!(
        stats.heap_bytes < 4 * stats.live_bytes + 64 * 1024,
        "{stats:?}"
    );
    assert!(cache.disk_usage().unwrap().heap < 4 * stats.live_bytes + 128 * 1024);
    assert_clean(&cache);
    assert!(
        stats.generation > 1,
        "segment numbers ran out along the way: {stats:?}"
    );
}

#[test]
fn a_rebuild_replaces_everything_and_a_failing_one_nothing() {
    let scratch = Scratch::new();
    let cache = scratch.open(&tiny());
    let reader = scratch.open(&tiny());
    for i in 0..500_u32 {
        cache.put(&i.to_le_bytes(), b"old").unwrap();
    }
    let last = cache.mtime(&499_u32.to_le_bytes()).unwrap().unwrap();
    let failing = (0..300_u32).map(|i| {
        if i < 299 {
            Ok((i.to_le_bytes(), *b"new"))
        } else {
            Err("gave out")
        }
    });
    assert!(matches!(
        cache.atomic_rebuild(failing),
        Err(crate::Error::Source { .. })
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
        assert!(handle.mtime(&7_u32.to_le_bytes()).unwrap().unwrap() > last);
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

#[test]
fn keys_that_all_collide_are_told_apart_until_the_largest_regions_are_full() {
    let scratch = Scratch::new();
    let cache = scratch.open(&colliding());
    let mut put = 0_u32;
    let full = loop {
        match cache.put(&put.to_le_bytes(), &put.to_le_bytes()) {
            Ok(_) => put += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, crate::Error::TableFull { .. }), "{full}");
    assert!(put >= 1024, "{put}");
    for i in 0..put {
        assert_eq!(
            cache.get(&i.to_le_bytes()).unwrap().as_deref(),
            Some(&i.to_le_bytes()[..]),
            "{i} of {put}"
        );
    }
    assert_clean(&cache);
    for i in 0..put {
        assert!(cache.delete(&i.to_le_bytes()).unwrap());
    }
    assert!(cache.is_empty());
    cache.put(b"again", b"v").unwrap();
    assert_clean(&cache);
}

#[test]
fn the_limit_stops_insertions_and_nothing_else() {
    let scratch = Scratch::new();
    let cache = scratch.open(tiny().max_entries(100));
    for i in 0..100_u32 {
        cache.put(&i.to_le_bytes(), b"v").unwrap();
    }
    assert!(matches!(
        cache.put(b"one more", b"v"),
        Err(crate::Error::TableFull { limit: 100, .. })
    ));
    cache.put(&5_u32.to_le_bytes(), b"w").unwrap();
    for round in 0..1_000_u32 {
        assert!(cache.delete(&(round % 100).to_le_bytes()).unwrap());
        cache.put(&(round % 100).to_le_bytes(), b"v").unwrap();
    }
    assert_clean(&cache);
}

#[test]
fn conditional_writes_decide_by_what_is_there() {
    let scratch = Scratch::new();
    let cache = scratch.open(&Options::new());
    let first = cache.insert_if_absent(b"k", b"1").unwrap().unwrap();
    assert_eq!(cache.insert_if_absent(b"k", b"2").unwrap(), None);
    let second = cache.put_if(b"k", b"2", first).unwrap().unwrap();
    assert!(second > first);
    assert_eq!(cache.put_if(b"k", b"3", first).unwrap(), None);
    assert!(!cache.delete_if(b"k", first).unwrap());
    assert_eq!(cache.entry(b"k").unwrap().unwrap().value(), b"2");
    assert_eq!(cache.mtime(b"k").unwrap(), Some(second));
    assert!(!cache.update(b"k", |_| Update::Keep).unwrap());
    assert!(
        cache
            .update(b"k", |seen| Update::Put(
                [seen.unwrap().value(), b"+"].concat()
            ))
            .unwrap()
    );
    assert_eq!(cache.get(b"k").unwrap().unwrap(), b"2+");
    assert!(cache.update(b"k", |_| Update::Delete).unwrap());
    assert!(!cache.contains(b"k").unwrap());
    assert_eq!(cache.put_if(b"k", b"x", second).unwrap(), None);
}

#[test]
fn a_panicking_closure_leaves_entry_and_lock_alone_and_one_that_writes_gets_an_error() {
    let scratch = Scratch::new();
    let cache = scratch.open(&Options::new());
    let other = scratch.open(&Options::new());
    cache.put(b"k", b"v").unwrap();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        cache.update(b"k", |_| panic!("no"))
    }));
    assert!(caught.is_err());
    assert_eq!(cache.get(b"k").unwrap().unwrap(), b"v");
    other.put(b"k", b"w").unwrap();
    cache
        .update(b"k", |_| {
            for handle in [&cache, &other] {
                assert!(matches!(
                    handle.put(b"x", b"y"),
                    Err(crate::Error::WriterHeld { .. })
                ));
                assert_eq!(handle.get(b"k").unwrap().unwrap(), b"w");
            }
            Update::Keep
        })
        .unwrap();
    cache.put(b"k", b"u").unwrap();
}

#[test]
fn versions_survive_cleaning_splitting_rebuilding_and_reopening() {
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
        assert_eq!(cache.mtime(&i.to_le_bytes()).unwrap(), Some(*version));
        assert_eq!(
            cache.entry(&i.to_le_bytes()).unwrap().unwrap().version(),
            *version
        );
    }
    assert!(versions.windows(2).all(|pair| pair[0] < pair[1]));
    assert_clean(&cache);
}

#[test]
fn compacting_leaves_almost_nothing_dead() {
    let scratch = Scratch::new();
    let cache = scratch.open(&Options::new());
    for i in 0..3_000_u32 {
        cache.put(&(i % 300).to_le_bytes(), &[1; 300]).unwrap();
    }
    assert!(cache.stats().unwrap().dead_bytes > 500_000);
    cache.compact().unwrap();
    let stats = cache.stats().unwrap();
    assert!(stats.dead_bytes < 1_000, "{stats:?}");
    assert_eq!(stats.segments, 1);
    assert_clean(&cache);
}

#[test]
fn a_table_emptied_again_lists_in_proportion_to_what_is_left() {
    let scratch = Scratch::new();
    let cache = scratch.open(&Options::new());
    let mut writer = cache.writer().unwrap();
    for i in 0..20_000_u32 {
        writer.put(&i.to_le_bytes(), b"v").unwrap();
    }
    for i in 10..20_000_u32 {
        assert!(writer.delete(&i.to_le_bytes()).unwrap());
    }
    drop(writer);
    assert_eq!(cache.keys().unwrap().count(), 10);
    assert!(
        cache.stats().unwrap().slots < 8_192,
        "{:?}",
        cache.stats().unwrap()
    );
    assert_clean(&cache);
}

#[test]
fn a_fresh_cache_with_one_entry_is_small_on_the_disk() {
    let scratch = Scratch::new();
    let cache = scratch.open(&Options::new());
    cache.put(b"k", b"v").unwrap();
    let usage = cache.disk_usage().unwrap();
    assert!(usage.total() <= 64 * 1024, "{usage:?}");
}

#[test]
fn a_read_only_handle_creates_nothing_and_writes_nothing() {
    let scratch = Scratch::new();
    let mut options = Options::new();
    options.read_only(true);
    assert!(matches!(
        options.open(scratch.path()),
        Err(crate::Error::NotFound { .. })
    ));
    assert_eq!(
        std::fs::read_dir(scratch.path().parent().unwrap())
            .unwrap()
            .count(),
        0
    );
    let writer = scratch.open(&Options::new());
    let reader = scratch.open(&options);
    writer.put(b"k", b"v").unwrap();
    assert_eq!(reader.get(b"k").unwrap().unwrap(), b"v");
    assert!(matches!(
        reader.put(b"k", b"v"),
        Err(crate::Error::ReadOnly { .. })
    ));
    writer.clear().unwrap();
    assert_eq!(reader.get(b"k").unwrap(), None);
}

#[test]
fn options_fixed_at_creation_are_adopted_or_refused() {
    let scratch = Scratch::new();
    drop(scratch.open(&tiny()));
    drop(scratch.open(&Options::new()));
    let refused = Options::new()
        .max_segment_bytes(1 << 20)
        .open(scratch.path());
    assert!(matches!(
        refused,
        Err(crate::Error::Mismatch {
            option: "max_segment_bytes",
            ..
        })
    ));
    assert!(matches!(
        Options::new().inline_key_bytes(32).open(scratch.path()),
        Err(crate::Error::Mismatch { .. })
    ));
    assert!(matches!(
        Options::new().create_new(true).open(scratch.path()),
        Err(crate::Error::AlreadyExists { .. })
    ));
    let odd = Scratch::new();
    assert!(matches!(
        Options::new().inline_key_bytes(7).open(odd.path()),
        Err(crate::Error::Option { .. })
    ));
    assert!(matches!(
        Options::new().create(false).open(odd.path()),
        Err(crate::Error::NotFound { .. })
    ));
}

#[test]
fn an_exclusive_handle_keeps_other_writers_out_until_it_is_dropped() {
    let scratch = Scratch::new();
    let exclusive = scratch.open(Options::new().exclusive(true));
    let other =
        scratch.open(Options::new().lock_timeout(Some(std::time::Duration::from_millis(10))));
    exclusive.put(b"k", b"v").unwrap();
    assert!(matches!(
        other.put(b"k", b"w"),
        Err(crate::Error::Locked { .. })
    ));
    assert_eq!(other.get(b"k").unwrap().unwrap(), b"v");
    exclusive.clear().unwrap();
    assert!(
        matches!(other.put(b"k", b"w"), Err(crate::Error::Locked { .. })),
        "also after a switch of generation"
    );
    drop(exclusive);
    other.put(b"k", b"w").unwrap();
}

#[test]
fn keys_and_values_beyond_their_limits_are_refused_with_what_fits() {
    let scratch = Scratch::new();
    let cache = scratch.open(&tiny());
    assert!(matches!(
        cache.put(b"", b"v"),
        Err(crate::Error::KeyLength { len: 0, .. })
    ));
    assert!(matches!(
        cache.get(&[0; 65_536]),
        Err(crate::Error::KeyLength { len: 65_536, .. })
    ));
    let Err(crate::Error::ValueTooLarge { max, .. }) = cache.put(b"k", &[0; 20_000]) else {
        panic!("fits")
    };
    cache.put(b"k", &vec![1; max as usize]).unwrap();
    assert!(cache.put(b"k", &vec![1; max as usize + 1]).is_err());
    assert_eq!(cache.get(b"k").unwrap().unwrap().len() as u64, max);
    let large = Scratch::new();
    let cache = large.open(&Options::new());
    cache.put(&[7; 65_535], &vec![9; 3 << 20]).unwrap();
    assert_eq!(cache.get(&[7; 65_535]).unwrap().unwrap(), vec![9; 3 << 20]);
    assert_clean(&cache);
}

#[test]
fn files_removed_or_replaced_by_hand_are_noticed() {
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

#[test]
fn in_place_reading_outlives_the_entry() {
    let scratch = Scratch::new();
    let cache = scratch.open(&tiny());
    let version = cache.put(b"key", b"a value in place").unwrap();
    #[expect(unsafe_code, reason = "nobody else writes to the files of this test")]
    // SAFETY: M3: the files are this test's own.
    let value = unsafe { cache.get_in_place(b"key") }.unwrap().unwrap();
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

#[test]
fn a_name_that_is_no_text_is_a_name_like_any_other() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(std::ffi::OsStr::from_bytes(b"c\xff\xfe"));
    let cache = tiny().open(&path).unwrap();
    for i in 0..300_u32 {
        cache.put(&i.to_le_bytes(), &[1; 100]).unwrap();
    }
    let failing = [Ok((b"k", b"v")), Err("gave out")];
    assert!(cache.atomic_rebuild(failing).is_err());
    assert_eq!(cache.len(), 300);
    cache
        .atomic_rebuild([Ok::<_, crate::Error>((b"k", b"v"))])
        .unwrap();
    drop(cache);
    let cache = tiny().open(&path).unwrap();
    assert_eq!(cache.get(b"k").unwrap().unwrap(), b"v");
    assert_clean(&cache);
}

#[test]
fn every_change_is_counted_and_clearing_is_one() {
    let scratch = Scratch::new();
    let cache = scratch.open(&Options::new());
    let other = scratch.open(Options::new().read_only(true));
    let mut last = other.changes();
    let mut grown = |what: &str| {
        assert!(other.changes() > last, "{what}");
        last = other.changes();
    };
    cache.put(b"k", b"v").unwrap();
    grown("put");
    cache.put(b"k", b"w").unwrap();
    grown("overwrite");
    cache.delete(b"k").unwrap();
    grown("delete");
    cache.clear().unwrap();
    grown("clear");
}

#[test]
fn many_threads_that_open_a_new_cache_at_once_all_get_it() {
    for _ in 0..30 {
        let scratch = Scratch::new();
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let scratch = &scratch;
                scope.spawn(move || {
                    let cache = scratch.open(&tiny());
                    cache.put(&[thread], &[thread]).unwrap();
                    assert_eq!(cache.get(&[thread]).unwrap().unwrap(), [thread]);
                });
            }
        });
        let cache = scratch.open(&tiny());
        assert_eq!(cache.len(), 4);
        assert_clean(&cache);
    }
}

#[test]
fn a_full_check_beside_clearing_and_growing_reports_no_faults() {
    let scratch = Scratch::new();
    let cache = scratch.open(&tiny());
    let done = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..12_u32 {
                for i in 0..400_u32 {
                    cache
                        .put(&(round * 1_000 + i).to_le_bytes(), &[1; 60])
                        .unwrap();
                }
                cache.clear().unwrap();
            }
        });
        let mut checks = 0;
        while !writer.is_finished() {
            let report = cache.verify().unwrap();
            assert!(report.is_clean(), "{:?}", report.faults);
            checks += 1;
        }
        checks
    });
    assert!(done > 0);
}

#[test]
fn a_heap_elsewhere_stays_there_through_rebuilding_cleaning_and_recovery() {
    let scratch = Scratch::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let mut options = tiny();
    options.heap_path(elsewhere.path().join("values"));
    let cache = scratch.open(&options);
    for round in 0..400_u32 {
        cache
            .put(&(round % 20).to_le_bytes(), &[round as u8; 300])
            .unwrap();
    }
    cache.compact().unwrap();
    cache
        .atomic_rebuild((0..50_u32).map(|i| Ok::<_, crate::Error>((i.to_le_bytes(), [7; 100]))))
        .unwrap();
    drop(cache);
    let cache = scratch.open(&options);
    assert_eq!(cache.len(), 50);
    assert_clean(&cache);
    let names = |path: &Path| -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(path)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(
        names(scratch.path().parent().unwrap()),
        ["cache", "cache.lock", "cache.roster"]
    );
    assert!(
        names(elsewhere.path())
            .iter()
            .all(|name| name.starts_with("values"))
    );
    // Without the option the heap is not found, and nothing wrong is said.
    let lost = scratch.open(Options::new().read_only(true));
    assert_eq!(lost.get(&7_u32.to_le_bytes()).unwrap(), None);
    assert!(
        lost.entry(&7_u32.to_le_bytes())
            .unwrap_err()
            .is_corruption()
    );
}

#[test]
fn files_get_the_mode_asked_for_and_keep_the_one_they_have() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let scratch = Scratch::new();
    let cache = scratch.open(tiny().mode(0o640));
    let modes = || -> Vec<u32> {
        let files = std::fs::read_dir(scratch.path().parent().unwrap()).unwrap();
        files
            .map(|entry| entry.unwrap().metadata().unwrap().mode() & 0o777)
            .collect()
    };
    assert_eq!(modes(), [0o640; 4]);
    std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o660)).unwrap();
    cache.clear().unwrap();
    cache.put(b"k", b"v").unwrap();
    let index = scratch.path().metadata().unwrap().mode() & 0o777;
    assert_eq!(index, 0o660, "a rebuild repeats the index's own mode");
    let plain = Scratch::new();
    drop(plain.open(&Options::new()));
    assert_eq!(plain.path().metadata().unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_writer_that_never_rests_lets_others_have_their_turn() {
    use std::sync::mpsc::{TryRecvError, channel};
    use std::time::{Duration, Instant};
    let scratch = Scratch::new();
    let mut options = tiny();
    options.lock_timeout(Some(Duration::from_secs(5)));
    let (busy, other) = (scratch.open(&options), scratch.open(&options));
    let (going, over) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // Until the sender is gone, by a panic too.
            while over.try_recv() == Err(TryRecvError::Empty) {
                busy.clear().unwrap();
            }
        });
        let mut longest = Duration::ZERO;
        for i in 0..10_u8 {
            let began = Instant::now();
            other.put(&[i], b"v").unwrap();
            longest = longest.max(began.elapsed());
        }
        drop(going);
        eprintln!("the longest of 10 waits took {longest:?}");
    });
}

#[test]
fn a_miss_in_a_region_that_was_replaced_before_a_switch_began_does_not_count() {
    let scratch = Scratch::new();
    let cache = scratch.open(&tiny());
    let (view, _) = cache.handle.current().unwrap();
    let hashes: Vec<_> = (0..32_u8).map(|i| view.hasher.hash(&[i])).collect();
    let mut i = 0_u32;
    // Readers stop having found their regions, until one is split at an unchanged depth.
    let (hash, located) = loop {
        let poll = view.header().poll();
        let locate = |hash| (hash, view.table.locate(poll, hash).unwrap());
        let stopped: Vec<_> = hashes.iter().copied().map(locate).collect();
        i += 1;
        cache.put(&i.to_le_bytes(), b"v").unwrap();
        let moved = stopped.into_iter().find(|(hash, located)| {
            let (now, entry) = view.table.look_again(located, *hash).unwrap();
            now == poll && entry != located.entry
        });
        if let Some(moved) = moved {
            break moved;
        }
    };
    // Then a switch begins, and takes long.
    let (header, poll) = (view.header(), located.poll);
    header.set_poll(poll.with_superseded(true));
    assert!(!cache.handle.still(&view, &located, hash).unwrap());
    let again = view.table.locate(poll, hash).unwrap();
    let still = cache.handle.still(&view, &again, hash).unwrap();
    assert!(still, "the mark alone is no reason");
    header.set_poll(poll);
}

#[test]
fn a_reader_that_follows_a_switch_late_takes_no_lock_from_a_writer_that_has_switched_again() {
    let scratch = Scratch::new();
    let exclusive = scratch.open(tiny().exclusive(true));
    let other = scratch.open(tiny().lock_timeout(Some(std::time::Duration::ZERO)));
    let locked = || matches!(other.put(b"k", b"w"), Err(crate::Error::Locked { .. }));
    let handle = &exclusive.handle;
    let stale = handle.view.load_full();
    exclusive.clear().unwrap();
    // A thread that reads has seen the switch, and opens the new index while another one follows.
    let opened = handle.open_anew().unwrap();
    exclusive.clear().unwrap();
    handle.adopt(&stale, std::sync::Arc::new(opened));
    assert!(locked(), "the view with the lock was replaced");
    exclusive.put(b"k", b"v").unwrap();
    assert!(locked(), "another lock was taken in its place");
    assert_eq!(other.get(b"k").unwrap().unwrap(), b"v");
}

#[test]
fn an_exclusive_handle_keeps_its_lock_while_its_other_threads_follow_its_switches() {
    use crate::sync::{Relaxed, Word};
    let scratch = Scratch::new();
    let exclusive = scratch.open(tiny().exclusive(true));
    let other = scratch.open(tiny().lock_timeout(Some(std::time::Duration::ZERO)));
    let over = Word::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while over.load(Relaxed) == 0 {
                    if let Some(value) = exclusive.get(b"k").unwrap() {
                        assert_eq!(value, b"v");
                    }
                    assert!(exclusive.keys().unwrap().count() <= 1);
                }
            });
        }
        let writing = std::panic::AssertUnwindSafe(|| {
            for _ in 0..50 {
                exclusive.clear().unwrap();
                let refused = other.put(b"k", b"theirs");
                assert!(matches!(refused, Err(crate::Error::Locked { .. })));
                exclusive.put(b"k", b"v").unwrap();
            }
        });
        let written = std::panic::catch_unwind(writing);
        over.store(1, Relaxed);
        written.unwrap();
    });
    assert_clean(&exclusive);
}

#[test]
fn what_appears_at_the_path_while_a_cache_is_created_there_is_not_replaced() {
    use crate::sync::fuse;
    let mut planted = 0;
    for steps in 0.. {
        let scratch = Scratch::new();
        let path = scratch.path().to_owned();
        fuse::interrupt(steps, move || {
            if !path.exists() {
                std::fs::write(path, "mine").unwrap();
            }
        });
        let opened = tiny().open(scratch.path());
        if fuse::clear() {
            break;
        }
        if std::fs::read(scratch.path()).unwrap() == b"mine" {
            planted += 1;
            let error = opened.unwrap_err();
            let early = error.is_corruption();
            assert!(early || matches!(error, crate::Error::AlreadyExists { .. }));
            let dir = scratch.path().parent().unwrap();
            assert_eq!(std::fs::read_dir(dir).unwrap().count(), 2, "and the lock");
        } else {
            assert!(opened.is_ok(), "{opened:?}");
        }
    }
    assert!(planted > 20, "{planted}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_network_file_system_is_refused_unless_the_caller_vouches_for_a_single_machine() {
    const EXT4: u32 = 0xef53;
    const NFS: u32 = 0x6969;
    const CIFS: u32 = 0xff53_4d42;
    let scratch = Scratch::new();
    for (kind, refused) in [(NFS, true), (CIFS, true), (EXT4, false)] {
        crate::dir::PRETENDED.set(Some(kind));
        let opened = tiny().open(scratch.path());
        let repaired = crate::Repair::new(scratch.path()).run();
        let vouched = tiny().allow_network(true).open(scratch.path());
        crate::dir::PRETENDED.set(None);
        assert_eq!(
            matches!(opened, Err(crate::Error::Unsupported { .. })),
            refused
        );
        assert_eq!(
            matches!(repaired, Err(crate::Error::Unsupported { .. })),
            refused
        );
        vouched.unwrap().put(b"k", b"v").unwrap();
    }
}

#[test]
fn a_cache_whose_creation_fails_behind_the_commit_keeps_its_files() {
    use crate::sync::fuse;
    let mut failed = 0;
    for steps in 0.. {
        let scratch = Scratch::new();
        let path = scratch.path().to_owned();
        let roster = path.with_file_name("cache.roster");
        let in_the_way = roster.clone();
        fuse::interrupt(steps, move || {
            if path.exists() && !in_the_way.exists() {
                std::fs::create_dir(in_the_way).unwrap();
            }
        });
        let opened = tiny().open(scratch.path());
        if fuse::clear() {
            break;
        }
        if opened.is_err() {
            failed += 1;
            std::fs::remove_dir(roster).unwrap();
        }
        let cache = scratch.open(&tiny());
        cache.put(b"k", b"v").unwrap();
        assert_clean(&cache);
    }
    assert!(failed > 0);
}

#[test]
fn a_full_check_beside_single_insertions_and_deletions_reports_no_faults() {
    let scratch = Scratch::new();
    let (cache, other) = (scratch.open(&Options::new()), scratch.open(&Options::new()));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..40_000_u32 {
                let key = (round.wrapping_mul(77) % 200).to_le_bytes();
                if !cache.delete(&key).unwrap() {
                    cache.put(&key, &[1; 60]).unwrap();
                }
            }
        });
        while !writer.is_finished() {
            let report = other.verify().unwrap();
            assert!(report.is_clean(), "{:?}", report.faults);
        }
    });
    assert_clean(&other);
}

#[test]
fn somebody_who_creates_a_cache_is_waited_for_no_longer_than_the_lock_timeout() {
    use std::time::Duration;
    let scratch = Scratch::new();
    let mut options = tiny();
    options.lock_timeout(Some(Duration::from_millis(20)));
    let names = crate::dir::Names::resolve(scratch.path(), None).unwrap();
    let creating = handle::lock_creation(&names, &options).unwrap();
    let refused = options.open(scratch.path()).unwrap_err();
    assert!(matches!(refused, crate::Error::Locked { .. }), "{refused}");
    drop(creating);
    assert!(scratch.open(&options).is_empty());
}
