//! Opens the cache of a store.
//!
//! May call `store` and `reading`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mmapcache::{Cache, CacheBuilder, Format, Result, TypedCache};
use object_store::ObjectStore;

use crate::reading::Reading;
use crate::store::CachingStore;

/// The smallest and largest chunk.
const CHUNK_BYTES: std::ops::RangeInclusive<u64> = 4 << 10..=64 << 20;

/// Opens or creates the cache of a [`CachingStore`]; made by [`CachingStore::builder`].
///
/// Setters never fail: [`open`](Self::open) reports bounds that the cache refuses.
#[derive(Debug)]
#[must_use = "a builder does nothing until `open`"]
pub struct CachingStoreBuilder {
    inner: Arc<dyn ObjectStore>,
    cache: CacheBuilder,
    name: String,
    chunk_bytes: u64,
    trust: Option<Duration>,
    parallel: usize,
}

impl CachingStoreBuilder {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, path: &Path) -> Self {
        Self {
            name: inner.to_string(),
            inner,
            cache: Cache::builder(path),
            chunk_bytes: 1 << 20,
            trust: None,
            parallel: 8,
        }
    }

    /// Sets how many bytes of disk all files may take, for all processes and from now on: at least 16
    /// chunks, because an entry may take a sixteenth. Default: as the files say; no bound in new ones.
    pub fn max_bytes(self, bytes: u64) -> Self {
        self.configure(|cache| cache.max_bytes(bytes))
    }

    /// Sets the size of chunks: 4 KiB to 64 MiB, or the nearer end if it is outside. Each is one request to the store, and one entry. Chunks
    /// of other sizes are not found. Default: 1 MiB.
    pub fn chunk_bytes(mut self, bytes: u64) -> Self {
        self.chunk_bytes = bytes.clamp(*CHUNK_BYTES.start(), *CHUNK_BYTES.end());
        self
    }

    /// Sets how long the metadata of an object is believed, without asking the store: a read of what is in
    /// the cache takes no request then. Default: not at all, each read asks once.
    ///
    /// Changes through a caching store on the same files are seen at once, in all processes that set this;
    /// others when the time is over. `Duration::MAX` suits objects that are never replaced.
    pub fn trust_for(mut self, time: Duration) -> Self {
        self.trust = Some(time);
        self
    }

    /// Sets the name of the store, a part of each key. Stores with the same name share chunks. Default:
    /// what the store prints, with the bucket for most.
    ///
    /// Give one to each store that prints no more than its type, such as `InMemory`, whose ETags begin
    /// again with each of them: two of them must not have the same name.
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Sets how many chunks of one read are requested at a time; 0 counts as 1. Default: 8.
    pub fn parallel(mut self, chunks: usize) -> Self {
        self.parallel = chunks.max(1);
        self
    }

    /// Sets what else the cache has: eviction, options of its files, a callback for removals.
    pub fn configure(mut self, configure: impl FnOnce(CacheBuilder) -> CacheBuilder) -> Self {
        self.cache = configure(self.cache);
        self
    }

    /// Opens the files, or creates them.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`CacheBuilder::open`].
    pub fn open(self) -> Result<CachingStore> {
        let cache = Arc::new(self.cache.open()?);
        Ok(CachingStore::new(Reading {
            inner: self.inner,
            facts: TypedCache::on(cache, Format::MessagePack),
            name: self.name,
            chunk_bytes: self.chunk_bytes,
            trust: self.trust,
            parallel: self.parallel,
        }))
    }
}
