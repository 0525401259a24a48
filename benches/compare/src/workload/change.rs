//! Overwriting and deleting; one thread.

use std::time::{Duration, Instant};

use crate::figures::Figures;
use crate::keys::{Batch, Key, Values, mix};
use crate::plan::Plan;
use crate::store::{Result, Store};

use super::{TURNS, overwrite, time, turns};

/// How long overwriting is rehearsed at most.
const REHEARSAL: Duration = Duration::from_secs(10);

pub(super) fn measure(store: &mut impl Store, plan: &Plan, figures: &mut Figures) -> Result<()> {
    let entries = plan.size.entries;
    let mut values = Values::new(plan.size.value);
    rehearse(store, entries, &mut values)?;
    let count = entries / 4;
    let overwriting = turns(|turn| {
        time(count, || {
            (count * turn..count * (turn + 1))
                .try_for_each(|step| overwrite(store, entries, step, &mut values))
        })
    });
    figures.note("overwrite", overwriting)?;
    let part = entries / 4 / TURNS;
    let deleting = turns(|turn| {
        time(part, || {
            (part * turn..part * (turn + 1))
                .try_for_each(|number| store.delete(Key::new(number).bytes()))
        })
    });
    figures.note("delete", deleting)
}

/// Overwrites one and a half times as many keys as there are, so that stores that put off their
/// cleaning have begun with it.
fn rehearse(store: &mut impl Store, entries: u64, values: &mut Values) -> Result<()> {
    let began = Instant::now();
    let mut batch = Batch::default();
    for first in (0..entries + entries / 2).step_by(1_000) {
        if began.elapsed() > REHEARSAL {
            break;
        }
        let numbers = (first..first + 1_000).map(|step| mix(step) % entries);
        batch.make(numbers, first, values);
        store.put_many(&batch)?;
    }
    Ok(())
}
