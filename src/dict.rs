//! Dictionaries with hierarchical keys, tags of every write, conditional operations and policies,
//! in memory and in a cache's files, with one behaviour.
//!
//! Knows what a dictionary offers, and what follows from its few basic operations.

mod cached;
mod condition;
mod depth;
mod error;
mod etag;
mod finite;
mod format;
mod key;
mod local;
mod mmap;
mod newest;
mod outcome;
mod params;
mod prefix;
mod retries;
mod sample;
mod segment;
mod segments;
mod semantics;
mod store;
mod view;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

pub use crate::dict::cached::CachedDict;
pub use crate::dict::condition::{Condition, Retrieve};
pub use crate::dict::error::{Coding, DictError, KeyError, Policy, Result};
pub use crate::dict::etag::{ETag, ETagState};
pub use crate::dict::format::{Format, UnknownFormat, Value};
pub use crate::dict::key::DictKey;
pub use crate::dict::local::{LocalDict, LocalOptions};
pub use crate::dict::mmap::MmapDict;
pub use crate::dict::outcome::{Conditional, Fetched, Outcome, Tagged};
pub use crate::dict::params::Params;
pub use crate::dict::prefix::Prefix;
pub use crate::dict::retries::Retries;
pub use crate::dict::segment::{is_safe_char, replace_unsafe_chars, safe_chars};
pub use crate::dict::segments::Segments;
pub use crate::dict::write::Write;

use crate::dict::newest::Newest;

/// A dictionary from hierarchical keys to values of one type.
///
/// Everything takes `&self`: a dictionary is a view of a storage that its clones, its
/// sub-dictionaries and other dictionaries share, and a change through one is seen by all at once.
/// Keys are anything of [`Segments`], relative to where the view begins.
///
/// The basic operations are those without a body; all others are made of them, and are as atomic as
/// their descriptions say.
///
/// # Errors
///
/// Every method: [`DictError::InvalidKey`] for what is no key, and [`DictError::Backend`] with the
/// engine's error where that refused or failed. Methods that hand out values:
/// [`DictError::InvalidValue`] for a value that was stored as another type; the item stays, and can
/// be deleted or replaced. Methods that write: the same for a value that the format cannot express.
/// Methods that delete or replace: [`DictError::MutationPolicy`] in an append-only dictionary, where
/// deletion is refused whether there is such an item or not; a conditional operation or a
/// transformation only where it would change an item that is there.
pub trait Dict<V: Value>: Clone {
    /// What the dictionary was made with.
    fn params(&self) -> Params;

    /// The format of its values.
    fn format(&self) -> Format;

    /// Where in its storage it begins.
    fn prefix(&self) -> &Prefix;

    /// Whether items stay as they were first put.
    fn is_append_only(&self) -> bool;

    /// Looks at an item. Its value is handed out as `retrieve` says, whether the condition is
    /// satisfied or not; value and tag are of the same write.
    ///
    /// # Errors
    ///
    /// As the trait says.
    fn get_if(
        &self,
        key: impl Segments,
        condition: Condition,
        expected: impl Into<ETagState>,
        retrieve: Retrieve,
    ) -> Result<Conditional<V>>;

    /// An item's value with the tag of the write that it came from.
    ///
    /// # Errors
    ///
    /// As the trait says.
    fn get_with_etag(&self, key: impl Segments) -> Result<Option<Tagged<V>>>;

    /// An item's tag. Its value is not read.
    ///
    /// # Errors
    ///
    /// As the trait says.
    fn etag(&self, key: impl Segments) -> Result<Option<ETag>>;

    /// Puts an item, in place of the one that is there. Its new tag.
    ///
    /// # Errors
    ///
    /// As the trait says.
    fn insert(&self, key: impl Segments, value: V) -> Result<ETag>;

    /// Deletes an item. Whether it was there.
    ///
    /// # Errors
    ///
    /// As the trait says.
    fn discard(&self, key: impl Segments) -> Result<bool>;

    /// Writes, keeps or deletes an item if the condition is satisfied, in one step. Where the item
    /// stays as it is, its value is handed out as `retrieve` says.
    ///
    /// # Errors
    ///
    /// As the trait says.
    fn set_if(
        &self,
        key: impl Segments,
        write: Write<V>,
        condition: Condition,
        expected: impl Into<ETagState>,
        retrieve: Retrieve,
    ) -> Result<Conditional<V>>;

    /// Puts an item that is absent, if the condition is satisfied, in one step. An item that is
    /// there stays, whatever the condition; the result says whether that was satisfied.
    ///
    /// # Errors
    ///
    /// As the trait says.
    fn setdefault_if(
        &self,
        key: impl Segments,
        default: V,
        condition: Condition,
        expected: impl Into<ETagState>,
        retrieve: Retrieve,
    ) -> Result<Conditional<V>>;

    /// Deletes an item if the condition is satisfied, in one step. Its value is not read.
    ///
    /// # Errors
    ///
    /// As the trait says; an absent item, and a condition that is not satisfied, are refused by no
    /// policy.
    fn discard_if(
        &self,
        key: impl Segments,
        condition: Condition,
        expected: impl Into<ETagState>,
    ) -> Result<Conditional<V>>;

    /// Gives an item's value to a closure, and does as that says: in one step, for others write the
    /// item before or after, never between. What the item is then.
    ///
    /// On a storage with a writer lock the closure runs exactly once, and holds the lock: it must
    /// not write to the same storage, which says so by an error, and should be quick. On others it
    /// runs beside the storage, and again, as often as `retries` allows, after the item was written
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// The closure's own, and then nothing was changed. As the trait says, and
    /// [`DictError::Conflict`] where `retries` allows no more.
    fn try_transform<E: From<DictError>>(
        &self,
        key: impl Segments,
        retries: Retries,
        transformer: impl FnMut(Option<V>) -> Result<Write<V>, E>,
    ) -> Result<Option<Tagged<V>>, E>;

    /// How many items there are. Takes time for every item; on files, for every key of the storage,
    /// 30 ns each. There an entry that is no item counts as well, if its key begins as theirs do.
    ///
    /// # Errors
    ///
    /// As the trait says.
    fn len(&self) -> Result<u64>;

    /// Deletes all items of this view and format that are there when it begins. Items that others
    /// put meanwhile may stay or go; nobody sees them all go at once.
    ///
    /// # Errors
    ///
    /// As the trait says, and the first error of [`Dict::keys_and_etags`], after all else is gone.
    fn clear(&self) -> Result<()>;

    /// One of the keys, each as likely as any other; none in an empty dictionary.
    ///
    /// # Errors
    ///
    /// As the trait says.
    fn random_key(&self) -> Result<Option<DictKey>>;

    /// The key of some item, whichever is found soonest; none where there is no item. Entries that are
    /// no items are passed over.
    ///
    /// # Errors
    ///
    /// As the trait says.
    fn any_key(&self) -> Result<Option<DictKey>>;

    /// All keys with their items' tags, lazily and in no defined order. Values are not read. What
    /// is written during the iteration may be met or not; what stays is met once.
    ///
    /// An item of the iteration that is an error does not end it.
    fn keys_and_etags(&self) -> impl Iterator<Item = Result<(DictKey, ETag)>>;

    /// All items with their tags, as [`Dict::keys_and_etags`].
    fn entries(&self) -> impl Iterator<Item = Result<(DictKey, Tagged<V>)>>;

    /// The items whose keys begin with `prefix`, without it: a live view of the same storage, with
    /// everything that holds for this one. Costs nothing, makes nothing, and may be empty.
    ///
    /// # Errors
    ///
    /// [`DictError::InvalidKey`].
    fn subdict(&self, prefix: impl Segments) -> Result<Self>;

    /// An item's value.
    ///
    /// # Errors
    ///
    /// As the trait says.
    fn get(&self, key: impl Segments) -> Result<Option<V>> {
        Ok(self.get_with_etag(key)?.map(|tagged| tagged.value))
    }

    /// The value of an item that has to be there.
    ///
    /// # Errors
    ///
    /// As the trait says, and [`DictError::KeyNotFound`].
    fn require(&self, key: impl Segments) -> Result<V> {
        let key = key.to_key()?;
        self.get(&key)?.ok_or(DictError::KeyNotFound { key })
    }

    /// Whether there is such an item. Its value is not read.
    ///
    /// # Errors
    ///
    /// As the trait says.
    fn contains(&self, key: impl Segments) -> Result<bool> {
        Ok(self.etag(key)?.is_some())
    }

    /// When an item was written.
    ///
    /// # Errors
    ///
    /// As the trait says.
    fn timestamp(&self, key: impl Segments) -> Result<Option<SystemTime>> {
        Ok(self.etag(key)?.map(ETag::time))
    }

    /// Whether there is no item. Ends at the first one that is found.
    ///
    /// # Errors
    ///
    /// As the trait says.
    fn is_empty(&self) -> Result<bool> {
        Ok(self.any_key()?.is_none())
    }

    /// Puts, keeps or deletes an item.
    ///
    /// # Errors
    ///
    /// As the trait says.
    fn write(&self, key: impl Segments, write: Write<V>) -> Result<()> {
        match write {
            Write::Value(value) => self.insert(key, value).map(drop),
            Write::KeepCurrent => {
                key.to_key()?;
                Ok(())
            }
            Write::DeleteCurrent => self.discard(key).map(drop),
        }
    }

    /// Deletes an item that has to be there.
    ///
    /// # Errors
    ///
    /// As the trait says, and [`DictError::KeyNotFound`].
    fn remove(&self, key: impl Segments) -> Result<()> {
        let key = key.to_key()?;
        if self.discard(&key)? {
            return Ok(());
        }
        Err(DictError::KeyNotFound { key })
    }

    /// An item's value; `default`, and the item put so, where it is absent. In one step.
    ///
    /// # Errors
    ///
    /// As the trait says.
    fn setdefault(&self, key: impl Segments, default: V) -> Result<V> {
        let absent = ETagState::Absent;
        let result = self.setdefault_if(key, default, Condition::Any, absent, Retrieve::Always)?;
        match result.outcome {
            Outcome::Written { value, .. }
            | Outcome::Unchanged {
                value: Some(value), ..
            } => Ok(value),
            _ => unreachable!("it is there now, and its value was asked for"),
        }
    }

    /// Deletes an item and returns its value. In one step.
    ///
    /// # Errors
    ///
    /// As the trait says, and as [`Dict::try_transform`].
    fn pop(&self, key: impl Segments) -> Result<Option<V>> {
        let key = key.to_key()?;
        may_delete(self, Some(&key))?;
        let mut popped = None;
        self.try_transform(key, Retries::default(), |value| {
            popped = value;
            Ok::<_, DictError>(Write::DeleteCurrent)
        })?;
        Ok(popped)
    }

    /// Deletes some item and returns it; none where there is none. In one step.
    ///
    /// # Errors
    ///
    /// As the trait says, and as [`Dict::try_transform`].
    fn pop_item(&self) -> Result<Option<(DictKey, V)>> {
        may_delete(self, None)?;
        loop {
            let Some(key) = self.any_key()? else {
                return Ok(None);
            };
            // Somebody else may have been quicker: then it is another one's turn.
            if let Some(value) = self.pop(&key)? {
                return Ok(Some((key, value)));
            }
        }
    }

    /// Puts many items, one after the other.
    ///
    /// # Errors
    ///
    /// As the trait says; items before the one that failed are there.
    fn update<K: Segments>(&self, items: impl IntoIterator<Item = (K, V)>) -> Result<()> {
        for (key, value) in items {
            self.insert(key, value)?;
        }
        Ok(())
    }

    /// [`Dict::try_transform`] by a closure that cannot fail, with six retries.
    ///
    /// ```
    /// use mmapcache::dict::{Dict, LocalDict, Write};
    ///
    /// let visits = LocalDict::<u64>::new();
    /// for _ in 0..3 {
    ///     visits.transform(["page", "start"], |n| Write::Value(n.unwrap_or(0) + 1))?;
    /// }
    /// assert_eq!(visits.get(["page", "start"])?, Some(3));
    /// # Ok::<(), mmapcache::dict::DictError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Dict::try_transform`].
    fn transform(
        &self,
        key: impl Segments,
        mut transformer: impl FnMut(Option<V>) -> Write<V>,
    ) -> Result<Option<Tagged<V>>> {
        self.try_transform(key, Retries::default(), |value| {
            Ok::<_, DictError>(transformer(value))
        })
    }

    /// All keys, as [`Dict::keys_and_etags`].
    fn keys(&self) -> impl Iterator<Item = Result<DictKey>> {
        self.keys_and_etags().map(|item| item.map(|(key, _)| key))
    }

    /// All values, as [`Dict::entries`].
    fn values(&self) -> impl Iterator<Item = Result<V>> {
        self.entries()
            .map(|item| item.map(|(_, tagged)| tagged.value))
    }

    /// All items, as [`Dict::entries`].
    fn items(&self) -> impl Iterator<Item = Result<(DictKey, V)>> {
        self.entries()
            .map(|item| item.map(|(key, tagged)| (key, tagged.value)))
    }

    /// All keys, and when their items were written, as [`Dict::keys_and_etags`].
    fn keys_and_timestamps(&self) -> impl Iterator<Item = Result<(DictKey, SystemTime)>> {
        self.keys_and_etags()
            .map(|item| item.map(|(key, etag)| (key, etag.time())))
    }

    /// All values, and when they were written, as [`Dict::entries`].
    fn values_and_timestamps(&self) -> impl Iterator<Item = Result<(V, SystemTime)>> {
        self.entries()
            .map(|item| item.map(|(_, it)| (it.value, it.etag.time())))
    }

    /// All items, and when they were written, as [`Dict::entries`].
    fn items_and_timestamps(&self) -> impl Iterator<Item = Result<(DictKey, V, SystemTime)>> {
        self.entries()
            .map(|item| item.map(|(key, it)| (key, it.value, it.etag.time())))
    }

    /// The keys of the items that were written first, oldest first: all, or at most so many. Holds
    /// no more than that many keys at a time.
    ///
    /// # Errors
    ///
    /// As the trait says.
    fn oldest_keys(&self, at_most: Option<usize>) -> Result<Vec<DictKey>> {
        Newest::oldest(self.keys_and_etags(), at_most)
    }

    /// The keys of the items that were written last, newest first, as [`Dict::oldest_keys`].
    ///
    /// # Errors
    ///
    /// As the trait says.
    fn newest_keys(&self, at_most: Option<usize>) -> Result<Vec<DictKey>> {
        Newest::newest(self.keys_and_etags(), at_most)
    }

    /// The values of [`Dict::oldest_keys`]. What is deleted meanwhile is left out.
    ///
    /// # Errors
    ///
    /// As the trait says.
    fn oldest_values(&self, at_most: Option<usize>) -> Result<Vec<V>> {
        let keys = self.oldest_keys(at_most)?;
        keys.iter()
            .filter_map(|key| self.get(key).transpose())
            .collect()
    }

    /// The values of [`Dict::newest_keys`]. What is deleted meanwhile is left out.
    ///
    /// # Errors
    ///
    /// As the trait says.
    fn newest_values(&self, at_most: Option<usize>) -> Result<Vec<V>> {
        let keys = self.newest_keys(at_most)?;
        keys.iter()
            .filter_map(|key| self.get(key).transpose())
            .collect()
    }

    /// The sub-dictionaries of all first segments, among them those of items right here, which may
    /// be empty. Looks at every key, and holds the first segments.
    ///
    /// # Errors
    ///
    /// As the trait says.
    fn subdicts(&self) -> Result<BTreeMap<String, Self>> {
        let mut names = BTreeSet::new();
        for key in self.keys() {
            let key = key?;
            if !names.contains(key.first()) {
                names.insert(key.first().to_owned());
            }
        }
        let named = |name: String| Ok((name.clone(), self.subdict(&name)?));
        names.into_iter().map(named).collect()
    }

    /// Whether another dictionary has the same items, whatever its storage and format. Neither may
    /// be written meanwhile.
    ///
    /// # Errors
    ///
    /// As the trait says.
    fn same_items<D: Dict<V>>(&self, other: &D) -> Result<bool>
    where
        V: PartialEq,
    {
        let mut len = 0;
        for item in self.items() {
            let (key, value) = item?;
            if other.get(&key)?.as_ref() != Some(&value) {
                return Ok(false);
            }
            len += 1;
        }
        Ok(other.len()? == len)
    }
}

/// Refuses a deletion where items stay as they are, whether there is such an item or not.
fn may_delete<V: Value>(dict: &impl Dict<V>, key: Option<&DictKey>) -> Result<()> {
    if !dict.is_append_only() {
        return Ok(());
    }
    let key = key.map(|key| DictKey::of(dict.prefix().join(key)?));
    Err(DictError::MutationPolicy {
        policy: Policy::AppendOnly,
        key: key.transpose()?,
    })
}
