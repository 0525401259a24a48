//! The iterators of all classes.

use std::collections::VecDeque;
use std::sync::{Mutex, TryLockError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::cache::entry::CacheEntry;
use crate::errors;
use crate::map::entry::Entry;

/// Items that are read at once, without the interpreter: releasing it takes as long as reading an item.
const ITEMS: usize = 64;
/// Bytes after which no more items are read at once.
const BYTES: usize = 64 << 10;

/// What an iterator returns.
pub(crate) enum Item {
    /// A key or a value.
    Bytes(Vec<u8>),
    Pair(Vec<u8>, Vec<u8>),
    Entry(Vec<u8>, mmapcache::Entry),
    CacheEntry(Vec<u8>, mmapcache::CacheEntry),
    Label(u32, Vec<u8>),
}

impl Item {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) | Self::Label(_, bytes) => bytes.len(),
            Self::Pair(key, value) => key.len() + value.len(),
            Self::Entry(key, entry) => key.len() + entry.len(),
            Self::CacheEntry(key, entry) => key.len() + entry.value().len(),
        }
    }

    fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        match self {
            Self::Bytes(bytes) => Ok(PyBytes::new(py, &bytes).into_any()),
            Self::Pair(key, value) => tuple(
                PyBytes::new(py, &key).into_any(),
                PyBytes::new(py, &value).into_any(),
            ),
            Self::Entry(key, entry) => {
                let entry = Bound::new(py, Entry::new(py, &entry))?;
                tuple(PyBytes::new(py, &key).into_any(), entry.into_any())
            }
            Self::CacheEntry(key, entry) => {
                let entry = Bound::new(py, CacheEntry::new(py, entry))?;
                tuple(PyBytes::new(py, &key).into_any(), entry.into_any())
            }
            Self::Label(id, label) => {
                let id = id.into_pyobject(py)?.into_any();
                tuple(id, PyBytes::new(py, &label).into_any())
            }
        }
    }
}

fn tuple<'py>(first: Bound<'py, PyAny>, second: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let pair = PyTuple::new(first.py(), [first, second])?;
    Ok(pair.into_any())
}

/// A listing of the engine, with the handle that it borrows.
pub(crate) trait Source: Send {
    /// Returns the next item. `None` at the end, and again if it is asked again.
    fn next(&mut self) -> Option<mmapcache::Result<Item>>;
}

struct State {
    source: Box<dyn Source>,
    ready: VecDeque<mmapcache::Result<Item>>,
}

impl State {
    fn refill(&mut self) {
        let mut bytes = 0;
        while self.ready.len() < ITEMS && bytes < BYTES {
            let Some(item) = self.source.next() else {
                return;
            };
            bytes += item.as_ref().map_or(BYTES, Item::len);
            self.ready.push_back(item);
        }
    }
}

/// An iterator over what a handle has. It keeps the files open, also after the handle was closed.
///
/// It lists lazily: what is stored or deleted during the listing may be seen or not; an item that is there
/// all the time is returned exactly once.
#[pyclass(frozen, weakref, module = "mmapcache")]
pub(crate) struct Listing(Mutex<State>);

impl Listing {
    pub(crate) fn new(source: impl Source + 'static) -> Self {
        Self(Mutex::new(State {
            source: Box::new(source),
            ready: VecDeque::new(),
        }))
    }

    /// Returns whether there is no item. Takes one, if there is.
    pub(crate) fn is_empty(&self, py: Python<'_>) -> PyResult<bool> {
        match self.next_item(py)? {
            None => Ok(true),
            Some(Ok(_)) => Ok(false),
            Some(Err(error)) => Err(errors::to_python(py, error)),
        }
    }

    fn next_item(&self, py: Python<'_>) -> PyResult<Option<mmapcache::Result<Item>>> {
        // No wait: in a forked child the thread that has it may not exist.
        let mut state = match self.0.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                let message = "another thread is in this iterator; give each thread its own";
                return Err(PyValueError::new_err(message));
            }
        };
        if state.ready.is_empty() {
            let state = &mut *state;
            py.detach(|| state.refill());
        }
        Ok(state.ready.pop_front())
    }
}

#[pymethods]
impl Listing {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.next_item(py)? {
            None => Ok(None),
            Some(Err(error)) => Err(errors::to_python(py, error)),
            Some(Ok(item)) => item.into_python(py).map(Some),
        }
    }
}
