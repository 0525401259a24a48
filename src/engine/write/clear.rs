//! Clearing a cache, on a full disk too.
//!
//! Normally an empty generation replaces the old one, which needs room for both. Without that room
//! the entries are removed in place and then the heap, which needs none but happens step by step.
//! May call `write::session`, `clean::reclaim` and everything below them.

use std::sync::Arc;

use crate::error::{Corruption, ErrorKind, Result};
use crate::format::index::word;
use crate::os::files;

use crate::engine::clean::{reclaim, state};
use crate::engine::write::mutator::{Abort, At, Mutator, Target, WriteResult, old_bytes};
use crate::engine::write::session::Session;
use crate::engine::write::{durability, heap_end, publish, put};

/// Removes all entries. On a full disk readers see some of them removed before others, and a kill or
/// a power loss during that leaves those that were not removed yet.
pub(crate) fn clear(session: &mut Session<'_>) -> Result<()> {
    let full = match replace_by_nothing(session) {
        Err(error) if matches!(error.kind(), ErrorKind::DiskFull { .. }) => error,
        other => return other,
    };
    run(session, remove_entries)?;
    session.await_releases();
    // The segments before the last may have made room for a new one, or for all.
    if is_full(replace_by_nothing(session))? {
        let begun = run(session, |mutator| heap_end::rotate(mutator, 0));
        if is_full(begun)? {
            run(session, remove_last_segment)?;
            session.await_releases();
            // Another process may hold what was removed.
            session.run(begin_again).map_err(|_| full)?;
        }
        run(session, remove_evacuated)?;
        session.await_releases();
        // Index and roster have the size that they had; smaller ones may have room now.
        is_full(replace_by_nothing(session))?;
    }
    Ok(())
}

fn run(
    session: &mut Session<'_>,
    change: impl FnMut(&mut Mutator) -> WriteResult<()>,
) -> Result<()> {
    session.run(change)
}

fn replace_by_nothing(session: &mut Session<'_>) -> Result<()> {
    session.replace_entries(|_| Ok(()))
}

/// Returns whether the disk had no room; any other failure is an error.
fn is_full(outcome: Result<()>) -> Result<bool> {
    match outcome {
        Ok(()) => Ok(false),
        Err(error) if matches!(error.kind(), ErrorKind::DiskFull { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Removes every entry from index and roster, and all segments but the last.
///
/// There are no deletion records: what they would keep from coming back is removed with the
/// segments (H5), the oldest first, so that recovery finds the newest records of the rest.
pub(crate) fn remove_entries(mutator: &mut Mutator) -> WriteResult<()> {
    let generation = Arc::clone(&mutator.generation);
    for position in 0..generation.roster_len() {
        let Some(target) = Target::at_position(&generation, position)? else {
            continue;
        };
        if !target.link.is_entry() {
            let what = Corruption::PositionWithoutEntry;
            return Err(Abort::Recover(what, At::Roster(position)));
        }
        put::drop_entry(&generation, &target, old_bytes(&generation, &target)?)?;
    }
    // A size in a slot may be of a record that a killed writer did not link.
    publish::set_live(generation.header(), 0);
    if generation.header().occupied() > 0 {
        let what = Corruption::EntryUnlisted;
        return Err(Abort::Recover(what, At::Word(word::COUNTERS)));
    }
    remove_evacuated(mutator)
}

/// Removes all segments but the last, none of which holds anything live.
pub(crate) fn remove_evacuated(mutator: &mut Mutator) -> WriteResult<()> {
    let header = mutator.generation.header();
    let last = header.tail().segment;
    // H4: no link leads into the segments before the last.
    state::set_all_evacuated(header, last);
    reclaim::reclaim_all(mutator)
}

/// Removes the last segment, and does not keep it mapped. An exception to H3: no segment replaces it
/// yet. After a kill, the next writer finds it missing, and nothing left to recover.
pub(crate) fn remove_last_segment(mutator: &mut Mutator) -> WriteResult<()> {
    // Damage may have hidden entries from the removal: their records must not be removed.
    if mutator.generation.header().occupied() > 0 {
        let what = Corruption::EntryUnlisted;
        return Err(Abort::Recover(what, At::Word(word::COUNTERS)));
    }
    let number = mutator.generation.header().tail().segment;
    files::remove(&mutator.names.segment(number, mutator.stage))?;
    durability::sync_removal(mutator)?;
    let gone = mutator.generation.segments().cloned().collect::<Vec<_>>();
    mutator.generation = Arc::new(mutator.generation.with_segments(Vec::new()));
    mutator.removed.extend(gone);
    Ok(())
}

/// Begins a segment after the one that was removed.
pub(crate) fn begin_again(mutator: &mut Mutator) -> WriteResult<()> {
    let gone = mutator.generation.header().tail().segment;
    heap_end::rotate(mutator, 0)?;
    reclaim::advance(mutator, gone)
}
