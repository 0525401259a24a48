//! Clocks of the operating system. Makes one system call at most, and calls nothing else.

/// Returns the milliseconds of a monotonic clock that costs a few nanoseconds to read.
pub(crate) fn coarse_millis() -> u64 {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::MonotonicCoarse;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(clock);
    time.tv_sec as u64 * 1_000 + time.tv_nsec as u64 / 1_000_000
}
