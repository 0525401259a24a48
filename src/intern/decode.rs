//! An LRU cache of decoded values, in which concurrent misses of the same bytes decode once.
//!
//! Decides who decodes and who waits; `lru` decides what is kept and what is evicted first.

mod flight;
mod lru;
mod options;
#[cfg(test)]
mod tests;

use std::fmt;
use std::mem::take;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use crate::lock::{ForkSafeMutex, ForkSafeMutexGuard};

use crate::intern::decode::flight::{Flight, Leader};
use crate::intern::decode::lru::LruStore;
use crate::intern::decode::options::Clock;

pub use crate::intern::decode::lru::DecodeStats;
pub use crate::intern::decode::options::DecodeOptions;

/// An LRU cache of decoded values: equal bytes give the same instance.
///
/// Use it for parts that a protocol repeats in every message and that are expensive to decode or to
/// store twice. The cache keeps the most recently used instances, up to a
/// [maximum](DecodeOptions::max_entries). It also finds an evicted instance as long as the program
/// still holds a handle of it. Unlike a [`Pool`](crate::intern::Pool) it has a bounded size whatever
/// the input, and it shares values of any type.
///
/// # Route distinguishers of VPN routes
///
/// ```
/// use std::sync::{Arc, LazyLock};
/// use mmapcache::intern::{DecodeCache, DecodeOptions};
///
/// #[derive(Debug)]
/// struct RouteDistinguisher(Option<[u8; 8]>);
///
/// static KNOWN: LazyLock<DecodeCache<RouteDistinguisher>> = LazyLock::new(|| {
///     let cache = DecodeOptions::new().min_entries(50).max_entries(500).build();
///     cache.pin(b"", RouteDistinguisher(None)); // What a route without one has.
///     cache
/// });
///
/// impl RouteDistinguisher {
///     fn from_packed(packed: &[u8]) -> Result<Arc<Self>, std::array::TryFromSliceError> {
///         KNOWN.get_or_decode(packed, |packed| Ok(Self(Some(packed.try_into()?))))
///     }
/// }
///
/// let routes: Vec<_> = (0..100_000_u64)
///     .map(|route| RouteDistinguisher::from_packed(&(route % 10).to_be_bytes()))
///     .collect::<Result<_, _>>()?;
/// assert!(Arc::ptr_eq(&routes[3], &routes[99_993]));
/// assert_eq!(KNOWN.stats().misses, 10);
/// assert!(RouteDistinguisher::from_packed(b"")?.0.is_none());
/// assert!(RouteDistinguisher::from_packed(b"short").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Concurrency
///
/// One lock, held for each lookup and never while the caller's code runs. If several threads ask for
/// the same new bytes at once, one decodes and the others wait for its result (single flight). If it
/// fails or panics, only that thread sees the failure, and the next one tries. A decode function may
/// use the cache for other bytes, but two of them must not wait for each other in a circle.
///
/// # After a fork
///
/// A forked child inherits the cached and pinned instances, and has its own cache from then on.
/// `fork` waits for the threads that are inside a cache, which takes microseconds. The child itself
/// decodes what another thread of the parent was decoding.
///
/// `fork` waits at most ten seconds, which passes only if a signal handler forks in the middle of a
/// call of this cache, or a thread is stopped there. The child then does without the cache: it
/// decodes everything each time, and finds, keeps and pins nothing.
///
/// # Costs
///
/// Each cached instance takes its encoded bytes once and about 100 bytes more for the order, the
/// table and the counts. An instance that was evicted while the program held it takes an entry until
/// it was dropped and some more evictions have happened.
pub struct DecodeCache<T> {
    store: ForkSafeMutex<LruStore<T>>,
    /// `None` if age evicts nothing.
    clock: Option<Clock>,
    secondary_key: options::SecondaryKey<T>,
}

/// The next step of a lookup.
enum Step<T> {
    Found(Arc<T>),
    /// Another thread decodes them.
    Wait(Arc<Flight<T>>),
    /// The caller decodes them; other threads wait for it if there is a flight.
    Decode(Option<Arc<Flight<T>>>),
}

impl<T> DecodeCache<T> {
    /// Makes a cache with the default options.
    pub fn new() -> Self {
        DecodeOptions::new().build()
    }

    fn with_options(options: &DecodeOptions, secondary_key: options::SecondaryKey<T>) -> Self {
        Self {
            store: ForkSafeMutex::new(LruStore::new(options)),
            clock: options.max_age.map(|_| options.clock.clone()),
            secondary_key,
        }
    }

    /// Returns the instance for these bytes; calls `decode` if there is none. O(1) without decoding.
    ///
    /// # Errors
    ///
    /// Returns the error of `decode`. The cache stores nothing then.
    pub fn get_or_decode<E>(
        &self,
        packed: impl AsRef<[u8]>,
        decode: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let packed = packed.as_ref();
        loop {
            match self.step(packed) {
                Step::Found(instance) => return Ok(instance),
                Step::Wait(flight) => {
                    if let Some(instance) = flight.wait() {
                        if let Some(mut store) = self.open() {
                            store.count_hit();
                        }
                        return Ok(instance);
                    }
                }
                Step::Decode(flight) => {
                    let attempt = Attempt {
                        cache: self,
                        packed,
                        flight,
                        completed: false,
                    };
                    return decode(packed).map(|decoded| attempt.succeed(decoded));
                }
            }
        }
    }

    fn step(&self, packed: &[u8]) -> Step<T> {
        let Some(mut store) = self.open() else {
            return Step::Decode(None);
        };
        if let Some(instance) = store.find(packed) {
            store.count_hit();
            return Step::Found(instance);
        }
        if !store.is_on() {
            store.count_miss();
            return Step::Decode(None);
        }
        let flight = store.flights.get(packed);
        match flight.map(|flight| (flight.leader(), flight)) {
            Some((Leader::OtherThread, flight)) => Step::Wait(Arc::clone(flight)),
            // The decode function asks for the bytes that it is decoding: waiting for itself would
            // never end.
            Some((Leader::ThisThread, _)) => {
                store.count_miss();
                Step::Decode(None)
            }
            Some((Leader::Parent, _)) | None => {
                store.count_miss();
                let flight = Arc::new(Flight::new());
                store.flights.insert(packed.into(), Arc::clone(&flight));
                Step::Decode(Some(flight))
            }
        }
    }

    /// Returns the instance for these bytes, if there is one. O(1).
    pub fn get(&self, packed: impl AsRef<[u8]>) -> Option<Arc<T>> {
        let mut store = self.open()?;
        let found = store.find(packed.as_ref())?;
        store.count_hit();
        Some(found)
    }

    /// Returns the instance with this secondary key, if there is one, in a cache made by
    /// [`build_with_secondary_key`](DecodeOptions::build_with_secondary_key). If several instances
    /// have the same secondary key, the first one has it as long as it is cached. O(1).
    pub fn get_by_secondary_key(&self, secondary_key: u64) -> Option<Arc<T>> {
        let mut store = self.open()?;
        let found = store.find_by_secondary_key(secondary_key)?;
        store.count_hit();
        Some(found)
    }

    /// Pins an instance: it is never evicted, and is found even while the cache is
    /// [off](DecodeCache::set_enabled). Pin the known values of a small table, or, under empty bytes,
    /// the value that represents an absent field.
    ///
    /// Returns the instance that is pinned now: if there already is one for these bytes, that one
    /// instead of `instance`.
    pub fn pin(&self, packed: impl AsRef<[u8]>, instance: T) -> Arc<T> {
        let instance = Arc::new(instance);
        let secondary_key = (self.secondary_key)(&instance);
        match self.open() {
            Some(mut store) => store.pin(packed.as_ref(), instance, secondary_key),
            None => instance,
        }
    }

    /// Turns the cache off, or on again. While it is off, every call decodes, except for pinned
    /// instances, and nothing is stored. Instances that were cached before are found again afterwards.
    pub fn set_enabled(&self, enabled: bool) {
        if let Some(mut store) = self.open() {
            store.set_on(enabled);
        }
    }

    /// Returns whether the cache is on. It is on when made.
    pub fn is_enabled(&self) -> bool {
        self.open().is_some_and(|store| store.is_on())
    }

    /// Evicts the instances that were unused for longer than [`DecodeOptions::max_age`], down to
    /// [`DecodeOptions::min_entries`]. Adding an instance does this too.
    pub fn expire(&self) {
        if let Some(mut store) = self.open() {
            store.expire();
        }
    }

    /// Evicts everything that is not pinned. Instances that the program still holds are found as
    /// before.
    pub fn clear(&self) {
        if let Some(mut store) = self.open() {
            store.clear();
        }
    }

    /// Returns the number of cached instances, pinned ones included.
    pub fn len(&self) -> usize {
        let stats = self.stats();
        stats.entries + stats.pinned
    }

    /// Returns whether nothing is cached.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the counters: hits, misses, evictions and others. O(1).
    pub fn stats(&self) -> DecodeStats {
        self.open()
            .map_or_else(DecodeStats::default, |store| store.stats())
    }

    /// Locks the store and sets its time. `None` in a forked child that lost it. The clock is the
    /// caller's code, so it is read before the lock is taken.
    fn open(&self) -> Option<Open<'_, T>> {
        let now = self.clock.as_ref().map_or(Duration::ZERO, Clock::now);
        let mut store = self.store.lock().ok()?;
        store.set_time(now);
        Some(Open {
            store,
            deferred_drops: Vec::new(),
        })
    }
}

/// The locked store. Evicted instances are dropped after it is unlocked, because dropping them runs
/// the caller's code.
struct Open<'a, T> {
    // Dropped in this order.
    store: ForkSafeMutexGuard<'a, LruStore<T>>,
    deferred_drops: Vec<Arc<T>>,
}

impl<T> Deref for Open<'_, T> {
    type Target = LruStore<T>;

    fn deref(&self) -> &LruStore<T> {
        &self.store
    }
}

impl<T> DerefMut for Open<'_, T> {
    fn deref_mut(&mut self) -> &mut LruStore<T> {
        &mut self.store
    }
}

impl<T> Drop for Open<'_, T> {
    fn drop(&mut self) {
        self.deferred_drops = take(&mut self.store.deferred_drops);
    }
}

/// A decoding by this thread. Dropping it without success completes the flight as failed.
struct Attempt<'a, T> {
    cache: &'a DecodeCache<T>,
    packed: &'a [u8],
    flight: Option<Arc<Flight<T>>>,
    completed: bool,
}

impl<T> Attempt<'_, T> {
    fn succeed(mut self, decoded: T) -> Arc<T> {
        let decoded = Arc::new(decoded);
        let secondary_key = (self.cache.secondary_key)(&decoded);
        let mut store = self.cache.open();
        let instance = match &mut store {
            Some(store) => store.insert(self.packed, decoded, secondary_key),
            None => decoded,
        };
        self.complete(store, Some(&instance));
        instance
    }

    fn complete(&mut self, store: Option<Open<'_, T>>, instance: Option<&Arc<T>>) {
        debug_assert!(!self.completed, "an attempt ends once");
        self.completed = true;
        let Some(flight) = self.flight.take() else {
            return;
        };
        if let Some(mut store) = store {
            // Under the same lock as the insertion, so that no thread decodes these bytes again. In
            // a forked child another thread may have begun a new flight.
            let is_this = |current: &Arc<_>| Arc::ptr_eq(current, &flight);
            if store.flights.get(self.packed).is_some_and(is_this) {
                store.flights.remove(self.packed);
            }
        }
        flight.complete(instance.cloned());
    }
}

impl<T> Drop for Attempt<'_, T> {
    fn drop(&mut self) {
        if !self.completed {
            let mut store = self.cache.open();
            if let Some(store) = &mut store {
                store.count_failure();
            }
            self.complete(store, None);
        }
    }
}

impl<T> Default for DecodeCache<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for DecodeCache<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodeCache")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
