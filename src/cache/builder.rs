//! Opens a cache, and sets its limits and defaults.
//!
//! May call its siblings, `mmap_cache` and everything below it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cache::Cache;
use crate::cache::groups::GroupMemory;
use crate::cache::removal::OnRemoval;
use crate::cache::settings::{self, Changes, Eviction};
use crate::engine::removals::{RemovalCause, Removals};
use crate::engine::statistics::Statistics;
use crate::engine::{Options, Writer};
use crate::error::{ErrorKind, Result};
use crate::format::record::Variant;
use crate::format::settings::Settings;
use crate::lock::PerProcess;
use crate::mmap_cache::MmapCache;

/// The largest segment of a cache without a bound.
const SEGMENT_BYTES: u64 = 1 << 30;
/// The smallest that is chosen for one with a bound.
const LEAST_SEGMENT_BYTES: u64 = 64 << 10;

/// Opens or creates a [`Cache`], and sets its limits and defaults; made by
/// [`Cache::builder`](crate::Cache::builder).
///
/// Limits and defaults are stored in the index: all processes share them, and a later one may change
/// them while the cache is open elsewhere. Those that the builder does not set stay as they are; in a
/// new cache there are none, nor after a [`Repair`](crate::Repair) that found no index. Backups have
/// them. Setters never fail: [`open`](Self::open) reports values outside their range.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use std::time::Duration;
/// use mmapcache::Cache;
///
/// let cache = Cache::builder(dir.path().join("pages"))
///     .max_bytes(64 << 20)
///     .time_to_live(Duration::from_secs(600))
///     .jitter(0.1)
///     .open()?;
/// cache.insert("/index.html", "<h1>Hello</h1>")?;
/// let left = cache.entry("/index.html")?.unwrap().remaining().unwrap();
/// assert!(left > Duration::from_secs(530) && left <= Duration::from_secs(600));
///
/// // Takes a limit away, for all processes.
/// let other = Cache::builder(dir.path().join("pages")).max_bytes(None).open()?;
/// assert_eq!(cache.settings()?.max_bytes, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A clone opens another handle with the same limits and options. The handles share the callback.
#[derive(Clone)]
#[must_use = "a builder does nothing until `open`"]
pub struct CacheBuilder {
    path: PathBuf,
    options: Options,
    changes: Changes,
    on_removal: Option<OnRemoval>,
}

impl fmt::Debug for CacheBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder")
            .field("path", &self.path)
            .field("options", &self.options)
            .field("changes", &self.changes)
            .finish_non_exhaustive()
    }
}

impl CacheBuilder {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            options: Options::new(),
            changes: Changes::default(),
            on_removal: None,
        }
    }

    /// Sets the options of this handle, and those that are fixed when the files are created.
    /// [`Options::max_entries`], [`Options::append_only`] and [`Options::in_place`] must not be set; [`Options::raw`] has no
    /// effect. Default: [`Options::new`].
    pub fn options(mut self, options: &Options) -> Self {
        self.options = options.clone();
        self
    }

    /// Sets how many bytes of disk all files of the cache may take, as
    /// [`disk_usage`](crate::Cache::disk_usage) counts them: at least 1 MiB. `None` takes the limit away.
    ///
    /// For a moment the files may take a sixteenth more, or 4 MiB if that is more. A lower limit is reached
    /// step by step, by the insertions that follow or by [`Cache::evict_to`].
    ///
    /// A cache that is created with a limit has segments of at most a sixteenth of it, 64 KiB to 1 GiB,
    /// unless [`Options::max_segment_bytes`] sets another size, which then limits the length of values.
    /// New segments under a limit have a thirty-second of it; those that were there before it was set or
    /// lowered stay as large as they were until they are cleaned.
    pub fn max_bytes(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.changes.max_bytes = Some(bytes.into());
        self
    }

    /// Sets how many entries there may be: at least 1. Expired entries count until they are removed.
    /// `None` takes the limit away.
    pub fn max_entries(mut self, entries: impl Into<Option<u64>>) -> Self {
        self.changes.max_entries = Some(entries.into());
        self
    }

    /// Sets the life of entries that are inserted from now on and given none: at least a millisecond.
    /// `None`, or more than 139 years, is no end.
    pub fn time_to_live(mut self, life: impl Into<Option<Duration>>) -> Self {
        self.changes.time_to_live = Some(life.into());
        self
    }

    /// Sets how long entries live since their last use, if they are inserted from now on and given no
    /// life: at least a millisecond. `None`, or more than 139 years, is no end.
    ///
    /// A use is a lookup that returns the value. It renews the deadline if a tenth of this time has
    /// passed since the last renewal, so an entry may expire up to a tenth earlier; never beyond the end
    /// of [`time_to_live`](Self::time_to_live), counted from the insertion. A renewal stores the entry
    /// again, as [`touch`](crate::Cache::touch). A lookup does not wait for the writer lock to do that: if
    /// another writer holds it, the renewal is left to the next lookup. Under
    /// [`Durability::Sync`](crate::Durability::Sync) it waits for the disk. Lookups of a read-only handle
    /// renew nothing.
    pub fn time_to_idle(mut self, idle: impl Into<Option<Duration>>) -> Self {
        self.changes.time_to_idle = Some(idle.into());
        self
    }

    /// Sets the share by which lives are shortened at random, at most: 0.0 to 0.5, rounded to whole
    /// percents. It keeps entries that were inserted together from expiring together. Applies to
    /// [`time_to_live`](Self::time_to_live) and to the lives given to insertions, from now on; not to
    /// [`InsertOptions::expires_at`](crate::InsertOptions::expires_at), `touch`, and entries under
    /// [`time_to_idle`](Self::time_to_idle).
    pub fn jitter(mut self, share: f64) -> Self {
        self.changes.jitter = Some(share);
        self
    }

    /// Sets how long after its deadline a value is served while another one is computed. `None` and zero
    /// are never.
    pub fn stale_while_revalidate(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.changes.stale_for = Some(time.into());
        self
    }

    /// Sets how long after its deadline a value replaces one that could not be computed. `None` and zero
    /// are never.
    pub fn stale_if_error(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.changes.stale_on_error = Some(time.into());
        self
    }

    /// Sets what becomes of an insertion that exceeds a limit. A new cache has [`Eviction::Clock`].
    pub fn eviction(mut self, eviction: Eviction) -> Self {
        self.changes.eviction = Some(eviction);
        self
    }

    /// Sets a callback for the entries that this handle removes, for whatever cause: it gets the key, the
    /// cause, and the length of the value in bytes. It hears nothing of what other handles and processes
    /// remove, nor of [`clear`](crate::Cache::clear).
    ///
    /// It is called after the change, without a lock, by a thread that has changed the cache. It may use
    /// the cache; of what it removes itself it hears after it has returned. If it panics, the panic
    /// passes through the method that removed the entry, whose change is made; the next change reports
    /// the removals that are left. Of more than 65,536 that one change makes, the rest is not reported, and
    /// logged.
    ///
    /// An insertion looks the replaced entry up, to tell its cause and length.
    pub fn on_removal(
        mut self,
        callback: impl Fn(&[u8], RemovalCause, u64) + Send + Sync + 'static,
    ) -> Self {
        self.on_removal = Some(OnRemoval::new(callback));
        self
    }

    /// Opens the cache, or creates it, and stores the limits and defaults that were set. Takes the writer
    /// lock only if one of them changes.
    ///
    /// If the stored ones are corrupt and none is set, logs a warning: lookups work without limits and
    /// defaults, and insertions are [`ErrorKind::SettingsCorrupted`] until they are set. If any is set,
    /// the others become none.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidOption`] if a value is outside its range, or the options have one that they
    ///   must not have.
    /// - [`ErrorKind::ReadOnly`] if the handle is read-only and a limit or default would change.
    /// - [`ErrorKind::OtherType`] if an [`MmapCache`] or [`Labels`](crate::Labels) made the files at the
    ///   path.
    /// - The errors of [`Options::open`] and [`MmapCache::writer`]. If the cache was created, it exists
    ///   then, perhaps without its limits.
    pub fn open(self) -> Result<Cache> {
        self.check()?;
        let options = self.engine_options();
        let mut cache = MmapCache::open_with(&self.path, &options)?;
        cache.handle.statistics = Some(Statistics::new());
        cache.handle.removals = self.on_removal.is_some().then(Removals::new);
        change(&cache, &self.changes)?;
        Ok(Cache {
            cache,
            groups: GroupMemory::new(),
            flights: PerProcess::new(),
            on_removal: self.on_removal,
        })
    }

    fn check(&self) -> Result<()> {
        let (entries, append_only) = (self.options.max_entries, self.options.append_only);
        if self.options.in_place == Some(true) {
            return Err(ErrorKind::InvalidOption {
                option: "Options::in_place",
                asked: 1,
                range: "unset: a `Cache` replaces entries elsewhere",
            }
            .at(&self.path));
        }
        let fault = match (entries, append_only, self.changes.fault()) {
            (Some(entries), ..) => Some((
                "Options::max_entries",
                entries,
                "unset: use `CacheBuilder::max_entries`",
            )),
            (None, Some(true), _) => Some((
                "Options::append_only",
                1,
                "unset: a `Cache` replaces entries",
            )),
            (None, _, fault) => fault,
        };
        fault.map_or(Ok(()), |(option, asked, range)| {
            Err(ErrorKind::InvalidOption {
                option,
                asked,
                range,
            }
            .at(&self.path))
        })
    }

    fn engine_options(&self) -> Options {
        let bound = self.changes.max_bytes.flatten();
        Options {
            variant: Variant::Expiring,
            append_only: None,
            in_place: None,
            segment_bytes_of_new: bound.map_or(SEGMENT_BYTES, |bytes| {
                let sixteenth = bytes / 16 / LEAST_SEGMENT_BYTES * LEAST_SEGMENT_BYTES;
                sixteenth.clamp(LEAST_SEGMENT_BYTES, SEGMENT_BYTES)
            }),
            ..self.options.clone()
        }
    }
}

/// Stores the changes, if there are any.
fn change(cache: &MmapCache, changes: &Changes) -> Result<()> {
    let handle = cache.handle();
    let stored = settings::read(handle);
    if !changes.has_any() {
        if let Err(error) = stored {
            // To be set again: not a reason to refuse what can be read.
            log::warn!("{error}");
        }
        return Ok(());
    }
    if is_current(&stored, changes) {
        return Ok(());
    }
    cache.write(|writer: &mut Writer<'_>| {
        // Another process may have set others since.
        let stored = settings::read(handle);
        if is_current(&stored, changes) {
            return Ok(());
        }
        match stored {
            Ok(stored) => writer.set_settings(changes.apply(stored)),
            Err(error) if matches!(error.kind(), ErrorKind::SettingsCorrupted) => {
                writer.set_settings(changes.apply(Settings::default()))
            }
            Err(error) => Err(error),
        }
    })
}

fn is_current(stored: &Result<Settings>, changes: &Changes) -> bool {
    matches!(stored, Ok(stored) if changes.apply(*stored) == *stored)
}
