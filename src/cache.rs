//! The engine: table, heap and roster as one persistent map.
//!
//! [`MmapCache`] is the handle that everything public goes through. What it does is in the files
//! below: how a generation is opened (`generation`, `handle`), read (`read`, `iter`, `draw`), changed
//! (`mutator`, `append`, `plan`, `edit`, `grow`, `clean`), replaced (`generation`), copied (`copy`)
//! and mended (`recover`, `repair`), and who may (`writer`).

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::engine::handle::Handle;
use crate::engine::read::lookup::Answer;
use crate::engine::{
    DiskUsage, Entries, Entry, HotCopy, Items, Keys, Options, Recovery, Report, Stats, Update,
    ValueRef, Verification, Version, Writer,
};
use crate::error::{Error, Result};
use crate::format::index::word;
use crate::sync::Relaxed;

/// A persistent hash table in memory-mapped files, shared by any number of threads and processes.
///
/// A handle is `Send` and `Sync`, and every operation takes `&self`: share one handle between
/// threads, open one in each process. Keys are 1 to 65,535 bytes; values are bytes, from none to
/// what a segment holds.
///
/// # What readers see
///
/// Reads take no lock and never wait for a writer. Each change of an entry becomes visible by a
/// single atomic store: a read returns the value from before or after it, whole, never a mixture
/// and never another key's. What one process has put is found by every other from then on.
///
/// # Damage
///
/// Values are verified by checksum as they are copied out. To [`get`](Self::get) and its kin a
/// damaged entry is a miss, counted in [`Stats::damaged_seen`]: put it again and it is whole.
/// [`entry`](Self::entry) tells it from absence, as an error that
/// [`is_corruption`](crate::Error::is_corruption).
///
/// # After a fork
///
/// A forked child may go on using an inherited handle: it opens the files anew by itself.
pub struct MmapCache {
    pub(crate) handle: Handle,
}

impl fmt::Debug for MmapCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.describe("MmapCache", f)
    }
}

impl MmapCache {
    /// Opens the cache at `path` with the default [`Options`], creating it where there is none.
    ///
    /// # Errors
    ///
    /// As [`Options::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Options::new().open(path)
    }

    pub(crate) fn open_with(path: &Path, options: &Options) -> Result<Self> {
        let handle = Handle::open(path, options)?;
        if !options.read_only {
            judge_copy(&handle)?;
        }
        if options.exclusive && !options.read_only {
            // Taken here, and by this handle's writers given back only when the handle goes.
            drop(Writer::take(&handle)?);
            return Ok(Self { handle });
        }
        let cache = Self { handle };
        if !options.read_only {
            cache.mend()?;
        }
        Ok(cache)
    }

    /// Does what an earlier writer, or an earlier boot, left to do. Most of the time that is
    /// nothing.
    fn mend(&self) -> Result<()> {
        let (needed, touched) = {
            let (generation, _) = self.handle.current()?;
            let boot = self.handle.boot;
            // Renames left over are not waited for: most likely their writer is about to do them.
            let needed = generation.is_from_elsewhere(boot)
                || generation.is_copied(boot)
                // The heap has all that such a roster lacks.
                || generation.check_roster_length().is_err();
            (needed, generation.is_touched())
        };
        if needed {
            drop(self.writer()?);
        } else if touched {
            // Most likely somebody is writing for long: then the next write of this handle asks
            // again, and opening need not wait.
            match Writer::take_within(&self.handle, Some(Duration::ZERO)) {
                Err(Error::Locked { .. }) => {}
                taken => drop(taken?),
            }
        }
        Ok(())
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The path of the cache's index, every symbolic link followed.
    pub fn path(&self) -> &Path {
        &self.handle.path
    }

    /// The value of a key.
    ///
    /// An empty value is `Some` of nothing; an absent and a damaged entry are `None`. O(1): the
    /// index's control bytes, one slot, one record.
    ///
    /// # Errors
    ///
    /// [`Error::KeyLength`](crate::Error::KeyLength), [`Error::Io`](crate::Error::Io) where a file
    /// cannot be mapped, [`Error::Contended`](crate::Error::Contended) where other writers changed
    /// the entry each time that it was looked at.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut value = Vec::new();
        Ok(self.get_into(key, &mut value)?.then_some(value))
    }

    /// Reads the value of a key into a buffer, in place of what was there. False, and an empty
    /// buffer, where there is none.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_into(&self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        value.clear();
        self.handle.read_value(key, value)
    }

    /// The values of many keys: `each` gets the number of each key, from 0 on and in order, and
    /// what [`get`](Self::get) would give for it.
    ///
    /// Each key is looked up as by itself, at a moment of its own: what is changed meanwhile, by
    /// `each` too, some keys may show and others not. Takes keys in groups of 16 and asks the
    /// memory for all that a group needs at once, where `get` waits for one piece after the other:
    /// for a cache that is larger than the processor's, a fraction of the time. Allocates one
    /// buffer, whatever the number of keys. Of keys that are all in the processor's cache it costs
    /// a bit more than as many `get`s.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let cache = mmapcache::MmapCache::open(dir.path().join("c"))?;
    /// cache.put(b"one", b"1")?;
    /// cache.put(b"three", b"3")?;
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
    /// As [`get`](Self::get), at the first key that has one: those before it were handed out, and
    /// those behind it are not.
    pub fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
        each: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<()> {
        self.handle.read_many(keys.into_iter(), each)
    }

    /// The value of a key, where it lies in the mapped file.
    ///
    /// # Safety
    ///
    /// While the returned value lives, no process may write to the heap's files by other means than
    /// this crate, and none may truncate them. The value was verified when it was found; nothing
    /// verifies it again.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    #[expect(unsafe_code, reason = "its contract is the caller's to keep")]
    pub unsafe fn get_in_place(&self, key: &[u8]) -> Result<Option<ValueRef>> {
        // SAFETY: M3 (docs/design.md): the caller keeps the same contract.
        unsafe { ValueRef::find(&self.handle, key) }
    }

    /// Whether a key has an entry. Compares keys, and looks at no checksum: a later
    /// [`get`](Self::get) can still find the value damaged.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn contains(&self, key: &[u8]) -> Result<bool> {
        Ok(matches!(self.handle.peek(key)?, Answer::Found(_)))
    }

    /// When a key's entry was written, from the index alone: it looks at no checksum. It may lie up
    /// to 10 ms before the call that wrote it; see [`Version`].
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn mtime(&self, key: &[u8]) -> Result<Option<Version>> {
        Ok(match self.handle.peek(key)? {
            Answer::Found(meta) => Some(Version(meta.mtime)),
            Answer::Absent | Answer::Damaged(_) => None,
        })
    }

    /// The entry of a key: its value and version. The strict form of [`get`](Self::get): damage is
    /// an error.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`](crate::Error::Damaged),
    /// [`Error::HeapMissing`](crate::Error::HeapMissing) where the segment with the value is not at
    /// its path, and those of [`get`](Self::get).
    pub fn entry(&self, key: &[u8]) -> Result<Option<Entry>> {
        let mut value = Vec::new();
        match self.handle.read(key, &mut value)? {
            Answer::Found(version) => Ok(Some(Entry { value, version })),
            Answer::Absent => Ok(None),
            Answer::Damaged(error) => Err(error),
        }
    }

    /// Entries in the cache. One load. Where the cache was rebuilt and its new files cannot be opened,
    /// the number is that of the old ones.
    pub fn len(&self) -> u64 {
        match self.handle.current() {
            Ok((generation, _)) => generation.header().occupied(),
            Err(_) => self.handle.generation.load().header().occupied(),
        }
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether what was put stays as it is: see [`Options::append_only`]. So it is in the files of
    /// [`Labels`](crate::Labels) too.
    pub fn is_append_only(&self) -> bool {
        match self.handle.current() {
            Ok((generation, _)) => generation.is_append_only(),
            Err(_) => self.handle.generation.load().is_append_only(),
        }
    }

    /// How many changes there have been: a number that grows with every one, read for the price of
    /// a load, by which a process notices that another has written.
    pub fn changes(&self) -> u64 {
        match self.handle.current() {
            Ok((generation, _)) => generation.header().changes(),
            Err(_) => self.handle.generation.load().header().changes(),
        }
    }

    /// Takes the writer lock, for a batch of changes.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`](crate::Error::ReadOnly), [`Error::Locked`](crate::Error::Locked) after
    /// the lock timeout, [`Error::WriterHeld`](crate::Error::WriterHeld) where this thread holds a
    /// writer of this cache already, [`Error::DiskFull`](crate::Error::DiskFull),
    /// [`Error::HeapMissing`](crate::Error::HeapMissing), [`Error::Io`](crate::Error::Io).
    pub fn writer(&self) -> Result<Writer<'_>> {
        Writer::take(&self.handle)
    }

    fn write<T>(&self, change: impl FnOnce(&mut Writer<'_>) -> Result<T>) -> Result<T> {
        let mut writer = self.writer()?;
        let done = change(&mut writer)?;
        // Not `commit`: it moves the writer, and so waits for the stores of the change.
        writer.sync_if_asked()?;
        Ok(done)
    }

    /// Stores a value under a key, whether there was one or not. Returns the entry's new version.
    ///
    /// Most of its cost is the lock: for many changes take a [`writer`](Self::writer).
    ///
    /// # Errors
    ///
    /// As [`writer`](Self::writer), [`Writer::put`] and [`Writer::commit`].
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<Version> {
        self.write(|writer| writer.put(key, value))
    }

    /// Deletes a key's entry. False where there was none.
    ///
    /// # Errors
    ///
    /// As [`writer`](Self::writer), [`Writer::delete`] and [`Writer::commit`].
    pub fn delete(&self, key: &[u8]) -> Result<bool> {
        self.write(|writer| writer.delete(key))
    }

    /// Stores a value if the key has none; decided under the lock. See
    /// [`Writer::insert_if_absent`].
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub fn insert_if_absent(&self, key: &[u8], value: &[u8]) -> Result<Option<Version>> {
        self.write(|writer| writer.insert_if_absent(key, value))
    }

    /// Stores a value if the entry still has the version that the caller saw; decided under the
    /// lock. See [`Writer::put_if`].
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub fn put_if(&self, key: &[u8], value: &[u8], seen: Version) -> Result<Option<Version>> {
        self.write(|writer| writer.put_if(key, value, seen))
    }

    /// Deletes the entry if it still has the version that the caller saw; decided under the lock.
    /// See [`Writer::delete_if`].
    ///
    /// # Errors
    ///
    /// As [`delete`](Self::delete).
    pub fn delete_if(&self, key: &[u8], seen: Version) -> Result<bool> {
        self.write(|writer| writer.delete_if(key, seen))
    }

    /// Lets a closure decide under the lock what becomes of an entry. See [`Writer::update`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let cache = mmapcache::MmapCache::open(dir.path().join("c"))?;
    /// use mmapcache::Update;
    ///
    /// cache.update(b"visits", |seen| {
    ///     let count = seen.and_then(|entry| std::str::from_utf8(entry.value()).ok()?.parse().ok()).unwrap_or(0_u64);
    ///     Update::Put((count + 1).to_string().into_bytes())
    /// })?;
    /// assert_eq!(cache.get(b"visits")?.as_deref(), Some(&b"1"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub fn update(
        &self,
        key: &[u8],
        decide: impl FnOnce(Option<&Entry>) -> Update,
    ) -> Result<bool> {
        self.write(|writer| writer.update(key, decide))
    }

    /// The keys, in no order that means anything.
    ///
    /// What exists during the whole walk comes exactly once. What is inserted or deleted meanwhile
    /// may come or not; a key that is deleted and inserted again may come twice. A damaged entry
    /// comes as an error that [`is_corruption`](crate::Error::is_corruption), and the walk goes on
    /// behind it; any other error ends it.
    ///
    /// A listing that returned no error until then ends with
    /// [`Error::Incomplete`](crate::Error::Incomplete) if it found fewer entries than the index
    /// counted when it began, so that damage cannot make it shorter unnoticed. This is exact where
    /// nobody writes; where others do, each of their changes is taken for a deletion.
    ///
    /// Takes no lock, O(1) memory, and time by the number of entries, not the size of the table or
    /// of the values, which are not looked at, nor are checksums: a key is listed whose value is
    /// damaged. Keys are compared with the 31 bits of their hash that the index keeps beside them:
    /// one that damage changed is listed with a probability of 2^-31. Versions and lengths are
    /// returned as the index has them. [`Keys::next_borrowed`] gives versions too, and allocates nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) where a file cannot be mapped. Items can also be
    /// [`Error::Superseded`](crate::Error::Superseded) and
    /// [`Error::Contended`](crate::Error::Contended), which end the walk.
    pub fn keys(&self) -> Result<Keys<'_>> {
        Keys::new(&self.handle)
    }

    /// A key by chance, each that there is as likely as any other; `None` where the cache is empty.
    ///
    /// Takes no lock and lists nothing: it looks at positions of the roster until one has an entry.
    /// That is at the first look where nothing was ever deleted, and takes as many looks on average
    /// as there were entries, at the most there ever were since the last
    /// [`compact`](Self::compact), for each that is left. It costs one system call, for the chance,
    /// and at most what listing all keys costs, which is what it comes to where nearly all is gone.
    ///
    /// A key that others insert or delete meanwhile may be drawn or not, so that it can be gone by
    /// the time of a [`get`](Self::get). Damaged entries are passed over and counted in
    /// [`Stats::damaged_seen`]; as in [`keys`](Self::keys), no value is looked at.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let cache = mmapcache::MmapCache::open(dir.path().join("c"))?;
    /// assert_eq!(cache.random_key()?, None);
    /// cache.put(b"only", b"1")?;
    /// assert_eq!(cache.random_key()?.as_deref(), Some(&b"only"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Incomplete`](crate::Error::Incomplete) where there are entries and none can be read,
    /// [`Error::Damaged`](crate::Error::Damaged) where the roster was cut, so that some keys could
    /// never be drawn, [`Error::Contended`](crate::Error::Contended) where others changed everything
    /// all the while, [`Error::Io`](crate::Error::Io) where a file cannot be mapped.
    pub fn random_key(&self) -> Result<Option<Vec<u8>>> {
        self.handle.random_key()
    }

    /// The keys and values; as [`keys`](Self::keys), with every value verified.
    ///
    /// # Errors
    ///
    /// As [`keys`](Self::keys).
    pub fn items(&self) -> Result<Items<'_>> {
        Items::new(&self.handle)
    }

    /// The keys and entries, versions included; as [`items`](Self::items).
    ///
    /// # Errors
    ///
    /// As [`keys`](Self::keys).
    pub fn entries(&self) -> Result<Entries<'_>> {
        Entries::new(&self.handle)
    }

    /// Replaces everything by the items of an iterator, at once for all readers: they see all of
    /// the old entries, and from one moment on all of the new. Of equal keys the last wins. Every
    /// entry gets a new version.
    ///
    /// Writers wait until it is done; both sets of files are on the disk meanwhile. Synced before
    /// it is committed, whatever the durability. The iterator may read this cache, but what others
    /// write between its making and this call's taking of the lock would be lost: to rebuild a
    /// cache from itself, take a [`writer`](Self::writer) first and use [`Writer::atomic_rebuild`].
    ///
    /// # Errors
    ///
    /// [`Error::Source`](crate::Error::Source) where the iterator gave an error,
    /// [`Error::AppendOnly`](crate::Error::AppendOnly), and those of [`put`](Self::put). After any
    /// of them the cache is as it was.
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

    /// Deletes everything, at once for all readers. Other handles stay usable, and versions go on
    /// growing. A handle that was opened while the heap was there clears though it has gone since.
    ///
    /// Works on a full disk too, where there is no room for new files beside the old ones: then the
    /// entries go one after the other, in time proportional to their number, and a kill or a power
    /// loss meanwhile leaves some of them.
    ///
    /// # Errors
    ///
    /// As [`atomic_rebuild`](Self::atomic_rebuild). [`Error::DiskFull`](crate::Error::DiskFull)
    /// only where another process keeps the room of the removed files, which it does until it uses
    /// the cache again; the entries may be gone then.
    pub fn clear(&self) -> Result<()> {
        self.write(|writer| writer.clear())
    }

    /// Reclaims all dead bytes of the heap now. Nobody needs to call this: writes clean up as they
    /// go.
    ///
    /// Moves every live record once, under the lock; readers go on.
    ///
    /// # Errors
    ///
    /// As [`writer`](Self::writer); what was reclaimed until then stays reclaimed.
    pub fn compact(&self) -> Result<()> {
        self.write(|writer| writer.compact())
    }

    /// Writes everything to the disk: after it a power loss takes nothing that was there when it
    /// was called.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) when a sync failed,
    /// [`Error::SyncFailed`](crate::Error::SyncFailed) when an earlier one had, and those of
    /// [`writer`](Self::writer).
    pub fn flush(&self) -> Result<()> {
        self.writer()?.flush()
    }

    /// A copy of this cache while others go on writing to it: where to, and more, its methods say.
    pub fn hot_copy(&self) -> HotCopy<'_> {
        HotCopy::new(&self.handle)
    }

    /// Counters and totals, from the header: O(1).
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) where the cache was rebuilt and its new files cannot be
    /// opened.
    pub fn stats(&self) -> Result<Stats> {
        Stats::of(&self.handle)
    }

    /// What this handle's last recovery came to: index and roster were made anew from the heap. None
    /// where this handle made none; that another process did shows in [`Stats::recoveries`].
    ///
    /// A recovery takes place when a cache is opened for writing, or written to for the first time,
    /// after a power loss or where its files were copied, restored or damaged. The operation in
    /// whose way it was goes on behind it and returns as ever, though entries may have been given
    /// up: this tells, as do [`Stats::dropped`] and a warning by the `log` crate.
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

    /// Blocks that the files take on the disk: less than their lengths where they have holes.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io).
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        DiskUsage::of(&self.handle)
    }

    /// A check of which less can be asked than of [`verify`](Self::verify), or more threads: what,
    /// its methods say.
    pub fn check(&self) -> Verification<'_> {
        Verification::new(&self.handle)
    }

    /// Checks every entry, record and roster position, and the counters if nobody writes meanwhile.
    ///
    /// Reads all of it: O(size), by one thread. Takes no lock and changes nothing. What it finds is in the report,
    /// not an error.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) where a file cannot be mapped.
    pub fn verify(&self) -> Result<Report> {
        Report::of(&self.handle)
    }
}

/// Checks files that somebody else than a writer made or changed, once, where their header says
/// that they count as they are: if they do not agree, the next writer rebuilds the cache from its
/// heap.
fn judge_copy(handle: &Handle) -> Result<()> {
    let (generation, _) = handle.current()?;
    let doubtful = generation.is_copied(handle.boot) || generation.is_touched();
    // Whoever is at work changes the files by right.
    if !doubtful || generation.is_from_elsewhere(handle.boot) || handle.is_written(&generation)? {
        return Ok(());
    }
    match Report::is_whole(handle) {
        Ok(true) => handle.believed.store(generation.inode.1, Relaxed),
        Ok(false) => {}
        Err(error) if error.is_corruption() => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

impl Drop for MmapCache {
    fn drop(&mut self) {
        // An exclusive handle's lock is let go here; generations that outlive the handle must not keep
        // it.
        let generation = self.handle.generation.load();
        if self.handle.options.exclusive
            && let Some(lock) = &generation.lock
            && lock.is_own()
        {
            // Not in a forked child: there, by this process id, nobody ever held it.
            if generation.header().holder() == Some(std::process::id()) {
                generation.note_visit();
                generation.header().set(word::HOLDER, 0);
            }
            generation.unlock();
        }
    }
}
