//! Changes any byte, page or file of a cache, and runs every public operation on it.
//!
//! Allowed are the correct answer, a miss, or an error that says what is damaged.

mod corruption;
#[path = "corruption/runner.rs"]
mod runner;

use std::sync::OnceLock;

use corruption::affected::Affected;
use corruption::checker::Checker;
use corruption::image::Image;
use corruption::layout::header;
use corruption::mutation::{Change, Mutation};
use corruption::mutation_lists as lists;
use corruption::sample_cache::{KindCounts, SampleCache, scratch};
use runner::{Runner, Timing, between_cases};

/// The stride of the soaks through their lists: one, or as the environment says. An odd stride
/// meets mutations with and without repaired checksums alike.
fn soak_stride() -> usize {
    let stride = std::env::var("MMAPCACHE_DAMAGE_STRIDE");
    stride.map_or(1, |stride| stride.parse().expect("a number"))
}

// Other tests of this file prove nothing about a kind of entry that the sample lacks.
#[test]
fn sample_has_every_entry_kind() {
    let sample = between_cases(SampleCache::make);
    let counts = KindCounts::of(&sample);
    assert!(counts.missing().is_empty(), "{counts:?}");
    assert!(
        sample.image.total() <= 48 * 1024,
        "{}",
        sample.image.total()
    );
    for (suffix, bytes) in sample.image.files() {
        println!("{suffix:10} {}", bytes.len());
    }
    println!("{counts:?}");
    let dir = scratch();
    let path = dir.path().join("cache");
    sample.image.write_to(&path).unwrap();
    let written = Image::read(&path).unwrap();
    assert_eq!(written.suffixes(), sample.image.suffixes());
    for (suffix, bytes) in sample.image.files().skip(1) {
        // The index names its own inode and device.
        assert!(written.bytes(suffix) == bytes, "{suffix}");
    }
    let cache = mmapcache::Options::new()
        .read_only(true)
        .open(&path)
        .unwrap();
    let report = cache.verify().run().unwrap();
    assert!(
        report.is_clean() && report.totals_compared,
        "{:?}",
        report.problems
    );
    assert_eq!(report.records as usize, sample.records.len());
    assert_eq!(report.entries as usize, sample.versions.len());
}

#[test]
fn unchanged_sample_is_valid() {
    for sample in [sample().clone(), sample().live()] {
        let dir = scratch();
        let path = dir.path().join("cache");
        sample.image.write_to(&path).unwrap();
        let affected = Affected::between(&sample, &sample.image);
        assert_eq!(affected, Affected::default());
        Checker::new(&sample, &affected, "unchanged").check_all(&path);
    }
}

// A wrong repair would be rejected as damage and would test nothing.
#[test]
fn repaired_checksums_match_the_engine() {
    let sample = sample();
    let mut image = sample.image.clone();
    for (suffix, bytes) in sample.image.files() {
        for at in [16, 130] {
            let at = at.min(bytes.len() - 1);
            let range = at..at + 1;
            for checksum in corruption::checksums::covering(&sample.records, suffix, &range) {
                assert!(corruption::checksums::repair(&mut image, &checksum));
            }
        }
    }
    assert!(image == sample.image);
}

/// Tries every `stride`-th mutation of a list, in turn on closed files, under open handles and
/// before a repair.
fn sweep(what: &str, list: fn(&SampleCache) -> Vec<Mutation>, stride: usize) {
    let mutations = between_cases(|| list(sample()));
    let mut runner = Runner::default();
    for (turn, mutation) in mutations.iter().step_by(stride).enumerate() {
        let timings = match mutation.change.is_in_place() {
            true => &[Timing::Closed, Timing::Open, Timing::Repaired][..],
            // A mapped file is never truncated or replaced.
            false => &[Timing::Closed, Timing::Repaired],
        };
        let timing = timings[turn % timings.len()];
        runner.run_case(sample(), std::slice::from_ref(mutation), timing);
    }
    runner.finish(what);
}

/// The same for mutations that are applied together, on files as a killed writer leaves them.
fn sweep_together(what: &str, stacks: impl Iterator<Item = Vec<Mutation>>) {
    let (mut runner, live) = (Runner::default(), between_cases(|| sample().live()));
    for (turn, stack) in stacks.enumerate() {
        let timing = if turn % 3 == 2 {
            Timing::Repaired
        } else {
            Timing::Closed
        };
        runner.run_case(&live, &stack, timing);
    }
    runner.finish(what);
}

fn stacks(count: u64) -> impl Iterator<Item = Vec<Mutation>> {
    (0..count).map(|number| lists::stack(sample(), number))
}

fn sample() -> &'static SampleCache {
    static SAMPLE: OnceLock<SampleCache> = OnceLock::new();
    SAMPLE.get_or_init(SampleCache::make)
}

#[test]
fn changed_bytes_never_pass() {
    sweep("bytes", lists::bytes, 127);
}

#[test]
fn changed_header_bits_never_pass() {
    sweep("bits of headers", lists::bits, 61);
}

// A file truncated at any length costs at most the entries after its end.
// M2: no slice reaches beyond the end of a file, where an access raises SIGBUS.
#[test]
fn truncated_file_costs_only_its_end() {
    sweep("cuts", lists::cuts, 199);
}

#[test]
fn zeroed_blocks_cost_their_contents() {
    sweep("zeros", lists::zeros, 7);
}

// A file that was replaced by another one, or removed, is noticed.
#[test]
fn replaced_files_never_pass() {
    sweep("files", lists::files, 1);
}

#[test]
fn boundary_values_never_mislead() {
    sweep("words", lists::words, 67);
}

// No boundary value passes in a word of the header.
#[test]
fn header_boundary_values_never_pass() {
    sweep("words of the header", lists::header_words, 5);
}

// Links, slot bodies and records in each other's places are noticed.
#[test]
fn exchanged_parts_never_pass() {
    sweep("exchanges", lists::exchanges, 3);
}

// Several changes at the same time are no worse than one.
#[test]
fn stacked_changes_behave_like_one() {
    sweep_together("several at once", stacks(150));
}

#[test]
fn forged_heap_places_never_pass() {
    sweep("places", lists::places, 13);
}

/// The heap seems to end in the last of 65,536 segments: no operation opens them all.
#[test]
fn oversized_header_stalls_no_operation() {
    let mut runner = Runner::default();
    for at in [header::TAIL, header::RESERVED] {
        let value = u64::MAX;
        let file = String::new();
        let change = Change::Set { file, at, value };
        let mutation = Mutation {
            change,
            repaired: false,
        };
        for timing in [Timing::Closed, Timing::Open, Timing::Repaired] {
            runner.run_case(sample(), std::slice::from_ref(&mutation), timing);
        }
    }
    runner.finish("promises");
}

// A redo record that no writer committed deletes no valid entry.
#[test]
fn forged_redo_record_loses_nothing() {
    sweep_together(
        "redo records",
        between_cases(|| lists::redo_records(sample()))
            .into_iter()
            .step_by(7),
    );
}

#[test]
#[ignore = "a soak; see docs/testing.md"]
fn soak_changed_bytes_never_pass() {
    sweep("bytes", lists::bytes, soak_stride());
}

#[test]
#[ignore = "a soak; see docs/testing.md"]
fn soak_changed_header_bits_never_pass() {
    sweep("bits of headers", lists::bits, soak_stride());
}

#[test]
#[ignore = "a soak; see docs/testing.md"]
fn soak_truncated_files_cost_their_end() {
    sweep("cuts", lists::cuts, soak_stride());
}

#[test]
#[ignore = "a soak; see docs/testing.md"]
fn soak_zeroed_blocks_cost_their_contents() {
    sweep("zeros", lists::zeros, soak_stride());
}

#[test]
#[ignore = "a soak; see docs/testing.md"]
fn soak_forged_words_never_pass() {
    sweep("words", lists::words, soak_stride());
    sweep("files", lists::files, 1);
    sweep("places", lists::places, soak_stride());
    sweep("exchanges", lists::exchanges, soak_stride());
}

#[test]
#[ignore = "a soak; see docs/testing.md"]
fn soak_forged_redo_records_lose_nothing() {
    let records = between_cases(|| lists::redo_records(sample()));
    sweep_together("redo records", records.into_iter().step_by(soak_stride()));
    sweep_together("several at once", stacks(20_000).step_by(soak_stride()));
}
