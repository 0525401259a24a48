//! [`Cache`]: keys and values that expire.
//!
//! Decides when an entry is fresh. The engine stores deadlines, and keeps entries whose deadline has
//! passed until they are replaced or removed. May call `mmap_cache` and everything below it.

mod compute;
mod compute_options;
mod entry;
mod flights;
mod freshness;
mod insert;
mod key_lock;
mod obtained;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::cache::compute::{Reply, Shared, Store};
use crate::cache::flights::Flights;
use crate::engine::handle::Handle;
use crate::engine::read::lookup::{self, Answer, EntryTerms};
use crate::engine::write::limits;
use crate::engine::write::put::Terms;
use crate::engine::{Backup, DiskUsage, Options, Stats, Verify, Version, Writer};
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::Result;
use crate::format::record::{Traits, Variant};
use crate::lock::PerProcess;
use crate::mmap_cache::MmapCache;
use crate::os::clock::unix_millis;

pub use crate::cache::compute_options::ComputeOptions;
pub use crate::cache::entry::CacheEntry;
pub use crate::cache::insert::InsertOptions;
pub use crate::cache::obtained::{ComputeError, Obtained, Origin};

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
    /// The computations that callers of this handle are at, or wait for.
    flights: PerProcess<Arc<Flights<Shared>>>,
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
            flights: PerProcess::new(),
        })
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
        match lookup::read_terms(self.cache.handle(), key, &mut value)? {
            Answer::Found(terms) if terms.is_fresh() && !terms.traits.is_negative() => {
                Ok(Some(value))
            }
            _ => Ok(None),
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
    /// was computed from older data does not replace it. A removal during the computation is not noticed.
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
        let f = || f().map(|value| Some(value.into()));
        compute::obtain(self, key, &options, false, f).map(Reply::into_obtained)
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
        let f = || f().map(|value| value.map(Into::into));
        compute::obtain(self, key, &options, true, f).map(Reply::into_optional)
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
        let f = || async { f().await.map(|value| Some(value.into())) };
        let reply = compute::obtain_async(self, key.as_ref(), &options, sleep, f).await?;
        Ok(reply.into_obtained())
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

impl Store for Cache {
    fn handle(&self) -> &Handle {
        self.cache.handle()
    }

    fn flights(&self) -> &Arc<Flights<Shared>> {
        &self.flights
    }

    fn find_readable(&self, key: &[u8]) -> Result<Option<(Vec<u8>, EntryTerms)>> {
        match self.find(key) {
            Err(error) if error.is_corruption() => Ok(None),
            found => found,
        }
    }

    fn store_unless_newer(
        &self,
        key: &[u8],
        value: Option<&[u8]>,
        options: &InsertOptions,
        seen: Option<u64>,
    ) -> Result<Option<(Vec<u8>, EntryTerms)>> {
        let bytes = value.unwrap_or_default();
        limits::check_put(self.cache.handle(), key, bytes)?;
        let traits = match value {
            Some(_) => Traits::default(),
            None => Traits::NEGATIVE,
        };
        self.cache.write(|writer| {
            let found = self.find_fresh(key)?;
            if let Some((_, terms)) = &found
                && Some(terms.version) != seen
            {
                return Ok(found);
            }
            let terms = Terms {
                traits,
                ..options.terms()
            };
            writer.put_with(key, bytes, terms).map(|_| None)
        })
    }
}

/// Expired entries that are removed under one lock.
const SWEPT_AT_ONCE: usize = 1_024;

/// Returns the time that deadlines are compared with, in milliseconds since the Unix epoch.
fn now() -> u64 {
    unix_millis()
}
