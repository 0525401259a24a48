//! [`MmapEngineConfig`]: what a disk engine is built from. May call `engine` and everything below it.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use foyer::{
    Engine, EngineBuildContext, EngineConfig, HybridCacheProperties, RecoverMode, StorageKey,
    StorageValue,
};
use mmapcache::{Cache, CacheBuilder};

use crate::counts::Monitor;
use crate::engine::{MmapEngine, Settings};
use crate::error::to_foyer;
use crate::expiring::Expiring;
use crate::record::Format;

/// The configuration of a disk engine on mmapcache, for `with_engine_config` of foyer's
/// `HybridCacheBuilder`.
///
/// ```
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// use foyer::{HybridCache, HybridCacheBuilder};
/// use mmapcache_foyer::MmapEngineConfig;
///
/// let engine = MmapEngineConfig::new(dir.path().join("users")).with_max_bytes(1 << 30);
/// let monitor = engine.monitor();
/// let cache: HybridCache<u64, String> = HybridCacheBuilder::new()
///     .memory(64 << 20)
///     .with_weighter(|_, value: &String| 8 + value.len())
///     .storage()
///     .with_engine_config(engine)
///     .build()
///     .await?;
/// cache.insert(42, "Ada".to_owned());
/// cache.close().await?;
/// assert_eq!(monitor.counts().stored, 1);
/// # Ok(())
/// # }
/// ```
///
/// # Building
///
/// Opens the files, or creates them, on a thread for blocking work. With `RecoverMode::None` it empties
/// them; foyer's other two modes are the same here. Starts one thread, which writes. Fails with the error
/// of [`CacheBuilder::open`] as the source of foyer's.
pub struct MmapEngineConfig<K, V> {
    builder: CacheBuilder,
    settings: Settings<V>,
    key: PhantomData<fn() -> K>,
}

impl<K, V> fmt::Debug for MmapEngineConfig<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MmapEngineConfig")
            .field("builder", &self.builder)
            .field("queue_bytes", &self.settings.queue_bytes)
            .field("max_loads", &self.settings.max_loads)
            .finish_non_exhaustive()
    }
}

impl<K, V> MmapEngineConfig<K, V> {
    /// The default of [`with_queue_bytes`](Self::with_queue_bytes): 64 MiB.
    pub const QUEUE_BYTES: usize = 64 << 20;

    /// Returns a configuration for the files at `path`: the index, and names that begin with it.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self::from_builder(Cache::builder(path))
    }

    /// Returns a configuration for files that a builder describes: with its bounds, its eviction, and its
    /// [`Options`](mmapcache::Options) such as the durability and the lock timeout.
    pub fn from_builder(builder: CacheBuilder) -> Self {
        Self {
            builder,
            settings: Settings {
                queue_bytes: Self::QUEUE_BYTES,
                max_loads: None,
                format: Format::of_types::<K, V>(),
                deadline: |_| None,
                monitor: Monitor::default(),
            },
            key: PhantomData,
        }
    }

    /// Sets the bytes of disk that the files may take, at least 1 MiB; beyond, stores evict. As
    /// [`CacheBuilder::max_bytes`]. Default: what the files have stored, no bound in new ones.
    #[must_use]
    pub fn with_max_bytes(mut self, bytes: u64) -> Self {
        self.builder = self.builder.max_bytes(bytes);
        self
    }

    /// Sets the bytes of entries that may wait to be written, 128 of overhead each included. Default:
    /// [`QUEUE_BYTES`](Self::QUEUE_BYTES).
    ///
    /// An entry that finds no room is dropped, and with it the older value of its key. At `close` foyer
    /// hands over all of the memory tier at once: what exceeds the queue then is lost to the next start.
    /// Make it as large as the memory tier, which costs nothing more at that moment, or call
    /// [`close_in_parts`](crate::close_in_parts).
    #[must_use]
    pub fn with_queue_bytes(mut self, bytes: usize) -> Self {
        self.settings.queue_bytes = bytes;
        self
    }

    /// Lets loads run on the runtime's threads for blocking work, at most `max_loads` at once. A load
    /// beyond is throttled: `get` misses, `get_or_fetch` fetches and keeps its value in memory only.
    ///
    /// By default a load runs in foyer's task: 1 us if the pages are in memory. If they must be read from a
    /// slow disk, it holds up its worker of the runtime for that time. A thread of its own costs each load
    /// some 20 us.
    #[must_use]
    pub fn with_blocking_loads(mut self, max_loads: NonZeroUsize) -> Self {
        self.settings.max_loads = Some(max_loads);
        self
    }

    /// Sets the name of the encoding of keys and values. An entry that was stored under another name is a
    /// miss until it is stored again. Change it when an encoding changes. Default: the names of the types
    /// `K` and `V`, which a new compiler may write differently.
    ///
    /// Programs that share files must have the same name.
    #[must_use]
    pub fn with_format(mut self, name: &str) -> Self {
        self.settings.format = Format::named(name);
        self
    }

    /// Sets how the engine learns when a value expires. From then on it is a miss on the disk. Only a
    /// value type that carries its deadline, as [`Expiring`], is respected in memory as well.
    #[must_use]
    pub fn with_deadline(mut self, deadline: fn(&V) -> Option<SystemTime>) -> Self {
        self.settings.deadline = deadline;
        self
    }

    /// Returns the counters of the engine that this builds.
    pub fn monitor(&self) -> Monitor {
        self.settings.monitor.clone()
    }
}

impl<K, V> MmapEngineConfig<K, Expiring<V>> {
    /// As [`new`](Self::new), for values with deadlines.
    pub fn expiring(path: impl AsRef<Path>) -> Self {
        Self::new(path).with_deadline(Expiring::deadline)
    }
}

impl<K: StorageKey, V: StorageValue> EngineConfig<K, V, HybridCacheProperties>
    for MmapEngineConfig<K, V>
{
    fn build(
        self: Box<Self>,
        context: EngineBuildContext,
    ) -> Pin<
        Box<
            dyn Future<Output = foyer::Result<Arc<dyn Engine<K, V, HybridCacheProperties>>>> + Send,
        >,
    > {
        Box::pin(async move {
            let Self {
                builder, settings, ..
            } = *self;
            let is_emptied = context.recover_mode == RecoverMode::None;
            let opening = context.spawner.spawn_blocking(move || {
                let cache = builder.open()?;
                if is_emptied {
                    cache.clear()?;
                }
                Ok(cache)
            });
            let cache = opening.await?.map_err(to_foyer)?;
            let engine = MmapEngine::start(settings, cache, context)?;
            Ok(Arc::new(engine) as Arc<dyn Engine<K, V, HybridCacheProperties>>)
        })
    }
}

impl<K: StorageKey, V: StorageValue> From<MmapEngineConfig<K, V>>
    for Box<dyn EngineConfig<K, V, HybridCacheProperties>>
{
    fn from(config: MmapEngineConfig<K, V>) -> Self {
        Box::new(config)
    }
}
