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

/// The decision of an [`update`](crate::MmapCache::update) closure about an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// Stores this value.
    Put(Vec<u8>),
    /// Leaves the entry as it is, present or absent.
    Keep,
    /// Deletes the entry.
    Delete,
}
