//! How long single puts and gets take at worst: while the store grows, while it cleans up behind
//! overwriting, and while somebody else writes.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::figures::Figures;
use crate::keys::{Key, Values, consume, mix};
use crate::peer::Peer;
use crate::plan::Plan;
use crate::store::{Access, Error, Result, Sharing, Store};

use super::sharing::write_until;
use super::{hit, overwrite};

/// How long the machine's own pauses are looked for.
const PAUSES: Duration = Duration::from_secs(3);

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
    let mut values = Values::new(plan.size.value);
    if S::SHARING == Sharing::Memory {
        note(figures, "nothing", Ok(pauses()?))?;
    }
    let mut store = S::open(&dir, Access::Create, entries)?;
    let growing = each(entries, |number| {
        store.put(Key::new(number).bytes(), values.of(number, 0))
    });
    note(figures, "put", growing)?;
    let cleaning = each(entries * 2, |step| {
        overwrite(&mut store, entries, step, &mut values)
    });
    note(figures, "overwrite", cleaning)?;
    note(figures, "get", gets_beside_a_writer(store, plan, &dir))?;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

fn note(figures: &mut Figures, what: &str, times: Result<Histogram<u64>>) -> Result<()> {
    match times {
        Ok(times) => PERCENTILES.into_iter().try_for_each(|(name, percentile)| {
            let nanoseconds = times.value_at_percentile(percentile) as f64;
            figures.note(&format!("latency_{what}_{name}"), Ok(nanoseconds))
        }),
        Err(Error::Refused(reason)) => {
            figures.note(&format!("latency_{what}_max"), Err(Error::Refused(reason)))
        }
        Err(error) => Err(error),
    }
}

/// The time of each operation by itself.
fn each(count: u64, mut run: impl FnMut(u64) -> Result<()>) -> Result<Histogram<u64>> {
    let mut times = Histogram::new(3)?;
    let mut last = Instant::now();
    for step in 0..count {
        run(step)?;
        let now = Instant::now();
        times.record((now - last).as_nanos() as u64)?;
        last = now;
    }
    Ok(times)
}

/// What the clock shows where nothing is done: what the machine itself adds to the times above.
fn pauses() -> Result<Histogram<u64>> {
    let mut times = Histogram::new(3)?;
    let start = Instant::now();
    let mut last = start;
    while last - start < PAUSES {
        let now = Instant::now();
        times.record((now - last).as_nanos() as u64)?;
        last = now;
    }
    Ok(times)
}

fn gets(store: &mut impl Store, entries: u64, count: u64) -> Result<Histogram<u64>> {
    let mut sum = 0;
    let times = each(count, |step| {
        let key = Key::new(mix(step) % entries);
        hit(store.get(key.bytes(), |value| sum ^= consume(value))?)
    });
    std::hint::black_box(sum);
    times
}

/// Another process writes where the store permits it, a thread otherwise.
fn gets_beside_a_writer<S: Store>(mut store: S, plan: &Plan, dir: &Path) -> Result<Histogram<u64>> {
    let (entries, count) = (plan.size.entries, 2 * plan.reads());
    if S::SHARING.has_readers_beside_a_writer() {
        if S::SHARING.lasts() {
            // Who holds the lock would keep the other process from writing.
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
