//! Reclaiming evacuated segments: unlinking them once what replaces their records is on the disk.
//!
//! The order of stores is such that no power loss brings back what it must not. May call
//! `write::durability`, `clean::{state, background}` and everything below them.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Corruption, Result};
use crate::format::segment::first_place;
use crate::index::header::SyncNotes;
use crate::os::files;

use crate::engine::clean::background::{BackgroundTask, BackgroundTasks};
use crate::engine::clean::state;
use crate::engine::open;
use crate::engine::write::mutator::{Abort, At, EvacuatedBytes, Mutator, WriteResult};
use crate::engine::write::{durability, heap_end};

/// Bytes, above half of the live ones, by which the heap may grow before a write waits for a
/// background task.
const AHEAD: u64 = 64 << 20;
/// Bytes of evacuated segments, above half of the live ones, at which a write of a young handle
/// syncs the heap itself. A handle that lives for one write never sees a task end, and the task of
/// a process ends with it.
const AHEAD_OF_YOUNG: u64 = 8 << 20;

/// Returns the bytes of the evacuated segments, whether this handle has mapped them or not.
///
/// Every write needs this number, so the files are asked only when the set of segments changes. A process
/// that had mapped none of 37 segments spent 60 us on each write.
pub(crate) fn evacuated_bytes(mutator: &Mutator) -> u64 {
    let header = mutator.generation.header();
    let (heap, range) = (
        mutator.generation.ids.heap,
        (header.oldest(), state::cursor(header).addr.segment),
    );
    let known = mutator.evacuated.get();
    if (known.heap, known.range) == (heap, range) {
        return known.bytes;
    }
    let bytes = count_evacuated(mutator, range.0..range.1);
    mutator.evacuated.set(EvacuatedBytes { heap, range, bytes });
    bytes
}

fn count_evacuated(mutator: &Mutator, numbers: Range<u16>) -> u64 {
    let bytes = |number| match mutator.generation.segment(number) {
        Some(segment) => segment.allocated(),
        None => {
            let there = mutator
                .names
                .segment(number, mutator.stage)
                .symlink_metadata();
            there.map_or(0, |there| there.len())
        }
    };
    numbers.map(bytes).sum()
}

/// Returns the bytes of the heap that no entry needs.
pub(crate) fn dead_bytes(mutator: &Mutator) -> u64 {
    let live = mutator.generation.header().counters().live;
    heap_end::heap_bytes(&mutator.generation).saturating_sub(live)
}

/// Removes the evacuated segments, and waits for the disk where it must.
pub(crate) fn reclaim_all(mutator: &mut Mutator) -> WriteResult<()> {
    while state::has_evacuated(mutator.generation.header()) {
        let number = mutator.generation.header().oldest();
        if is_there(mutator, number)? {
            let header = mutator.generation.header();
            debug_assert!(number < state::cursor(header).addr.segment, "H4");
            // H4: the heap is synced up to where it ended when the last link was gone.
            if header.is_flushed() && !state::is_replaced(header, number) {
                durability::sync_heap(mutator)?;
            }
            files::remove(&mutator.names.segment(number, mutator.stage))?;
        }
        durability::sync_removal(mutator)?;
        advance(mutator, number)?;
    }
    Ok(())
}

/// Removes the evacuated segments whose replacements are durable, and starts a background task for
/// the missing sync. Waits for the disk all the same if too much is evacuated: the handles before
/// this one may each have ended before their tasks did.
///
/// A cache that was ever flushed first syncs its heap up to where it ended when the segment was
/// evacuated. Not only the copies: a newer version that is not yet synced may be all that is left
/// of a key whose flushed version was here. A failed sync forbids the rest.
pub(crate) fn reclaim_some(mutator: &mut Mutator, tasks: &mut BackgroundTasks) -> WriteResult<()> {
    if !mutator.generation.header().is_flushed() {
        return reclaim_all(mutator);
    }
    if let Some(mut task) = tasks.under_way.take() {
        if !task.is_over() && !is_overdue(mutator, &task) {
            tasks.under_way = Some(task);
            return Ok(());
        }
        tasks.has_collected = true;
        settle(mutator, task)?;
    }
    while state::has_evacuated(mutator.generation.header()) {
        let number = mutator.generation.header().oldest();
        if waits_for_records(mutator, number, tasks) {
            return Ok(());
        }
        let is_there = is_there(mutator, number)?;
        if !is_there && mutator.generation.header().removals_synced() > u64::from(number) {
            advance(mutator, number)?;
            continue;
        }
        if evacuated_bytes(mutator) > most_evacuated(mutator, tasks) {
            return reclaim_all(mutator);
        }
        let sent = if !is_there {
            send_removal(mutator, number)
        } else if state::is_replaced(mutator.generation.header(), number) {
            // H4: replaced and synced.
            files::remove(&mutator.names.segment(number, mutator.stage))?;
            send_removal(mutator, number)
        } else if is_complete_after(mutator, number) {
            send_sync(mutator)?
        } else {
            return Ok(());
        };
        debug_assert!(tasks.under_way.is_none(), "one task at a time");
        match sent {
            Some(task) => tasks.under_way = Some(task),
            None => reclaim_all(mutator)?,
        }
        return Ok(());
    }
    Ok(())
}

/// Returns whether nothing can be done about an evacuated segment before more records are appended.
/// Every write asks this, so it makes no system call.
fn waits_for_records(mutator: &Mutator, number: u16, tasks: &BackgroundTasks) -> bool {
    mutator.generation.header().removals_synced() <= u64::from(number)
        && !state::is_replaced(mutator.generation.header(), number)
        && !is_complete_after(mutator, number)
        && evacuated_bytes(mutator) <= most_evacuated(mutator, tasks)
}

/// Returns the bytes of evacuated segments above which a write no longer leaves them to a background
/// task.
fn most_evacuated(mutator: &Mutator, tasks: &BackgroundTasks) -> u64 {
    let live = mutator.generation.header().counters().live;
    let ahead = if tasks.has_collected {
        AHEAD
    } else {
        AHEAD_OF_YOUNG
    };
    match mutator.generation.bound() {
        // Segments that wait for their removal count.
        Some(bound) => bound.segment(),
        None => live / 2 + ahead,
    }
}

/// Returns whether the segment with the last record that replaces one of an evacuated segment is
/// complete, so that it can be synced while writers go on. If that place is not known yet, stores
/// it.
fn is_complete_after(mutator: &Mutator, number: u16) -> bool {
    let header = mutator.generation.header();
    match state::replaced(header, number) {
        Some(replaced) => replaced.upto.segment != header.tail().segment,
        None => {
            state::note_replaced(header);
            false
        }
    }
}

/// Returns whether so much was written since the task began that the next write must wait: the disk
/// is slower than the writers.
fn is_overdue(mutator: &Mutator, task: &BackgroundTask) -> bool {
    let live = mutator.generation.header().counters().live;
    let most = match mutator.generation.bound() {
        Some(bound) => bound.segment() / 2,
        None => live / 2 + AHEAD,
    };
    heap_end::heap_bytes(&mutator.generation).saturating_sub(task.heap_bytes) > most
}

/// Returns whether the file of an evacuated segment is still there. A file that cannot be opened
/// must not be removed.
fn is_there(mutator: &mut Mutator, number: u16) -> WriteResult<bool> {
    if !open::has_segment_file(&mutator.names, number) {
        return Ok(false);
    }
    match mutator.segment(number)? {
        Some(_) => Ok(true),
        None => Err(Abort::Recover(
            Corruption::OldestSegmentMissing,
            At::Heap(first_place(number)),
        )),
    }
}

fn send_removal(mutator: &Mutator, number: u16) -> Option<BackgroundTask> {
    let names = Arc::clone(&mutator.names);
    send(mutator, move |notes| {
        names.sync_heap_dir()?;
        notes.removals_are_synced(number.saturating_add(1));
        Ok(())
    })
}

/// Starts a sync of the segments that are complete. The last one is left out: a writer that stores
/// to pages that are being written waits for the disk.
fn send_sync(mutator: &mut Mutator) -> WriteResult<Option<BackgroundTask>> {
    let last = mutator.generation.header().tail().segment;
    let mut segments = durability::unsynced_segments(mutator)?;
    segments.pop();
    // W2: the task works without the lock.
    durability::freeze(&mutator.generation, first_place(last));
    let names = Arc::clone(&mutator.names);
    Ok(send(mutator, move |notes| {
        let mut complete = segments.iter();
        complete.try_for_each(|segment| segment.sync_complete())?;
        names.sync_heap_dir()?;
        notes.segments_are_synced(last);
        Ok(())
    }))
}

/// Starts a background task, which stores its result in the header at once. The next process that
/// syncs must see that it failed: the system may report success there.
fn send(
    mutator: &Mutator,
    work: impl FnOnce(SyncNotes<'_>) -> Result<()> + Send + 'static,
) -> Option<BackgroundTask> {
    // Not the generation: it owns the lock's descriptor.
    let table = Arc::clone(&mutator.generation.table);
    BackgroundTask::send(
        mutator.generation.ids.heap,
        heap_end::heap_bytes(&mutator.generation),
        move || {
            let notes = table.header().sync_notes();
            notes.note_sync(work(notes))
        },
    )
}

/// Waits for a background task. Stores that it failed in this generation too, if the heap is the
/// same.
pub(crate) fn settle(mutator: &mut Mutator, task: BackgroundTask) -> WriteResult<()> {
    let heap = task.heap;
    match task.collect() {
        Some(outcome) if heap == mutator.generation.ids.heap => {
            Ok(mutator.generation.header().note_sync(outcome)?)
        }
        // Of files that no generation has any more, or its result is unknown.
        _ => Ok(()),
    }
}

/// Stores that the heap begins after a segment whose file is removed. "The oldest is missing" is a
/// normal state, so a kill between the removal and these stores costs nothing.
pub(crate) fn advance(mutator: &mut Mutator, number: u16) -> WriteResult<()> {
    let tail = mutator.generation.header().tail();
    let (gone, left) = mutator
        .generation
        .segments()
        .cloned()
        .partition(|segment| segment.number() == number);
    let left = mutator.generation.with_segments(left);
    let before = open::heap_bytes_before(&left, &mutator.names, tail.segment)?;
    let header = mutator.generation.header();
    debug_assert!(number < tail.segment, "H3: the last segment stays");
    heap_end::set_base(header, before);
    state::set_removed(header, number);
    mutator.generation = Arc::new(left);
    let gone: Vec<_> = gone;
    mutator.removed.extend(gone);
    Ok(())
}
