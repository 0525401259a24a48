//! Which write of an item this is.
//!
//! Knows how tags compare and read, not who gives them.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::time::SystemTime;

use crate::engine::Version;

/// Which write an item's value came from: no two writes of one storage share a tag, and later
/// writes have greater ones, over `clear`, deletion and re-insertion, in every view.
///
/// Opaque but for its order. Its text, a decimal number, can be handed to others and read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ETag(Version);

impl ETag {
    pub(super) fn new(version: Version) -> Self {
        Self(version)
    }

    /// When the write happened, within some milliseconds; later than that where a clock was set
    /// back, because tags only grow.
    pub(super) fn time(self) -> SystemTime {
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

/// An item's tag, or that it is absent: absence takes part in comparisons as a state of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ETagState {
    /// The item is there, and this is its tag.
    Tag(ETag),
    /// There is no item.
    #[default]
    Absent,
}

impl ETagState {
    /// The tag, if the item is there.
    pub fn tag(self) -> Option<ETag> {
        match self {
            Self::Tag(tag) => Some(tag),
            Self::Absent => None,
        }
    }
}

impl From<ETag> for ETagState {
    fn from(tag: ETag) -> Self {
        Self::Tag(tag)
    }
}

impl From<Option<ETag>> for ETagState {
    fn from(tag: Option<ETag>) -> Self {
        tag.map_or(Self::Absent, Self::Tag)
    }
}
