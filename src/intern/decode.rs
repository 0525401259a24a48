//! Decoded instances, of which equal bytes give the same one.
//!
//! Knows when to decode, and who waits for whom; what is kept, and what goes first, the shelf knows.
//! What the bytes mean is the caller's.

mod flight;
mod options;
mod shelf;
#[cfg(test)]
mod tests;

use std::fmt;
use std::mem::take;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use crate::lock::{Lock, Locked};

use crate::intern::decode::flight::{Flight, Pilot};
use crate::intern::decode::options::Clock;
use crate::intern::decode::shelf::Shelf;

pub use crate::intern::decode::options::DecodeOptions;
pub use crate::intern::decode::shelf::DecodeStats;

/// What was decoded before: equal bytes give the same instance, while anyone holds it, and for some
/// time longer.
///
/// For what a protocol repeats in every message, and which is worth more decoded than packed. A few
/// instances are kept, those that were asked for last; one that had to go, but that somebody still
/// holds, is found all the same. Unlike in a [`Pool`](crate::Pool) the memory has a bound whatever
/// comes in, and what is shared is a value of any type.
///
/// # Route distinguishers of VPN routes
///
/// ```
/// use std::sync::{Arc, LazyLock};
/// use mmapcache::{DecodeCache, DecodeOptions};
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
/// One lock, which is held for a lookup and never while code of the caller runs. Of many threads that
/// ask for the same new bytes at once, one decodes and the others wait for it; if it fails or
/// panics, that is its own, and the next one tries. A decode function may use the cache for other
/// bytes, but no two may wait for each other in a circle.
///
/// # After a fork
///
/// A forked child has what was kept and pinned at the fork, and goes on with it for itself; `fork`
/// waits for the threads that are at work in a cache, which takes microseconds. What another thread
/// of the parent was decoding, the child decodes itself.
///
/// After ten seconds a fork waits no longer. That happens where a signal handler forks in the middle
/// of a call of this cache, or a thread is stopped there. The child then does without the cache:
/// everything is decoded each time, and nothing is found, kept or pinned.
///
/// # Costs
///
/// For each instance that is kept: its bytes once, and some 100 more for the order, the table and
/// the counts. An instance that was evicted while somebody held it is remembered until it was
/// dropped and some others were evicted after it.
pub struct DecodeCache<T> {
    shelf: Lock<Shelf<T>>,
    /// Where age evicts.
    clock: Option<Clock>,
    number: options::Number<T>,
}

/// What there is to do for some bytes.
enum Step<T> {
    Found(Arc<T>),
    /// Another thread decodes them.
    Wait(Arc<Flight<T>>),
    /// The caller decodes them; others wait for it, where there is a flight.
    Decode(Option<Arc<Flight<T>>>),
}

impl<T> DecodeCache<T> {
    /// A cache with the default options.
    pub fn new() -> Self {
        DecodeOptions::new().build()
    }

    fn with_options(options: &DecodeOptions, number: options::Number<T>) -> Self {
        Self {
            shelf: Lock::new(Shelf::new(options)),
            clock: options.max_age.map(|_| options.clock.clone()),
            number,
        }
    }

    /// The instance for some bytes, decoded now if there is none. O(1) but for decoding.
    ///
    /// # Errors
    ///
    /// What the decode function returns. Nothing is remembered of it.
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
                        if let Some(mut shelf) = self.open() {
                            shelf.count_hit();
                        }
                        return Ok(instance);
                    }
                }
                Step::Decode(flight) => {
                    let attempt = Attempt {
                        cache: self,
                        packed,
                        flight,
                        is_over: false,
                    };
                    return decode(packed).map(|decoded| attempt.succeed(decoded));
                }
            }
        }
    }

    fn step(&self, packed: &[u8]) -> Step<T> {
        let Some(mut shelf) = self.open() else {
            return Step::Decode(None);
        };
        if let Some(instance) = shelf.find(packed) {
            shelf.count_hit();
            return Step::Found(instance);
        }
        if !shelf.is_on() {
            shelf.count_miss();
            return Step::Decode(None);
        }
        let flight = shelf.flights.get(packed);
        match flight.map(|flight| (flight.pilot(), flight)) {
            Some((Pilot::Other, flight)) => Step::Wait(Arc::clone(flight)),
            // It asks itself for what it is decoding: it is to get an answer, or run out of stack.
            Some((Pilot::Own, _)) => {
                shelf.count_miss();
                Step::Decode(None)
            }
            Some((Pilot::Gone, _)) | None => {
                shelf.count_miss();
                let flight = Arc::new(Flight::new());
                shelf.flights.insert(packed.into(), Arc::clone(&flight));
                Step::Decode(Some(flight))
            }
        }
    }

    /// The instance for some bytes, if there is one. O(1).
    pub fn get(&self, packed: impl AsRef<[u8]>) -> Option<Arc<T>> {
        let mut shelf = self.open()?;
        let found = shelf.find(packed.as_ref())?;
        shelf.count_hit();
        Some(found)
    }

    /// The instance with a number, if there is one, in a cache made by
    /// [`build_numbered`](DecodeOptions::build_numbered). Of instances with the same number, the first
    /// one is found as long as it is there. O(1).
    pub fn get_by_number(&self, number: u64) -> Option<Arc<T>> {
        let mut shelf = self.open()?;
        let found = shelf.find_number(number)?;
        shelf.count_hit();
        Some(found)
    }

    /// Keeps an instance for good: the known values of a small table, or, for no bytes at all, what
    /// is to stand for nothing. Pinned instances are found even when the cache is
    /// [off](DecodeCache::set_enabled).
    ///
    /// Returns the instance that is pinned now: the one that there is for these bytes, if there is
    /// one, and not the one that was given.
    pub fn pin(&self, packed: impl AsRef<[u8]>, instance: T) -> Arc<T> {
        let instance = Arc::new(instance);
        let number = (self.number)(&instance);
        match self.open() {
            Some(mut shelf) => shelf.pin(packed.as_ref(), instance, number),
            None => instance,
        }
    }

    /// Turns the cache off, or on again. While it is off, everything that is not pinned is decoded
    /// each time and nothing is kept; what was kept before is found again afterwards.
    pub fn set_enabled(&self, enabled: bool) {
        if let Some(mut shelf) = self.open() {
            shelf.set_on(enabled);
        }
    }

    /// Whether the cache is on, as it is at first.
    pub fn is_enabled(&self) -> bool {
        self.open().is_some_and(|shelf| shelf.is_on())
    }

    /// Evicts what nobody has asked for since too long, down to the minimum. This also happens
    /// whenever an instance is added.
    pub fn expire(&self) {
        if let Some(mut shelf) = self.open() {
            shelf.expire();
        }
    }

    /// Evicts everything but what is pinned. What somebody holds is found as before.
    pub fn clear(&self) {
        if let Some(mut shelf) = self.open() {
            shelf.clear();
        }
    }

    /// Instances that are kept, pinned ones too.
    pub fn len(&self) -> usize {
        let stats = self.stats();
        stats.entries + stats.pinned
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hits, misses, evictions. O(1).
    pub fn stats(&self) -> DecodeStats {
        self.open()
            .map_or_else(DecodeStats::default, |shelf| shelf.stats())
    }

    /// The shelf at this time; none in a forked child that lost it. The clock is the caller's, so it
    /// is looked at before the lock is taken.
    fn open(&self) -> Option<Open<'_, T>> {
        let now = self.clock.as_ref().map_or(Duration::ZERO, Clock::now);
        let mut shelf = self.shelf.lock().ok()?;
        shelf.set_time(now);
        Some(Open {
            shelf,
            gone: Vec::new(),
        })
    }
}

/// The shelf, locked. What had to go is dropped when it is locked no more, for that runs the code
/// of those whose instances they are.
struct Open<'a, T> {
    // Dropped in this order.
    shelf: Locked<'a, Shelf<T>>,
    gone: Vec<Arc<T>>,
}

impl<T> Deref for Open<'_, T> {
    type Target = Shelf<T>;

    fn deref(&self) -> &Shelf<T> {
        &self.shelf
    }
}

impl<T> DerefMut for Open<'_, T> {
    fn deref_mut(&mut self) -> &mut Shelf<T> {
        &mut self.shelf
    }
}

impl<T> Drop for Open<'_, T> {
    fn drop(&mut self) {
        self.gone = take(&mut self.shelf.gone);
    }
}

/// A decoding by this thread. Dropped without success it lets the others try.
struct Attempt<'a, T> {
    cache: &'a DecodeCache<T>,
    packed: &'a [u8],
    flight: Option<Arc<Flight<T>>>,
    is_over: bool,
}

impl<T> Attempt<'_, T> {
    fn succeed(mut self, decoded: T) -> Arc<T> {
        let decoded = Arc::new(decoded);
        let number = (self.cache.number)(&decoded);
        let mut shelf = self.cache.open();
        let instance = match &mut shelf {
            Some(shelf) => shelf.insert(self.packed, decoded, number),
            None => decoded,
        };
        self.land(shelf, Some(&instance));
        instance
    }

    fn land(&mut self, shelf: Option<Open<'_, T>>, instance: Option<&Arc<T>>) {
        self.is_over = true;
        let Some(flight) = self.flight.take() else {
            return;
        };
        if let Some(mut shelf) = shelf {
            // In one go with the insertion: nobody decodes again what is there. In a forked child
            // another thread may have begun anew.
            let is_this = |there: &Arc<_>| Arc::ptr_eq(there, &flight);
            if shelf.flights.get(self.packed).is_some_and(is_this) {
                shelf.flights.remove(self.packed);
            }
        }
        flight.land(instance.cloned());
    }
}

impl<T> Drop for Attempt<'_, T> {
    fn drop(&mut self) {
        if !self.is_over {
            let mut shelf = self.cache.open();
            if let Some(shelf) = &mut shelf {
                shelf.count_failure();
            }
            self.land(shelf, None);
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
