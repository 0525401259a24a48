//! Puts of new keys, into a store that grows from nothing.

use std::path::Path;

use crate::clock::Clock;
use crate::figures::Figures;
use crate::keys::{Batch, Key, Values};
use crate::plan::{Plan, Workload};
use crate::store::{Access, Error, Result, Store};

use super::space;

const BATCH: u64 = 1_000;
/// Times that the disk is looked at between half of the entries and all.
const SAMPLES: u64 = 64;

fn in_batches(store: &mut impl Store, plan: &Plan) -> Result<()> {
    let (mut batch, mut values) = (Batch::default(), Values::new(plan.size.value));
    for start in (0..plan.size.entries).step_by(BATCH as usize) {
        let end = (start + BATCH).min(plan.size.entries);
        batch.make(start..end, 0, &mut values);
        store.put_many(&batch)?;
    }
    Ok(())
}

/// A store of its own, thrown away afterwards.
pub(super) fn by_thousand<S: Store>(plan: &Plan) -> Result<f64> {
    if !S::BATCHES {
        return Err(Error::Refused("gains nothing by putting several at once"));
    }
    let dir = super::fresh(plan, "batches")?;
    let mut store = S::open(&dir, Access::Create, plan.size.entries)?;
    let time = super::time(plan.size.entries, || in_batches(&mut store, plan))?;
    store.close()?;
    std::fs::remove_dir_all(&dir)?;
    Ok(time)
}

/// The store that all other workloads use. Where nobody wants to know how long single puts take, it
/// is filled in batches.
pub(super) fn one_by_one<S: Store>(plan: &Plan, dir: &Path, figures: &mut Figures) -> Result<S> {
    let mut store = S::open(dir, Access::Create, plan.size.entries)?;
    if !plan.wants_any(&[Workload::Load, Workload::Space]) {
        in_batches(&mut store, plan)?;
        return Ok(store);
    }
    let entries = plan.size.entries;
    let mut values = Values::new(plan.size.value);
    let (mut elapsed, mut per_entry) = (0, Vec::new());
    let mut from = 0;
    for stop in (SAMPLES..=2 * SAMPLES).map(|sample| entries * sample / (2 * SAMPLES)) {
        let clock = Clock::start()?;
        for number in from..stop {
            store.put(Key::new(number).bytes(), values.of(number, 0))?;
        }
        elapsed += clock.elapsed()?;
        from = stop;
        per_entry.push(space::disk(dir)? as f64 / stop as f64);
    }
    if plan.wants(Workload::Load) {
        figures.note("put", Ok(elapsed as f64 / entries as f64))?;
    }
    if plan.wants(Workload::Space) {
        let on_disk =
            |bytes| super::asked(S::SHARING, S::SHARING != super::Sharing::Memory).map(|()| bytes);
        let mean = per_entry.iter().sum::<f64>() / per_entry.len() as f64;
        figures.note("disk_growth", on_disk(mean))?;
    }
    Ok(store)
}
