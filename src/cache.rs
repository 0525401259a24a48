//! [`Cache`]: keys and values that expire.
//!
//! Decides when an entry is fresh. The engine stores deadlines, and keeps entries whose deadline has
//! passed until they are replaced or removed. May call `mmap_cache` and everything below it.

mod builder;
mod entry;
mod idle;
mod insert;
mod insertion;
mod removal;
mod settings;
mod statistics;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::engine::read::lookup::{self, Answer, EntryTerms};
use crate::engine::statistics::Counter;
use crate::engine::write::limits;
use crate::engine::write::put::Terms;
use crate::engine::{Backup, DiskUsage, Options, Verify, Version, Writer};
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::Result;
use crate::format::record::Traits;
use crate::format::settings::Settings;
use crate::mmap_cache::MmapCache;
use crate::os::clock::unix_millis;

use crate::cache::removal::OnRemoval;

pub use crate::cache::builder::CacheBuilder;
pub use crate::cache::entry::CacheEntry;
pub use crate::cache::insert::InsertOptions;
pub use crate::cache::settings::{CacheSettings, Eviction};
pub use crate::cache::statistics::{CacheCounts, CacheStats, Metric, MetricKind};
pub use crate::engine::RemovalCause;

/// A persistent cache in memory-mapped files: keys and values, each with a deadline if it is given
/// one, shared by any number of threads and processes.
///
/// Its files are those of an [`MmapCache`], with deadlines; what `MmapCache` promises of kills, power
/// loss, damage, forks and concurrency holds here as well. Neither type opens the files of the other:
/// [`ErrorKind::OtherType`].
///
/// # Freshness
///
/// An entry is fresh before its deadline, by the system's wall clock, to a millisecond for lives up to
/// 37 hours. From the deadline on it is absent to every method, and takes room until its key is put or
/// removed, or [`sweep`](Self::sweep) removes it. Deadlines survive restarts, backups and repairs. If
/// the clock is set back, entries live longer by as much.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use std::time::Duration;
/// use mmapcache::{Cache, InsertOptions};
///
/// let cache = Cache::open(dir.path().join("pages"))?;
/// let ten_minutes = InsertOptions::new().ttl(Duration::from_secs(600));
/// cache.insert_with("/index.html", "<h1>Hello</h1>", &ten_minutes)?;
/// assert_eq!(cache.get("/index.html")?.as_deref(), Some(&b"<h1>Hello</h1>"[..]));
///
/// // Known not to exist, for a minute.
/// cache.insert_absent("/missing.html", Duration::from_secs(60))?;
/// assert!(cache.entry("/missing.html")?.unwrap().is_negative());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Cache {
    cache: MmapCache,
    on_removal: Option<OnRemoval>,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cache.handle().describe("Cache", f)
    }
}

impl Cache {
    /// Opens the cache at `path` with the default [`Options`]; creates it if there is none. Its limits
    /// and defaults are those in the files.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`open_with`](Self::open_with).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &Options::new())
    }

    /// Opens the cache at `path` with these options. Its limits and defaults are those in the files.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`CacheBuilder::open`].
    pub fn open_with(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        Self::builder(path).options(options).open()
    }

    /// Begins to open the cache at `path`, with limits, defaults, options and a callback.
    pub fn builder(path: impl AsRef<Path>) -> CacheBuilder {
        CacheBuilder::new(path.as_ref())
    }

    /// Returns the limits and defaults as they are stored now; another process may have changed them
    /// since the last call. Eight loads and a check.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::SettingsCorrupted`] if they are corrupt, and any error of [`Options::open`]
    /// if the files were replaced.
    pub fn settings(&self) -> Result<CacheSettings> {
        settings::read(self.cache.handle()).map(settings::public)
    }

    /// Changes the cache under the lock, and reports what it removed when the lock is released.
    fn change<T>(&self, change: impl FnOnce(&mut Writer<'_>) -> Result<T>) -> Result<T> {
        let changed = self.cache.write(change);
        self.report_removals();
        changed
    }

    /// Calls the callback for the removals that were noted. No lock may be held.
    fn report_removals(&self) {
        if let Some(on_removal) = &self.on_removal {
            on_removal.report(self.cache.handle());
        }
    }

    /// Returns the path of the index, with all symbolic links resolved.
    pub fn path(&self) -> &Path {
        self.cache.path()
    }

    /// Returns the value of a key, or `None` if there is no fresh value: no entry, an expired or damaged
    /// one, or a [negative](Self::insert_absent) one.
    ///
    /// O(1), without a lock. Reads the clock if the entry has a deadline.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::get`].
    #[inline]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        self.get_bytes(key.as_ref())
    }

    fn get_bytes(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let handle = self.cache.handle();
        let mut value = Vec::new();
        match lookup::read_terms(handle, key, &mut value)? {
            Answer::Found(terms) if terms.is_fresh() && !terms.traits.is_negative() => {
                handle.count(Counter::Hits, 1);
                if terms.traits.is_idle() {
                    self.renew(key, &terms);
                }
                Ok(Some(value))
            }
            Answer::Found(terms) if terms.is_fresh() => {
                handle.count(Counter::NegativeHits, 1);
                Ok(None)
            }
            _ => {
                handle.count(Counter::Misses, 1);
                Ok(None)
            }
        }
    }

    /// Renews the deadline of an entry that a lookup found, if it is time for that.
    #[cold]
    fn renew(&self, key: &[u8], found: &EntryTerms) {
        idle::renew(&self.cache, key, found);
        self.report_removals();
    }

    /// Returns the fresh entry of a key, which may be a negative one; `None` if there is none.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::entry`].
    pub fn entry(&self, key: impl AsRef<[u8]>) -> Result<Option<CacheEntry>> {
        let key = key.as_ref();
        match self.find(key)?.filter(|(_, terms)| terms.is_fresh()) {
            Some((value, terms)) => {
                let is_negative = terms.traits.is_negative();
                let counter = if is_negative {
                    Counter::NegativeHits
                } else {
                    Counter::Hits
                };
                self.cache.handle().count(counter, 1);
                if terms.traits.is_idle() {
                    self.renew(key, &terms);
                }
                Ok(Some(entry::of((value, terms))))
            }
            None => {
                self.cache.handle().count(Counter::Misses, 1);
                Ok(None)
            }
        }
    }

    /// Returns whether a key has a fresh value. Reads its record, as [`get`](Self::get) does.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get`](Self::get).
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.get_bytes(key.as_ref()).map(|value| value.is_some())
    }

    /// Finds an entry, fresh or not.
    fn find(&self, key: &[u8]) -> Result<Option<(Vec<u8>, EntryTerms)>> {
        let mut value = Vec::new();
        match lookup::read_terms(self.cache.handle(), key, &mut value)? {
            Answer::Found(terms) => Ok(Some((value, terms))),
            Answer::Absent => Ok(None),
            Answer::Damaged(error) => Err(error),
        }
    }

    /// As [`find`](Self::find), for a writer, to which a damaged entry is absent.
    fn find_undamaged(&self, key: &[u8]) -> Result<Option<(Vec<u8>, EntryTerms)>> {
        match self.find(key) {
            Err(error) if error.is_corruption() => Ok(None),
            found => found,
        }
    }

    fn find_fresh(&self, key: &[u8]) -> Result<Option<(Vec<u8>, EntryTerms)>> {
        let found = self.find_undamaged(key)?;
        Ok(found.filter(|(_, terms)| terms.is_fresh()))
    }

    /// Stores a value with the life that is the cache's default; replaces the key's entry, if any.
    /// Returns the new version.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::put`], and [`ErrorKind::SettingsCorrupted`] if the limits and
    /// defaults are corrupt.
    pub fn insert(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Version> {
        self.insert_bytes(key.as_ref(), value.as_ref(), &InsertOptions::new())
    }

    /// Stores a value with the life that the options say; replaces the key's entry, if any. Returns the
    /// new version.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`insert`](Self::insert).
    pub fn insert_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &InsertOptions,
    ) -> Result<Version> {
        self.insert_bytes(key.as_ref(), value.as_ref(), options)
    }

    fn insert_bytes(&self, key: &[u8], value: &[u8], options: &InsertOptions) -> Result<Version> {
        limits::check_put(self.cache.handle(), key, value)?;
        self.change(|writer| {
            let terms = insertion::terms(writer, options)?;
            insertion::put(self, writer, key, value, terms)
        })
    }

    /// Stores a value if the key has no fresh entry, decided under the lock. Returns the new version, or
    /// `None` if it has one, which may be a negative one.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`insert`](Self::insert) and [`entry`](Self::entry), damage excepted: a
    /// damaged entry is absent.
    pub fn add(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &InsertOptions,
    ) -> Result<Option<Version>> {
        let (key, value) = (key.as_ref(), value.as_ref());
        limits::check_put(self.cache.handle(), key, value)?;
        self.change(|writer| {
            if self.find_fresh(key)?.is_some() {
                return Ok(None);
            }
            let terms = insertion::terms(writer, options)?;
            insertion::put(self, writer, key, value, terms).map(Some)
        })
    }

    /// Stores that a key is known not to exist, for a time: a negative entry, which
    /// [`entry`](Self::entry) tells from an absent one, and which [`get`](Self::get) does not return.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`insert`](Self::insert).
    pub fn insert_absent(&self, key: impl AsRef<[u8]>, ttl: Duration) -> Result<Version> {
        let key = key.as_ref();
        limits::check_put(self.cache.handle(), key, &[])?;
        let options = InsertOptions::new().ttl(ttl);
        self.change(|writer| {
            let terms = Terms {
                traits: Traits::NEGATIVE,
                ..insertion::terms(writer, &options)?
            };
            insertion::put(self, writer, key, &[], terms)
        })
    }

    /// Removes the entry of a key. Returns whether it had a fresh one.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::delete`].
    pub fn remove(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        let key = key.as_ref();
        self.cache.handle().check_key(key)?;
        self.change(|writer| {
            let found = self.find_undamaged(key)?;
            let found = found.map(|(value, terms)| (value.len(), terms));
            if writer.delete_bytes(key)? {
                removal::removed(self.cache.handle(), key, found);
            }
            Ok(found.is_some_and(|(_, terms)| terms.is_fresh()))
        })
    }

    /// Gives the fresh entry of a key another deadline, `ttl` from now; its value and version stay.
    /// Returns whether there was one.
    ///
    /// As durable as a put. Appends the entry to the heap again, with its value. From then on lookups do
    /// not renew the deadline, see [`CacheBuilder::time_to_idle`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::put`].
    pub fn touch(&self, key: impl AsRef<[u8]>, ttl: Duration) -> Result<bool> {
        self.set_deadline(key.as_ref(), &InsertOptions::new().ttl(ttl))
    }

    /// Takes the deadline from the fresh entry of a key, as [`touch`](Self::touch).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`touch`](Self::touch).
    pub fn persist(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.set_deadline(key.as_ref(), &InsertOptions::new().no_expiry())
    }

    fn set_deadline(&self, key: &[u8], options: &InsertOptions) -> Result<bool> {
        self.cache.handle().check_key(key)?;
        self.change(|writer| {
            let Some((value, found)) = self.find_fresh(key)? else {
                return Ok(false);
            };
            let terms = Terms {
                version: Some(found.version),
                traits: found.traits.without_idle(),
                // Not shortened at random: it is asked for by name.
                ..options.terms(&Settings::default())
            };
            writer.put_with(key, &value, terms).map(|_| true)
        })
    }

    /// Removes all expired entries. Returns how many.
    ///
    /// Reads the whole index, and the record of each entry that seems expired; takes the lock for the
    /// removals of 1,024 entries at a time.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::keys`] and [`MmapCache::delete`]. What was removed before stays
    /// removed. Passes over damaged entries, and returns the first error about one at the end.
    pub fn sweep(&self) -> Result<u64> {
        let (mut removed, mut expired, mut damaged) = (0, Vec::new(), None);
        for key in self.cache.keys()? {
            let found = key.and_then(|key| Ok(self.find(&key)?.map(|(_, terms)| (key, terms))));
            match found {
                Ok(Some((key, terms))) if !terms.is_fresh() => expired.push(key),
                Ok(_) => {}
                Err(error) if error.is_of_one_entry() => {
                    damaged.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
            if expired.len() == SWEPT_AT_ONCE {
                removed += self.remove_expired(&mut expired)?;
            }
        }
        removed += self.remove_expired(&mut expired)?;
        damaged.map_or(Ok(removed), Err)
    }

    fn remove_expired(&self, keys: &mut Vec<Vec<u8>>) -> Result<u64> {
        if keys.is_empty() {
            return Ok(0);
        }
        self.change(|writer: &mut Writer<'_>| {
            let mut removed = 0;
            for key in keys.drain(..) {
                // It may have been put again since.
                let found = self.find(&key)?.filter(|(_, terms)| !terms.is_fresh());
                let Some((value, terms)) = found else {
                    continue;
                };
                if writer.delete_bytes(&key)? {
                    removal::removed(self.cache.handle(), &key, Some((value.len(), terms)));
                    removed += 1;
                }
            }
            Ok(removed)
        })
    }

    /// Removes all entries, as [`MmapCache::clear`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::clear`].
    pub fn clear(&self) -> Result<()> {
        self.cache.clear()
    }

    /// Writes all changes to the disk, as [`MmapCache::flush`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::flush`].
    pub fn flush(&self) -> Result<()> {
        self.cache.flush()
    }

    /// Returns the number of entries, those that expired and are not removed yet included. One atomic
    /// load.
    pub fn len_with_expired(&self) -> u64 {
        self.cache.len()
    }

    /// Begins a verification, as [`MmapCache::verify`].
    pub fn verify(&self) -> Verify<'_> {
        self.cache.verify()
    }

    /// Begins a backup while others write, as [`MmapCache::backup`]. It keeps every deadline.
    pub fn backup(&self) -> Backup<'_> {
        self.cache.backup()
    }

    /// Returns the bytes that the files take on the disk, as [`MmapCache::disk_usage`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::disk_usage`].
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        self.cache.disk_usage()
    }

    /// Returns sizes of the files, and what was counted of lookups and entries: by this handle, and by
    /// all processes.
    ///
    /// Takes no lock. A handle counts in memory. It adds that to the file, for others to see, here, when
    /// it is dropped, and whenever a thread has counted another 1,024 events of a kind; a kill loses the
    /// rest. Handles that cannot store to the file add nothing: read-only ones, and, until its next
    /// write, one that found files which another program may have changed. A forked child counts from
    /// zero.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::stats`].
    pub fn stats(&self) -> Result<CacheStats> {
        CacheStats::of(self.cache.handle())
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.cache.handle().fold_statistics();
    }
}

/// Expired entries that are removed under one lock.
const SWEPT_AT_ONCE: usize = 1_024;

/// Returns the time that deadlines are compared with, in milliseconds since the Unix epoch.
fn now() -> u64 {
    unix_millis()
}
