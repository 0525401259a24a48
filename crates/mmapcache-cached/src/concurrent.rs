//! The traits of `cached` for threads.
//!
//! May call `store` and `life`.

use std::convert::Infallible;
use std::time::Duration;

use cached::{
    ConcurrentCacheBase, ConcurrentCacheEvict, ConcurrentCacheRefreshOnHit, ConcurrentCacheTtl,
    ConcurrentCached, SerializeCached,
};
use mmapcache::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::store::{MmapStore, sorted};

/// Counts are of this handle: since it was opened, or since the last reset.
impl<K, V> ConcurrentCacheBase for MmapStore<K, V> {
    type Error = Error;

    /// Returns the number of entries, expired ones included until they are removed. One load. `None` for
    /// a store with a name, whose files have the entries of others too.
    fn cache_size(&self) -> Result<Option<usize>> {
        let inner = self.inner();
        if !inner.is_alone() {
            return Ok(None);
        }
        let entries = inner.cache().len_with_expired();
        Ok(Some(usize::try_from(entries).unwrap_or(usize::MAX)))
    }

    fn cache_hits(&self) -> Option<u64> {
        self.inner()
            .counts()
            .map(|counts| counts.hits + counts.stale_hits)
    }

    fn cache_misses(&self) -> Option<u64> {
        self.inner().counts().map(|counts| counts.misses)
    }

    /// Returns the limit of entries of the files, which other processes may change.
    fn cache_capacity(&self) -> Option<usize> {
        let settings = self.inner().cache().settings();
        let settings = settings.inspect_err(|error| log::warn!("{error}")).ok()?;
        let entries = settings.max_entries?;
        Some(usize::try_from(entries).unwrap_or(usize::MAX))
    }

    /// Returns the number of entries that this handle removed, for whatever cause, as the stores of
    /// `cached` count them. [`Cache::stats`](mmapcache::Cache::stats) tells the causes apart.
    fn cache_evictions(&self) -> Option<u64> {
        let counts = self.inner().counts()?;
        let for_room = counts.evicted_size + counts.evicted_number;
        Some(for_room + counts.expired + counts.invalidated + counts.removed)
    }
}

/// `cache_get_or_set_with` and `cache_try_get_or_set_with` compute a key once for all threads and
/// processes: see [`Cache::get_or_try_insert_with`](mmapcache::Cache::get_or_try_insert_with). The other
/// methods are one atomic step each, over all processes too.
impl<K, V> ConcurrentCached<K, V> for MmapStore<K, V>
where
    K: Serialize + Clone,
    V: Serialize + DeserializeOwned,
{
    /// Takes no lock. A value that does not decode is a miss. With refresh on hit it may write: see
    /// [`MmapStoreBuilder::refresh_on_hit`](crate::MmapStoreBuilder::refresh_on_hit).
    fn cache_get(&self, k: &K) -> Result<Option<V>> {
        self.inner().get(&self.stored_key(k)?)
    }

    fn cache_set(&self, k: K, v: V) -> Result<Option<V>> {
        let inner = self.inner();
        inner
            .values
            .swap(self.stored_key(&k)?, &v, &inner.insertion())
    }

    fn cache_remove(&self, k: &K) -> Result<Option<V>> {
        self.inner().values.take(self.stored_key(k)?)
    }

    /// As [`cache_remove`](Self::cache_remove): an expired entry is absent, as in the Redis stores.
    fn cache_remove_entry(&self, k: &K) -> Result<Option<(K, V)>> {
        Ok(self.cache_remove(k)?.map(|value| (k.clone(), value)))
    }

    /// Returns whether there was an entry before its deadline; reads no value of it.
    fn cache_delete(&self, k: &K) -> Result<bool> {
        self.inner().values.remove(self.stored_key(k)?)
    }

    /// Reads the value, as [`cache_get`](Self::cache_get), and counts; renews nothing.
    fn cache_contains(&self, k: &K) -> Result<bool> {
        let found = self.inner().values.get(self.stored_key(k)?)?;
        Ok(found.is_some())
    }

    /// Removes the entries for all processes.
    fn cache_clear(&self) -> Result<()> {
        self.inner().clear()
    }

    fn cache_reset(&self) -> Result<()> {
        self.cache_clear()?;
        self.cache_reset_metrics()
    }

    /// Affects this handle and its clones. [`Cache::stats`](mmapcache::Cache::stats) counts on.
    fn cache_reset_metrics(&self) -> Result<()> {
        self.inner().reset_counts()
    }

    fn cache_get_or_set_with<F: FnOnce() -> V>(&self, k: K, f: F) -> Result<V>
    where
        V: Clone,
    {
        let obtained = self.cache_try_get_or_set_with(k, || Ok::<_, Infallible>(f()))?;
        Ok(obtained.unwrap_or_else(|never| match never {}))
    }

    fn cache_try_get_or_set_with<F, E>(&self, k: K, f: F) -> Result<std::result::Result<V, E>>
    where
        F: FnOnce() -> std::result::Result<V, E>,
        V: Clone,
    {
        let (inner, key) = (self.inner(), self.stored_key(&k)?);
        sorted(
            inner
                .values
                .get_or_try_insert_with(key, inner.computation(), f),
        )
    }
}

impl<K, V> SerializeCached<K, V> for MmapStore<K, V>
where
    K: Serialize + Clone,
    V: Serialize + DeserializeOwned,
{
    fn cache_set_ref(&self, k: &K, v: &V) -> Result<()> {
        let inner = self.inner();
        let key = self.stored_key(k)?;
        inner.values.insert_with(key, v, &inner.insertion())?;
        Ok(())
    }
}

/// The life is this store's, and that of its clones: it is given to each entry as it is inserted, and
/// entries keep it. Other processes and handles give theirs.
impl<K, V> ConcurrentCacheTtl for MmapStore<K, V> {
    fn ttl(&self) -> Option<Duration> {
        self.inner().life.ttl()
    }

    fn set_ttl(&self, ttl: Duration) -> Option<Duration> {
        self.inner().life.set_ttl(Some(ttl))
    }

    fn unset_ttl(&self) -> Option<Duration> {
        self.inner().life.set_ttl(None)
    }
}

/// As the life, this is the store's, and that of its clones.
impl<K, V> ConcurrentCacheRefreshOnHit for MmapStore<K, V> {
    fn refresh_on_hit(&self) -> bool {
        self.inner().life.refresh()
    }

    fn set_refresh_on_hit(&self, refresh: bool) -> bool {
        self.inner().life.set_refresh(refresh)
    }
}

impl<K, V> ConcurrentCacheEvict for MmapStore<K, V> {
    /// Removes all expired entries of the files, and returns how many. Reads the whole index; writes
    /// remove some expired entries without being asked. An error is logged, and counts as none removed:
    /// [`Cache::sweep`](mmapcache::Cache::sweep) returns it.
    fn evict(&self) -> usize {
        let removed = self.inner().cache().sweep();
        let removed = removed.inspect_err(|error| log::error!("{error}"));
        usize::try_from(removed.unwrap_or_default()).unwrap_or(usize::MAX)
    }
}
