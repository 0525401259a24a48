//! Which entries of a `Cache` cleaning keeps: an approximation of LRU in the order of the log.
//!
//! Cleaning meets entries in the order in which they were written or last kept, oldest first. An
//! entry that must go is evicted where it is met; one that was used since is kept, with a lower mark:
//! FIFO with reinsertion, which is CLOCK with the log as its ring (Corbató 1968). May call `format`
//! and `engine::statistics`.

use crate::format::index::Counters;
use crate::format::life::Life;

use crate::engine::statistics::Counter;

/// What is known of an entry's validity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    /// It counts, with this life, which may be another than its record's.
    Valid(Life),
    Expired,
    Invalidated,
    /// It is the cache's own, and everything that it concerns was met before.
    Unneeded,
    /// It is the cache's own, and may concern entries that come after it.
    Needed,
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is moved to the end of the heap, with this life.
    Kept(Life),
    /// The same; its mark is lowered.
    Spared(Life),
    /// It is removed, and counted as this.
    Removed(Counter),
    /// It is the cache's own, and nothing needs it any more.
    Dropped,
}

/// The state of one walk of cleaning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    /// Live bytes of the heap above which entries are evicted.
    pub most_live: u64,
    /// Entries above which some are evicted.
    pub most_entries: u64,
    /// Whether entries that were used are evicted too.
    pub ignores_marks: bool,
    /// Whether the walk ends when there are few enough entries: bytes are no reason for it.
    pub stops_at_number: bool,
    /// Whether half of what the walk meets goes, used or not, so that it frees something.
    pub spares_half: bool,
    /// Bytes of records that this walk may copy: what it has met is removed after it.
    pub room: u64,
    /// Bytes of live records that this walk has met.
    pub met: u64,
    /// Bytes of these that it has kept.
    pub kept: u64,
}

impl Retention {
    /// Evicts nothing.
    pub(crate) const ALL: Self = Self {
        most_live: u64::MAX,
        most_entries: u64::MAX,
        ignores_marks: false,
        stops_at_number: false,
        spares_half: false,
        room: u64::MAX,
        met: 0,
        kept: 0,
    };

    /// Returns whether nothing more has to go: the entries were too many, and are not any more.
    pub(crate) fn is_reached(&self, counters: &Counters) -> bool {
        self.stops_at_number && counters.occupied <= self.most_entries
    }

    /// Returns how many records to look up together: not more than may have to go, for the others
    /// would be moved.
    pub(crate) fn batch_records(&self, counters: &Counters, most: usize) -> usize {
        if !self.stops_at_number {
            return most;
        }
        let excess = counters.occupied.saturating_sub(self.most_entries);
        usize::try_from(excess).map_or(most, |excess| excess.clamp(1, most))
    }

    /// Returns the same limits, with nothing met.
    pub(crate) fn within(most_live: u64, most_entries: u64) -> Self {
        Self {
            most_live,
            most_entries,
            ..Self::ALL
        }
    }

    /// Decides about a live record of `bytes` bytes whose entry has this mark, and counts it.
    /// `counters` are those before.
    pub(crate) fn decide(
        &mut self,
        validity: Validity,
        bytes: u64,
        mark: u8,
        counters: &Counters,
    ) -> Fate {
        let life = match validity {
            Validity::Valid(life) => life,
            Validity::Expired => return Fate::Removed(Counter::Expired),
            Validity::Invalidated => return Fate::Removed(Counter::Invalidated),
            Validity::Unneeded => return Fate::Dropped,
            Validity::Needed => return Fate::Kept(Life::NONE),
        };
        self.met = self.met.saturating_add(bytes);
        let kept = self.kept.saturating_add(bytes);
        let cause = if counters.live > self.most_live {
            Counter::EvictedSize
        } else if counters.occupied > self.most_entries {
            Counter::EvictedNumber
        } else if kept > self.room {
            return Fate::Removed(Counter::EvictedSize);
        } else {
            self.kept = kept;
            return Fate::Kept(life);
        };
        let may_spare = !self.spares_half || self.kept <= self.met / 2;
        if mark == 0 || self.ignores_marks || !may_spare || kept > self.room {
            return Fate::Removed(cause);
        }
        self.kept = kept;
        Fate::Spared(life)
    }
}
