//! What a lookup returns: a value alone, or a tuple with what else was asked for.

use pyo3::prelude::*;

/// What a lookup found.
pub(super) struct Answer<'py> {
    pub value: Bound<'py, PyAny>,
    pub expire: Option<f64>,
    pub tag: Option<Bound<'py, PyAny>>,
}

/// Which fields a caller asked for beside the value.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub expire: bool,
    pub tag: bool,
}

impl Wanted {
    /// Returns the value alone, or a tuple with the fields.
    pub(super) fn of<'py>(
        self,
        py: Python<'py>,
        value: Bound<'py, PyAny>,
        expire: Option<f64>,
        tag: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Ok(match (self.expire, self.tag) {
            (false, false) => value,
            (true, false) => (value, expire).into_pyobject(py)?.into_any(),
            (false, true) => (value, tag).into_pyobject(py)?.into_any(),
            (true, true) => (value, expire, tag).into_pyobject(py)?.into_any(),
        })
    }

    pub(super) fn answer<'py>(
        self,
        py: Python<'py>,
        answer: Option<Answer<'py>>,
        default: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match answer {
            None => self.of(py, default, None, None),
            Some(answer) => self.of(py, answer.value, answer.expire, answer.tag),
        }
    }
}
