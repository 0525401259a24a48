//! How a cache of decoded instances is made, and what time it is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::intern::decode::DecodeCache;

/// The second key of an instance.
pub(super) type Number<T> = fn(&T) -> Option<u64>;

/// How a [`DecodeCache`] is made.
///
/// ```
/// use std::time::Duration;
/// use mmapcache::{DecodeCache, DecodeOptions};
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
    /// The default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Instances that are kept at most, pinned ones not counted; beyond that the least recently used
    /// goes. With 0 none is kept, and those that somebody holds are still found. Default: 2,000.
    pub fn max_entries(&mut self, entries: usize) -> &mut Self {
        self.max_entries = entries;
        self
    }

    /// Instances that age does not evict. Default: 10.
    pub fn min_entries(&mut self, entries: usize) -> &mut Self {
        self.min_entries = entries;
        self
    }

    /// How long an instance is kept that nobody asks for. Default: an hour.
    pub fn max_age(&mut self, age: Duration) -> &mut Self {
        self.max_age = Some(age);
        self
    }

    /// Age evicts nothing, and the clock is not looked at.
    pub fn ageless(&mut self) -> &mut Self {
        self.max_age = None;
        self
    }

    /// What tells the time: how long ago some moment was, always the same one. Called by every use
    /// of the cache, not under its lock, unless it is [ageless](DecodeOptions::ageless); it must not use
    /// the cache itself. Default: the time since the machine was started.
    pub fn clock(&mut self, clock: impl Fn() -> Duration + Send + Sync + 'static) -> &mut Self {
        self.clock = Clock(Arc::new(clock));
        self
    }

    /// Makes the cache.
    pub fn build<T>(&self) -> DecodeCache<T> {
        DecodeCache::with_options(self, |_| None)
    }

    /// Makes a cache whose instances are found by a number as well, which each instance knows (or
    /// none); see [`DecodeCache::get_by_number`]. Called once for each instance that was decoded or
    /// given to be pinned, not under the lock of the cache.
    pub fn build_numbered<T>(&self, number: fn(&T) -> Option<u64>) -> DecodeCache<T> {
        DecodeCache::with_options(self, number)
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

/// What tells the time.
#[derive(Clone)]
pub(super) struct Clock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Clock {
    pub(super) fn now(&self) -> Duration {
        (self.0)()
    }
}

/// The time since the machine was started, by a clock that ticks every few milliseconds and costs
/// nothing to speak of: a hit that looks at it takes 24 ns, with the precise one 43.
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
