//! What is on the disk: syncing the heap, and remembering up to where that was done.
//!
//! This file alone stores `synced_to`, `frozen_to`, `flushed` and the mark of a failed sync, except what a
//! background sync raises without the lock (L3). May call `clean::state`, the mutator and
//! everything below them.

use std::sync::Arc;

use crate::error::{ErrorKind, Result};
use crate::format::heap_addr::HeapAddr;
use crate::format::segment::first_place;
use crate::heap::Segment;
use crate::index::header::Header;

use crate::engine::clean::state;
use crate::engine::generation::Generation;
use crate::engine::write::mutator::Mutator;

/// Writes all records to the disk that may not be there yet.
///
/// An error is remembered in the header: the system has dropped the pages, and a later sync that
/// succeeds proves nothing.
pub(crate) fn sync_heap(mutator: &mut Mutator) -> Result<()> {
    let tail = mutator.generation.header().tail();
    let segments = unsynced_segments(mutator)?;
    // W2: from before the sync on.
    freeze(&mutator.generation, tail);
    for segment in &segments {
        let synced = segment.file().sync();
        mutator.generation.header().note_sync(synced)?;
    }
    let header = mutator.generation.header();
    if !header.is_flushed() {
        // Nothing of a new cache was synced but its index. What is flushed needs the roster's header
        // and all names.
        header.note_sync(mutator.generation.roster.file().sync())?;
        header.note_sync(mutator.names.sync_dirs())?;
    } else if header.synced_to().segment != tail.segment {
        // The names of segments that were begun since.
        header.note_sync(mutator.names.sync_heap_dir())?;
    }
    set_all_synced(header, tail);
    if state::has_evacuated(header) {
        state::note_replaced(header);
    }
    Ok(())
}

/// W2: stores that no record before a place is overwritten where it is any more: it is about to be synced,
/// or copied, or another generation has it too. The place only rises.
pub(crate) fn freeze(generation: &Generation, place: HeapAddr) {
    if !generation.is_in_place() {
        return;
    }
    let header = generation.header();
    // A corrupt word permits nothing, and what it permitted is not known.
    let known = header.frozen_to();
    let frozen = known.unwrap_or(header.tail()).max(place);
    if known != Some(frozen) {
        header.durability_words().set_frozen_to(frozen);
    }
}

/// Returns the segments with records that may not be on the disk yet.
pub(crate) fn unsynced_segments(mutator: &mut Mutator) -> Result<Vec<Arc<Segment>>> {
    let header = mutator.generation.header();
    if header.sync_failed() {
        return Err(ErrorKind::SyncFailed.at(&mutator.names.cache()));
    }
    let synced = header.synced_to();
    let (oldest, tail) = (header.oldest(), header.tail());
    let from = match header.is_flushed() {
        false => oldest,
        true if synced == tail => return Ok(Vec::new()),
        true => synced.segment.max(oldest),
    };
    let unsynced = from..=tail.segment;
    for number in unsynced.clone() {
        mutator.segment(number)?;
    }
    let mapped = mutator.generation.segments();
    let there = mapped.filter(|segment| unsynced.contains(&segment.number()));
    Ok(there.cloned().collect())
}

/// Syncs the removal of a segment. No later segment may be removed before that: it could have the
/// deletion records that keep the entries of this one from coming back.
pub(crate) fn sync_removal(mutator: &Mutator) -> Result<()> {
    let header = mutator.generation.header();
    // H4: the removals of all segments before are synced, once the cache was flushed.
    if header.is_flushed() {
        header.note_sync(mutator.names.sync_heap_dir())?;
    }
    Ok(())
}

/// Stores that all records before `tail` are on the disk, and that the cache was flushed.
pub(crate) fn set_all_synced(header: Header<'_>, tail: HeapAddr) {
    debug_assert_eq!(tail, header.tail(), "nothing was appended during the sync");
    let words = header.durability_words();
    words.set_synced_to(tail);
    words.set_flushed();
}

/// Stores that the bytes after `tail` are not on the disk as they are now: they were zeroed, and
/// the next sync must write the zeros.
pub(crate) fn take_back_synced(header: Header<'_>, tail: HeapAddr) {
    debug_assert_eq!(tail, header.tail(), "H1: zeros are after the committed end");
    if header.synced_to() == tail {
        let segment = HeapAddr { unit: 0, ..tail };
        header.durability_words().set_synced_to(segment);
    }
}

/// Stores that nothing is known of what was synced of a heap that was found in the directory.
pub(crate) fn forget_synced(header: Header<'_>, oldest: u16) {
    let words = header.durability_words();
    if header.sync_error() > 1 {
        words.set_sync_failed(false);
    }
    words.set_synced_to(first_place(oldest));
}

/// Stores that no sync has failed since the machine was started: what is read now comes from the
/// disk.
pub(crate) fn forget_failed_sync(header: Header<'_>) {
    header.durability_words().set_sync_failed(false);
}

/// Stores that a sync of the heap failed under the index that this one replaces.
pub(crate) fn carry_failed_sync(header: Header<'_>) {
    header.durability_words().set_sync_failed(true);
}
