//! The entry of a key, and the update of one.
//!
//! Values are private copies. May call `version`.

use crate::engine::version::Version;

/// The value and the version of an entry: a private copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub(crate) value: Vec<u8>,
    pub(crate) version: Version,
}

impl Entry {
    /// Returns the value.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// Returns the value without copying it.
    pub fn into_value(self) -> Vec<u8> {
        self.value
    }

    /// Returns the version, which tells this write of the entry from every other.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the length of the value in bytes.
    pub fn len(&self) -> usize {
        self.value.len()
    }

    /// Returns whether the value is empty. The entry exists all the same.
    pub fn is_empty(&self) -> bool {
        self.value.is_empty()
    }
}

/// What becomes of an entry: the answer of an [`update`](crate::MmapCache::update) closure. In a
/// dictionary, what becomes of an item with a value of another type than bytes; in a
/// [`Cache`](crate::Cache::update) a value comes with its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Update<T = Vec<u8>> {
    /// Stores this value.
    Put(T),
    /// Leaves the entry as it is, present or absent.
    Keep,
    /// Deletes the entry, if it exists.
    Delete,
}
