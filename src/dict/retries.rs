//! How often a transformation begins again when others are in its way.
//!
//! Knows counts and pauses.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// How often [`try_transform`](crate::dict::Dict::try_transform) begins again after another write of the
/// item came between.
///
/// A [`MmapDict`](crate::dict::MmapDict) holds the writer lock meanwhile, so nothing comes between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retries {
    /// At most so often, after the first attempt.
    Times(u32),
    /// As often as it takes.
    Unbounded,
}

/// Six times.
impl Default for Retries {
    fn default() -> Self {
        Self::Times(6)
    }
}

impl Retries {
    /// Whether there may be another attempt after so many.
    pub(super) fn allow(self, attempts: u32) -> bool {
        match self {
            Self::Times(times) => attempts <= times,
            Self::Unbounded => true,
        }
    }

    /// How long to wait before another attempt: at random, so that those who met do not meet again,
    /// and longer each time, up to some milliseconds.
    pub(super) fn pause(attempts: u32) -> Duration {
        let random = RandomState::new().hash_one(attempts);
        let longest = 20u64 << attempts.min(8);
        Duration::from_micros(random % longest)
    }
}
