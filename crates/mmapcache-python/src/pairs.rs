//! Pairs of key and value that an iterable yields.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::bytes_like::BytesLike;

/// Pairs that are stored under one lock.
const GROUP: usize = 1_024;
/// Bytes after which a group is stored with fewer pairs.
const GROUP_BYTES: usize = 1 << 20;

/// Converts a pair.
pub(crate) fn pair<'py>(pair: &Bound<'py, PyAny>) -> PyResult<(BytesLike<'py>, BytesLike<'py>)> {
    let (key, value) = pair
        .extract::<(Bound<'py, PyAny>, Bound<'py, PyAny>)>()
        .map_err(|_| PyTypeError::new_err("an item that is not a pair of key and value"))?;
    Ok((key.extract()?, value.extract()?))
}

/// Calls `store` with the pairs of an iterable, a group at a time: a lock costs as much as a store, and
/// the iterable's code runs between the groups, so that it may use the cache.
///
/// # Errors
///
/// Those of `store`, and of the iterable; what it yielded before is stored then.
pub(crate) fn in_groups(
    pairs: &Bound<'_, PyAny>,
    mut store: impl FnMut(&[(&[u8], &[u8])]) -> PyResult<()>,
) -> PyResult<()> {
    let mut iterator = pairs.try_iter()?;
    let mut end = None;
    while end.is_none() {
        let mut group = Vec::new();
        let mut bytes = 0;
        while end.is_none() && group.len() < GROUP && bytes < GROUP_BYTES {
            match iterator
                .next()
                .map(|next| next.and_then(|next| pair(&next)))
            {
                None => end = Some(Ok(())),
                Some(Err(error)) => end = Some(Err(error)),
                Some(Ok((key, value))) => {
                    bytes += key.as_bytes().len() + value.as_bytes().len();
                    group.push((key, value));
                }
            }
        }
        let borrowed: Vec<_> = group
            .iter()
            .map(|(key, value)| (key.as_bytes(), value.as_bytes()))
            .collect();
        if !borrowed.is_empty() {
            store(&borrowed)?;
        }
    }
    end.unwrap_or(Ok(()))
}
