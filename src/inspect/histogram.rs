//! Counts of values by their order of magnitude.
//!
//! Knows numbers, not what they measure.

/// How many values there are of each power of two.
///
/// Exact in count, sum and extremes; a value itself is known to within a factor of two. Always the
/// same half KiB of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Histogram {
    /// How many zeros; then how many from 2^(n-1) up to, and without, 2^n.
    pub buckets: [u64; 65],
    /// All values added up.
    pub sum: u128,
    /// The lowest; `u64::MAX` where there is none.
    pub min: u64,
    /// The highest; 0 where there is none.
    pub max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [0; 65],
            sum: 0,
            min: u64::MAX,
            max: 0,
        }
    }
}

impl Histogram {
    /// Counts a value.
    pub fn add(&mut self, value: u64) {
        let bucket = 64 - value.leading_zeros() as usize;
        debug_assert!((Self::bounds(bucket).0..=Self::bounds(bucket).1).contains(&value));
        self.buckets[bucket] += 1;
        self.sum += u128::from(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The mean; 0 where there is none.
    pub fn mean(&self) -> f64 {
        self.sum as f64 / self.count().max(1) as f64
    }

    /// The lowest and the highest value that a bucket counts.
    pub fn bounds(bucket: usize) -> (u64, u64) {
        match bucket {
            0 => (0, 0),
            64.. => (1 << 63, u64::MAX),
            _ => (1 << (bucket - 1), (1 << bucket) - 1),
        }
    }

    /// A value that is not exceeded by this share of all, from 0 to 1, rounded up to its bucket's
    /// end or the highest of all; 0 where there is none.
    pub fn quantile(&self, share: f64) -> u64 {
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
    fn values_fall_into_their_bucket() {
        let values = (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        for value in values.chain([u64::MAX]) {
            let mut histogram = Histogram::default();
            histogram.add(value);
            let bucket = histogram.buckets.iter().position(|&count| count == 1);
            let (low, high) = Histogram::bounds(bucket.unwrap());
            assert!((low..=high).contains(&value), "{value}");
            assert_eq!((histogram.min, histogram.max), (value, value));
        }
    }

    #[test]
    fn quantiles_name_the_reached_bucket() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), 0);
        (1..=100).for_each(|value| histogram.add(value));
        assert_eq!(histogram.quantile(0.5), 63);
        assert_eq!(histogram.quantile(1.0), 100);
        assert_eq!(histogram.quantile(0.0), 1);
        assert_eq!(histogram.mean(), 50.5);
    }
}
