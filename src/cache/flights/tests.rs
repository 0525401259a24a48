//! Flights under loom: in every order of the threads one of them computes at a time, each of them
//! gets a value, and none sleeps forever.
//!
//! `RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test --release --lib loom_flights`
#![cfg(loom)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use loom::sync::Mutex;
use loom::thread;

use crate::cache::flights::{Flights, Joined, Outcome};

/// A cache of one value, and how it is computed.
struct Model {
    flights: Arc<Flights<u32>>,
    value: Mutex<Option<u32>>,
    /// Whether a caller computes. Computations do not wait for each other by it.
    computing: Mutex<bool>,
    computed: Mutex<u32>,
    /// Computations that fail.
    failing: Mutex<u32>,
    /// Whether a caller that leads looks for the value again, as it must.
    looks_again: bool,
}

impl Model {
    fn new(failing: u32, looks_again: bool) -> Arc<Self> {
        Arc::new(Self {
            flights: Arc::default(),
            value: Mutex::new(None),
            computing: Mutex::new(false),
            computed: Mutex::new(0),
            failing: Mutex::new(failing),
            looks_again,
        })
    }

    fn look(&self) -> Option<u32> {
        *self.value.lock().unwrap()
    }

    /// What a call of the cache does, without other processes.
    fn obtain(&self) -> u32 {
        loop {
            if let Some(found) = self.look() {
                return found;
            }
            match self.flights.join(b"key", None, None) {
                Joined::Wait(flight) => {
                    if let Some(Outcome::Done(value)) = flight.wait(None) {
                        return value;
                    }
                }
                Joined::Lead(lead) => {
                    let found = self.look().filter(|_| self.looks_again);
                    if let Some(value) = found.or_else(|| self.compute()) {
                        lead.end(value);
                        return value;
                    }
                }
                Joined::Own => unreachable!("these are tasks"),
            }
        }
    }

    fn compute(&self) -> Option<u32> {
        let others = std::mem::replace(&mut *self.computing.lock().unwrap(), true);
        assert!(!others, "two at a time");
        let mut failing = self.failing.lock().unwrap();
        let fails = *failing > 0;
        *failing = failing.saturating_sub(1);
        drop(failing);
        let value = (!fails).then(|| {
            let mut computed = self.computed.lock().unwrap();
            *computed += 1;
            *computed
        });
        *self.value.lock().unwrap() = value;
        *self.computing.lock().unwrap() = false;
        value
    }
}

/// Lets callers meet in every order with at most three preemptions.
fn explore(callers: usize, failing: u32, looks_again: bool) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let model = Model::new(failing, looks_again);
        let others: Vec<_> = (1..callers)
            .map(|_| {
                let model = Arc::clone(&model);
                thread::spawn(move || assert_eq!(model.obtain(), 1))
            })
            .collect();
        assert_eq!(model.obtain(), 1);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(*model.computed.lock().unwrap(), 1);
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
