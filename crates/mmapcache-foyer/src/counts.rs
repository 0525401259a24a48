//! [`Monitor`]: what an engine did, for programs that watch it.
//!
//! foyer hides its engine once the cache is built, so the counters are shared and given out before. Calls
//! nothing of this crate.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A counter that threads add to. Each is read by itself: a set of them is not of one moment.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add_one(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one engine.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) stored: Counter,
    pub(crate) unchanged: Counter,
    pub(crate) removed: Counter,
    pub(crate) dropped: Counter,
    pub(crate) refused: Counter,
    pub(crate) failures: Counter,
    pub(crate) undecoded: Counter,
    pub(crate) throttled_stores: Counter,
    pub(crate) throttled_loads: Counter,
    pub(crate) emergency_clears: Counter,
}

/// Reads the counters of an engine. Clones read the same ones.
///
/// Take it from [`MmapEngineConfig::monitor`](crate::MmapEngineConfig::monitor) before the
/// configuration goes to foyer.
#[derive(Clone, Default)]
pub struct Monitor(pub(crate) Arc<Counters>);

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Monitor").field(&self.counts()).finish()
    }
}

impl Monitor {
    /// Returns what was counted since the engine was built. Some ten loads.
    pub fn counts(&self) -> Counts {
        let counters = &self.0;
        Counts {
            stored: counters.stored.get(),
            unchanged: counters.unchanged.get(),
            removed: counters.removed.get(),
            dropped: counters.dropped.get(),
            refused: counters.refused.get(),
            failures: counters.failures.get(),
            undecoded: counters.undecoded.get(),
            throttled_stores: counters.throttled_stores.get(),
            throttled_loads: counters.throttled_loads.get(),
            emergency_clears: counters.emergency_clears.get(),
        }
    }
}

/// What an engine did since it was built, returned by [`Monitor::counts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Entries written to the files.
    pub stored: u64,
    /// Entries that were not written, because the files have the same bytes already.
    pub unchanged: u64,
    /// Keys removed from the files, at the request of the program or because their new value was dropped.
    pub removed: u64,
    /// Entries that were not stored because the queue was full, or the engine closed. A full queue also
    /// removes the older value of the key; a closed engine changes nothing.
    pub dropped: u64,
    /// Entries that the files refused, for their size or for want of room, or whose encoding failed. The
    /// older value of the key is removed.
    pub refused: u64,
    /// Attempts to write that failed as a whole; the engine repeats them.
    pub failures: u64,
    /// Entries that were found and not returned, because they are of other types or another
    /// [format](crate::MmapEngineConfig::with_format), or did not decode. They count as misses.
    pub undecoded: u64,
    /// Calls of the admission filter that were told to come back later, because the queue was full.
    pub throttled_stores: u64,
    /// Loads that were refused because as many as allowed were running.
    pub throttled_loads: u64,
    /// Times that the engine emptied the files because too many removals were waiting.
    pub emergency_clears: u64,
}
