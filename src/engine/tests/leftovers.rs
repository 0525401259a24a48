//! Files with staged names that a killed or panicking writer left: the next writer removes these,
//! and no others.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::engine::tests::*;
use crate::error::Error;
use crate::sync::failpoint;

fn staged(scratch: &Scratch) -> Vec<String> {
    let dir = fs::read_dir(scratch.path().parent().unwrap()).unwrap();
    let names = dir.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".new")).collect()
}

fn items(count: u32) -> impl Iterator<Item = std::result::Result<(Vec<u8>, Vec<u8>), Error>> {
    (0..count).map(|i| Ok((i.to_le_bytes().to_vec(), vec![i as u8; 600])))
}

fn fill(cache: &MmapCache) {
    for i in 0..100_u32 {
        cache.put(&i.to_le_bytes(), &[1; 400]).unwrap();
    }
}

// The writer is killed at each step of a rebuild, and the next one again while it removes files.
#[test]
fn next_writer_removes_staged_files() {
    let (mut seen, mut again) = (0, 0);
    for steps in (0..).step_by(211) {
        let scratch = scratch();
        let cache = scratch.open(&tiny());
        fill(&cache);
        failpoint::set(steps);
        let rebuilt = catch_unwind(AssertUnwindSafe(|| cache.atomic_rebuild(items(60))));
        failpoint::clear();
        drop(cache);
        let left = staged(&scratch);
        seen += usize::from(!left.is_empty());
        let next = scratch.open(&tiny());
        if steps % 2 == 0 {
            failpoint::set(steps % 7);
            again += u32::from(catch_unwind(AssertUnwindSafe(|| next.delete(b"none"))).is_err());
            failpoint::clear();
        }
        drop(next);
        let next = scratch.open(&tiny());
        next.delete(b"none").unwrap();
        assert_eq!(staged(&scratch), [""; 0], "step {steps}: {left:?}");
        let len = next.len();
        assert!(len == 100 || len == 60, "step {steps}");
        assert_clean(&next);
        if rebuilt.is_ok() {
            break;
        }
    }
    assert!(seen > 20 && again > 5, "{seen} {again}");
}

#[test]
fn panicking_rebuild_removes_staged_files() {
    let scratch = scratch();
    let cache = scratch.open(&tiny());
    fill(&cache);
    let (mut left, dir) = (Vec::new(), &scratch);
    let panicking = items(200).inspect(|_| {
        left = staged(dir);
        assert!(left.len() < 6, "enough");
    });
    let outcome = catch_unwind(AssertUnwindSafe(|| cache.atomic_rebuild(panicking)));
    assert!(outcome.is_err() && left.len() == 6);
    assert_eq!(staged(&scratch), [""; 0]);
    assert_eq!(cache.len(), 100);
    cache.put(b"afterwards", b"v").unwrap();
    assert_clean(&cache);
}

// The progress callback runs in a copy and in a repair, too.
#[test]
fn panicking_progress_removes_staged_files() {
    let scratch = scratch();
    let cache = scratch.open(&tiny());
    fill(&cache);
    for _ in 0..150 {
        cache.put(b"churn", &[1; 4000]).unwrap();
    }
    assert!(cache.handle.generation.load().header().oldest() > 0);
    let target = scratch.path().with_extension("copy");
    let mut left = Vec::new();
    let copied = catch_unwind(AssertUnwindSafe(|| {
        let told = |_| {
            left = staged(&scratch);
            panic!("enough");
        };
        cache.backup().on_progress(told).to(&target)
    }));
    assert!(copied.is_err() && !left.is_empty());
    assert_eq!(staged(&scratch), [""; 0]);
    drop(cache);
    fs::remove_file(scratch.path()).unwrap();
    let repaired = catch_unwind(AssertUnwindSafe(|| {
        let told = |_| {
            left = staged(&scratch);
            panic!("enough");
        };
        Repair::new(scratch.path()).on_progress(told).run()
    }));
    assert!(repaired.is_err() && !left.is_empty());
    assert_eq!(staged(&scratch), [""; 0]);
    Repair::new(scratch.path()).run().unwrap();
    assert_eq!(scratch.open(&tiny()).len(), 101);
}

// A killed copy leaves segments whose numbers do not begin at 0.
#[test]
fn next_copy_removes_staged_files() {
    let scratch = scratch();
    let cache = scratch.open(&tiny());
    fill(&cache);
    for _ in 0..150 {
        cache.put(b"churn", &[1; 4000]).unwrap();
    }
    let target = scratch.path().with_extension("copy");
    for steps in (2..).step_by(97) {
        failpoint::set(steps);
        let copied = catch_unwind(AssertUnwindSafe(|| cache.backup().to(&target)));
        failpoint::clear();
        if copied.is_ok() {
            assert!(steps > 2);
            break;
        }
        if steps == 2 + 97 {
            assert!(
                staged(&scratch)
                    .iter()
                    .all(|name| name != "cache.copy.heap.new")
            );
        }
    }
    assert_eq!(staged(&scratch), [""; 0]);
    assert_eq!(tiny().open(&target).unwrap().len(), 101);
}

// A cache may have the name that a staged index of another would have: it is not removed.
#[test]
fn writer_keeps_neighbour_named_new() {
    let scratch = scratch();
    drop(scratch.open(&tiny()));
    let neighbour = scratch.path().with_extension("new");
    tiny().open(&neighbour).unwrap().put(b"k", b"v").unwrap();
    scratch.open(&tiny()).put(b"mine", b"v").unwrap();
    assert_eq!(
        tiny().open(&neighbour).unwrap().get(b"k").unwrap().unwrap(),
        b"v"
    );
}
