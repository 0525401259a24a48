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

#[test]
fn the_specimen_is_small_and_has_every_kind_of_entry() {
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
    let report = cache.verify().unwrap();
    assert!(
        report.is_clean() && report.totals_compared,
        "{:?}",
        report.faults
    );
    assert_eq!(report.records as usize, specimen.records.len());
    assert_eq!(report.entries as usize, specimen.versions.len());
}

#[test]
fn nothing_is_wrong_where_nothing_was_changed() {
    for specimen in [specimen().clone(), specimen().live()] {
        let dir = scratch();
        let path = dir.path().join("cache");
        specimen.image.write_to(&path).unwrap();
        let reach = Reach::between(&specimen, &specimen.image);
        assert_eq!(reach, Reach::default());
        Judge::new(&specimen, &reach, "unchanged").all(&path);
    }
}

#[test]
fn repaired_checksums_are_those_that_the_engine_computes() {
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
fn no_changed_byte_is_believed() {
    sweep("bytes", sweeps::bytes, 127);
}

#[test]
fn no_changed_bit_of_a_header_is_believed() {
    sweep("bits of headers", sweeps::bits, 61);
}

#[test]
fn a_file_that_ends_anywhere_costs_what_stood_behind() {
    sweep("cuts", sweeps::cuts, 199);
}

#[test]
fn blocks_of_zeros_cost_what_stood_there() {
    sweep("zeros", sweeps::zeros, 7);
}

#[test]
fn a_file_that_is_another_or_none_at_all_is_not_believed() {
    sweep("files", sweeps::files, 1);
}

#[test]
fn no_value_on_an_edge_leads_astray() {
    sweep("words", sweeps::words, 67);
}

#[test]
fn no_value_on_an_edge_is_believed_in_a_word_of_the_header() {
    sweep("words of the header", sweeps::header_words, 5);
}

#[test]
fn links_bodies_and_records_in_each_others_places_are_told_apart() {
    sweep("exchanges", sweeps::exchanges, 3);
}

#[test]
fn several_changes_at_once_are_no_worse_than_one() {
    sweep_together("several at once", stacks(150));
}

#[test]
fn no_place_of_the_heap_is_believed_for_its_own_sake() {
    sweep("places", sweeps::places, 13);
}

/// The heap seems to end in the last of 65,536 segments: nobody looks for all of them.
#[test]
fn a_header_that_promises_much_keeps_nobody_waiting() {
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

#[test]
fn an_intent_that_nobody_armed_takes_no_sound_entry_away() {
    sweep_together(
        "intents",
        undisturbed(|| sweeps::intents(specimen()))
            .into_iter()
            .step_by(7),
    );
}

#[test]
#[ignore = "a soak; see docs/testing.md"]
fn every_byte() {
    sweep("bytes", sweeps::bytes, soak_stride());
}

#[test]
#[ignore = "a soak; see docs/testing.md"]
fn every_bit_of_a_header() {
    sweep("bits of headers", sweeps::bits, soak_stride());
}

#[test]
#[ignore = "a soak; see docs/testing.md"]
fn every_length() {
    sweep("cuts", sweeps::cuts, soak_stride());
}

#[test]
#[ignore = "a soak; see docs/testing.md"]
fn every_block_of_zeros() {
    sweep("zeros", sweeps::zeros, soak_stride());
}

#[test]
#[ignore = "a soak; see docs/testing.md"]
fn every_word_with_every_value() {
    sweep("words", sweeps::words, soak_stride());
    sweep("files", sweeps::files, 1);
    sweep("places", sweeps::places, soak_stride());
    sweep("exchanges", sweeps::exchanges, soak_stride());
}

#[test]
#[ignore = "a soak; see docs/testing.md"]
fn every_intent_and_many_changes_at_once() {
    let intents = undisturbed(|| sweeps::intents(specimen()));
    sweep_together("intents", intents.into_iter().step_by(soak_stride()));
    sweep_together("several at once", stacks(20_000).step_by(soak_stride()));
}
