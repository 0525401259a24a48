//! Flights under loom: in every order of the threads one of them computes at a time, each of them
//! gets a value, and none sleeps forever.
//!
//! `RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test --release --lib loom_flights`

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use loom::sync::atomic::{AtomicU32, Ordering::Relaxed, Ordering::SeqCst};
use loom::thread;

use crate::cache::flights::{Flights, Joined, Outcome};

/// A cache of one value, which 0 leaves absent.
struct Model {
    flights: Arc<Flights<u32>>,
    value: AtomicU32,
    computing: AtomicU32,
    computed: AtomicU32,
    fails: AtomicU32,
    /// Whether a caller that leads looks for the value again, as it must.
    looks_again: bool,
}

impl Model {
    fn new(fails: u32, looks_again: bool) -> Arc<Self> {
        Arc::new(Self {
            flights: Arc::default(),
            value: AtomicU32::new(0),
            computing: AtomicU32::new(0),
            computed: AtomicU32::new(0),
            fails: AtomicU32::new(fails),
            looks_again,
        })
    }

    /// What a call of the cache does, without other processes.
    fn obtain(&self) -> u32 {
        loop {
            let found = self.value.load(SeqCst);
            if found != 0 {
                return found;
            }
            match self.flights.join(b"key", None, None) {
                Joined::Wait(flight) => {
                    if let Some(Outcome::Done(value)) = flight.wait(None) {
                        return value;
                    }
                }
                Joined::Lead(lead) => {
                    let found = self.value.load(SeqCst);
                    if self.looks_again && found != 0 {
                        lead.end(found);
                        return found;
                    }
                    if let Some(value) = self.compute() {
                        lead.end(value);
                        return value;
                    }
                }
                Joined::Own => unreachable!("these are tasks"),
            }
        }
    }

    fn compute(&self) -> Option<u32> {
        assert_eq!(self.computing.fetch_add(1, Relaxed), 0, "two at a time");
        let fails = self.fails.load(Relaxed);
        let value = match fails {
            0 => {
                let count = self.computed.fetch_add(1, Relaxed) + 1;
                self.value.store(count, SeqCst);
                Some(count)
            }
            _ => {
                self.fails.store(fails - 1, Relaxed);
                None
            }
        };
        self.computing.fetch_sub(1, Relaxed);
        value
    }
}

/// Lets callers meet in every order with at most three preemptions.
fn explore(callers: usize, fails: u32, looks_again: bool) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let model = Model::new(fails, looks_again);
        let others: Vec<_> = (1..callers)
            .map(|_| {
                let model = Arc::clone(&model);
                thread::spawn(move || assert_eq!(model.obtain(), 1))
            })
            .collect();
        assert_eq!(model.obtain(), 1);
        for other in others {
            other.join().expect("a caller");
        }
        assert_eq!(model.computed.load(Relaxed), 1);
    });
}

#[test]
fn loom_flights_compute_once() {
    explore(3, 0, true);
}

#[test]
fn loom_flights_hand_over_failures() {
    explore(3, 1, true);
}

// The check that a leader makes after it has joined is needed.
#[test]
fn loom_flights_notice_missing_check() {
    let explored = catch_unwind(AssertUnwindSafe(|| explore(2, 0, false)));
    assert!(explored.is_err(), "no order computes twice");
}
