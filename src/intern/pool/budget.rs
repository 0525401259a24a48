//! The bytes that the shards of a pool may hold together. A counter: it orders nothing.

use crate::error::PoolError;
use crate::sync::Relaxed;
use crate::sync::count::Count;

#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    held: Count,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            held: Count::new(0),
        }
    }

    /// Reserves bytes, all or none.
    pub(super) fn take(&self, needed: u64) -> Result<(), PoolError> {
        let more = |held: u64| held.checked_add(needed).filter(|&sum| sum <= self.limit);
        let taken = self.held.fetch_update(Relaxed, Relaxed, more);
        taken.map(drop).map_err(|held| PoolError::Full {
            limit: self.limit,
            held,
            needed,
        })
    }

    pub(super) fn give(&self, bytes: u64) {
        let before = self.held.fetch_sub(bytes, Relaxed);
        debug_assert!(before >= bytes, "{bytes} of {before} bytes are given back");
    }
}
