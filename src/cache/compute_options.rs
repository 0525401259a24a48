//! The options of a computation: how its value is stored, how long others wait for it.
//!
//! May call `cache::insert`.

use std::time::Duration;

use crate::cache::insert::InsertOptions;

/// Options of a call that computes a value if there is none:
/// [`get_or_insert_with`](crate::Cache::get_or_insert_with) and its relatives.
///
/// Made from [`InsertOptions`], so that these can be passed in its place.
///
/// ```
/// use std::time::Duration;
/// use mmapcache::{ComputeOptions, InsertOptions};
///
/// let ten_minutes = InsertOptions::new().ttl(Duration::from_secs(600));
/// let options = ComputeOptions::from(ten_minutes)
///     .patience(Duration::from_secs(5))
///     .stale_on_error(Duration::from_secs(3_600))
///     .early(1.0);
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ComputeOptions {
    insert: InsertOptions,
    absent_for: Option<Duration>,
    patience: Duration,
    beta: f64,
    stale_on_error: Option<Duration>,
    renew: Option<Duration>,
}

impl Default for ComputeOptions {
    fn default() -> Self {
        Self::from(InsertOptions::new())
    }
}

impl From<InsertOptions> for ComputeOptions {
    fn from(insert: InsertOptions) -> Self {
        Self {
            insert,
            absent_for: None,
            patience: Duration::from_secs(30),
            beta: 0.0,
            stale_on_error: None,
            renew: None,
        }
    }
}

impl From<&InsertOptions> for ComputeOptions {
    fn from(insert: &InsertOptions) -> Self {
        Self::from(*insert)
    }
}

impl From<&Self> for ComputeOptions {
    fn from(options: &Self) -> Self {
        *options
    }
}

impl ComputeOptions {
    /// Returns options for values without a deadline.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long a key is known not to exist after a computation found none. Default: as long as
    /// a value lives.
    #[must_use]
    pub fn absent_for(mut self, ttl: Duration) -> Self {
        self.absent_for = Some(ttl);
        self
    }

    /// Sets how long a call waits for one computation by another thread or process before it computes
    /// the value itself. Default: 30 seconds. `Duration::MAX` waits forever.
    ///
    /// Choose it well above the longest computation: it bounds what a process that is stopped, or two
    /// threads that wait for each other, cost the callers.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Turns early recomputation on (XFetch): a call finds a fresh value and recomputes it all the
    /// same, with probability exp(-t / (`beta` · d)), where t is the life that is left and d the time
    /// that the last computation took. So one caller usually replaces a value before it expires, and
    /// no one waits. 1 suits most; above it recomputes sooner. Default: 0, off. Negative numbers and
    /// NaN count as 0.
    #[must_use]
    pub fn early(mut self, beta: f64) -> Self {
        self.beta = beta;
        self
    }

    /// Sets how long after its deadline a value is returned in place of a computation that fails.
    /// Default: what the cache was given for it, at first nothing. An expired value that was removed
    /// is not there any more.
    #[must_use]
    pub fn stale_on_error(mut self, time: Duration) -> Self {
        self.stale_on_error = Some(time);
        self
    }

    /// Lets a fresh value that the call finds live until `ttl` from then on, as
    /// [`Cache::get_and_renew`](crate::Cache::get_and_renew). Default: hits change no deadline, but under
    /// [`CacheBuilder::time_to_idle`](crate::CacheBuilder::time_to_idle).
    #[must_use]
    pub fn renew(mut self, ttl: Duration) -> Self {
        self.renew = Some(ttl);
        self
    }

    pub(super) fn renewal(&self) -> Option<Duration> {
        self.renew
    }

    pub(super) fn patience_of_call(&self) -> Duration {
        self.patience
    }

    pub(super) fn beta(&self) -> f64 {
        self.beta.max(0.0)
    }

    /// In milliseconds, `default` if the caller did not say.
    pub(super) fn stale_on_error_millis(&self, default: u64) -> u64 {
        self.stale_on_error.map_or(default, |time| {
            u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
        })
    }

    /// Returns how to store what a computation returned that took `cost`.
    pub(super) fn to_store(self, is_absent: bool, cost: Duration) -> InsertOptions {
        let insert = match self.absent_for {
            Some(ttl) if is_absent => self.insert.ttl(ttl),
            _ => self.insert,
        };
        // Only calls that ask for early recomputation need it.
        match self.beta() > 0.0 {
            true => insert.cost(cost),
            false => insert,
        }
    }
}
