//! A pool that stores each byte string once.
//!
//! Picks the shard of a value; the shard finds, adds and removes it. A pool has no file: `labels`
//! intern durably.

mod budget;
mod entry;
mod handle;
mod hasher;
mod label;
mod options;
#[cfg(feature = "serde")]
mod serial;
mod shard;
mod stats;
#[cfg(test)]
mod tests;
mod typed;

use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::error::PoolError;
use crate::lock::Abandoned;

use crate::intern::pool::budget::Budget;
use crate::intern::pool::shard::Shard;

pub use crate::intern::pool::handle::Interned;
pub use crate::intern::pool::hasher::StoredHash;
pub use crate::intern::pool::options::{PoolOptions, Retention};
pub use crate::intern::pool::stats::PoolStats;
pub use crate::intern::pool::typed::{TypedInterned, TypedPool};

/// A pool of byte strings: equal values share one handle, one pointer wide.
///
/// Use it for values that recur within one process: topics, host names, attributes of routes.
/// Handles are compared by their address and hashed without reading the value; see [`Interned`].
/// For ids that are the same in every process and after every restart, use
/// [`Labels`](crate::Labels).
///
/// # Topics of a publish/subscribe mesh
///
/// ```
/// use std::collections::{HashMap, HashSet};
/// use mmapcache::intern::{Interned, PoolOptions, Retention};
///
/// // A topic is removed when its last subscriber is.
/// let pool = PoolOptions::new().retention(Retention::UntilReleased).build();
/// let mut mesh: HashMap<Interned, HashSet<u32>> = HashMap::new();
/// for (peer, topic) in [(1, "blocks"), (2, "blocks"), (1, "attestations")] {
///     mesh.entry(pool.intern(topic)).or_default().insert(peer);
/// }
///
/// // A message arrived: its topic is a part of the buffer, and finding its peers copies nothing.
/// let topic = pool.get(b"blocks").expect("a subscriber");
/// assert_eq!(mesh[&topic].len(), 2);
/// assert_eq!(pool.get("never heard of"), None);
///
/// drop((mesh, topic));
/// assert!(pool.is_empty());
/// ```
///
/// # Concurrency
///
/// The pool has shards with a lock each, held while a table is searched. Threads that intern the same
/// value at once get the same handle. Cloning a handle takes no lock. Dropping one takes no lock
/// either, except for the last handle of a value under
/// [`UntilReleased`](Retention::UntilReleased): the lock decides whether the value is removed or was
/// interned again at that moment.
///
/// # After a fork
///
/// A forked child inherits the pool and its handles, which stay equal to those of later calls; from
/// then on, parent and child each have their own pool. `fork` waits for the threads that are inside a
/// pool, which takes microseconds. The child never drops the handles that other threads of the parent
/// held.
///
/// `fork` waits at most ten seconds, which passes only if a signal handler forks in the middle of a
/// call of this pool, or a thread is stopped there. The child then does without that part of the
/// pool: [`try_intern`](Pool::try_intern) returns [`PoolError::Forked`] for values that belong there,
/// and all other calls skip it. Handles stay valid.
///
/// # Costs
///
/// A value takes 48 bytes plus its length, rounded up to eight, in one allocation, and 10 to 21 bytes
/// of a table. Values may be of any length, and empty.
pub struct Pool {
    seed: u64,
    retention: Retention,
    shards: Box<[Arc<Shard>]>,
}

impl Pool {
    /// Makes a pool that keeps its values forever, without a size limit.
    pub fn new() -> Self {
        PoolOptions::new().build()
    }

    fn with_options(options: &PoolOptions) -> Self {
        let budget = options.max_bytes.map(|limit| Arc::new(Budget::new(limit)));
        debug_assert!(options.shards.is_power_of_two(), "a mask chooses the shard");
        let shard = |_| Arc::new(Shard::new(options.retention, budget.clone()));
        Self {
            seed: options.seed_or_random(),
            retention: options.retention,
            shards: (0..options.shards).map(shard).collect(),
        }
    }

    /// Returns the handle of a value, and adds the value if it is new. O(1).
    ///
    /// # Panics
    ///
    /// Panics if [`try_intern`](Pool::try_intern) returns an error: if the pool has a
    /// [limit](PoolOptions::max_bytes) and a new value does not fit, or
    /// [after a fork](Pool#after-a-fork). Use `try_intern` for a pool with a limit.
    #[inline]
    pub fn intern(&self, value: impl AsRef<[u8]>) -> Interned {
        match self.try_intern(value) {
            Ok(handle) => handle,
            Err(error) => panic!("{error}"),
        }
    }

    /// Returns the handle of a value, and adds the value if it is new and fits. O(1).
    ///
    /// # Errors
    ///
    /// Returns [`PoolError::Full`] if the value is new and exceeds the
    /// [limit](PoolOptions::max_bytes), and [`PoolError::Forked`] only
    /// [after a fork](Pool#after-a-fork).
    #[inline]
    pub fn try_intern(&self, value: impl AsRef<[u8]>) -> Result<Interned, PoolError> {
        let value = value.as_ref();
        let hash = self.hash(value);
        self.shard(hash).intern(hash, value)
    }

    /// Returns the handle of a value, if the pool has the value. O(1).
    #[inline]
    pub fn get(&self, value: impl AsRef<[u8]>) -> Option<Interned> {
        let value = value.as_ref();
        let hash = self.hash(value);
        self.shard(hash).get(hash, value)
    }

    /// Returns the number of values.
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .filter_map(|shard| shard.lock().ok())
            .map(|state| state.table.len())
            .sum()
    }

    /// Returns whether the pool has no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how long values are kept.
    pub fn retention(&self) -> Retention {
        self.retention
    }

    /// Calls `visit` with each value, in the order of the tables: with the same
    /// [seed](PoolOptions::seed), and values interned in the same order, the same in every run.
    ///
    /// `visit` may use the pool: no lock is held. A value that is in the pool during the whole call is
    /// visited once; one that is added or removed during it, at most once.
    pub fn for_each(&self, mut visit: impl FnMut(&Interned)) {
        for shard in &self.shards {
            let Ok(state) = shard.lock() else {
                continue;
            };
            let handles: Vec<_> = state.table.iter().map(Interned::adopt).collect();
            drop(state);
            handles.iter().for_each(&mut visit);
        }
    }

    /// Returns the counters: hits, misses, entries, bytes. O(1).
    pub fn stats(&self) -> PoolStats {
        let mut stats = PoolStats::default();
        for shard in &self.shards {
            if let Ok(state) = shard.lock() {
                stats.add(&state);
            }
        }
        stats
    }

    /// Returns the `count` values with the most handles, each with that number, in descending order; ties
    /// in the order of their bytes. O(n): locks one shard after the other while it reads all of it.
    ///
    /// The returned handles are not counted.
    pub fn most_referenced(&self, count: usize) -> Vec<(Interned, u64)> {
        stats::top(self.shards(), count, |counts| counts.references)
    }

    /// Returns the `count` values with the most uses, as [`most_referenced`](Self::most_referenced): each
    /// call of `intern` or `get` that returned the value is one.
    pub fn most_used(&self, count: usize) -> Vec<(Interned, u64)> {
        stats::top(self.shards(), count, |counts| counts.uses)
    }

    fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter().map(Arc::as_ref)
    }

    /// Removes all values. Returns how many there were.
    ///
    /// Handles stay valid, as do their bytes, but the pool no longer has the values: interning one
    /// again makes a new handle, which is not equal to the old one. Values are removed shard by
    /// shard; a value that another thread interns during the call is removed or not.
    ///
    /// # Errors
    ///
    /// Returns [`PoolError::Retained`] unless the pool was made with [`Retention::UntilReset`], because
    /// the other policies promise that handles stay equal to those of later calls. Returns
    /// [`PoolError::Forked`] only [after a fork](Pool#after-a-fork); the shards before the lost one
    /// are empty then.
    pub fn reset(&self) -> Result<usize, PoolError> {
        if self.retention != Retention::UntilReset {
            let until = self.retention.until();
            return Err(PoolError::Retained { until });
        }
        let mut removed = 0;
        for shard in &self.shards {
            // The table is freed without its lock.
            let table = shard.reset().map_err(|Abandoned| PoolError::Forked)?;
            removed += table.len();
        }
        Ok(removed)
    }

    /// Releases unused memory: spare room of the tables and, under [`Retention::UntilReset`], the
    /// values that have no handle. Returns how many values it removed.
    pub fn shrink(&self) -> usize {
        self.shards.iter().map(|shard| shard.shrink().len()).sum()
    }

    #[inline]
    fn hash(&self, value: &[u8]) -> u64 {
        xxh3_64_with_seed(value, self.seed)
    }

    /// Returns the shard of a hash, by bits that the search of its table does not start with.
    #[inline]
    fn shard(&self, hash: u64) -> &Arc<Shard> {
        &self.shards[(hash >> 48) as usize & (self.shards.len() - 1)]
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("retention", &self.retention)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
