//! Counts changes of a file, to tell when most of its pages are going to be stored to.
//!
//! Knows changes and times, not what they are changes of.

use crate::sync::{Word, load, store};

/// Changes that come within this time belong together, in milliseconds. Afterwards the system has
/// most likely written what they made dirty.
const TOGETHER: u64 = 5_000;
/// The least time between two bursts that are reported, unless there was a sync between.
const APART: u64 = 1_000;

/// Changes since the last report. Only the holder of the writer lock counts.
#[derive(Debug)]
pub(crate) struct Burst {
    changes: Word,
    /// When the first of them was.
    since: Word,
    /// When a burst was last reported; 0 if there was a sync since.
    last: Word,
}

impl Burst {
    pub(crate) fn new() -> Self {
        Self {
            changes: Word::new(0),
            since: Word::new(0),
            last: Word::new(0),
        }
    }

    /// Counts a change. Whether it is the last of `many` that came together.
    pub(crate) fn count(&self, many: u64, now: impl FnOnce() -> u64) -> bool {
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
        let last = load(&self.last);
        let is_burst = now.wrapping_sub(load(&self.since)) <= TOGETHER
            && (last == 0 || now.wrapping_sub(last) >= APART);
        if is_burst {
            store(&self.last, now);
        }
        is_burst
    }

    /// All of the file was written to the disk.
    pub(crate) fn end(&self) {
        store(&self.changes, 0);
        store(&self.last, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_counts_changes_together() {
        let burst = Burst::new();
        let count = |at: u64| (0..4).filter(|_| burst.count(4, || at)).count();
        assert_eq!(count(10_000), 1);
        assert_eq!(count(10_500), 0, "reported a moment ago");
        assert_eq!(count(11_000), 1);
        burst.end();
        assert_eq!(count(11_001), 1, "synced since");
        let slow = (0..4)
            .filter(|i| burst.count(4, || 20_000 + i * 3_000))
            .count();
        assert_eq!(slow, 0, "the first was written by the system meanwhile");
    }
}
