//! The clock that windows and moments are measured with. Calls the system only.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Returns nanoseconds since the machine started. The same for all its processes, and it goes on while
/// the machine is suspended: what was proven before a suspension is old afterwards.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanos
}

/// Returns a duration in the unit of [`now`]; 584 years at most.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
