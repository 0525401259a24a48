//! [`MmapStore`]: results of a function on disk, and what the traits of `cached` are made of.
//!
//! May call `builder` and `life`.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mmapcache::{
    Cache, CacheCounts, ComputeError, ComputeOptions, Format, InsertOptions, Result, TypedCache,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::builder::MmapStoreBuilder;
use crate::life::Life;

/// A persistent store for the macros of `cached`, shared by any number of threads and processes.
///
/// It implements [`ConcurrentCached`](cached::ConcurrentCached) and its relatives; their methods are how
/// it is used, directly or by `#[concurrent_cached(ty = ..., create = ...)]`. A clone is the same store.
///
/// # Keys and values
///
/// A key is the store's name, its version and the key in MessagePack, as
/// [`TypedCache::call_key`] makes it: stable over releases and equal for equal keys. Keys that serde
/// writes in no fixed order, such as a `HashMap`, must be sorted by `convert`; longer ones than 65,000
/// bytes must be hashed there. Integers of all types are equal if their numbers are.
///
/// A value is what serde makes of it, in the store's [`Format`]. One that does not decode as `V` is a
/// miss, and is replaced by the next result.
///
/// # Errors
///
/// Methods return [`mmapcache::Error`], which names the file, and tells corruption, contention and
/// refusal apart. It is [`Encode`](mmapcache::ErrorKind::Encode) for a key or value that the format cannot
/// express, and [`KeyLength`](mmapcache::ErrorKind::KeyLength) for a key that is too long.
pub struct MmapStore<K, V> {
    inner: Arc<Inner<V>>,
    keys: PhantomData<fn(&K)>,
}

/// What makes keys of one function differ from those of others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    /// Empty if the files belong to the store alone.
    pub(crate) name: String,
    pub(crate) version: u32,
}

pub(crate) struct Inner<V> {
    pub(crate) values: TypedCache<V>,
    pub(crate) life: Life,
    names: Names,
    patience: Option<Duration>,
    /// What was counted when the counters were reset.
    counted: Mutex<CacheCounts>,
}

impl<K, V> Clone for MmapStore<K, V> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            keys: PhantomData,
        }
    }
}

impl<K, V> fmt::Debug for MmapStore<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MmapStore")
            .field("values", &self.inner.values)
            .field("names", &self.inner.names)
            .field("life", &self.inner.life)
            .finish_non_exhaustive()
    }
}

impl<K, V> MmapStore<K, V> {
    /// Opens the store at `path`; creates it if there is none. Entries have no deadline, and the files are
    /// bounded as they say: not at all, if they are new.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapStoreBuilder::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder(path).open()
    }

    /// Begins to open the store at `path`, with a life of entries, a bound and more.
    pub fn builder(path: impl AsRef<Path>) -> MmapStoreBuilder<K, V> {
        MmapStoreBuilder::new(path.as_ref())
    }

    pub(crate) fn new(
        cache: Arc<Cache>,
        format: Format,
        names: Names,
        life: Life,
        patience: Option<Duration>,
    ) -> Self {
        let inner = Inner {
            values: TypedCache::on(cache, format),
            life,
            names,
            patience,
            counted: Mutex::new(CacheCounts::default()),
        };
        Self {
            inner: Arc::new(inner),
            keys: PhantomData,
        }
    }

    /// Returns the cache below, for what the traits of `cached` do not have: tags of it, statistics of all
    /// processes, backups, [`flush`](Cache::flush).
    pub fn cache(&self) -> &Cache {
        self.inner.cache()
    }

    pub(crate) fn inner(&self) -> &Arc<Inner<V>> {
        &self.inner
    }
}

impl<K: Serialize, V> MmapStore<K, V> {
    /// Returns the key of the cache [below](Self::cache) for a key of the store, to touch or remove its
    /// entry there.
    ///
    /// # Errors
    ///
    /// Returns [`Encode`](mmapcache::ErrorKind::Encode) if serde cannot write the key.
    pub fn stored_key(&self, key: &K) -> Result<Vec<u8>> {
        let Names { name, version } = &self.inner.names;
        self.inner.values.call_key(name, *version, key)
    }
}

impl<V> Inner<V> {
    pub(crate) fn cache(&self) -> &Cache {
        self.values.cache()
    }

    /// Returns whether no other store uses the files.
    pub(crate) fn is_alone(&self) -> bool {
        self.names.name.is_empty()
    }

    /// Returns how an entry is stored now.
    pub(crate) fn insertion(&self) -> InsertOptions {
        let options = self.life.of_insertion();
        match self.is_alone() {
            true => options,
            false => options.namespace(&self.names.name),
        }
    }

    /// Returns how a computed entry is stored now, and how long a call waits for another that computes it.
    pub(crate) fn computation(&self) -> ComputeOptions {
        let mut options = ComputeOptions::from(self.insertion());
        if let Some(patience) = self.patience {
            options = options.patience(patience);
        }
        if let Some(ttl) = self.life.renewal() {
            options = options.renew(ttl);
        }
        options
    }

    /// Removes the entries of this store.
    pub(crate) fn clear(&self) -> Result<()> {
        match self.is_alone() {
            true => self.cache().clear(),
            false => self.cache().invalidate_namespace(&self.names.name),
        }
    }

    /// Begins to count from zero.
    pub(crate) fn reset_counts(&self) -> Result<()> {
        let now = self.cache().stats()?.handle;
        *self.lock_counted() = now;
        Ok(())
    }

    /// Returns what this handle has counted since it was opened, or since the reset; `None` if the files
    /// cannot be read.
    pub(crate) fn counts(&self) -> Option<CacheCounts> {
        let stats = self
            .cache()
            .stats()
            .inspect_err(|error| log::warn!("{error}"));
        Some(stats.ok()?.handle.since(&self.lock_counted()))
    }

    fn lock_counted(&self) -> MutexGuard<'_, CacheCounts> {
        // A copy of numbers is never half done.
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V: DeserializeOwned> Inner<V> {
    /// Looks a key up, and renews its entry if hits do that.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<V>> {
        match self.life.renewal() {
            Some(ttl) => self.values.get_and_renew(key, ttl),
            None => self.values.get(key),
        }
    }
}

/// Sorts the errors of a call that computed: those of the store outside, that of the computation inside.
pub(crate) fn sorted<V, E>(
    obtained: std::result::Result<mmapcache::Obtained<V>, ComputeError<E, V>>,
) -> Result<std::result::Result<V, E>> {
    match obtained {
        Ok(obtained) => Ok(Ok(obtained.value)),
        Err(ComputeError::Failed(error)) => Ok(Err(error)),
        Err(ComputeError::NotStored { error, .. } | ComputeError::Cache(error)) => Err(error),
        Err(_) => unreachable!("a computation fails, is not stored, or is not begun"),
    }
}
