//! The id of a label.

use std::fmt;

/// The id of a label: the same in every process and after every restart, and never another label's.
///
/// Ids count up from 0 in the order in which labels were first inserted. An id only has a meaning with
/// the [`Labels`](crate::Labels) that assigned it. With the feature `serde` it is serialised as a plain
/// number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct LabelId(u32);

impl LabelId {
    /// Makes an id from the result of [`LabelId::number`].
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Returns the number, which is below 2^31 for an assigned id.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Makes an id from the engine's id of an entry, which counts from 1.
    pub(crate) fn from_engine(number: u64) -> Self {
        Self((number - 1) as u32)
    }

    pub(crate) fn to_engine(self) -> u64 {
        u64::from(self.0) + 1
    }
}

impl fmt::Display for LabelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<LabelId> for u32 {
    fn from(id: LabelId) -> Self {
        id.0
    }
}
