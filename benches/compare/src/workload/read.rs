//! Gets of keys that are there and of keys that are not, and listing; one thread.

use std::hint::black_box;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Zipf};

use crate::figures::Figures;
use crate::keys::{Key, consume, mix};
use crate::plan::Plan;
use crate::store::{Error, Result, Store};

use super::{hit, read_some, time, turns};

/// Keys that are asked for in one call.
const SEVERAL: usize = 16;
/// How much more often the frequent keys come.
const SKEW: f64 = 0.99;

/// Reads as the workloads will, so that what they need is in memory and in the store's own caches.
pub(super) fn warm(store: &mut impl Store, plan: &Plan) -> Result<()> {
    read_some(store, plan.size.entries, plan.reads(), !0)
}

pub(super) fn measure(store: &mut impl Store, plan: &Plan, figures: &mut Figures) -> Result<()> {
    warm(store, plan)?;
    let (entries, count) = (plan.size.entries, plan.reads());
    figures.note("get_dependent", dependent(store, entries, count))?;
    figures.note(
        "get",
        turns(|turn| time(count, || read_some(store, entries, count, turn))),
    )?;
    figures.note("get_zipf", zipf(store, entries, count))?;
    figures.note("get_16", several(store, entries, count))?;
    figures.note("miss", miss(store, entries, count))?;
    figures.note("contains", contains(store, entries, count))?;
    figures.note("list", list(store, entries))
}

/// The next key depends on the last value, so that one get ends before the next begins.
fn dependent(store: &mut impl Store, entries: u64, count: u64) -> Result<f64> {
    turns(|turn| {
        time(count, || {
            let mut last = mix(turn);
            for step in 0..count {
                // The step keeps the walk out of cycles, which would soon lie in the nearest cache.
                let key = Key::new(mix(last ^ step) % entries);
                hit(store.get(key.bytes(), |value| last = consume(value))?)?;
            }
            black_box(last);
            Ok(())
        })
    })
}

/// Some keys come much more often than others. Which, is drawn before the clock starts.
fn zipf(store: &mut impl Store, entries: u64, count: u64) -> Result<f64> {
    let ranks = Zipf::new(entries as f64, SKEW)?;
    turns(|turn| {
        let mut random = SmallRng::seed_from_u64(turn);
        let numbers: Vec<u32> = (0..count)
            .map(|_| (mix(ranks.sample(&mut random) as u64) % entries) as u32)
            .collect();
        time(count, || {
            let mut sum = 0;
            for &number in &numbers {
                let key = Key::new(u64::from(number));
                hit(store.get(key.bytes(), |value| sum ^= consume(value))?)?;
            }
            black_box(sum);
            Ok(())
        })
    })
}

/// Per key.
fn several(store: &mut impl Store, entries: u64, count: u64) -> Result<f64> {
    turns(|turn| {
        let start = mix(turn);
        let mut keys = [Key::new(0); SEVERAL];
        time(count, || {
            let mut sum = 0;
            for first in (0..count).step_by(SEVERAL) {
                for (at, key) in (first..).zip(&mut keys) {
                    *key = Key::new(mix(start ^ at) % entries);
                }
                let found = store.get_many(&keys, |value| sum ^= consume(value))?;
                hit(found == SEVERAL)?;
            }
            black_box(sum);
            Ok(())
        })
    })
}

fn miss(store: &mut impl Store, entries: u64, count: u64) -> Result<f64> {
    turns(|turn| {
        let start = mix(turn);
        time(count, || {
            let mut sum = 0;
            for step in 0..count {
                let key = Key::absent(mix(start ^ step) % entries);
                if store.get(key.bytes(), |value| sum ^= consume(value))? {
                    return Err(Error::Failed("a key was found that nobody put".to_owned()));
                }
            }
            black_box(sum);
            Ok(())
        })
    })
}

fn contains(store: &mut impl Store, entries: u64, count: u64) -> Result<f64> {
    turns(|turn| {
        let start = mix(turn);
        time(count, || {
            for step in 0..count {
                hit(store.contains(Key::new(mix(start ^ step) % entries).bytes())?)?;
            }
            Ok(())
        })
    })
}

/// Per entry.
fn list(store: &mut impl Store, entries: u64) -> Result<f64> {
    turns(|_| {
        time(entries, || {
            let mut sum = 0;
            let count = store.list(|key, value| sum ^= consume(key) ^ consume(value))?;
            black_box(sum);
            hit(count == entries)
        })
    })
}
