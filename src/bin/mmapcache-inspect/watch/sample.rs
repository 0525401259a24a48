//! Samples of a cache's header, and the rates between two of them.
//!
//! There is no rate between samples of different caches, or if a counter decreased.

use std::time::{Duration, Instant, SystemTime};

use mmapcache::inspect::{CacheFiles, IndexHeader, IndexState, LockState};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::location::Location;
use crate::{json_number, lock_status, timestamp};

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
            None => Rates::between(&before.header, &now.header, time),
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
        })
    }
}

impl Rates {
    fn between(before: &IndexState, now: &IndexState, time: Duration) -> Option<Self> {
        let seconds = time.as_secs_f64().max(1e-9);
        let rise = |from: u64, to: u64| Some(to.checked_sub(from)? as f64 / seconds);
        let change = |from: u64, to: u64| (to as f64 - from as f64) / seconds;
        Some(Self {
            puts: rise(before.puts, now.puts)?,
            overwrites: rise(before.overwrites, now.overwrites)?,
            deletes: rise(before.deletes, now.deletes)?,
            heap: change(before.heap_bytes(), now.heap_bytes()),
            dead: change(before.dead_bytes(), now.dead_bytes()),
        })
    }
}
