//! Consistency checks on the changing words of an index header.
//!
//! May call `generation` and everything below it.

use crate::error::Corruption;
use crate::format::index::{Counters, word};
use crate::format::segment::first_place;
use crate::index::redo::RedoState;

use crate::engine::generation::Generation;
use crate::engine::version::Version;

/// More heap bytes than a cache can ever have.
const HEAP_BYTES: u64 = 1 << 62;

/// Returns the first inconsistency of the header's changing words, and the word that has it; `None`
/// if the header is consistent.
pub(crate) fn inconsistency(generation: &Generation) -> Option<(Corruption, usize)> {
    let header = generation.header();
    // If a change was killed half-way, some counters are as before it and some as after it.
    let counters = match header.redo() {
        RedoState::Committed(redo) => redo.after(),
        RedoState::Cleared | RedoState::Corrupt => header.counters(),
    };
    in_counters(generation, &counters).or_else(|| in_heap_words(generation, &counters))
}

fn in_counters(generation: &Generation, counters: &Counters) -> Option<(Corruption, usize)> {
    let table = &generation.table;
    let slots = counters
        .regions
        .saturating_mul(u64::from(table.geometry().region_slots));
    let readable = u64::from(generation.readable_positions(counters.roster_len));
    if counters.regions == 0 || counters.regions > table.refreshed_regions() {
        Some((Corruption::RegionCount, word::REGIONS))
    } else if counters.roster_len != readable || counters.hole_head > counters.roster_len {
        let what = Corruption::RosterLength;
        Some((what, word::ROSTER_LEN))
    } else if counters.occupied > counters.roster_len
        || counters.deleted > slots
        || counters.high_water > slots
    {
        Some((Corruption::EntryCount, word::OCCUPIED))
    } else {
        None
    }
}

fn in_heap_words(generation: &Generation, counters: &Counters) -> Option<(Corruption, usize)> {
    let header = generation.header();
    let tail = header.tail();
    let heap = header.heap_base().saturating_add(tail.bytes());
    if counters.live > heap || heap > HEAP_BYTES {
        Some((Corruption::LiveBytes, word::LIVE))
    } else if tail < first_place(tail.segment) {
        // The next record would overwrite the segment's header, and no link could lead to it.
        Some((Corruption::HeapEnd, word::TAIL))
    } else if header
        .checked_oldest()
        .is_none_or(|oldest| oldest > tail.segment)
    {
        Some((Corruption::OldestSegment, word::OLDEST))
    } else if header.sync_error() > 1 {
        Some((Corruption::SyncErrorMark, word::SYNC_ERROR))
    } else if header.last_version() > Version::MAX {
        Some((Corruption::LastVersion, word::LAST_MTIME))
    } else {
        None
    }
}
