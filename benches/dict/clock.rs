//! Measures the operations of a round.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Instant;

/// Nanoseconds of a round per operation, by the operation's name.
pub(crate) type Figures = HashMap<String, f64>;

#[derive(Default)]
pub(crate) struct Clock {
    pub(crate) figures: Figures,
}

impl Clock {
    /// Times a number of operations, and returns their result.
    pub(crate) fn time<T>(&mut self, operation: &str, count: usize, run: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let given = black_box(run());
        let nanos = start.elapsed().as_nanos() as f64 / count as f64;
        self.figures.insert(operation.to_owned(), nanos);
        given
    }
}
