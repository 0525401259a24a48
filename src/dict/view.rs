//! A dictionary's view of its storage: from where, and in which format.
//!
//! Knows how keys become places. What operations mean is written in `semantics`.

use std::fmt;
use std::marker::PhantomData;

use crate::dict::error::{Coding, DictError, Policy, Result};
use crate::dict::etag::{ETag, ETagState};
use crate::dict::format::{Format, Value};
use crate::dict::key::DictKey;
use crate::dict::prefix::Prefix;
use crate::dict::segments::Segments;
use crate::dict::store::{Lookup, Place, Scope, Store};

/// The items of a storage below one place, in one format, as values of one type.
pub struct View<S, V> {
    pub(super) store: S,
    pub(super) scope: Scope,
    values: PhantomData<fn() -> V>,
}

impl<S: fmt::Debug, V> fmt::Debug for View<S, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("store", &self.store)
            .field("scope", &self.scope)
            .finish()
    }
}

impl<S: Clone, V> Clone for View<S, V> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            scope: self.scope.clone(),
            values: PhantomData,
        }
    }
}

impl<S: Store, V: Value> View<S, V> {
    pub(super) fn new(store: S, format: Format) -> Self {
        let within = Prefix::default();
        Self {
            store,
            scope: Scope { format, within },
            values: PhantomData,
        }
    }

    /// The same place in another store.
    pub(super) fn on<T>(&self, store: T) -> View<T, V> {
        View {
            store,
            scope: self.scope.clone(),
            values: PhantomData,
        }
    }

    /// The same storage from further below.
    pub(super) fn below(&self, prefix: impl Segments) -> Result<Self> {
        let mut view = self.clone();
        view.scope.within = self.scope.within.join(prefix)?;
        Ok(view)
    }

    /// The same place of the storage, in another format.
    pub(super) fn of_format<W: Value>(&self, format: Format) -> View<S, W> {
        let within = self.scope.within.clone();
        View {
            store: self.store.clone(),
            scope: Scope { format, within },
            values: PhantomData,
        }
    }

    pub(super) fn place(&self, key: impl Segments) -> Result<Place> {
        self.scope.place(&key.to_key()?)
    }

    pub(super) fn encode(at: &Place, value: &V) -> Result<Vec<u8>> {
        let encoded = at.format.encode(value);
        encoded.map_err(|source| at.invalid::<V>(Coding::Encode, source))
    }

    /// Refuses a change of what is there, if it may not be changed.
    pub(super) fn may_change(&self, at: &Place) -> Result<()> {
        self.refuse_if_append_only(Some(&at.key))
    }

    pub(super) fn refuse_if_append_only(&self, key: Option<&DictKey>) -> Result<()> {
        if self.store.is_append_only() {
            return Err(DictError::MutationPolicy {
                policy: Policy::AppendOnly,
                key: key.cloned(),
            });
        }
        Ok(())
    }
}

impl Place {
    pub(super) fn invalid<V>(
        &self,
        coding: Coding,
        source: crate::dict::format::Fault,
    ) -> DictError {
        DictError::InvalidValue {
            key: self.key.clone(),
            coding,
            format: self.format,
            type_name: std::any::type_name::<V>(),
            source,
        }
    }

    pub(super) fn decode<V: Value>(&self, bytes: &[u8]) -> Result<V> {
        let decoded = self.format.decode(bytes);
        decoded.map_err(|source| self.invalid::<V>(Coding::Decode, source))
    }
}

/// An item as it was seen: its tag, and its value where that was wanted.
pub(super) type Seen<T> = (ETagState, Option<T>);

/// Looks at an item; its value is read where the tag that it has is one to be `wanted`.
pub(super) fn look<L: Lookup>(
    lookup: &L,
    at: &Place,
    wanted: impl Fn(ETagState) -> bool,
) -> Result<Seen<L::Stored>> {
    let etag = ETagState::from(lookup.etag(at)?);
    if etag == ETagState::Absent || !wanted(etag) {
        return Ok((etag, None));
    }
    // Since then it may have been written again.
    Ok(lookup
        .load(at)?
        .map_or((ETagState::Absent, None), |(etag, stored): (ETag, _)| {
            let etag = ETagState::from(etag);
            (etag, wanted(etag).then_some(stored))
        }))
}
