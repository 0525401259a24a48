//! Keys and values as callers pass them: `bytes`, or an object with a buffer.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};

/// The bytes of an argument. They do not change while it exists: `bytes` are borrowed, any other buffer
/// (`bytearray`, `memoryview`, an array) is copied.
pub(crate) struct BytesLike<'py>(Bound<'py, PyBytes>);

impl BytesLike<'_> {
    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl AsRef<[u8]> for BytesLike<'_> {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl<'py> FromPyObject<'_, 'py> for BytesLike<'py> {
    type Error = PyErr;

    #[inline]
    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match object.cast::<PyBytes>() {
            Ok(bytes) => Ok(Self(bytes.to_owned())),
            Err(_) => copied(&object),
        }
    }
}

/// Copies a buffer. Python's own error says what the object is, if it has none. By `tobytes`, because the
/// stable ABI has the buffer protocol only from 3.11 on.
#[cold]
fn copied<'py>(object: &Bound<'py, PyAny>) -> PyResult<BytesLike<'py>> {
    let bytes = PyMemoryView::from(object)?.call_method0("tobytes")?;
    Ok(BytesLike(bytes.cast_into::<PyBytes>()?))
}
