//! Changes any files of a real cache, with the checksums repaired half of the time; then runs every
//! public operation, on new handles and on one that was open before.
#![no_main]

#[path = "../../tests/corruption/mod.rs"]
mod corruption;

use std::sync::LazyLock;

use corruption::affected::Affected;
use corruption::checker::Checker;
use corruption::mutation::{Change, Choices, Mutation};
use corruption::sample_cache::{SampleCache, scratch};
use libfuzzer_sys::fuzz_target;

/// Changes of one input: after more of them every key is affected, and nothing can be checked.
const MOST: usize = 6;

/// An input whose first byte is at least this changes one byte of one file: then each listing must
/// be exactly what was put, or have an error.
const ONE_BYTE: u8 = 0xc0;

/// The same in every run.
static SAMPLES: LazyLock<[SampleCache; 2]> = LazyLock::new(|| {
    mmapcache::fuzzing::reseed(0);
    SampleCache::closed_and_live()
});

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices(data);
    let how = choices.byte();
    let sample = &SAMPLES[usize::from(how & 1)];
    mmapcache::fuzzing::reseed(1);
    let (mut image, mut done) = (sample.image.clone(), Vec::new());
    for _ in 0..if how >= ONE_BYTE { 1 } else { MOST } {
        if choices.is_empty() {
            break;
        }
        let mutation = match how {
            ONE_BYTE.. => one_byte(&mut choices, sample),
            _ => Mutation::choose(&mut choices, &image),
        };
        mutation.apply(&mut image, sample);
        done.push(mutation);
    }
    let affected = Affected::between(sample, &image);
    let name = format!("{done:?}");
    let checker = Checker::new(sample, &affected, &name);
    let dir = scratch();
    let path = dir.path().join("cache");
    if how & 2 == 2 && done.iter().all(|mutation| mutation.change.is_in_place()) {
        sample.image.write_to(&path).expect("files");
        let open = corruption::checker::read_only()
            .open(&path)
            .expect("a sound cache");
        image
            .store_over(&sample.image, &path)
            .expect("files in use");
        checker.read_all(&open);
        checker.check_writers(&path);
    } else {
        image.write_to(&path).expect("files");
        checker.check_all(&path);
    }
});

/// Flips any bits of any byte of any file.
fn one_byte(choices: &mut Choices<'_>, sample: &SampleCache) -> Mutation {
    let files: Vec<_> = sample.image.files().collect();
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
