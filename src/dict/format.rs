//! In which form values are stored.
//!
//! Knows two forms and their names, not where the bytes go.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::str::FromStr;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::dict::{depth, finite};

/// What a dictionary can hold: anything that serde can write and read again, and that can be shared
/// among threads.
pub trait Value: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {}

impl<V: Serialize + DeserializeOwned + Clone + Send + Sync + 'static> Value for V {}

/// What a format said against a value.
pub(super) type Fault = Box<dyn std::error::Error + Send + Sync>;

/// The form in which values are stored, and the namespace that they share with all dictionaries of
/// the same format over the same storage: an item of one format is absent in the other.
///
/// Both forms name the fields of structs, so fields may be reordered, and added where they have a
/// default. Both hold at most 127 lists, maps, structs and enums within each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Format {
    /// JSON: readable by people and by everything else. It has no bytes, no keys but texts, and no
    /// numbers that are infinite or none.
    #[default]
    Json,
    /// MessagePack: compact, binary, and read in many languages.
    MessagePack,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 2] = [Self::Json, Self::MessagePack];

    /// The format's name: `json` or `msgpack`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::MessagePack => "msgpack",
        }
    }

    pub(super) fn encode<V: Serialize>(self, value: &V) -> Result<Vec<u8>, Fault> {
        Ok(match self {
            Self::Json => to_json(value)?,
            Self::MessagePack => {
                let encoded = rmp_serde::to_vec_named(value)?;
                refuse_deep(&encoded)?;
                encoded
            }
        })
    }

    pub(super) fn decode<V: DeserializeOwned>(self, bytes: &[u8]) -> Result<V, Fault> {
        match self {
            Self::Json => Ok(serde_json::from_slice(bytes)?),
            Self::MessagePack => {
                refuse_deep(bytes)?;
                let mut rest = bytes;
                let value = V::deserialize(&mut rmp_serde::Deserializer::new(&mut rest))?;
                if !rest.is_empty() {
                    return Err(format!("{} bytes behind the value", rest.len()).into());
                }
                Ok(value)
            }
        }
    }
}

/// The most lists and maps that may lie within each other: as many as `serde_json` reads. Decoding
/// takes stack for each of them.
const DEEPEST: usize = 127;

/// Refuses a value in MessagePack that is nested too deeply. The decoder counts the levels of lists,
/// but not those of enums.
fn refuse_deep(encoded: &[u8]) -> Result<(), Fault> {
    // Each level has a byte that begins a list or a map: most values cannot be that deep.
    // The others are gone through: writing a thousand structs takes 61 µs so, and 42 without;
    // by the decoder, passing over everything, 84.
    let begins = |byte: &&u8| matches!(byte, 0x80..=0x9f | 0xdc..=0xdf);
    if encoded.len() > DEEPEST
        && encoded.iter().filter(begins).count() > DEEPEST
        && depth::exceeds(DEEPEST, encoded)
    {
        return Err(too_deep().into());
    }
    Ok(())
}

fn too_deep() -> String {
    format!("more than {DEEPEST} lists or maps within each other")
}

/// As `serde_json::to_vec`, but what cannot be read back is an error: numbers that are infinite or
/// none, which would be a `null`, and what is nested too deeply.
fn to_json(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let (mut encoded, has_null) = (Vec::with_capacity(128), Cell::new(false));
    let noticing = Noticing {
        has_null: &has_null,
        depth: 0,
    };
    value.serialize(&mut serde_json::Serializer::with_formatter(
        &mut encoded,
        noticing,
    ))?;
    if has_null.get() {
        finite::check(value)?;
    }
    Ok(encoded)
}

/// Writes as little as can be, notices a `null`, and counts levels.
struct Noticing<'a> {
    has_null: &'a Cell<bool>,
    depth: usize,
}

impl Noticing<'_> {
    fn begin(&mut self) -> io::Result<()> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(io::Error::other(too_deep()));
        }
        Ok(())
    }
}

impl serde_json::ser::Formatter for Noticing<'_> {
    fn write_null<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.has_null.set(true);
        writer.write_all(b"null")
    }

    fn begin_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin()?;
        writer.write_all(b"[")
    }

    fn end_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        writer.write_all(b"]")
    }

    fn begin_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin()?;
        writer.write_all(b"{")
    }

    fn end_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        writer.write_all(b"}")
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that is no format's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no format; json and msgpack are")]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        let found = Self::ALL.into_iter().find(|format| format.name() == name);
        found.ok_or_else(|| UnknownFormat(name.to_owned()))
    }
}
