//! The number of entries that a listing has to find, by the header's count.
//!
//! A listing takes the count before its first position and compares after its last one, so that
//! corruption cannot make it shorter unnoticed. May call `generation` and everything below it.

use crate::error::{Corruption, ErrorKind, Result};
use crate::format::index::word;
use crate::index::redo::RedoState;
use crate::sync::acquire_fence;

use crate::engine::generation::Generation;

/// The header's count at the beginning of a listing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExpectedCount {
    /// Loaded before the count, so a change that is not in the count is counted as one since.
    changes: u64,
    occupied: u64,
}

impl ExpectedCount {
    /// Loads the count. The caller has not read the roster's length or any position yet.
    pub(crate) fn of(generation: &Generation) -> Self {
        let header = generation.header();
        let changes = header.changes();
        let occupied = header.occupied();
        acquire_fence();
        Self { changes, occupied }
    }

    /// Returns the entries that the header counted at the beginning.
    pub(crate) fn counted(&self) -> u64 {
        self.occupied
    }

    /// Returns the fewest entries that can have existed all the time since the count was taken. Each
    /// change since then may have removed one, and so may the change in flight, whose writer may be
    /// dead.
    pub(crate) fn least(&self, generation: &Generation) -> u64 {
        let header = generation.header();
        acquire_fence();
        // The redo record first: a change that is no longer in flight was counted before.
        let least = match header.redo() {
            RedoState::Cleared => self.occupied,
            RedoState::Committed(redo) => self.occupied.min(redo.fewest_entries()),
            RedoState::Corrupt => self.occupied.saturating_sub(1),
        };
        debug_assert!(least <= self.occupied);
        least.saturating_sub(header.changes().wrapping_sub(self.changes))
    }

    /// Returns an error if a listing that is complete and found `found` entries lacks some.
    ///
    /// Exact if no writer is at work; each change since the count was taken may be a deletion.
    pub(crate) fn check(&self, generation: &Generation, found: u64) -> Result<()> {
        generation.check_roster_length()?;
        let path = generation.table.file().path();
        if found < self.least(generation) {
            return Err(ErrorKind::Incomplete {
                found,
                counted: self.occupied,
                damaged_bytes: 0,
            }
            .at(path));
        }
        // Counters that were overwritten with zeros agree with an empty listing.
        if generation.header().counters().regions == 0 {
            let at = word::REGIONS as u64 * 8;
            return Err(generation.table.corrupted(Corruption::RegionCount, at));
        }
        Ok(())
    }
}
