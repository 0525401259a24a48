//! The options of a dictionary in memory.

use crate::codec::Format;

/// Options of a [`LocalDict`](crate::dict::LocalDict).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalOptions {
    pub(in crate::dict) format: Format,
    pub(super) append_only: bool,
    pub(super) prune_interval: Option<u32>,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl LocalOptions {
    /// Returns the defaults: JSON, not append-only, and empty nodes are removed after every 64
    /// deletions.
    pub fn new() -> Self {
        Self {
            format: Format::Json,
            append_only: false,
            prune_interval: Some(64),
        }
    }

    /// Sets the format of the values. Default: [`Format::Json`].
    pub fn format(&mut self, format: Format) -> &mut Self {
        self.format = format;
        self
    }

    /// Sets whether the storage refuses to replace and delete items, in every dictionary that shares
    /// it. Default: `false`.
    pub fn append_only(&mut self, append_only: bool) -> &mut Self {
        self.append_only = append_only;
        self
    }

    /// Sets the number of deletions after which the tree is searched for empty nodes. A search
    /// takes time proportional to the number of nodes, under the exclusive lock. `None` and 0:
    /// never. Default: 64.
    pub fn prune_interval(&mut self, deletions: impl Into<Option<u32>>) -> &mut Self {
        self.prune_interval = deletions.into().filter(|&deletions| deletions != 0);
        self
    }
}
