//! Keys of 16 bytes, and numbers in an order without a pattern.

/// Returns the key of a number.
pub(crate) fn key(number: u64) -> [u8; 16] {
    let mut key = [b'k'; 16];
    key[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    key
}

/// A sequence of pseudo-random numbers: xorshift (Marsaglia 2003).
#[derive(Debug)]
pub(crate) struct Random(pub u64);

impl Random {
    /// Returns a number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Returns the keys of `count` random numbers below `end`, as they lie in memory at rest.
pub(crate) fn keys(count: usize, end: u64) -> Vec<[u8; 16]> {
    let mut random = Random(0x1234_5678_9abc_def1);
    (0..count).map(|_| key(random.below(end))).collect()
}

/// Returns the middle one of some figures.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
