//! Changes of entries, stopped at any step: each is done or undone.
//!
//! `rearrangement.rs` tests what else a change may move.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::engine::tests::recovery::stop::{check_image, stop_at_every_step, stop_with};
use crate::engine::tests::recovery::*;
use crate::sync::failpoint;

// S1, S3: stopped before the link, no reader sees the entry; after it, all of the entry is there. H1:
// what is left after the committed end is zeroed.
#[test]
fn stopped_insertion_is_atomic() {
    let images = stop_at_every_step(1, fill(5), |cache| {
        cache.put(&key(99), b"new").unwrap();
    });
    assert!(images > 40, "{images}");
}

// An insertion into a deleted slot and a free roster position is done or undone.
// R2: slot and position name each other again, also after they served another entry.
#[test]
fn stopped_slot_reuse_is_atomic() {
    let prepare = |cache: &MmapCache| {
        fill(13)(cache);
        for i in 0..6 {
            assert!(cache.delete(&key(i)).unwrap());
        }
    };
    stop_at_every_step(1, prepare, |cache| {
        cache.put(&key(3), b"again").unwrap();
    });
}

// S5: a kill may leave the size of the new record beside the link to the old one.
#[test]
fn stopped_overwrite_is_atomic() {
    stop_at_every_step(1, fill(5), |cache| {
        cache.put(&key(2), b"another, longer value").unwrap();
    });
    let twice = |cache: &MmapCache| {
        fill(5)(cache);
        cache.put(&key(2), b"in between").unwrap();
    };
    stop_at_every_step(1, twice, |cache| {
        cache.put(&key(2), b"a value of another size").unwrap();
    });
}

// W4: a kill after the redo record is completed, one before it leaves the old value. After a flush the
// first overwrite appends a record.
#[test]
fn stopped_overwrite_in_place_is_atomic() {
    let mut in_place = options();
    in_place.in_place(true);
    let put = |cache: &MmapCache, i, value: &[u8]| {
        cache.put(&key(i), value).unwrap();
    };
    let other = |cache: &MmapCache| put(cache, 2, b"other 2");
    let third = |cache: &MmapCache| put(cache, 2, b"third 2");
    let images = stop_with(&in_place, 1, fill(5), &[&other, &third]);
    assert!(images > 60, "{images}");
    let flushed = |cache: &MmapCache| {
        fill(5)(cache);
        cache.flush().unwrap();
    };
    stop_with(&in_place, 1, flushed, &[&other, &third]);
    // With what else may be under way: cleaning, a larger table, a deletion.
    let images = stop_with(
        &in_place,
        3,
        fill(14),
        &[
            &|cache| put(cache, 90, b"new"),
            &other,
            &|cache| assert!(cache.delete(&key(2)).unwrap()),
            &|cache| cache.compact().unwrap(),
            &|cache| put(cache, 3, b"other 3"),
        ],
    );
    assert!(images > 60, "{images}");
}

#[test]
fn stopped_deletion_is_atomic() {
    stop_at_every_step(1, fill(5), |cache| assert!(cache.delete(&key(2)).unwrap()));
    // In a full group, where the deletion leaves a tombstone.
    stop_at_every_step(1, fill(14), |cache| assert!(cache.delete(&key(2)).unwrap()));
}

#[test]
fn stopped_flush_changes_nothing() {
    let images = stop_at_every_step(1, fill(5), |cache| cache.flush().unwrap());
    assert!(images > 5, "{images}");
}

// Changes of durable and of exclusive handles, stopped at any step, are done or undone.
#[test]
fn stopped_durable_changes_are_atomic() {
    let mut durable = options();
    durable.durability(Durability::Sync);
    let mut exclusive = options();
    exclusive.exclusive(true);
    for options in [durable, exclusive] {
        for change in [
            (99, Some(&b"new"[..])),
            (2, Some(&b"another"[..])),
            (2, None),
        ] {
            stop_with(
                &options,
                1,
                fill(5),
                &[&|cache| match change {
                    (i, Some(value)) => assert!(cache.put(&key(i), value).is_ok()),
                    (i, None) => assert!(cache.delete(&key(i)).unwrap()),
                }],
            );
        }
    }
}

// An append-only cache stopped at any step keeps all entries, and accepts new keys.
#[test]
fn stopped_append_only_cache_keeps_all() {
    let mut append_only = options();
    append_only.append_only(true);
    append_only.directory_bits = 0;
    let refused = |done: Result<bool>| {
        assert!(
            matches!(
                done.as_ref().map_err(crate::Error::kind),
                Err(crate::ErrorKind::AppendOnly)
            ),
            "{done:?}"
        );
    };
    let version = Version::from_nanos(1);
    let images = stop_with(
        &append_only,
        1,
        fill(5),
        &[
            &|cache| assert!(cache.insert_if_absent(&key(90), b"new").unwrap().is_some()),
            &|cache| refused(cache.put(&key(90), b"other").map(|_| true)),
            &|cache| refused(cache.update(&key(2), |_| Update::Put(b"other".to_vec()))),
            &|cache| refused(cache.put_if(&key(2), b"other", version).map(|_| true)),
            &|cache| refused(cache.delete_if(&key(2), version)),
            &|cache| refused(cache.delete(&key(2))),
            &|cache| refused(cache.clear().map(|()| true)),
            &|cache| {
                assert!(
                    cache
                        .update(&key(91), |_| Update::Put(b"new".to_vec()))
                        .unwrap()
                )
            },
        ],
    );
    assert!(images > 80, "{images}");
    // The only region is full: the next entry begins a generation with larger regions.
    let images = stop_with(
        &append_only,
        3,
        fill(16),
        &[&|cache| assert!(cache.put(&key(90), b"new").is_ok())],
    );
    assert!(images > 60, "{images}");
}

// A stopped batch is done up to some change, and not beyond it.
#[test]
fn stopped_batch_keeps_a_prefix() {
    stop_batch(1);
}

fn stop_batch(stride: u64) -> u64 {
    let scratch = scratch();
    let cache = scratch.open(&options());
    fill(12)(&cache);
    let mut states = vec![contents(&cache)];
    {
        let mut writer = cache.writer().unwrap();
        batch(&mut writer, |writer| {
            let _ = writer;
            states.push(contents(&cache));
        });
    }
    let mut images = 0;
    for steps in (0..).step_by(stride as usize) {
        let scratch = crate::engine::tests::recovery::scratch();
        let cache = scratch.open(&options());
        fill(12)(&cache);
        let reader = scratch.open(Options::new().read_only(true));
        failpoint::set(steps);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut writer = cache.writer().unwrap();
            batch(&mut writer, |_| {});
            writer.commit().unwrap();
        }));
        failpoint::clear();
        drop(cache);
        images += 1;
        check_image(&scratch, &options(), &reader, &states, steps);
        if outcome.is_ok() {
            break;
        }
    }
    images
}

/// Insertions that split a region, an overwrite and a deletion under one lock.
fn batch(writer: &mut Writer<'_>, mut done: impl FnMut(&Writer<'_>)) {
    for i in 20..24 {
        writer.put(&key(i), b"new").unwrap();
        done(writer);
    }
    writer.put(&key(3), b"another").unwrap();
    done(writer);
    assert!(writer.delete(&key(4)).unwrap());
    done(writer);
}
