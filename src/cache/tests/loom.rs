//! The publish protocol under loom.

mod models;
mod orders;
mod stage;

use models::MODELS;
use stage::{Explored, explore};

use crate::format::HashKind;
use crate::Options;
use std::time::Duration;

/// Regions of two groups, keys of which all bits collide but two, and no cleaning.
fn options() -> Options {
    let mut options = Options::new();
    options
        .region_slots(16)
        .inline_key_bytes(8)
        .max_segment_bytes(16 * 1024)
        .clean_when(100, 1 << 30)
        .staleness_check_interval(Duration::from_secs(1 << 40));
    options.hash_kind = HashKind::Colliding;
    options.directory_bits = 2;
    options
}

/// The same, beginning with two regions.
fn two_sides() -> Options {
    let mut options = options();
    options.capacity(13);
    options
}

#[test]
fn loom_try() {
    let only = std::env::var("ONLY").unwrap_or_default();
    for model in MODELS.iter().filter(|model| model.name.contains(&only)) {
        let mut model = *model;
        if let Ok(bound) = std::env::var("BOUND") { model.preemptions = bound.parse().ok(); }
        if let Ok(most) = std::env::var("MOST") { model.at_most = most.parse().unwrap(); }
        let Explored { executions, words, took, broken, .. } = explore(model, &[]);
        println!("{:40} {:?} {executions} executions, {words} words, {took:?}, {broken:?}", model.name, model.preemptions);
    }
}
