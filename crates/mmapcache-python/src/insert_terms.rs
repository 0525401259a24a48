//! How an entry of a cache is stored and computed, as keyword arguments.

use mmapcache::{ComputeOptions, InsertOptions};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::bytes_like::BytesLike;
use crate::keywords::extract;
use crate::seconds::{Moment, Seconds};

/// The name of a tag or a namespace: `bytes`, or `str`, which stands for its UTF-8.
pub(crate) struct Name(pub Vec<u8>);

impl FromPyObject<'_, '_> for Name {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        match object.cast::<PyString>() {
            Ok(text) => Ok(Self(text.to_str()?.as_bytes().to_vec())),
            Err(_) => Ok(Self(object.extract::<BytesLike<'_>>()?.as_bytes().to_vec())),
        }
    }
}

/// The terms of an insertion, and of a computation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terms {
    pub insert: InsertOptions,
    compute: ComputeTerms,
    has_deadline: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct ComputeTerms {
    patience: Option<Seconds>,
    early: Option<f64>,
    stale_on_error: Option<Seconds>,
    absent_for: Option<Seconds>,
    renew: Option<Seconds>,
}

impl Terms {
    /// Reads the arguments of an insertion. Compares names instead of looking each possible one up: most
    /// calls give none or one.
    pub(crate) fn of_insertion(callee: &str, given: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let mut terms = Self::default();
        for (name, value) in given.iter().flat_map(|given| given.iter()) {
            let name = name.cast::<PyString>()?;
            if !terms.set_insertion(name.to_str()?, &value)? {
                return Err(unexpected(callee, name));
            }
        }
        Ok(terms)
    }

    /// Reads the arguments of a computation.
    pub(crate) fn of_computation(
        callee: &str,
        given: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let mut terms = Self::default();
        for (name, value) in given.iter().flat_map(|given| given.iter()) {
            let name = name.cast::<PyString>()?;
            let text = name.to_str()?;
            if !terms.set_insertion(text, &value)? && !terms.set_computation(text, &value)? {
                return Err(unexpected(callee, name));
            }
        }
        Ok(terms)
    }

    /// Returns whether a caller wants to know that a key does not exist.
    pub(crate) fn is_optional(&self) -> bool {
        self.compute.absent_for.is_some()
    }

    pub(crate) fn compute(&self) -> ComputeOptions {
        let mut options = ComputeOptions::from(self.insert);
        let terms = &self.compute;
        if let Some(Seconds(patience)) = terms.patience {
            options = options.patience(patience);
        }
        if let Some(early) = terms.early {
            options = options.early(early);
        }
        if let Some(Seconds(time)) = terms.stale_on_error {
            options = options.stale_on_error(time);
        }
        if let Some(Seconds(ttl)) = terms.absent_for {
            options = options.absent_for(ttl);
        }
        if let Some(Seconds(ttl)) = terms.renew {
            options = options.renew(ttl);
        }
        options
    }

    /// Returns false for a name that is none of an insertion.
    fn set_insertion(&mut self, name: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        let is_given = !value.is_none();
        match name {
            "ttl" if is_given => {
                let Seconds(ttl) = extract(value, name)?;
                self.set_deadline(|insert| insert.ttl(ttl))?;
            }
            "expires_at" if is_given => {
                let Moment(at) = extract(value, name)?;
                self.set_deadline(|insert| insert.expires_at(at))?;
            }
            "no_expiry" if is_given => {
                if extract(value, name)? {
                    self.set_deadline(InsertOptions::no_expiry)?;
                }
            }
            "tag" if is_given => {
                let Name(tag) = extract(value, name)?;
                self.insert = self.insert.tag(tag);
            }
            "namespace" if is_given => {
                let Name(namespace) = extract(value, name)?;
                self.insert = self.insert.namespace(namespace);
            }
            "cost" if is_given => {
                let Seconds(cost) = extract(value, name)?;
                self.insert = self.insert.cost(cost);
            }
            "stale_for" if is_given => {
                let Seconds(time) = extract(value, name)?;
                self.insert = self.insert.stale_for(time);
            }
            "ttl" | "expires_at" | "no_expiry" | "tag" | "namespace" | "cost" | "stale_for" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn set_deadline(&mut self, set: impl FnOnce(InsertOptions) -> InsertOptions) -> PyResult<()> {
        if self.has_deadline {
            let message = "more than one of ttl, expires_at and no_expiry; give one";
            return Err(PyValueError::new_err(message));
        }
        self.has_deadline = true;
        self.insert = set(self.insert);
        Ok(())
    }

    /// Returns false for a name that is none of a computation.
    fn set_computation(&mut self, name: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        let terms = &mut self.compute;
        let time = match name {
            "early" => {
                terms.early = optional(value, name)?;
                return Ok(true);
            }
            "patience" => &mut terms.patience,
            "stale_on_error" => &mut terms.stale_on_error,
            "absent_for" => &mut terms.absent_for,
            "renew" => &mut terms.renew,
            _ => return Ok(false),
        };
        *time = optional(value, name)?;
        Ok(true)
    }
}

fn optional<'py, T: FromPyObjectOwned<'py>>(
    value: &Bound<'py, PyAny>,
    name: &str,
) -> PyResult<Option<T>> {
    let given = (!value.is_none()).then_some(value);
    given.map(|value| extract(value, name)).transpose()
}

fn unexpected(callee: &str, name: &Bound<'_, PyString>) -> PyErr {
    PyTypeError::new_err(format!(
        "{callee} got an unexpected keyword argument '{name}'"
    ))
}
