//! What a dictionary needs of where its items lie.
//!
//! Knows bytes and tags; what the bytes mean, and which changes are allowed, is decided above.

use std::fmt;
use std::path::Path;

use crate::dict::error::{DictError, Result};
use crate::dict::etag::ETag;
use crate::dict::format::{Format, Value};
use crate::dict::key::DictKey;
use crate::dict::prefix::Prefix;

/// Where an item lies.
#[derive(Clone, Debug)]
pub struct Place {
    pub(super) format: Format,
    /// From the root of the storage.
    pub(super) key: DictKey,
}

/// The items below one place of the tree, in one format.
#[derive(Clone, Debug)]
pub struct Scope {
    pub(super) format: Format,
    pub(super) within: Prefix,
}

impl Scope {
    /// Where the item of a key lies that is relative to this scope.
    pub(super) fn place(&self, key: &DictKey) -> Result<Place> {
        let format = self.format;
        let key = if self.within.is_empty() {
            key.clone()
        } else {
            DictKey::of(self.within.join(key)?)?
        };
        Ok(Place { format, key })
    }
}

/// A value as it is stored.
pub trait Stored {
    /// The value, as a type.
    fn decode<V: Value>(&self, at: &Place) -> Result<V>;
}

/// Looking items up.
pub trait Lookup {
    type Stored: Stored;

    /// An item's tag. Its value is not read.
    fn etag(&self, at: &Place) -> Result<Option<ETag>>;

    /// An item's value with the tag of the write that it came from.
    fn load(&self, at: &Place) -> Result<Option<(ETag, Self::Stored)>>;
}

/// Sole access for changes, as long as it lives: what was looked up through it still holds when it
/// changes something.
pub trait Session: Lookup {
    fn put(&mut self, at: &Place, encoded: &[u8]) -> Result<ETag>;

    /// Whether there was an item.
    fn delete(&mut self, at: &Place) -> Result<bool>;

    /// Ends it. With an error, what was changed may not survive a power loss.
    fn finish(self) -> Result<()>;
}

/// A storage that dictionaries share. Its clones are the same storage.
pub trait Store: Lookup + Clone + fmt::Debug {
    type Session<'a>: Session<Stored = Self::Stored>
    where
        Self: 'a;

    /// Whether closures run during a session. Otherwise they run beside it, as often as it takes.
    const TRANSFORMS_IN_SESSION: bool;

    /// The name of the dictionary's type.
    const NAME: &'static str;

    fn is_append_only(&self) -> bool;

    /// Where it lies, if that is in files.
    fn path(&self) -> Option<&Path> {
        None
    }

    /// After how many deletions empty nodes are removed.
    fn prune_interval(&self) -> Option<u32> {
        None
    }

    fn begin(&self) -> Result<Self::Session<'_>>;

    /// Runs a transformation of an item beside the storage, and as far as possible not while others
    /// of the same item run.
    fn in_turn<R>(&self, _at: &Place, transform: impl FnOnce() -> R) -> R {
        transform()
    }

    /// Puts an item. None where it is there already and the storage is append-only.
    fn put(&self, at: &Place, encoded: &[u8]) -> Result<Option<ETag>>;

    /// All keys, relative to the scope, in no defined order.
    fn keys(&self, scope: Scope) -> impl Iterator<Item = Result<(DictKey, ETag)>>;

    /// All keys with their values.
    fn entries(&self, scope: Scope) -> impl Iterator<Item = Result<(DictKey, ETag, Self::Stored)>>;

    /// How many items there are.
    fn len(&self, scope: &Scope) -> Result<u64> {
        let mut len = 0;
        for key in self.keys(scope.clone()) {
            key?;
            len += 1;
        }
        Ok(len)
    }

    /// Deletes all items of the scope that are there when it begins.
    fn clear(&self, scope: &Scope) -> Result<()>;

    /// One of the keys, whichever is found soonest. Entries that are no items are passed over.
    fn any(&self, scope: &Scope) -> Result<Option<DictKey>> {
        first_item(self.keys(scope.clone()))
    }

    /// One of the keys, each as likely as any other.
    fn random(&self, scope: &Scope) -> Result<Option<DictKey>>;
}

/// The first key that is an item's.
pub(super) fn first_item(
    mut keys: impl Iterator<Item = Result<(DictKey, ETag)>>,
) -> Result<Option<DictKey>> {
    let key = keys.find(|key| !matches!(key, Err(DictError::ForeignKey { .. })));
    Ok(key.transpose()?.map(|(key, _)| key))
}
