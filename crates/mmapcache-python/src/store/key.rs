//! Keys of a store as bytes, and back.
//!
//! Two keys have the same bytes if diskcache holds them for one key: `1` and `1.0` are one; `True`, `"1"`
//! and `b"1"` are others. Inside a tuple `1` and `1.0` differ, as they do when they are pickled. Each
//! item begins with a byte that says its type; inside of others it also has its length, so that no two
//! tuples have the same bytes. What is none of these types is encoded by the codec.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyFloat, PyFrozenSet, PyInt, PyList, PyString, PyTuple, PyType,
};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::store::codec::Codec;

/// Bytes of a key that the engine gets as they are. Above it gets their hash, and the value has the key.
const LONGEST: usize = 60_000;
/// Tuples inside of tuples.
const DEPTH: u32 = 100;

const NONE: u8 = 1;
const FALSE: u8 = 2;
const TRUE: u8 = 3;
const INT: u8 = 4;
const FLOAT: u8 = 5;
const STR: u8 = 6;
const BYTES: u8 = 7;
const LARGE_INT: u8 = 8;
const TUPLE: u8 = 9;
const FROZENSET: u8 = 10;
const TYPE: u8 = 11;
const ENCODED: u8 = 12;
/// What the `put` method of a `Disk` returned, with false for "raw".
const NOT_RAW: u8 = 13;
const HASHED: u8 = 32;

/// A key: what the engine gets, and all of it if that is only its hash.
#[derive(Clone, Debug)]
pub(super) struct Key {
    engine: Vec<u8>,
    whole: Option<Vec<u8>>,
}

impl Key {
    fn new(bytes: Vec<u8>) -> Self {
        if bytes.len() <= LONGEST {
            return Self {
                engine: bytes,
                whole: None,
            };
        }
        let mut engine = vec![HASHED];
        engine.extend_from_slice(&xxh3_128(&bytes).to_be_bytes());
        Self {
            engine,
            whole: Some(bytes),
        }
    }

    /// Encodes the key of a caller.
    pub(super) fn of(key: &Bound<'_, PyAny>, codec: &Codec) -> PyResult<Self> {
        let mut bytes = Vec::with_capacity(64);
        match codec.disk(key.py()) {
            None => Writer { codec, depth: 0 }.top(key, &mut bytes)?,
            Some(disk) => {
                let put = disk.call_method1("put", (key,))?;
                let (stored, is_raw): (Bound<'_, PyAny>, bool) = put.extract()?;
                if !is_raw {
                    bytes.push(NOT_RAW);
                }
                Writer { codec, depth: 0 }.top(&stored, &mut bytes)?;
            }
        }
        Ok(Self::new(bytes))
    }

    /// Returns the key of an item of a queue; see `store::queue`.
    pub(super) fn of_item(prefix: Option<&str>, number: i64) -> Self {
        let mut bytes = Vec::with_capacity(40);
        match prefix {
            None => put_int(number, &mut bytes),
            Some(prefix) => {
                bytes.push(STR);
                bytes.extend_from_slice(format!("{prefix}-{number:015}").as_bytes());
            }
        }
        Self::new(bytes)
    }

    /// Returns the bytes that the engine has for it.
    #[inline]
    pub(super) fn engine(&self) -> &[u8] {
        &self.engine
    }

    /// Returns all bytes, if the engine has their hash only.
    #[inline]
    pub(super) fn whole(&self) -> Option<&[u8]> {
        self.whole.as_deref()
    }

    /// Returns a number that is the same in each process, for the choice of a shard.
    pub(super) fn hash(&self) -> u64 {
        xxh3_64(&self.engine)
    }
}

/// Encodes a tag, which is compared by its bytes.
pub(super) fn encode_tag(tag: &Bound<'_, PyAny>, codec: &Codec) -> PyResult<Vec<u8>> {
    let mut bytes = Vec::new();
    Writer { codec, depth: 0 }.top(tag, &mut bytes)?;
    Ok(bytes)
}

/// Appends an object, as an item inside of others.
pub(super) fn append_item(
    object: &Bound<'_, PyAny>,
    codec: &Codec,
    bytes: &mut Vec<u8>,
) -> PyResult<()> {
    Writer { codec, depth: 0 }.item(object, bytes)
}

/// Returns the number of a queue's item, and its prefix. `None` if the key is not one of an item.
pub(super) fn item_of_queue(bytes: &[u8]) -> Option<(Option<&str>, i64)> {
    match bytes.split_first()? {
        (&INT, rest) => {
            let number = int(rest.try_into().ok()?);
            (0 < number && number < 999_999_999_999_999).then_some((None, number))
        }
        (&STR, rest) => {
            let (prefix, digits) = std::str::from_utf8(rest).ok()?.rsplit_once('-')?;
            let is_number = digits.len() == 15 && digits.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then_some((Some(prefix), digits.parse().ok()?))
        }
        _ => None,
    }
}

/// Decodes a key: its bytes, or those that its value has, if the engine has a hash only.
pub(super) fn decode<'py>(
    py: Python<'py>,
    bytes: &[u8],
    codec: &Codec,
) -> PyResult<Bound<'py, PyAny>> {
    let Some(disk) = codec.disk(py) else {
        return Reader { codec, depth: 0 }.top(py, bytes);
    };
    let (is_raw, bytes) = match bytes.split_first() {
        Some((&NOT_RAW, rest)) => (false, rest),
        _ => (true, bytes),
    };
    let stored = Reader { codec, depth: 0 }.top(py, bytes)?;
    disk.call_method1("get", (stored, is_raw))
}

/// Decodes a tag.
pub(super) fn decode_tag<'py>(
    py: Python<'py>,
    bytes: &[u8],
    codec: &Codec,
) -> PyResult<Bound<'py, PyAny>> {
    Reader { codec, depth: 0 }.top(py, bytes)
}

/// Decodes what [`append_item`] appended, which are all of these bytes.
pub(super) fn decode_item<'py>(
    py: Python<'py>,
    mut bytes: &[u8],
    codec: &Codec,
) -> PyResult<Bound<'py, PyAny>> {
    Reader { codec, depth: 0 }.item(py, &mut bytes)
}

fn put_int(number: i64, bytes: &mut Vec<u8>) {
    bytes.push(INT);
    // With the sign turned, numbers are in the order of their bytes.
    bytes.extend_from_slice(&(number as u64 ^ (1 << 63)).to_be_bytes());
}

fn int(bytes: [u8; 8]) -> i64 {
    (u64::from_be_bytes(bytes) ^ (1 << 63)) as i64
}

struct Writer<'c> {
    codec: &'c Codec,
    depth: u32,
}

impl Writer<'_> {
    /// Writes an object that all bytes are of.
    fn top(&mut self, object: &Bound<'_, PyAny>, bytes: &mut Vec<u8>) -> PyResult<()> {
        if let Ok(text) = object.cast_exact::<PyString>() {
            bytes.push(STR);
            bytes.extend_from_slice(text.to_str()?.as_bytes());
        } else if let Ok(data) = object.cast_exact::<PyBytes>() {
            bytes.push(BYTES);
            bytes.extend_from_slice(data.as_bytes());
        } else if let Ok(number) = object.cast_exact::<PyFloat>() {
            put_number(number.extract()?, bytes);
        } else {
            self.item(object, bytes)?;
        }
        Ok(())
    }

    fn item(&mut self, object: &Bound<'_, PyAny>, bytes: &mut Vec<u8>) -> PyResult<()> {
        if let Ok(text) = object.cast_exact::<PyString>() {
            put_long(STR, text.to_str()?.as_bytes(), bytes)
        } else if let Ok(data) = object.cast_exact::<PyBytes>() {
            put_long(BYTES, data.as_bytes(), bytes)
        } else if object.is_exact_instance_of::<PyInt>() {
            put_integer(object, bytes)
        } else if let Ok(number) = object.cast_exact::<PyFloat>() {
            put_float(number.extract()?, bytes);
            Ok(())
        } else if object.is_none() {
            bytes.push(NONE);
            Ok(())
        } else if let Ok(flag) = object.cast_exact::<PyBool>() {
            bytes.push(if flag.is_true() { TRUE } else { FALSE });
            Ok(())
        } else {
            self.composed(object, bytes)
        }
    }

    fn composed(&mut self, object: &Bound<'_, PyAny>, bytes: &mut Vec<u8>) -> PyResult<()> {
        if let Ok(items) = object.cast_exact::<PyTuple>() {
            self.deeper()?;
            bytes.push(TUPLE);
            put_len(items.len(), bytes)?;
            for item in items {
                self.item(&item, bytes)?;
            }
            self.depth -= 1;
            Ok(())
        } else if let Ok(items) = object.cast_exact::<PyFrozenSet>() {
            self.frozenset(items, bytes)
        } else if let Ok(class) = object.cast::<PyType>() {
            let name = format!("{}.{}", class.module()?, class.qualname()?);
            put_long(TYPE, name.as_bytes(), bytes)
        } else if let Some(name) = self.codec.type_name(object)? {
            put_long(TYPE, name.as_bytes(), bytes)
        } else {
            let encoded = self.codec.encode(object)?;
            put_long(ENCODED, encoded.as_bytes(), bytes)
        }
    }

    /// In the order of the items' bytes: that of a set differs between processes.
    fn frozenset(&mut self, items: &Bound<'_, PyFrozenSet>, bytes: &mut Vec<u8>) -> PyResult<()> {
        self.deeper()?;
        let mut encoded = Vec::with_capacity(items.len());
        for item in items {
            let mut bytes = Vec::new();
            self.item(&item, &mut bytes)?;
            encoded.push(bytes);
        }
        self.depth -= 1;
        encoded.sort_unstable();
        bytes.push(FROZENSET);
        put_len(encoded.len(), bytes)?;
        bytes.extend(encoded.into_iter().flatten());
        Ok(())
    }

    fn deeper(&mut self) -> PyResult<()> {
        self.depth += 1;
        match self.depth <= DEPTH {
            true => Ok(()),
            false => Err(PyValueError::new_err(format!(
                "a key has at most {DEPTH} tuples inside of each other"
            ))),
        }
    }
}

/// Writes a float as the key that it is equal to: an integer, if it is one of 64 bits.
fn put_number(number: f64, bytes: &mut Vec<u8>) {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    match number.fract() == 0.0 && (-LIMIT..LIMIT).contains(&number) {
        true => put_int(number as i64, bytes),
        false => put_float(number, bytes),
    }
}

fn put_float(number: f64, bytes: &mut Vec<u8>) {
    // One kind of "not a number", as for diskcache.
    let number = if number.is_nan() { f64::NAN } else { number };
    bytes.push(FLOAT);
    bytes.extend_from_slice(&number.to_bits().to_be_bytes());
}

fn put_integer(object: &Bound<'_, PyAny>, bytes: &mut Vec<u8>) -> PyResult<()> {
    if let Ok(number) = object.extract::<i64>() {
        put_int(number, bytes);
        return Ok(());
    }
    put_long(LARGE_INT, large_int(object)?.as_bytes(), bytes)
}

/// Returns the bytes of an integer of any size, two's complement, the lowest first.
pub(super) fn large_int<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let bits: usize = object.call_method0("bit_length")?.extract()?;
    let kwargs = pyo3::types::PyDict::new(object.py());
    kwargs.set_item("signed", true)?;
    let bytes = object.call_method("to_bytes", (bits / 8 + 1, "little"), Some(&kwargs))?;
    Ok(bytes.cast_into::<PyBytes>()?)
}

/// Returns the integer that [`large_int`] made these bytes of.
pub(super) fn from_large_int<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let kwargs = pyo3::types::PyDict::new(py);
    kwargs.set_item("signed", true)?;
    let arguments = (PyBytes::new(py, bytes), "little");
    py.get_type::<PyInt>()
        .call_method("from_bytes", arguments, Some(&kwargs))
}

fn put_len(len: usize, bytes: &mut Vec<u8>) -> PyResult<()> {
    let len = u32::try_from(len).map_err(|_| PyValueError::new_err("a key of 4 GiB or more"))?;
    bytes.extend_from_slice(&len.to_le_bytes());
    Ok(())
}

fn put_long(kind: u8, long: &[u8], bytes: &mut Vec<u8>) -> PyResult<()> {
    bytes.push(kind);
    put_len(long.len(), bytes)?;
    bytes.extend_from_slice(long);
    Ok(())
}

struct Reader<'c> {
    codec: &'c Codec,
    depth: u32,
}

impl Reader<'_> {
    fn top<'py>(&mut self, py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        match bytes.split_first() {
            Some((&STR, text)) => string(py, text),
            Some((&BYTES, data)) => Ok(PyBytes::new(py, data).into_any()),
            _ => {
                let mut rest = bytes;
                let item = self.item(py, &mut rest)?;
                match rest.is_empty() {
                    true => Ok(item),
                    false => Err(damaged()),
                }
            }
        }
    }

    fn item<'py>(&mut self, py: Python<'py>, rest: &mut &[u8]) -> PyResult<Bound<'py, PyAny>> {
        let [kind] = array(rest)?;
        Ok(match kind {
            NONE => py.None().into_bound(py),
            FALSE | TRUE => PyBool::new(py, kind == TRUE).to_owned().into_any(),
            INT => int(array(rest)?).into_pyobject(py)?.into_any(),
            FLOAT => {
                let number = f64::from_bits(u64::from_be_bytes(array(rest)?));
                PyFloat::new(py, number).into_any()
            }
            STR => string(py, long(rest)?)?,
            BYTES => PyBytes::new(py, long(rest)?).into_any(),
            LARGE_INT => from_large_int(py, long(rest)?)?,
            TYPE => self.codec.find_type(py, long(rest)?)?,
            ENCODED => self.codec.decode(py, long(rest)?)?,
            TUPLE | FROZENSET => self.composed(py, kind, rest)?,
            _ => return Err(damaged()),
        })
    }

    fn composed<'py>(
        &mut self,
        py: Python<'py>,
        kind: u8,
        rest: &mut &[u8],
    ) -> PyResult<Bound<'py, PyAny>> {
        self.depth += 1;
        let count = u32::from_le_bytes(array(rest)?) as usize;
        // Each item has a byte at least: damaged bytes must not ask for more memory than they have.
        if self.depth > DEPTH || count > rest.len() {
            return Err(damaged());
        }
        let items = PyList::empty(py);
        for _ in 0..count {
            items.append(self.item(py, rest)?)?;
        }
        self.depth -= 1;
        Ok(match kind {
            TUPLE => items.to_tuple().into_any(),
            _ => PyFrozenSet::new(py, items)?.into_any(),
        })
    }
}

fn string<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let text = std::str::from_utf8(bytes).map_err(|_| damaged())?;
    Ok(PyString::new(py, text).into_any())
}

fn array<const N: usize>(rest: &mut &[u8]) -> PyResult<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk().ok_or_else(damaged)?;
    *rest = after;
    Ok(*bytes)
}

fn long<'b>(rest: &mut &'b [u8]) -> PyResult<&'b [u8]> {
    let len = u32::from_le_bytes(array(rest)?) as usize;
    let (bytes, after) = rest.split_at_checked(len).ok_or_else(damaged)?;
    *rest = after;
    Ok(bytes)
}

/// Python-level programs that share the files may store what this release does not read.
fn damaged() -> PyErr {
    PyTypeError::new_err("the key was not stored by this package, or by a newer release of it")
}
