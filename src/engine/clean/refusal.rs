//! What a handle knows about a `Cache` that evicts nothing and refused an insertion: so the next one is
//! refused without another search for room.
//!
//! Kept in memory, for each handle: another process searches once for itself. Calls no other module.

use std::time::Duration;

/// How much longer than a search takes the next one waits: so searches take a tenth of the time at most.
const PAUSE: u32 = 10;

/// What the last searches for room found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Refusal {
    /// The heap that was searched; 0 is none.
    heap: u64,
    /// Bytes of dead records that cleaning the whole heap did not free.
    residue: u64,
    /// When entries that have ended were searched for, and from when on they may be again, in milliseconds
    /// since the Unix epoch. None before the first search.
    pause: Option<(u64, u64)>,
    /// The count of invalidations before that.
    invalidations: u64,
}

impl Refusal {
    /// Returns what is known of a heap: nothing if the searched one was another.
    fn of(self, heap: u64) -> Self {
        if self.heap == heap {
            return self;
        }
        Self {
            heap,
            ..Self::default()
        }
    }

    /// Returns the bytes of dead records in a heap that cleaning does not free.
    pub(crate) fn residue(self, heap: u64) -> u64 {
        self.of(heap).residue
    }

    /// Stores what cleaning the whole heap left.
    pub(crate) fn set_residue(&mut self, heap: u64, residue: u64) {
        *self = Self {
            residue,
            ..self.of(heap)
        };
    }

    /// Returns whether entries may have ended that no search has met: a group was invalidated, or the
    /// pause is over. A clock that was set back ends the pause.
    pub(crate) fn is_search_due(self, heap: u64, invalidations: u64, now: u64) -> bool {
        let known = self.of(heap);
        known.invalidations != invalidations
            || known
                .pause
                .is_none_or(|(from, until)| !(from..until).contains(&now))
    }

    /// Returns whether a search has to read the records, because a slot does not say that its entry is
    /// invalidated.
    pub(crate) fn must_read(self, heap: u64, invalidations: u64) -> bool {
        self.of(heap).invalidations != invalidations
    }

    /// Stores that all entries that had ended are removed. The search began at `now` and took `time`.
    pub(crate) fn note_search(&mut self, heap: u64, invalidations: u64, now: u64, time: Duration) {
        let pause = u64::try_from((time * PAUSE).as_millis()).unwrap_or(u64::MAX);
        *self = Self {
            pause: Some((now, now.saturating_add(pause))),
            invalidations,
            ..self.of(heap)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn searches_take_a_tenth() {
        let mut refusal = Refusal::default();
        assert!(refusal.is_search_due(1, 0, 5_000));
        refusal.note_search(1, 0, 5_000, 3 * MS);
        for (now, is_due) in [(5_000, false), (5_029, false), (5_030, true), (4_999, true)] {
            assert_eq!(refusal.is_search_due(1, 0, now), is_due, "{now}");
        }
        // An invalidation does not wait.
        assert!(refusal.is_search_due(1, 1, 5_001) && refusal.must_read(1, 1));
        assert!(!refusal.must_read(1, 0));
        // Less than a tenth of a millisecond: no pause.
        refusal.note_search(1, 1, 6_000, MS / 11);
        assert!(refusal.is_search_due(1, 1, 6_000));
    }

    #[test]
    fn other_heaps_are_unknown() {
        let mut refusal = Refusal::default();
        refusal.note_search(1, 4, 5_000, 3 * MS);
        refusal.set_residue(1, 700);
        assert_eq!((refusal.residue(1), refusal.residue(2)), (700, 0));
        assert!(!refusal.is_search_due(1, 4, 5_001));
        assert!(refusal.is_search_due(2, 4, 5_001) && refusal.must_read(2, 4));
        refusal.set_residue(2, 5);
        assert_eq!((refusal.residue(1), refusal.residue(2)), (0, 5));
    }
}
