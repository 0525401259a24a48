//! The errors of dictionaries.

use std::str::FromStr;

use crate::codec::Format;
use crate::dict::key::DictKey;
use crate::dict::key_part::KeyError;
use crate::error::Error;

/// A result with a dictionary's [`DictError`].
pub type Result<T, E = DictError> = std::result::Result<T, E>;

/// The error of a dictionary's operation. The operation changed nothing, unless its documentation
/// says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DictError {
    /// The operation needs an item, and it is absent.
    #[error("{key}: there is no such item; check the key, or use `get` if it may be absent")]
    KeyNotFound {
        /// The key, as the caller gave it.
        key: DictKey,
    },
    /// The parts that the caller gave are not a key, or not a prefix.
    #[error(transparent)]
    InvalidKey(#[from] KeyError),
    /// An entry of the storage begins as the keys of this dictionary do, but is not one of them: it
    /// was written by other means. Dictionaries neither change nor delete it.
    #[error(
        "the entry {key:?} begins as this dictionary's keys do, but is not one of them; if it is not needed, delete it from the cache"
    )]
    ForeignKey {
        /// The entry's key in the storage, lossily decoded as UTF-8.
        key: String,
        /// Why it is not a key; `None` if it is not UTF-8.
        source: Option<KeyError>,
    },
    /// The format cannot express the value.
    #[error(
        "{key}: cannot write a {type_name} as {format}; change the type, or use another format"
    )]
    Encode {
        /// The item, from the root of the storage.
        key: DictKey,
        /// The dictionary's format.
        format: Format,
        /// The type of the dictionary's values.
        type_name: &'static str,
        /// The error of the format.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The item was written as a value of another type. It remains, and can be deleted or replaced.
    #[error("{key}: cannot read a {type_name} from {format}; check the type that wrote the item")]
    Decode {
        /// The item, from the root of the storage.
        key: DictKey,
        /// The dictionary's format.
        format: Format,
        /// The type of the dictionary's values.
        type_name: &'static str,
        /// The error of the format.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The dictionary is append-only: it refuses to replace or delete items.
    #[error("{}the dictionary is append-only; use one that is not to replace or delete items", about(.key.as_ref()))]
    AppendOnly {
        /// The item, from the root of the storage; `None` if the operation was not about one item.
        key: Option<DictKey>,
    },
    /// Other threads wrote the item during each attempt of the operation.
    #[error(
        "{key}: other threads wrote the item during each of {attempts} attempts; try again, or allow more retries"
    )]
    Conflict {
        /// The item, from the root of the storage.
        key: DictKey,
        /// The number of attempts, the first one included.
        attempts: u32,
    },
    /// This process is a forked child, and a thread of its parent was changing this dictionary in
    /// memory during the fork; see [`LocalDict`](crate::dict::LocalDict#after-a-fork).
    #[error(
        "this dictionary in memory was being changed during the fork; create another one in this process, or fork while no thread uses it"
    )]
    Forked,
    /// A text is not the name of a [`Format`].
    #[error("{name:?} is not a format; use json or msgpack")]
    UnknownFormat {
        /// The text.
        name: String,
    },
    /// The engine refused the operation, or failed.
    #[error("{}could not {operation}", about(.key.as_ref()))]
    Backend {
        /// What the dictionary asked of the engine, for people: the end of "could not ...".
        operation: &'static str,
        /// The item, from the root of the storage; `None` if the operation was not about one item.
        key: Option<DictKey>,
        /// The engine's error.
        source: Error,
    },
}

impl DictError {
    /// Returns whether the files are corrupted; see [`Error::is_corruption`].
    ///
    /// `false` for a value that does not decode: its checksum is valid, so it was written as another
    /// type.
    pub fn is_corruption(&self) -> bool {
        matches!(self, Self::Backend { source, .. } if source.is_corruption())
    }
}

fn about(key: Option<&DictKey>) -> String {
    key.map_or_else(String::new, |key| format!("{key}: "))
}

impl FromStr for Format {
    type Err = DictError;

    fn from_str(name: &str) -> Result<Self> {
        let mut all = Self::ALL.into_iter();
        let found = all.find(|format| format.name() == name);
        found.ok_or_else(|| DictError::UnknownFormat {
            name: name.to_owned(),
        })
    }
}
