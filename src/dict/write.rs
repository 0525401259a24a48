//! What is to become of an item.
//!
//! Knows the three answers, not what they are applied to.

/// What is to become of an item: what [`write`](crate::dict::Dict::write), [`set_if`](crate::dict::Dict::set_if)
/// and the closure of [`transform`](crate::dict::Dict::transform) say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Write<V> {
    /// It gets this value.
    Value(V),
    /// It stays as it is, present or absent, with its tag.
    KeepCurrent,
    /// It goes, if it is there.
    DeleteCurrent,
}

impl<V> Write<V> {
    /// The same answer for another kind of value.
    pub(super) fn try_map<W, E>(
        &self,
        map: impl FnOnce(&V) -> Result<W, E>,
    ) -> Result<Write<W>, E> {
        Ok(match self {
            Self::Value(value) => Write::Value(map(value)?),
            Self::KeepCurrent => Write::KeepCurrent,
            Self::DeleteCurrent => Write::DeleteCurrent,
        })
    }
}
