//! Changes of a cache about which Python code decides.

use std::sync::Arc;

use mmapcache::{InsertOptions, Update, Version};
use pyo3::prelude::*;

use crate::cache::Opened;
use crate::cache::entry::CacheEntry;
use crate::decision::{Decision, decide};

/// Lets a Python function decide about an entry, under the lock. Without terms, an entry that is there keeps
/// its own.
pub(super) fn update_with(
    opened: &Arc<Opened>,
    key: &[u8],
    function: &Bound<'_, PyAny>,
    terms: Option<InsertOptions>,
) -> PyResult<Option<u64>> {
    let py = function.py();
    let (cache, function) = (&opened.cache, function.as_unbound());
    let mut raised = None;
    let updated = opened.options.patience.run(py, || {
        cache.update(key, |entry| {
            let decided = decide(function, |py| {
                entry.map(|entry| Bound::new(py, CacheEntry::new(py, entry.clone())))
            });
            let own = || entry.map(mmapcache::CacheEntry::insert_options);
            match decided {
                Ok(Decision::Put(value)) => {
                    Update::Put((value, terms.or_else(own).unwrap_or_default()))
                }
                Ok(Decision::Delete) => Update::Delete,
                Ok(Decision::Keep) => Update::Keep,
                Err(error) => {
                    raised = Some(error);
                    Update::Keep
                }
            }
        })
    });
    match raised {
        Some(error) => Err(error),
        None => updated.map(|version| version.map(Version::as_nanos)),
    }
}

/// Removes the entry of a key if it has a fresh value, and returns that. A negative entry stays: a call that
/// finds no value changes nothing.
pub(super) fn take_value(
    cache: &mmapcache::Cache,
    key: &[u8],
) -> mmapcache::Result<Option<Vec<u8>>> {
    let mut taken = None;
    cache.update(key, |entry| match entry {
        Some(entry) if !entry.is_negative() => {
            taken = Some(entry.value().to_vec());
            Update::Delete
        }
        _ => Update::Keep,
    })?;
    Ok(taken)
}
