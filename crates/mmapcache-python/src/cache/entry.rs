//! `CacheEntry`: a value with its version, deadline and groups.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::insert_terms::Name;
use crate::seconds::since_epoch;

/// A fresh or stale entry of a `Cache`, as it was when it was read.
#[pyclass(frozen, weakref, module = "mmapcache")]
pub(crate) struct CacheEntry {
    value: Py<PyBytes>,
    entry: mmapcache::CacheEntry,
}

impl CacheEntry {
    pub(crate) fn new(py: Python<'_>, entry: mmapcache::CacheEntry) -> Self {
        Self {
            value: PyBytes::new(py, entry.value()).unbind(),
            entry,
        }
    }
}

#[pymethods]
impl CacheEntry {
    /// The value; empty if the entry is negative.
    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        self.value.bind(py).clone()
    }

    /// The version, which tells this insertion from every other; a touch keeps it.
    #[getter]
    fn version(&self) -> u64 {
        self.entry.version().as_nanos()
    }

    /// The moment from which on the entry is stale or expired, in seconds since the Unix epoch; `None` if
    /// it has no deadline.
    #[getter]
    fn expires_at(&self) -> Option<f64> {
        self.entry.expires_at().map(since_epoch)
    }

    /// The seconds from now to the deadline; 0 if it has passed, `None` if there is none.
    #[getter]
    fn remaining(&self) -> Option<f64> {
        self.entry.remaining().map(|left| left.as_secs_f64())
    }

    /// The seconds from the insertion to now, to 10 ms.
    #[getter]
    fn age(&self) -> f64 {
        self.entry.age().as_secs_f64()
    }

    /// The seconds that the value took to compute, if the insertion said so.
    #[getter]
    fn cost(&self) -> Option<f64> {
        self.entry.cost().map(|cost| cost.as_secs_f64())
    }

    /// The seconds after the deadline in which the value is served, if the insertion said so.
    #[getter]
    fn stale_for(&self) -> Option<f64> {
        self.entry.stale_for().map(|time| time.as_secs_f64())
    }

    /// Whether the deadline had passed when the entry was read, so that the value should be computed again.
    #[getter]
    fn is_stale(&self) -> bool {
        self.entry.is_stale()
    }

    /// Whether the entry says that the key is known not to exist.
    #[getter]
    fn is_negative(&self) -> bool {
        self.entry.is_negative()
    }

    /// Whether the entry was expired or invalidated when it was read; only `stored_entry` returns such.
    #[getter]
    fn is_expired(&self) -> bool {
        self.entry.is_expired()
    }

    /// Returns whether the entry was inserted with this tag. Compares hashes of 64 bits.
    fn has_tag(&self, tag: Name) -> bool {
        self.entry.has_tag(tag.0)
    }

    /// Returns whether the entry was inserted with this namespace. Compares hashes of 64 bits.
    fn has_namespace(&self, namespace: Name) -> bool {
        self.entry.has_namespace(namespace.0)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let value = self.value.bind(py).repr()?;
        let expires_at = self.expires_at();
        let expires_at = expires_at.map_or_else(|| "None".to_owned(), |at| format!("{at:.3}"));
        Ok(format!(
            "CacheEntry(value={value}, version={}, expires_at={expires_at})",
            self.version()
        ))
    }
}
