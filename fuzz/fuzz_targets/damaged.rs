//! Any damage to any file of a real cache, its checksums repaired half of the time; then every public
//! operation, from outside and inside, on new handles and on one that was open before.
#![no_main]

#[path = "../../tests/attack/mod.rs"]
mod attack;

use std::sync::LazyLock;

use attack::look::Judge;
use attack::mutation::{Choices, Mutation};
use attack::reach::Reach;
use attack::specimen::{Specimen, scratch};
use libfuzzer_sys::fuzz_target;

/// Changes of one input: beyond them there is little left to believe.
const MOST: usize = 6;

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
    for _ in 0..MOST {
        if choices.is_empty() {
            break;
        }
        let mutation = Mutation::choose(&mut choices, &image);
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
