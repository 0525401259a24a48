//! Opens a store.
//!
//! May call `store` and `life`.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mmapcache::{Cache, CacheBuilder, Format, Result};

use crate::life::Life;
use crate::store::{MmapStore, Names};

/// Opens or creates a [`MmapStore`]; made by [`MmapStore::builder`].
///
/// Setters never fail: [`open`](Self::open) reports values outside their range.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use std::time::Duration;
/// use cached::{ConcurrentCached, ConcurrentCacheTtl};
/// use mmapcache_cached::MmapStore;
///
/// let store: MmapStore<String, u64> = MmapStore::builder(dir.path().join("lengths"))
///     .ttl(Duration::from_secs(3_600))
///     .refresh_on_hit(true)
///     .max_bytes(64 << 20)
///     .open()?;
/// assert_eq!(store.cache_set("four".to_owned(), 4)?, None);
/// assert_eq!(store.cache_set("four".to_owned(), 5)?, Some(4));
/// assert_eq!(store.ttl(), Some(Duration::from_secs(3_600)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a builder does nothing until `open`"]
pub struct MmapStoreBuilder<K, V> {
    cache: CacheBuilder,
    names: Names,
    format: Format,
    ttl: Option<Duration>,
    refresh: bool,
    patience: Option<Duration>,
    types: PhantomData<fn(K) -> V>,
}

impl<K, V> fmt::Debug for MmapStoreBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MmapStoreBuilder")
            .field("cache", &self.cache)
            .field("names", &self.names)
            .field("format", &self.format)
            .field("ttl", &self.ttl)
            .field("refresh", &self.refresh)
            .field("patience", &self.patience)
            .finish()
    }
}

impl<K, V> MmapStoreBuilder<K, V> {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            cache: Cache::builder(path),
            names: Names::default(),
            format: Format::MessagePack,
            ttl: None,
            refresh: false,
            patience: None,
            types: PhantomData,
        }
    }

    /// Sets how long entries live that this store inserts. Zero, and more than 139 years, is no end.
    /// Default: no end.
    ///
    /// The deadline of an entry is stored with it. It holds for all processes, also for those that open
    /// the files with another life.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Sets whether a hit gives the entry the store's [`ttl`](Self::ttl) again, from then on. Default: no.
    ///
    /// A hit writes only if that prolongs the life by a tenth or more, and never waits for another
    /// writer: an entry may expire up to a tenth earlier than the last hit says.
    pub fn refresh_on_hit(mut self, refresh: bool) -> Self {
        self.refresh = refresh;
        self
    }

    /// Sets how many bytes of disk all files may take, at least 1 MiB, for all processes and from now on:
    /// [`CacheBuilder::max_bytes`]. Default: as the files say; no bound in new ones.
    pub fn max_bytes(self, bytes: u64) -> Self {
        self.configure(|cache| cache.max_bytes(bytes))
    }

    /// Sets how many entries there may be, for all processes and from now on:
    /// [`CacheBuilder::max_entries`]. Default: as the files say; no bound in new ones.
    pub fn max_entries(self, entries: u64) -> Self {
        self.configure(|cache| cache.max_entries(entries))
    }

    /// Sets the format of values. Values in the other one are misses. Default: [`Format::MessagePack`].
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Sets the version of the values, which is a part of each key. Raise it when the function changes:
    /// the results of the earlier one are misses then, and are evicted or expire. Default: 0.
    pub fn version(mut self, version: u32) -> Self {
        self.names.version = version;
        self
    }

    /// Lets stores of several functions share the files and their bound: each has another name, which is
    /// a part of each key. Default: no name, and the files belong to this store alone.
    ///
    /// The names of several functions keep their keys apart. Without them two functions with equal
    /// arguments would get each other's results, wherever these decode. For a store with a name,
    /// `cache_clear` ends the entries of this name, in one small write, and their room is reclaimed
    /// later; `cache_size` is unknown.
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.names.name);
        self
    }

    /// Sets how long a caller of `cache_get_or_set_with` waits for another thread or process that computes
    /// the value, before it computes the value itself: see
    /// [`ComputeOptions::patience`](mmapcache::ComputeOptions::patience). Default: 30 seconds.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Sets what else the cache has: durability, eviction, jitter, a callback for removals.
    ///
    /// A stale value counts as a hit. The macros of `cached` therefore compute nothing during
    /// [`CacheBuilder::stale_while_revalidate`]; `cache_get_or_set_with` does.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use mmapcache_cached::MmapStore;
    /// use mmapcache_cached::mmapcache::{Durability, Options};
    ///
    /// let mut options = Options::new();
    /// options.durability(Durability::Sync);
    /// let store: MmapStore<u32, String> = MmapStore::builder(dir.path().join("names"))
    ///     .configure(|cache| cache.options(&options).jitter(0.1))
    ///     .open()?;
    /// # let _ = store;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn configure(mut self, configure: impl FnOnce(CacheBuilder) -> CacheBuilder) -> Self {
        self.cache = configure(self.cache);
        self
    }

    /// Opens the files, or creates them.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`CacheBuilder::open`]: each names the path and what to do.
    pub fn open(self) -> Result<MmapStore<K, V>> {
        let cache = Arc::new(self.cache.open()?);
        let life = Life::new(self.ttl, self.refresh);
        Ok(MmapStore::new(
            cache,
            self.format,
            self.names,
            life,
            self.patience,
        ))
    }
}
