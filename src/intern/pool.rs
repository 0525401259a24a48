//! A pool of values of which each is held once, and found by its bytes.
//!
//! Knows which shard a value belongs to; what is in a shard, and when it goes, the shard decides.
//! A pool has no file: what is to stay after the process has labels.

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
use crate::lock::Lost;

use crate::intern::pool::budget::Budget;
use crate::intern::pool::shard::Shard;

pub use crate::intern::pool::handle::Interned;
pub use crate::intern::pool::hasher::StoredHash;
pub use crate::intern::pool::options::{PoolOptions, Retention};
pub use crate::intern::pool::stats::{PoolStats, Top, TopBy};
pub use crate::intern::pool::typed::{TypedInterned, TypedPool};

/// Equal values, held once: whoever interns one gets the same handle, one pointer wide.
///
/// For what comes again and again within one process: topics, host names, attributes of routes.
/// Handles are compared by their address and hashed without looking at the value; see [`Interned`].
/// What a number is to stand for, in every process and after every restart, is a label:
/// [`Labels`](crate::Labels).
///
/// # Topics of a publish/subscribe mesh
///
/// ```
/// use std::collections::{HashMap, HashSet};
/// use mmapcache::{Interned, PoolOptions, Retention};
///
/// // Topics that nobody subscribes to any more are forgotten.
/// let pool = PoolOptions::new().retention(Retention::UntilReleased).build();
/// let mut mesh: HashMap<Interned, HashSet<u32>> = HashMap::new();
/// for (peer, topic) in [(1, "blocks"), (2, "blocks"), (1, "attestations")] {
///     mesh.entry(pool.intern(topic)).or_default().insert(peer);
/// }
///
/// // A message came in: its topic is bytes of a buffer, and nothing is copied to find its peers.
/// let topic = pool.lookup(b"blocks").expect("somebody subscribed");
/// assert_eq!(mesh[&topic].len(), 2);
/// assert_eq!(pool.lookup("never heard of"), None);
///
/// drop((mesh, topic));
/// assert!(pool.is_empty());
/// ```
///
/// # Concurrency
///
/// The pool is in shards with a lock each, which is held while a table is searched. Threads that
/// intern the same value at once get the same handle. Clones take no lock; nor do drops, but that
/// of a value's last handle where it is [`UntilReleased`](Retention::UntilReleased): whether the
/// value goes, or was interned again at that moment, is decided under the lock.
///
/// # After a fork
///
/// A forked child has the pool as it was at the fork, with handles that are equal to those of later
/// calls, and goes on with it; from then on, parent and child each have their own. `fork` waits for
/// the threads that are at work in a pool, which takes microseconds. What handles other threads of
/// the parent had, the child counts as held for good.
///
/// After ten seconds a fork waits no longer. That happens where a signal handler forks in the middle
/// of a call of this pool, or a thread is stopped there. The child then does without that part of
/// the pool: [`try_intern`](Pool::try_intern) is [`PoolError::Forked`] for values that belong there,
/// and everything else passes over it. Handles stay valid.
///
/// # Costs
///
/// A value takes 48 bytes and its own, rounded up to eight, in one allocation, and 10 to 21 bytes of
/// a table. Values may be of any length, and empty.
pub struct Pool {
    seed: u64,
    retention: Retention,
    shards: Box<[Arc<Shard>]>,
}

impl Pool {
    /// A pool that keeps its values, without a limit.
    pub fn new() -> Self {
        PoolOptions::new().build()
    }

    fn with_options(options: &PoolOptions) -> Self {
        let budget = options.max_bytes.map(|limit| Arc::new(Budget::new(limit)));
        let shard = |_| Arc::new(Shard::new(options.retention, budget.clone()));
        Self {
            seed: options.seed_or_random(),
            retention: options.retention,
            shards: (0..options.shards).map(shard).collect(),
        }
    }

    /// The handle of a value, which is added if it is not there. O(1).
    ///
    /// # Panics
    ///
    /// Where the pool has a [limit](PoolOptions::max_bytes), and the value is new and does not fit:
    /// there, use [`try_intern`](Pool::try_intern). It panics where that returns any error.
    #[inline]
    pub fn intern(&self, value: impl AsRef<[u8]>) -> Interned {
        match self.try_intern(value) {
            Ok(handle) => handle,
            Err(error) => panic!("{error}"),
        }
    }

    /// The handle of a value, which is added if it is not there and fits. O(1).
    ///
    /// # Errors
    ///
    /// [`PoolError::Full`], never without a limit; [`PoolError::Forked`], only
    /// [after a fork](Pool#after-a-fork).
    #[inline]
    pub fn try_intern(&self, value: impl AsRef<[u8]>) -> Result<Interned, PoolError> {
        let value = value.as_ref();
        let hash = self.hash(value);
        self.shard(hash).intern(hash, value)
    }

    /// The handle of a value that is there. O(1).
    #[inline]
    pub fn lookup(&self, value: impl AsRef<[u8]>) -> Option<Interned> {
        let value = value.as_ref();
        let hash = self.hash(value);
        self.shard(hash).lookup(hash, value)
    }

    /// Values that are there now.
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .filter_map(|shard| shard.lock().ok())
            .map(|state| state.table.len())
            .sum()
    }

    /// Whether no value is there.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How long values are kept.
    pub fn retention(&self) -> Retention {
        self.retention
    }

    /// Calls a function with each value, in the order of the tables: with the same
    /// [seed](PoolOptions::seed), and values interned in the same order, the same in every run.
    ///
    /// No lock is held meanwhile, and the function may use the pool. It is called once with what is
    /// there from beginning to end, and at most once with what comes or goes.
    pub fn for_each(&self, mut look: impl FnMut(&Interned)) {
        for shard in &self.shards {
            let Ok(state) = shard.lock() else {
                continue;
            };
            let handles: Vec<_> = state.table.iter().map(Interned::adopt).collect();
            drop(state);
            handles.iter().for_each(&mut look);
        }
    }

    /// Hits, misses, bytes. O(1).
    pub fn stats(&self) -> PoolStats {
        let mut stats = PoolStats::default();
        for shard in &self.shards {
            if let Ok(state) = shard.lock() {
                stats.add(&state);
            }
        }
        stats
    }

    /// The `count` values with the most handles, or that were asked for most; of equal ones, those
    /// first whose bytes come first. O(n): each shard is locked while all of it is looked at.
    pub fn top(&self, count: usize, by: TopBy) -> Vec<Top> {
        stats::top(self.shards.iter().map(Arc::as_ref), count, by)
    }

    /// Forgets all values, and says how many there were.
    ///
    /// Handles that are still held stay valid, as do their bytes, but the pool does not know them
    /// any more: what is interned again gets a new handle, which is not equal to the old one.
    /// Values go shard by shard; what others intern meanwhile is forgotten, or is not.
    ///
    /// # Errors
    ///
    /// [`PoolError::Kept`], but in a pool made with [`Retention::UntilReset`]: others promise that
    /// handles stay equal to those of later calls. [`PoolError::Forked`], only
    /// [after a fork](Pool#after-a-fork); what comes before the lost part is forgotten then.
    pub fn reset(&self) -> Result<usize, PoolError> {
        if self.retention != Retention::UntilReset {
            let until = self.retention.until();
            return Err(PoolError::Kept { until });
        }
        let mut forgotten = 0;
        for shard in &self.shards {
            // The table is freed without its lock.
            let table = shard.reset().map_err(|Lost| PoolError::Forked)?;
            forgotten += table.len();
        }
        Ok(forgotten)
    }

    /// Gives back memory that nobody needs: spare room of the tables and, where values stay until
    /// a [`reset`](Pool::reset), those that nobody has a handle of. Returns how many were forgotten.
    pub fn shrink(&self) -> usize {
        self.shards.iter().map(|shard| shard.shrink().len()).sum()
    }

    #[inline]
    fn hash(&self, value: &[u8]) -> u64 {
        xxh3_64_with_seed(value, self.seed)
    }

    /// The shard of a hash, by bits that its table does not begin with.
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
