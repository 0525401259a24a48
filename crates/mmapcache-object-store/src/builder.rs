//! Opens the cache of a store.
//!
//! May call `store` and `reading`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mmapcache::{Cache, CacheBuilder, Format, Options, Result, TypedCache};
use object_store::ObjectStore;

use crate::reading::{Lapses, Reading};
use crate::store::CachingStore;

/// The smallest and largest chunk.
const CHUNK_BYTES: std::ops::RangeInclusive<u64> = 4 << 10..=64 << 20;

/// How long a call waits for another writer of the cache: the store would answer sooner.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

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
    patience: Duration,
}

impl CachingStoreBuilder {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, path: &Path) -> Self {
        let mut options = Options::new();
        options.lock_timeout(Some(LOCK_TIMEOUT));
        Self {
            name: inner.to_string(),
            inner,
            cache: Cache::builder(path).options(&options),
            chunk_bytes: 1 << 20,
            trust: None,
            parallel: 8,
            patience: Duration::from_secs(5),
        }
    }

    /// Sets how many bytes of disk all files may take, for all processes and from now on: at least 16
    /// chunks, because an entry may take a sixteenth. Default: as the files say; no bound in new ones.
    pub fn max_bytes(self, bytes: u64) -> Self {
        self.configure(|cache| cache.max_bytes(bytes))
    }

    /// Sets the size of chunks: 4 KiB to 64 MiB, or the nearer end if it is outside. Each is one request to
    /// the store, and one entry. Chunks of other sizes are not found. Default: 1 MiB.
    pub fn chunk_bytes(mut self, bytes: u64) -> Self {
        self.chunk_bytes = bytes.clamp(*CHUNK_BYTES.start(), *CHUNK_BYTES.end());
        self
    }

    /// Sets how long the metadata of an object is believed, without asking the store: a read of what is in
    /// the cache takes no request then. Default: not at all, each read asks once.
    ///
    /// Changes through a caching store on the same files, with or without this, are seen at once by all
    /// processes; others when the time is over. A change is made also if the files cannot be written: then
    /// this process believes nothing until they can, and the others go on believing what they know.
    /// `Duration::MAX` suits objects that are never replaced.
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

    /// Sets how many chunks of one read, of one or several ranges, are requested at a time; 0 counts as 1.
    /// So many are in memory, besides what is returned. Default: 8.
    pub fn parallel(mut self, chunks: usize) -> Self {
        self.parallel = chunks.max(1);
        self
    }

    /// Sets how long a read waits for another one, of any process, that requests the same chunk; then it
    /// requests it as well. Default: 5 seconds.
    ///
    /// Such a request is a part of the stream that its caller reads: while the caller does something else,
    /// it makes no progress.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sets what else the cache has: eviction, options of its files, a callback for removals. Without
    /// options, calls wait 5 seconds for another writer of the files.
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
            patience: self.patience,
            lapses: Lapses::default(),
        }))
    }
}
