//! What a key leads to, as it is handed out.
//!
//! Private copies: they know nothing of the files they came from.

use crate::engine::version::Version;

/// An entry's value, and which version of it this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub(crate) value: Vec<u8>,
    pub(crate) version: Version,
}

impl Entry {
    /// The value's bytes.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// The value's bytes, without another copy.
    pub fn into_value(self) -> Vec<u8> {
        self.value
    }

    /// When this version was written; also what tells it from every other.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The value's length in bytes.
    pub fn len(&self) -> usize {
        self.value.len()
    }

    /// Whether the value is empty. The entry is there all the same.
    pub fn is_empty(&self) -> bool {
        self.value.is_empty()
    }
}

/// What is to become of an entry: the answer of an [`update`](crate::MmapCache::update) closure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// It gets this value.
    Put(Vec<u8>),
    /// It stays as it is, present or absent.
    Keep,
    /// It goes.
    Delete,
}
