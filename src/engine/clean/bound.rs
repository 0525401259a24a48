//! The limits of a `Cache`: how many bytes its files take, and when entries must go.
//!
//! The bound is one for all files together. Cleaning, which frees the
//! oldest segment, evicts what it would otherwise move. May call `clean::reclaim`
//! and what is below it.

use crate::format::settings::{Bound, EvictionPolicy, Settings};

use crate::engine::clean::reclaim;
use crate::engine::clean::retention::Retention;
use crate::engine::generation::Generation;
use crate::engine::write::mutator::Mutator;

/// Bytes of a small index and roster beside regions and positions: pages and room ahead.
const AROUND: u64 = 128 << 10;

/// Returns whether a write has to clean for the bound. Segments that only wait for their removal do
/// not count.
pub(crate) fn is_near(bound: Bound, mutator: &Mutator) -> bool {
    let bytes = disk_bytes(&mutator.generation).saturating_add(bound.segment());
    bytes > bound.0 && bytes.saturating_sub(reclaim::evacuated_bytes(mutator)) > bound.0
}

/// Returns whether a record of `bytes` bytes fits, the step included.
#[inline]
pub(crate) fn admits(bound: Bound, generation: &Generation, bytes: u64) -> bool {
    has_room(bound, disk_bytes(generation), bytes)
}

/// Returns whether a record of `bytes` bytes may fit after the dead records are freed, all but `residue`
/// bytes of them.
pub(crate) fn may_admit(bound: Bound, mutator: &Mutator, bytes: u64, residue: u64) -> bool {
    let dead = reclaim::dead_bytes(mutator).saturating_sub(residue);
    let left = disk_bytes(&mutator.generation).saturating_sub(dead);
    has_room(bound, left, bytes)
}

fn has_room(bound: Bound, used: u64, bytes: u64) -> bool {
    let after = used.saturating_add(bytes).saturating_add(bound.ahead());
    after <= bound.0.saturating_add(bound.step() / 2)
}

/// Returns whether insertions that do not fit are refused, and nothing is evicted for them.
pub(crate) fn refuses(generation: &Generation) -> bool {
    let settings = generation.settings();
    settings.is_some_and(|settings| settings.eviction == EvictionPolicy::Refuse)
}

/// Returns the live bytes that the heap may have before entries are evicted. A fifth is left to dead
/// records: moving what lives among fewer of them would cost more than it frees.
fn most_live(bound: Bound, generation: &Generation) -> u64 {
    let others = index_bytes(generation);
    bound.0.saturating_sub(others).max(bound.0 / 16) / 5 * 4
}

/// Returns the bytes of blocks of all files.
pub(crate) fn disk_bytes(generation: &Generation) -> u64 {
    let header = generation.header();
    let last = generation.segment(header.tail().segment);
    let last = last.map_or(0, |segment| segment.allocated());
    let last = last.max(header.tail().bytes());
    let heap = header.heap_base().saturating_add(last);
    heap.saturating_add(index_bytes(generation))
}

/// Returns the bytes of blocks of index and roster.
fn index_bytes(generation: &Generation) -> u64 {
    let positions = generation.header().roster_len();
    let table = generation.table.disk_bytes();
    table.saturating_add(generation.roster.disk_bytes(positions))
}

/// Returns whether the files stay within the bound while all entries are copied into new ones.
pub(crate) fn admits_copy(bound: Bound, generation: &Generation) -> bool {
    let counters = generation.header().counters();
    let copy = counters
        .live
        .saturating_add(bytes_of_new_index(generation, counters.occupied));
    let during = disk_bytes(generation).saturating_add(copy);
    during <= bound.0.saturating_add(bound.step() / 2)
}

/// Returns whether the index of a cache near its bound should be built again, because it is four times
/// as large as its entries need: it was built for more of them, or smaller ones.
pub(crate) fn has_sparse_index(generation: &Generation) -> bool {
    let new = bytes_of_new_index(generation, generation.header().occupied());
    if new.saturating_mul(4) > index_bytes(generation) {
        return false;
    }
    generation.bound().is_some_and(|bound| {
        let (now, most) = (disk_bytes(generation), bound.0.saturating_add(bound.step()));
        let is_near = now.saturating_add(bound.segment()) > bound.0;
        // Both are there for a moment. Beyond the bound there is no other way.
        is_near && (now.saturating_add(new) <= most || now > most)
    })
}

/// Returns the bytes that index and roster take if they are built for so many entries.
fn bytes_of_new_index(generation: &Generation, entries: u64) -> u64 {
    let geometry = generation.table.geometry();
    let per_region = u64::from(geometry.region_slots) * 3 / 4;
    let regions = entries.div_ceil(per_region).max(1).next_power_of_two();
    let bytes = regions.saturating_mul(geometry.region_bytes() as u64 + 8);
    bytes.saturating_add(entries * 4).saturating_add(AROUND)
}

/// Returns what a step of cleaning keeps within the limits.
pub(crate) fn retention(mutator: &Mutator) -> Retention {
    let bound = mutator.generation.bound();
    limits(mutator, bound.filter(|&bound| is_near(bound, mutator)))
}

/// As [`retention`], for a walk that makes room: also if the bound is not near yet.
pub(crate) fn retention_for_room(mutator: &Mutator) -> Retention {
    limits(mutator, mutator.generation.bound())
}

fn limits(mutator: &Mutator, near: Option<Bound>) -> Retention {
    let generation = &mutator.generation;
    let Some(settings) = generation.settings() else {
        return Retention::ALL;
    };
    if settings.eviction == EvictionPolicy::Refuse {
        return Retention::ALL;
    }
    let most_live = near.map_or(u64::MAX, |bound| most_live(bound, generation));
    let most_entries = fewest_entries(&settings).unwrap_or(u64::MAX);
    Retention {
        ignores_marks: settings.eviction == EvictionPolicy::Fifo,
        stops_at_number: near.is_none() && has_too_many(generation),
        room: near.map_or(u64::MAX, |bound| room_to_copy(bound, generation)),
        spares_half: near.is_some_and(|bound| disk_bytes(generation) > bound.0),
        ..Retention::within(most_live, most_entries)
    }
}

/// Returns the bytes that a walk may copy before anything is removed: a segment's at least, or nothing
/// that is used would outlive a lowered bound.
fn room_to_copy(bound: Bound, generation: &Generation) -> u64 {
    let most = bound.0.saturating_add(bound.step());
    let room = most.saturating_sub(disk_bytes(generation));
    room.max(bound.segment())
}

/// Returns down to how many entries a walk evicts: slightly fewer than there may be, so that not
/// every put makes one.
fn fewest_entries(settings: &Settings) -> Option<u64> {
    let most = settings.max_entries;
    (most > 0).then(|| most - (most / 32).min(16))
}

/// Returns whether there are more entries than there may be.
pub(crate) fn has_too_many(generation: &Generation) -> bool {
    generation.settings().is_some_and(|settings| {
        settings.max_entries > 0
            && settings.eviction != EvictionPolicy::Refuse
            && generation.header().occupied() > settings.max_entries
    })
}
