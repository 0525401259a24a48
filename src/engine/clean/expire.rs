//! Removes expired entries of a `Cache` in the order of the index, a few slots at a time.
//!
//! Cleaning drops expired entries too, but only where dead records give it a reason to run. The slot
//! says which entries seem expired; the record decides. May call `write::put` and everything below
//! it.

use std::sync::Arc;

use crate::error::Result;
use crate::os::clock::unix_millis;

use crate::engine::clean::retention::Validity;
use crate::engine::clean::validity::Judge;
use crate::engine::generation::Generation;
use crate::engine::statistics::Counter;
use crate::engine::write::mutator::{Mutator, Target, WriteResult};
use crate::engine::write::{cache_words, put};

/// Slots that a write looks at, on average.
const SLOTS: u32 = 10;
/// Writes of which one looks at the slots of all: neighbours come with one cache miss.
const WRITES: u32 = 16;

/// Looks at some slots after a write.
#[inline]
pub(crate) fn after_write(mutator: &mut Mutator) -> WriteResult<()> {
    if !mutator.generation.is_cache() {
        return Ok(());
    }
    mutator.writes = mutator.writes.wrapping_add(1);
    if !mutator.writes.is_multiple_of(WRITES) {
        return Ok(());
    }
    sweep(mutator, u64::from(SLOTS * WRITES)).map(|_| ())
}

/// Removes the expired entries among the next `slots` slots. Returns how many there were.
pub(crate) fn sweep(mutator: &mut Mutator, slots: u64) -> WriteResult<u64> {
    let generation = Arc::clone(&mutator.generation);
    let Some(judge) = Judge::of(&generation) else {
        return Ok(0);
    };
    let now = unix_millis();
    let all = all_slots(&generation);
    let from = generation.header().sweep_slot() % all.max(1);
    let until = from.saturating_add(slots).min(all);
    let mut removed = 0;
    for number in from..until {
        let is_wanted = |deadline| is_over(deadline, now);
        let Some(target) = entry_at(&generation, number as u32, is_wanted)? else {
            continue;
        };
        if remove_if_over(mutator, &generation, &target, &judge)? {
            removed += 1;
        }
    }
    cache_words::set_sweep_slot(generation.header(), until % all.max(1));
    Ok(removed)
}

/// Removes the expired entries among all slots; with `reads_all` also those whose records say that they
/// have ended and whose slots do not. Returns how many there were.
pub(crate) fn sweep_all(mutator: &mut Mutator, reads_all: bool) -> WriteResult<u64> {
    let generation = Arc::clone(&mutator.generation);
    let Some(judge) = Judge::of(&generation) else {
        return Ok(0);
    };
    let now = unix_millis();
    let mut removed = 0;
    for number in 0..all_slots(&generation) {
        let is_wanted = |deadline| reads_all || is_over(deadline, now);
        let Some(target) = entry_at(&generation, number as u32, is_wanted)? else {
            continue;
        };
        if remove_if_over(mutator, &generation, &target, &judge)? {
            removed += 1;
        }
    }
    Ok(removed)
}

/// Returns whether the deadline of a slot has passed; 0 is none.
fn is_over(deadline: u64, now: u64) -> bool {
    deadline != 0 && deadline <= now
}

/// Returns the slots of all regions.
pub(crate) fn all_slots(generation: &Generation) -> u64 {
    let slots = u64::from(generation.table.geometry().region_slots);
    generation
        .table
        .refreshed_regions()
        .min(generation.header().counters().regions)
        * slots
}

/// Returns the entry in a slot, if its deadline is wanted.
#[inline]
fn entry_at(
    generation: &Generation,
    number: u32,
    is_wanted: impl Fn(u64) -> bool,
) -> Result<Option<Target<'_>>> {
    let (region, index) = generation.table.slot_home(number);
    let home = generation.table.region(region)?;
    if home.control(index) < 0x80 || !home.stamp().is_live() {
        return Ok(None);
    }
    let slot = home.slot(index);
    let link = slot.link();
    let deadline = slot.deadline();
    if !link.is_entry() || !is_wanted(deadline) {
        return Ok(None);
    }
    let target = Target {
        region,
        index,
        slot,
        link,
        record: None,
    };
    Ok(Some(target))
}

/// Removes an entry whose record says too that it is expired, or that it is invalidated. A rebuild from
/// the heap may bring it back: it has ended then as well, so it has no deletion record. Not so if the clock
/// is set back, or stale entries are served longer; but never after a removal by a caller.
fn remove_if_over(
    mutator: &mut Mutator,
    generation: &Generation,
    target: &Target<'_>,
    judge: &Judge,
) -> WriteResult<bool> {
    let place = target.link.addr();
    let (mut key, mut value) = (Vec::new(), Vec::new());
    let found = match mutator.segment(place.segment)? {
        Some(segment) => segment.read_any(place.unit, &mut key, Some(&mut value))?,
        None => None,
    };
    let Some(record) = found else {
        return Ok(false);
    };
    let counter = match judge.judge(mutator, (place, &record), &key, &value)? {
        Validity::Expired => Counter::Expired,
        Validity::Invalidated => Counter::Invalidated,
        _ => return Ok(false),
    };
    // E3: a removal by a caller from here on appends a deletion record.
    cache_words::note_evicted(generation.header(), place.segment);
    put::drop_entry(generation, target, record.stored_bytes())?;
    mutator.mark_record_dead(place, record);
    mutator.note_removal(counter, &key, record.value_len);
    Ok(true)
}
