//! `Entry`: a value and its version.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// The value and the version of an entry, as they were at one moment.
#[pyclass(frozen, weakref, module = "mmapcache", eq)]
pub(crate) struct Entry {
    value: Py<PyBytes>,
    /// The time of the write, in nanoseconds since the Unix epoch; no two writes of a cache have the same.
    #[pyo3(get)]
    version: u64,
}

impl Entry {
    pub(crate) fn new(py: Python<'_>, entry: &mmapcache::Entry) -> Self {
        Self {
            version: entry.version().as_nanos(),
            value: PyBytes::new(py, entry.value()).unbind(),
        }
    }
}

impl PartialEq for Entry {
    /// A version tells a write from every other; the value is compared for entries of two caches.
    fn eq(&self, other: &Self) -> bool {
        self.version == other.version
            && Python::attach(|py| self.value.as_bytes(py) == other.value.as_bytes(py))
    }
}

#[pymethods]
impl Entry {
    /// The value.
    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        self.value.bind(py).clone()
    }

    fn __hash__(&self) -> u64 {
        self.version
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let value = self.value.bind(py).repr()?;
        Ok(format!("Entry(value={value}, version={})", self.version))
    }
}
