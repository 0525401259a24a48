//! The memory that a lookup reads a value into, before it is a `bytes` object.

use std::cell::RefCell;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::bytes_like::BytesLike;
use crate::errors;

/// Bytes that a thread keeps between lookups.
const KEPT: usize = 64 << 10;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Calls a lookup with the thread's buffer, and returns what it has put there as `bytes`. `None` if it
/// returns false.
///
/// The engine copies a value out of the mapped file before it verifies the checksum, and knows its length
/// only then; so the object, which is made with its length, is a second copy, of bytes that are in the
/// processor's cache. A buffer of the thread saves the allocation: `lookup` must not run Python code.
#[inline]
pub(crate) fn read<'py>(
    py: Python<'py>,
    lookup: impl FnOnce(&mut Vec<u8>) -> PyResult<bool>,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    BUFFER.with_borrow_mut(|buffer| {
        let found = lookup(buffer)?;
        let bytes = found.then(|| PyBytes::new(py, buffer));
        if buffer.capacity() > KEPT {
            *buffer = Vec::new();
        }
        Ok(bytes)
    })
}

/// Keys whose values are in memory at once before they are objects.
const GROUP: usize = 64;

/// Calls a lookup of many keys, and returns their values as a list, with `None` for absent ones.
///
/// Without the interpreter during the lookup of a group of keys, so here the values are in memory of this
/// function before they are objects.
pub(crate) fn read_many<'py>(
    py: Python<'py>,
    keys: &Bound<'py, PyAny>,
    lookup: impl Fn(&[&[u8]], &mut dyn FnMut(usize, Option<&[u8]>)) -> mmapcache::Result<()> + Sync,
) -> PyResult<Bound<'py, PyList>> {
    let keys: Vec<BytesLike<'py>> = keys
        .try_iter()?
        .map(|key| key?.extract())
        .collect::<PyResult<_>>()?;
    let list = PyList::empty(py);
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for group in keys.chunks(GROUP) {
        let group: Vec<&[u8]> = group.iter().map(BytesLike::as_bytes).collect();
        bytes.clear();
        ends.clear();
        let looked_up = py.detach(|| {
            lookup(&group, &mut |_, value| {
                bytes.extend_from_slice(value.unwrap_or_default());
                ends.push(value.map(|_| bytes.len()));
            })
        });
        looked_up.map_err(|error| errors::to_python(py, error))?;
        let mut start = 0;
        for end in &ends {
            match *end {
                Some(end) => {
                    list.append(PyBytes::new(py, &bytes[start..end]))?;
                    start = end;
                }
                None => list.append(py.None())?,
            }
        }
    }
    Ok(list)
}
