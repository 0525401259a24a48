//! What a Python function decides about an entry.

use mmapcache::Update;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::bytes_like::BytesLike;
use crate::sentinel::Sentinel;

/// The answer of a function: bytes, `None` to delete the entry, or `KEEP`.
pub(crate) type Decision = Update;

/// Calls a function with an entry, or `None`.
pub(crate) fn decide<T>(
    function: &Py<PyAny>,
    entry: impl for<'py> FnOnce(Python<'py>) -> Option<PyResult<Bound<'py, T>>>,
) -> PyResult<Decision> {
    Python::attach(|py| {
        let entry = entry(py).transpose()?.map(Bound::into_any);
        let answer = function.bind(py).call1((entry,))?;
        if answer.is_none() {
            return Ok(Decision::Delete);
        }
        if Sentinel::is_keep(&answer) {
            return Ok(Decision::Keep);
        }
        match answer.extract::<BytesLike<'_>>() {
            Ok(value) => Ok(Decision::Put(value.as_bytes().to_vec())),
            Err(_) => Err(PyTypeError::new_err(format!(
                "the function of an update returns bytes, None to delete the entry, or KEEP; not {}",
                answer.get_type()
            ))),
        }
    })
}
