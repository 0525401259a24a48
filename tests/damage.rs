//! Files of a cache, damaged in every way that one byte, one page or one file can be; and every
//! public operation on them.
//!
//! What is allowed then is the right answer, a miss, or an error that says what is damaged.

mod attack;

use attack::image::Image;
use attack::look::Judge;
use attack::mutation::{Choices, Mutation};
use attack::reach::Reach;
use attack::specimen::{Census, Specimen, scratch};

#[test]
fn the_specimen_is_small_and_has_every_kind_of_entry() {
    let specimen = Specimen::make();
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
    assert_eq!(Image::read(&path).unwrap(), specimen.image);
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
    for specimen in [Specimen::make(), Specimen::make().live()] {
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
    let specimen = Specimen::make();
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

#[test]
#[ignore = "explore"]
fn explore() {
    let specimen = Specimen::make();
    let count: u64 = std::env::var("COUNT").map_or(1000, |n| n.parse().unwrap());
    let seed: u64 = std::env::var("SEED").map_or(0, |n| n.parse().unwrap());
    let mut failures = std::collections::BTreeMap::<String, (u32, String)>::new();
    std::panic::set_hook(Box::new(|_| {}));
    for n in 0..count {
        let mut bytes = Vec::new();
        for i in 0..8_u64 {
            bytes.extend(
                xxhash_rust::xxh3::xxh3_64_with_seed(&n.to_le_bytes(), i + seed * 8).to_le_bytes(),
            );
        }
        let mutation = Mutation::choose(&mut Choices(&bytes), &specimen.image);
        let mut image = specimen.image.clone();
        mutation.apply(&mut image, &specimen);
        let reach = Reach::between(&specimen, &image);
        let dir = scratch();
        let path = dir.path().join("cache");
        image.write_to(&path).unwrap();
        let name = format!("{n} {mutation:?}");
        let began = std::time::Instant::now();
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            Judge::new(&specimen, &reach, "").all(&path)
        }));
        if began.elapsed() > std::time::Duration::from_millis(300) {
            println!("SLOW {:?} {name}", began.elapsed());
        }
        if let Err(panic) = ran {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .unwrap_or_else(|| "?".into());
            let short: String = text.chars().take(60).collect();
            let entry = failures.entry(short).or_insert((
                0,
                format!("{name}\n    {}", text.chars().take(400).collect::<String>()),
            ));
            entry.0 += 1;
        }
    }
    for (short, (times, first)) in failures {
        println!("{times} x {short}\n    {first}");
    }
}
