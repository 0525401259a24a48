//! The open files of a store: `cache` with the entries, and `meta` with what is known about them.
//!
//! Entries may expire or be evicted; what is in `meta` stays: settings, the ends of queues, the order of
//! an `Index`, the undo log of a transaction. Who writes to `meta` holds the writer lock of `cache`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use mmapcache::{Cache, CacheWriter, Error, ErrorKind, Eviction, MmapCache, Options, Result};

use crate::store::{undo, upkeep};

/// The longest wait of the engine without a look at the signals.
const PIECE: Duration = Duration::from_millis(200);
/// How long a call waits to set the bound again.
const RESTORING: Duration = Duration::from_secs(60);
/// The smallest bound that the engine takes.
pub(super) const LEAST_BOUND: u64 = 1 << 20;
/// Share of the bound that the engine refuses a larger record than.
const LARGE: u64 = 16;

/// The two files, and what this handle knows of the settings.
#[derive(Debug)]
pub(super) struct Open {
    pub data: Cache,
    pub meta: MmapCache,
    /// How long calls wait for another writer.
    pub timeout: Duration,
    /// Tells whether the ends of queues were stored after the last recovery of the files: a power loss may
    /// have left them older or newer than the entries.
    pub epoch: u64,
    pub flags: Flags,
    /// Lookups that this handle has counted and not added to `meta`.
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    /// The process that opened the files: a forked one has the counts of its parent, and adds them to
    /// nothing.
    process: u32,
}

/// Settings, as they are when this handle looks at them.
#[derive(Debug, Default)]
pub(super) struct Flags {
    /// Whether lookups are counted.
    pub counts: AtomicBool,
    /// Whether expired entries stay until they are culled.
    pub parks: AtomicBool,
    /// Whether there may be entries that stay, and this handle culls them.
    pub has_parked: AtomicBool,
    /// When the first of them expires, seconds since the epoch as bits of an `f64`.
    pub parked_until: AtomicU64,
    /// Whether `meta` has the order of the keys.
    pub is_ordered: AtomicBool,
    /// Whether all keys are those of the queue without a prefix, unless `meta` says otherwise.
    pub is_queue: AtomicBool,
    /// Values of at least so many bytes are opened as files.
    pub file_bytes: AtomicUsize,
    /// The bound of the entries; 0 is none.
    pub max_bytes: AtomicU64,
}

impl Open {
    /// Opens the files in a directory, which exists.
    pub(super) fn new(directory: &Path, timeout: Duration) -> Result<Arc<Self>> {
        let options = engine_options(timeout);
        let data = Cache::open_with(directory.join("cache"), &options)?;
        let meta = MmapCache::open(directory.join("meta"))?;
        let recoveries = data.stats()?.files.recoveries;
        let epoch = (recoveries << 32).wrapping_add(meta.stats()?.recoveries);
        let open = Arc::new(Self {
            data,
            meta,
            timeout,
            epoch,
            flags: Flags::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            process: std::process::id(),
        });
        // A process was killed in a transaction, or is in one: then the next write finds it.
        if undo::is_pending(&open)? {
            match open.acquire() {
                Err(error) if is_locked(&error) => {}
                acquired => drop(acquired?),
            }
        }
        Ok(open)
    }

    /// Takes the writer lock, and rolls back the transaction of a process that was killed.
    pub(super) fn acquire(&self) -> Result<CacheWriter<'_>> {
        loop {
            let mut writer = self.data.writer()?;
            if !undo::is_pending(self)? {
                return Ok(writer);
            }
            match undo::roll_back(self, &mut writer) {
                Err(error) if is_too_large(&error) => {}
                rolled_back => return rolled_back.map(|()| writer),
            }
            drop(writer);
            self.roll_back_large()?;
        }
    }

    /// Rolls back a transaction that changed a value above the engine's share of the bound. The lock is
    /// free in between: another writer does the same.
    fn roll_back_large(&self) -> Result<()> {
        let settings = self.data.settings()?;
        let done = self.without_bound(settings.eviction, || {
            let mut writer = self.data.writer()?;
            undo::roll_back(self, &mut writer)
        });
        if settings.max_bytes.is_some() {
            self.restore_bound(settings.max_bytes, settings.eviction);
        }
        done
    }

    /// Sets how many bytes the entries may take, and which of them go first.
    pub(super) fn bound(&self, max_bytes: Option<u64>, eviction: Eviction) -> Result<()> {
        self.flags.max_bytes.store(max_bytes.unwrap_or(0), Relaxed);
        self.set_bound(max_bytes, eviction)
    }

    fn set_bound(&self, max_bytes: Option<u64>, eviction: Eviction) -> Result<()> {
        let now = self.data.settings()?;
        if (now.max_bytes, now.eviction) == (max_bytes, eviction) {
            return Ok(());
        }
        // Settings are set by opening.
        let builder = Cache::builder(self.data.path())
            .options(&engine_options(self.timeout))
            .max_bytes(max_bytes)
            .eviction(eviction);
        drop(builder.open()?);
        Ok(())
    }

    /// Returns whether the engine would refuse a record for its share of the bound.
    pub(super) fn is_large(&self, bytes: usize) -> bool {
        let bound = self.flags.max_bytes.load(Relaxed);
        bound > 0 && bytes as u64 + 1024 > bound / LARGE
    }

    /// Makes room for a record of `bytes` bytes, and calls `f`, which stores it, while the entries have no
    /// bound.
    ///
    /// diskcache takes a value of any size. Room is made before: an eviction after it could take the
    /// record itself, if all others have been read since they were stored.
    pub(super) fn unbound<T>(&self, bytes: usize, f: impl FnMut() -> Result<T>) -> Result<T> {
        let bound = self.flags.max_bytes.load(Relaxed);
        let eviction = self.data.settings()?.eviction;
        let done = self
            .make_room(bound, eviction, bytes)
            .and_then(|()| self.without_bound(eviction, f));
        self.restore_bound(Some(bound), eviction);
        done
    }

    /// Calls `f`, which stores a large value once more, while the entries have no bound. Room is not made:
    /// that could evict the value.
    pub(super) fn unbound_again<T>(&self, f: impl FnMut() -> Result<T>) -> Result<T> {
        let bound = self.flags.max_bytes.load(Relaxed);
        let eviction = self.data.settings()?.eviction;
        let done = self.without_bound(eviction, f);
        self.restore_bound(Some(bound), eviction);
        done
    }

    /// Sets the bound again. What is stored is stored: the caller must not try again because this waits
    /// for the lock, so it does not fail.
    fn restore_bound(&self, bound: Option<u64>, eviction: Eviction) {
        let begin = Instant::now();
        while let Err(error) = self.set_bound(bound, eviction) {
            if !is_locked(&error) || begin.elapsed() > RESTORING {
                // The next one that opens the store, or stores a large value, sets it.
                break;
            }
        }
    }

    fn make_room(&self, bound: u64, eviction: Eviction, bytes: usize) -> Result<()> {
        // The engine keeps a fifth for what it moves.
        let room = (bound / 5 * 4)
            .saturating_sub(bytes as u64)
            .max(LEAST_BOUND);
        if upkeep::volume(self)? <= room {
            return Ok(());
        }
        self.set_bound(Some(room), eviction)?;
        upkeep::evict_by_steps(self, room)
    }

    fn without_bound<T>(&self, eviction: Eviction, mut f: impl FnMut() -> Result<T>) -> Result<T> {
        const ATTEMPTS: u32 = 8;
        let mut attempts = 0;
        loop {
            self.set_bound(None, eviction)?;
            let done = f();
            attempts += 1;
            // Another process may have set the bound in between, after a large value of its own.
            let is_refused = matches!(&done, Err(error) if is_too_large(error));
            if !is_refused || attempts == ATTEMPTS {
                return done;
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let has_counted = self.hits.load(Relaxed) + self.misses.load(Relaxed) > 0;
        if has_counted && self.process == std::process::id() {
            // Counts that cannot be stored are lost, as those of a killed process.
            let _ = upkeep::statistics(self, false);
        }
    }
}

fn engine_options(timeout: Duration) -> Options {
    let mut options = Options::new();
    options.lock_timeout(Some(timeout.min(PIECE)));
    options
}

/// Returns whether another writer holds the lock.
pub(super) fn is_locked(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Locked { .. })
}

/// Returns whether the engine refuses a record for its share of the bound.
pub(super) fn is_too_large(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ValueTooLarge { .. })
}
