//! Overwriting and deleting, just after a sync and in steady state; one thread.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::figures::Figures;
use crate::keys::Keys;
use crate::plan::Plan;
use crate::store::{Result, Sharing, Store};

use super::{TURNS, in_batches, numbers, sync_all, time, time_puts, turns};

/// The overwrites that lead to the steady state end after this time at the latest.
const PATIENCE: Duration = Duration::from_secs(10);
/// Overwrites and deletions of one turn, as a fraction of the entries.
const PART: u64 = 8;
/// The values of the overwrites that lead to the steady state.
pub(super) const STEADY_TURN: u64 = 1_000;

pub(super) fn measure<S: Store>(
    store: &mut S,
    plan: &Plan,
    dir: &Path,
    figures: &mut Figures,
) -> Result<()> {
    let sync = |store: &mut S| match S::SHARING {
        Sharing::Memory => Ok(()),
        _ => sync_all(store, dir),
    };
    let (entries, value) = (plan.size.entries, plan.size.value);
    let count = entries / PART;
    let overwrite = |store: &mut S, turn: u64| {
        let chosen = numbers(entries, count, !turn);
        time_puts(store, (chosen, count), turn + 1, value)
    };
    let delete = |store: &mut S, turn: u64| {
        let part = count / TURNS;
        let keys = Keys::of(part * turn..part * (turn + 1));
        time(part, || keys.iter().try_for_each(|key| store.delete(key)))
    };
    let synced = turns(|turn| {
        sync(store)?;
        overwrite(store, turn)
    });
    figures.note("overwrite_synced", synced)?;
    sync(store)?;
    reach_steady_state(store, entries, value)?;
    figures.note("overwrite", turns(|turn| overwrite(store, TURNS + turn)))?;
    figures.note("delete", turns(|turn| delete(store, turn)))?;
    let synced = turns(|turn| {
        sync(store)?;
        delete(store, TURNS + turn)
    });
    figures.note("delete_synced", synced)
}

/// Overwrites one and a half times as many keys as there are, so that a store that cleans late has
/// begun to.
pub(super) fn reach_steady_state(store: &mut impl Store, entries: u64, value: usize) -> Result<()> {
    let began = Instant::now();
    let count = entries + entries / 2;
    in_batches(
        numbers(entries, count, !(2 * TURNS)),
        STEADY_TURN,
        value,
        |batch| {
            if began.elapsed() > PATIENCE {
                return Ok(());
            }
            store.put_many(batch)
        },
    )
}
