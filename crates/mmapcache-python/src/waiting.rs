//! Waits for the writer lock that a signal can end.

use std::time::{Duration, Instant};

use mmapcache::{ErrorKind, Result};
use pyo3::prelude::*;

use crate::errors;
use crate::seconds::Seconds;

/// The longest wait without a look at the signals: after Ctrl-C a call ends within it. Long beside the
/// 1.5 ms after which a waiter is the next to get the lock, a place that it loses at the end of a wait.
const PIECE: Duration = Duration::from_millis(200);

/// How long the calls of a handle wait for another writer; `None` is without limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience(Option<Duration>);

impl Default for Patience {
    /// As the engine's.
    fn default() -> Self {
        Self(Some(Duration::from_secs(60)))
    }
}

impl Patience {
    pub(crate) fn new(Seconds(timeout): Seconds) -> Self {
        Self((timeout < Duration::MAX).then_some(timeout))
    }

    /// Returns the time that the engine may wait in one call: an equal part of the whole.
    pub(crate) fn piece(self) -> Duration {
        let Some(timeout) = self.0 else {
            return PIECE;
        };
        let pieces = timeout.as_nanos().div_ceil(PIECE.as_nanos()).max(1);
        u32::try_from(pieces).map_or(PIECE, |pieces| timeout / pieces)
    }

    /// Returns seconds, infinite if there is no limit.
    pub(crate) fn seconds(self) -> f64 {
        self.0
            .map_or(f64::INFINITY, |timeout| timeout.as_secs_f64())
    }

    /// Calls the engine without the interpreter, again and again while another writer holds the lock.
    ///
    /// # Errors
    ///
    /// What a signal handler raises, such as `KeyboardInterrupt`, `LockedError`, and the errors of
    /// `call`, which changes nothing when it returns that the cache is locked.
    #[inline]
    pub(crate) fn run<T: Send>(
        self,
        py: Python<'_>,
        mut call: impl FnMut() -> Result<T> + Send,
    ) -> PyResult<T> {
        match py.detach(&mut call) {
            Ok(done) => Ok(done),
            Err(error) => self.run_again(py, error, call),
        }
    }

    #[cold]
    fn run_again<T: Send>(
        self,
        py: Python<'_>,
        mut error: mmapcache::Error,
        mut call: impl FnMut() -> Result<T> + Send,
    ) -> PyResult<T> {
        let mut began = None;
        loop {
            let ErrorKind::Locked { waited, .. } = error.kind() else {
                return Err(errors::to_python(py, error));
            };
            let now = Instant::now();
            let began = *began.get_or_insert(now.checked_sub(*waited).unwrap_or(now));
            py.check_signals()?;
            let waited = began.elapsed();
            if self.0.is_some_and(|timeout| waited >= timeout) {
                return Err(errors::locked(py, &error, waited.as_secs_f64()));
            }
            match py.detach(&mut call) {
                Ok(done) => return Ok(done),
                Err(next) => error = next,
            }
        }
    }
}
