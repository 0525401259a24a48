//! [`MmapCache`], the handle of a cache.
//!
//! Its methods check nothing themselves: each is a thin shell over the engine. Methods that take
//! `impl AsRef<[u8]>` call a function for `&[u8]`, so that the engine is compiled once.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::engine::handle::Handle;
use crate::engine::read::lookup::{self, Answer};
use crate::engine::read::sample;
use crate::engine::verify;
use crate::engine::write::limits;
use crate::engine::write::session::clear_holder;
use crate::engine::{
    Backup, DiskUsage, Entries, Entry, Iter, Keys, Options, Recovery, Stats, Update, ValueRef,
    Verify, Version, Writer,
};
use crate::error::{ErrorKind, Result};
use crate::sync::Relaxed;

/// A persistent hash table in memory-mapped files, shared by any number of threads and processes.
///
/// A handle is `Send` and `Sync`, and all methods take `&self`: share one handle between threads, and
/// open one in each process. Keys have 1 to 65,535 bytes. Values may be empty; their length is limited
/// by [`Options::max_segment_bytes`].
///
/// # Concurrency
///
/// Reads take no lock and never wait for a writer. Each change of an entry becomes visible by a single
/// atomic store: a read returns the value from before or after it, whole, never a mixture and never
/// another key's value. All processes see a change from then on. Writes take the writer lock, one
/// thread of one process at a time.
///
/// # Damage
///
/// Reads verify the checksum of the value that they copy. [`get`](Self::get) and similar methods treat
/// a damaged entry as absent and count it in [`Stats::damaged_seen`]; putting the key again replaces it.
/// [`entry`](Self::entry) reports damage as an error that
/// [`is_corruption`](crate::Error::is_corruption).
///
/// # After a fork
///
/// A forked child may use an inherited handle: it reopens the files by itself.
pub struct MmapCache {
    pub(crate) handle: Handle,
}

impl fmt::Debug for MmapCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.describe("MmapCache", f)
    }
}

impl MmapCache {
    /// Opens the cache at `path` with the default [`Options`]; creates it if there is none.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Options::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Options::new().open(path)
    }

    pub(crate) fn open_with(path: &Path, options: &Options) -> Result<Self> {
        let handle = Handle::open(path, options)?;
        if !options.read_only {
            verify_foreign_changes(&handle)?;
        }
        if options.exclusive && !options.read_only {
            // Taken here, and by this handle's writers released only when the handle is dropped.
            drop(Writer::take(&handle)?);
            return Ok(Self { handle });
        }
        let cache = Self { handle };
        if !options.read_only {
            cache.recover_on_open()?;
        }
        Ok(cache)
    }

    /// Runs recovery if the last writer crashed or the machine rebooted; usually a no-op.
    fn recover_on_open(&self) -> Result<()> {
        let (needed, touched) = {
            let (generation, _) = self.handle.current()?;
            let boot = self.handle.boot;
            // Pending renames are not waited for: most likely their writer is about to do them.
            let needed = generation.is_from_elsewhere(boot)
                || generation.is_copied(boot)
                // The heap has everything that such a roster lacks.
                || generation.check_roster_length().is_err();
            (needed, generation.is_touched())
        };
        if needed {
            drop(self.writer()?);
        } else if touched {
            // Most likely a writer holds the lock for long: then the next write of this handle checks
            // again, and opening need not wait.
            match Writer::take_within(&self.handle, Some(Duration::ZERO), None) {
                Err(error) if matches!(error.kind(), ErrorKind::Locked { .. }) => {}
                taken => drop(taken?),
            }
        }
        Ok(())
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Returns the path of the index, with all symbolic links resolved.
    pub fn path(&self) -> &Path {
        &self.handle.path
    }

    /// Returns the value of a key, or `None` if there is no entry or the entry is damaged.
    ///
    /// O(1): reads the control bytes of a group of the index, one slot and one record.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::KeyLength`] if the key is empty or too long, [`ErrorKind::Contended`] if other
    /// writers changed the entry during each of many attempts, and [`ErrorKind::Io`] if the system
    /// refuses to map a file. If the files were replaced since they were opened, it opens the new ones
    /// and may return any error of [`Options::open`].
    #[inline]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        self.get_bytes(key.as_ref())
    }

    fn get_bytes(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut value = Vec::new();
        Ok(self.get_into(key, &mut value)?.then_some(value))
    }

    /// Replaces the contents of `value` by the value of a key. Returns whether there is one; if not,
    /// `value` is empty. As [`get`](Self::get), without an allocation if the buffer is large enough.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get`](Self::get).
    #[inline]
    pub fn get_into(&self, key: impl AsRef<[u8]>, value: &mut Vec<u8>) -> Result<bool> {
        self.get_bytes_into(key.as_ref(), value)
    }

    fn get_bytes_into(&self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        value.clear();
        lookup::read_value(&self.handle, key, value)
    }

    /// Looks up many keys. Calls `each` with the position of each key, in order from 0, and the value
    /// that [`get`](Self::get) would return for it.
    ///
    /// Each key is a lookup of its own: changes made during the call, also by `each`, are seen by some
    /// keys and not by others. Prefetches what a group of 16 keys needs at once, while `get` waits for
    /// one cache miss after the other: in a cache larger than the processor's it takes a fraction of the
    /// time. If all keys are in the processor's cache, it costs slightly more than as many `get`s.
    /// Allocates one buffer, whatever the number of keys.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let cache = mmapcache::MmapCache::open(dir.path().join("c"))?;
    /// cache.put("one", "1")?;
    /// cache.put("three", "3")?;
    ///
    /// let mut values = Vec::new();
    /// cache.get_many(["one", "two", "three"], |_, value| {
    ///     values.push(value.map(<[u8]>::to_vec));
    /// })?;
    /// assert_eq!(values, [Some(b"1".to_vec()), None, Some(b"3".to_vec())]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the error of the first key that has one, as [`get`](Self::get). `each` was called for the
    /// keys before it, and is not called for those after it.
    pub fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
        each: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<()> {
        lookup::read_many(&self.handle, keys.into_iter(), each)
    }

    /// Returns the value of a key as a reference into the mapped file, without copying it. The checksum
    /// is verified once, in place, before this returns.
    ///
    /// # Safety
    ///
    /// From this call until the returned value is dropped, no process may write to the heap's files by
    /// other means than this crate, or truncate them.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get`](Self::get).
    #[expect(unsafe_code, reason = "the caller must keep its contract")]
    pub unsafe fn get_ref(&self, key: impl AsRef<[u8]>) -> Result<Option<ValueRef>> {
        // SAFETY: M3 (docs/design.md): the caller keeps the same contract.
        unsafe { ValueRef::find(&self.handle, key.as_ref()) }
    }

    /// Returns whether a key has an entry. Compares keys, but reads no checksum: a later
    /// [`get`](Self::get) may still find the value damaged.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get`](Self::get).
    #[inline]
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.contains_bytes(key.as_ref())
    }

    fn contains_bytes(&self, key: &[u8]) -> Result<bool> {
        Ok(matches!(lookup::peek(&self.handle, key)?, Answer::Found(_)))
    }

    /// Returns the version of a key's entry. Compares keys, but reads no value and no checksum: a damaged
    /// version may be returned, which [`entry`](Self::entry) would notice.
    /// The version is the time of the write, see [`Version`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get`](Self::get).
    #[inline]
    pub fn version(&self, key: impl AsRef<[u8]>) -> Result<Option<Version>> {
        self.version_of_bytes(key.as_ref())
    }

    fn version_of_bytes(&self, key: &[u8]) -> Result<Option<Version>> {
        Ok(match lookup::peek(&self.handle, key)? {
            Answer::Found(found) => Some(Version(found.mtime)),
            Answer::Absent | Answer::Damaged(_) => None,
        })
    }

    /// Returns the entry of a key, its value and version, or `None` if there is none. The strict form of
    /// [`get`](Self::get): damage is an error.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Corrupted`] if the entry is damaged, [`ErrorKind::HeapMissing`] if the
    /// segment with the value is not at its path, and the errors of [`get`](Self::get).
    #[inline]
    pub fn entry(&self, key: impl AsRef<[u8]>) -> Result<Option<Entry>> {
        lookup::entry(&self.handle, key.as_ref())
    }

    /// Returns the number of entries. One atomic load. If the cache was rebuilt and its new files cannot
    /// be opened, it is the number of the old ones.
    pub fn len(&self) -> u64 {
        match self.handle.current() {
            Ok((generation, _)) => generation.header().occupied(),
            Err(_) => self.handle.generation.load().header().occupied(),
        }
    }

    /// Returns whether the cache has no entries. One atomic load.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether entries can only be added; see [`Options::append_only`]. True in the files of
    /// [`Labels`](crate::Labels) too.
    pub fn is_append_only(&self) -> bool {
        match self.handle.current() {
            Ok((generation, _)) => generation.is_append_only(),
            Err(_) => self.handle.generation.load().is_append_only(),
        }
    }

    /// Returns the number of changes of any kind since the cache was created. One atomic load: a process
    /// compares it with an earlier value to learn whether another one has written.
    pub fn change_count(&self) -> u64 {
        match self.handle.current() {
            Ok((generation, _)) => generation.header().changes(),
            Err(_) => self.handle.generation.load().header().changes(),
        }
    }

    /// Takes the writer lock for a batch of changes.
    ///
    /// Waits for other writers, at most [`Options::lock_timeout`]. If the last writer was killed, the
    /// machine rebooted, or the files are a copy, it first recovers the cache: in microseconds after a
    /// kill; by reading the whole heap after a power loss.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::ReadOnly`] if the handle is read-only.
    /// - [`ErrorKind::Locked`] if another writer holds the lock for longer than the timeout,
    ///   [`ErrorKind::AlreadyWriting`] if this thread holds it.
    /// - [`ErrorKind::HeapMissing`] if a segment of the heap is not at its path,
    ///   [`ErrorKind::Corrupted`] if the cache is damaged beyond what recovery can do.
    /// - [`ErrorKind::DiskFull`], [`ErrorKind::NotRemovable`], [`ErrorKind::SyncFailed`] and
    ///   [`ErrorKind::Io`] if the system refuses a file operation.
    /// - Any error of [`Options::open`] if the files were replaced since they were opened and the new
    ///   ones cannot be opened.
    pub fn writer(&self) -> Result<Writer<'_>> {
        Writer::take(&self.handle)
    }

    pub(crate) fn write<T>(&self, change: impl FnOnce(&mut Writer<'_>) -> Result<T>) -> Result<T> {
        self.write_within(self.handle.options.lock_timeout, None, change)
    }

    /// As [`write`](Self::write), for a change of this key's entry: if another writer is at work, what
    /// the change is going to read is loaded first.
    pub(crate) fn write_key<T>(
        &self,
        key: &[u8],
        change: impl FnOnce(&mut Writer<'_>) -> Result<T>,
    ) -> Result<T> {
        self.write_within(self.handle.options.lock_timeout, Some(key), change)
    }

    /// As [`write_key`](Self::write_key), with another deadline than the handle's for the lock.
    pub(crate) fn write_within<T>(
        &self,
        timeout: Option<Duration>,
        key: Option<&[u8]>,
        change: impl FnOnce(&mut Writer<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut writer = Writer::take_within(&self.handle, timeout, key)?;
        let done = change(&mut writer)?;
        // Not `commit`: it moves the writer, and so waits for the stores of the change.
        writer.sync_if_asked()?;
        Ok(done)
    }

    /// Stores a value under a key; overwrites the existing value, if any. Returns the new version.
    ///
    /// Most of its cost is the lock: for many changes take a [`writer`](Self::writer).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`writer`](Self::writer), [`Writer::put`] and [`Writer::commit`]. After an
    /// error of `commit` the value is stored, but may not survive a power loss.
    #[inline]
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Version> {
        self.put_bytes(key.as_ref(), value.as_ref())
    }

    fn put_bytes(&self, key: &[u8], value: &[u8]) -> Result<Version> {
        limits::check_put(&self.handle, key, value)?;
        self.write_key(key, |writer| writer.put_bytes(key, value))
    }

    /// Deletes a key's entry. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`writer`](Self::writer), [`Writer::delete`] and [`Writer::commit`].
    #[inline]
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.delete_bytes(key.as_ref())
    }

    fn delete_bytes(&self, key: &[u8]) -> Result<bool> {
        self.handle.check_key(key)?;
        self.write_key(key, |writer| writer.delete_bytes(key))
    }

    /// Stores a value if the key has no entry, decided under the lock. Returns the new version, or
    /// `None` if there is an entry. See [`Writer::insert_if_absent`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`put`](Self::put).
    pub fn insert_if_absent(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Option<Version>> {
        self.insert_bytes_if_absent(key.as_ref(), value.as_ref())
    }

    fn insert_bytes_if_absent(&self, key: &[u8], value: &[u8]) -> Result<Option<Version>> {
        self.handle.check_key(key)?;
        self.write_key(key, |writer| writer.insert_if_absent(key, value))
    }

    /// Stores a value if the entry still has the version `seen`, decided under the lock (compare and
    /// swap). Returns the new version, or `None` if the entry has another version or is gone. See
    /// [`Writer::put_if`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Writer::put_if`], [`writer`](Self::writer) and [`Writer::commit`].
    pub fn put_if(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        seen: Version,
    ) -> Result<Option<Version>> {
        self.put_bytes_if(key.as_ref(), value.as_ref(), seen)
    }

    fn put_bytes_if(&self, key: &[u8], value: &[u8], seen: Version) -> Result<Option<Version>> {
        self.handle.check_key(key)?;
        self.write_key(key, |writer| writer.put_if(key, value, seen))
    }

    /// Deletes the entry if it still has the version `seen`, decided under the lock. Returns whether it
    /// was deleted. See [`Writer::delete_if`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`delete`](Self::delete).
    pub fn delete_if(&self, key: impl AsRef<[u8]>, seen: Version) -> Result<bool> {
        self.delete_bytes_if(key.as_ref(), seen)
    }

    fn delete_bytes_if(&self, key: &[u8], seen: Version) -> Result<bool> {
        self.handle.check_key(key)?;
        self.write_key(key, |writer| writer.delete_if(key, seen))
    }

    /// Updates an entry atomically: `decide` gets the current entry and returns what to do with it,
    /// under the lock. Returns whether anything was changed. See [`Writer::update`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let cache = mmapcache::MmapCache::open(dir.path().join("c"))?;
    /// use mmapcache::Update;
    ///
    /// cache.update("visits", |entry| {
    ///     let count = entry.and_then(|entry| std::str::from_utf8(entry.value()).ok()?.parse().ok()).unwrap_or(0_u64);
    ///     Update::Put((count + 1).to_string().into_bytes())
    /// })?;
    /// assert_eq!(cache.get("visits")?.as_deref(), Some(&b"1"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`put`](Self::put) and [`delete`](Self::delete).
    pub fn update(
        &self,
        key: impl AsRef<[u8]>,
        decide: impl FnOnce(Option<&Entry>) -> Update,
    ) -> Result<bool> {
        let key = key.as_ref();
        self.write_key(key, |writer| writer.update(key, decide))
    }

    /// Returns an iterator over the keys, in no particular order.
    ///
    /// An entry that exists during the whole listing is returned exactly once. An entry that is inserted
    /// or deleted during it is returned or not; a key that is deleted and inserted again may be returned
    /// twice. A damaged entry is an `Err` that [`is_corruption`](crate::Error::is_corruption), and the
    /// listing continues after it; any other error ends it.
    ///
    /// A listing without an error ends with [`ErrorKind::Incomplete`] if it found fewer entries than the
    /// index counted at its beginning, so damage cannot shorten it unnoticed. The comparison is exact if
    /// no process writes; otherwise each change by a writer counts as a deletion.
    ///
    /// Takes no lock and O(1) memory. Takes time by the number of entries, not by the size of the table
    /// or of the values: it reads no value and no checksum, so it lists keys whose value is damaged. It
    /// compares each key with 31 bits of its hash in the index: a damaged key is returned with a
    /// probability of 2^-31. [`Keys::next_borrowed`] returns versions too, and does not allocate.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Io`] if the system refuses to map a file, and any error of [`Options::open`]
    /// if the files were replaced since they were opened. Items can also be [`ErrorKind::Corrupted`] or
    /// [`ErrorKind::HeapMissing`] for one entry, and [`ErrorKind::Superseded`],
    /// [`ErrorKind::Contended`] and [`ErrorKind::Incomplete`], which end the listing.
    pub fn keys(&self) -> Result<Keys<'_>> {
        Keys::new(&self.handle)
    }

    /// Returns a uniformly random key, or `None` if the cache is empty.
    ///
    /// Takes no lock and lists nothing: it reads random positions of the roster until one has an entry.
    /// The expected number of reads is the largest number of entries since the last
    /// [`compact`](Self::compact), divided by the current number; 1 if nothing was deleted. Costs one
    /// system call for the random numbers, and at most as much as listing all keys.
    ///
    /// A key that is inserted or deleted during the call is returned or not, so a later
    /// [`get`](Self::get) may find no entry. Damaged entries are skipped and counted in
    /// [`Stats::damaged_seen`]; as in [`keys`](Self::keys), no value is read.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let cache = mmapcache::MmapCache::open(dir.path().join("c"))?;
    /// assert_eq!(cache.random_key()?, None);
    /// cache.put("only", "1")?;
    /// assert_eq!(cache.random_key()?.as_deref(), Some(&b"only"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Incomplete`] if the index counts entries and none can be read,
    /// [`ErrorKind::Corrupted`] if the roster was truncated, [`ErrorKind::Contended`] if writers changed
    /// every position that it read, [`ErrorKind::Io`] if the system refuses to map a file, and any error
    /// of [`Options::open`] if the files were replaced since they were opened.
    pub fn random_key(&self) -> Result<Option<Vec<u8>>> {
        sample::random_key(&self.handle)
    }

    /// Returns an iterator over the keys and values, in no particular order. As [`keys`](Self::keys), but
    /// it reads each value and verifies its checksum, and lists large caches in the order in which they were
    /// written. It remembers which entries writers overwrite ahead of it, in some tens of megabytes at most. `for
    /// item in &cache` lists the same; there an error of starting the listing is the first item.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let cache = mmapcache::MmapCache::open(dir.path().join("c"))?;
    /// cache.put("key", "value")?;
    /// for item in &cache {
    ///     let (key, value) = item?;
    ///     assert_eq!((&key[..], &value[..]), (&b"key"[..], &b"value"[..]));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`keys`](Self::keys).
    pub fn iter(&self) -> Result<Iter<'_>> {
        Iter::new(&self.handle)
    }

    /// Returns an iterator over the keys and entries, which include versions; as [`iter`](Self::iter).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`keys`](Self::keys).
    pub fn entries(&self) -> Result<Entries<'_>> {
        Entries::new(&self.handle)
    }

    /// Replaces all entries by the items of an iterator, atomically: readers see all of the old entries,
    /// then all of the new ones. If a key is repeated, its last item wins. Every entry gets a new
    /// version.
    ///
    /// Other writers wait until it is done; the disk holds both sets of files during it. The new files
    /// are synced before they replace the old ones, whatever the durability. The iterator may read this
    /// cache; but a change that another process makes between the creation of such an iterator and this
    /// call would be lost. To rebuild a cache from itself, take a [`writer`](Self::writer) first and use
    /// [`Writer::atomic_rebuild`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`writer`](Self::writer) and [`Writer::atomic_rebuild`]. The cache is
    /// unchanged then.
    pub fn atomic_rebuild<K, V, E>(
        &self,
        items: impl IntoIterator<Item = std::result::Result<(K, V), E>>,
    ) -> Result<()>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.write(|writer| writer.atomic_rebuild(items))
    }

    /// Deletes all entries, atomically for readers. Other handles stay usable, and versions continue to
    /// increase. A handle that was opened before a segment went missing can still clear the cache.
    ///
    /// On a disk without room for new files it deletes the entries one by one instead, in time
    /// proportional to their number; a kill or a power loss during that leaves some of them.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::AppendOnly`] in an append-only cache, and the errors of
    /// [`writer`](Self::writer). Returns [`ErrorKind::DiskFull`] only if another process keeps the room
    /// of the removed files, until that process uses the cache again; the entries may be deleted then.
    pub fn clear(&self) -> Result<()> {
        self.write(|writer| writer.clear())
    }

    /// Reclaims all dead records of the heap, and shrinks a roster that is mostly empty. Usually not
    /// needed: writes reclaim as they go, see [`Options::compaction_threshold`].
    ///
    /// Copies every live record once, under the lock; readers continue.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`writer`](Self::writer). What was reclaimed before the error stays
    /// reclaimed.
    pub fn compact(&self) -> Result<()> {
        self.write(|writer| writer.compact())
    }

    /// Syncs everything to the disk: a power loss after it loses no change made before the call.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Io`] if a sync fails, [`ErrorKind::SyncFailed`] if an earlier one failed, and
    /// the errors of [`writer`](Self::writer).
    pub fn flush(&self) -> Result<()> {
        self.writer()?.flush()
    }

    /// Prepares an online backup, which runs while other processes write; see [`Backup`].
    pub fn backup(&self) -> Backup<'_> {
        Backup::new(&self.handle)
    }

    /// Returns counters and totals, from the header: O(1).
    ///
    /// # Errors
    ///
    /// Returns an error of [`Options::open`] if the cache was rebuilt and its new files cannot be opened.
    pub fn stats(&self) -> Result<Stats> {
        Stats::of(&self.handle)
    }

    /// Returns the result of the last recovery by this handle, or `None` if it made none. Recoveries by
    /// other processes are counted in [`Stats::recoveries`].
    ///
    /// A recovery rebuilds index and roster from the heap. It runs when a cache is opened for writing, or
    /// first written to, after a power loss or after its files were copied, restored or damaged. The call
    /// that ran it then completes as usual even if entries were lost; this method,
    /// [`Stats::dropped`] and a warning of the `log` crate report the loss.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let cache = mmapcache::MmapCache::open(dir.path().join("c"))?;
    /// if let Some(recovery) = cache.last_recovery()
    ///     && recovery.dropped > 0
    /// {
    ///     eprintln!("{recovery}");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn last_recovery(&self) -> Option<Recovery> {
        self.handle.recovered.load().as_deref().copied()
    }

    /// Returns the bytes of the blocks that the files take on the disk: less than their lengths if they
    /// have holes. One system call for each file.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Io`] if the system refuses to read the size of a file, and any error of
    /// [`Options::open`] if the cache was rebuilt and its new files cannot be opened.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        DiskUsage::of(&self.handle)
    }

    /// Prepares a verification of the whole cache: of every entry, record and roster position, and the
    /// counters; see [`Verify`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let cache = mmapcache::MmapCache::open(dir.path().join("c"))?;
    /// assert!(cache.verify().run()?.is_clean());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verify(&self) -> Verify<'_> {
        Verify::new(&self.handle)
    }
}

/// Lists the keys and values as [`MmapCache::iter`], except that an error of starting the listing is the
/// first item.
impl<'a> IntoIterator for &'a MmapCache {
    type Item = Result<(Vec<u8>, Vec<u8>)>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        Iter::new_or_failed(&self.handle)
    }
}

/// Verifies files that another program made or changed, once, if their header says that they are
/// current. If they contradict each other, the next writer rebuilds the cache from its heap.
fn verify_foreign_changes(handle: &Handle) -> Result<()> {
    let (generation, _) = handle.current()?;
    let doubtful = generation.is_copied(handle.boot) || generation.is_touched();
    // A writer at work changes the files legitimately.
    if !doubtful || generation.is_from_elsewhere(handle.boot) || handle.is_written(&generation)? {
        return Ok(());
    }
    match verify::is_consistent(handle) {
        Ok(true) => handle.verified.store(generation.inode.1, Relaxed),
        Ok(false) => {}
        Err(error) if error.is_corruption() => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

impl Drop for MmapCache {
    fn drop(&mut self) {
        // Releases the lock of an exclusive handle: generations that outlive the handle must not keep
        // it.
        let generation = self.handle.generation.load();
        if self.handle.options.exclusive
            && let Some(lock) = &generation.lock
            && lock.is_own()
        {
            // Not in a forked child, whose process id never held the lock.
            if generation.header().holder() == Some(std::process::id()) {
                generation.note_visit();
                clear_holder(&generation);
            }
            generation.unlock();
        }
    }
}
