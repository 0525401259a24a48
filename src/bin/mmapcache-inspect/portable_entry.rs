//! An entry that is on its way from one cache, or a file, to another cache.

use crate::entry_terms::EntryTerms;

/// A key, its value, and what a `Cache` stores beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortableEntry {
    pub(crate) key: Vec<u8>,
    /// Empty if the entry is negative.
    pub(crate) value: Vec<u8>,
    /// `None` if the source has no such things: then a `Cache` applies its defaults.
    pub(crate) terms: Option<EntryTerms>,
}

impl PortableEntry {
    pub(crate) fn plain(key: Vec<u8>, value: Vec<u8>) -> Self {
        Self {
            key,
            value,
            terms: None,
        }
    }

    /// Returns the bytes that it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.key.len() + self.value.len()
    }
}
