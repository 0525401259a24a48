//! How a dictionary in memory is made.
//!
//! Knows ranges and defaults.

use crate::dict::Format;

/// How a [`LocalDict`](crate::dict::LocalDict) is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalOptions {
    pub(super) format: Format,
    pub(super) append_only: bool,
    pub(super) prune_interval: Option<u32>,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl LocalOptions {
    /// JSON, items may be changed, and empty nodes are removed each 64 deletions.
    pub fn new() -> Self {
        Self {
            format: Format::Json,
            append_only: false,
            prune_interval: Some(64),
        }
    }

    /// The format of the values.
    pub fn format(&mut self, format: Format) -> &mut Self {
        self.format = format;
        self
    }

    /// Whether items stay as they were first put, in all that share the tree.
    pub fn append_only(&mut self, append_only: bool) -> &mut Self {
        self.append_only = append_only;
        self
    }

    /// After how many deletions and clearings the tree is searched for empty nodes, which takes
    /// time for each node. None, and 0, for never.
    pub fn prune_interval(&mut self, deletions: impl Into<Option<u32>>) -> &mut Self {
        self.prune_interval = deletions.into().filter(|&deletions| deletions != 0);
        self
    }
}
