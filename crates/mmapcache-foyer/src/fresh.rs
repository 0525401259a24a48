//! [`FreshEntries`]: lookups that treat an expired entry in memory as a miss. May call `expiring`.

use std::fmt::Debug;
use std::hash::{BuildHasher, Hash};

use equivalent::Equivalent;
use foyer::{
    Age, HybridCache, HybridCacheEntry, HybridCachePolicy, HybridCacheProperties, Location,
    StorageKey, StorageValue,
};

use crate::expiring::Expiring;

/// The result of a lookup.
type Found<K, V, S> = foyer::Result<Option<HybridCacheEntry<K, Expiring<V>, S>>>;

/// Lookups of a `HybridCache` with [`Expiring`] values, to which an expired entry is absent.
///
/// foyer's own `get` returns an expired entry while it is in memory, whose value cannot be
/// [read](Expiring::get); its `get_or_fetch` returns it instead of fetching.
///
/// ```
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// use std::time::Duration;
/// use foyer::{HybridCache, HybridCacheBuilder};
/// use mmapcache_foyer::{Expiring, FreshEntries, MmapEngineConfig};
///
/// let cache: HybridCache<String, Expiring<String>> = HybridCacheBuilder::new()
///     .memory(1_000)
///     .storage()
///     .with_engine_config(MmapEngineConfig::expiring(dir.path().join("pages")))
///     .build()
///     .await?;
/// let minute = Duration::from_secs(60);
/// cache.insert("/".to_owned(), Expiring::new("old".to_owned(), Duration::ZERO));
/// assert!(cache.get_fresh("/").await?.is_none());
///
/// let fetch = || async move { Ok::<_, std::io::Error>(Expiring::new("new".to_owned(), minute)) };
/// let entry = cache.get_or_fetch_fresh("/", fetch).await?;
/// assert_eq!(entry.value().get().map(String::as_str), Some("new"));
/// # Ok(())
/// # }
/// ```
pub trait FreshEntries<K, V, S>
where
    K: StorageKey,
    V: StorageValue,
    S: BuildHasher + Debug + Send + Sync + 'static,
{
    /// Returns the entry of a key, `None` if there is none or it has expired. Takes an expired entry out of
    /// memory, and looks on the disk, where another process may have stored a newer one. An expired entry
    /// that was only in memory (under `WriteOnEviction`) is removed from both tiers: what the disk has of its
    /// key may be the value that it replaced.
    ///
    /// # Errors
    ///
    /// Returns the errors of `HybridCache::get`.
    fn get_fresh<Q>(&self, key: &Q) -> impl Future<Output = Found<K, V, S>> + Send
    where
        K: Clone,
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + Send + Sync + ?Sized + 'static;

    /// Returns the entry of a key. If there is none, or it has expired, fetches it, once for all tasks of
    /// this process that ask at the same time.
    ///
    /// A fetched value may be expired already; it is returned all the same.
    ///
    /// # Errors
    ///
    /// Returns the errors of `HybridCache::get_or_fetch`: that of the fetch has the kind `External`.
    fn get_or_fetch_fresh<Q, F, R, E>(
        &self,
        key: &Q,
        fetch: F,
    ) -> impl Future<Output = foyer::Result<HybridCacheEntry<K, Expiring<V>, S>>> + Send
    where
        K: Clone,
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + Send + Sync + ?Sized + 'static,
        F: FnOnce() -> R + Send,
        R: Future<Output = Result<Expiring<V>, E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static;
}

impl<K, V, S> FreshEntries<K, V, S> for HybridCache<K, Expiring<V>, S>
where
    K: StorageKey,
    V: StorageValue,
    S: BuildHasher + Debug + Send + Sync + 'static,
{
    async fn get_fresh<Q>(&self, key: &Q) -> Found<K, V, S>
    where
        K: Clone,
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + Send + Sync + ?Sized + 'static,
    {
        let expired = match self.get(key).await? {
            Some(entry) if entry.value().is_expired() => entry,
            found => return Ok(found),
        };
        // A newer entry that came since stays.
        if !expired.is_outdated() {
            match is_on_disk(self.policy(), expired.properties()) {
                true => drop(self.memory().remove(key)),
                false => self.remove(key),
            }
        }
        drop(expired);
        match self.get(key).await? {
            // An engine that knows no deadlines.
            Some(entry) if entry.value().is_expired() => {
                self.remove(key);
                Ok(None)
            }
            found => Ok(found),
        }
    }

    async fn get_or_fetch_fresh<Q, F, R, E>(
        &self,
        key: &Q,
        fetch: F,
    ) -> foyer::Result<HybridCacheEntry<K, Expiring<V>, S>>
    where
        K: Clone,
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + Send + Sync + ?Sized + 'static,
        F: FnOnce() -> R + Send,
        R: Future<Output = Result<Expiring<V>, E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        if let Some(entry) = self.get_fresh(key).await? {
            return Ok(entry);
        }
        self.get_or_fetch(key, fetch).await
    }
}

/// Returns whether the disk had an entry of the memory tier, or was told to have it: what it has of the key
/// now is this entry or a newer one.
fn is_on_disk(policy: HybridCachePolicy, properties: &HybridCacheProperties) -> bool {
    let was_written =
        policy == HybridCachePolicy::WriteOnInsertion && properties.location() != Location::InMem;
    was_written || properties.age() != Age::Fresh
}
