//! Values of a store as bytes, and back.
//!
//! A stored value is a head and a payload:
//!
//! | bytes | |
//! |--:|---|
//! | 1 | flags: which of the optional fields there are |
//! | 1 | kind of the payload |
//! | 8 | place of the key in the order of insertion; 0: the version of the entry |
//! | 0 or 8 | moment at which it expires, seconds since the epoch, `f64` |
//! | 0 or 4 + n | tag, with its length |
//! | 0 or 4 + n | whole key, if the engine has its hash only, with its length |
//! | | payload |
//!
//! The engine has the deadline too, to the millisecond: by that it removes what has expired. The one here
//! is exact, and is the one that counts.

use pyo3::exceptions::{PyNotImplementedError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString};

use crate::store::codec::Codec;
use crate::store::key::{self, Key};

const HAS_EXPIRE: u8 = 1;
const HAS_TAG: u8 = 2;
const HAS_KEY: u8 = 4;
/// The engine does not know the deadline: the entry stays until it is culled.
const IS_PARKED: u8 = 8;
const FLAGS: u8 = HAS_EXPIRE | HAS_TAG | HAS_KEY | IS_PARKED;

const NONE: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INT: u8 = 3;
const FLOAT: u8 = 4;
const STR: u8 = 5;
const BYTES: u8 = 6;
const LARGE_INT: u8 = 7;
const ENCODED: u8 = 8;
/// Bytes that were read from a file.
const FILE: u8 = 9;
/// What the `store` method of a `Disk` returned: mode, and a value.
const OF_DISK: u8 = 10;

/// Position of the place in the order.
const PLACE: std::ops::Range<usize> = 2..10;

/// How an entry ends and what it belongs to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Terms<'a> {
    /// Seconds since the epoch.
    pub expire: Option<f64>,
    /// See [`Stored::is_parked`].
    pub is_parked: bool,
    /// As `key::encode_tag` encoded it.
    pub tag: Option<&'a [u8]>,
}

/// A stored value, split.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored<'a> {
    flags: u8,
    kind: u8,
    /// 0 is that of the entry's version.
    pub place: u64,
    pub expire: Option<f64>,
    pub tag: Option<&'a [u8]>,
    pub key: Option<&'a [u8]>,
    payload: &'a [u8],
}

/// A number that can be added to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Int(i64),
    Float(f64),
}

impl Number {
    /// Returns the sum; `None` if it exceeds 64 bits.
    pub(super) fn plus(self, other: Self) -> Option<Self> {
        Some(match (self, other) {
            (Self::Int(one), Self::Int(other)) => Self::Int(one.checked_add(other)?),
            (Self::Int(one), Self::Float(other)) => Self::Float(one as f64 + other),
            (Self::Float(one), Self::Int(other)) => Self::Float(one + other as f64),
            (Self::Float(one), Self::Float(other)) => Self::Float(one + other),
        })
    }

    /// Returns the number that an object is; `None` for any other type, and beyond 64 bits.
    pub(super) fn of(object: &Bound<'_, PyAny>) -> Option<Self> {
        if object.is_exact_instance_of::<PyInt>() {
            return object.extract().ok().map(Self::Int);
        }
        let float = object.cast_exact::<PyFloat>().ok()?;
        float.extract().ok().map(Self::Float)
    }

    pub(super) fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Ok(match self {
            Self::Int(number) => number.into_pyobject(py)?.into_any(),
            Self::Float(number) => PyFloat::new(py, number).into_any(),
        })
    }
}

/// Returns the head of a value, with room for a payload. Its kind is to be set.
fn head(terms: &Terms<'_>, key: Option<&[u8]>, payload: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(40 + payload);
    bytes.extend_from_slice(&[0; 10]);
    let mut flags = 0;
    if let Some(expire) = terms.expire {
        flags |= HAS_EXPIRE;
        bytes.extend_from_slice(&expire.to_le_bytes());
        if terms.is_parked {
            flags |= IS_PARKED;
        }
    }
    for (field, flag) in [(terms.tag, HAS_TAG), (key, HAS_KEY)] {
        if let Some(field) = field {
            flags |= flag;
            bytes.extend_from_slice(&(field.len() as u32).to_le_bytes());
            bytes.extend_from_slice(field);
        }
    }
    bytes[0] = flags;
    bytes
}

/// Encodes a value. `read`: it is a file, and its bytes are the value.
pub(super) fn encode(
    value: &Bound<'_, PyAny>,
    read: bool,
    caller_key: Option<&Bound<'_, PyAny>>,
    key: &Key,
    terms: &Terms<'_>,
    codec: &Codec,
) -> PyResult<Vec<u8>> {
    if let Some(disk) = codec.disk(value.py()) {
        let mut bytes = head(terms, key.whole(), 0);
        of_disk(disk, value, read, caller_key, codec, &mut bytes)?;
        return Ok(bytes);
    }
    if read {
        let data = value.call_method0("read")?;
        let data = data.cast_into::<PyBytes>().map_err(|_| not_binary())?;
        return Ok(whole(FILE, data.as_bytes(), key, terms));
    }
    if let Ok(text) = value.cast_exact::<PyString>()
        // Half of a surrogate pair is not UTF-8; the codec may know it.
        && let Ok(text) = text.to_str()
    {
        return Ok(whole(STR, text.as_bytes(), key, terms));
    }
    if let Ok(data) = value.cast_exact::<PyBytes>() {
        return Ok(whole(BYTES, data.as_bytes(), key, terms));
    }
    if let Some(number) = Number::of(value) {
        return Ok(encode_number(number, key, terms));
    }
    if value.is_none() {
        return Ok(whole(NONE, &[], key, terms));
    }
    if let Ok(flag) = value.cast_exact::<PyBool>() {
        let kind = if flag.is_true() { TRUE } else { FALSE };
        return Ok(whole(kind, &[], key, terms));
    }
    if value.is_exact_instance_of::<PyInt>() {
        return Ok(whole(
            LARGE_INT,
            key::large_int(value)?.as_bytes(),
            key,
            terms,
        ));
    }
    Ok(whole(ENCODED, codec.encode(value)?.as_bytes(), key, terms))
}

fn not_binary() -> PyErr {
    PyTypeError::new_err("with read=True the value is a file that was opened in binary mode")
}

fn whole(kind: u8, payload: &[u8], key: &Key, terms: &Terms<'_>) -> Vec<u8> {
    let mut bytes = head(terms, key.whole(), payload.len());
    bytes[1] = kind;
    bytes.extend_from_slice(payload);
    bytes
}

/// Encodes a number, as [`encode`] does.
pub(super) fn encode_number(number: Number, key: &Key, terms: &Terms<'_>) -> Vec<u8> {
    match number {
        Number::Int(number) => whole(INT, &number.to_le_bytes(), key, terms),
        Number::Float(number) => whole(FLOAT, &number.to_le_bytes(), key, terms),
    }
}

/// Encodes what the `Disk` of a user makes of a value.
fn of_disk(
    disk: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
    read: bool,
    caller_key: Option<&Bound<'_, PyAny>>,
    codec: &Codec,
    bytes: &mut Vec<u8>,
) -> PyResult<()> {
    let stored = match caller_key {
        Some(key) => {
            let named = pyo3::types::PyDict::new(value.py());
            named.set_item("key", key)?;
            disk.call_method("store", (value, read), Some(&named))?
        }
        None => disk.call_method1("store", (value, read))?,
    };
    let (_, mode, name, stored): (Bound<'_, PyAny>, i64, Bound<'_, PyAny>, Bound<'_, PyAny>) =
        stored.extract()?;
    if !name.is_none() {
        return Err(PyNotImplementedError::new_err(
            "the store() of a Disk returns no file name here: the cache's own files hold all values; \
             return the bytes as the value",
        ));
    }
    bytes[1] = OF_DISK;
    bytes.extend_from_slice(&mode.to_le_bytes());
    key::append_item(&stored, codec, bytes)
}

/// Sets the place of the key in the order of insertion.
pub(super) fn set_place(bytes: &mut [u8], place: u64) {
    // Bytes of another program may be shorter.
    if let Some(stored) = bytes.get_mut(PLACE) {
        stored.copy_from_slice(&place.to_le_bytes());
    }
}

impl<'a> Stored<'a> {
    /// Splits a stored value. `None` if it is none of this package.
    #[inline]
    pub(super) fn split(bytes: &'a [u8]) -> Option<Self> {
        let (&[flags, kind], rest) = bytes.split_first_chunk()?;
        let (place, mut rest) = rest.split_first_chunk()?;
        let mut stored = Self {
            flags,
            kind,
            place: u64::from_le_bytes(*place),
            expire: None,
            tag: None,
            key: None,
            payload: rest,
        };
        if flags == 0 {
            return Some(stored);
        }
        if flags & !FLAGS != 0 {
            return None;
        }
        if flags & HAS_EXPIRE != 0 {
            let (expire, after) = rest.split_first_chunk()?;
            stored.expire = Some(f64::from_le_bytes(*expire));
            rest = after;
        }
        if flags & HAS_TAG != 0 {
            stored.tag = Some(field(&mut rest)?);
        }
        if flags & HAS_KEY != 0 {
            stored.key = Some(field(&mut rest)?);
        }
        stored.payload = rest;
        Some(stored)
    }

    /// Returns whether the engine does not know the deadline, so that the entry stays until it is culled.
    pub(super) fn is_parked(&self) -> bool {
        self.flags & IS_PARKED != 0
    }

    /// Returns the number that the value is, if it is one.
    pub(super) fn number(&self) -> Option<Number> {
        let bytes = self.payload.try_into().ok()?;
        match self.kind {
            INT => Some(Number::Int(i64::from_le_bytes(bytes))),
            FLOAT => Some(Number::Float(f64::from_le_bytes(bytes))),
            _ => None,
        }
    }

    /// Returns the same value with other terms.
    pub(super) fn with(&self, terms: &Terms<'_>) -> Vec<u8> {
        let mut bytes = head(terms, self.key, self.payload.len());
        bytes[1] = self.kind;
        set_place(&mut bytes, self.place);
        bytes.extend_from_slice(self.payload);
        bytes
    }

    /// Decodes the value. `file`: values of at least so many bytes, and those that were read from a file,
    /// are returned as an open file.
    pub(super) fn decode<'py>(
        &self,
        py: Python<'py>,
        file: Option<usize>,
        codec: &Codec,
    ) -> PyResult<Bound<'py, PyAny>> {
        let payload = self.payload;
        Ok(match self.kind {
            NONE => py.None().into_bound(py),
            FALSE | TRUE => PyBool::new(py, self.kind == TRUE).to_owned().into_any(),
            INT | FLOAT => self.number().ok_or_else(unreadable)?.into_python(py)?,
            STR => {
                let text = std::str::from_utf8(payload).map_err(|_| unreadable())?;
                PyString::new(py, text).into_any()
            }
            BYTES | FILE => {
                let bytes = PyBytes::new(py, payload);
                let is_file = file.is_some_and(|least| self.kind == FILE || payload.len() >= least);
                if is_file {
                    codec.reader(bytes)?
                } else {
                    bytes.into_any()
                }
            }
            LARGE_INT => key::from_large_int(py, payload)?,
            ENCODED => codec.decode(py, payload)?,
            OF_DISK => {
                let disk = codec.disk(py).ok_or_else(other_disk)?;
                let (mode, item) = payload.split_first_chunk().ok_or_else(unreadable)?;
                let mode = i64::from_le_bytes(*mode);
                let item = key::decode_item(py, item, codec)?;
                disk.call_method1("fetch", (mode, py.None(), item, file.is_some()))?
            }
            _ => return Err(unreadable()),
        })
    }
}

fn field<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (len, after) = rest.split_first_chunk()?;
    let (bytes, after) = after.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    *rest = after;
    Some(bytes)
}

/// The error of a value that another program stored.
pub(super) fn unreadable() -> PyErr {
    PyTypeError::new_err("the value was not stored by this package, or by a newer release of it")
}

fn other_disk() -> PyErr {
    PyTypeError::new_err(
        "the value was stored by a Disk of its own; open the cache with that class",
    )
}
