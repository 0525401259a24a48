//! What a conditional operation came to.
//!
//! Knows the four shapes, each with what it alone can have.

use crate::dict::etag::{ETag, ETagState};

/// A value with the tag of the write that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tagged<V> {
    /// The value.
    pub value: V,
    /// Its tag.
    pub etag: ETag,
}

/// A value as far as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fetched<V> {
    /// Here it is.
    Value(V),
    /// The item is there; its value was not read.
    NotRetrieved,
    /// There is no item.
    Absent,
}

impl<V> Fetched<V> {
    /// The value, if it was read.
    pub fn value(self) -> Option<V> {
        match self {
            Self::Value(value) => Some(value),
            Self::NotRetrieved | Self::Absent => None,
        }
    }
}

/// What became of the item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<V> {
    /// It was absent, and is.
    Absent,
    /// It is there, and was not changed.
    Unchanged {
        /// Its tag.
        etag: ETag,
        /// Its value, where that was asked for.
        value: Option<V>,
    },
    /// It was written.
    Written {
        /// The tag before, or that it was absent.
        before: ETagState,
        /// Its tag now.
        etag: ETag,
        /// The value that was written.
        value: V,
    },
    /// It was deleted.
    Deleted {
        /// The tag before.
        before: ETag,
    },
}

/// What a conditional operation came to. That an item is absent, or a condition not satisfied, is
/// an answer and no error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Conditional<V> {
    /// Whether the condition was satisfied.
    pub satisfied: bool,
    /// What became of the item.
    pub outcome: Outcome<V>,
}

impl<V> Conditional<V> {
    /// The item's tag before the operation.
    pub fn actual_etag(&self) -> ETagState {
        match self.outcome {
            Outcome::Absent => ETagState::Absent,
            Outcome::Unchanged { etag, .. } => etag.into(),
            Outcome::Written { before, .. } => before,
            Outcome::Deleted { before } => before.into(),
        }
    }

    /// The item's tag after the operation.
    pub fn resulting_etag(&self) -> ETagState {
        match self.outcome {
            Outcome::Absent | Outcome::Deleted { .. } => ETagState::Absent,
            Outcome::Unchanged { etag, .. } | Outcome::Written { etag, .. } => etag.into(),
        }
    }

    /// Whether the operation changed the item.
    pub fn was_mutated(&self) -> bool {
        self.resulting_etag() != self.actual_etag()
    }

    /// The item's value after the operation, as far as it is at hand.
    pub fn value(&self) -> Fetched<&V> {
        match &self.outcome {
            Outcome::Absent | Outcome::Deleted { .. } => Fetched::Absent,
            Outcome::Unchanged { value: None, .. } => Fetched::NotRetrieved,
            Outcome::Unchanged {
                value: Some(value), ..
            }
            | Outcome::Written { value, .. } => Fetched::Value(value),
        }
    }

    /// The same as a value of its own.
    pub fn into_value(self) -> Fetched<V> {
        match self.outcome {
            Outcome::Absent | Outcome::Deleted { .. } => Fetched::Absent,
            Outcome::Unchanged { value: None, .. } => Fetched::NotRetrieved,
            Outcome::Unchanged {
                value: Some(value), ..
            }
            | Outcome::Written { value, .. } => Fetched::Value(value),
        }
    }
}
