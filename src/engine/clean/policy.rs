//! When to clean, reclaim and shrink, and how much at a time.
//!
//! A write pays for it: after each change a few records of the oldest segment are evacuated. May
//! call `write::session`, `clean::{evacuate, reclaim}` and everything below them.

use crate::error::{Error, ErrorKind, Result};
use crate::sync::Relaxed;

use crate::engine::clean::{bound, evacuate, eviction, expire, reclaim, state};
use crate::engine::ids;
use crate::engine::switch;
use crate::engine::write::heap_end;
use crate::engine::write::mutator::{Abort, Mutator, WriteResult};
use crate::engine::write::session::Session;

/// Bytes that a write walks at least: rarely and much at a time, so that the records' cache misses
/// overlap. With 2 KiB an overwrite among a million entries takes 1,340 ns instead of 1,010; but other
/// writers wait for less: four processes write a third more in all, and 1 % of the overwrites of two take
/// more than 11 us instead of 28. Of a small segment it is an eighth.
const CLEAN_LEAST: u64 = 16 * 1024;
/// Bytes of the heap that a write walks at a time that would otherwise be refused for want of room.
const RECLAIM: u64 = 1 << 20;
/// Writes for which cleaning pauses after it failed, for want of disk most likely.
const PAUSE: u64 = 256;
/// Rosters up to this length are never too long.
const ROSTER_LEAST: u64 = 4096;

/// How many dead bytes are left alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CleanThreshold {
    /// Dead bytes in percent of the live ones.
    pub percent: u32,
    /// Dead bytes on top of that.
    pub floor: u64,
}

impl CleanThreshold {
    /// Bytes of the heap that a write walks for each byte that it appends, at least: enough for the
    /// default threshold with a margin of two.
    const LEAST_EFFORT: u64 = 4;
    /// And at most: what a threshold of 1 % takes.
    const MOST_EFFORT: u64 = 101;

    /// Returns the dead bytes that are left alone beside `live` bytes.
    fn most(&self, live: u64) -> u64 {
        let share = u128::from(live) * u128::from(self.percent) / 100;
        let share = u64::try_from(share).unwrap_or(u64::MAX);
        self.floor.saturating_add(share)
    }

    /// Returns the bytes of the heap to walk for each byte that is appended.
    ///
    /// A pass over all that was in the heap when the threshold was exceeded, the live bytes and the
    /// threshold's, reclaims all that was dead then. If the writes of one pass append no more than
    /// the threshold, the dead bytes stay below twice the threshold, wherever in the heap they are.
    fn effort(&self, live: u64) -> u64 {
        let most = self.most(live).max(1);
        let passed = live.saturating_add(most).div_ceil(most);
        passed.clamp(Self::LEAST_EFFORT, Self::MOST_EFFORT)
    }
}

fn is_worth_while(mutator: &Mutator, threshold: CleanThreshold) -> bool {
    let live = mutator.generation.header().counters().live;
    let dead = heap_end::heap_bytes(&mutator.generation).saturating_sub(live);
    let most = threshold.most(live);
    dead > most && dead.saturating_sub(reclaim::evacuated_bytes(mutator)) > most
}

/// Cleans as much as a write of `written` bytes pays for, if that is worth while.
fn clean_after(mutator: &mut Mutator, threshold: CleanThreshold, written: u64) -> WriteResult<()> {
    if eviction::after_write(mutator, written)? {
        return Ok(());
    }
    let live = mutator.generation.header().counters().live;
    let most = mutator.generation.table.geometry().max_segment_bytes;
    let budget = threshold.effort(live).saturating_mul(written) + CLEAN_LEAST.min(most / 8);
    clean_some(mutator, threshold, budget)
}

/// Cleans by walking about `budget` bytes, if that is worth while.
fn clean_some(mutator: &mut Mutator, threshold: CleanThreshold, budget: u64) -> WriteResult<()> {
    if !ids::is_cleaned(&mutator.generation) || !is_worth_while(mutator, threshold) {
        return Ok(());
    }
    evacuate::walk(mutator, budget, bound::retention(mutator))
}

/// Runs a change. If the disk is full, reclaims dead records and runs it once more.
pub(crate) fn run_with_room<T>(
    session: &mut Session<'_>,
    bytes: usize,
    mut change: impl FnMut(&mut Mutator) -> WriteResult<T>,
) -> Result<T> {
    session
        .run(&mut change)
        .or_else(|error| run_again(session, bytes, change, error))
}

/// Runs a change again that failed with an error, if the disk or the table was full and has room now.
#[cold]
fn run_again<T>(
    session: &mut Session<'_>,
    bytes: usize,
    mut change: impl FnMut(&mut Mutator) -> WriteResult<T>,
    error: Error,
) -> Result<T> {
    let is_full = |error: &Error| matches!(error.kind(), ErrorKind::DiskFull { .. });
    let mut error = error;
    // The room of removed segments first: cleaning would take it for what it moves.
    if is_full(&error) && session.await_releases() {
        match session.run(&mut change) {
            Err(again) => error = again,
            Ok(done) => return Ok(done),
        }
    }
    let makes_room = [make_room, eviction::make_disk_room];
    for make_room in makes_room {
        if is_full(&error) && make_room(session, bytes as u64) {
            match session.run(&mut change) {
                Err(again) => error = again,
                Ok(done) => return Ok(done),
            }
        }
    }
    // Entries that have ended count until they are removed.
    let has_many = matches!(error.kind(), ErrorKind::TableFull { .. });
    if has_many && eviction::remove_ended(session)? > 0 {
        return session.run(&mut change);
    }
    Err(error)
}

/// Cleans with a threshold of zero, for a change that wants `bytes` bytes. Returns whether a segment
/// was removed.
fn make_room(session: &mut Session<'_>, bytes: u64) -> bool {
    let all = CleanThreshold {
        percent: 0,
        floor: 0,
    };
    let oldest = |session: &Session<'_>| session.mutator.generation.header().oldest();
    let before = oldest(session);
    let budget = RECLAIM.max(2 * bytes);
    let wanted = bytes / RECLAIM;
    // One step may begin a segment, and one may only find that the oldest was at its end.
    for _ in 0..wanted + 3 {
        if u64::from(oldest(session).wrapping_sub(before)) > wanted {
            break;
        }
        // The refused change's error is the one to report.
        let cleaned = clean_some(&mut session.mutator, all, budget);
        let reclaimed = cleaned.and_then(|()| reclaim::reclaim_all(&mut session.mutator));
        if reclaimed.is_err() {
            break;
        }
    }
    session.publish_generation();
    session.await_releases();
    oldest(session) != before
}

fn threshold(session: &Session<'_>) -> CleanThreshold {
    CleanThreshold {
        percent: session.handle.options.clean_percent,
        floor: session.handle.options.clean_floor,
    }
}

/// Refuses a put if evacuated segments cannot be removed and dead bytes already take twice what they
/// may.
pub(crate) fn refuse_unbounded(session: &mut Session<'_>) -> Result<()> {
    let header = session.mutator.generation.header();
    if !state::has_evacuated(header) {
        return Ok(());
    }
    let most = threshold(session).most(header.counters().live);
    if reclaim::dead_bytes(&session.mutator) / 2 <= most {
        return Ok(());
    }
    match reclaim_evacuated(session) {
        Err(Abort::Failed(error)) if matches!(error.kind(), ErrorKind::NotRemovable { .. }) => {
            Err(error)
        }
        // Cleaning after the put meets any other error again.
        _ => Ok(()),
    }
}

/// Cleans and reclaims after a change of `bytes` bytes. It never fails the change, which is done.
pub(crate) fn tidy(session: &mut Session<'_>, bytes: usize) {
    let handle = session.handle;
    let pause = handle.clean_pause.load(Relaxed);
    if pause > 0 {
        handle.clean_pause.store(pause - 1, Relaxed);
        return;
    }
    let threshold = threshold(session);
    let cleaned = clean_after(&mut session.mutator, threshold, bytes as u64);
    let cleaned = cleaned.and_then(|()| expire::after_write(&mut session.mutator));
    let tidied = match cleaned.and_then(|()| reclaim_evacuated(session)) {
        Ok(()) => {
            session.publish_generation();
            eviction::shrink_index(session)
        }
        Err(Abort::Recover(what, _)) => session.recover(what),
        Err(Abort::Enlarge) => session.rearrange(switch::rebuild_from_itself),
        Err(Abort::Renumber) => session.renumber(),
        Err(Abort::Failed(error)) => Err(error),
    };
    if let Err(error) = tidied {
        log::warn!("{error}: cleaning pauses");
        session.publish_generation();
        handle.clean_pause.store(PAUSE, Relaxed);
    }
}

/// Continues the removal of evacuated segments.
pub(crate) fn reclaim_evacuated(session: &mut Session<'_>) -> WriteResult<()> {
    if !state::has_evacuated(session.mutator.generation.header()) {
        return Ok(());
    }
    if !session.handle.options.background {
        return reclaim::reclaim_all(&mut session.mutator);
    }
    let writer_mutex = session.handle.writer_mutex();
    let mut tasks = writer_mutex.tasks.lock();
    reclaim::reclaim_some(&mut session.mutator, &mut tasks)
}

/// Reclaims all dead bytes of the heap, and shortens a sparse roster.
pub(crate) fn compact(session: &mut Session<'_>) -> Result<()> {
    let cleaned = session.run(|mutator| match ids::is_cleaned(&mutator.generation) {
        true => evacuate::clean_all(mutator),
        false => Ok(()),
    });
    cleaned?;
    let counters = session.mutator.generation.header().counters();
    // A listing reads the whole roster: free positions must not outnumber the entries three to one.
    if counters.roster_len <= ROSTER_LEAST || counters.occupied * 4 >= counters.roster_len {
        return Ok(());
    }
    session.rearrange(switch::shrink)
}
