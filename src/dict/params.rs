//! What a dictionary was made with.
//!
//! Knows names and values, for people to read and programs to compare.

use std::fmt;
use std::path::PathBuf;

use crate::dict::format::Format;
use crate::dict::prefix::Prefix;

/// What a dictionary was made with; see [`Dict::params`](crate::dict::Dict::params).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Params {
    /// The name of the dictionary's type.
    pub kind: &'static str,
    /// Whether items stay as they were first put.
    pub append_only: bool,
    /// The format of the values.
    pub format: Format,
    /// Where its storage lies, if that is in files.
    pub path: Option<PathBuf>,
    /// Where in its storage the dictionary begins.
    pub prefix: Prefix,
    /// After how many deletions empty nodes are removed, if ever, where the storage has nodes.
    pub prune_interval: Option<u32>,
}

/// The kind, and all else in the order of its names.
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
