//! Gets of present and absent keys, and listing; one thread.

use std::hint::black_box;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Zipf};

use crate::figures::Figures;
use crate::keys::{Key, Keys, consume, mix};
use crate::plan::Plan;
use crate::store::{Error, Result, Store};

use super::{get_each, hit, keys_to_get, numbers, time, turns};

/// Keys in one call.
const SEVERAL: usize = 16;
/// The exponent by which frequent keys come more often.
const SKEW: f64 = 0.99;

/// Reads as the workloads will, so that all they need is in memory and in the store's own caches.
pub(super) fn warm(store: &mut impl Store, plan: &Plan) -> Result<()> {
    get_each(store, &keys_to_get(plan.size.entries, plan.reads(), !0))
}

pub(super) fn measure(store: &mut impl Store, plan: &Plan, figures: &mut Figures) -> Result<()> {
    warm(store, plan)?;
    let (entries, count) = (plan.size.entries, plan.reads());
    let mut note = |name: &str, figure: &mut dyn FnMut() -> Result<f64>| {
        if !plan.asks_for(name) {
            return Ok(());
        }
        figures.note(name, figure())
    };
    note("get_dependent", &mut || dependent(store, entries, count))?;
    note("get", &mut || independent(store, entries, count))?;
    note("get_made", &mut || made(store, entries, count))?;
    note("get_zipf", &mut || zipf(store, entries, count))?;
    note("get_16", &mut || several(store, entries, count))?;
    note("miss", &mut || miss(store, entries, count))?;
    note("contains", &mut || contains(store, entries, count))?;
    note("list", &mut || list(store, entries))
}

fn independent(store: &mut impl Store, entries: u64, count: u64) -> Result<f64> {
    turns(|turn| {
        let keys = keys_to_get(entries, count, turn);
        time(count, || get_each(store, &keys))
    })
}

/// The position of the next key depends on the last value, so that one get ends before the next
/// begins. The keys are still read in their order: only the dependence is measured, not another
/// cache miss for each key.
fn dependent(store: &mut impl Store, entries: u64, count: u64) -> Result<f64> {
    // The compiler must not know that this is zero.
    let nothing = black_box(0);
    turns(|turn| {
        let keys = keys_to_get(entries, count, turn + 50);
        time(count, || {
            let mut last = 0;
            for step in 0..keys.len() {
                let key = keys.at(step + (last & nothing) as usize);
                hit(store.get(key, |value| last = consume(value))?)?;
            }
            black_box(last);
            Ok(())
        })
    })
}

/// Each key is made just before the call. The store cannot load it until its stores have retired,
/// so that no two gets overlap.
fn made(store: &mut impl Store, entries: u64, count: u64) -> Result<f64> {
    turns(|turn| {
        time(count, || {
            let mut sum = 0;
            for number in numbers(entries, count, turn) {
                let key = Key::new(number);
                hit(store.get(key.bytes(), |value| sum ^= consume(value))?)?;
            }
            black_box(sum);
            Ok(())
        })
    })
}

/// Some keys come much more often than others.
fn zipf(store: &mut impl Store, entries: u64, count: u64) -> Result<f64> {
    let ranks = Zipf::new(entries as f64, SKEW)?;
    turns(|turn| {
        let mut random = SmallRng::seed_from_u64(turn);
        let keys = Keys::of((0..count).map(|_| mix(ranks.sample(&mut random) as u64) % entries));
        time(count, || get_each(store, &keys))
    })
}

/// Per key.
fn several(store: &mut impl Store, entries: u64, count: u64) -> Result<f64> {
    let count = count - count % SEVERAL as u64;
    turns(|turn| {
        let keys = keys_to_get(entries, count, turn);
        time(count, || {
            let mut sum = 0;
            for first in (0..keys.len()).step_by(SEVERAL) {
                let asked: [&[u8]; SEVERAL] = std::array::from_fn(|at| keys.at(first + at));
                let found = store.get_many(&asked, |value| sum ^= consume(value))?;
                hit(found == SEVERAL)?;
            }
            black_box(sum);
            Ok(())
        })
    })
}

fn miss(store: &mut impl Store, entries: u64, count: u64) -> Result<f64> {
    turns(|turn| {
        let keys = Keys::absent(numbers(entries, count, turn));
        time(count, || {
            let mut sum = 0;
            for key in keys.iter() {
                if store.get(key, |value| sum ^= consume(value))? {
                    return Err(Error::Failed(
                        "a key was found that was never put".to_owned(),
                    ));
                }
            }
            black_box(sum);
            Ok(())
        })
    })
}

fn contains(store: &mut impl Store, entries: u64, count: u64) -> Result<f64> {
    turns(|turn| {
        let keys = keys_to_get(entries, count, turn);
        time(count, || {
            keys.iter().try_for_each(|key| hit(store.contains(key)?))
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
