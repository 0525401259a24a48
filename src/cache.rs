//! [`Cache`]: keys and values that expire.
//!
//! The engine stores deadlines, and keeps entries whose deadline has passed until they are replaced or
//! removed; `cache::freshness` decides when an entry is fresh. May call `mmap_cache` and everything
//! below it.

mod deadlines;
mod entry;
mod found;
mod groups;
mod insert;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::engine::read::lookup::Answer;
use crate::engine::write::limits;
use crate::engine::write::put::Terms;
use crate::engine::{Backup, DiskUsage, Options, Stats, Verify, Version, Writer};
use crate::error::{Error, ErrorKind, Result};
use crate::format::internal::{self, GroupKind, StoredDeadline};
use crate::format::record::{Traits, Variant};
use crate::mmap_cache::MmapCache;

use crate::cache::found::Found;
use crate::cache::groups::GroupMemory;

pub use crate::cache::entry::CacheEntry;
pub use crate::cache::insert::InsertOptions;

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
/// 37 hours. After it the entry is stale for [as long as it was given](InsertOptions::stale_for), and
/// methods find it as before; then it is expired. An expired or invalidated entry is absent to every
/// method, and takes room until its key is put or removed, or [`sweep`](Self::sweep) removes it.
/// Deadlines survive restarts, backups and repairs. If the clock is set back, entries live longer by as
/// much.
///
/// # Groups
///
/// An entry may belong to a [tag](InsertOptions::tag) and to a [namespace](InsertOptions::namespace).
/// Each can be invalidated: all entries that it has then are absent from the next lookup on, in every
/// process.
///
/// # Keys
///
/// The cache keeps entries of its own, whose keys begin with 16 random bytes. Methods refuse such keys
/// with [`ErrorKind::Unsupported`].
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
    groups: GroupMemory,
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
        Ok(Self {
            cache,
            groups: GroupMemory::new(),
        })
    }

    /// Returns the path of the index, with all symbolic links resolved.
    pub fn path(&self) -> &Path {
        self.cache.path()
    }

    /// Returns the value of a key, or `None` if there is no fresh or stale value: no entry, an expired,
    /// invalidated or damaged one, or a [negative](Self::insert_absent) one.
    ///
    /// O(1), without a lock. Reads the clock if the entry has a deadline. The groups of an entry are
    /// looked up after each invalidation of any group, and remembered until the next.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::get`].
    #[inline]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        self.get_bytes(key.as_ref())
    }

    fn get_bytes(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.check_key(key)?;
        match found::find(self.cache.handle(), &self.groups, key)? {
            Answer::Found(found) if found.is_served() && !found.traits.is_negative() => {
                Ok(Some(found.value))
            }
            _ => Ok(None),
        }
    }

    /// Returns the fresh or stale entry of a key, which may be a negative one; `None` if there is none.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::entry`].
    pub fn entry(&self, key: impl AsRef<[u8]>) -> Result<Option<CacheEntry>> {
        let key = key.as_ref();
        self.check_key(key)?;
        Ok(self.find(key)?.filter(Found::is_served).map(entry::of))
    }

    /// Returns whether a key has a fresh or stale value. Reads its record, as [`get`](Self::get) does.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get`](Self::get).
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.get_bytes(key.as_ref()).map(|value| value.is_some())
    }

    /// Refuses a key that callers may not use.
    #[inline]
    fn check_key(&self, key: &[u8]) -> Result<()> {
        let handle = self.cache.handle();
        handle.check_key(key)?;
        // No id is longer than a short key.
        if key.len() >= 16 && internal::is_reserved(&handle.generation.load().ids.cache, key) {
            return Err(self.reserved_key());
        }
        Ok(())
    }

    #[cold]
    fn reserved_key(&self) -> Error {
        ErrorKind::Unsupported {
            what: "a key that begins with the id of the cache, which the cache keeps for itself; \
                   choose another key",
        }
        .at(self.path())
    }

    /// As [`check_key`](Self::check_key), and refuses a value that no put can store.
    fn check_put(&self, key: &[u8], stored: &[u8]) -> Result<()> {
        self.check_key(key)?;
        limits::check_put(self.cache.handle(), key, stored)
    }

    /// Finds an entry, whatever its state.
    fn find(&self, key: &[u8]) -> Result<Option<Found>> {
        match found::find(self.cache.handle(), &self.groups, key)? {
            Answer::Found(found) => Ok(Some(found)),
            Answer::Absent => Ok(None),
            Answer::Damaged(error) => Err(error),
        }
    }

    /// Finds a fresh or stale entry for a writer, to which a damaged one is absent.
    fn find_served(&self, key: &[u8]) -> Result<Option<Found>> {
        match self.find(key) {
            Err(error) if error.is_corruption() => Ok(None),
            found => Ok(found?.filter(Found::is_served)),
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
        let stored = options.stored(value);
        self.check_put(key, &stored)?;
        let terms = options.terms();
        self.cache
            .write(|writer| writer.put_with(key, &stored, terms))
    }

    /// Stores a value if the key has no fresh or stale entry, decided under the lock. Returns the new
    /// version, or `None` if it has one, which may be a negative one.
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
        let stored = options.stored(value);
        self.check_put(key, &stored)?;
        self.cache.write(|writer| {
            if self.find_served(key)?.is_some() {
                return Ok(None);
            }
            writer.put_with(key, &stored, options.terms()).map(Some)
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
        self.check_put(key, &[])?;
        let terms = Terms {
            traits: Traits::NEGATIVE,
            ..InsertOptions::new().ttl(ttl).terms()
        };
        self.cache.write(|writer| writer.put_with(key, &[], terms))
    }

    /// Removes the entry of a key. Returns whether it had a fresh or stale one.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::delete`].
    pub fn remove(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        let key = key.as_ref();
        self.check_key(key)?;
        self.cache.write(|writer| {
            let found = self.find_served(key)?;
            self.delete(writer, key, found.as_ref())?;
            Ok(found.is_some())
        })
    }

    /// Deletes an entry, and then what is stored of it elsewhere.
    fn delete(&self, writer: &mut Writer<'_>, key: &[u8], found: Option<&Found>) -> Result<bool> {
        let deleted = writer.delete_bytes(key)?;
        if found.is_some_and(|found| deadlines::are_apart(key, found.value.len())) {
            deadlines::forget(writer, self.cache.handle(), key)?;
        }
        Ok(deleted)
    }

    /// Gives the fresh or stale entry of a key another deadline, `ttl` from now; its value, version,
    /// groups and [`stale_for`](InsertOptions::stale_for) stay. Returns whether there was one.
    ///
    /// As durable as a put. Reads the value. Appends the entry to the heap again, with its value if that
    /// has at most 4,096 bytes, otherwise without it.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::put`].
    pub fn touch(&self, key: impl AsRef<[u8]>, ttl: Duration) -> Result<bool> {
        self.set_deadline(key.as_ref(), &InsertOptions::new().ttl(ttl))
    }

    /// Takes the deadline from the fresh or stale entry of a key, as [`touch`](Self::touch).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`touch`](Self::touch).
    pub fn persist(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.set_deadline(key.as_ref(), &InsertOptions::new())
    }

    fn set_deadline(&self, key: &[u8], options: &InsertOptions) -> Result<bool> {
        self.check_key(key)?;
        self.cache.write(|writer| {
            let Some(found) = self.find_served(key)? else {
                return Ok(false);
            };
            let terms = Terms {
                version: Some(found.version),
                traits: found.traits,
                ..options.terms()
            };
            let mut stored = found.value;
            if deadlines::are_apart(key, stored.len()) {
                let apart = StoredDeadline {
                    version: found.version,
                    deadline: terms.deadline,
                };
                deadlines::store(writer, self.cache.handle(), key, apart)?;
                return Ok(true);
            }
            found.extension.append_to(&mut stored);
            writer.put_with(key, &stored, terms).map(|_| true)
        })
    }

    /// Invalidates all entries with a [tag](InsertOptions::tag) that are there now. From its return on no
    /// lookup of any process returns them.
    ///
    /// O(1): one put of some 50 bytes, however many entries there are. As durable as a put. The tag takes
    /// this room from then on, and counts as one entry for [`Options::max_entries`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # use mmapcache::{Cache, InsertOptions};
    /// # let cache = Cache::open(dir.path().join("pages"))?;
    /// let of_alice = InsertOptions::new().tag("user:alice");
    /// cache.insert_with("/alice/index.html", "<h1>Alice</h1>", &of_alice)?;
    /// cache.invalidate_tag("user:alice")?;
    /// assert_eq!(cache.get("/alice/index.html")?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::put`]. After one some lookups may have seen the invalidation.
    pub fn invalidate_tag(&self, tag: impl AsRef<[u8]>) -> Result<()> {
        self.invalidate(internal::group_hash(GroupKind::Tag, tag.as_ref()))
    }

    /// Invalidates all entries in a [namespace](InsertOptions::namespace) that are there now, as
    /// [`invalidate_tag`](Self::invalidate_tag).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`invalidate_tag`](Self::invalidate_tag).
    pub fn invalidate_namespace(&self, namespace: impl AsRef<[u8]>) -> Result<()> {
        self.invalidate(internal::group_hash(
            GroupKind::Namespace,
            namespace.as_ref(),
        ))
    }

    fn invalidate(&self, group: u64) -> Result<()> {
        self.cache
            .write(|writer| groups::invalidate(writer, self.cache.handle(), group))
    }

    /// Returns the version of the last change: where a computation begins whose result
    /// [`insert_computed`](Self::insert_computed) is going to store. One atomic load.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Options::open`] if the files were replaced.
    pub fn last_version(&self) -> Result<Version> {
        let (generation, _) = self.cache.handle().current()?;
        Ok(Version(generation.header().last_version()))
    }

    /// Stores a value as [`insert_with`](Self::insert_with), unless one of its groups was invalidated
    /// after `since`: then the value may have been computed from what the invalidation was about.
    /// Decided under the lock. Returns the new version, or `None` if the value was not stored.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`insert_with`](Self::insert_with) and [`get`](Self::get).
    pub fn insert_computed(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &InsertOptions,
        since: Version,
    ) -> Result<Option<Version>> {
        let (key, stored) = (key.as_ref(), options.stored(value.as_ref()));
        self.check_put(key, &stored)?;
        self.cache.write(|writer| {
            let handle = self.cache.handle();
            let seen = handle.current()?.0.header().invalidations();
            let upto = groups::invalidated_upto(handle, &self.groups, options.extension(), seen)?;
            if upto.is_none_or(|upto| upto > since.0) {
                return Ok(None);
            }
            writer.put_with(key, &stored, options.terms()).map(Some)
        })
    }

    /// Removes all expired and invalidated entries. Returns how many.
    ///
    /// Reads the whole index, and the records; takes the lock for the removals of 1,024 entries at a
    /// time.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::keys`] and [`MmapCache::delete`]. What was removed before stays
    /// removed. Passes over damaged entries, and returns the first error about one at the end.
    pub fn sweep(&self) -> Result<u64> {
        let (mut removed, mut ended, mut damaged) = (0, Vec::new(), None);
        for key in self.cache.keys()? {
            match key.and_then(|key| Ok(self.has_ended(&key)?.then_some(key))) {
                Ok(key) => ended.extend(key),
                Err(error) if error.is_of_one_entry() => {
                    damaged.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
            if ended.len() == SWEPT_AT_ONCE {
                removed += self.remove_ended(&mut ended)?;
            }
        }
        removed += self.remove_ended(&mut ended)?;
        damaged.map_or(Ok(removed), Err)
    }

    /// Returns whether the entry of a key is there and is not served any more. Of the entries of the
    /// cache itself, a deadline has ended if the entry that it belongs to has.
    fn has_ended(&self, key: &[u8]) -> Result<bool> {
        let cache = self.cache.handle().generation.load().ids.cache;
        if !internal::is_reserved(&cache, key) {
            let found = self.find(key)?;
            return Ok(found.is_some_and(|found| !found.is_served()));
        }
        match internal::key_of_deadline(key) {
            Some(owner) => deadlines::are_unused(self.cache.handle(), owner),
            None => Ok(false),
        }
    }

    fn remove_ended(&self, keys: &mut Vec<Vec<u8>>) -> Result<u64> {
        if keys.is_empty() {
            return Ok(0);
        }
        self.cache.write(|writer: &mut Writer<'_>| {
            let mut removed = 0;
            for key in keys.drain(..) {
                // It may have been put again since.
                if self.has_ended(&key)? && writer.delete_bytes(&key)? {
                    removed += u64::from(self.check_key(&key).is_ok());
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

    /// Returns the number of entries, those that expired and are not removed yet included, and those that
    /// the cache keeps for itself: one for each group that was invalidated, and for each touched value of
    /// more than 4,096 bytes. One atomic load.
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

/// Entries that are removed under one lock.
const SWEPT_AT_ONCE: usize = 1_024;
