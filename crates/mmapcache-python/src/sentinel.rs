//! Values that stand for themselves: `KEEP` and `UNSET`.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

static KEEP: PyOnceLock<Py<Sentinel>> = PyOnceLock::new();
static UNSET: PyOnceLock<Py<Sentinel>> = PyOnceLock::new();

/// The type of `KEEP`, by which the function of an update leaves the entry as it is, and of `UNSET`, by
/// which a setting keeps its stored value.
#[pyclass(frozen, module = "mmapcache")]
pub(crate) struct Sentinel {
    name: &'static str,
}

#[pymethods]
impl Sentinel {
    fn __repr__(&self) -> &'static str {
        self.name
    }

    /// Pickles by its name, so that each process has one object of it.
    fn __reduce__(&self) -> &'static str {
        self.name
    }
}

impl Sentinel {
    fn get<'py>(
        py: Python<'py>,
        lock: &PyOnceLock<Py<Self>>,
        name: &'static str,
    ) -> PyResult<Bound<'py, Self>> {
        let sentinel = lock.get_or_try_init(py, || Py::new(py, Self { name }))?;
        Ok(sentinel.bind(py).clone())
    }

    pub(crate) fn keep(py: Python<'_>) -> PyResult<Bound<'_, Self>> {
        Self::get(py, &KEEP, "KEEP")
    }

    pub(crate) fn unset(py: Python<'_>) -> PyResult<Bound<'_, Self>> {
        Self::get(py, &UNSET, "UNSET")
    }

    pub(crate) fn is_keep(object: &Bound<'_, PyAny>) -> bool {
        KEEP.get(object.py()).is_some_and(|keep| object.is(keep))
    }

    pub(crate) fn is_unset(object: &Bound<'_, PyAny>) -> bool {
        UNSET.get(object.py()).is_some_and(|unset| object.is(unset))
    }
}
