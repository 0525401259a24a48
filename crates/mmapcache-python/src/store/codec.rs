//! What turns objects into bytes that have no form of their own here: the codec that the user named, or
//! a `Disk` of the user.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// The Python functions of a store.
#[derive(Debug)]
pub(super) struct Codec {
    /// Returns the bytes of an object.
    encode: Py<PyAny>,
    /// Returns the object of bytes.
    decode: Py<PyAny>,
    /// The `Disk`, if it is not the one of this package.
    disk: Option<Py<PyAny>>,
    /// The class of names of types that are not loaded.
    type_name: Py<PyAny>,
    /// Returns the type of a name, or an object of that class.
    find_type: Py<PyAny>,
    /// The class of open values.
    reader: Py<PyAny>,
}

impl Codec {
    pub(super) fn new(functions: &Bound<'_, PyAny>) -> PyResult<Self> {
        let take = |name: &str| functions.getattr(name).map(Bound::unbind);
        let disk = functions.getattr("disk")?;
        Ok(Self {
            encode: take("encode")?,
            decode: take("decode")?,
            disk: (!disk.is_none()).then(|| disk.unbind()),
            type_name: take("type_name")?,
            find_type: take("find_type")?,
            reader: take("reader")?,
        })
    }

    /// Returns the `Disk` of the user, which encodes all keys and values.
    #[inline]
    pub(super) fn disk<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, PyAny>> {
        self.disk.as_ref().map(|disk| disk.bind(py))
    }

    pub(super) fn encode<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let encoded = self.encode.bind(object.py()).call1((object,))?;
        Ok(encoded.cast_into::<PyBytes>()?)
    }

    pub(super) fn decode<'py>(&self, py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        self.decode.bind(py).call1((PyBytes::new(py, bytes),))
    }

    /// Returns the name that an object is for a type; `None` if it is none.
    pub(super) fn type_name(&self, object: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
        match object.get_type().is(&self.type_name) {
            true => Ok(Some(object.str()?.to_str()?.to_owned())),
            false => Ok(None),
        }
    }

    pub(super) fn find_type<'py>(
        &self,
        py: Python<'py>,
        name: &[u8],
    ) -> PyResult<Bound<'py, PyAny>> {
        let name = String::from_utf8_lossy(name);
        self.find_type.bind(py).call1((name,))
    }

    /// Returns an open file with these bytes.
    pub(super) fn reader<'py>(&self, bytes: Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
        self.reader.bind(bytes.py()).call1((bytes,))
    }
}
