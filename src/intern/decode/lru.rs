//! The cached instances, and those that were evicted while the program still held them.
//!
//! Decides what is evicted first. It never drops an instance, because that runs the caller's code:
//! evicted ones are put into `deferred_drops`, which is emptied after the lock is released.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use hashlink::{DefaultHashBuilder, LinkedHashMap, LruCache};

use crate::intern::decode::flight::Flight;
use crate::intern::decode::options::DecodeOptions;

/// The bytes that an instance was decoded from.
type Packed = Arc<[u8]>;
type Map<K, V> = HashMap<K, V, DefaultHashBuilder>;

/// Counters of a [`DecodeCache`](crate::intern::DecodeCache) at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeStats {
    /// Calls that found an instance, or waited for another thread that was decoding it.
    pub hits: u64,
    /// Calls that decoded, successfully or not.
    pub misses: u64,
    /// Decodings that failed or panicked.
    pub failures: u64,
    /// Instances evicted by the maximum size, by age, or by `clear`.
    pub evictions: u64,
    /// Hits on evicted instances that the program still held.
    pub revivals: u64,
    /// Instances cached now, pinned ones not counted.
    pub entries: usize,
    /// Instances pinned now.
    pub pinned: usize,
}

impl DecodeStats {
    /// Returns the share of calls that were hits, from 0 to 1; 0 if there were no calls.
    pub fn hit_rate(&self) -> f64 {
        match self.hits + self.misses {
            0 => 0.0,
            all => self.hits as f64 / all as f64,
        }
    }
}

/// A cached instance, and when it was last used.
#[derive(Debug)]
struct Kept<T> {
    instance: Arc<T>,
    used: Duration,
    secondary_key: Option<u64>,
}

/// An evicted instance that the program may still hold.
#[derive(Debug)]
struct Evicted<T> {
    instance: Weak<T>,
    secondary_key: Option<u64>,
}

/// Everything that the lock of a cache protects.
pub(super) struct LruStore<T> {
    max_entries: usize,
    min_entries: usize,
    max_age: Option<Duration>,
    /// The time by the caller's clock; zero if age evicts nothing.
    now: Duration,
    is_on: bool,
    /// Each with its secondary key.
    pinned: Map<Packed, (Arc<T>, Option<u64>)>,
    /// The least recently used first.
    kept: LruCache<Packed, Kept<T>>,
    /// Evicted instances, some of them still held. The next one to check comes first.
    evicted: LinkedHashMap<Packed, Evicted<T>>,
    by_secondary_key: Map<u64, Packed>,
    pub(super) flights: Map<Packed, Arc<Flight<T>>>,
    stats: DecodeStats,
    /// Instances to drop after the lock is released.
    pub(super) deferred_drops: Vec<Arc<T>>,
}

impl<T> LruStore<T> {
    pub(super) fn new(options: &DecodeOptions) -> Self {
        Self {
            max_entries: options.max_entries,
            min_entries: options.min_entries,
            max_age: options.max_age,
            now: Duration::ZERO,
            is_on: true,
            pinned: Map::default(),
            kept: LruCache::new_unbounded(),
            evicted: LinkedHashMap::new(),
            by_secondary_key: Map::default(),
            flights: Map::default(),
            stats: DecodeStats::default(),
            deferred_drops: Vec::new(),
        }
    }

    /// Sets the time, before every other call. Of two threads that read the clock one after the
    /// other, the later one may arrive first.
    pub(super) fn set_time(&mut self, now: Duration) {
        self.now = now;
    }

    pub(super) fn stats(&self) -> DecodeStats {
        DecodeStats {
            entries: self.kept.len(),
            pinned: self.pinned.len(),
            ..self.stats
        }
    }

    pub(super) fn count_hit(&mut self) {
        self.stats.hits += 1;
    }

    pub(super) fn count_miss(&mut self) {
        self.stats.misses += 1;
    }

    pub(super) fn count_failure(&mut self) {
        self.stats.failures += 1;
    }

    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    pub(super) fn set_on(&mut self, on: bool) {
        self.is_on = on;
    }

    /// Returns the instance for these bytes: a pinned, cached or still held one.
    pub(super) fn find(&mut self, packed: &[u8]) -> Option<Arc<T>> {
        if let Some((pinned, _)) = self.pinned.get(packed) {
            return Some(Arc::clone(pinned));
        }
        if !self.is_on {
            return None;
        }
        if let Some(kept) = self.kept.get_mut(packed) {
            kept.used = self.now;
            return Some(Arc::clone(&kept.instance));
        }
        let instance = self.evicted.get(packed)?.instance.upgrade()?;
        let (packed, evicted) = self.evicted.remove_entry(packed)?;
        self.stats.revivals += 1;
        self.keep(packed, Arc::clone(&instance), evicted.secondary_key);
        Some(instance)
    }

    pub(super) fn find_by_secondary_key(&mut self, secondary_key: u64) -> Option<Arc<T>> {
        let packed = Arc::clone(self.by_secondary_key.get(&secondary_key)?);
        self.find(&packed)
    }

    /// Caches an instance and returns it; if there already is one for these bytes, returns that one.
    pub(super) fn insert(
        &mut self,
        packed: &[u8],
        instance: Arc<T>,
        secondary_key: Option<u64>,
    ) -> Arc<T> {
        if let Some(there) = self.find(packed) {
            self.deferred_drops.push(instance);
            return there;
        }
        if self.is_on {
            let packed = Packed::from(packed);
            self.claim_secondary_key(&packed, secondary_key);
            // An evicted one that was dropped since may still be listed.
            self.evicted.remove(&packed);
            self.keep(packed, Arc::clone(&instance), secondary_key);
        }
        instance
    }

    /// Pins an instance; if there already is one for these bytes, pins that one instead.
    /// `secondary_key` belongs to `instance`.
    pub(super) fn pin(
        &mut self,
        packed: &[u8],
        instance: Arc<T>,
        secondary_key: Option<u64>,
    ) -> Arc<T> {
        let kept = self.kept.remove(packed);
        let kept = kept.map(|kept| (kept.instance, kept.secondary_key));
        let held = |this: &mut Self| {
            let evicted = this.evicted.remove(packed)?;
            Some((evicted.instance.upgrade()?, evicted.secondary_key))
        };
        let pinned = self.pinned.get(packed).cloned();
        let there = pinned.or(kept).or_else(|| held(self));
        let (pinned, secondary_key) = match there {
            Some(there) => {
                self.deferred_drops.push(instance);
                there
            }
            None => (instance, secondary_key),
        };
        let packed = Packed::from(packed);
        self.claim_secondary_key(&packed, secondary_key);
        self.pinned
            .insert(packed, (Arc::clone(&pinned), secondary_key));
        pinned
    }

    /// Gives the secondary key to these bytes, unless an instance that is still there has it.
    fn claim_secondary_key(&mut self, packed: &Packed, secondary_key: Option<u64>) {
        let Some(secondary_key) = secondary_key else {
            return;
        };
        let owner = self.by_secondary_key.get(&secondary_key);
        if owner.is_none_or(|owner| owner == packed || !self.is_there(owner)) {
            self.by_secondary_key
                .insert(secondary_key, Arc::clone(packed));
        }
    }

    fn is_there(&self, packed: &Packed) -> bool {
        let is_held = |evicted: &Evicted<T>| evicted.instance.strong_count() > 0;
        self.pinned.contains_key(packed)
            || self.kept.contains_key(packed)
            || self.evicted.get(packed).is_some_and(is_held)
    }

    fn keep(&mut self, packed: Packed, instance: Arc<T>, secondary_key: Option<u64>) {
        let kept = Kept {
            instance,
            used: self.now,
            secondary_key,
        };
        debug_assert!(!self.evicted.contains_key(&packed), "cached or evicted");
        let before = self.kept.insert(packed, kept);
        debug_assert!(before.is_none(), "equal bytes have one instance");
        while self.kept.len() > self.max_entries {
            self.evict();
        }
        self.expire();
    }

    /// Evicts the instances that were unused for longer than the maximum age.
    pub(super) fn expire(&mut self) {
        let now = self.now;
        let Some(max_age) = self.max_age else {
            return;
        };
        let is_old = |kept: &Kept<T>| now.saturating_sub(kept.used) > max_age;
        while self.kept.len() > self.min_entries
            && self
                .kept
                .iter()
                .next()
                .is_some_and(|(_, kept)| is_old(kept))
        {
            self.evict();
        }
    }

    /// Evicts everything that is not pinned.
    pub(super) fn clear(&mut self) {
        while !self.kept.is_empty() {
            self.evict();
        }
    }

    /// Evicts the least recently used instance. It is still found while the program holds it.
    fn evict(&mut self) {
        if let Some((packed, kept)) = self.kept.remove_lru() {
            let instance = Arc::downgrade(&kept.instance);
            let secondary_key = kept.secondary_key;
            let evicted = Evicted {
                instance,
                secondary_key,
            };
            let before = self.evicted.insert(packed, evicted);
            debug_assert!(before.is_none(), "cached or evicted");
            self.stats.evictions += 1;
            self.deferred_drops.push(kept.instance);
        }
        // Two are checked for each that is added, so that dropped ones do not accumulate.
        self.check_one_evicted();
        self.check_one_evicted();
    }

    /// Removes the evicted instance that was not checked for longest, if it was dropped.
    fn check_one_evicted(&mut self) {
        let Some((packed, evicted)) = self.evicted.pop_front() else {
            return;
        };
        if evicted.instance.strong_count() > 0 {
            self.evicted.insert(packed, evicted);
        } else if let Some(secondary_key) = evicted.secondary_key
            && self.by_secondary_key.get(&secondary_key) == Some(&packed)
        {
            self.by_secondary_key.remove(&secondary_key);
        }
    }

    #[cfg(all(test, not(loom)))]
    pub(super) fn evicted_len(&self) -> usize {
        self.evicted.len()
    }

    #[cfg(all(test, not(loom)))]
    pub(super) fn secondary_keys_len(&self) -> usize {
        self.by_secondary_key.len()
    }
}
