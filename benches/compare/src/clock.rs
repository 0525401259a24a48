//! Time that does not count what the thread spent waiting for a processor that others had.
//!
//! On a machine shared with other work the wall clock shows mostly their work. The system notes for
//! each thread how long it was ready to run and was not run; that is taken off. On a machine of
//! one's own it is nothing. What a thread waits for otherwise, for a disk or a lock, counts.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use crate::store::{Error, Result};

/// How long a thread was kept from running, so far.
pub(crate) struct Waited {
    statistics: File,
}

impl Waited {
    /// Of the thread that calls this.
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

/// A stopwatch; of one thread only.
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

    /// Nanoseconds since the start.
    pub(crate) fn elapsed(&self) -> Result<u64> {
        let wall = self.began.elapsed().as_nanos() as u64;
        let waited = self.waited.nanoseconds()? - self.before;
        Ok(wall.saturating_sub(waited))
    }
}
