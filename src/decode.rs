//! Decoded instances, of which equal bytes give the same one.
//!
//! Knows when to decode, and who waits for whom; what is kept, and what goes first, the shelf knows.
//! What the bytes mean is the caller's.

mod flight;
mod options;
mod shelf;
#[cfg(all(test, not(loom)))]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use flight::Flight;
use shelf::{Found, Shelf};

pub use options::DecodeOptions;
pub use shelf::DecodeStats;

impl<T> DecodeCache<T> {
    fn open(&self) -> Open<'_, T> {
        Open {
            shelf: self.shelf.lock(),
            gone: Vec::new(),
        }
    }
}

/// The shelf, locked. What had to go is dropped when it is locked no more, for that runs the code
/// of those whose instances they are.
struct Open<'a, T> {
    // Dropped in this order.
    shelf: MutexGuard<'a, Shelf<T>>,
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
        let mut shelf = self.cache.open();
        let instance = shelf.insert(self.packed, Arc::new(decoded));
        self.land(shelf, Some(&instance));
        instance
    }

    fn land(&mut self, mut shelf: Open<'_, T>, instance: Option<&Arc<T>>) {
        self.is_over = true;
        let Some(flight) = self.flight.take() else {
            return;
        };
        // In one go with the insertion: nobody decodes again what is there.
        shelf.flights.remove(self.packed);
        drop(shelf);
        flight.land(instance.cloned());
    }
}

impl<T> Drop for Attempt<'_, T> {
    fn drop(&mut self) {
        if !self.is_over {
            let mut shelf = self.cache.open();
            shelf.count_failure();
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
