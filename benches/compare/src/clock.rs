//! A clock that does not count the time that a thread waited for a processor.
//!
//! On a shared machine the wall clock mostly shows the work of others. The kernel records how long
//! each thread was ready but not running; that is subtracted. Waits for a disk or a lock count.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

use crate::store::{Error, Result};

/// How long a thread has waited for a processor so far.
pub(crate) struct Waited {
    statistics: File,
}

impl Waited {
    /// For the calling thread.
    pub(crate) fn new() -> Result<Self> {
        let statistics = File::open("/proc/thread-self/schedstat")?;
        Ok(Self { statistics })
    }

    pub(crate) fn nanoseconds(&self) -> Result<u64> {
        let mut text = [0; 96];
        let len = self.statistics.read_at(&mut text, 0)?;
        let text = std::str::from_utf8(&text[..len])?;
        let waited = text.split_whitespace().nth(1);
        let waited = waited.ok_or_else(|| Error::Failed("the system counts no waiting".into()))?;
        Ok(waited.parse()?)
    }
}

/// Returns the nanoseconds of a clock that all processes share, waits for a processor included.
pub(crate) fn shared_nanoseconds() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A stopwatch for one thread.
pub(crate) struct Clock {
    waited: Waited,
    before: u64,
    began: Instant,
}

impl Clock {
    pub(crate) fn start() -> Result<Self> {
        let waited = Waited::new()?;
        Ok(Self {
            before: waited.nanoseconds()?,
            waited,
            began: Instant::now(),
        })
    }

    /// Returns the nanoseconds since the start.
    pub(crate) fn elapsed(&self) -> Result<u64> {
        let wall = self.began.elapsed().as_nanos() as u64;
        let waited = self.waited.nanoseconds()? - self.before;
        Ok(wall.saturating_sub(waited))
    }
}
