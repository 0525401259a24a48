//! The version of an entry: when it was last written.
//!
//! May call `os::clock`.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::os::clock;

/// The version of an entry: the time at which it was written, in nanoseconds since the Unix epoch,
/// strictly increasing within a cache.
///
/// No two writes of one cache have the same version, even if the clock is set back, and across
/// clearing, rebuilding and restarts. If the clock is behind the last version, versions count up by
/// one.
///
/// The clock is the one that the file system uses for timestamps. It ticks every 1 to 10 ms, so a
/// version may be up to 10 ms earlier than [`SystemTime::now`] before the write. To ask whether an
/// entry was written since some moment, compare with a version that was read then, or allow for 10 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Version(pub(crate) u64);

impl Version {
    /// The latest time that is accepted from the clock: the year 2262. It leaves room for 2^63 more
    /// writes.
    const CLOCK_MAX: u64 = i64::MAX as u64;

    /// A last version beyond this is corruption: it would take centuries of writes to get there.
    pub(crate) const MAX: u64 = Self::CLOCK_MAX + (1 << 62);

    /// Returns the nanoseconds since the Unix epoch.
    pub fn as_nanos(self) -> u64 {
        self.0
    }

    /// Makes a version from the result of [`Version::as_nanos`].
    pub fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Converts the version to a system time.
    pub fn to_system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.0)
    }

    /// Returns the version of a write that happens now, after one that had `last` (G3).
    pub(crate) fn next(last: u64) -> u64 {
        let next = now().max(last.saturating_add(1));
        debug_assert!(next > last || last == u64::MAX, "G3: {next} after {last}");
        next
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Returns the time of the file systems' clock, limited to the times that are accepted.
pub(crate) fn now() -> u64 {
    clock::coarse_realtime_nanos().min(Version::CLOCK_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tolerance in the documentation of [`Version`].
    #[cfg(target_os = "linux")]
    #[test]
    fn clock_lags_at_most_one_tick() {
        let tick = rustix::time::clock_getres(rustix::time::ClockId::RealtimeCoarse);
        assert!(tick.tv_sec == 0 && tick.tv_nsec <= 10_000_000, "{tick:?}");
        let mut most = 0;
        for _ in 0..100_000 {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            let before = since.unwrap().as_nanos() as u64;
            most = most.max(before.saturating_sub(now()));
        }
        // A tick may come late on a busy machine.
        assert!(most <= 5 * tick.tv_nsec as u64, "{most} ns");
    }

    #[test]
    fn versions_outrun_a_lagging_clock() {
        let ahead = now() + 1_000_000_000_000;
        assert_eq!(Version::next(ahead), ahead + 1);
        assert!(Version::next(0) > 1_700_000_000_000_000_000);
        assert!(Version::next(Version::CLOCK_MAX) > Version::CLOCK_MAX);
    }
}
