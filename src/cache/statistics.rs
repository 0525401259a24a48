//! Statistics of a cache, and the same as metrics.
//!
//! May call `engine` and everything below it.

use crate::engine::Stats;
use crate::engine::handle::Handle;
use crate::engine::statistics::Counter;
use crate::error::Result;
use crate::format::index::STATISTICS;

/// What was counted of lookups and entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct CacheCounts {
    /// Lookups that returned a fresh value, or that there is one.
    pub hits: u64,
    /// Lookups that returned a value after its deadline.
    pub stale_hits: u64,
    /// Lookups that found a fresh [negative](crate::Cache::insert_absent) entry.
    pub negative_hits: u64,
    /// All other lookups.
    pub misses: u64,
    /// Entries inserted, negative ones included.
    pub insertions: u64,
    /// Of these, those that replaced an entry, which may have expired.
    pub replaced: u64,
    /// Fresh entries removed by a call that names the key.
    pub removed: u64,
    /// Entries evicted to keep [`max_bytes`](crate::CacheBuilder::max_bytes).
    pub evicted_size: u64,
    /// Entries evicted to keep [`max_entries`](crate::CacheBuilder::max_entries).
    pub evicted_number: u64,
    /// Entries removed after their deadline.
    pub expired: u64,
    /// Entries removed after their group was invalidated.
    pub invalidated: u64,
}

impl CacheCounts {
    pub(crate) fn of(counts: [u64; STATISTICS]) -> Self {
        let of = |counter: Counter| counts[counter as usize];
        Self {
            hits: of(Counter::Hits),
            stale_hits: of(Counter::StaleHits),
            negative_hits: of(Counter::NegativeHits),
            misses: of(Counter::Misses),
            insertions: of(Counter::Insertions),
            replaced: of(Counter::Replaced),
            removed: of(Counter::Removed),
            evicted_size: of(Counter::EvictedSize),
            evicted_number: of(Counter::EvictedNumber),
            expired: of(Counter::Expired),
            invalidated: of(Counter::Invalidated),
        }
    }

    /// Returns the number of lookups: hits of any kind, and misses.
    pub fn lookups(&self) -> u64 {
        let hits = self.hits.saturating_add(self.stale_hits);
        hits.saturating_add(self.negative_hits)
            .saturating_add(self.misses)
    }

    /// Returns the share of lookups that are hits of any kind, from 0 to 1; `None` without lookups.
    pub fn hit_ratio(&self) -> Option<f64> {
        let hits = self.hits as f64 + self.stale_hits as f64 + self.negative_hits as f64;
        let lookups = hits + self.misses as f64;
        (lookups > 0.0).then(|| hits / lookups)
    }

    /// Returns the counts for a metrics program. Figures of one name follow each other.
    pub fn metrics(&self) -> impl Iterator<Item = Metric> + use<> {
        let counts = counters(self).into_iter();
        counts.map(|figure| metric(MetricKind::Counter, figure))
    }

    /// Returns what was counted since earlier counts of the same cache; 0 where those are higher.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            hits: self.hits.saturating_sub(earlier.hits),
            stale_hits: self.stale_hits.saturating_sub(earlier.stale_hits),
            negative_hits: self.negative_hits.saturating_sub(earlier.negative_hits),
            misses: self.misses.saturating_sub(earlier.misses),
            insertions: self.insertions.saturating_sub(earlier.insertions),
            replaced: self.replaced.saturating_sub(earlier.replaced),
            removed: self.removed.saturating_sub(earlier.removed),
            evicted_size: self.evicted_size.saturating_sub(earlier.evicted_size),
            evicted_number: self.evicted_number.saturating_sub(earlier.evicted_number),
            expired: self.expired.saturating_sub(earlier.expired),
            invalidated: self.invalidated.saturating_sub(earlier.invalidated),
        }
    }
}

/// Statistics of a cache at one moment; returned by [`Cache::stats`](crate::Cache::stats).
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct CacheStats {
    /// Counters and sizes of the files. Expired entries count as entries.
    pub files: Stats,
    /// What this process counted since it opened this handle.
    pub handle: CacheCounts,
    /// What all processes counted since the cache was made, except for what others have not added yet.
    /// A repair without the index begins again at zero.
    pub total: CacheCounts,
}

/// What a value of a [`Metric`] means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MetricKind {
    /// It only grows.
    Counter,
    /// It also shrinks.
    Gauge,
}

/// One figure of a cache for a metrics program, named in the manner of Prometheus; see
/// [`CacheStats::metrics`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// The name, which several figures with different labels share.
    pub name: &'static str,
    /// What it is, in one sentence.
    pub help: &'static str,
    /// Names and values of labels.
    pub labels: &'static [(&'static str, &'static str)],
    /// The figure.
    pub value: u64,
    /// Whether it only grows.
    pub kind: MetricKind,
}

impl CacheStats {
    pub(super) fn of(handle: &Handle) -> Result<Self> {
        handle.fold_statistics();
        let files = Stats::of(handle)?;
        let (generation, _) = handle.current()?;
        // In this order: what another thread adds between the two is missing, and not counted twice.
        let mut total = generation.header().statistics();
        let mut counted = [0; STATISTICS];
        if let Some(statistics) = &handle.statistics {
            counted = statistics.counted();
            for (total, more) in total.iter_mut().zip(statistics.unfolded()) {
                *total = total.wrapping_add(more);
            }
        }
        Ok(Self {
            files,
            handle: CacheCounts::of(counted),
            total: CacheCounts::of(total),
        })
    }

    /// Returns the figures for a metrics program: the counts of all processes, and sizes of the files.
    /// Figures of one name follow each other. One process of those that share a cache should report
    /// them, or each would report the same.
    pub fn metrics(&self) -> impl Iterator<Item = Metric> + use<> {
        let gauges = gauges(&self.files).into_iter();
        let gauges = gauges.map(|figure| metric(MetricKind::Gauge, figure));
        self.total.metrics().chain(gauges)
    }
}

type Labels = &'static [(&'static str, &'static str)];
type Figure = (&'static str, &'static str, Labels, u64);

fn metric(kind: MetricKind, (name, help, labels, value): Figure) -> Metric {
    Metric {
        name,
        help,
        labels,
        value,
        kind,
    }
}

fn counters(total: &CacheCounts) -> [Figure; 11] {
    let hits = |kind: Labels, value| {
        let help = "Lookups that found something, by what they found.";
        ("mmapcache_cache_hits_total", help, kind, value)
    };
    let removals = |cause: Labels, value| {
        let help = "Entries that are gone, by the cause.";
        ("mmapcache_cache_removals_total", help, cause, value)
    };
    [
        hits(&[("kind", "fresh")], total.hits),
        hits(&[("kind", "stale")], total.stale_hits),
        hits(&[("kind", "negative")], total.negative_hits),
        (
            "mmapcache_cache_misses_total",
            "Lookups that found nothing.",
            &[],
            total.misses,
        ),
        (
            "mmapcache_cache_insertions_total",
            "Entries inserted.",
            &[],
            total.insertions,
        ),
        removals(&[("cause", "replaced")], total.replaced),
        removals(&[("cause", "removed")], total.removed),
        removals(&[("cause", "evicted_size")], total.evicted_size),
        removals(&[("cause", "evicted_number")], total.evicted_number),
        removals(&[("cause", "expired")], total.expired),
        removals(&[("cause", "invalidated")], total.invalidated),
    ]
}

fn gauges(files: &Stats) -> [Figure; 4] {
    [
        (
            "mmapcache_entries",
            "Entries, expired ones included.",
            &[],
            files.occupied,
        ),
        (
            "mmapcache_heap_live_bytes",
            "Heap bytes of entries.",
            &[],
            files.live_bytes,
        ),
        (
            "mmapcache_heap_dead_bytes",
            "Heap bytes to reclaim.",
            &[],
            files.dead_bytes,
        ),
        // Flushes fail from then on, until a restart or a rebuild.
        (
            "mmapcache_sync_failed",
            "1 after a failed sync.",
            &[],
            files.sync_failed.into(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_their_names() {
        let counts = CacheCounts::of(std::array::from_fn(|at| 1 << at));
        assert_eq!((counts.hits, counts.misses, counts.insertions), (1, 8, 16));
        assert_eq!((counts.replaced, counts.removed), (32, 64));
        assert_eq!((counts.evicted_size, counts.evicted_number), (128, 256));
        assert_eq!((counts.expired, counts.invalidated), (512, 1024));
        assert_eq!(counts.lookups(), 15);
        assert_eq!(counts.hit_ratio(), Some(7.0 / 15.0));
        let none = CacheCounts::default();
        assert_eq!(none.hit_ratio(), None);
        assert_eq!((counts.since(&none), none.since(&counts)), (counts, none));
        assert_eq!(counts.since(&counts), none);
    }
}
