//! Keyword arguments, taken one by one.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::sentinel::Sentinel;

/// Keyword arguments that no one has taken yet.
pub(crate) struct Keywords<'py>(Option<Bound<'py, PyDict>>);

impl<'py> Keywords<'py> {
    /// The dictionary is the call's own, and arguments that are taken leave it.
    pub(crate) fn new(given: Option<&Bound<'py, PyDict>>) -> Self {
        Self(given.cloned())
    }

    /// Takes an argument as it is. `None` if it was not given, or is `UNSET`.
    pub(crate) fn take_any(&self, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(given) = &self.0 else {
            return Ok(None);
        };
        let Some(value) = given.get_item(name)? else {
            return Ok(None);
        };
        given.del_item(name)?;
        Ok((!Sentinel::is_unset(&value)).then_some(value))
    }

    /// Takes an argument. `None` if it was not given, or is `None`.
    pub(crate) fn take<T: FromPyObjectOwned<'py>>(&self, name: &str) -> PyResult<Option<T>> {
        let value = self.take_any(name)?.filter(|value| !value.is_none());
        value.map(|value| extract(&value, name)).transpose()
    }

    /// Fails if an argument is left.
    pub(crate) fn finish(self, callee: &str) -> PyResult<()> {
        let left = self.0.and_then(|given| given.keys().iter().next());
        match left {
            None => Ok(()),
            Some(name) => Err(PyTypeError::new_err(format!(
                "{callee} got an unexpected keyword argument {name:?}"
            ))),
        }
    }
}

/// Converts an argument, and names it in the error.
pub(crate) fn extract<'py, T: FromPyObjectOwned<'py>>(
    value: &Bound<'py, PyAny>,
    name: &str,
) -> PyResult<T> {
    value.extract::<T>().map_err(|error| {
        let error = error.into();
        let py = value.py();
        if !error.is_instance_of::<PyTypeError>(py) {
            return error;
        }
        PyTypeError::new_err(format!("argument '{name}': {}", error.value(py)))
    })
}
