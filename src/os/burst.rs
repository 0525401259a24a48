//! Detects bursts of changes: changes that come so close together that the system has not written
//! the first of them to the disk when the last one is made.
//!
//! Calls `sync` only; the caller counts the changes and reads the clock.

use crate::sync::{Word, load, store};

/// Milliseconds within which changes belong to one burst. Afterwards the system has most likely
/// written the pages that they made dirty.
const WINDOW_MILLIS: u64 = 5_000;
/// Milliseconds between two bursts that are reported, unless the file was synced between them.
const REPORT_INTERVAL_MILLIS: u64 = 1_000;

/// Counts changes since the last reported burst. Only the holder of the writer lock counts.
#[derive(Debug)]
pub(crate) struct BurstDetector {
    changes: Word,
    /// When the first of them was made.
    since: Word,
    /// When a burst was last reported; 0 if the file was synced since.
    reported: Word,
}

impl BurstDetector {
    pub(crate) fn new() -> Self {
        Self {
            changes: Word::new(0),
            since: Word::new(0),
            reported: Word::new(0),
        }
    }

    /// Counts a change. Returns whether it completes a burst of `many` changes.
    pub(crate) fn count(&self, many: u64, now: impl FnOnce() -> u64) -> bool {
        debug_assert!(many > 1, "one change is no burst");
        let changes = load(&self.changes) + 1;
        store(&self.changes, changes);
        if changes != 1 && changes < many {
            return false;
        }
        let now = now();
        if changes < many {
            store(&self.since, now);
            return false;
        }
        store(&self.changes, 0);
        let reported = load(&self.reported);
        let is_burst = now.wrapping_sub(load(&self.since)) <= WINDOW_MILLIS
            && (reported == 0 || now.wrapping_sub(reported) >= REPORT_INTERVAL_MILLIS);
        if is_burst {
            store(&self.reported, now);
        }
        is_burst
    }

    /// Starts again after the whole file was written to the disk.
    pub(crate) fn reset(&self) {
        store(&self.changes, 0);
        store(&self.reported, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_counts_changes_together() {
        let burst = BurstDetector::new();
        let count = |at: u64| (0..4).filter(|_| burst.count(4, || at)).count();
        assert_eq!(count(10_000), 1);
        assert_eq!(count(10_500), 0, "one was reported half a second ago");
        assert_eq!(count(11_000), 1);
        burst.reset();
        assert_eq!(count(11_001), 1, "synced since");
        let slow = (0..4)
            .filter(|i| burst.count(4, || 20_000 + i * 3_000))
            .count();
        assert_eq!(slow, 0, "the system wrote the first change before the last");
    }
}
