//! Random numbers: from the operating system, and a generator that one of them seeds.
//!
//! May call `sync` and, in fuzzing builds, `fuzzing`.

/// Returns an unpredictable number that is never zero.
pub(crate) fn number() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes).max(1)
}

/// Returns an unpredictable id of 16 bytes.
pub(crate) fn id() -> [u8; 16] {
    let mut bytes = [0; 16];
    fill(&mut bytes);
    bytes
}

/// Fills a buffer with counted numbers, so that a fuzzer's finding can be reproduced.
#[cfg(fuzzing)]
pub(crate) fn fill(bytes: &mut [u8]) {
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&crate::fuzzing::next_random().to_le_bytes()[..chunk.len()]);
    }
}

/// Fills a buffer with unpredictable bytes.
#[cfg(all(target_os = "linux", not(any(fuzzing, loom))))]
pub(crate) fn fill(bytes: &mut [u8]) {
    let got = rustix::rand::getrandom(&mut *bytes, rustix::rand::GetRandomFlags::empty());
    if got != Ok(bytes.len()) {
        fill_from_hasher(bytes);
    }
}

/// Fills a buffer with unpredictable bytes.
#[cfg(not(any(target_os = "linux", fuzzing, loom)))]
pub(crate) fn fill(bytes: &mut [u8]) {
    fill_from_hasher(bytes);
}

/// Fills a buffer with counted numbers: all executions of a model must be alike.
#[cfg(loom)]
pub(crate) fn fill(bytes: &mut [u8]) {
    for chunk in bytes.chunks_mut(8) {
        let number = crate::sync::loom_model::number();
        chunk.copy_from_slice(&number.to_le_bytes()[..chunk.len()]);
    }
}

/// Fills a buffer by the hash maps of the standard library, which the system seeds.
#[cfg(not(any(fuzzing, loom)))]
fn fill_from_hasher(bytes: &mut [u8]) {
    use std::hash::{BuildHasher, Hasher};
    for chunk in bytes.chunks_mut(8) {
        let mut hasher = std::hash::RandomState::new().build_hasher();
        hasher.write_u64(crate::os::clock::coarse_realtime_nanos());
        chunk.copy_from_slice(&hasher.finish().to_le_bytes()[..chunk.len()]);
    }
}

/// A SplitMix64 generator, seeded by the operating system.
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new() -> Self {
        Self(number())
    }

    /// Returns a number below `count`. The bias of the multiplication is at most one part in 2^32
    /// for a `count` of up to 2^32.
    pub(crate) fn below(&mut self, count: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let mixed = mixed ^ (mixed >> 31);
        let number = ((u128::from(mixed) * u128::from(count)) >> 64) as u64;
        debug_assert!(number < count || count == 0, "{number} of {count}");
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ() {
        assert_ne!(number(), number());
        assert_ne!(id(), id());
    }
}
