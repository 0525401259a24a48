//! The statistics of a `Cache`, as its index has them. May call `format::index`.

use crate::format::index::STATISTICS;

/// The statistics of a `Cache` since it was made, over all processes. Approximate: processes add what
/// they counted now and then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheCounts {
    /// Lookups that returned a fresh value.
    pub hits: u64,
    /// Lookups that returned a value after its deadline.
    pub stale_hits: u64,
    /// Lookups that found a fresh negative entry.
    pub negative_hits: u64,
    /// All other lookups.
    pub misses: u64,
    /// Entries put.
    pub insertions: u64,
    /// Of these, those that replaced a fresh entry.
    pub replaced: u64,
    /// Entries removed by a caller.
    pub removed: u64,
    /// Entries evicted to keep the limit of bytes.
    pub evicted_size: u64,
    /// Entries evicted to keep the limit of entries.
    pub evicted_number: u64,
    /// Entries removed after their deadline.
    pub expired: u64,
    /// Entries removed after their group was invalidated.
    pub invalidated: u64,
}

impl CacheCounts {
    pub(super) fn decode(words: [u64; STATISTICS]) -> Self {
        let [
            hits,
            stale_hits,
            negative_hits,
            misses,
            insertions,
            replaced,
            removed,
            ..,
        ] = words;
        let [.., evicted_size, evicted_number, expired, invalidated] = words;
        Self {
            hits,
            stale_hits,
            negative_hits,
            misses,
            insertions,
            replaced,
            removed,
            evicted_size,
            evicted_number,
            expired,
            invalidated,
        }
    }

    /// Returns the number of lookups of all results.
    pub fn lookups(&self) -> u64 {
        let hits = self.hits.saturating_add(self.stale_hits);
        hits.saturating_add(self.negative_hits)
            .saturating_add(self.misses)
    }

    /// Returns the share of lookups that were hits, stale and negative ones included; `None` if there
    /// were none.
    pub fn hit_ratio(&self) -> Option<f64> {
        let all = self.lookups();
        (all > 0).then(|| 1.0 - self.misses as f64 / all as f64)
    }

    /// Returns what was counted since earlier statistics of the same cache; 0 where these are higher.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_their_names() {
        let counts = CacheCounts::decode(std::array::from_fn(|at| 1 << at));
        assert_eq!((counts.hits, counts.misses, counts.insertions), (1, 8, 16));
        assert_eq!((counts.replaced, counts.removed), (32, 64));
        assert_eq!((counts.evicted_size, counts.evicted_number), (128, 256));
        assert_eq!((counts.expired, counts.invalidated), (512, 1024));
        assert_eq!(counts.lookups(), 15);
        assert_eq!(counts.hit_ratio(), Some(1.0 - 8.0 / 15.0));
        assert_eq!(CacheCounts::default().hit_ratio(), None);
        assert_eq!(counts.since(&CacheCounts::default()), counts);
        assert_eq!(
            CacheCounts::default().since(&counts),
            CacheCounts::default()
        );
    }
}
