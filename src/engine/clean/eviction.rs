//! Makes room in a `Cache`: before a put, after it, on a full disk, and when a caller asks.
//!
//! Walks the oldest segments, as cleaning does, and removes those that are empty then. May call
//! `write::session`, `clean::{evacuate, expire}` and everything below them.

use std::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::format::record::HEADER_BYTES;
use crate::format::segment::first_place;
use crate::format::settings::Bound;
use crate::os::clock::unix_millis;
use crate::sync::Relaxed;

use crate::engine::clean::bound::{self, disk_bytes};
use crate::engine::clean::retention::Retention;
use crate::engine::clean::{evacuate, expire, reclaim, state};
use crate::engine::switch;
use crate::engine::write::mutator::{Mutator, WriteResult};
use crate::engine::write::session::Session;

/// Bytes that a write walks at least.
const WALK: u64 = 16 * 1024;
/// Bytes that a write walks for each byte that it appends: half of what it meets goes at least.
const EFFORT: u64 = 4;
/// Bytes of a walk within a call that makes room.
const STRIDE: u64 = 256 * 1024;
/// Walks of a write at most, if there are more entries than there may be.
const NUMBER_WALKS: u32 = 64;
/// Bytes that a put walks at most, for each byte of it and on top, if the files are far beyond the
/// bound: it was lowered.
const SHRINK_EFFORT: u64 = 8;
const SHRINK: u64 = 4 << 20;
/// Writes after which an index that was built again and is still too large may be built once more.
const SHRINK_PAUSE: u64 = 4096;

/// Makes room for a record with a key and a value of these lengths, if the cache is bounded.
///
/// # Errors
///
/// [`ErrorKind::ValueTooLarge`] for a record above a sixteenth of the bound; [`ErrorKind::CacheFull`]
/// if nothing may be evicted.
#[inline]
pub(crate) fn before_put(session: &mut Session<'_>, key: usize, value: usize) -> Result<()> {
    if !session.mutator.generation.is_cache() {
        return Ok(());
    }
    let Some(bound) = session.mutator.generation.bound() else {
        return Ok(());
    };
    let fixed = (HEADER_BYTES + key) as u64;
    let bytes = (fixed + value as u64).next_multiple_of(8);
    if bytes > bound.longest_record() {
        return Err(ErrorKind::ValueTooLarge {
            len: value,
            max: bound.longest_record().saturating_sub(fixed),
        }
        .at(&session.handle.path));
    }
    if bound::admits(bound, &session.mutator.generation, bytes) {
        return Ok(());
    }
    make_room(session, bound, bytes)
}

/// Cleans and evicts until a record of `bytes` bytes fits.
#[cold]
fn make_room(session: &mut Session<'_>, bound: Bound, bytes: u64) -> Result<()> {
    if bound::refuses(&session.mutator.generation) {
        return free_room(session, bound, bytes);
    }
    let before = disk_bytes(&session.mutator.generation);
    let was_lowered = before > bound.0.saturating_add(bound.step());
    let enough = SHRINK.saturating_add(SHRINK_EFFORT.saturating_mul(bytes));
    let all = 3 * before / STRIDE + 16;
    for stride in 0..all {
        // What is evacuated goes first.
        session.run(reclaim::reclaim_all)?;
        session.await_releases();
        if stride % 16 == 0 {
            shrink_index(session)?;
        }
        if bound::admits(bound, &session.mutator.generation, bytes) {
            return Ok(());
        }
        // A lower bound is reached step by step.
        if was_lowered && stride * STRIDE >= enough {
            return Ok(());
        }
        session.run(|mutator| {
            let mut retention = bound::retention_for_room(mutator);
            // What is used most goes too if all of it is used.
            retention.ignores_marks |= stride > all / 16;
            evacuate::walk(mutator, STRIDE, retention)
        })?;
    }
    Err(cache_full(session, bound))
}

/// Makes room for a record of `bytes` bytes where nothing may be evicted: of what is dead, and of what
/// has ended. Mostly there is neither, and counters say so.
fn free_room(session: &mut Session<'_>, bound: Bound, bytes: u64) -> Result<()> {
    session.run(reclaim::reclaim_all)?;
    session.await_releases();
    if session.handle.clean_pause.load(Relaxed) == 0 {
        shrink_index(session)?;
    }
    let heap = |session: &Session<'_>| session.mutator.generation.ids.heap;
    let may_free = |session: &Session<'_>| {
        let residue = session.mutator.refusal.residue(heap(session));
        bound::may_admit(bound, &session.mutator, bytes, residue)
    };
    if !may_free(session) {
        remove_ended(session)?;
        if !may_free(session) {
            return Err(cache_full(session, bound));
        }
    }
    // Once through all segments that there are: what they copy has nothing dead in it.
    let last = session.mutator.generation.header().tail().segment;
    let at = |session: &Session<'_>| state::cursor(session.mutator.generation.header());
    for _ in 0..2 * disk_bytes(&session.mutator.generation) / STRIDE + 16 {
        let is_last = at(session).addr.segment > last;
        session.run(reclaim::reclaim_all)?;
        session.await_releases();
        if bound::admits(bound, &session.mutator.generation, bytes) {
            let heap = heap(session);
            session.mutator.refusal.set_residue(heap, 0);
            return Ok(());
        }
        if is_last {
            break;
        }
        session.run(|mutator| evacuate::walk(mutator, STRIDE, Retention::ALL))?;
    }
    let (heap, residue) = (heap(session), reclaim::dead_bytes(&session.mutator));
    session.mutator.refusal.set_residue(heap, residue);
    Err(cache_full(session, bound))
}

/// Removes the entries of a `Cache` that have ended, if some may have since the last call. Returns how
/// many there were. Looks at all slots, so its calls are as far apart as to take a tenth of the time.
pub(crate) fn remove_ended(session: &mut Session<'_>) -> Result<u64> {
    let generation = &session.mutator.generation;
    if !generation.is_cache() {
        return Ok(0);
    }
    let (heap, header) = (generation.ids.heap, generation.header());
    let (invalidations, now) = (header.invalidations(), unix_millis());
    let refusal = session.mutator.refusal;
    if !refusal.is_search_due(heap, invalidations, now) {
        return Ok(0);
    }
    // Nor does a slot say that its entry has another deadline, apart from it.
    let reads_all = header.has_deadlines() || refusal.must_read(heap, invalidations);
    let began = Instant::now();
    let removed = session.run(|mutator| expire::sweep_all(mutator, reads_all))?;
    let refusal = &mut session.mutator.refusal;
    refusal.note_search(heap, invalidations, now, began.elapsed());
    Ok(removed)
}

/// Builds the index again if it takes much of the bound for few entries.
#[inline]
pub(crate) fn shrink_index(session: &mut Session<'_>) -> Result<()> {
    let generation = &session.mutator.generation;
    if !generation.is_cache() || !bound::has_sparse_index(generation) {
        return Ok(());
    }
    session.rearrange(switch::shrink)?;
    if bound::has_sparse_index(&session.mutator.generation) {
        // Its keys need more regions than as many others: no write tries again soon.
        session.handle.clean_pause.store(SHRINK_PAUSE, Relaxed);
    }
    Ok(())
}

#[cold]
fn cache_full(session: &Session<'_>, bound: Bound) -> Error {
    ErrorKind::CacheFull { limit: bound.0 }.at(&session.handle.path)
}

/// Cleans and evicts as much as a write of `written` bytes pays for. Returns whether a limit asked
/// for it.
#[inline]
pub(crate) fn after_write(mutator: &mut Mutator, written: u64) -> WriteResult<bool> {
    if !mutator.generation.is_cache() {
        return Ok(false);
    }
    let bound = mutator.generation.bound();
    let near = bound.is_some_and(|bound| bound::is_near(bound, mutator));
    if !near && !bound::has_too_many(&mutator.generation) {
        return Ok(false);
    }
    let budget = EFFORT.saturating_mul(written).saturating_add(WALK);
    let retention = bound::retention(mutator);
    evacuate::walk(mutator, budget, retention)?;
    if !near {
        evict_number(mutator)?;
    }
    Ok(true)
}

/// Evicts entries until there are few enough.
fn evict_number(mutator: &mut Mutator) -> WriteResult<()> {
    for walked in 0..NUMBER_WALKS {
        if !bound::has_too_many(&mutator.generation) {
            return Ok(());
        }
        let mut retention = bound::retention(mutator);
        retention.ignores_marks |= walked > NUMBER_WALKS / 2;
        evacuate::walk(mutator, STRIDE, retention)?;
    }
    Ok(())
}

/// Evicts the oldest entries of a cache on a full disk, for a change that wants `bytes` bytes. Returns
/// whether a segment was removed. Stores to no new block: what it meets is not moved.
pub(crate) fn make_disk_room(session: &mut Session<'_>, bytes: u64) -> bool {
    let generation = &session.mutator.generation;
    if generation.settings().is_none() || bound::refuses(generation) {
        return false;
    }
    let oldest = |session: &Session<'_>| session.mutator.generation.header().oldest();
    let before = oldest(session);
    let mut freed = 0;
    while freed < bytes.saturating_mul(2).max(STRIDE) {
        let used = disk_bytes(&session.mutator.generation);
        if session.run(evacuate::drop_oldest).is_err() {
            break;
        }
        session.await_releases();
        freed += used.saturating_sub(disk_bytes(&session.mutator.generation));
    }
    oldest(session) != before
}

/// Evicts entries until the files take at most `bytes` bytes. Returns the bytes that they take less.
pub(crate) fn evict_to(session: &mut Session<'_>, bytes: u64) -> Result<u64> {
    let before = disk_bytes(&session.mutator.generation);
    let all = 3 * before / STRIDE + 16;
    for stride in 0..all {
        session.run(reclaim::reclaim_all)?;
        let now = disk_bytes(&session.mutator.generation);
        let header = session.mutator.generation.header();
        // Of an empty heap nothing can go.
        let tail = header.tail();
        let is_empty = header.oldest() == tail.segment && tail == first_place(tail.segment);
        if now <= bytes || is_empty {
            break;
        }
        session.run(|mutator| {
            let limits = bound::retention(mutator);
            let retention = Retention {
                most_live: 0,
                ignores_marks: limits.ignores_marks || stride > all / 3,
                ..Retention::ALL
            };
            evacuate::walk(mutator, STRIDE, retention)
        })?;
    }
    session.publish_generation();
    Ok(before.saturating_sub(disk_bytes(&session.mutator.generation)))
}
