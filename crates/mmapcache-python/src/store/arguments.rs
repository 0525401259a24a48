//! Arguments of the calls of a store, and the clock.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

use pyo3::exceptions::{PyKeyError, PyOverflowError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyInt, PyString};

use crate::store::codec::Codec;
use crate::store::key;
use crate::store::open::Open;
use crate::store::queue::Side;
use crate::store::value::Terms;

/// A clock that differs from the system's by more than this is one that a test set.
const CLOCK_DIFFERENCE: f64 = 1.0;

/// The arguments that `set` and `add` share.
pub(super) struct SetOptions<'py> {
    pub expire: Option<Bound<'py, PyAny>>,
    pub read: bool,
    pub tag: Option<Bound<'py, PyAny>>,
    pub retry: bool,
}

impl SetOptions<'_> {
    pub(super) fn tag(&self, codec: &Codec) -> PyResult<Option<Vec<u8>>> {
        let tag = self.tag.as_ref();
        tag.map(|tag| key::encode_tag(tag, codec)).transpose()
    }
}

/// The life of an entry that is stored now.
#[derive(Clone, Copy)]
pub(super) struct Life {
    pub now: f64,
    pub expire: Option<f64>,
    pub is_parked: bool,
}

impl Life {
    pub(super) fn new(
        py: Python<'_>,
        open: &Open,
        life: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let Some(life) = life else {
            return Ok(Self {
                now: system_clock(),
                expire: None,
                is_parked: false,
            });
        };
        let now = clock(py)?;
        let expire = now + seconds(life)?;
        if expire.is_nan() {
            return Err(PyValueError::new_err(
                "the time until an item expires is not a number",
            ));
        }
        // The engine removes what has expired by the system's clock.
        let is_other_clock = (now - system_clock()).abs() > CLOCK_DIFFERENCE;
        Ok(Self {
            now,
            expire: Some(expire),
            is_parked: open.flags.parks.load(Relaxed) || is_other_clock,
        })
    }

    pub(super) fn terms<'t>(&self, tag: Option<&'t [u8]>) -> Terms<'t> {
        Terms {
            expire: self.expire,
            is_parked: self.is_parked,
            tag,
        }
    }
}

/// Returns seconds, of a number or a `timedelta`.
pub(super) fn seconds(life: &Bound<'_, PyAny>) -> PyResult<f64> {
    match life.extract::<f64>() {
        Ok(seconds) => Ok(seconds),
        Err(error) if error.is_instance_of::<PyOverflowError>(life.py()) => Ok(if life.lt(0)? {
            f64::NEG_INFINITY
        } else {
            f64::INFINITY
        }),
        Err(error) => match life.hasattr("total_seconds")? {
            true => life.call_method0("total_seconds")?.extract(),
            false => Err(error),
        },
    }
}

/// Returns the time by `time.time`, which tests replace.
pub(super) fn clock(py: Python<'_>) -> PyResult<f64> {
    static TIME: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let time = TIME.get_or_try_init(py, || {
        py.import("time").map(|time| time.into_any().unbind())
    })?;
    time.bind(py)
        .call_method0(pyo3::intern!(py, "time"))?
        .extract()
}

pub(super) fn system_clock() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

pub(super) fn side_of(side: &str) -> PyResult<Side> {
    match side {
        "front" => Ok(Side::Front),
        "back" => Ok(Side::Back),
        _ => Err(PyKeyError::new_err(side.to_owned())),
    }
}

/// Returns the key of an item, as callers see it.
pub(super) fn item_name<'py>(
    py: Python<'py>,
    prefix: Option<&str>,
    number: i64,
) -> PyResult<Bound<'py, PyAny>> {
    Ok(match prefix {
        None => PyInt::new(py, number).into_any(),
        Some(prefix) => PyString::new(py, &format!("{prefix}-{number:015}")).into_any(),
    })
}

pub(super) fn not_initialised() -> PyErr {
    PyRuntimeError::new_err("__init__ was not called")
}

pub(super) fn missing(key: &Bound<'_, PyAny>) -> PyErr {
    PyKeyError::new_err(key.clone().unbind())
}

/// An argument for which `None` means something.
pub(super) enum Given<'py> {
    Not,
    Object(Bound<'py, PyAny>),
}

impl<'py> FromPyObject<'_, 'py> for Given<'py> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self::Object(object.to_owned()))
    }
}

/// An argument that is `None` if it was not given.
pub(super) type Optional<'py> = Option<Bound<'py, PyAny>>;

/// Returns the default of a queue: a pair of None, if there is no other.
pub(super) fn or_pair<'py>(py: Python<'py>, default: Given<'py>) -> PyResult<Bound<'py, PyAny>> {
    match default {
        Given::Object(default) => Ok(default),
        Given::Not => Ok((py.None(), py.None()).into_pyobject(py)?.into_any()),
    }
}
