//! Interning, by its own account: routes of which each has one of few distinguishers and labels, and
//! topics that are published again and again. Allocations are counted, times are medians.
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

fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// Nanoseconds per operation of `count` operations.
fn time(count: usize, run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_nanos() as f64 / count as f64
}
