//! Serialises handles as text or bytes; a pool deserialises them.
//!
//! Human-readable formats get text if the value is UTF-8, otherwise a list of numbers; binary formats
//! get bytes.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::intern::pool::Pool;
use crate::intern::pool::handle::Interned;
use crate::intern::pool::typed::TypedInterned;

impl Serialize for Interned {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.as_str() {
            Some(text) if serializer.is_human_readable() => serializer.serialize_str(text),
            _ => serializer.serialize_bytes(self),
        }
    }
}

impl<T: ?Sized> Serialize for TypedInterned<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.untyped().serialize(serializer)
    }
}

/// Interns the values that it deserialises: a pool is the `DeserializeSeed` of its handles.
///
/// ```
/// use mmapcache::intern::Pool;
/// use serde::de::DeserializeSeed;
///
/// let pool = Pool::new();
/// let blocks = pool.intern("blocks");
/// let written = serde_json::to_string(&blocks)?;
/// assert_eq!(written, "\"blocks\"");
/// let read = pool.deserialize(&mut serde_json::Deserializer::from_str(&written))?;
/// assert_eq!(read, blocks);
/// # Ok::<(), serde_json::Error>(())
/// ```
impl<'de> DeserializeSeed<'de> for &Pool {
    type Value = Interned;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Interned, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(Interning(self))
        } else {
            deserializer.deserialize_bytes(Interning(self))
        }
    }
}

struct Interning<'a>(&'a Pool);

impl<'de> Visitor<'de> for Interning<'_> {
    type Value = Interned;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text or bytes")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Interned, E> {
        self.visit_bytes(text.as_bytes())
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Interned, E> {
        self.0.try_intern(bytes).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Interned, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = seq.next_element()? {
            bytes.push(byte);
        }
        self.visit_bytes(&bytes)
    }
}
