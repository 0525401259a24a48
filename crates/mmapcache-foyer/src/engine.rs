//! [`MmapEngine`]: foyer's disk tier on an mmapcache `Cache`. May call `writer` and everything below it.
//!
//! foyer asks by hash. An engine returns the entry that it has under the hash, with its key, and foyer
//! compares the key: of two keys with one hash the later one is stored, and the other one misses.

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use foyer::{
    Age, Device, DeviceBuilder, Engine, EngineBuildContext, HybridCacheProperties, Load,
    NoopDeviceBuilder, PieceRef, Spawner, StorageFilterResult, StorageKey, StorageValue,
};
use foyer_storage::Populated;
use mmapcache::Cache;

use crate::counts::{Counters, Monitor};
use crate::error::to_foyer;
use crate::queue::{Admission, Pending, Queue};
use crate::record::{self, Format};
use crate::writer::Writer;

/// An entry of foyer's memory tier; a clone shares it. foyer does not name the type.
pub(crate) type Piece<K, V> = <PieceRef<K, V, HybridCacheProperties> as Deref>::Target;

type Future<T> = Pin<Box<dyn std::future::Future<Output = T> + Send>>;

/// When to come back to a full queue. The writer makes room for thousands of small entries in this time.
const RETRY: Duration = Duration::from_millis(10);

/// What an engine is told, besides its files.
pub(crate) struct Settings<V> {
    pub(crate) queue_bytes: usize,
    /// Loads that may run on threads of their own, if they are to.
    pub(crate) max_loads: Option<NonZeroUsize>,
    pub(crate) format: Format,
    pub(crate) deadline: fn(&V) -> Option<SystemTime>,
    pub(crate) monitor: Monitor,
}

/// What the engine and its writer share.
pub(crate) struct Shared<K: StorageKey, V: StorageValue> {
    pub(crate) queue: Queue<Piece<K, V>>,
    pub(crate) cache: Cache,
    pub(crate) format: Format,
    pub(crate) deadline: fn(&V) -> Option<SystemTime>,
    pub(crate) counters: Arc<Counters>,
    /// Why changes wait that were tried.
    pub(crate) last_failure: Mutex<Option<mmapcache::Error>>,
    /// Has no bytes: foyer asks it for the statistics.
    pub(crate) device: Arc<dyn Device>,
}

impl<K: StorageKey, V: StorageValue> Shared<K, V> {
    /// Returns the key of a hash in the files.
    pub(crate) fn key(hash: u64) -> [u8; 8] {
        hash.to_le_bytes()
    }

    pub(crate) fn is_expired(&self, value: &V) -> bool {
        (self.deadline)(value).is_some_and(|deadline| deadline <= SystemTime::now())
    }

    /// Returns whether there is a value that a store that is dropped would leave behind. If that cannot be
    /// found out, there is one.
    fn has(&self, hash: u64) -> bool {
        match self.queue.find(hash) {
            Pending::Store(_) => true,
            Pending::Remove => false,
            Pending::Unknown => self.cache.contains(Self::key(hash)).unwrap_or(true),
        }
    }

    fn read(&self, hash: u64) -> foyer::Result<Load<K, V, HybridCacheProperties>> {
        let Some(record) = self.cache.get(Self::key(hash)).map_err(to_foyer)? else {
            return Ok(Load::Miss);
        };
        self.device.statistics().record_disk_read(record.len());
        let Some((key, value)) = record::decode(self.format, &record) else {
            self.counters.undecoded.add_one();
            return Ok(Load::Miss);
        };
        if self.is_expired(&value) {
            return Ok(Load::Miss);
        }
        Ok(Load::Entry {
            key,
            value,
            populated: young(),
        })
    }

    /// Returns the error of changes that could not be written.
    fn failure(&self, message: String) -> foyer::Error {
        let mut failure = self
            .last_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let error = foyer::Error::new(foyer::ErrorKind::External, message)
            .with_context("path", self.cache.path().display());
        match failure.take() {
            Some(cause) => error.with_source(cause),
            None => error,
        }
    }
}

/// The engine's side of a [`Shared`].
pub(crate) struct MmapEngine<K: StorageKey, V: StorageValue> {
    shared: Arc<Shared<K, V>>,
    spawner: Spawner,
    max_loads: Option<NonZeroUsize>,
    /// Loads that run on threads of their own.
    loads: Arc<AtomicUsize>,
    /// Counts a dropped store in foyer's metrics, whose type foyer does not name.
    count_overflow: Box<dyn Fn() + Send + Sync>,
    writer: Option<JoinHandle<()>>,
}

impl<K: StorageKey, V: StorageValue> fmt::Debug for MmapEngine<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MmapEngine")
            .field(&self.shared.cache.path())
            .finish()
    }
}

impl<K: StorageKey, V: StorageValue> MmapEngine<K, V> {
    /// Returns the engine of an open cache, and starts its writer.
    pub(crate) fn start(
        settings: Settings<V>,
        cache: Cache,
        context: EngineBuildContext,
    ) -> foyer::Result<Self> {
        let max_bytes = cache.settings().map_err(to_foyer)?.max_bytes;
        let capacity = usize::try_from(max_bytes.unwrap_or_default()).unwrap_or_default();
        // foyer asks for whole blocks of 4 KiB.
        let device = NoopDeviceBuilder::new(capacity & !4_095).build()?;
        let shared = Arc::new(Shared {
            queue: Queue::new(settings.queue_bytes),
            cache,
            format: settings.format,
            deadline: settings.deadline,
            counters: settings.monitor.0,
            last_failure: Mutex::new(None),
            device,
        });
        let writer = Writer::new(shared.clone());
        let writer = thread::Builder::new()
            .name("mmapcache-foyer".to_owned())
            .spawn(move || writer.run())
            .map_err(foyer::Error::io_error)?;
        let metrics = context.metrics;
        Ok(Self {
            shared,
            spawner: context.spawner,
            max_loads: settings.max_loads,
            loads: Arc::default(),
            count_overflow: Box::new(move || metrics.storage_queue_channel_overflow.increase(1)),
            writer: Some(writer),
        })
    }
}

impl<K: StorageKey, V: StorageValue> Engine<K, V, HybridCacheProperties> for MmapEngine<K, V> {
    fn device(&self) -> &Arc<dyn Device> {
        &self.shared.device
    }

    /// foyer removes the key of an entry that is not admitted. So an entry is admitted whose key is on the
    /// disk: it may have come from there, and [`enqueue`](Self::enqueue) knows that.
    fn filter(&self, hash: u64, estimated_size: usize) -> StorageFilterResult {
        if self.shared.queue.is_full_for(estimated_size) && !self.shared.has(hash) {
            self.shared.counters.throttled_stores.add_one();
            return StorageFilterResult::Throttled(RETRY);
        }
        StorageFilterResult::Admit
    }

    fn enqueue(&self, piece: PieceRef<K, V, HybridCacheProperties>, estimated_size: usize) {
        if piece.properties().age() == Age::Young {
            // It came from the disk. If it is no longer there, it was removed or evicted, and writing it
            // could undo a removal.
            return;
        }
        let shared = &self.shared;
        match shared
            .queue
            .store(piece.hash(), (*piece).clone(), estimated_size)
        {
            Admission::Queued => {}
            Admission::Full => {
                shared.counters.dropped.add_one();
                (self.count_overflow)();
                if shared.has(piece.hash()) {
                    shared.queue.remove(piece.hash());
                }
            }
            Admission::Closed => {
                shared.counters.dropped.add_one();
                log::warn!(
                    "{}: an entry was inserted after the cache was closed; it is not stored",
                    shared.cache.path().display()
                );
            }
        }
        // `piece` goes only here: until then foyer finds the entry by it, from now on in the queue, where
        // a removal takes it out.
    }

    fn load(&self, hash: u64) -> Future<foyer::Result<Load<K, V, HybridCacheProperties>>> {
        let shared = self.shared.clone();
        let blocking = self
            .max_loads
            .map(|max| (max, self.loads.clone(), self.spawner.clone()));
        Box::pin(async move {
            match shared.queue.find(hash) {
                Pending::Store(piece) if !shared.is_expired(piece.value()) => {
                    return Ok(Load::Piece {
                        piece,
                        populated: young(),
                    });
                }
                Pending::Store(_) | Pending::Remove => return Ok(Load::Miss),
                Pending::Unknown => {}
            }
            let Some((max, loads, spawner)) = blocking else {
                return shared.read(hash);
            };
            let Some(permit) = Permit::take(loads, max) else {
                shared.counters.throttled_loads.add_one();
                return Ok(Load::Throttled);
            };
            let load = spawner.spawn_blocking(move || {
                let load = shared.read(hash);
                drop(permit);
                load
            });
            load.await?
        })
    }

    fn delete(&self, hash: u64) {
        let shared = &self.shared;
        // foyer removes the key of each entry that a full queue refused, whether it is anywhere or not.
        if shared.queue.is_full_for(0) && !shared.has(hash) {
            return;
        }
        if !shared.queue.remove(hash) {
            log::warn!(
                "{}: a key was removed after the cache was closed; it stays on the disk",
                shared.cache.path().display()
            );
        }
    }

    fn may_contains(&self, hash: u64) -> bool {
        match self.shared.queue.find(hash) {
            Pending::Store(piece) => !self.shared.is_expired(piece.value()),
            Pending::Remove => false,
            Pending::Unknown => self
                .shared
                .cache
                .contains(Shared::<K, V>::key(hash))
                .unwrap_or(false),
        }
    }

    fn destroy(&self) -> Future<foyer::Result<()>> {
        let shared = self.shared.clone();
        Box::pin(async move {
            if !shared.queue.clear() {
                return Err(foyer::Error::new(
                    foyer::ErrorKind::Closed,
                    "the cache is closed; clear it before",
                ));
            }
            // Cancelled if the clearing failed.
            let _ = shared.queue.mark().await;
            if shared.queue.is_clearing() {
                return Err(shared.failure(
                    "the files could not be emptied; every entry in them is a miss, and the engine keeps trying".to_owned(),
                ));
            }
            Ok(())
        })
    }

    fn wait(&self) -> Future<()> {
        let mark = self.shared.queue.mark();
        Box::pin(async move {
            // Cancelled if the engine was closed, or nothing can be written at present: foyer has no place
            // for an error here. The counters tell, and `close`.
            let _ = mark.await;
        })
    }

    fn close(&self) -> Future<foyer::Result<()>> {
        let shared = self.shared.clone();
        Box::pin(async move {
            let _ = shared.queue.mark().await;
            match shared.queue.close() {
                0 => Ok(()),
                lost => Err(shared.failure(format!(
                    "{lost} changes could not be written before the cache was closed; older values may be back at the next start"
                ))),
            }
        })
    }
}

impl<K: StorageKey, V: StorageValue> Drop for MmapEngine<K, V> {
    /// Writes what waits. If another process holds the lock of the files, waits for it once at most, as long
    /// as the lock timeout says.
    fn drop(&mut self) {
        self.shared.queue.close();
        let Some(writer) = self.writer.take() else {
            return;
        };
        // The last entry may own the last handle of the cache, and the writer drops entries.
        if writer.thread().id() != thread::current().id() && writer.join().is_err() {
            log::error!(
                "{}: the thread that writes to the cache panicked; what it had to write is lost",
                self.shared.cache.path().display()
            );
        }
    }
}

/// One of the loads that may run on threads of their own.
struct Permit(Arc<AtomicUsize>);

impl Permit {
    fn take(loads: Arc<AtomicUsize>, max: NonZeroUsize) -> Option<Self> {
        let permit = Self(loads);
        // If there are too many, the drop takes this one off again.
        (permit.0.fetch_add(1, Ordering::Relaxed) < max.get()).then_some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Entries of the disk are young: foyer does not hand them over again when memory evicts them.
fn young() -> Populated {
    Populated { age: Age::Young }
}
