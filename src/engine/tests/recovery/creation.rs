//! Creation stopped at any step, and opened by an early reader.
//!
//! Its only entries show that the cache works.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::engine::tests::recovery::*;
use crate::sync::failpoint;

// A creation stopped at any step leaves nothing, or an empty cache.
#[test]
fn stopped_creation_leaves_nothing_partial() {
    for steps in 0.. {
        let scratch = scratch();
        failpoint::set(steps);
        let outcome = catch_unwind(AssertUnwindSafe(|| drop(scratch.open(&options()))));
        failpoint::clear();
        let cache = scratch.open(&options());
        assert!(cache.is_empty());
        cache.put(b"k", b"v").unwrap();
        assert_clean(&cache);
        let names: Vec<_> = std::fs::read_dir(scratch.path().parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names.len(), 4, "step {steps}: {names:?}");
        if outcome.is_ok() {
            assert!(steps > 20);
            return;
        }
    }
}

// No process can rebuild a cache before its creator has renamed all files.
#[test]
fn unfinished_creation_cannot_be_replaced() {
    for steps in 0.. {
        let scratch = scratch();
        let path = scratch.path().to_owned();
        failpoint::interrupt(steps, move || {
            let mut impatient = options();
            impatient
                .create(false)
                .lock_timeout(Some(std::time::Duration::from_millis(1)));
            // A process that comes this early finds nothing, or a held lock.
            if let Ok(early) = impatient.open(&path) {
                let _ = early.atomic_rebuild([Ok::<_, crate::Error>((b"early", b"bird"))]);
            }
        });
        let created = options().open(scratch.path());
        let over = failpoint::clear();
        let cache = created.unwrap();
        for i in 0..100 {
            cache.put(&key(i), b"v").unwrap();
        }
        assert_clean(&cache);
        let early = cache.get(b"early").unwrap();
        assert_eq!(
            cache.len(),
            100 + u64::from(early.is_some()),
            "step {steps}"
        );
        if over {
            return;
        }
    }
}
