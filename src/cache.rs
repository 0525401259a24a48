//! [`Cache`]: keys and values that expire.
//!
//! The engine stores deadlines, and keeps entries whose deadline has passed until they are replaced or
//! removed; `format::freshness` decides when an entry is fresh. May call `mmap_cache` and everything
//! below it.

mod batch;
mod builder;
mod calls;
mod change;
mod compute;
mod compute_options;
mod counter;
mod deadlines;
mod entry;
mod flights;
mod found;
mod groups;
mod idle;
mod insert;
mod insertion;
mod key_lock;
mod listing;
mod obtained;
mod removal;
mod settings;
mod statistics;
mod store;
mod sweep;
#[cfg(test)]
mod tests;
mod touch;
#[cfg(feature = "serde")]
mod typed;
mod usability;

use std::convert::Infallible;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::read::lookup::{self, Answer, EntryTerms};
use crate::engine::statistics::Counter;
use crate::engine::write::limits;
use crate::engine::write::put::Terms;
use crate::engine::{Backup, DiskUsage, Options, Update, Verify, Version, Writer};
use crate::error::{Error, ErrorKind, Result};
use crate::format::freshness::Freshness;
use crate::format::internal::{self, GroupKind};
use crate::format::record::Traits;
use crate::lock::PerProcess;
use crate::mmap_cache::MmapCache;
use crate::os::clock::unix_millis;

use crate::cache::change::Condition;
use crate::cache::compute::{Reply, Shared, Store};
use crate::cache::flights::Flights;
use crate::cache::found::Found;
use crate::cache::groups::GroupMemory;
use crate::cache::removal::OnRemoval;

pub use crate::cache::batch::CacheWriter;
pub use crate::cache::builder::CacheBuilder;
pub use crate::cache::compute_options::ComputeOptions;
pub use crate::cache::entry::CacheEntry;
pub use crate::cache::insert::InsertOptions;
pub use crate::cache::listing::{CacheEntries, CacheKeys};
pub use crate::cache::obtained::{ComputeError, Obtained, Origin};
pub use crate::cache::settings::{CacheSettings, Eviction};
pub use crate::cache::statistics::{CacheCounts, CacheStats, Metric, MetricKind};
#[cfg(feature = "serde")]
pub use crate::cache::typed::TypedCache;
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
    /// The computations that callers of this handle are at, or wait for.
    flights: PerProcess<Arc<Flights<Shared>>>,
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
        settings::read(self.cache.handle()).map(CacheSettings::from_stored)
    }

    /// Changes the cache under the lock, and reports what it removed when the lock is released.
    fn change<T>(&self, change: impl FnOnce(&mut Writer<'_>) -> Result<T>) -> Result<T> {
        let changed = self.cache.write(change);
        self.report_removals();
        changed
    }

    /// As [`change`](Self::change), for the entry of one key.
    fn change_key<T>(
        &self,
        key: &[u8],
        change: impl FnOnce(&mut Writer<'_>) -> Result<T>,
    ) -> Result<T> {
        let changed = self.cache.write_key(key, change);
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
        self.get_found(key, Vec::new())
    }

    /// Looks a key up, with memory for its value.
    #[inline]
    fn get_found(&self, key: &[u8], mut value: Vec<u8>) -> Result<Option<Vec<u8>>> {
        let handle = self.cache.handle();
        value.clear();
        let answer = lookup::read_terms(handle, key, &mut value)?;
        // Most entries: their record says all. No key that the cache keeps for itself is among them.
        if let Answer::Found(terms) = &answer
            && found::is_plainly_fresh(terms, value.len())
        {
            handle.count(Counter::Hits, 1);
            return Ok(Some(value));
        }
        self.get_limited(key, value, answer)
    }

    /// Goes on with a lookup that found an entry about which more must be known, or none.
    #[inline(never)]
    fn get_limited(
        &self,
        key: &[u8],
        value: Vec<u8>,
        answer: Answer<EntryTerms>,
    ) -> Result<Option<Vec<u8>>> {
        self.check_key(key)?;
        let handle = self.cache.handle();
        let found = match found::judged(handle, &self.groups, key, value, answer)? {
            Answer::Found(found) => self.count(key, found),
            Answer::Absent | Answer::Damaged(_) => self.count_miss(),
        };
        Ok(found
            .filter(|found| !found.traits.is_negative())
            .map(|found| found.value))
    }

    /// Counts a lookup that found an entry, and renews its idle time. Returns the entry if it is served.
    #[inline]
    fn count(&self, key: &[u8], found: Found) -> Option<Found> {
        let found = self.count_found(found)?;
        if found.traits.is_idle() {
            self.renew(key, &found);
        }
        Some(found)
    }

    /// Counts a lookup that found an entry. Returns the entry if it is served.
    #[inline]
    fn count_found(&self, found: Found) -> Option<Found> {
        let counter = match found.freshness {
            Freshness::Fresh if found.traits.is_negative() => Counter::NegativeHits,
            Freshness::Fresh => Counter::Hits,
            Freshness::Stale => Counter::StaleHits,
            _ => return self.count_miss(),
        };
        self.cache.handle().count(counter, 1);
        Some(found)
    }

    fn count_miss(&self) -> Option<Found> {
        self.cache.handle().count(Counter::Misses, 1);
        None
    }

    /// Renews the deadline of an entry that a lookup found, if it is time for that.
    #[cold]
    fn renew(&self, key: &[u8], found: &Found) {
        idle::renew(self, key, found);
        self.report_removals();
    }

    /// Returns the fresh or stale entry of a key, which may be a negative one; `None` if there is none.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::entry`].
    pub fn entry(&self, key: impl AsRef<[u8]>) -> Result<Option<CacheEntry>> {
        let key = key.as_ref();
        self.check_key(key)?;
        let found = match self.find(key)? {
            Some(found) => self.count(key, found),
            None => self.count_miss(),
        };
        Ok(found.map(entry::of))
    }

    /// Returns the value of a key as [`get`](Self::get), without using the entry: that does not count for
    /// eviction, renews no deadline, and is not in the [statistics](Self::stats).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get`](Self::get).
    pub fn peek(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        let found = match self.peek_found(key.as_ref()) {
            Err(error) if error.is_corruption() => None,
            found => found?,
        };
        let found = found.filter(|found| !found.traits.is_negative());
        Ok(found.map(|found| found.value))
    }

    /// Returns the entry of a key as [`entry`](Self::entry), without using it, as [`peek`](Self::peek).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`entry`](Self::entry).
    pub fn peek_entry(&self, key: impl AsRef<[u8]>) -> Result<Option<CacheEntry>> {
        Ok(self.peek_found(key.as_ref())?.map(entry::of))
    }

    fn peek_found(&self, key: &[u8]) -> Result<Option<Found>> {
        self.check_key(key)?;
        Ok(self.find_unmarked(key)?.filter(Found::is_served))
    }

    /// Returns the entry of a key as the files have it, fresh or [expired](CacheEntry::is_expired): for
    /// tools. `None` if there is none.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::entry`].
    pub fn stored_entry(&self, key: impl AsRef<[u8]>) -> Result<Option<CacheEntry>> {
        let key = key.as_ref();
        self.check_key(key)?;
        Ok(self.find(key)?.map(entry::of))
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

    /// As [`Self::find`], for those that use no entry: listings and peeks.
    fn find_unmarked(&self, key: &[u8]) -> Result<Option<Found>> {
        match found::find_unmarked(self.cache.handle(), &self.groups, key)? {
            Answer::Found(found) => Ok(Some(found)),
            Answer::Absent => Ok(None),
            Answer::Damaged(error) => Err(error),
        }
    }

    /// As [`find`](Self::find), for a writer, to which a damaged entry is absent.
    fn find_undamaged(&self, key: &[u8]) -> Result<Option<Found>> {
        match self.find(key) {
            Err(error) if error.is_corruption() => Ok(None),
            found => found,
        }
    }

    /// Finds a fresh or stale entry for a writer.
    fn find_served(&self, key: &[u8]) -> Result<Option<Found>> {
        Ok(self.find_undamaged(key)?.filter(Found::is_served))
    }

    /// Finds a fresh or stale value for a writer.
    fn find_value(&self, key: &[u8]) -> Result<Option<Found>> {
        let found = self.find_served(key)?;
        Ok(found.filter(|found| !found.traits.is_negative()))
    }

    /// Stores a value with the life that is the cache's default; replaces the key's entry, if any.
    /// Returns the new version.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::put`], [`ErrorKind::SettingsCorrupted`] if the limits and
    /// defaults are corrupt, and [`ErrorKind::CacheFull`] under [`Eviction::None`].
    pub fn insert(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Version> {
        self.insert_bytes(key.as_ref(), value.as_ref(), &InsertOptions::new())
    }

    /// Stores a value with the life and the groups that the options say; replaces the key's entry, if
    /// any. Returns the new version.
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
        let stored = options.stored(value);
        self.check_put(key, &stored)?;
        self.change_key(key, |writer| {
            insertion::insert(self, writer, key, &stored, options)
        })
    }

    /// Stores a value if the condition holds, decided under the lock.
    fn insert_where(
        &self,
        key: &[u8],
        value: &[u8],
        options: &InsertOptions,
        condition: Condition,
    ) -> Result<Option<Version>> {
        let stored = options.stored(value);
        self.check_put(key, &stored)?;
        self.change_key(key, |writer| {
            change::insert_where(self, writer, key, &stored, options, condition)
        })
    }

    /// Stores a value if the key has no fresh or stale entry, decided under the lock. Returns the new
    /// version, or `None` if it has one, which may be a negative one.
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
        self.insert_where(key.as_ref(), value.as_ref(), options, Condition::Absent)
    }

    /// Returns the value of a key. If there is no fresh one, computes it with `f` and stores it: one
    /// computation at a time for a key, over all threads and processes. The others wait for it and take
    /// its value.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use std::time::Duration;
    /// use mmapcache::{Cache, InsertOptions, Origin};
    ///
    /// let cache = Cache::open(dir.path().join("pages"))?;
    /// let hour = InsertOptions::new().ttl(Duration::from_secs(3_600));
    /// let page = cache.get_or_insert_with("/", hour, || "<h1>Hello</h1>")?;
    /// assert_eq!((&page.value[..], page.origin), (&b"<h1>Hello</h1>"[..], Origin::Computed));
    /// let page = cache.get_or_insert_with("/", hour, || panic!("it is stored") as String)?;
    /// assert_eq!(page.origin, Origin::Stored);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Concurrency
    ///
    /// `f` runs without the writer lock, and without any lock that another key needs; it may use the
    /// cache, and compute other keys. Asking for the same key within `f`, in the same thread and by the
    /// same handle, is [`ErrorKind::AlreadyComputing`].
    ///
    /// If `f` fails or panics, one of the waiters computes next; the panic unwinds to its caller. If the
    /// process that computes dies, by whatever cause, a waiter begins at most 10 ms later. A computation
    /// that lasts longer than the [`patience`](ComputeOptions::patience) of a waiter, in a stopped
    /// process for example, is joined by one more; so is one of two computations that wait for each
    /// other. Each stuck computation costs a waiter its patience once.
    ///
    /// A value that another call stored under the key during the computation stays, and is returned: what
    /// was computed from older data does not replace it. If a group of the value was invalidated during
    /// the computation, the value is returned and not stored. A removal of the key during it is not noticed.
    /// If the files are replaced during it ([`clear`](Self::clear), a repair), another one may begin.
    ///
    /// Waiters of another process look for the value after pauses of a quarter of the time that they have
    /// waited, 50 us to 10 ms; those of this handle are woken. A value that expires before they look is
    /// computed once for each process. A forked child takes part in no computation of its parent; one that
    /// is forked inside `f` goes on with `f` on its own. Where the system lacks locks of open file
    /// descriptions (all but Linux), processes do not wait for each other.
    ///
    /// # Stale values
    ///
    /// Within the time in which a stale value is served, and for
    /// [early recomputations](ComputeOptions::early), one caller computes and returns the new value;
    /// the others return the old one at once. A [negative](Self::insert_absent) entry counts as none.
    ///
    /// # Errors
    ///
    /// - [`ComputeError::NotStored`], with the value, for the errors of [`MmapCache::put`].
    /// - [`ComputeError::Cache`] for an error of a lookup, if the index cannot be opened for the lock, and
    ///   if a computation is needed by a read-only handle ([`ErrorKind::ReadOnly`]).
    ///
    /// # Cost
    ///
    /// A hit is one lookup, without a lock and without a system call. A computation opens the index once:
    /// it takes one file descriptor and some eight system calls besides `f` and the put.
    pub fn get_or_insert_with<V: Into<Vec<u8>>>(
        &self,
        key: impl AsRef<[u8]>,
        options: impl Into<ComputeOptions>,
        f: impl FnOnce() -> V,
    ) -> std::result::Result<Obtained, ComputeError<Infallible>> {
        self.get_or_try_insert_with(key, options, || Ok(f()))
    }

    /// As [`get_or_insert_with`](Self::get_or_insert_with), for a computation that may fail. What failed
    /// is not stored: [`stale_on_error`](ComputeOptions::stale_on_error) says whether an expired value may
    /// stand in for it.
    ///
    /// # Errors
    ///
    /// Returns [`ComputeError::Failed`] with the error of `f`, and the errors of
    /// [`get_or_insert_with`](Self::get_or_insert_with).
    pub fn get_or_try_insert_with<V: Into<Vec<u8>>, E>(
        &self,
        key: impl AsRef<[u8]>,
        options: impl Into<ComputeOptions>,
        f: impl FnOnce() -> std::result::Result<V, E>,
    ) -> std::result::Result<Obtained, ComputeError<E>> {
        let (key, options) = (key.as_ref(), options.into());
        if let Some(found) = calls::find_at_once(self, key, &options)? {
            return Ok(found);
        }
        let f = || f().map(|value| (Some(value.into()), ()));
        let reply = compute::obtain(self, key, &options, compute::only_values, f);
        calls::end(self, reply).map(Reply::into_obtained)
    }

    /// As [`get_or_try_insert_with`](Self::get_or_try_insert_with), for keys that may be known not to
    /// exist: `None` is stored as a negative entry, for [`absent_for`](ComputeOptions::absent_for), and
    /// returned without a computation while that is fresh.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get_or_try_insert_with`](Self::get_or_try_insert_with); the error of the
    /// put itself for a negative entry that could not be stored.
    pub fn get_or_try_insert_optional_with<V: Into<Vec<u8>>, E>(
        &self,
        key: impl AsRef<[u8]>,
        options: impl Into<ComputeOptions>,
        f: impl FnOnce() -> std::result::Result<Option<V>, E>,
    ) -> std::result::Result<Option<Obtained>, ComputeError<E>> {
        let (key, options) = (key.as_ref(), options.into());
        if let Some(found) = calls::find_at_once(self, key, &options)? {
            return Ok(Some(found));
        }
        let f = || f().map(|value| (value.map(Into::into), ()));
        let reply = compute::obtain(self, key, &options, |_| Some(()), f);
        calls::end(self, reply).map(Reply::into_optional)
    }

    /// As [`get_or_try_insert_with`](Self::get_or_try_insert_with), as a future for any executor: a task
    /// that waits holds no thread. `sleep` is the executor's timer, such as `tokio::time::sleep`.
    ///
    /// Of the tasks and threads of this handle that wait for a key, the timer wakes one, to look for the
    /// computation of another process; the others are woken when there is a value. Dropping the future
    /// ends its computation, and another one begins.
    ///
    /// Lookups and the put run in the task itself. They take microseconds, unless the files are not in
    /// memory or the disk is slow, and the put waits for the writer lock: call it by the executor's means
    /// for blocking code then. Asking for the same key within `f` is not noticed, and costs the patience.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get_or_try_insert_with`](Self::get_or_try_insert_with).
    pub async fn get_or_try_insert_async<V: Into<Vec<u8>>, E, D, F>(
        &self,
        key: impl AsRef<[u8]>,
        options: impl Into<ComputeOptions>,
        sleep: impl Fn(Duration) -> D,
        f: impl FnOnce() -> F,
    ) -> std::result::Result<Obtained, ComputeError<E>>
    where
        D: Future<Output = ()>,
        F: Future<Output = std::result::Result<V, E>>,
    {
        let options = options.into();
        if let Some(found) = calls::find_at_once(self, key.as_ref(), &options)? {
            return Ok(found);
        }
        let f = || async { f().await.map(|value| (Some(value.into()), ())) };
        let accept = compute::only_values;
        let reply = compute::obtain_async(self, key.as_ref(), &options, accept, sleep, f).await;
        calls::end(self, reply).map(Reply::into_obtained)
    }

    /// Stores that a key is known not to exist, for a time: a negative entry, which
    /// [`entry`](Self::entry) tells from an absent one, and which [`get`](Self::get) does not return.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`insert`](Self::insert).
    pub fn insert_absent(&self, key: impl AsRef<[u8]>, ttl: Duration) -> Result<Version> {
        let key = key.as_ref();
        self.check_put(key, &[])?;
        let options = InsertOptions::new().ttl(ttl);
        self.change_key(key, |writer| {
            let terms = Terms {
                traits: Traits::NEGATIVE,
                ..insertion::terms(writer, &options)?
            };
            insertion::put(self, writer, key, &[], terms)
        })
    }

    /// Removes the entry of a key. Returns whether it had a fresh or stale one.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::delete`].
    pub fn remove(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        let key = key.as_ref();
        self.check_key(key)?;
        self.change_key(key, |writer| change::remove(self, writer, key))
    }

    /// Deletes an entry, and then what is stored of it elsewhere; notes that it is removed.
    fn delete(&self, writer: &mut Writer<'_>, key: &[u8], found: Option<&Found>) -> Result<bool> {
        let deleted = writer.delete_bytes(key)?;
        if deleted {
            removal::removed(self.cache.handle(), key, found);
        }
        if found.is_some_and(|found| deadlines::are_apart(key, found.value.len())) {
            deadlines::forget(writer, self.cache.handle(), key)?;
        }
        Ok(deleted)
    }

    /// Gives the fresh or stale entry of a key another deadline, `ttl` from now; its value, version,
    /// groups and [`stale_for`](InsertOptions::stale_for) stay. Returns whether there was one.
    ///
    /// As durable as a put. Reads the value. Appends the entry to the heap again, with its value if that
    /// has at most 4,096 bytes, otherwise without it. From then on lookups do not renew the deadline, see
    /// [`CacheBuilder::time_to_idle`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::put`].
    pub fn touch(&self, key: impl AsRef<[u8]>, ttl: Duration) -> Result<bool> {
        self.set_deadline(key.as_ref(), &InsertOptions::new().ttl(ttl))
    }

    /// Returns the value of a key, as [`get`](Self::get), and lets it live until `ttl` from now: a time to
    /// idle for some entries, where [`CacheBuilder::time_to_idle`] is one for all.
    ///
    /// As there, the deadline is renewed only if that gains a tenth of `ttl` or more, so that most calls
    /// write nothing; an entry may expire up to a tenth earlier. If another writer is at work, the renewal
    /// is left to the next call. A later deadline stays, and so does none; a stale value does not become
    /// fresh again. A read-only handle renews nothing. A renewal that fails is logged, for debugging: the
    /// value is returned.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get`](Self::get).
    pub fn get_and_renew(&self, key: impl AsRef<[u8]>, ttl: Duration) -> Result<Option<Vec<u8>>> {
        let key = key.as_ref();
        self.check_key(key)?;
        let found = match found::find(self.cache.handle(), &self.groups, key)? {
            Answer::Found(found) => self.count(key, found),
            Answer::Absent | Answer::Damaged(_) => self.count_miss(),
        };
        let Some(found) = found.filter(|found| !found.traits.is_negative()) else {
            return Ok(None);
        };
        self.prolong(key, &found, ttl);
        Ok(Some(found.value))
    }

    /// Takes the deadline from the fresh or stale entry of a key, as [`touch`](Self::touch).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`touch`](Self::touch).
    pub fn persist(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.set_deadline(key.as_ref(), &InsertOptions::new().no_expiry())
    }

    fn set_deadline(&self, key: &[u8], options: &InsertOptions) -> Result<bool> {
        self.check_key(key)?;
        self.change_key(key, |writer| {
            change::set_deadline(self, writer, key, options.deadline())
        })
    }

    /// Replaces the contents of `value` by the value of a key. Returns whether there is a fresh one; if
    /// not, `value` is empty. As [`get`](Self::get), without an allocation if the buffer is large enough.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get`](Self::get); then `value` is empty.
    pub fn get_into(&self, key: impl AsRef<[u8]>, value: &mut Vec<u8>) -> Result<bool> {
        let found = self.get_found(key.as_ref(), std::mem::take(value))?;
        let is_found = found.is_some();
        *value = found.unwrap_or_default();
        Ok(is_found)
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
        let mut keys = keys.into_iter().fuse();
        let (mut value, mut number) = (Vec::new(), 0);
        loop {
            let group: [Option<K>; lookup::LANES] = std::array::from_fn(|_| keys.next());
            lookup::prefetch_group(self.cache.handle(), &group)?;
            for key in &group {
                let Some(key) = key else {
                    return Ok(());
                };
                let is_found = self.get_into(key, &mut value)?;
                each(number, is_found.then_some(&value[..]));
                number += 1;
            }
        }
    }

    /// Stores a value if the key has a fresh one, decided under the lock. Returns the new version, or
    /// `None` if it has none: no entry, or an expired, damaged or negative one.
    ///
    /// The options are those of the new entry; without a deadline in them, it gets the cache's default.
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
        self.insert_where(key.as_ref(), value.as_ref(), options, Condition::Value)
    }

    /// Stores a value, as [`insert_with`](Self::insert_with), if the key's entry is fresh or stale and has
    /// the version `seen`, decided under the lock (compare and swap). Returns the new version, or `None` if
    /// the entry has another version or is gone. A negative entry has a version too. A
    /// [`touch`](Self::touch) keeps the version.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let cache = mmapcache::Cache::open(dir.path().join("c"))?;
    /// # cache.insert("page", "draft")?;
    /// let entry = cache.entry("page")?.unwrap();
    /// // With the deadline and the groups of the entry.
    /// let stored = cache.insert_if("page", "final", entry.version(), &entry.insert_options())?;
    /// assert!(stored.is_some());
    /// assert_eq!(cache.insert_if("page", "late", entry.version(), &entry.insert_options())?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Costs a lookup and a put.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`add`](Self::add).
    pub fn insert_if(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        seen: Version,
        options: &InsertOptions,
    ) -> Result<Option<Version>> {
        let condition = Condition::Version(seen);
        self.insert_where(key.as_ref(), value.as_ref(), options, condition)
    }

    /// Removes the entry of a key if it is fresh or stale and has the version `seen`, decided under the
    /// lock. Returns whether it was removed: `false` if it has another version or is gone.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`remove`](Self::remove).
    pub fn remove_if(&self, key: impl AsRef<[u8]>, seen: Version) -> Result<bool> {
        let key = key.as_ref();
        self.check_key(key)?;
        self.change_key(key, |writer| change::remove_if(self, writer, key, seen))
    }

    /// Decides under the lock what becomes of an entry: `decide` gets the fresh or stale entry of the key,
    /// which may be a negative one, or `None`, and returns [`Update::Put`] with a value and its options,
    /// [`Update::Delete`] or [`Update::Keep`]. Returns the version of a value that was stored, otherwise
    /// `None`.
    ///
    /// [`CacheEntry::insert_options`] keeps deadline and groups of the entry. `decide` is called once, while
    /// all other writers wait: it should take microseconds, and
    /// [`get_or_insert_with`](Self::get_or_insert_with) is for what takes longer. If it panics, the entry is
    /// unchanged and unwinding releases the lock. It may read the cache; writing to it from there is
    /// [`ErrorKind::AlreadyWriting`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let cache = mmapcache::Cache::open(dir.path().join("c"))?;
    /// use mmapcache::{InsertOptions, Update};
    ///
    /// // The longest name of all, by whichever process it is found.
    /// let longest = |name: &str| {
    ///     cache.update("longest", |entry| match entry {
    ///         Some(entry) if entry.value().len() >= name.len() => Update::Keep,
    ///         Some(entry) => Update::Put((name.into(), entry.insert_options())),
    ///         None => Update::Put((name.into(), InsertOptions::new().tag("names"))),
    ///     })
    /// };
    /// assert!(longest("Ada")?.is_some());
    /// assert!(longest("Grace")?.is_some());
    /// assert_eq!(longest("Alan")?, None);
    /// assert!(cache.entry("longest")?.unwrap().has_tag("names"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Costs a lookup and a put or a removal.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`add`](Self::add) and [`remove`](Self::remove). The entry is unchanged then.
    pub fn update(
        &self,
        key: impl AsRef<[u8]>,
        decide: impl FnOnce(Option<&CacheEntry>) -> Update<(Vec<u8>, InsertOptions)>,
    ) -> Result<Option<Version>> {
        self.try_update(key.as_ref(), |entry| Ok(decide(entry)))
    }

    /// As [`update`](Self::update), with an error instead of a decision.
    fn try_update(
        &self,
        key: &[u8],
        decide: impl FnOnce(Option<&CacheEntry>) -> Result<Update<(Vec<u8>, InsertOptions)>>,
    ) -> Result<Option<Version>> {
        self.check_key(key)?;
        self.change_key(key, |writer| change::update(self, writer, key, decide))
    }

    /// Stores a value, as [`insert_with`](Self::insert_with), and returns the fresh or stale value that it
    /// replaces; `None` if there is none: no entry, or an expired, damaged or negative one. Decided under
    /// the lock: of several threads or processes that store under a key at once, each value but the last
    /// is returned to one.
    ///
    /// Costs a lookup and a put.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`insert`](Self::insert) and [`get`](Self::get).
    pub fn swap(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &InsertOptions,
    ) -> Result<Option<Vec<u8>>> {
        let (key, stored) = (key.as_ref(), options.stored(value.as_ref()));
        self.check_put(key, &stored)?;
        self.change_key(key, |writer| {
            change::swap(self, writer, key, &stored, options)
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
        self.check_key(key)?;
        self.change_key(key, |writer| change::take(self, writer, key))
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
        self.check_put(key, &options.stored(&counter::encode(0)))?;
        self.change_key(key, |writer| {
            change::increment(self, writer, key, by, options)
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

    /// Invalidates all entries with a [tag](InsertOptions::tag) that are there now. From its return on no
    /// lookup of any process returns them.
    ///
    /// O(1): one put of some 50 bytes, however many entries there are. As durable as a put. The tag takes
    /// this room until cleaning has met all that it ended, and counts as one entry for
    /// [`CacheBuilder::max_entries`].
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
        let group = internal::group_hash(GroupKind::Namespace, namespace.as_ref());
        self.invalidate(group)
    }

    fn invalidate(&self, group: u64) -> Result<()> {
        self.change(|writer| groups::invalidate(writer, self.cache.handle(), group))
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
        self.change_key(key, |writer| {
            change::insert_computed(self, writer, key, &stored, options, since)
        })
    }

    /// Removes all expired and invalidated entries. Returns how many. Entries that
    /// [`stale_if_error`](CacheBuilder::stale_if_error) may need stay.
    ///
    /// Reads the whole index, and the records; takes the lock for the removals of 1,024 entries at a
    /// time. Writes remove some expired entries without being asked: each looks at ten slots of the
    /// index.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::keys`] and [`MmapCache::delete`]. What was removed before stays
    /// removed. Passes over damaged entries, and returns the first error about one at the end.
    pub fn sweep(&self) -> Result<u64> {
        sweep::all(self)
    }

    /// Removes the expired entries among the next `slots` slots of the index, under one lock. Returns how
    /// many. All processes go on where the last one stopped, and begin again at the end.
    ///
    /// O(`slots`). Reads the records of entries that seem expired only.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::delete`].
    pub fn sweep_some(&self, slots: u64) -> Result<u64> {
        self.change(|writer| writer.sweep(slots))
    }

    /// Evicts entries, those that were not used first, until the files take at most so many bytes, also
    /// under [`Eviction::None`]. Returns the bytes that they take less. More may remain: the index is made
    /// smaller only near the limit of the cache.
    ///
    /// Reads the heap from its oldest record on, and copies what it keeps, under the lock.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::compact`]. What was evicted before stays evicted.
    pub fn evict_to(&self, bytes: u64) -> Result<u64> {
        self.change(|writer| writer.evict_to(bytes))
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

/// Returns the time that deadlines are compared with, in milliseconds since the Unix epoch.
fn now() -> u64 {
    unix_millis()
}
