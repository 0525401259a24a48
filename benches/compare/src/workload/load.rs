//! Puts of new keys, into a store that grows from nothing.

use std::path::Path;

use crate::clock::Clock;
use crate::figures::Figures;
use crate::plan::{Plan, Workload};
use crate::store::{Access, Error, Result, Store};

use super::{in_batches, space};

/// How often the disk usage is read between half of the entries and all.
const SAMPLES: u64 = 64;

pub(super) fn fill(store: &mut impl Store, plan: &Plan) -> Result<()> {
    let all = 0..plan.size.entries;
    in_batches(all, 0, plan.size.value, |batch| store.put_many(batch))
}

/// A store of its own, removed afterwards.
pub(super) fn by_thousand<S: Store>(plan: &Plan) -> Result<f64> {
    if !S::BATCHES {
        return Err(Error::Refused("gains nothing by putting several at once"));
    }
    let dir = super::fresh(plan, "batches")?;
    let mut store = S::open(&dir, Access::Create, plan.size.entries)?;
    let mut elapsed = 0;
    in_batches(0..plan.size.entries, 0, plan.size.value, |batch| {
        let clock = Clock::start()?;
        store.put_many(batch)?;
        elapsed += clock.elapsed()?;
        Ok(())
    })?;
    store.close()?;
    std::fs::remove_dir_all(&dir)?;
    Ok(elapsed as f64 / plan.size.entries as f64)
}

/// The store that all other workloads use. It is filled in batches unless single puts are to be
/// measured.
pub(super) fn one_by_one<S: Store>(plan: &Plan, dir: &Path, figures: &mut Figures) -> Result<S> {
    let mut store = S::open(dir, Access::Create, plan.size.entries)?;
    if !plan.wants_any(&[Workload::Load, Workload::Space]) {
        fill(&mut store, plan)?;
        return Ok(store);
    }
    let entries = plan.size.entries;
    let (mut elapsed, mut per_entry) = (0.0, Vec::new());
    let mut from = 0;
    for stop in (SAMPLES..=2 * SAMPLES).map(|sample| entries * sample / (2 * SAMPLES)) {
        let count = stop - from;
        if count == 0 {
            continue;
        }
        let each = super::time_puts(&mut store, (from..stop, count), 0, plan.size.value)?;
        elapsed += each * count as f64;
        from = stop;
        per_entry.push(space::disk(dir)? as f64 / stop as f64);
    }
    if plan.wants(Workload::Load) {
        figures.note("put", Ok(elapsed / entries as f64))?;
    }
    if plan.wants(Workload::Space) {
        let on_disk =
            |bytes| super::asked(S::SHARING, S::SHARING != super::Sharing::Memory).map(|()| bytes);
        let mean = per_entry.iter().sum::<f64>() / per_entry.len() as f64;
        figures.note("disk_growth", on_disk(mean))?;
    }
    Ok(store)
}
