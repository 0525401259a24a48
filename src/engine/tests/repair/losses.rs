//! Repairs an index, a roster or a segment that is gone, or that cannot be opened.
//!
//! All remaining records are valid; `damage.rs` tests others.

use crate::error::ErrorKind;
use std::os::unix::fs::{FileExt, symlink};

use crate::engine::tests::repair::*;
use crate::{Error, Repair};

// A lost index is restored with every version, and without deleted entries.
#[test]
fn lost_index_is_restored_from_heap() {
    let scratch = scratch();
    let cache = scratch.open(&tiny());
    cache.clear().unwrap();
    let expected = fill(&cache);
    let versions: Vec<_> = expected
        .keys()
        .map(|key| cache.version(key).unwrap().unwrap())
        .collect();
    let generation = cache.stats().unwrap().generation;
    drop(cache);
    std::fs::remove_file(scratch.path()).unwrap();
    let refused = tiny().open(scratch.path()).unwrap_err();
    assert!(refused.is_corruption(), "{refused}");
    let repaired = assert_repaired(&scratch, &expected);
    assert!(repaired.rebuilt && repaired.segments > 1);
    assert_eq!((repaired.damaged_bytes, repaired.entries_before), (0, None));
    let cache = scratch.open(&tiny());
    assert!(
        cache.stats().unwrap().generation > generation,
        "the roster has the old generation"
    );
    for (key, version) in expected.keys().zip(&versions) {
        assert_eq!(cache.version(key).unwrap().unwrap(), *version);
    }
    assert!(cache.put(b"later", b"").unwrap() > *versions.iter().max().unwrap());
}

// A lost or corrupt roster costs no entry.
#[test]
fn lost_roster_costs_nothing() {
    let damages: [&dyn Fn(&Path); 4] = [
        &|roster| std::fs::remove_file(roster).unwrap(),
        &|roster| std::fs::write(roster, b"something else").unwrap(),
        &|roster| open_for_change(roster).set_len(10).unwrap(),
        &|roster| {
            std::fs::remove_file(roster).unwrap();
            std::fs::create_dir(roster).unwrap();
        },
    ];
    for damage in damages {
        let scratch = scratch();
        let cache = scratch.open(&tiny());
        let expected = fill(&cache);
        let puts = cache.stats().unwrap().puts;
        drop(cache);
        damage(&named(&scratch, ".roster"));
        assert!(tiny().open(scratch.path()).unwrap_err().is_corruption());
        let repaired = assert_repaired(&scratch, &expected);
        assert_eq!(repaired.entries_before, Some(expected.len() as u64));
        assert!(
            scratch.open(&tiny()).stats().unwrap().puts > puts,
            "the totals go on where the index still had them"
        );
    }
}

// An index of any length, or something that is no file, is replaced.
#[test]
fn unusable_index_is_replaced() {
    let damages: [&dyn Fn(&Path); 8] = [
        &|index| open_for_change(index).set_len(0).unwrap(),
        &|index| open_for_change(index).set_len(100).unwrap(),
        &|index| open_for_change(index).set_len(4096).unwrap(),
        &|index| open_for_change(index).write_all_at(&[0; 4096], 0).unwrap(),
        &|index| open_for_change(index).write_all_at(&[0xff; 64], 0).unwrap(),
        &|index| {
            std::fs::remove_file(index).unwrap();
            std::fs::create_dir(index).unwrap();
        },
        &|index| {
            std::fs::remove_file(index).unwrap();
            symlink("nowhere", index).unwrap();
        },
        &|index| {
            std::fs::remove_file(index).unwrap();
            let made = std::process::Command::new("mkfifo").arg(index).status();
            assert!(made.unwrap().success());
        },
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let (scratch, expected) = filled();
        damage(scratch.path());
        if number == 6 {
            // A cache would be created at the link's target: there is nothing to repair.
            let error = Repair::new(scratch.path()).run();
            assert!(
                error.is_ok()
                    || matches!(
                        error.as_ref().map_err(Error::kind),
                        Err(ErrorKind::NotFound)
                    )
            );
            std::fs::remove_file(scratch.path()).unwrap();
        }
        let repaired = assert_repaired(&scratch, &expected);
        assert!(repaired.rebuilt, "{number}");
        assert_eq!(
            !repaired.kept.is_empty(),
            matches!(number, 5 | 7),
            "{number}"
        );
    }
}

// A repair names a lost segment, and restores the entries of the others.
#[test]
fn lost_segment_is_named() {
    let scratch = scratch();
    let mut options = tiny();
    options.compaction_threshold(10_000, 1 << 30);
    let cache = scratch.open(&options);
    let expected = fill(&cache);
    drop(cache);
    std::fs::remove_file(scratch.path()).unwrap();
    std::fs::remove_file(named(&scratch, ".heap.1")).unwrap();
    let repaired = Repair::new(scratch.path()).run().unwrap();
    assert_eq!(repaired.missing_segments, [1]);
    let cache = scratch.open(&options);
    assert_clean(&cache);
    for (key, value) in contents(&cache) {
        let newest = expected.get(&key);
        assert!(
            newest.is_none_or(|newest| newest.len() == value.len()),
            "another key's value"
        );
    }
}

#[test]
fn missing_cache_cannot_be_repaired() {
    let scratch = scratch();
    let error = Repair::new(scratch.path()).run().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NotFound), "{error}");
}
