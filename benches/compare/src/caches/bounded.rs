//! What every cache must do: a bound on its bytes, which insertions keep by eviction.
//!
//! Every entry expires an hour after its insertion, in the caches that have deadlines. No insertion
//! syncs.

use std::path::Path;
use std::time::Duration;

use crate::keys::{Batch, Keys};
use crate::store::Result;

/// The life of each entry: longer than a run.
pub(super) const LIFE: Duration = Duration::from_hours(1);

/// What a cache promises as it is configured here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promises {
    /// Who may use it at the same time.
    pub(super) shared_by: &'static str,
    /// What a killed process loses.
    pub(super) kill: &'static str,
    /// What a power loss costs, and when it syncs.
    pub(super) power: &'static str,
    /// How entries expire, and which are evicted.
    pub(super) goes: &'static str,
}

/// A cache, as one thread uses it.
pub(super) trait Bounded: Sized {
    const PROMISES: Promises;

    /// Creates a cache in an empty directory, which may take about `bound` bytes of disk.
    fn create(dir: &Path, bound: u64) -> Result<Self>;

    /// Inserts each item by a call of its own. Returns the nanoseconds of all calls.
    fn insert_each(&mut self, batch: &Batch) -> Result<u64>;

    /// Gets each key by a call of its own, and reads its value. Returns the nanoseconds of all calls,
    /// and how many found a value.
    fn get_each(&mut self, keys: &Keys) -> Result<(u64, u64)>;
}
