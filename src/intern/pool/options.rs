//! How a pool is made.

use std::hash::{BuildHasher, RandomState};

use crate::intern::pool::Pool;

/// How long a [`Pool`] keeps a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Retention {
    /// As long as the pool is there. For values of which there are only so many: the default.
    #[default]
    Forever,
    /// Until its last handle is dropped. Cloning and dropping a handle costs a second count.
    UntilReleased,
    /// Until [`Pool::reset`] clears everything as a whole; [`Pool::shrink`] gives up what nobody has
    /// a handle of.
    UntilReset,
}

impl Retention {
    pub(super) fn until(self) -> &'static str {
        match self {
            Self::Forever => "as long as it is there",
            Self::UntilReleased => "until their last handle is dropped",
            Self::UntilReset => "until it is reset",
        }
    }
}

/// How a [`Pool`] is made.
///
/// ```
/// use mmapcache::{PoolOptions, Retention};
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
    /// The default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long values are kept. Default: for ever.
    pub fn retention(&mut self, retention: Retention) -> &mut Self {
        self.retention = retention;
        self
    }

    /// Bytes that the pool may hold: the values, their headers, and the tables that they are found
    /// by. Default: no limit.
    pub fn max_bytes(&mut self, bytes: u64) -> &mut Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// Parts of the pool that have a lock each, rounded up to a power of two, from 1 to 256.
    /// Default: 16.
    pub fn shards(&mut self, shards: usize) -> &mut Self {
        self.shards = shards.clamp(1, 256).next_power_of_two();
        self
    }

    /// The seed of the hashes that handles carry. With a fixed one a test sees the same order in
    /// every run, of [`Pool::for_each`] and of maps made with [`StoredHash`](crate::StoredHash);
    /// whoever chooses the values can then choose colliding ones. Default: another one each time.
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
