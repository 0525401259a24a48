//! When an entry was last written, which is also which version of it this is.
//!
//! Knows numbers and clocks, not where they are stored.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The moment at which an entry was written: nanoseconds since the Unix epoch, strictly increasing
/// within a cache.
///
/// The clock is the one that file systems stamp files with. It ticks every 1 to 10 ms, by the
/// system's configuration, so a version may lie by up to one tick before a moment that the caller
/// took from [`SystemTime::now`] ahead of the write. To ask whether an entry was written since some
/// moment, compare with a version or an entry that was read then, or allow for 10 ms.
///
/// No two writes of one cache share a version, whatever the clock does, and whatever was cleared,
/// rebuilt or restarted in between. A clock that was set back delays it: versions then count up
/// from the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub(crate) u64);

impl Version {
    /// The most that the clock is believed: the year 2262. Beyond it there is room for 2^63 more
    /// writes.
    const CLOCK_MAX: u64 = i64::MAX as u64;

    /// A last version beyond this is damage: it would take centuries of writes to get there.
    pub(crate) const MAX: u64 = Self::CLOCK_MAX + (1 << 62);

    /// Nanoseconds since the Unix epoch.
    pub fn as_nanos(self) -> u64 {
        self.0
    }

    /// The version with this number, as [`Version::as_nanos`] gave it.
    pub fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The same moment as a system time.
    pub fn to_system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.0)
    }

    /// The version of a write that happens now, after one that had `last`.
    pub(crate) fn next(last: u64) -> u64 {
        now().max(last.saturating_add(1))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The clock in nanoseconds since the epoch, within what fits and is plausible.
///
/// On Linux it is the clock that file systems stamp files with: it ticks every few milliseconds,
/// and costs 5 ns instead of 30. Versions differ all the same. [`Version`] says so to callers.
pub(crate) fn now() -> u64 {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::RealtimeCoarse;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Realtime;
    let time = rustix::time::clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_nsec as u64);
    nanos.min(Version::CLOCK_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the documentation of [`Version`] allows for.
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
        // A tick may come late where the machine is busy.
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
