//! Measures interning: routes, each with one of few distinguishers and labels, and topics that are
//! published again and again. Allocations are counted; times are medians.
//!
//! `cargo bench --bench pool`

#[path = "pool/counting.rs"]
mod counting;
#[path = "pool/processors.rs"]
mod processors;
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

/// Returns the nanoseconds per operation of `count` operations, without the time that this thread
/// waited for a processor.
fn time(count: usize, run: impl FnOnce()) -> f64 {
    let (start, waited) = (Instant::now(), waited());
    run();
    let nanos = start.elapsed().as_nanos() as f64 - (self::waited() - waited);
    nanos / count as f64
}

/// Returns the nanoseconds for which this thread was ready but did not run.
fn waited() -> f64 {
    let account = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let waited = account.split_whitespace().nth(1);
    waited.and_then(|nanos| nanos.parse().ok()).unwrap_or(0.0)
}
