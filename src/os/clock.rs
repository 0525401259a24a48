//! The clocks of the operating system that cost a few nanoseconds to read.
//!
//! May call nothing of this crate.

use rustix::time::{ClockId, clock_gettime};

/// Returns the time in nanoseconds since the Unix epoch, by the clock that file systems stamp files
/// with: on Linux it ticks every 1 to 10 ms, and costs 5 ns instead of 30.
pub(crate) fn coarse_realtime_nanos() -> u64 {
    #[cfg(target_os = "linux")]
    let clock = ClockId::RealtimeCoarse;
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Realtime;
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_nsec as u64);
    #[cfg(test)]
    let nanos = nanos.saturating_add_signed(set_by_test().saturating_mul(1_000_000));
    nanos
}

/// Returns the time in milliseconds since the Unix epoch, by the precise clock (30 ns): deadlines are
/// compared with it.
pub(crate) fn unix_millis() -> u64 {
    let time = clock_gettime(ClockId::Realtime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let millis = seconds
        .saturating_mul(1_000)
        .saturating_add(time.tv_nsec as u64 / 1_000_000);
    #[cfg(test)]
    let millis = millis.saturating_add_signed(set_by_test());
    millis
}

/// Returns the milliseconds of a clock that is never set back.
pub(crate) fn coarse_millis() -> u64 {
    #[cfg(target_os = "linux")]
    let clock = ClockId::MonotonicCoarse;
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Monotonic;
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000 + time.tv_nsec as u64 / 1_000_000
}

#[cfg(test)]
use settable::set_by_test;
#[cfg(test)]
pub(crate) use settable::set_clock_ahead;

#[cfg(test)]
mod settable {
    use std::cell::Cell;

    thread_local! {
        static AHEAD: Cell<i64> = const { Cell::new(0) };
    }

    /// Sets the wall clocks of this thread ahead of the system's by so many milliseconds, or back.
    pub(crate) fn set_clock_ahead(millis: i64) {
        AHEAD.set(millis);
    }

    /// Returns by how much the clocks were set.
    pub(super) fn set_by_test() -> i64 {
        AHEAD.get()
    }
}
