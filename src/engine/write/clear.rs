//! Clearing a cache, on a full disk too.
//!
//! Normally a new generation takes the place of the old one, which needs room for both. Where there
//! is none, the entries are taken out in place and the heap is removed, which needs no room but
//! happens step by step. Knows the order of these steps, not how a generation is made.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::index::word;
use crate::format::roster::Position;
use crate::format::segment::first_place;
use crate::format::slot::Cursor;
use crate::os::files;

use crate::engine::write::mutator::{Abort, At, Mutator, Target, WriteResult, old_bytes};
use crate::engine::write::writer::Writer;

impl Writer<'_> {
    /// Removes all entries. On a full disk readers see some of them go before others, and a kill or
    /// a power loss meanwhile leaves those that were not removed yet.
    pub(crate) fn clear(&mut self) -> Result<()> {
        let full = match self.replace_by_nothing() {
            Err(error @ Error::DiskFull { .. }) => error,
            other => return other,
        };
        self.run(Mutator::remove_entries).map_err(|error| *error)?;
        self.await_releases();
        // The segments before the last may have made room for a new one, or for all.
        if is_full(self.replace_by_nothing())? {
            let began = self
                .run(|mutator| mutator.rotate(0))
                .map_err(|error| *error);
            if is_full(began)? {
                self.run(Mutator::remove_last_segment)
                    .map_err(|error| *error)?;
                self.await_releases();
                // Another process may hold what was removed.
                self.run(Mutator::begin_again).map_err(|_| full)?;
            }
            self.run(Mutator::remove_evacuated)
                .map_err(|error| *error)?;
            self.await_releases();
            // Index and roster have the size that they had; smaller ones may have room now.
            is_full(self.replace_by_nothing())?;
        }
        Ok(())
    }

    fn replace_by_nothing(&mut self) -> Result<()> {
        let nothing =
            std::iter::empty::<std::result::Result<(&[u8], &[u8]), std::convert::Infallible>>();
        self.atomic_rebuild(nothing)
    }
}

/// Whether it was the disk that had no room; what else failed is an error.
fn is_full(outcome: Result<()>) -> Result<bool> {
    match outcome {
        Ok(()) => Ok(false),
        Err(Error::DiskFull { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

impl Mutator {
    /// Takes every entry out of index and roster, and removes all segments but the last.
    ///
    /// There are no deletion records: what they would keep from coming back is removed with the
    /// segments, the oldest first, so that recovery finds the newest records of the rest.
    pub(crate) fn remove_entries(&mut self) -> WriteResult<()> {
        let generation = Arc::clone(&self.generation);
        for position in 0..generation.roster_len() {
            let Position::Slot(number) = generation.roster.get(position)? else {
                continue;
            };
            let (region, index) = generation.table.slot_home(number);
            let slot = generation.table.region(region)?.slot(index);
            let link = slot.link();
            if !link.is_entry() {
                let what = "a roster position that leads to no entry";
                return Err(Abort::Recover(what, At::Roster(position)));
            }
            let target = Target {
                region,
                index,
                slot,
                link,
                record: None,
            };
            self.drop_entry(&target, old_bytes(&target))?;
        }
        if generation.header().occupied() > 0 {
            let what = "a roster that does not know every entry";
            return Err(Abort::Recover(what, At::Word(word::COUNTERS)));
        }
        self.remove_evacuated()
    }

    /// Removes all segments but the last, none of which holds anything live.
    pub(crate) fn remove_evacuated(&mut self) -> WriteResult<()> {
        let header = self.generation.header();
        let cursor = Cursor::at(first_place(header.tail().segment));
        header.set(word::CURSOR, cursor.to_word());
        self.reclaim_all()
    }

    /// Removes the last segment, and does not keep it mapped. An exception to H3: no segment takes
    /// its place yet. Who comes next after a kill finds it missing, and nothing left to recover.
    pub(crate) fn remove_last_segment(&mut self) -> WriteResult<()> {
        let number = self.generation.header().tail().segment;
        files::remove(&self.names.segment(number, self.stage))?;
        self.sync_removal()?;
        let gone = self.generation.segments().cloned().collect::<Vec<_>>();
        self.generation = Arc::new(self.generation.with_segments(Vec::new()));
        self.removed.extend(gone);
        Ok(())
    }

    /// Begins a segment behind the one that was removed.
    pub(crate) fn begin_again(&mut self) -> WriteResult<()> {
        let gone = self.generation.header().tail().segment;
        self.rotate(0)?;
        self.advance(gone)
    }
}
