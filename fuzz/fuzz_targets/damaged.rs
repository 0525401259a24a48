//! Any damage to any file of a real cache, its checksums repaired half of the time; then every public
//! operation, from outside and inside, on new handles and on one that was open before.
#![no_main]

#[path = "../../tests/attack/mod.rs"]
mod attack;

use std::sync::LazyLock;

use attack::look::Judge;
use attack::mutation::{Change, Choices, Mutation};
use attack::reach::Reach;
use attack::specimen::{Specimen, scratch};
use libfuzzer_sys::fuzz_target;

/// Changes of one input: beyond them there is little left to believe.
const MOST: usize = 6;

/// From this first byte on an input changes one byte of one file: then each listing must be exactly
/// what was put, or have an error.
const ONE_BYTE: u8 = 0xc0;

/// The same in every run.
static SPECIMENS: LazyLock<[Specimen; 2]> = LazyLock::new(|| {
    mmapcache::fuzzing::reseed(0);
    Specimen::closed_and_live()
});

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices(data);
    let how = choices.byte();
    let specimen = &SPECIMENS[usize::from(how & 1)];
    mmapcache::fuzzing::reseed(1);
    let (mut image, mut done) = (specimen.image.clone(), Vec::new());
    for _ in 0..if how >= ONE_BYTE { 1 } else { MOST } {
        if choices.is_empty() {
            break;
        }
        let mutation = match how {
            ONE_BYTE.. => one_byte(&mut choices, specimen),
            _ => Mutation::choose(&mut choices, &image),
        };
        mutation.apply(&mut image, specimen);
        done.push(mutation);
    }
    let reach = Reach::between(specimen, &image);
    let name = format!("{done:?}");
    let judge = Judge::new(specimen, &reach, &name);
    let dir = scratch();
    let path = dir.path().join("cache");
    if how & 2 == 2 && done.iter().all(|mutation| mutation.change.is_in_place()) {
        specimen.image.write_to(&path).expect("files");
        let open = attack::look::read_only()
            .open(&path)
            .expect("a sound cache");
        image
            .store_over(&specimen.image, &path)
            .expect("files in use");
        judge.look(&open);
        judge.write(&path);
    } else {
        image.write_to(&path).expect("files");
        judge.all(&path);
    }
});

/// Any change of any byte of any file.
fn one_byte(choices: &mut Choices<'_>, specimen: &Specimen) -> Mutation {
    let files: Vec<_> = specimen.image.files().collect();
    let (suffix, bytes) = files[choices.below(files.len())];
    let change = Change::Flip {
        file: suffix.to_owned(),
        at: choices.below(bytes.len()),
        mask: choices.byte().max(1),
    };
    Mutation {
        change,
        repaired: false,
    }
}
