//! Samples of a cache's header, and the rates between two of them.
//!
//! There is no rate between samples of different caches, or if a counter decreased.

use std::time::{Duration, Instant, SystemTime};

use mmapcache::inspect::{CacheFiles, IndexHeader, IndexState, LockState};
use serde_json::{Value, json};

use crate::cache_figures::{self, CacheFigures};
use crate::failure::Failure;
use crate::location::Location;
use crate::{json_number, lock_status, timestamp, units};

/// The header of a cache at one time.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    taken: Instant,
    pub(super) wall_time: SystemTime,
    cache_id: [u8; 16],
    pub(super) generation: u64,
    /// Slots of all regions, free ones included.
    pub(super) slots: u64,
    pub(super) header: IndexState,
    /// Of a `Cache`.
    pub(super) figures: Option<CacheFigures>,
    pub(super) lock: Option<LockState>,
    /// The count of problems in the headers.
    pub(super) implausible: usize,
}

/// A sample, and what changed since the previous one.
#[derive(Clone, Debug)]
pub(super) struct Delta {
    pub(super) now: Sample,
    pub(super) time: Duration,
    /// `None` for the first sample, and if the two cannot be compared.
    pub(super) rates: Option<Rates>,
    pub(super) switch: Option<Switch>,
}

/// What was replaced between two samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Switch {
    /// The same cache, rebuilt.
    Generation,
    /// Another cache at the same path.
    Cache,
}

/// Changes per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rates {
    pub(super) puts: f64,
    pub(super) overwrites: f64,
    pub(super) deletes: f64,
    /// Bytes by which the heap grew; negative if it shrank.
    pub(super) heap: f64,
    pub(super) dead: f64,
    /// `None` outside a `Cache`.
    pub(super) lookups: Option<Lookups>,
}

/// Lookups in a `Cache` that its processes have added to the statistics since the previous sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lookups {
    pub(super) per_second: f64,
    /// `None` if there were no lookups.
    pub(super) hit_ratio: Option<f64>,
    pub(super) evictions: f64,
}

impl Sample {
    /// Reads the headers. Returns `None` if the file is too short for a header.
    pub(super) fn take(location: &Location) -> Result<Option<Self>, Failure> {
        Ok(Self::of(&location.open_files()?))
    }

    fn of(cache_files: &CacheFiles) -> Option<Self> {
        let (sealed, header) = (cache_files.header()?, cache_files.state()?);
        Some(Self {
            taken: Instant::now(),
            wall_time: SystemTime::now(),
            cache_id: sealed.cache_id,
            generation: sealed.generation,
            slots: slots(sealed, header),
            header: header.clone(),
            figures: cache_figures::of(cache_files),
            lock: cache_files.lock().ok(),
            implausible: cache_files.problems().len(),
        })
    }

    pub(super) fn load(&self) -> f64 {
        self.header.occupied as f64 / self.slots.max(1) as f64
    }

    /// Returns the number of segments, computed from the first and the last.
    pub(super) fn segments(&self) -> u64 {
        let last = u64::from(self.header.tail.segment);
        (last + 1).saturating_sub(self.header.oldest_segment)
    }
}

fn slots(sealed: &IndexHeader, header: &IndexState) -> u64 {
    header.regions.saturating_mul(sealed.region_slots.into())
}

impl Delta {
    /// Returns the delta of the first sample.
    pub(super) fn first(now: Sample) -> Self {
        Self {
            now,
            time: Duration::ZERO,
            rates: None,
            switch: None,
        }
    }

    pub(super) fn between(before: Sample, now: Sample) -> Self {
        let time = now.taken - before.taken;
        let switch = if before.cache_id != now.cache_id {
            Some(Switch::Cache)
        } else if before.generation != now.generation {
            Some(Switch::Generation)
        } else {
            None
        };
        let rates = match switch {
            None => Rates::between(&before, &now, time),
            Some(_) => None,
        };
        Self {
            now,
            time,
            rates,
            switch,
        }
    }

    /// Returns the delta as JSON.
    pub(super) fn value(&self) -> Value {
        let (now, header) = (&self.now, &self.now.header);
        let rate = |of: fn(&Rates) -> f64| self.rates.as_ref().map(of);
        let lookups = self.rates.and_then(|rates| rates.lookups);
        json!({
            "moment_nanos": json_number::string(timestamp::to_nanos(now.wall_time)),
            "seconds": self.time.as_secs_f64(),
            "switched": self.switch.map(|switch| match switch {
                Switch::Generation => "generation",
                Switch::Cache => "cache",
            }),
            "generation": now.generation,
            "entries": header.occupied,
            "slots": now.slots,
            "load": now.load(),
            "puts": header.puts,
            "puts_per_second": rate(|rates| rates.puts),
            "overwrites": header.overwrites,
            "overwrites_per_second": rate(|rates| rates.overwrites),
            "deletes": header.deletes,
            "deletes_per_second": rate(|rates| rates.deletes),
            "dropped": header.dropped,
            "changes": header.changes,
            "heap_bytes": header.heap_bytes(),
            "heap_bytes_per_second": rate(|rates| rates.heap),
            "live_bytes": header.live_bytes,
            "dead_bytes": header.dead_bytes(),
            "dead_bytes_per_second": rate(|rates| rates.dead),
            "segments": now.segments(),
            "lock": now.lock.as_ref().map(lock_status::value),
            "unsynced": header.dirty,
            "sync_failed": header.sync_failed,
            "implausible": now.implausible,
            "cache": now.figures.as_ref().map(CacheFigures::value),
            "lookups_per_second": lookups.map(|lookups| lookups.per_second),
            "hit_ratio": lookups.map(|lookups| lookups.hit_ratio),
            "evictions_per_second": lookups.map(|lookups| lookups.evictions),
        })
    }
}

impl Rates {
    fn between(before: &Sample, now: &Sample, time: Duration) -> Option<Self> {
        let lookups = before.figures.as_ref().zip(now.figures.as_ref());
        let lookups = lookups.map(|(before, now)| Lookups::between(before, now, time));
        let (before, now) = (&before.header, &now.header);
        let seconds = time.as_secs_f64().max(1e-9);
        let rise = |from: u64, to: u64| Some(to.checked_sub(from)? as f64 / seconds);
        let change = |from: u64, to: u64| (to as f64 - from as f64) / seconds;
        Some(Self {
            puts: rise(before.puts, now.puts)?,
            overwrites: rise(before.overwrites, now.overwrites)?,
            deletes: rise(before.deletes, now.deletes)?,
            heap: change(before.heap_bytes(), now.heap_bytes()),
            dead: change(before.dead_bytes(), now.dead_bytes()),
            lookups,
        })
    }
}

impl Lookups {
    fn between(before: &CacheFigures, now: &CacheFigures, time: Duration) -> Self {
        let seconds = time.as_secs_f64().max(1e-9);
        let counts = now.counts.since(&before.counts);
        let evictions = counts.evicted_size.saturating_add(counts.evicted_number);
        Self {
            per_second: counts.lookups() as f64 / seconds,
            hit_ratio: counts.hit_ratio(),
            evictions: evictions as f64 / seconds,
        }
    }

    /// Returns the rates in words.
    pub(super) fn text(self) -> String {
        let count = |rate: f64| units::count(rate.round() as u64);
        let ratio = self.hit_ratio.map_or("none".to_owned(), units::percent);
        format!(
            "{} look-ups/s, hits {ratio}, {} evictions/s",
            count(self.per_second),
            count(self.evictions)
        )
    }
}
