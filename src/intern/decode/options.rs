//! Options of a [`DecodeCache`], and its clock.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::intern::decode::DecodeCache;

/// Returns the secondary key of an instance, if it has one.
pub(super) type SecondaryKey<T> = fn(&T) -> Option<u64>;

/// Options for making a [`DecodeCache`].
///
/// ```
/// use std::time::Duration;
/// use mmapcache::intern::{DecodeCache, DecodeOptions};
///
/// let cache: DecodeCache<String> = DecodeOptions::new()
///     .max_entries(500)
///     .min_entries(50)
///     .max_age(Duration::from_secs(600))
///     .build();
/// # assert!(cache.is_empty());
/// ```
#[derive(Clone)]
pub struct DecodeOptions {
    pub(super) max_entries: usize,
    pub(super) min_entries: usize,
    pub(super) max_age: Option<Duration>,
    pub(super) clock: Clock,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            max_entries: 2_000,
            min_entries: 10,
            max_age: Some(Duration::from_secs(3_600)),
            clock: Clock::default(),
        }
    }
}

impl DecodeOptions {
    /// Returns the default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the largest number of cached instances, pinned ones not counted; beyond it the least
    /// recently used one is evicted. With 0 the cache keeps no instance alive, and finds only those
    /// that the program holds. Default: 2,000.
    pub fn max_entries(&mut self, entries: usize) -> &mut Self {
        self.max_entries = entries;
        self
    }

    /// Sets the number of most recently used instances that age does not evict. Default: 10.
    pub fn min_entries(&mut self, entries: usize) -> &mut Self {
        self.min_entries = entries;
        self
    }

    /// Sets how long an unused instance is kept. Default: one hour.
    pub fn max_age(&mut self, age: Duration) -> &mut Self {
        self.max_age = Some(age);
        self
    }

    /// Turns eviction by age off. The cache then never reads the clock.
    pub fn no_max_age(&mut self) -> &mut Self {
        self.max_age = None;
        self
    }

    /// Sets the clock: a function that returns the time elapsed since a fixed moment. Every use of
    /// the cache calls it, outside its lock, unless there is [no maximum age](Self::no_max_age). The
    /// function must not use the cache. Default: the time since the machine was started.
    pub fn clock(&mut self, clock: impl Fn() -> Duration + Send + Sync + 'static) -> &mut Self {
        self.clock = Clock(Arc::new(clock));
        self
    }

    /// Makes the cache.
    pub fn build<T>(&self) -> DecodeCache<T> {
        DecodeCache::with_options(self, |_| None)
    }

    /// Makes a cache whose instances are also found by a secondary key; see
    /// [`DecodeCache::get_by_secondary_key`]. `key` returns an instance's secondary key, or `None`
    /// if it has none; it is called once for each instance that is decoded or passed to
    /// [`pin`](DecodeCache::pin), outside the lock of the cache.
    pub fn build_with_secondary_key<T>(&self, key: fn(&T) -> Option<u64>) -> DecodeCache<T> {
        DecodeCache::with_options(self, key)
    }
}

impl fmt::Debug for DecodeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodeOptions")
            .field("max_entries", &self.max_entries)
            .field("min_entries", &self.min_entries)
            .field("max_age", &self.max_age)
            .finish_non_exhaustive()
    }
}

/// Returns the time.
#[derive(Clone)]
pub(super) struct Clock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Clock {
    pub(super) fn now(&self) -> Duration {
        (self.0)()
    }
}

/// The time since the machine was started, by a clock that ticks every few milliseconds: a hit that
/// reads it takes 24 ns; with the precise clock it takes 43.
impl Default for Clock {
    fn default() -> Self {
        #[cfg(target_os = "linux")]
        let clock = ClockId::MonotonicCoarse;
        #[cfg(not(target_os = "linux"))]
        let clock = ClockId::Monotonic;
        Self(Arc::new(move || {
            let time = clock_gettime(clock);
            Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
        }))
    }
}
