//! How many entries a listing has to find, by the header's count.
//!
//! Knows generations and their headers. A listing takes a tally before its first position and compares
//! after its last one, so that damage cannot make it shorter unnoticed.

use crate::error::{Error, Result};
use crate::index::header::Armed;
use crate::sync::acquire_fence;

use crate::engine::generation::Generation;

/// The header's count at the beginning of a listing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExpectedCount {
    /// Loaded before the count: a change that is not in the count is one since.
    changes: u64,
    occupied: u64,
}

impl ExpectedCount {
    /// Taken before the roster's length and any position are read.
    pub(crate) fn of(generation: &Generation) -> Self {
        let header = generation.header();
        let changes = header.changes();
        let occupied = header.occupied();
        acquire_fence();
        Self { changes, occupied }
    }

    /// Entries that the header counted at the beginning.
    pub(crate) fn counted(&self) -> u64 {
        self.occupied
    }

    /// The fewest entries that were there all the time from the tally until now. Each change since
    /// then may have removed one, and so may the one that is under way, whose writer may be dead.
    pub(crate) fn least(&self, generation: &Generation) -> u64 {
        let header = generation.header();
        acquire_fence();
        // The intent first: a change that is not under way any more was counted before.
        let least = match header.intent() {
            Armed::No => self.occupied,
            Armed::Yes(intent) => self.occupied.min(intent.fewest_entries()),
            Armed::Damaged => self.occupied.saturating_sub(1),
        };
        least.saturating_sub(header.changes().wrapping_sub(self.changes))
    }

    /// An error if a listing that found `found` entries and came to its end lacks some.
    ///
    /// Exact where nobody writes; each change by others since the tally is taken for a deletion.
    pub(crate) fn check(&self, generation: &Generation, found: u64) -> Result<()> {
        generation.check_roster_length()?;
        let path = generation.table.file().path();
        if found < self.least(generation) {
            return Err(Error::Incomplete {
                path: path.to_owned(),
                found,
                counted: self.occupied,
                damaged_bytes: 0,
            });
        }
        // Counters that were overwritten with zeros agree with an empty listing.
        if generation.header().counters().regions == 0 {
            return Err(generation.table.damaged("the number of regions", 0));
        }
        Ok(())
    }
}
