//! Changes of a map that depend on what is there, or on Python code.

use std::sync::Arc;

use mmapcache::Update;
use pyo3::prelude::*;

use crate::bytes_like::BytesLike;
use crate::decision::decide;
use crate::map::Opened;
use crate::map::entry::Entry;
use crate::pairs;

type Map = mmapcache::MmapCache;

/// Lets a Python function decide about an entry, under the lock.
pub(super) fn update_with(
    opened: &Arc<Opened>,
    key: &BytesLike<'_>,
    function: &Bound<'_, PyAny>,
) -> PyResult<bool> {
    let py = function.py();
    let (map, key, function) = (&opened.map, key.as_bytes(), function.as_unbound());
    let mut raised = None;
    let updated = opened.options.patience.run(py, || {
        map.update(key, |entry| match decide_about(function, entry) {
            Ok(update) => update,
            Err(error) => {
                raised = Some(error);
                Update::Keep
            }
        })
    });
    match raised {
        Some(error) => Err(error),
        None => updated,
    }
}

fn decide_about(function: &Py<PyAny>, entry: Option<&mmapcache::Entry>) -> PyResult<Update> {
    decide(function, |py| {
        entry.map(|entry| Bound::new(py, Entry::new(py, entry)))
    })
}

/// Deletes an entry and returns its value.
pub(super) fn pop(map: &Map, key: &[u8]) -> mmapcache::Result<Option<Vec<u8>>> {
    let mut popped = None;
    map.update(key, |entry| {
        popped = entry.map(|entry| entry.value().to_vec());
        // A damaged entry is given as none, and goes too.
        Update::Delete
    })?;
    Ok(popped)
}

/// Stores a value if there is none. Returns the one that is there instead, if any.
pub(super) fn set_default(
    map: &Map,
    key: &[u8],
    value: &[u8],
) -> mmapcache::Result<Option<Vec<u8>>> {
    let mut kept = None;
    map.update(key, |entry| match entry {
        Some(entry) => {
            kept = Some(entry.value().to_vec());
            Update::Keep
        }
        None => Update::Put(value.to_vec()),
    })?;
    Ok(kept)
}

/// Stores the pairs of an iterable, a group of them under one lock. Its code runs without the lock.
pub(super) fn put_many(
    py: Python<'_>,
    opened: &Arc<Opened>,
    pairs: &Bound<'_, PyAny>,
) -> PyResult<()> {
    pairs::in_groups(pairs, |group| {
        opened.options.patience.run(py, || {
            let mut writer = opened.map.writer()?;
            for (key, value) in group {
                writer.put(key, value)?;
            }
            writer.commit()
        })
    })
}

/// Replaces all entries by the pairs of an iterable. Its code runs under the lock.
pub(super) fn rebuild(
    py: Python<'_>,
    opened: &Arc<Opened>,
    pairs: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let pairs = pairs.try_iter()?.unbind();
    let next = || {
        Python::attach(|py| {
            let next = pairs.bind(py).clone().next()?;
            Some(
                next.and_then(|pair| pairs::pair(&pair))
                    .map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec())),
            )
        })
    };
    let map = &opened.map;
    let patience = opened.options.patience;
    patience.run(py, || map.atomic_rebuild(std::iter::from_fn(next)))
}
