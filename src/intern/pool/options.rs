//! Options of a pool.

use std::hash::{BuildHasher, RandomState};

use crate::intern::pool::Pool;

/// How long a [`Pool`] keeps a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Retention {
    /// As long as the pool exists. For sets of values that have a natural bound. The default.
    #[default]
    Forever,
    /// Until its last handle is dropped. Cloning and dropping a handle updates a second counter.
    UntilReleased,
    /// Until [`Pool::reset`] removes all values; [`Pool::shrink`] removes those without a handle.
    UntilReset,
}

impl Retention {
    pub(super) fn until(self) -> &'static str {
        match self {
            Self::Forever => "as long as it exists",
            Self::UntilReleased => "until their last handle is dropped",
            Self::UntilReset => "until it is reset",
        }
    }
}

/// Options for making a [`Pool`].
///
/// ```
/// use mmapcache::intern::{PoolOptions, Retention};
///
/// let pool = PoolOptions::new()
///     .retention(Retention::UntilReleased)
///     .max_bytes(64 << 20)
///     .build();
/// # assert!(pool.is_empty());
/// ```
#[derive(Clone, Debug)]
pub struct PoolOptions {
    pub(super) retention: Retention,
    pub(super) max_bytes: Option<u64>,
    pub(super) shards: usize,
    pub(super) seed: Option<u64>,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            retention: Retention::default(),
            max_bytes: None,
            shards: 16,
            seed: None,
        }
    }
}

impl PoolOptions {
    /// Returns the default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long values are kept. Default: [`Retention::Forever`].
    pub fn retention(&mut self, retention: Retention) -> &mut Self {
        self.retention = retention;
        self
    }

    /// Sets the largest number of bytes that the pool may hold: values, their headers, and the hash
    /// tables. Default: no limit.
    pub fn max_bytes(&mut self, bytes: u64) -> &mut Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// Sets the number of shards, each with a lock of its own: clamped to 1 to 256 and rounded up to a
    /// power of two. Default: 16.
    pub fn shards(&mut self, shards: usize) -> &mut Self {
        self.shards = shards.clamp(1, 256).next_power_of_two();
        self
    }

    /// Sets the seed of the hashes that handles carry. With a fixed seed, [`Pool::for_each`] and maps
    /// made with [`StoredHash`](crate::intern::StoredHash) have the same order in every run, which a
    /// test may want. An attacker who knows the seed can choose values that collide. Default: random.
    pub fn seed(&mut self, seed: u64) -> &mut Self {
        self.seed = Some(seed);
        self
    }

    /// Makes the pool.
    pub fn build(&self) -> Pool {
        Pool::with_options(self)
    }

    pub(super) fn seed_or_random(&self) -> u64 {
        self.seed.unwrap_or_else(|| RandomState::new().hash_one(0))
    }
}
