//! [`Dict`]: a typed handle on the items of a storage below one prefix, in one format.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crate::codec::Format;
use crate::dict::conditional::{Condition, ETag, Outcome, Retrieve};
use crate::dict::error::{DictError, Result};
use crate::dict::item_key::{ItemKey, Scope};
use crate::dict::key::{DictKey, KeyParts};
use crate::dict::newest::Newest;
use crate::dict::semantics::{self, ConditionalUpdate, Precondition};
use crate::dict::store::Store;
use crate::dict::value::Value;
use crate::engine::Update;

/// Retries of the updates whose caller does not choose a number.
const RETRIES: u32 = 6;

/// A dictionary from hierarchical keys to values of one type.
///
/// `S` is its storage: [`LocalDict`](crate::dict::LocalDict) stores in memory,
/// [`MmapDict`](crate::dict::MmapDict) in the files of a cache, and
/// [`CachedDict`](crate::dict::CachedDict) in files with decoded values in memory. `Dict<V>`, without
/// a storage, is any of these by dynamic dispatch: each kind converts into it, so that a program can
/// use files and its tests memory.
///
/// Every method takes `&self`: a dictionary is a handle on a storage that it shares with its clones,
/// its sub-dictionaries and other dictionaries, and all of them see a change at once. Keys are given
/// as anything that implements [`KeyParts`], relative to the dictionary's [`prefix`](Dict::prefix).
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use mmapcache::Update;
/// use mmapcache::dict::{Dict, LocalDict, MmapDict, Result};
///
/// struct Visits(Dict<u64>);
///
/// impl Visits {
///     fn count(&self, page: &str) -> Result<()> {
///         self.0.update(["pages", page], |n| Update::Put(n.unwrap_or(0) + 1))?;
///         Ok(())
///     }
/// }
///
/// let stored = MmapDict::open(dir.path().join("visits"))?;
/// for visits in [Visits(stored.into()), Visits(LocalDict::new().into())] {
///     visits.count("start")?;
///     assert_eq!(visits.0.get(["pages", "start"])?, Some(1));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Concurrency
///
/// Each operation on one item is atomic, among all threads and, in files, among all processes: others
/// see the item as before or after it. Operations on many items ([`extend`](Dict::extend),
/// [`clear`](Dict::clear), listings) work item by item.
///
/// A read in files takes no lock. An operation that changes an item takes the writer lock of the
/// cache, for which it waits at most [`lock_timeout`](crate::Options::lock_timeout), or in memory
/// the exclusive lock of the tree.
///
/// # Cost
///
/// An operation on one item takes O(1) in files, and time proportional to the number of parts of its
/// key in memory. Reading and storing a value also decode or encode it. Operations on all items read
/// the keys of the whole cache in files, and in memory those of this dictionary.
///
/// # Errors
///
/// Every method returns [`DictError::InvalidKey`] for a key that is not valid, and
/// [`DictError::Backend`] with the engine's error if the engine refuses the operation or fails.
/// [`DictError::Forked`] can only be returned for a
/// [`LocalDict`](crate::dict::LocalDict#after-a-fork).
///
/// - Methods that return values return [`DictError::Decode`] for an item that was written as another
///   type. The item remains, and can be deleted or replaced.
/// - Methods that store a value return [`DictError::Encode`] if the format cannot express it.
/// - Methods that replace or delete items return [`DictError::AppendOnly`] in an append-only
///   dictionary. Deletions are refused even if the item is absent; conditional operations and
///   updates only if they would change an existing item.
pub struct Dict<V, S = Arc<dyn Store>> {
    store: S,
    scope: Scope,
    values: PhantomData<fn() -> V>,
}

impl<V, S: Clone> Clone for Dict<V, S> {
    fn clone(&self) -> Self {
        self.on_store(self.store.clone())
    }
}

impl<V, S: Store> fmt::Debug for Dict<V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.store.kind())
            .field("store", &self.store)
            .field("format", &self.scope.format)
            .field("prefix", &self.scope.prefix_text())
            .finish()
    }
}

/// Writes the kind, and the other parameters sorted by name: dictionaries with the same parameters
/// have the same text.
impl<V, S: Store> fmt::Display for Dict<V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (store, scope) = (&self.store, &self.scope);
        write!(f, "{}(append_only={}", store.kind(), store.is_append_only())?;
        write!(f, ", format={}", scope.format)?;
        if let Some(path) = store.path() {
            write!(f, ", path={}", path.display())?;
        }
        write!(f, ", prefix={:?}", scope.prefix_text())?;
        if let Some(interval) = store.prune_interval() {
            write!(f, ", prune_interval={interval}")?;
        }
        f.write_str(")")
    }
}

impl<V, S> Dict<V, S> {
    /// Creates a dictionary of all items of a storage in a format.
    pub(super) fn on_whole(store: S, format: Format) -> Self {
        Self {
            store,
            scope: Scope::whole(format),
            values: PhantomData,
        }
    }

    /// Creates a dictionary of the same scope of another storage.
    pub(super) fn on_store<T>(&self, store: T) -> Dict<V, T> {
        Dict {
            store,
            scope: self.scope.clone(),
            values: PhantomData,
        }
    }

    pub(super) fn store(&self) -> &S {
        &self.store
    }
}

/// Parameters, sub-dictionaries and formats.
impl<V: Value, S: Store> Dict<V, S> {
    /// Returns the name of the kind: `LocalDict`, `MmapDict` or `CachedDict`.
    pub fn kind(&self) -> &'static str {
        self.store.kind()
    }

    /// Returns the path of the cache that has the items; `None` for a dictionary in memory.
    pub fn path(&self) -> Option<&Path> {
        self.store.path()
    }

    /// Returns the format of the values.
    pub fn format(&self) -> Format {
        self.scope.format
    }

    /// Returns the parts before this dictionary's keys in the storage; `None` for a dictionary of the
    /// whole storage.
    pub fn prefix(&self) -> Option<&DictKey> {
        self.scope.prefix.as_ref()
    }

    /// Returns whether the dictionary refuses to replace and delete items.
    pub fn is_append_only(&self) -> bool {
        self.store.is_append_only()
    }

    /// Returns the dictionary of the items whose keys begin with `prefix`; its keys are without it.
    ///
    /// It shares the storage, the ETags and the policy of this dictionary, and may be empty. Creating
    /// it reads and stores nothing, and takes no lock.
    ///
    /// # Errors
    ///
    /// Returns [`DictError::InvalidKey`] if `prefix` has an invalid part, or if the whole prefix has
    /// too many.
    pub fn subdict(&self, prefix: impl KeyParts) -> Result<Self>
    where
        S: Clone,
    {
        let mut sub = self.clone();
        sub.scope = self.scope.below(&prefix)?;
        Ok(sub)
    }

    /// Returns a sub-dictionary for each first part of the keys, sorted. The key of an item with a
    /// single part counts as well; its sub-dictionary may be empty.
    ///
    /// Reads every key, and holds the first parts in memory.
    ///
    /// # Errors
    ///
    /// Returns the errors of [all operations](Dict#errors).
    pub fn subdicts(&self) -> Result<BTreeMap<String, Self>>
    where
        S: Clone,
    {
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

    /// Returns a dictionary of another format, or of another type, with the same storage and prefix.
    ///
    /// Each format is a separate namespace: the items of one are absent in the other. Creating the
    /// dictionary reads and stores nothing, and takes no lock.
    pub fn with_format<W: Value>(&self, format: Format) -> Dict<W, S>
    where
        S: Clone,
    {
        let prefix = self.scope.prefix.clone();
        Dict {
            store: self.store.clone(),
            scope: Scope { format, prefix },
            values: PhantomData,
        }
    }

    /// Returns whether another dictionary has the same items. Storage and format do not matter.
    ///
    /// Reads every item of both, and holds one in memory. The result is exact only if no other
    /// thread or process writes either of them during the call.
    ///
    /// # Errors
    ///
    /// Returns the errors of [all operations](Dict#errors).
    pub fn same_items<T: Store>(&self, other: &Dict<V, T>) -> Result<bool>
    where
        V: PartialEq,
    {
        let mut len = 0;
        for item in self.iter() {
            let (key, value) = item?;
            if other.get(&key)?.as_ref() != Some(&value) {
                return Ok(false);
            }
            len += 1;
        }
        Ok(other.len()? == len)
    }

    pub(super) fn item_key(&self, key: &impl KeyParts) -> Result<ItemKey> {
        Ok(self.scope.item_key(key)?)
    }
}

/// Reading and writing one item.
impl<V: Value, S: Store> Dict<V, S> {
    /// Returns an item's value; `None` if the item is absent.
    ///
    /// # Errors
    ///
    /// Returns the errors of [all operations](Dict#errors).
    pub fn get(&self, key: impl KeyParts) -> Result<Option<V>> {
        Ok(self.get_with_etag(key)?.map(|(value, _)| value))
    }

    /// Returns an item's value with the ETag of the write that it came from; `None` if the item is
    /// absent.
    ///
    /// # Errors
    ///
    /// Returns the errors of [all operations](Dict#errors).
    pub fn get_with_etag(&self, key: impl KeyParts) -> Result<Option<(V, ETag)>> {
        let key = self.item_key(&key)?;
        let Some((etag, value)) = self.store.load(&key)? else {
            return Ok(None);
        };
        Ok(Some((semantics::decode(&key, &value)?, etag)))
    }

    /// Returns the value of an item; an absent item is an error.
    ///
    /// # Errors
    ///
    /// Returns [`DictError::KeyNotFound`] if the item is absent, and the errors of
    /// [all operations](Dict#errors).
    pub fn require(&self, key: impl KeyParts) -> Result<V> {
        match self.get(&key)? {
            Some(value) => Ok(value),
            None => Err(DictError::KeyNotFound {
                key: DictKey::new(key)?,
            }),
        }
    }

    /// Returns whether an item exists. Does not read its value.
    ///
    /// # Errors
    ///
    /// Returns the errors of [all operations](Dict#errors).
    pub fn contains(&self, key: impl KeyParts) -> Result<bool> {
        Ok(self.etag(key)?.is_some())
    }

    /// Returns an item's ETag; `None` if the item is absent. Does not read its value.
    ///
    /// # Errors
    ///
    /// Returns the errors of [all operations](Dict#errors).
    pub fn etag(&self, key: impl KeyParts) -> Result<Option<ETag>> {
        self.store.etag(&self.item_key(&key)?)
    }

    /// Returns when an item was written, as [`ETag::time`]; `None` if the item is absent. Does not
    /// read its value.
    ///
    /// # Errors
    ///
    /// Returns the errors of [all operations](Dict#errors).
    pub fn timestamp(&self, key: impl KeyParts) -> Result<Option<SystemTime>> {
        Ok(self.etag(key)?.map(ETag::time))
    }

    /// Stores an item, replaces the item that has the key, and returns the new ETag.
    ///
    /// # Errors
    ///
    /// Returns the errors of [all operations](Dict#errors).
    pub fn insert(&self, key: impl KeyParts, value: V) -> Result<ETag> {
        let key = self.item_key(&key)?;
        let encoded = semantics::encode(&key, &value)?;
        let etag = self.store.put(&key, &encoded)?;
        etag.ok_or_else(|| DictError::AppendOnly {
            key: Some(key.to_dict_key()),
        })
    }

    /// Stores many items, one after the other: not atomic. Takes the lock for each of them.
    ///
    /// # Errors
    ///
    /// Returns the errors of [all operations](Dict#errors). The items before the one that failed
    /// are stored.
    pub fn extend<K: KeyParts>(&self, items: impl IntoIterator<Item = (K, V)>) -> Result<()> {
        for (key, value) in items {
            self.insert(key, value)?;
        }
        Ok(())
    }

    /// Returns an item's value, or stores `default` and returns it if the item is absent. Atomic.
    /// Takes no lock in files if the item exists.
    ///
    /// # Errors
    ///
    /// Returns the errors of [all operations](Dict#errors).
    pub fn get_or_insert(&self, key: impl KeyParts, default: V) -> Result<V> {
        let outcome =
            self.get_or_insert_if(key, default, Condition::Any, None, Retrieve::Always)?;
        let value = outcome.into_value();
        Ok(value.expect("the item exists, and its value was asked for"))
    }

    /// Deletes an item, and returns whether it existed. Does not read its value.
    ///
    /// # Errors
    ///
    /// Returns the errors of [all operations](Dict#errors).
    pub fn remove(&self, key: impl KeyParts) -> Result<bool> {
        semantics::remove(&self.store, &self.item_key(&key)?)
    }

    /// Deletes an item and returns its value; `None` if the item is absent. Atomic.
    ///
    /// # Errors
    ///
    /// Returns the errors of [all operations](Dict#errors), and those of [`Dict::try_update`] with
    /// six retries. An item whose value cannot be decoded remains.
    pub fn take(&self, key: impl KeyParts) -> Result<Option<V>> {
        let key = self.item_key(&key)?;
        semantics::check_mutable(&self.store, Some(&key))?;
        let mut taken = None;
        self.update_item(&key, Some(RETRIES), |value| {
            taken = value;
            Ok::<_, DictError>(Update::Delete)
        })?;
        Ok(taken)
    }

    /// Deletes an item, the first that is found, and returns it; `None` if the dictionary is empty.
    /// Several callers never take the same item.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Dict::take`].
    pub fn take_any(&self) -> Result<Option<(DictKey, V)>> {
        semantics::check_mutable(&self.store, None)?;
        loop {
            let Some(key) = self.any_key()? else {
                return Ok(None);
            };
            // If another caller took this item first, try the next one.
            if let Some(value) = self.take(&key)? {
                return Ok(Some((key, value)));
            }
        }
    }
}

/// Conditional operations and updates.
impl<V: Value, S: Store> Dict<V, S> {
    /// Reads an item, and returns whether the condition holds for it. `retrieve` decides whether the
    /// value is returned, whatever the condition. Value and ETag are of the same write.
    ///
    /// # Errors
    ///
    /// Returns the errors of [all operations](Dict#errors).
    pub fn get_if(
        &self,
        key: impl KeyParts,
        condition: Condition,
        expected: impl Into<Option<ETag>>,
        retrieve: Retrieve,
    ) -> Result<Outcome<V>> {
        let key = self.item_key(&key)?;
        let precondition = Precondition {
            condition,
            expected: expected.into(),
            retrieve,
        };
        semantics::get_if(&self.store, &key, precondition)
    }

    /// Stores, keeps or deletes an item if the condition holds. Atomic. If the item remains
    /// unchanged, `retrieve` decides whether its value is returned, and no lock is taken in files.
    ///
    /// # Errors
    ///
    /// Returns the errors of [all operations](Dict#errors).
    pub fn set_if(
        &self,
        key: impl KeyParts,
        update: Update<V>,
        condition: Condition,
        expected: impl Into<Option<ETag>>,
        retrieve: Retrieve,
    ) -> Result<Outcome<V>> {
        let change = ConditionalUpdate {
            update,
            only_if_absent: false,
        };
        self.change_if(&key, change, condition, expected.into(), retrieve)
    }

    /// Stores an item that is absent if the condition holds. Atomic. An item that exists remains
    /// unchanged, whatever the condition; the result says whether the condition held.
    ///
    /// # Errors
    ///
    /// Returns the errors of [all operations](Dict#errors).
    pub fn get_or_insert_if(
        &self,
        key: impl KeyParts,
        default: V,
        condition: Condition,
        expected: impl Into<Option<ETag>>,
        retrieve: Retrieve,
    ) -> Result<Outcome<V>> {
        let change = ConditionalUpdate {
            update: Update::Put(default),
            only_if_absent: true,
        };
        self.change_if(&key, change, condition, expected.into(), retrieve)
    }

    /// Deletes an item if the condition holds. Atomic. Does not read its value, and takes no lock
    /// in files if the item remains.
    ///
    /// # Errors
    ///
    /// Returns the errors of [all operations](Dict#errors). An append-only dictionary does not
    /// refuse to delete an absent item, or an item for which the condition does not hold.
    pub fn remove_if(
        &self,
        key: impl KeyParts,
        condition: Condition,
        expected: impl Into<Option<ETag>>,
    ) -> Result<Outcome<V>> {
        self.set_if(key, Update::Delete, condition, expected, Retrieve::Never)
    }

    fn change_if(
        &self,
        key: &impl KeyParts,
        change: ConditionalUpdate<V>,
        condition: Condition,
        expected: Option<ETag>,
        retrieve: Retrieve,
    ) -> Result<Outcome<V>> {
        let key = self.item_key(key)?;
        let precondition = Precondition {
            condition,
            expected,
            retrieve,
        };
        semantics::set_if(&self.store, &key, precondition, change)
    }

    /// Passes an item's value to `decide`, applies the answer, and returns the item after that.
    /// Atomic. As [`Dict::try_update`] with a closure that cannot fail, and with six retries.
    ///
    /// ```
    /// use mmapcache::Update;
    /// use mmapcache::dict::LocalDict;
    ///
    /// let visits = LocalDict::<u64>::new();
    /// for _ in 0..3 {
    ///     visits.update(["page", "start"], |n| Update::Put(n.unwrap_or(0) + 1))?;
    /// }
    /// assert_eq!(visits.get(["page", "start"])?, Some(3));
    /// # Ok::<(), mmapcache::dict::DictError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Dict::try_update`].
    pub fn update(
        &self,
        key: impl KeyParts,
        mut decide: impl FnMut(Option<V>) -> Update<V>,
    ) -> Result<Option<(V, ETag)>> {
        self.try_update(key, RETRIES, |value| Ok::<_, DictError>(decide(value)))
    }

    /// Passes an item's value to `decide`, applies the answer, and returns the item after that.
    /// Atomic: other writers change the item before or after the whole update.
    ///
    /// In files the closure runs once, and holds the writer lock: it should be quick, and cannot
    /// write to the same storage ([`ErrorKind::AlreadyWriting`](crate::ErrorKind::AlreadyWriting)).
    /// In memory the closure runs without a lock. If the item was written during that, the closure
    /// runs again, at most `retries` times, or until it succeeds if that is `None`; before each
    /// retry the thread sleeps for a random time of less than 6 ms.
    ///
    /// # Errors
    ///
    /// Returns the closure's error, and then nothing was changed. Returns [`DictError::Conflict`]
    /// if other threads wrote the item during each attempt, and the errors of [all
    /// operations](Dict#errors).
    pub fn try_update<E: From<DictError>>(
        &self,
        key: impl KeyParts,
        retries: impl Into<Option<u32>>,
        decide: impl FnMut(Option<V>) -> Result<Update<V>, E>,
    ) -> Result<Option<(V, ETag)>, E> {
        self.update_item(&self.item_key(&key)?, retries.into(), decide)
    }

    fn update_item<E: From<DictError>>(
        &self,
        key: &ItemKey,
        retries: Option<u32>,
        mut decide: impl FnMut(Option<V>) -> Result<Update<V>, E>,
    ) -> Result<Option<(V, ETag)>, E> {
        let store = &self.store;
        if store.updates_in_session() {
            return semantics::update_in_session(store, key, &mut decide);
        }
        let mut result = None;
        store.take_turn(key, &mut || {
            result = Some(semantics::update_with_retries(
                store,
                key,
                retries,
                &mut decide,
            ));
        });
        result.expect("a turn runs the update")
    }
}

/// All items.
impl<V: Value, S: Store> Dict<V, S> {
    /// Counts the items.
    ///
    /// Takes time proportional to their number; in files, to the number of keys of the whole cache,
    /// 30 ns each. In files an entry that is not an item counts as well if its key begins as theirs.
    ///
    /// # Errors
    ///
    /// Returns the errors of [all operations](Dict#errors).
    pub fn len(&self) -> Result<u64> {
        self.store.len(&self.scope)
    }

    /// Returns whether there is no item. Lists keys until it finds one.
    ///
    /// # Errors
    ///
    /// Returns the errors of [all operations](Dict#errors).
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.any_key()?.is_none())
    }

    /// Deletes all items of this dictionary, in its format and below its prefix.
    ///
    /// Deletes the items that exist when it begins. In memory it does so under one lock; in files
    /// it is not atomic, takes the lock for 256 items at a time, and reads the keys of the whole
    /// cache. Items that are stored during the call may be deleted or remain.
    ///
    /// # Errors
    ///
    /// Returns the errors of [all operations](Dict#errors), and the first error of an item of
    /// [`Dict::keys_and_etags`] after all other items are deleted.
    pub fn clear(&self) -> Result<()> {
        semantics::check_mutable(&self.store, None)?;
        self.store.clear(&self.scope)
    }

    /// Returns a uniformly random key; `None` if the dictionary is empty.
    ///
    /// In files it first tries 100 random entries of the whole cache, which is O(1) for a
    /// dictionary with a hundredth of them or more. Otherwise, and in memory, it lists the keys.
    ///
    /// # Errors
    ///
    /// Returns the errors of [all operations](Dict#errors).
    pub fn random_key(&self) -> Result<Option<DictKey>> {
        self.store.random_key(&self.scope)
    }

    /// Returns a key, the first that is found; `None` if the dictionary is empty. Skips entries
    /// that are not items.
    ///
    /// # Errors
    ///
    /// Returns the errors of [all operations](Dict#errors).
    pub fn any_key(&self) -> Result<Option<DictKey>> {
        self.store.any_key(&self.scope)
    }

    /// Returns the keys with the ETags of their items, lazily and in no defined order. Does not read
    /// values.
    ///
    /// An item that exists during the whole iteration is returned once; one that is written or
    /// deleted during it may be returned or not. The iterator holds no lock and at most 64 items: the
    /// caller may change the dictionary.
    ///
    /// # Errors
    ///
    /// An item of the iterator can be an error of [all operations](Dict#errors), and
    /// [`DictError::ForeignKey`] for an entry of the files that is not an item. An error about one
    /// item does not end the iteration.
    pub fn keys_and_etags(&self) -> impl Iterator<Item = Result<(DictKey, ETag)>> {
        self.store.keys(self.scope.clone())
    }

    /// Returns all keys with their values and ETags, lazily, as [`Dict::keys_and_etags`]. A value
    /// that cannot be read is an error about its item.
    pub fn entries(&self) -> impl Iterator<Item = Result<(DictKey, V, ETag)>> {
        self.store.entries(self.scope.clone()).map(|entry| {
            let (key, etag, value) = entry?;
            match value.decode(self.scope.format) {
                Ok(value) => Ok((key, value, etag)),
                Err(source) => Err(semantics::decode_error::<V>(&self.item_key(&key)?, source)),
            }
        })
    }

    /// Returns all keys with their values, lazily, as [`Dict::entries`].
    pub fn iter(&self) -> impl Iterator<Item = Result<(DictKey, V)>> {
        self.entries()
            .map(|entry| entry.map(|(key, value, _)| (key, value)))
    }

    /// Returns all keys, lazily, as [`Dict::keys_and_etags`]. Does not read values.
    pub fn keys(&self) -> impl Iterator<Item = Result<DictKey>> {
        self.keys_and_etags().map(|item| item.map(|(key, _)| key))
    }

    /// Returns all values, lazily, as [`Dict::entries`].
    pub fn values(&self) -> impl Iterator<Item = Result<V>> {
        self.entries().map(|entry| entry.map(|(_, value, _)| value))
    }

    /// Returns the keys of the items that were written first, oldest first: all if `at_most` is
    /// `None`, otherwise the first `at_most`. Reads every key, no value, and holds no more than
    /// `at_most` keys in memory.
    ///
    /// # Errors
    ///
    /// Returns the errors of [all operations](Dict#errors).
    pub fn oldest_keys(&self, at_most: impl Into<Option<usize>>) -> Result<Vec<DictKey>> {
        Newest::oldest(self.keys_and_etags(), at_most.into())
    }

    /// Returns the keys of the items that were written last, newest first, as [`Dict::oldest_keys`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [all operations](Dict#errors).
    pub fn newest_keys(&self, at_most: impl Into<Option<usize>>) -> Result<Vec<DictKey>> {
        Newest::newest(self.keys_and_etags(), at_most.into())
    }
}
