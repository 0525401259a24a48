//! A full check beside a writer at work, which is no fault.
//!
//! Knows sound caches only; what a check says of damage is the matter of `damage.rs`.

use super::*;

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
