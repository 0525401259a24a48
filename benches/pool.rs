//! Interning, by its own account: routes of which each has one of few distinguishers and labels, and
//! topics that are published again and again. Allocations are counted; times are the least of many
//! rounds.
//!
//! `cargo bench --bench pool`

#[path = "pool/counting.rs"]
mod counting;
#[path = "pool/routes.rs"]
mod routes;
#[path = "pool/topics.rs"]
mod topics;

use std::time::Instant;

fn main() {
    routes::measure();
    topics::measure();
}

/// The least of some figures: what the machine's other work did not add to.
fn least(numbers: &[f64]) -> f64 {
    numbers.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Nanoseconds per operation of `count` operations.
fn time(count: usize, run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_nanos() as f64 / count as f64
}
