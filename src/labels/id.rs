//! The id of a label.
//!
//! A number and nothing else: it does not know whose label it stands for, nor whether there is one.

use std::fmt;

/// What a label is called for short: the same in every process and after every restart, and never
/// another label's.
///
/// Ids count up from 0 in the order in which labels were first inserted. They mean nothing without
/// the [`Labels`](crate::Labels) that gave them. With the feature `serde` they are serialised as
/// plain numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct LabelId(u32);

impl LabelId {
    /// The id of a number, as [`LabelId::number`] gave it once.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number: below 2^31.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The id of an entry by the engine's number, which counts from 1.
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
