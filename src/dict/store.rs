//! The storage backend of a dictionary: bytes and ETags under [`ItemKey`]s.
//!
//! A backend does not decode values and does not decide which changes are allowed; `semantics` does.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::dict::conditional::ETag;
use crate::dict::error::{DictError, Result};
use crate::dict::item_key::{ItemKey, Scope};
use crate::dict::key::DictKey;
use crate::dict::stored::StoredValue;

/// Looks up items.
pub(super) trait Lookup {
    /// Returns an item's ETag, without reading its value.
    fn etag(&self, key: &ItemKey) -> Result<Option<ETag>>;

    /// Returns an item's value with the ETag of the write that it came from.
    fn load(&self, key: &ItemKey) -> Result<Option<(ETag, StoredValue)>>;
}

/// Exclusive access for changes: what a session looked up still holds when it changes something.
pub(super) trait Session: Lookup {
    fn put(&mut self, key: &ItemKey, encoded: &[u8]) -> Result<ETag>;

    /// Deletes an item, and returns whether it existed.
    fn delete(&mut self, key: &ItemKey) -> Result<bool>;

    /// Ends the session. After an error, its changes may not survive a power loss.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// A lazy listing of a scope. Keys are relative to it, in no defined order.
pub(super) type Listing<'a, T> = Box<dyn Iterator<Item = Result<T>> + 'a>;

/// What a [`Store`] does for its dictionaries. A clone of a backend is the same storage.
pub(super) trait Backend: Lookup + fmt::Debug + Send + Sync {
    /// Returns the name of the dictionaries on this storage.
    fn kind(&self) -> &'static str;

    fn is_append_only(&self) -> bool;

    /// Returns the path of a storage in files.
    fn path(&self) -> Option<&Path> {
        None
    }

    /// Returns the number of deletions after which empty nodes are removed.
    fn prune_interval(&self) -> Option<u32> {
        None
    }

    fn begin(&self) -> Result<Box<dyn Session + '_>>;

    /// Returns whether the closure of an update runs during a session. Otherwise it runs before the
    /// session, and again if the item was written in between.
    fn updates_in_session(&self) -> bool {
        true
    }

    /// Runs an update of an item, if possible not at the same time as other updates of the item.
    fn take_turn(&self, _key: &ItemKey, update: &mut dyn FnMut()) {
        update();
    }

    /// Stores an item. Returns `None`, and stores nothing, if the storage is append-only and has the
    /// item.
    fn put(&self, key: &ItemKey, encoded: &[u8]) -> Result<Option<ETag>>;

    /// Lists keys and ETags.
    fn keys(&self, scope: Scope) -> Listing<'_, (DictKey, ETag)>;

    /// Lists keys, ETags and values.
    fn entries(&self, scope: Scope) -> Listing<'_, (DictKey, ETag, StoredValue)>;

    /// Counts the items of a scope.
    fn len(&self, scope: &Scope) -> Result<u64>;

    /// Deletes all items of a scope that exist when it begins.
    fn clear(&self, scope: &Scope) -> Result<()>;

    /// Returns some key of a scope, the first that is found. Skips entries that are not items.
    fn any_key(&self, scope: &Scope) -> Result<Option<DictKey>> {
        first_item(self.keys(scope.clone()))
    }

    /// Returns a uniformly random key of a scope.
    fn random_key(&self, scope: &Scope) -> Result<Option<DictKey>>;
}

/// Returns the first key of a listing that is the key of an item.
pub(super) fn first_item(mut keys: Listing<'_, (DictKey, ETag)>) -> Result<Option<DictKey>> {
    let key = keys.find(|key| !matches!(key, Err(DictError::ForeignKey { .. })));
    Ok(key.transpose()?.map(|(key, _)| key))
}

/// Where dictionaries store their items: [`Local`](crate::dict::Local),
/// [`Mmap`](crate::dict::Mmap), [`Cached`](crate::dict::Cached), or any of these as
/// `Arc<dyn Store>`.
///
/// Sealed: only this crate can implement it.
#[expect(private_bounds, reason = "seals the trait")]
pub trait Store: Backend {}

impl<S: Backend> Store for S {}

impl Lookup for Arc<dyn Store> {
    fn etag(&self, key: &ItemKey) -> Result<Option<ETag>> {
        (**self).etag(key)
    }

    fn load(&self, key: &ItemKey) -> Result<Option<(ETag, StoredValue)>> {
        (**self).load(key)
    }
}

impl Backend for Arc<dyn Store> {
    fn kind(&self) -> &'static str {
        (**self).kind()
    }

    fn is_append_only(&self) -> bool {
        (**self).is_append_only()
    }

    fn path(&self) -> Option<&Path> {
        (**self).path()
    }

    fn prune_interval(&self) -> Option<u32> {
        (**self).prune_interval()
    }

    fn begin(&self) -> Result<Box<dyn Session + '_>> {
        (**self).begin()
    }

    fn updates_in_session(&self) -> bool {
        (**self).updates_in_session()
    }

    fn take_turn(&self, key: &ItemKey, update: &mut dyn FnMut()) {
        (**self).take_turn(key, update);
    }

    fn put(&self, key: &ItemKey, encoded: &[u8]) -> Result<Option<ETag>> {
        (**self).put(key, encoded)
    }

    fn keys(&self, scope: Scope) -> Listing<'_, (DictKey, ETag)> {
        (**self).keys(scope)
    }

    fn entries(&self, scope: Scope) -> Listing<'_, (DictKey, ETag, StoredValue)> {
        (**self).entries(scope)
    }

    fn len(&self, scope: &Scope) -> Result<u64> {
        (**self).len(scope)
    }

    fn clear(&self, scope: &Scope) -> Result<()> {
        (**self).clear(scope)
    }

    fn any_key(&self, scope: &Scope) -> Result<Option<DictKey>> {
        (**self).any_key(scope)
    }

    fn random_key(&self, scope: &Scope) -> Result<Option<DictKey>> {
        (**self).random_key(scope)
    }
}
