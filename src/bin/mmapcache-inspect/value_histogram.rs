//! Counts of values by powers of two.

/// A histogram with a bucket for each power of two.
///
/// Count, sum and extremes are exact. Needs half a KiB of memory for any number of values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValueHistogram {
    /// The count of zeros; then, for each n from 1, of values from 2^(n-1) to 2^n - 1.
    pub(crate) buckets: [u64; 65],
    /// The sum of all values.
    pub(crate) sum: u128,
    /// The lowest value; `u64::MAX` if there is none.
    pub(crate) min: u64,
    /// The highest value; 0 if there is none.
    pub(crate) max: u64,
}

impl Default for ValueHistogram {
    fn default() -> Self {
        Self {
            buckets: [0; 65],
            sum: 0,
            min: u64::MAX,
            max: 0,
        }
    }
}

impl ValueHistogram {
    /// Adds a value.
    pub(crate) fn add(&mut self, value: u64) {
        let bucket = 64 - value.leading_zeros() as usize;
        debug_assert!((Self::bounds(bucket).0..=Self::bounds(bucket).1).contains(&value));
        self.buckets[bucket] += 1;
        self.sum += u128::from(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Returns the number of values.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Returns the mean; 0 without values.
    pub(crate) fn mean(&self) -> f64 {
        self.sum as f64 / self.count().max(1) as f64
    }

    /// Returns the lowest and the highest value of a bucket.
    pub(crate) fn bounds(bucket: usize) -> (u64, u64) {
        match bucket {
            0 => (0, 0),
            64.. => (1 << 63, u64::MAX),
            _ => (1 << (bucket - 1), (1 << bucket) - 1),
        }
    }

    /// Returns a quantile for a share from 0 to 1, rounded up to the end of its bucket or to the highest
    /// value; 0 without values.
    pub(crate) fn quantile(&self, share: f64) -> u64 {
        let wanted = (self.count() as f64 * share.clamp(0.0, 1.0)).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted.max(1) {
                return Self::bounds(bucket).1.min(self.max);
            }
        }
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_within_bucket_bounds() {
        let values = (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        for value in values.chain([u64::MAX]) {
            let mut histogram = ValueHistogram::default();
            histogram.add(value);
            let bucket = histogram.buckets.iter().position(|&count| count == 1);
            let (low, high) = ValueHistogram::bounds(bucket.unwrap());
            assert!((low..=high).contains(&value), "{value}");
            assert_eq!((histogram.min, histogram.max), (value, value));
        }
    }

    #[test]
    fn quantiles_round_to_bucket_ends() {
        let mut histogram = ValueHistogram::default();
        assert_eq!(histogram.quantile(0.5), 0);
        (1..=100).for_each(|value| histogram.add(value));
        assert_eq!(histogram.quantile(0.5), 63);
        assert_eq!(histogram.quantile(1.0), 100);
        assert_eq!(histogram.quantile(0.0), 1);
        assert_eq!(histogram.mean(), 50.5);
    }
}
