//! Processes that write and read one cache, of which one after the other is killed.
//!
//! The kills of a single writer are in `tests/processes.rs`.

mod child;

use std::time::{Duration, Instant};

use child::contents::Random;
use child::crew::{Crew, Done};
use child::{witness, worker};

/// No test of its own: what the other tests start as their child processes.
#[test]
fn child() {
    child::play(&[("works", worker::works), ("watches", witness::watches)]);
}

/// Kills one of four writers and two readers at a random moment, as often as asked.
fn kill(rounds: u64, seed: u64) -> Done {
    let root = tempfile::tempdir().expect("a directory");
    let mut crew = Crew::start(root.path(), 2);
    let mut random = Random::new(seed);
    for _ in 0..rounds {
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        crew.kill_one(&mut random);
    }
    crew.finish()
}

#[test]
fn whoever_is_killed_the_others_go_on_and_nothing_acknowledged_is_lost() {
    let done = kill(12, 5);
    println!("{done:?}");
    assert_eq!(done.kills, 12);
    assert!(done.operations > 100 && done.rebuilds > 0, "{done:?}");
}

#[test]
#[ignore = "a soak: minutes; see docs/testing.md"]
fn three_hundred_kills_among_four_writers_and_two_readers() {
    let began = Instant::now();
    let done = kill(300, 77);
    println!("300 kills in {:?}: {done:#?}", began.elapsed());
    assert!(done.operations > 10_000 && done.unsaid > 0, "{done:?}");
}
