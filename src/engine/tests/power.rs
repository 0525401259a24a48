//! Loses power at any moment of any kind of work.
//!
//! A [`disk::Disk`] watches what the cache does. At chosen moments it composes an image that a
//! power loss could leave; the image is opened under another boot, and compared with what was put,
//! deleted and flushed until then. This file has the tests; `scenario.rs` does the work, and
//! `image_checker.rs` checks the images.

mod cache_dir;
mod copier;
mod disk;
mod history;
mod image_checker;
mod numbered;
mod random;
mod reading;
mod scenario;
mod values;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use crate::engine::tests::power::cache_dir::{IN_PLACE, Kind, PLAIN};
use crate::engine::tests::power::copier::Copier;
use crate::engine::tests::power::history::History;
use crate::engine::tests::power::scenario::Scenario;
use crate::engine::tests::power::values::key;
use crate::engine::tests::*;
use crate::sync::failpoint;

const NEVER: [usize; 2] = [usize::MAX; 2];

fn run(seed: u64, steps: usize, every: [usize; 2]) -> u64 {
    let mut scenario = Scenario::new(seed, every);
    for _ in 0..steps {
        scenario.step();
    }
    scenario.end()
}

/// The first seed: fixed, or from the environment.
fn first_seed() -> u64 {
    let seed = std::env::var("POWER_SEED").ok();
    seed.and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// Works on a prepared cache, and loses power at one of `every` steps.
fn lose_power_during(
    kind: Kind,
    every: [usize; 2],
    prepare: impl Fn(&mut Scenario),
    change: impl Fn(&mut Scenario),
) -> u64 {
    let mut scenario = Scenario::of(kind, NEVER, 1, 20, first_seed());
    prepare(&mut scenario);
    scenario.checker.borrow_mut().every = every;
    change(&mut scenario);
    scenario.end()
}

/// Loses power during every kind of change.
fn lose_power_during_everything(kind: Kind, every: [usize; 2]) -> u64 {
    let grow = |scenario: &mut Scenario| {
        for i in 20..150 {
            scenario.put_key(&key(i), 10);
        }
    };
    let recover = |scenario: &mut Scenario| {
        scenario.put_key(&key(15), 10);
        scenario.lose_power();
    };
    let create = Scenario::of(kind, every, 1, 20, first_seed()).end();
    let during = |prepare: fn(&mut Scenario), change: &dyn Fn(&mut Scenario)| {
        lose_power_during(kind, every, prepare, change)
    };
    create
        + during(filled, &|scenario| scenario.put_key(&key(1), 20))
        + during(filled, &|scenario| scenario.put_key(&key(5), 20))
        + during(filled, &|scenario| scenario.put_key(&key(5), 9_000))
        + during(filled, &|scenario| scenario.delete_key(&key(6)))
        + during(filled, &Scenario::batch)
        + during(filled, &Scenario::flush)
        + during(churned, &Scenario::flush)
        + during(churned, &clean)
        + during(churned, &Scenario::compact)
        + during(filled, &grow)
        + during(churned, &|scenario| scenario.rebuild(0))
        + during(churned, &|scenario| scenario.rebuild(15))
        + during(churned, &recover)
}

/// Kills a process at each of these steps of a change. The next one recovers, and does
/// `afterwards`; power is lost during that, and after its flush.
fn kill_then_lose_power(
    steps: impl IntoIterator<Item = u64>,
    prepare: impl Fn(&mut Scenario),
    change: impl Fn(&mut Scenario),
    afterwards: impl Fn(&mut Scenario),
) -> u64 {
    let mut images = 0;
    for steps in steps {
        let mut scenario = Scenario::of(PLAIN, NEVER, 1, 20, first_seed());
        prepare(&mut scenario);
        scenario.checker.borrow_mut().every = [200, 1];
        let killed = scenario.killed_after(steps, &change);
        afterwards(&mut scenario);
        scenario.flush();
        images += scenario.end();
        if !killed {
            break;
        }
    }
    images
}

/// Returns the steps of a change that sync a directory: renames and removals precede them.
fn before_syncs(prepare: impl Fn(&mut Scenario), change: impl Fn(&mut Scenario)) -> Vec<u64> {
    let mut scenario = Scenario::of(PLAIN, NEVER, 1, 20, first_seed());
    prepare(&mut scenario);
    let found = Rc::new(RefCell::new(Vec::new()));
    let (calls, mut count) = (Rc::clone(&found), 0);
    failpoint::observe(move |step| {
        if matches!(step, failpoint::Operation::SyncDir(_)) {
            calls.borrow_mut().push(count);
        }
        count += 1;
    });
    change(&mut scenario);
    failpoint::stop_observing();
    found.take()
}

#[test]
fn flushed_entries_survive_power_loss() {
    let mut images = 0;
    for seed in first_seed()..first_seed() + 12 {
        images += run(seed, 30, [400, 20]);
    }
    println!("{images} images");
}

// W2: a record that was overwritten where it is may be lost in a power loss, half old and half new. What
// was flushed is there then, or a later state of the key.
#[test]
fn overwrites_in_place_survive_power_loss() {
    let mut images = 0;
    for seed in first_seed()..first_seed() + 12 {
        let mut scenario = Scenario::in_place(seed, [200, 20]);
        for _ in 0..40 {
            scenario.step();
        }
        images += scenario.end();
    }
    assert!(images > 150, "{images}");
    let overwrite = |scenario: &mut Scenario| {
        for _ in 0..3 {
            scenario.put_key(&key(5), 30);
            scenario.put_key(&key(6), 30);
        }
    };
    // The flushed records of these keys are removed, after a sync of what replaced them.
    let cleaned = |scenario: &mut Scenario| {
        churned(scenario);
        overwrite(scenario);
        clean(scenario);
    };
    let images = lose_power_during(IN_PLACE, [1, 1], filled, overwrite)
        + lose_power_during(IN_PLACE, [1, 1], cleaned, overwrite)
        + lose_power_during(IN_PLACE, [40, 1], churned, |scenario| {
            overwrite(scenario);
            clean(scenario);
            overwrite(scenario);
            scenario.flush();
            overwrite(scenario);
        });
    assert!(images > 300, "{images}");
}

#[test]
#[ignore = "a soak: ten minutes; see docs/testing.md"]
fn random_work_survives_power_losses() {
    let minutes = std::env::var("POWER_MINUTES").ok();
    let minutes: u64 = minutes.and_then(|text| text.parse().ok()).unwrap_or(10);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60 * minutes);
    let (mut images, mut seed) = (0, first_seed());
    while std::time::Instant::now() < end {
        images += run(seed, 60, [300, 15]);
        let mut in_place = Scenario::in_place(seed, [300, 15]);
        (0..60).for_each(|_| in_place.step());
        images += in_place.end();
        seed += 1;
    }
    println!(
        "{images} images of {} scenarios from seed {}",
        seed - first_seed(),
        first_seed()
    );
}

fn filled(scenario: &mut Scenario) {
    for i in 0..12 {
        scenario.put_key(&key(i), 30);
    }
    for i in 0..3 {
        scenario.delete_key(&key(i));
    }
    scenario.flush();
}

/// Prepares two segments full of dead records, and a third. The second has the deletion of an entry
/// in the first.
fn churned(scenario: &mut Scenario) {
    let pause = |scenario: &Scenario, writes| {
        let handle = &scenario.cache().handle;
        handle.clean_pause.store(writes, crate::sync::Relaxed);
    };
    pause(scenario, 1_000);
    filled(scenario);
    for round in 0..7 {
        scenario.put_key(&key(13), 4_000);
        if round == 3 {
            scenario.delete_key(&key(5));
        }
    }
    scenario.flush();
    pause(scenario, 0);
}

/// Cleans both segments, completes the segments with the copies, and removes the cleaned ones.
fn clean(scenario: &mut Scenario) {
    for _ in 0..2 {
        for _ in 0..20 {
            scenario.put_key(&key(14), 10);
        }
        for _ in 0..4 {
            scenario.put_key(&key(13), 4_000);
        }
    }
    for _ in 0..20 {
        scenario.put_key(&key(14), 10);
    }
}

// Background tasks removed these segments in the end: otherwise the tests above would lose power
// too early to test removal.
#[test]
fn background_removal_survives_power_losses() {
    let mut scenario = Scenario::of(PLAIN, [usize::MAX, usize::MAX], 1, 20, first_seed());
    churned(&mut scenario);
    let oldest = |scenario: &Scenario| scenario.cache().handle.generation.load().header().oldest();
    let before = oldest(&scenario);
    clean(&mut scenario);
    assert!(oldest(&scenario) >= before + 2, "{}", oldest(&scenario));
}

// Loses power before each step of two puts and a deletion.
#[test]
fn put_and_delete_survive_power_loss() {
    lose_power_during(PLAIN, [1, 1], filled, |scenario| {
        scenario.put_key(&key(1), 20);
        scenario.put_key(&key(5), 20);
        scenario.delete_key(&key(6));
    });
}

// Loses power before each step of a creation, and of the first changes, before anything was flushed.
#[test]
fn new_cache_survives_power_loss() {
    let mut images = 0;
    for seed in first_seed()..first_seed() + 6 {
        let mut scenario = Scenario::of(PLAIN, [60, 1], 1, 20, seed);
        scenario.put_key(&key(1), 20);
        scenario.delete_key(&key(1));
        images += scenario.end();
        // A larger table, another segment, and their first flush.
        images += lose_power_during(
            PLAIN,
            [600, 1],
            |_| {},
            |scenario| {
                for i in 0..150 {
                    scenario.put_key(&key(i), 100);
                }
                scenario.flush();
            },
        );
    }
    assert!(images > 150, "{images}");
}

#[test]
fn each_change_survives_power_loss() {
    let images = lose_power_during_everything(PLAIN, [400, 8]);
    assert!(images > 150, "{images}");
}

#[test]
#[ignore = "a soak: minutes; see docs/testing.md"]
fn all_work_survives_power_loss() {
    let durable = Kind {
        durable: true,
        ..PLAIN
    };
    let elsewhere = Kind {
        heap_elsewhere: true,
        ..PLAIN
    };
    for kind in [PLAIN, durable, elsewhere, IN_PLACE] {
        let images = lose_power_during_everything(kind, [3, 1]);
        println!("{kind:?}: {images} images");
    }
}

// A change that a killed process left, and the next one undid, does not return after a power loss.
#[test]
fn undone_change_survives_power_loss() {
    for change in [
        |scenario: &mut Scenario| scenario.put_key(&key(1), 20),
        |scenario: &mut Scenario| scenario.put_key(&key(5), 20),
        |scenario: &mut Scenario| scenario.delete_key(&key(6)),
    ] {
        kill_then_lose_power(0.., filled, change, |_| {});
    }
}

// Segments that a killed cleaner removed do not return after a power loss.
#[test]
fn removed_segments_survive_power_loss() {
    kill_then_lose_power(before_syncs(churned, clean), churned, clean, clean);
}

// A generation switch that a killed process committed is synced before the old files are removed.
// G2: the rename that commits is on the disk before a file of the old generation is removed.
#[test]
fn committed_switch_precedes_removal() {
    let rebuild = |scenario: &mut Scenario| scenario.rebuild(3);
    kill_then_lose_power(before_syncs(filled, rebuild), filled, rebuild, |_| {});
}

/// Copies a cache's files while it is used. Returns whether the copy was completed.
fn copy_alive(seed: u64) -> bool {
    let mut scenario = Scenario::new(seed, NEVER);
    for _ in 0..scenario.random.below(30) {
        scenario.work();
    }
    if scenario.random.once_in(2) {
        scenario.flush();
    }
    scenario.history(History::begin_copy);
    let copier = Copier::new(&scenario.checker, seed);
    let copier = Rc::new(RefCell::new(copier));
    let observer = Rc::clone(&copier);
    failpoint::observe(move |_| observer.borrow_mut().step());
    for _ in 0..40 {
        if copier.borrow().done {
            break;
        }
        scenario.work();
    }
    failpoint::stop_observing();
    let checked = catch_unwind(AssertUnwindSafe(|| copier.borrow_mut().check()));
    checked.unwrap_or_else(|payload| {
        eprintln!("seed {seed}, a copy");
        resume_unwind(payload)
    })
}

// A copy of files that are being written has everything that was there when the copy began.
#[test]
fn copy_of_live_files_is_complete() {
    let copies = (0..40).filter(|seed| copy_alive(first_seed() + seed));
    let count = copies.count();
    println!("{count} copies");
    assert!(count > 20, "{count}");
}
