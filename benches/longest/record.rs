//! Records how long each operation took, and the longest ones with their causes.

use std::time::Duration;

/// Operations whose causes are kept.
const LONGEST: usize = 8;

pub(crate) struct Recorder {
    nanos: Vec<u64>,
    longest: Vec<(u64, u64, String)>,
}

impl Recorder {
    pub(crate) fn new(count: u64) -> Self {
        // Touched now, so that none of our page faults is measured.
        let mut nanos = vec![1; count as usize];
        nanos.clear();
        Self {
            nanos,
            longest: Vec::new(),
        }
    }

    /// Records an operation; `cause` runs only for one of the longest.
    pub(crate) fn add(&mut self, took: Duration, cause: impl FnOnce() -> String) {
        let nanos = took.as_nanos() as u64;
        let turn = self.nanos.len() as u64;
        self.nanos.push(nanos);
        let least = self.longest.last().map_or(0, |&(nanos, ..)| nanos);
        if self.longest.len() < LONGEST || nanos > least {
            let at = self.longest.partition_point(|&(other, ..)| other > nanos);
            self.longest.insert(at, (nanos, turn, cause()));
            self.longest.truncate(LONGEST);
        }
    }

    pub(crate) fn print_head() {
        println!(
            "\n| us | mean | 50 % | 99 % | 99.9 % | 99.99 % | longest | over 1 ms | over 10 ms |"
        );
        println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|");
    }

    pub(crate) fn print_line(&mut self, name: &str) {
        self.nanos.sort_unstable();
        let count = self.nanos.len();
        let us = |nanos: u64| nanos as f64 / 1000.0;
        let at = |share: f64| us(self.nanos[((count - 1) as f64 * share) as usize]);
        let over = |nanos: u64| count - self.nanos.partition_point(|&other| other <= nanos);
        let sum: u64 = self.nanos.iter().sum();
        println!(
            "| {name} | {:.2} | {:.2} | {:.1} | {:.1} | {:.1} | {:.0} | {} | {} |",
            sum as f64 / count as f64 / 1000.0,
            at(0.5),
            at(0.99),
            at(0.999),
            at(0.9999),
            us(self.nanos[count - 1]),
            over(1_000_000),
            over(10_000_000),
        );
    }

    pub(crate) fn print_longest(&self) {
        for (nanos, turn, cause) in &self.longest {
            println!("    {:>9.1} us at {turn}: {cause}", *nanos as f64 / 1000.0);
        }
    }
}
