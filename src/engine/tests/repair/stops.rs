//! Repairs stopped at any step, and an index lost at each step of a switch.
//!
//! Knows steps by their numbers alone.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::Repair;
use crate::engine::tests::repair::*;
use crate::sync::failpoint;

#[test]
fn stopped_repair_can_restart() {
    for lost in ["", ".roster"] {
        for steps in (0..).step_by(7) {
            let scratch = scratch();
            let cache = scratch.open(&tiny());
            let mut expected = Contents::new();
            for i in 0..30_u8 {
                cache.put(&[i], &[i; 20]).unwrap();
                expected.insert(vec![i], vec![i; 20]);
            }
            assert!(cache.delete(&[3]).unwrap());
            expected.remove(&vec![3]);
            drop(cache);
            std::fs::remove_file(named(&scratch, lost)).unwrap();
            failpoint::set(steps);
            let stopped = catch_unwind(AssertUnwindSafe(|| {
                Repair::new(scratch.path()).run().map(drop)
            }));
            failpoint::clear();
            assert_repaired(&scratch, &expected);
            if stopped.is_ok() {
                assert!(steps > 300, "{steps}");
                break;
            }
        }
    }
}

// An index lost in the middle of a generation switch is restored as the generation that counted.
#[test]
fn index_lost_mid_switch_restores_generation() {
    let items = || (0..20_u8).map(|i| Ok::<_, Error>(([b'n', i], [i; 30])));
    for steps in 0.. {
        let scratch = scratch();
        let cache = scratch.open(&tiny());
        for i in 0..20_u8 {
            cache.put(&[b'o', i], &[i; 30]).unwrap();
        }
        let old = contents(&cache);
        let new: Contents = (0..20_u8).map(|i| (vec![b'n', i], vec![i; 30])).collect();
        failpoint::set(steps);
        let stopped = catch_unwind(AssertUnwindSafe(|| cache.atomic_rebuild(items())));
        failpoint::clear();
        drop(cache);
        let counted = contents(&scratch.open(Options::new().read_only(true)));
        assert!(counted == old || counted == new);
        let both = named(&scratch, ".heap").exists() && named(&scratch, ".heap.new").exists();
        std::fs::remove_file(scratch.path()).unwrap();
        Repair::new(scratch.path()).run().unwrap();
        let cache = scratch.open(&tiny());
        let back = contents(&cache);
        assert_clean(&cache);
        // Until the old segments are removed, only the index says which of two heaps is current;
        // the rebuild has not returned yet.
        assert!(back == counted || (both && back == old), "step {steps}");
        if stopped.is_ok() {
            assert!(back == new);
            return;
        }
    }
}
