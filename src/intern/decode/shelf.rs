//! The instances that are kept, and those that somebody else still holds.
//!
//! Knows which goes first, and nothing of decoding. An instance is never dropped here, for that runs
//! its owner's code: what goes is put aside, to be dropped without the lock.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use hashlink::{DefaultHashBuilder, LinkedHashMap, LruCache};

use crate::intern::decode::flight::Flight;
use crate::intern::decode::options::DecodeOptions;

/// The bytes that an instance was decoded from.
type Packed = Arc<[u8]>;
type Map<K, V> = HashMap<K, V, DefaultHashBuilder>;

/// What a [`DecodeCache`](crate::DecodeCache) counted, and holds at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeStats {
    /// Calls that found an instance, or got that of another thread which was decoding it.
    pub hits: u64,
    /// Calls that decoded, with success or without.
    pub misses: u64,
    /// Those of them that failed or panicked.
    pub failures: u64,
    /// Instances that went because of the maximum, of age, or of `clear`.
    pub evictions: u64,
    /// Hits on instances that were evicted, but still held by somebody.
    pub revivals: u64,
    /// Instances kept now, pinned ones not counted.
    pub entries: usize,
    /// Pinned instances.
    pub pinned: usize,
}

impl DecodeStats {
    /// Hits of all calls, from 0 to 1.
    pub fn hit_rate(&self) -> f64 {
        match self.hits + self.misses {
            0 => 0.0,
            all => self.hits as f64 / all as f64,
        }
    }
}

/// An instance that is kept, and when it was last asked for.
#[derive(Debug)]
struct Kept<T> {
    instance: Arc<T>,
    used: Duration,
    number: Option<u64>,
}

/// An instance that somebody may still hold.
#[derive(Debug)]
struct Evicted<T> {
    instance: Weak<T>,
    number: Option<u64>,
}

/// Everything that the lock of a cache guards.
pub(super) struct Shelf<T> {
    max_entries: usize,
    min_entries: usize,
    max_age: Option<Duration>,
    /// The time by the caller's clock; zero where age evicts nothing.
    now: Duration,
    is_on: bool,
    /// Each with its number.
    pinned: Map<Packed, (Arc<T>, Option<u64>)>,
    /// The least recently used first.
    kept: LruCache<Packed, Kept<T>>,
    /// Evicted; some of them are held by somebody. The next one to look after first.
    evicted: LinkedHashMap<Packed, Evicted<T>>,
    numbers: Map<u64, Packed>,
    pub(super) flights: Map<Packed, Arc<Flight<T>>>,
    stats: DecodeStats,
    /// What is to be dropped without the lock.
    pub(super) gone: Vec<Arc<T>>,
}

impl<T> Shelf<T> {
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
            numbers: Map::default(),
            flights: Map::default(),
            stats: DecodeStats::default(),
            gone: Vec::new(),
        }
    }

    /// Tells the time, before anything else is asked for. Of threads that looked at the clock one
    /// after the other, the later one may be here first.
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

    /// The instance for some bytes: pinned, kept or held.
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
        self.keep(packed, Arc::clone(&instance), evicted.number);
        Some(instance)
    }

    pub(super) fn find_number(&mut self, number: u64) -> Option<Arc<T>> {
        let packed = Arc::clone(self.numbers.get(&number)?);
        self.find(&packed)
    }

    /// Keeps an instance; where there is one for these bytes, that one stays and is returned.
    pub(super) fn insert(
        &mut self,
        packed: &[u8],
        instance: Arc<T>,
        number: Option<u64>,
    ) -> Arc<T> {
        if let Some(there) = self.find(packed) {
            self.gone.push(instance);
            return there;
        }
        if self.is_on {
            let packed = Packed::from(packed);
            self.give_number(&packed, number);
            // What nobody holds any more may still stand there.
            self.evicted.remove(&packed);
            self.keep(packed, Arc::clone(&instance), number);
        }
        instance
    }

    /// Keeps an instance for good; where there is one for these bytes, that one.
    /// `number` is that of the given instance.
    pub(super) fn pin(&mut self, packed: &[u8], instance: Arc<T>, number: Option<u64>) -> Arc<T> {
        let kept = self.kept.remove(packed);
        let kept = kept.map(|kept| (kept.instance, kept.number));
        let held = |this: &mut Self| {
            let evicted = this.evicted.remove(packed)?;
            Some((evicted.instance.upgrade()?, evicted.number))
        };
        let pinned = self.pinned.get(packed).cloned();
        let there = pinned.or(kept).or_else(|| held(self));
        let (pinned, number) = match there {
            Some(there) => {
                self.gone.push(instance);
                there
            }
            None => (instance, number),
        };
        let packed = Packed::from(packed);
        self.give_number(&packed, number);
        self.pinned.insert(packed, (Arc::clone(&pinned), number));
        pinned
    }

    /// Of those with the same number, the first one that is still there has it.
    fn give_number(&mut self, packed: &Packed, number: Option<u64>) {
        let Some(number) = number else {
            return;
        };
        let owner = self.numbers.get(&number);
        if owner.is_none_or(|owner| owner == packed || !self.is_there(owner)) {
            self.numbers.insert(number, Arc::clone(packed));
        }
    }

    fn is_there(&self, packed: &Packed) -> bool {
        let is_held = |evicted: &Evicted<T>| evicted.instance.strong_count() > 0;
        self.pinned.contains_key(packed)
            || self.kept.contains_key(packed)
            || self.evicted.get(packed).is_some_and(is_held)
    }

    fn keep(&mut self, packed: Packed, instance: Arc<T>, number: Option<u64>) {
        let kept = Kept {
            instance,
            used: self.now,
            number,
        };
        self.kept.insert(packed, kept);
        while self.kept.len() > self.max_entries {
            self.evict();
        }
        self.expire();
    }

    /// Evicts what nobody has asked for since too long.
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

    /// Evicts everything but what is pinned.
    pub(super) fn clear(&mut self) {
        while !self.kept.is_empty() {
            self.evict();
        }
    }

    /// Lets the least recently used go. Whoever holds it still finds it.
    fn evict(&mut self) {
        if let Some((packed, kept)) = self.kept.remove_lru() {
            let instance = Arc::downgrade(&kept.instance);
            let number = kept.number;
            self.evicted.insert(packed, Evicted { instance, number });
            self.stats.evictions += 1;
            self.gone.push(kept.instance);
        }
        // Two are looked after for each that comes: those that nobody holds do not pile up.
        self.look_after_one();
        self.look_after_one();
    }

    /// Forgets the evicted instance that was not looked after for longest, if nobody holds it.
    fn look_after_one(&mut self) {
        let Some((packed, evicted)) = self.evicted.pop_front() else {
            return;
        };
        if evicted.instance.strong_count() > 0 {
            self.evicted.insert(packed, evicted);
        } else if let Some(number) = evicted.number
            && self.numbers.get(&number) == Some(&packed)
        {
            self.numbers.remove(&number);
        }
    }

    #[cfg(all(test, not(loom)))]
    pub(super) fn evicted_len(&self) -> usize {
        self.evicted.len()
    }

    #[cfg(all(test, not(loom)))]
    pub(super) fn numbers_len(&self) -> usize {
        self.numbers.len()
    }
}
