//! A handle of the engine in a Python object: open, closed, or not opened yet.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use pyo3::prelude::*;

use crate::errors;

/// A handle that any thread may close while others use it: calls that have begun go on with it.
///
/// Taking the handle costs a load and no atomic count, which threads without a common lock would
/// contend for.
pub(crate) struct Handle<T>(ArcSwapOption<T>);

impl<T: Send + Sync> Handle<T> {
    pub(crate) fn unopened() -> Self {
        Self(ArcSwapOption::empty())
    }

    /// Replaces what was open.
    pub(crate) fn open(&self, opened: T) {
        self.0.store(Some(Arc::new(opened)));
    }

    /// Calls `f` with what is open.
    ///
    /// # Errors
    ///
    /// `ClosedError` if the handle is closed, or `__init__` was never called; those of `f`.
    #[inline]
    pub(crate) fn with<R>(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&Arc<T>) -> PyResult<R>,
    ) -> PyResult<R> {
        match &*self.0.load() {
            Some(opened) => f(opened),
            None => Err(errors::closed(py)),
        }
    }

    /// Returns what is open, to be kept beyond the call.
    pub(crate) fn share(&self, py: Python<'_>) -> PyResult<Arc<T>> {
        self.0.load_full().ok_or_else(|| errors::closed(py))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.load().is_none()
    }

    /// Closes the handle. Unmapping the files of a large cache takes milliseconds.
    pub(crate) fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.store(None));
    }
}
