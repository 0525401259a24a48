//! [`RedbCache`]: this crate's store under the name and with the builder of another one, for the tests that
//! `cached` publishes for that one. `tests/foreign.sh` makes a package of it.

use std::marker::PhantomData;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mmapcache_cached::MmapStore;
use mmapcache_cached::mmapcache::Result;

/// Methods of the traits reach the store through `Deref`.
pub struct RedbCache<K, V>(MmapStore<K, V>);

impl<K, V> Deref for RedbCache<K, V> {
    type Target = MmapStore<K, V>;

    fn deref(&self) -> &MmapStore<K, V> {
        &self.0
    }
}

impl<K, V> RedbCache<K, V> {
    pub fn builder(name: &str) -> Builder<K, V> {
        Builder {
            name: name.to_owned(),
            dir: PathBuf::new(),
            ttl: Duration::ZERO,
            refresh: false,
            types: PhantomData,
        }
    }

    pub fn remove_expired_entries(&self) -> Result<usize> {
        Ok(self.0.cache().sweep()? as usize)
    }

    pub async fn async_remove_expired_entries(&self) -> Result<usize> {
        self.remove_expired_entries()
    }
}

pub struct Builder<K, V> {
    name: String,
    dir: PathBuf,
    ttl: Duration,
    refresh: bool,
    types: PhantomData<fn(K) -> V>,
}

impl<K, V> Builder<K, V> {
    pub fn disk_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.dir = dir.as_ref().to_owned();
        self
    }

    /// The tests neither cut the power nor look at the files.
    pub fn durable(self, _: bool) -> Self {
        self
    }

    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    pub fn refresh_on_hit(mut self, refresh: bool) -> Self {
        self.refresh = refresh;
        self
    }

    pub fn build(self) -> Result<RedbCache<K, V>> {
        let store = MmapStore::builder(self.dir.join(self.name))
            .ttl(self.ttl)
            .refresh_on_hit(self.refresh)
            .open()?;
        Ok(RedbCache(store))
    }
}
