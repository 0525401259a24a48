//! The longest single puts and gets: while the store grows, while it cleans after overwrites, and
//! beside a writer.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::clock::Waited;
use crate::figures::Figures;
use crate::keys::consume;
use crate::peer::Peer;
use crate::plan::Plan;
use crate::store::{Access, Error, Result, Sharing, Store};

use super::sharing::write_until;
use super::{hit, in_batches, keys_to_get, numbers};

/// How long the machine's own pauses are measured.
const PAUSES: Duration = Duration::from_secs(3);

/// Limit for stores whose overwrites take more than some microseconds.
const PATIENCE: Duration = Duration::from_secs(20);
/// Shorter waits for a processor do not matter.
const LONG: u64 = 100_000;
/// Waiting is counted after this many operations at the latest.
const LOOK: u64 = 256;

/// The name of the longest time by the wall clock.
pub(crate) const WALL: &str = "wall";

pub(crate) const PERCENTILES: [(&str, f64); 5] = [
    ("50", 50.0),
    ("99", 99.0),
    ("99.9", 99.9),
    ("99.99", 99.99),
    ("max", 100.0),
];

pub(super) fn measure<S: Store>(plan: &Plan, figures: &mut Figures) -> Result<()> {
    let dir = super::fresh(plan, "latency")?;
    let entries = plan.size.entries;
    let value = plan.size.value;
    if S::SHARING == Sharing::Memory {
        note(figures, "nothing", Ok(pauses()?))?;
    }
    let mut store = S::open(&dir, Access::Create, entries)?;
    note(figures, "put", puts(&mut store, 0..entries, 0, value))?;
    // Two overwrites for each entry, or as many as the time allows.
    let chosen = numbers(entries, 2 * entries, !0);
    let cleaning = puts(&mut store, chosen, 1, value);
    note(figures, "overwrite", cleaning)?;
    note(figures, "get", gets_beside_a_writer(store, plan, &dir))?;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

/// The times of single operations, in nanoseconds.
struct Times {
    all: Histogram<u64>,
    /// The longest by the wall clock, waits for a processor included.
    longest: u64,
    waited: Waited,
    last: u64,
}

impl Times {
    fn new() -> Result<Self> {
        let waited = Waited::new()?;
        Ok(Self {
            all: Histogram::new(3)?,
            longest: 0,
            last: waited.nanoseconds()?,
            waited,
        })
    }

    /// Called between operations: no time includes its own cost.
    fn record(&mut self, time: Duration) -> Result<()> {
        let mut nanoseconds = time.as_nanos() as u64;
        self.longest = self.longest.max(nanoseconds);
        let is_long = nanoseconds > LONG;
        // Also every few operations, so that a long one is excused only by its own waits.
        if is_long || self.all.len().is_multiple_of(LOOK) {
            let now = self.waited.nanoseconds()?;
            let waited = now - std::mem::replace(&mut self.last, now);
            if is_long {
                nanoseconds = nanoseconds.saturating_sub(waited);
            }
        }
        Ok(self.all.record(nanoseconds)?)
    }
}

fn note(figures: &mut Figures, what: &str, times: Result<Times>) -> Result<()> {
    match times {
        Ok(times) => {
            for (name, percentile) in PERCENTILES {
                let nanoseconds = times.all.value_at_percentile(percentile) as f64;
                figures.note(&format!("latency_{what}_{name}"), Ok(nanoseconds))?;
            }
            let longest = times.longest as f64;
            figures.note(&format!("latency_{what}_{WALL}"), Ok(longest))
        }
        Err(Error::Refused(reason)) => {
            figures.note(&format!("latency_{what}_max"), Err(Error::Refused(reason)))
        }
        Err(error) => Err(error),
    }
}

/// Returns the time of each put, or of as many as the time allows.
fn puts(
    store: &mut impl Store,
    numbers: impl Iterator<Item = u64>,
    turn: u64,
    value: usize,
) -> Result<Times> {
    let (began, mut times) = (Instant::now(), Times::new()?);
    in_batches(numbers, turn, value, |batch| {
        for (key, value) in batch.items() {
            let start = Instant::now();
            if turn > 0 && start - began > PATIENCE {
                break;
            }
            store.put(key, value)?;
            times.record(start.elapsed())?;
        }
        Ok(())
    })?;
    Ok(times)
}

/// Returns what the clock shows if nothing is done: what the machine adds to the times above.
fn pauses() -> Result<Times> {
    let mut times = Times::new()?;
    let began = Instant::now();
    let mut last = began;
    while last - began < PAUSES {
        times.record(last.elapsed())?;
        last = Instant::now();
    }
    Ok(times)
}

fn gets(store: &mut impl Store, entries: u64, count: u64) -> Result<Times> {
    let (mut sum, mut times) = (0, Times::new()?);
    for key in keys_to_get(entries, count, 0).iter() {
        let start = Instant::now();
        hit(store.get(key, |value| sum ^= consume(value))?)?;
        times.record(start.elapsed())?;
    }
    std::hint::black_box(sum);
    Ok(times)
}

/// Another process writes if the store permits it, otherwise a thread.
fn gets_beside_a_writer<S: Store>(mut store: S, plan: &Plan, dir: &Path) -> Result<Times> {
    let (entries, count) = (plan.size.entries, 2 * plan.reads());
    if S::SHARING.has_readers_beside_a_writer() {
        if S::SHARING.lasts() {
            // An open handle that holds the lock would stop the other process from writing.
            store.close()?;
            store = S::open(dir, Access::Read, entries)?;
        }
        let mut writer = Peer::start(plan, dir, Access::Write)?;
        writer.tell("write")?;
        let times = gets(&mut store, entries, count);
        writer.ask("stop")?;
        store.close()?;
        return times;
    }
    let (another, stop) = (store.another()?, AtomicBool::new(false));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let until = || stop.load(Ordering::Relaxed);
            write_until(&mut another()?, entries, plan.size.value, until)
        });
        let times = gets(&mut store, entries, count);
        stop.store(true, Ordering::Relaxed);
        let panicked = || Error::Failed("the writing thread panicked".to_owned());
        writer.join().map_err(|_| panicked())??;
        times
    })
}
