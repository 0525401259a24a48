//! When a conditional operation goes ahead, and whether it hands the value out.
//!
//! Knows comparisons of tags, nothing of values.

use crate::dict::etag::ETagState;

/// How the tag that is expected must compare to the item's.
///
/// With [`ETagState::Absent`] expected, `Same` means "only if absent", `Changed` "only if present".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// Always satisfied.
    Any,
    /// Satisfied where both are the same, or both absent.
    Same,
    /// Satisfied where they differ.
    Changed,
}

impl Condition {
    pub(super) fn holds(self, expected: ETagState, actual: ETagState) -> bool {
        match self {
            Self::Any => true,
            Self::Same => expected == actual,
            Self::Changed => expected != actual,
        }
    }
}

/// Whether a conditional operation that leaves the item as it is hands out its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Retrieve {
    /// Always.
    Always,
    /// Only where the tag is not the expected one: a caller that expected it has the value.
    #[default]
    IfChanged,
    /// Never.
    Never,
}

impl Retrieve {
    pub(super) fn wants(self, expected: ETagState, actual: ETagState) -> bool {
        match self {
            Self::Always => true,
            Self::IfChanged => expected != actual,
            Self::Never => false,
        }
    }
}
