//! The traits of `cached` for tasks of any executor.
//!
//! A lookup runs in the task itself. What takes the writer lock runs on the threads of the crate
//! `blocking`, and goes on if the task is dropped. May call `store`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_io::Timer;
use blocking::unblock;
use cached::{ConcurrentCachedAsync, SerializeCachedAsync};
use mmapcache::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::store::{Inner, MmapStore, sorted};

impl<K, V> MmapStore<K, V>
where
    K: Serialize,
    V: Send + 'static,
{
    /// Runs a change of the entry of a key on a thread that may wait.
    fn change<T, F>(
        &self,
        key: &K,
        change: F,
    ) -> impl Future<Output = Result<T>> + Send + use<K, V, T, F>
    where
        T: Send + 'static,
        F: FnOnce(&Inner<V>, &[u8]) -> Result<T> + Send + 'static,
    {
        let (key, inner) = (self.stored_key(key), Arc::clone(self.inner()));
        async move {
            let key = key?;
            unblock(move || change(&inner, &key)).await
        }
    }
}

/// Waits without a thread.
async fn sleep(time: Duration) {
    Timer::after(time).await;
}

/// A lookup takes less than a microsecond if the files are in memory, and as long as the disk if not.
///
/// `async_cache_get_or_set_with` and `async_cache_try_get_or_set_with` compute a key once for all tasks,
/// threads and processes: see
/// [`Cache::get_or_try_insert_async`](mmapcache::Cache::get_or_try_insert_async). They store the value in
/// the task itself.
impl<K, V> ConcurrentCachedAsync<K, V> for MmapStore<K, V>
where
    K: Serialize + Clone + Send,
    V: Serialize + DeserializeOwned + Send + 'static,
{
    fn async_cache_get(&self, k: &K) -> impl Future<Output = Result<Option<V>>> + Send {
        let found = self.stored_key(k).and_then(|key| self.inner().get(&key));
        std::future::ready(found)
    }

    fn async_cache_set(&self, k: K, v: V) -> impl Future<Output = Result<Option<V>>> + Send {
        self.change(&k, move |inner, key| {
            inner.values.swap(key, &v, &inner.insertion())
        })
    }

    fn async_cache_remove(&self, k: &K) -> impl Future<Output = Result<Option<V>>> + Send {
        self.change(k, |inner, key| inner.values.take(key))
    }

    fn async_cache_remove_entry(
        &self,
        k: &K,
    ) -> impl Future<Output = Result<Option<(K, V)>>> + Send {
        let (removed, key) = (self.async_cache_remove(k), k.clone());
        async move { Ok(removed.await?.map(|value| (key, value))) }
    }

    fn async_cache_delete(&self, k: &K) -> impl Future<Output = Result<bool>> + Send
    where
        K: Sync,
    {
        self.change(k, |inner, key| inner.values.remove(key))
    }

    fn async_cache_contains(&self, k: &K) -> impl Future<Output = Result<bool>> + Send
    where
        K: Sync,
    {
        let found = self
            .stored_key(k)
            .and_then(|key| self.inner().values.get(key));
        std::future::ready(found.map(|found| found.is_some()))
    }

    fn async_cache_clear(&self) -> impl Future<Output = Result<()>> + Send {
        let inner = Arc::clone(self.inner());
        unblock(move || inner.clear())
    }

    fn async_cache_reset(&self) -> impl Future<Output = Result<()>> + Send {
        let inner = Arc::clone(self.inner());
        unblock(move || {
            inner.clear()?;
            inner.reset_counts()
        })
    }

    fn async_cache_reset_metrics(&self) -> impl Future<Output = Result<()>> + Send {
        std::future::ready(self.inner().reset_counts())
    }

    async fn async_cache_get_or_set_with<F, Fut>(&self, k: K, f: F) -> Result<V>
    where
        K: Sync,
        V: Clone,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = V> + Send,
    {
        let f = || async { Ok::<_, Infallible>(f().await) };
        let obtained = self.async_cache_try_get_or_set_with(k, f).await?;
        Ok(obtained.unwrap_or_else(|never| match never {}))
    }

    async fn async_cache_try_get_or_set_with<F, Fut, E>(
        &self,
        k: K,
        f: F,
    ) -> Result<std::result::Result<V, E>>
    where
        K: Sync,
        V: Clone,
        E: Send,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = std::result::Result<V, E>> + Send,
    {
        let (inner, key) = (self.inner(), self.stored_key(&k)?);
        let computation = inner.computation();
        let obtained = inner
            .values
            .get_or_try_insert_async(key, computation, sleep, f);
        sorted(obtained.await)
    }
}

impl<K, V> SerializeCachedAsync<K, V> for MmapStore<K, V>
where
    K: Serialize + Clone + Send,
    V: Serialize + DeserializeOwned + Send + 'static,
{
    fn async_cache_set_ref(&self, k: &K, v: &V) -> impl Future<Output = Result<()>> + Send {
        let encoded = self.inner().values.stored(v);
        self.change(k, move |inner, key| {
            let stored = encoded?;
            inner.cache().insert_with(key, stored, &inner.insertion())?;
            Ok(())
        })
    }
}
