//! How often an update is tried again after a conflict.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// How often [`try_update`](crate::dict::Dict::try_update) tries again after another write of the
/// item during an attempt.
///
/// No effect in files: the update holds the writer lock, so there are no conflicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retries {
    /// At most this often after the first attempt.
    Times(u32),
    /// Until an attempt succeeds.
    Unbounded,
}

/// Returns six times.
impl Default for Retries {
    fn default() -> Self {
        Self::Times(6)
    }
}

impl Retries {
    /// Returns whether there may be another attempt after this many.
    pub(super) fn allow(self, attempts: u32) -> bool {
        match self {
            Self::Times(times) => attempts <= times,
            Self::Unbounded => true,
        }
    }

    /// Returns how long to sleep before another attempt. Random, so that two updates that met do not
    /// meet again, and longer after each attempt, up to some milliseconds.
    pub(super) fn pause(attempts: u32) -> Duration {
        let random = RandomState::new().hash_one(attempts);
        let longest = 20u64 << attempts.min(8);
        Duration::from_micros(random % longest)
    }
}
