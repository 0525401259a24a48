//! The parameters of a dictionary, for people to read and programs to compare.

use std::fmt;
use std::path::PathBuf;

use crate::dict::format::Format;
use crate::dict::key::Prefix;

/// The parameters that a dictionary was created with; see [`Dict::params`](crate::dict::Dict::params).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Params {
    /// The name of the kind: `LocalDict`, `MmapDict` or `CachedDict`.
    pub kind: &'static str,
    /// Whether the dictionary refuses to replace and delete items.
    pub append_only: bool,
    /// The format of the values.
    pub format: Format,
    /// The path of the storage, if it is in files.
    pub path: Option<PathBuf>,
    /// Where in the storage's tree of keys the dictionary begins.
    pub prefix: Prefix,
    /// The number of deletions after which empty nodes are removed; `None` if they never are, or if
    /// the storage has no nodes.
    pub prune_interval: Option<u32>,
}

/// Writes the kind, and the other parameters sorted by name.
impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(append_only={}", self.kind, self.append_only)?;
        write!(f, ", format={}", self.format)?;
        if let Some(path) = &self.path {
            write!(f, ", path={}", path.display())?;
        }
        write!(f, ", prefix={:?}", self.prefix.as_str())?;
        if let Some(interval) = self.prune_interval {
            write!(f, ", prune_interval={interval}")?;
        }
        f.write_str(")")
    }
}
