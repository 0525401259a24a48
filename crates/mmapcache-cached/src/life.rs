//! How long a store lets its entries live, and whether hits prolong that; changed while others read it.
//!
//! Calls nothing of this crate.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use mmapcache::InsertOptions;

/// The life of entries that are inserted from now on. Each value is read and set by itself, so nothing
/// depends on their order.
#[derive(Debug)]
pub(crate) struct Life {
    /// In nanoseconds; 0 is no end.
    ttl: AtomicU64,
    refresh: AtomicBool,
}

impl Life {
    pub(crate) fn new(ttl: Option<Duration>, refresh: bool) -> Self {
        Self {
            ttl: AtomicU64::new(nanos(ttl)),
            refresh: AtomicBool::new(refresh),
        }
    }

    /// Returns the life of an entry; `None` if it has no end.
    pub(crate) fn ttl(&self) -> Option<Duration> {
        duration(self.ttl.load(Relaxed))
    }

    /// Sets the life of entries; returns the one before. Zero is no end.
    pub(crate) fn set_ttl(&self, ttl: Option<Duration>) -> Option<Duration> {
        duration(self.ttl.swap(nanos(ttl), Relaxed))
    }

    pub(crate) fn refresh(&self) -> bool {
        self.refresh.load(Relaxed)
    }

    pub(crate) fn set_refresh(&self, refresh: bool) -> bool {
        self.refresh.swap(refresh, Relaxed)
    }

    /// Returns the life that a hit gives an entry; `None` if it leaves the deadline alone.
    pub(crate) fn renewal(&self) -> Option<Duration> {
        self.ttl().filter(|_| self.refresh())
    }

    /// Returns the options of an insertion. The defaults in the files are for other programs.
    pub(crate) fn of_insertion(&self) -> InsertOptions {
        match self.ttl() {
            Some(ttl) => InsertOptions::new().ttl(ttl),
            None => InsertOptions::new().no_expiry(),
        }
    }
}

fn nanos(ttl: Option<Duration>) -> u64 {
    // 584 years are no end for the cache.
    ttl.map_or(0, |ttl| u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX))
}

fn duration(nanos: u64) -> Option<Duration> {
    (nanos > 0).then(|| Duration::from_nanos(nanos))
}
