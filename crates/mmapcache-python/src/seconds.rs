//! Times as callers pass them: seconds, `timedelta`, moments.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;

/// A length of time: an `int`, a `float` or a `timedelta`, in seconds and not negative. What exceeds
/// the range of the engine is `Duration::MAX`, which is for ever.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seconds(pub Duration);

impl FromPyObject<'_, '_> for Seconds {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let seconds = match object.hasattr("total_seconds")? {
            true => number(&object.call_method0("total_seconds")?)?,
            false => number(&object)?,
        };
        if seconds.is_nan() || seconds < 0.0 {
            return Err(PyValueError::new_err(format!(
                "{seconds} seconds; a time is 0 or more"
            )));
        }
        let duration = Duration::try_from_secs_f64(seconds);
        Ok(Self(duration.unwrap_or(Duration::MAX)))
    }
}

/// A moment: seconds since the Unix epoch, or a `datetime`. One before the epoch is the epoch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment(pub SystemTime);

/// A moment beyond this is for ever: the year 10,889, which no deadline reaches.
const LATEST: f64 = (1_u64 << 48) as f64 / 1_000.0;

impl FromPyObject<'_, '_> for Moment {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let seconds = match object.hasattr("timestamp")? {
            true => number(&object.call_method0("timestamp")?)?,
            false => number(&object)?,
        };
        if seconds.is_nan() {
            return Err(PyValueError::new_err("not a number is no moment"));
        }
        // The nearest millisecond, as deadlines are stored: a moment that was read comes back as it was.
        let millis = (seconds.clamp(0.0, LATEST) * 1_000.0).round();
        let since = Duration::from_millis(millis as u64);
        Ok(Self(UNIX_EPOCH + since))
    }
}

/// Converts a number; an integer beyond the range of `f64` is infinite.
fn number(object: &Bound<'_, PyAny>) -> PyResult<f64> {
    match object.extract::<f64>() {
        Err(error) if error.is_instance_of::<PyOverflowError>(object.py()) => {
            let is_negative = object.lt(0)?;
            Ok(if is_negative {
                f64::NEG_INFINITY
            } else {
                f64::INFINITY
            })
        }
        converted => converted,
    }
}

/// Returns a moment in seconds since the Unix epoch.
pub(crate) fn since_epoch(moment: SystemTime) -> f64 {
    let since = moment.duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}
