//! In which form values are stored.
//!
//! Knows two forms and their names, not where the bytes go.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::str::FromStr;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::finite;

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
/// default.
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
            Self::MessagePack => rmp_serde::to_vec_named(value)?,
        })
    }

    pub(super) fn decode<V: DeserializeOwned>(self, bytes: &[u8]) -> Result<V, Fault> {
        match self {
            Self::Json => Ok(serde_json::from_slice(bytes)?),
            Self::MessagePack => {
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

/// As `serde_json::to_vec`, but a number that is infinite or none is an error instead of a `null`.
fn to_json(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let (mut encoded, has_null) = (Vec::with_capacity(128), Cell::new(false));
    let noticing = Noticing(&has_null);
    value.serialize(&mut serde_json::Serializer::with_formatter(
        &mut encoded,
        noticing,
    ))?;
    if has_null.get() {
        finite::check(value)?;
    }
    Ok(encoded)
}

/// Writes as little as can be, and notices a `null`.
struct Noticing<'a>(&'a Cell<bool>);

impl serde_json::ser::Formatter for Noticing<'_> {
    fn write_null<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.set(true);
        writer.write_all(b"null")
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
