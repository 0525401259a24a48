//! Files of a cache, damaged in every way that one byte, one page or one file can be; and every
//! public operation on them.
//!
//! What is allowed then is the right answer, a miss, or an error that says what is damaged.

mod attack;
#[path = "attack/trial.rs"]
mod trial;

use std::sync::OnceLock;

use attack::image::Image;
use attack::layout::header;
use attack::look::Judge;
use attack::mutation::{Change, Mutation};
use attack::reach::Reach;
use attack::specimen::{Census, Specimen, scratch};
use attack::sweep as sweeps;
use trial::{Moment, Tally, undisturbed};

/// How many steps the soaks take at once through their lists: one, or as the environment says. Odd
/// numbers come by mutations with and without repaired checksums alike.
fn soak_stride() -> usize {
    let stride = std::env::var("MMAPCACHE_DAMAGE_STRIDE");
    stride.map_or(1, |stride| stride.parse().expect("a number"))
}

// The specimen is small and has every kind of entry.
#[test]
fn specimen_has_every_entry_kind() {
    let specimen = undisturbed(Specimen::make);
    let census = Census::of(&specimen);
    assert!(census.missing().is_empty(), "{census:?}");
    assert!(
        specimen.image.total() <= 48 * 1024,
        "{}",
        specimen.image.total()
    );
    for (suffix, bytes) in specimen.image.files() {
        println!("{suffix:10} {}", bytes.len());
    }
    println!("{census:?}");
    let dir = scratch();
    let path = dir.path().join("cache");
    specimen.image.write_to(&path).unwrap();
    let written = Image::read(&path).unwrap();
    assert_eq!(written.suffixes(), specimen.image.suffixes());
    for (suffix, bytes) in specimen.image.files().skip(1) {
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
    assert_eq!(report.records as usize, specimen.records.len());
    assert_eq!(report.entries as usize, specimen.versions.len());
}

#[test]
fn unchanged_specimen_is_judged_valid() {
    for specimen in [specimen().clone(), specimen().live()] {
        let dir = scratch();
        let path = dir.path().join("cache");
        specimen.image.write_to(&path).unwrap();
        let reach = Reach::between(&specimen, &specimen.image);
        assert_eq!(reach, Reach::default());
        Judge::new(&specimen, &reach, "unchanged").all(&path);
    }
}

// Mutations repair checksums to those that the engine computes.
#[test]
fn repaired_checksums_match_the_engine() {
    let specimen = specimen();
    let mut image = specimen.image.clone();
    for (suffix, bytes) in specimen.image.files() {
        for at in [16, 130] {
            let at = at.min(bytes.len() - 1);
            let range = at..at + 1;
            for seal in attack::seals::covering(&specimen.records, suffix, &range) {
                assert!(attack::seals::repair(&mut image, &seal));
            }
        }
    }
    assert!(image == specimen.image);
}

/// Tries every `stride`-th mutation of a list, by turns on closed files, under open handles and
/// after a repair.
fn sweep(what: &str, list: fn(&Specimen) -> Vec<Mutation>, stride: usize) {
    let mutations = undisturbed(|| list(specimen()));
    let mut tally = Tally::default();
    for (turn, mutation) in mutations.iter().step_by(stride).enumerate() {
        let moments = match mutation.change.is_in_place() {
            true => &[Moment::Closed, Moment::Open, Moment::Repaired][..],
            // What is mapped is not cut, nor exchanged for something else.
            false => &[Moment::Closed, Moment::Repaired],
        };
        let moment = moments[turn % moments.len()];
        tally.try_out(specimen(), std::slice::from_ref(mutation), moment);
    }
    tally.conclude(what);
}

/// The same for mutations that are applied together, on the files as a killed writer leaves them.
fn sweep_together(what: &str, stacks: impl Iterator<Item = Vec<Mutation>>) {
    let (mut tally, live) = (Tally::default(), undisturbed(|| specimen().live()));
    for (turn, stack) in stacks.enumerate() {
        let moment = if turn % 3 == 2 {
            Moment::Repaired
        } else {
            Moment::Closed
        };
        tally.try_out(&live, &stack, moment);
    }
    tally.conclude(what);
}

fn stacks(count: u64) -> impl Iterator<Item = Vec<Mutation>> {
    (0..count).map(|number| sweeps::stack(specimen(), number))
}

fn specimen() -> &'static Specimen {
    static SPECIMEN: OnceLock<Specimen> = OnceLock::new();
    SPECIMEN.get_or_init(Specimen::make)
}

#[test]
fn changed_bytes_never_pass() {
    sweep("bytes", sweeps::bytes, 127);
}

#[test]
fn changed_header_bits_never_pass() {
    sweep("bits of headers", sweeps::bits, 61);
}

// A file truncated at any length costs at most the entries after its end.
// M2: no slice reaches beyond the end of a file, where an access raises SIGBUS.
#[test]
fn truncated_file_costs_only_its_end() {
    sweep("cuts", sweeps::cuts, 199);
}

#[test]
fn zeroed_blocks_cost_their_contents() {
    sweep("zeros", sweeps::zeros, 7);
}

// A file that was replaced by another one, or by none, is noticed.
#[test]
fn replaced_files_never_pass() {
    sweep("files", sweeps::files, 1);
}

#[test]
fn boundary_values_never_mislead() {
    sweep("words", sweeps::words, 67);
}

// No value on an edge passes in a word of the header.
#[test]
fn header_boundary_values_never_pass() {
    sweep("words of the header", sweeps::header_words, 5);
}

// Links, slot bodies and records in each other's places are noticed.
#[test]
fn exchanged_parts_never_pass() {
    sweep("exchanges", sweeps::exchanges, 3);
}

// Several changes at the same time are no worse than one.
#[test]
fn stacked_changes_behave_like_one() {
    sweep_together("several at once", stacks(150));
}

#[test]
fn forged_heap_places_never_pass() {
    sweep("places", sweeps::places, 13);
}

/// The heap seems to end in the last of 65,536 segments: nobody looks for all of them.
#[test]
fn oversized_header_stalls_no_operation() {
    let mut tally = Tally::default();
    for at in [header::TAIL, header::RESERVED] {
        let value = u64::MAX;
        let file = String::new();
        let change = Change::Set { file, at, value };
        let mutation = Mutation {
            change,
            repaired: false,
        };
        for moment in [Moment::Closed, Moment::Open, Moment::Repaired] {
            tally.try_out(specimen(), std::slice::from_ref(&mutation), moment);
        }
    }
    tally.conclude("promises");
}

// A redo record that no writer committed deletes no valid entry.
#[test]
fn forged_redo_record_loses_nothing() {
    sweep_together(
        "intents",
        undisturbed(|| sweeps::intents(specimen()))
            .into_iter()
            .step_by(7),
    );
}

#[test]
#[ignore = "a soak; see docs/testing.md"]
fn soak_changed_bytes_never_pass() {
    sweep("bytes", sweeps::bytes, soak_stride());
}

#[test]
#[ignore = "a soak; see docs/testing.md"]
fn soak_changed_header_bits_never_pass() {
    sweep("bits of headers", sweeps::bits, soak_stride());
}

#[test]
#[ignore = "a soak; see docs/testing.md"]
fn soak_truncated_files_cost_their_end() {
    sweep("cuts", sweeps::cuts, soak_stride());
}

#[test]
#[ignore = "a soak; see docs/testing.md"]
fn soak_zeroed_blocks_cost_their_contents() {
    sweep("zeros", sweeps::zeros, soak_stride());
}

#[test]
#[ignore = "a soak; see docs/testing.md"]
fn soak_forged_words_never_pass() {
    sweep("words", sweeps::words, soak_stride());
    sweep("files", sweeps::files, 1);
    sweep("places", sweeps::places, soak_stride());
    sweep("exchanges", sweeps::exchanges, soak_stride());
}

#[test]
#[ignore = "a soak; see docs/testing.md"]
fn soak_forged_redo_records_lose_nothing() {
    let intents = undisturbed(|| sweeps::intents(specimen()));
    sweep_together("intents", intents.into_iter().step_by(soak_stride()));
    sweep_together("several at once", stacks(20_000).step_by(soak_stride()));
}
