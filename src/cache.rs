//! [`Cache`]: keys and values that expire.
//!
//! Decides when an entry is fresh. The engine stores deadlines, and keeps entries whose deadline has
//! passed until they are replaced or removed. May call `mmap_cache` and everything below it.

mod batch;
mod counter;
mod entry;
mod insert;
mod listing;
#[cfg(test)]
mod tests;
#[cfg(feature = "serde")]
mod typed;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::engine::read::lookup::{self, Answer, EntryTerms};
use crate::engine::write::limits;
use crate::engine::write::put::Terms;
use crate::engine::{Backup, DiskUsage, Options, Stats, Verify, Version, Writer};
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::Result;
use crate::format::record::{Traits, Variant};
use crate::mmap_cache::MmapCache;
use crate::os::clock::unix_millis;

pub use crate::cache::batch::CacheWriter;
pub use crate::cache::entry::CacheEntry;
pub use crate::cache::insert::InsertOptions;
pub use crate::cache::listing::{CacheEntries, CacheKeys};
#[cfg(feature = "serde")]
pub use crate::cache::typed::TypedCache;

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
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cache.handle().describe("Cache", f)
    }
}

impl Cache {
    /// Opens the cache at `path` with the default [`Options`]; creates it if there is none.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`open_with`](Self::open_with).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &Options::new())
    }

    /// Opens the cache at `path` with these options. `append_only` has no effect.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Options::open`], and [`ErrorKind::OtherType`] if an [`MmapCache`] or
    /// [`Labels`](crate::Labels) made the files at the path.
    pub fn open_with(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let options = Options {
            variant: Variant::Expiring,
            append_only: None,
            ..options.clone()
        };
        let cache = MmapCache::open_with(path.as_ref(), &options)?;
        Ok(Self { cache })
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
        let mut value = Vec::new();
        Ok(self.get_bytes_into(key, &mut value)?.then_some(value))
    }

    fn get_bytes_into(&self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        value.clear();
        match lookup::read_terms(self.cache.handle(), key, value)? {
            Answer::Found(terms) if has_value(&terms) => Ok(true),
            _ => {
                value.clear();
                Ok(false)
            }
        }
    }

    /// Returns the fresh entry of a key, which may be a negative one; `None` if there is none.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::entry`].
    pub fn entry(&self, key: impl AsRef<[u8]>) -> Result<Option<CacheEntry>> {
        let found = self.find(key.as_ref())?;
        Ok(found.filter(|(_, terms)| terms.is_fresh()).map(entry::of))
    }

    /// Returns the entry of a key as the files have it, fresh or [expired](CacheEntry::is_expired): for
    /// tools. `None` if there is none.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::entry`].
    pub fn stored_entry(&self, key: impl AsRef<[u8]>) -> Result<Option<CacheEntry>> {
        Ok(self.find(key.as_ref())?.map(entry::of))
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
    fn find_fresh(&self, key: &[u8]) -> Result<Option<(Vec<u8>, EntryTerms)>> {
        match self.find(key) {
            Err(error) if error.is_corruption() => Ok(None),
            found => Ok(found?.filter(|(_, terms)| terms.is_fresh())),
        }
    }

    /// Stores a value without a deadline; replaces the key's entry, if any. Returns the new version.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::put`].
    pub fn insert(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Version> {
        self.insert_bytes(key.as_ref(), value.as_ref(), &InsertOptions::new())
    }

    /// Stores a value with a deadline; replaces the key's entry, if any. Returns the new version.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::put`].
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
        let terms = options.terms();
        self.cache
            .write(|writer| writer.put_with(key, value, terms))
    }

    /// Stores a value if the key has no fresh entry, decided under the lock. Returns the new version, or
    /// `None` if it has one, which may be a negative one.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::insert_if_absent`].
    pub fn add(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &InsertOptions,
    ) -> Result<Option<Version>> {
        let (key, value) = (key.as_ref(), value.as_ref());
        limits::check_put(self.cache.handle(), key, value)?;
        self.cache.write(|writer| {
            if self.find_fresh(key)?.is_some() {
                return Ok(None);
            }
            writer.put_with(key, value, options.terms()).map(Some)
        })
    }

    /// Stores that a key is known not to exist, for a time: a negative entry, which
    /// [`entry`](Self::entry) tells from an absent one, and which [`get`](Self::get) does not return.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::put`].
    pub fn insert_absent(&self, key: impl AsRef<[u8]>, ttl: Duration) -> Result<Version> {
        let key = key.as_ref();
        limits::check_put(self.cache.handle(), key, &[])?;
        let terms = Terms {
            traits: Traits::NEGATIVE,
            ..InsertOptions::new().ttl(ttl).terms()
        };
        self.cache.write(|writer| writer.put_with(key, &[], terms))
    }

    /// Removes the entry of a key. Returns whether it had a fresh one.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::delete`].
    pub fn remove(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        let key = key.as_ref();
        self.cache.handle().check_key(key)?;
        self.cache.write(|writer| {
            let was_fresh = self.find_fresh(key)?.is_some();
            writer.delete_bytes(key)?;
            Ok(was_fresh)
        })
    }

    /// Gives the fresh entry of a key another deadline, `ttl` from now; its value and version stay.
    /// Returns whether there was one.
    ///
    /// As durable as a put. Appends the entry to the heap again, with its value.
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
        self.set_deadline(key.as_ref(), &InsertOptions::new())
    }

    fn set_deadline(&self, key: &[u8], options: &InsertOptions) -> Result<bool> {
        self.cache.handle().check_key(key)?;
        self.cache.write(|writer| {
            let Some((value, found)) = self.find_fresh(key)? else {
                return Ok(false);
            };
            let terms = Terms {
                version: Some(found.version),
                traits: found.traits,
                ..options.terms()
            };
            writer.put_with(key, &value, terms).map(|_| true)
        })
    }

    /// Replaces the contents of `value` by the value of a key. Returns whether there is a fresh one; if
    /// not, `value` is empty. As [`get`](Self::get), without an allocation if the buffer is large enough.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get`](Self::get); then `value` has no defined contents.
    pub fn get_into(&self, key: impl AsRef<[u8]>, value: &mut Vec<u8>) -> Result<bool> {
        self.get_bytes_into(key.as_ref(), value)
    }

    /// Looks up many keys. Calls `each` with the position of each key, in order from 0, and the value
    /// that [`get`](Self::get) would return for it.
    ///
    /// Each key is a lookup of its own. Prefetches what a group of 16 keys needs, as
    /// [`MmapCache::get_many`], and allocates one buffer for any number of keys.
    ///
    /// # Errors
    ///
    /// Returns the error of the first key that has one, as [`get`](Self::get). `each` was called for the
    /// keys before it, and is not called for those after it.
    pub fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
        mut each: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<()> {
        let keys = keys.into_iter();
        lookup::read_many_terms(self.cache.handle(), keys, |number, terms, value| {
            each(number, terms.filter(has_value).map(|_| value));
        })
    }

    /// Stores a value if the key has a fresh one, decided under the lock. Returns the new version, or
    /// `None` if it has none: no entry, or an expired, damaged or negative one.
    ///
    /// The options are those of the new entry: without a deadline in them, it has none.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::put_if`].
    pub fn replace(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &InsertOptions,
    ) -> Result<Option<Version>> {
        let (key, value) = (key.as_ref(), value.as_ref());
        limits::check_put(self.cache.handle(), key, value)?;
        self.cache.write(|writer| match self.find_fresh(key)? {
            Some((_, terms)) if has_value(&terms) => {
                writer.put_with(key, value, options.terms()).map(Some)
            }
            _ => Ok(None),
        })
    }

    /// Removes the entry of a key, and returns its value; `None` if there is no fresh value. Of several
    /// threads or processes that take a key at once, one gets the value.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::delete`].
    pub fn take(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        let key = key.as_ref();
        self.cache.handle().check_key(key)?;
        self.cache.write(|writer| {
            let found = self.find_fresh(key)?;
            writer.delete_bytes(key)?;
            Ok(found.and_then(|(value, terms)| has_value(&terms).then_some(value)))
        })
    }

    /// Adds to a counter and returns its new value, under the lock: no addition of another thread or
    /// process is lost. `by` may be negative.
    ///
    /// The value of a counter is an `i64` in 8 little-endian bytes: [`insert`](Self::insert) of
    /// `5_i64.to_le_bytes()` sets it, and `increment` by 0 reads it. Without a fresh value the counter
    /// begins at 0, with `options`. An existing counter keeps its deadline instead; if that is more than
    /// 37 hours away, each call may move it forward by 1/2^26 of the remaining time, never back.
    ///
    /// Costs a lookup and a put.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let cache = mmapcache::Cache::open(dir.path().join("c"))?;
    /// use std::time::Duration;
    /// use mmapcache::InsertOptions;
    ///
    /// let each_minute = InsertOptions::new().ttl(Duration::from_secs(60));
    /// assert_eq!(cache.increment("requests/10.0.0.1", 1, &each_minute)?, 1);
    /// assert_eq!(cache.increment("requests/10.0.0.1", 1, &each_minute)?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::NotACounter`] if the value is not 8 bytes long, [`ErrorKind::CounterOverflow`]
    /// instead of wrapping, and the errors of [`MmapCache::update`]. The value is unchanged then.
    pub fn increment(
        &self,
        key: impl AsRef<[u8]>,
        by: i64,
        options: &InsertOptions,
    ) -> Result<i64> {
        let key = key.as_ref();
        limits::check_put(self.cache.handle(), key, &counter::encode(0))?;
        self.cache.write(|writer| {
            let found = self.find_fresh(key)?;
            let found = found.filter(|(_, terms)| has_value(terms));
            let (was, terms) = match &found {
                Some((value, found)) => (Some(&value[..]), counter::terms(found)),
                None => (None, options.terms()),
            };
            let sum = counter::add(was, by).map_err(|kind| kind.at(self.path()))?;
            writer.put_with(key, &counter::encode(sum), terms)?;
            Ok(sum)
        })
    }

    /// Returns an iterator over the fresh entries with their keys, negative ones too, in no particular
    /// order.
    ///
    /// As [`MmapCache::keys`]: takes no lock and O(1) memory, besides the entry itself. An entry that is
    /// fresh during the whole listing is returned once; one that is inserted, removed or touched during
    /// it may be missing. Costs a lookup for each entry of the files, expired ones too.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::keys`]; so can items. A damaged entry is an `Err` item, and the
    /// listing continues.
    pub fn entries(&self) -> Result<CacheEntries<'_>> {
        CacheEntries::new(self)
    }

    /// Returns an iterator over the keys of [`entries`](Self::entries). Reads each entry too, for its
    /// deadline.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`entries`](Self::entries).
    pub fn keys(&self) -> Result<CacheKeys<'_>> {
        self.entries().map(CacheKeys)
    }

    /// Takes the writer lock for a batch of changes: one lock, and one sync if that is asked for, instead
    /// of one for each. Other writers wait for the whole batch, readers do not.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::writer`].
    pub fn writer(&self) -> Result<CacheWriter<'_>> {
        CacheWriter::take(self)
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
        self.cache.write(|writer: &mut Writer<'_>| {
            let mut removed = 0;
            for key in keys.drain(..) {
                // It may have been put again since.
                let is_expired = self.find(&key)?.is_some_and(|(_, terms)| !terms.is_fresh());
                if is_expired && writer.delete_bytes(&key)? {
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

    /// Returns counters and sizes, as [`MmapCache::stats`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::stats`].
    pub fn stats(&self) -> Result<Stats> {
        self.cache.stats()
    }
}

/// Expired entries that are removed under one lock.
const SWEPT_AT_ONCE: usize = 1_024;

/// Returns whether an entry has a value that is fresh.
fn has_value(terms: &EntryTerms) -> bool {
    terms.is_fresh() && !terms.traits.is_negative()
}

/// Returns the time that deadlines are compared with, in milliseconds since the Unix epoch.
fn now() -> u64 {
    unix_millis()
}
