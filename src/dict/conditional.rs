//! ETags, conditions on them, and the results of conditional operations.

use std::borrow::Cow;
use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::engine::Version;

/// Identifies the write that an item's value came from.
///
/// No two writes of one storage have the same ETag, and later writes have greater ones: in every
/// format and sub-dictionary, and across deletion, [`clear`](crate::dict::Dict::clear) and
/// re-insertion.
///
/// Opaque except for its order and its [time](ETag::time). `Display` writes a decimal number, which a
/// program can send to other processes and parse again; serde writes the same text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ETag(Version);

impl ETag {
    pub(super) fn new(version: Version) -> Self {
        Self(version)
    }

    /// Returns the time of the write, exact to some milliseconds. If the system clock was set back
    /// before it, the time is later than the write was, because ETags never decrease.
    pub fn time(self) -> SystemTime {
        self.0.to_system_time()
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ETag {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        Ok(Self(Version::from_nanos(text.parse()?)))
    }
}

/// A text, because readers of JSON may round a number of 64 bits.
impl Serialize for ETag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ETag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// How the ETag that the caller expects must compare with the item's. An absent item has no ETag:
/// `None`.
///
/// With `None` expected, `Same` means "only if absent", and `Changed` "only if present".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// Always holds.
    Any,
    /// Holds if both are the same, or both `None`.
    Same,
    /// Holds if they differ.
    Changed,
}

impl Condition {
    pub(super) fn holds(self, expected: Option<ETag>, actual: Option<ETag>) -> bool {
        match self {
            Self::Any => true,
            Self::Same => expected == actual,
            Self::Changed => expected != actual,
        }
    }
}

/// Whether a conditional operation that leaves the item unchanged returns its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Retrieve {
    /// Always.
    Always,
    /// Only if the item's ETag is not the expected one: a caller that expected it has the value.
    #[default]
    IfChanged,
    /// Never.
    Never,
}

impl Retrieve {
    pub(super) fn wants(self, expected: Option<ETag>, actual: Option<ETag>) -> bool {
        match self {
            Self::Always => true,
            Self::IfChanged => expected != actual,
            Self::Never => false,
        }
    }
}

/// The result of a conditional operation. That the item is absent, or that the condition does not
/// hold, is a result and not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome<V> {
    /// The item is absent, before and after the operation.
    Absent {
        /// Whether the condition held.
        satisfied: bool,
    },
    /// The item exists, and the operation did not change it.
    Unchanged {
        /// Whether the condition held.
        satisfied: bool,
        /// The item's ETag.
        etag: ETag,
        /// The item's value, if the caller asked for it.
        value: Option<V>,
    },
    /// The condition held, and the operation wrote the item.
    Written {
        /// The item's ETag before the operation; `None` if the item was absent.
        before: Option<ETag>,
        /// The item's new ETag.
        etag: ETag,
        /// The value that was written.
        value: V,
    },
    /// The condition held, and the operation deleted the item.
    Deleted {
        /// The item's ETag before the operation.
        before: ETag,
    },
}

impl<V> Outcome<V> {
    /// Returns whether the condition held.
    pub fn is_satisfied(&self) -> bool {
        match *self {
            Self::Absent { satisfied } | Self::Unchanged { satisfied, .. } => satisfied,
            Self::Written { .. } | Self::Deleted { .. } => true,
        }
    }

    /// Returns whether the operation wrote or deleted the item.
    pub fn is_changed(&self) -> bool {
        matches!(self, Self::Written { .. } | Self::Deleted { .. })
    }

    /// Returns the item's ETag before the operation; `None` if the item was absent.
    pub fn etag_before(&self) -> Option<ETag> {
        match *self {
            Self::Absent { .. } => None,
            Self::Unchanged { etag, .. } => Some(etag),
            Self::Written { before, .. } => before,
            Self::Deleted { before } => Some(before),
        }
    }

    /// Returns the item's ETag after the operation; `None` if the item is absent.
    pub fn etag_after(&self) -> Option<ETag> {
        match *self {
            Self::Absent { .. } | Self::Deleted { .. } => None,
            Self::Unchanged { etag, .. } | Self::Written { etag, .. } => Some(etag),
        }
    }

    /// Returns the item's value after the operation; `None` if the item is absent, or if the caller
    /// did not ask for the value.
    pub fn value(&self) -> Option<&V> {
        match self {
            Self::Absent { .. } | Self::Deleted { .. } => None,
            Self::Unchanged { value, .. } => value.as_ref(),
            Self::Written { value, .. } => Some(value),
        }
    }

    /// Returns the same as [`Outcome::value`], by value.
    pub fn into_value(self) -> Option<V> {
        match self {
            Self::Absent { .. } | Self::Deleted { .. } => None,
            Self::Unchanged { value, .. } => value,
            Self::Written { value, .. } => Some(value),
        }
    }
}
