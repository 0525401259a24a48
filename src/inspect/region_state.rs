//! The state of a region of the index.

use crate::format::region::RegionStateWord;

/// The state of a region, by its state word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RegionState {
    /// Never written.
    Unused,
    /// Being filled, or its writer was killed; no directory entry leads to it yet.
    Building,
    /// In use.
    Live,
    /// Free for reuse.
    Free,
    /// A byte that no version of this crate writes.
    Unknown,
}

impl RegionState {
    pub(super) fn new(word: RegionStateWord) -> Self {
        match (word.0 & 0xff) as u8 {
            0 if word.0 == 0 => Self::Unused,
            1 => Self::Building,
            2 => Self::Live,
            3 => Self::Free,
            _ => Self::Unknown,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::Building => "being built",
            Self::Live => "live",
            Self::Free => "free",
            Self::Unknown => "unknown",
        }
    }
}
