//! The one writer of a cache, as a type: whoever has a [`Writer`] holds the lock.
//!
//! Knows how the lock is taken and given back, what must be mended before the first change, and
//! what is tidied up after each. How a change is stored it leaves to the mutator.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::format::index::word;
use crate::lock::{self, MappedMutexGuard, Mutex, MutexGuard, Patience};
use crate::os::files::Stage;
use crate::sync::Relaxed;

use crate::engine::clean::evacuate::CleanThreshold;
use crate::engine::entry::{Entry, Update};
use crate::engine::generation::Generation;
use crate::engine::handle::{Handle, acquire};
use crate::engine::options::Durability;
use crate::engine::read::lookup::Answer;
use crate::engine::recovery::from_heap::Origin;
use crate::engine::segment_numbers::Extent;
use crate::engine::staging::discard_staged;
use crate::engine::switch::{Heap, give_up, put_staged};
use crate::engine::version::Version;
use crate::engine::write::mutator::{Abort, Mutator, WriteResult};

/// Bytes of the heap that a write walks at a time that would else be refused for want of room.
const RECLAIM: u64 = 1 << 20;
/// Writes for which tidying pauses after it failed, for want of disk most likely.
const PAUSE: u64 = 256;
/// Rosters up to this length are never too long.
const ROSTER_LEAST: u64 = 4096;

/// What becomes of a change. Small, so that it is handed on in registers: a result that is copied
/// through memory waits until all stores before it are in the cache, and those of a put mostly miss
/// it (343 ns a put, 384 with such copies).
type Done<T> = std::result::Result<T, Box<Error>>;

thread_local! {
    /// The caches whose writers this thread holds, each with the epoch in which it was taken: a
    /// forked child inherits the list, and the writers in it are not its own.
    static HELD: RefCell<Vec<(u64, u64)>> = const { RefCell::new(Vec::new()) };
}

/// The writer lock of a cache, held: a batch of changes under one lock and, where that is asked
/// for, one sync.
///
/// Other threads and processes read meanwhile and see each change as it is made; their writes wait.
/// A batch is not a transaction: what was done before an error or a kill stays done. Dropping the
/// writer releases the lock; with [`Durability::Sync`] call [`Writer::commit`] to learn whether the
/// sync succeeded.
///
/// A writer stays on the thread that took it. In a forked child it is dead: every method returns
/// [`Error::Forked`], and dropping it releases nothing.
pub struct Writer<'a> {
    handle: &'a Handle,
    mutator: Held<'a>,
    epoch: u64,
    /// Whether the files are whole, and their times accounted for.
    prepared: bool,
    /// Whether something was written that a durable writer still has to sync.
    unsynced: bool,
    /// The generation that this process's readers were given last; only compared.
    published: *const Generation,
}

/// The writer_mutex of this process's threads, held, and the mutator behind it.
struct Held<'a>(Option<MappedMutexGuard<'a, Mutator>>);

impl Deref for Held<'_> {
    type Target = Mutator;

    #[inline]
    fn deref(&self) -> &Mutator {
        self.0.as_deref().expect("held until the writer is dropped")
    }
}

impl DerefMut for Held<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Mutator {
        self.0
            .as_deref_mut()
            .expect("held until the writer is dropped")
    }
}

impl fmt::Debug for Writer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.describe("Writer", f)
    }
}

impl<'a> Writer<'a> {
    pub(crate) fn take(handle: &'a Handle) -> Result<Self> {
        Self::take_within(handle, handle.options.lock_timeout)
    }

    /// As [`Writer::take`], with another patience than the handle's.
    pub(crate) fn take_within(handle: &'a Handle, timeout: Option<Duration>) -> Result<Self> {
        if handle.options.read_only {
            return Err(Error::ReadOnly {
                path: handle.path.to_path_buf(),
            });
        }
        let (id, epoch) = (handle.id, lock::epoch());
        if HELD.with_borrow(|held| held.contains(&(id, epoch))) {
            return Err(Error::WriterHeld {
                path: handle.path.to_path_buf(),
            });
        }
        let patience = Patience::new(timeout);
        let mut writer_mutex =
            wait_for(&handle.writer_mutex().idle, &patience).ok_or_else(|| Error::Locked {
                path: handle.path.to_path_buf(),
                waited: patience.waited(),
                holder: handle.generation.load().header().holder(),
            })?;
        if handle.outdated.load(Relaxed) != 0 {
            handle.outdated.store(0, Relaxed);
            *writer_mutex = None;
        }
        if let Err(error) = lock_current(handle, &mut writer_mutex, &patience) {
            *writer_mutex = None;
            return Err(error);
        }
        HELD.with_borrow_mut(|held| held.push((id, epoch)));
        let mutator = MutexGuard::map(writer_mutex, |idle| {
            idle.as_mut().expect("locked a moment ago")
        });
        let mut writer = Self {
            handle,
            published: Arc::as_ptr(&mutator.generation),
            mutator: Held(Some(mutator)),
            epoch,
            prepared: false,
            unsynced: false,
        };
        // From here on dropping the writer undoes all of this.
        writer.prepare()?;
        Ok(writer)
    }

    /// Mends what the last writer left, if it was killed, and marks the files as written under this
    /// boot.
    fn prepare(&mut self) -> Result<()> {
        let boot = self.handle.boot;
        let has_marked = self.has_marked();
        let (origin, finished) = self.mutator.examine(self.handle, has_marked)?;
        match finished {
            Ok(()) => self.publish_view(),
            Err(Abort::Failed(error)) if error.is_corruption() => {
                self.recover("damage in what is to be finished")?
            }
            Err(Abort::Recover(what, _)) => self.recover_from(what, origin)?,
            Err(stop) => return Err(give_up(stop, &self.mutator)),
        }
        let header = self.mutator.generation.header();
        if !header.is_marked() {
            // On the disk before the first change: a power loss must find the mark.
            let generation = &self.mutator.generation;
            header.mark_dirty(boot, generation.inode, generation.seen.born);
            // The mark is stored anew at the next try; what else of the index this was about is not.
            let generation = &self.mutator.generation;
            generation
                .header()
                .note_sync(generation.table.file().sync())?;
            generation.header().mark_is_synced();
            self.handle.marked.store(1, Relaxed);
        }
        self.mutator.generation.note_visit();
        self.prepared = true;
        Ok(())
    }

    /// Where the system has no boot id, the marks of this very handle are all that can be believed,
    /// as long as they are in this very file.
    fn has_marked(&self) -> bool {
        let header = self.mutator.generation.header();
        let marked = self.handle.marked.load(Relaxed) != 0;
        let there = (header.get(word::DEVICE), header.get(word::INODE));
        self.handle.boot == [0; 2] && marked && there == self.mutator.generation.inode
    }

    fn recover(&mut self, what: &'static str) -> Result<()> {
        self.recover_from(what, Origin::Here)
    }

    fn recover_from(&mut self, what: &'static str, origin: Origin) -> Result<()> {
        log::warn!("{}: {what}", self.handle.path.display());
        let before = Arc::clone(&self.mutator.generation);
        let recovered = self.handle.recover_from_heap(&mut self.mutator, origin);
        self.relock(&before);
        recovered.map_err(|stop| give_up(stop, &self.mutator))
    }

    /// After a switch the lock that counts is the new index's; the old one is let go.
    fn relock(&mut self, before: &Generation) {
        let generation = &self.mutator.generation;
        if generation.inode != before.inode {
            before.unlock();
            let header = generation.header();
            // A switch is synced, unless it says that this failed.
            let unsynced = header.get(word::SYNC_ERROR) != 0;
            header.set(word::HOLDER, u64::from(lock::process()));
            // Its files were made, or looked at, by this very writer.
            self.handle.heap_found.store(generation.inode.1, Relaxed);
            self.unsynced = unsynced;
        }
    }

    /// Lets this process's readers use the segments that the mutator has mapped.
    fn publish_view(&mut self) {
        let current = Arc::as_ptr(&self.mutator.generation);
        if current != self.published {
            self.handle
                .generation
                .store(Arc::clone(&self.mutator.generation));
            self.published = current;
        }
        // Looked at first: taking an empty list each time costs what copying a result does.
        if !self.mutator.removed.is_empty() {
            self.release_removed();
        }
    }

    /// Gives back what was removed, behind the generation that had it.
    #[cold]
    fn release_removed(&mut self) {
        let removed = std::mem::take(&mut self.mutator.removed);
        if self.handle.options.background {
            self.handle.writer_mutex().tasks.lock().release(removed);
        }
    }

    /// Runs a change; where the generation must be replaced for it, replaces it and runs the change
    /// again.
    pub(crate) fn run<T>(
        &mut self,
        mut change: impl FnMut(&mut Mutator) -> WriteResult<T>,
    ) -> Done<T> {
        refuse_forked(self.handle, self.epoch)?;
        // A writer that was held across a switch of its own marks the new generation first.
        self.mark_again()?;
        self.unsynced = true;
        let mut tries = 0;
        loop {
            tries += 1;
            self.mutator.generation.table.count_change();
            match change(&mut self.mutator) {
                Ok(done) => {
                    // Said here, behind any switch: that synced what was before it.
                    self.unsynced = true;
                    self.publish_view();
                    return Ok(done);
                }
                Err(stop) if tries > 8 => return Err(Box::new(give_up(stop, &self.mutator))),
                Err(Abort::Failed(error)) if error.is_corruption() && tries == 1 => {
                    self.recover("damage in the way of a change")?;
                }
                Err(Abort::Failed(error)) => {
                    self.publish_view();
                    return Err(error);
                }
                Err(Abort::Recover(what, _)) => self.recover(what)?,
                Err(Abort::Enlarge) => self.rearrange(|handle, mutator| handle.enlarge(mutator))?,
                Err(Abort::Renumber) => {
                    self.rearrange(|handle, mutator| handle.rebuild_from_itself(mutator))?
                }
            }
            self.mark_again()?;
        }
    }

    /// Runs a change; where the disk is full, reclaims what is dead and runs it once more.
    fn run_with_room<T>(
        &mut self,
        bytes: usize,
        mut change: impl FnMut(&mut Mutator) -> WriteResult<T>,
    ) -> Result<T> {
        self.run(&mut change)
            .or_else(|error| self.run_again(bytes, change, *error))
    }

    /// Runs a change once more that failed with an error, if that was for want of room, and there
    /// is some now.
    #[cold]
    fn run_again<T>(
        &mut self,
        bytes: usize,
        mut change: impl FnMut(&mut Mutator) -> WriteResult<T>,
        error: Error,
    ) -> Result<T> {
        let is_full = |error: &Error| matches!(error, Error::DiskFull { .. });
        let mut error = error;
        // Room that is being given back first: cleaning would take it for what it moves.
        if is_full(&error) && self.await_releases() {
            match self.run(&mut change) {
                Err(again) => error = *again,
                Ok(done) => return Ok(done),
            }
        }
        if is_full(&error) && self.make_room(bytes as u64) {
            return self.run(change).map_err(|error| *error);
        }
        Err(error)
    }

    /// Waits until what was removed is given back. Whether there was anything.
    pub(super) fn await_releases(&self) -> bool {
        self.handle.writer_mutex().tasks.lock().await_releases()
    }

    /// Cleans as if nothing dead were worth keeping, for a change that wants so many bytes. Whether
    /// a segment went.
    fn make_room(&mut self, bytes: u64) -> bool {
        let all = CleanThreshold {
            percent: 0,
            floor: 0,
        };
        let before = self.mutator.generation.header().oldest();
        let budget = RECLAIM.max(2 * bytes);
        let wanted = bytes / RECLAIM;
        // One step may begin a segment, and one find that the oldest was at its end.
        for _ in 0..wanted + 3 {
            if u64::from(
                self.mutator
                    .generation
                    .header()
                    .oldest()
                    .wrapping_sub(before),
            ) > wanted
            {
                break;
            }
            // The refused change's error is the one to report.
            let cleaned = self.mutator.clean_some(all, budget);
            if cleaned.and_then(|()| self.mutator.reclaim_all()).is_err() {
                break;
            }
        }
        self.publish_view();
        self.await_releases();
        self.mutator.generation.header().oldest() != before
    }

    fn mark_again(&mut self) -> Result<()> {
        if self.mutator.generation.header().is_marked() {
            Ok(())
        } else {
            self.prepare()
        }
    }

    fn replace(
        &mut self,
        switch: impl FnOnce(&Handle, &mut Mutator) -> WriteResult<()>,
    ) -> Result<()> {
        let switched = self.switch(switch);
        switched.map_err(|stop| give_up(stop, &self.mutator))
    }

    /// Replaces the generation by one with the same entries. Where damage is in the way, the one
    /// that is made from the heap will do.
    fn rearrange(
        &mut self,
        switch: impl FnOnce(&Handle, &mut Mutator) -> WriteResult<()>,
    ) -> Result<()> {
        match self.switch(switch) {
            Err(Abort::Recover(what, _)) => self.recover(what),
            Err(Abort::Failed(error)) if error.is_corruption() => {
                self.recover("damage in what is to be replaced")
            }
            other => other.map_err(|stop| give_up(stop, &self.mutator)),
        }
    }

    fn switch(
        &mut self,
        switch: impl FnOnce(&Handle, &mut Mutator) -> WriteResult<()>,
    ) -> WriteResult<()> {
        if let Err(error) = refuse_forked(self.handle, self.epoch) {
            return Err(error.into());
        }
        let before = Arc::clone(&self.mutator.generation);
        let switched = switch(self.handle, &mut self.mutator);
        self.relock(&before);
        self.publish_view();
        switched
    }

    /// Stores a value under a key, whether there was one or not. Returns the entry's new version.
    ///
    /// O(1); now and then a region of the table is rebuilt along the way, or a few records are
    /// moved.
    ///
    /// # Errors
    ///
    /// [`Error::KeyLength`], [`Error::ValueTooLarge`], [`Error::TableFull`], [`Error::DiskFull`],
    /// [`Error::NotRemovable`], [`Error::Io`], and [`Error::AppendOnly`] where there is an entry in an
    /// [append-only](crate::Options::append_only) cache: the old value, if there was one, is still
    /// there.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<Version> {
        self.handle.check_key(key)?;
        self.refuse_unbounded()?;
        let bytes = key.len() + value.len();
        let version = self.run_with_room(bytes, |mutator| mutator.put(key, value, None))?;
        self.tidy(bytes);
        Ok(Version(version))
    }

    /// The number of a key, given to it now if it has none.
    pub(crate) fn number(&mut self, key: &[u8]) -> Result<u64> {
        self.handle.check_key(key)?;
        self.run_with_room(key.len(), |mutator| mutator.number(key))
    }

    /// Deletes a key's entry. False where there was none.
    ///
    /// Works on a full disk too, out of a small reserve.
    ///
    /// # Errors
    ///
    /// [`Error::KeyLength`], [`Error::DiskFull`] when even the reserve is used up, [`Error::Io`];
    /// [`Error::AppendOnly`] in an [append-only](crate::Options::append_only) cache, whether there
    /// is an entry or not.
    pub fn delete(&mut self, key: &[u8]) -> Result<bool> {
        self.handle.check_key(key)?;
        let deleted = self.run_with_room(key.len(), |mutator| mutator.delete(key))?;
        if deleted {
            self.tidy(key.len());
        }
        Ok(deleted)
    }

    /// The entry of a key: its value and version.
    ///
    /// # Errors
    ///
    /// As [`MmapCache::entry`](crate::MmapCache::entry).
    pub fn entry(&self, key: &[u8]) -> Result<Option<Entry>> {
        // Without the lock it would not say what the next change meets.
        refuse_forked(self.handle, self.epoch)?;
        let mut value = Vec::new();
        match self.handle.read(key, &mut value)? {
            Answer::Found(version) => Ok(Some(Entry { value, version })),
            Answer::Absent => Ok(None),
            Answer::Damaged(error) => Err(error),
        }
    }

    /// As [`Writer::entry`], but what is damaged counts as absent: it is there to be written over.
    fn entry_or_damaged(&self, key: &[u8]) -> Result<Option<Entry>> {
        match self.entry(key) {
            Err(error) if error.is_corruption() => Ok(None),
            other => other,
        }
    }

    /// Stores a value if the key has none. Returns the new version, or nothing where there was an
    /// entry.
    ///
    /// # Errors
    ///
    /// As [`Writer::put`].
    pub fn insert_if_absent(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Version>> {
        if self.entry_or_damaged(key)?.is_some() {
            return Ok(None);
        }
        self.put(key, value).map(Some)
    }

    /// Stores a value if the entry still has the version that the caller saw. Returns the new
    /// version, or nothing where the entry has another one or is gone.
    ///
    /// # Errors
    ///
    /// As [`Writer::put`]; in an append-only cache it is [`Error::AppendOnly`] in any case.
    pub fn put_if(&mut self, key: &[u8], value: &[u8], seen: Version) -> Result<Option<Version>> {
        self.handle.check_key(key)?;
        refuse_forked(self.handle, self.epoch)?;
        self.refuse_if_append_only()?;
        if self
            .entry_or_damaged(key)?
            .is_none_or(|entry| entry.version != seen)
        {
            return Ok(None);
        }
        self.put(key, value).map(Some)
    }

    /// Deletes the entry if it still has the version that the caller saw. False where it has
    /// another one or is gone.
    ///
    /// # Errors
    ///
    /// As [`Writer::delete`].
    pub fn delete_if(&mut self, key: &[u8], seen: Version) -> Result<bool> {
        self.handle.check_key(key)?;
        refuse_forked(self.handle, self.epoch)?;
        self.refuse_if_append_only()?;
        if self
            .entry_or_damaged(key)?
            .is_none_or(|entry| entry.version != seen)
        {
            return Ok(false);
        }
        self.delete(key)
    }

    /// Lets a closure decide, from what is there, what becomes of an entry. Returns whether
    /// something was changed.
    ///
    /// The closure runs once, under the lock. If it panics, the entry is as it was and the lock is
    /// released with the writer. Writing to the same cache from inside is [`Error::WriterHeld`];
    /// reading is fine.
    ///
    /// # Errors
    ///
    /// As [`Writer::put`].
    pub fn update(
        &mut self,
        key: &[u8],
        decide: impl FnOnce(Option<&Entry>) -> Update,
    ) -> Result<bool> {
        let entry = self.entry_or_damaged(key)?;
        match decide(entry.as_ref()) {
            // The closure may have forked.
            Update::Keep => refuse_forked(self.handle, self.epoch).map(|()| false),
            Update::Put(value) => self.put(key, &value).map(|_| true),
            Update::Delete => self.delete(key),
        }
    }

    /// Ends the batch: with [`Durability::Sync`] it is on the disk when this returns without an
    /// error.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the sync failed, [`Error::SyncFailed`] when an earlier one had.
    pub fn commit(mut self) -> Result<()> {
        self.sync_if_asked()
    }

    /// Syncs what was changed, where that was asked for.
    pub(crate) fn sync_if_asked(&mut self) -> Result<()> {
        refuse_forked(self.handle, self.epoch)?;
        let wanted = self.unsynced && self.handle.options.durability == Durability::Sync;
        self.unsynced = false;
        if wanted {
            self.sync_heap()?;
            self.publish_view();
        }
        Ok(())
    }

    fn sync_heap(&mut self) -> Result<()> {
        let writer_mutex = self.handle.writer_mutex();
        let mut tasks = writer_mutex.tasks.lock();
        if let Some(task) = tasks.under_way.take()
            && let Err(stop) = self.mutator.settle(task)
        {
            return Err(give_up(stop, &self.mutator));
        }
        self.mutator.sync_heap()
    }

    /// Everything to the disk, and the mark off that says otherwise.
    pub(crate) fn flush(&mut self) -> Result<()> {
        refuse_forked(self.handle, self.epoch)?;
        self.sync_heap()?;
        self.unsynced = false;
        self.publish_view();
        let generation = &self.mutator.generation;
        generation.header().note_sync(generation.sync_index())?;
        generation.note_visit();
        generation.header().set(word::DIRTY, 0);
        generation
            .header()
            .note_sync(generation.table.file().sync())
    }

    /// Reclaims all dead bytes of the heap.
    pub(crate) fn compact(&mut self) -> Result<()> {
        self.run(Mutator::clean_all).map_err(|error| *error)?;
        self.shrink_if_sparse()
    }

    /// Replaces everything by the items of an iterator, at once for all readers; see
    /// [`MmapCache::atomic_rebuild`](crate::MmapCache::atomic_rebuild).
    ///
    /// With the writer at hand before the items are read, nothing that others write can be lost
    /// between the two:
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let cache = mmapcache::MmapCache::open(dir.path().join("c"))?;
    /// # cache.put(b"keep", b"")?;
    /// let mut writer = cache.writer()?;
    /// // Errors are kept: a rebuild that met one changes nothing.
    /// let kept = cache.items()?.filter(|item| !matches!(item, Ok((key, _)) if key == b"drop"));
    /// writer.atomic_rebuild(kept)?;
    /// # assert_eq!(cache.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Source`] where the iterator gave an error, [`Error::AppendOnly`], and those of
    /// [`Writer::put`]. After any of them the cache is as it was.
    pub fn atomic_rebuild<K, V, E>(
        &mut self,
        items: impl IntoIterator<Item = std::result::Result<(K, V), E>>,
    ) -> Result<()>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (handle, epoch) = (self.handle, self.epoch);
        refuse_forked(handle, epoch)?;
        self.refuse_if_append_only()?;
        let geometry = self.mutator.generation.table.geometry();
        let capacity = handle.options.capacity_within(geometry, &handle.path)?;
        self.replace(|handle, mutator| {
            handle.switch(mutator, Heap::Fresh, capacity, |fresh| {
                for item in items {
                    refuse_forked(handle, epoch)?;
                    let (key, value) = item.map_err(|error| Error::Source {
                        path: handle.path.to_path_buf(),
                        source: error.into(),
                    })?;
                    handle.check_key(key.as_ref())?;
                    put_staged(fresh, key.as_ref(), value.as_ref(), None)?;
                }
                Ok(refuse_forked(handle, epoch)?)
            })
        })
    }

    /// The same entries in a heap of their own: nothing that is dead or damaged is left.
    pub(crate) fn rewrite_heap(&mut self) -> Result<()> {
        let rewrite = |handle: &Handle, mutator: &mut Mutator| handle.rebuild_from_itself(mutator);
        match self.switch(rewrite) {
            Err(Abort::Recover(what, _)) => self.recover(what)?,
            Err(Abort::Failed(error)) if error.is_corruption() => {
                self.recover("damage in what is to be rewritten")?;
            }
            other => return other.map_err(|stop| give_up(stop, &self.mutator)),
        }
        // Recovery made the table anew, and kept the heap.
        self.replace(rewrite)
    }

    /// Refuses, where what was put stays as it is, what could only change it.
    fn refuse_if_append_only(&self) -> Result<()> {
        let refused = self.mutator.refuse_if_append_only();
        refused.map_err(|stop| give_up(stop, &self.mutator))
    }

    fn threshold(&self) -> CleanThreshold {
        CleanThreshold {
            percent: self.handle.options.clean_percent,
            floor: self.handle.options.clean_floor,
        }
    }

    /// Refuses a put where dead segments cannot be removed, and already take twice what they may.
    fn refuse_unbounded(&mut self) -> Result<()> {
        if !self.mutator.has_evacuated() {
            return Ok(());
        }
        let live = self.mutator.generation.header().counters().live;
        let CleanThreshold { percent, floor } = self.threshold();
        let most = floor.saturating_add(live / 100 * u64::from(percent));
        if self.mutator.dead_bytes() / 2 <= most {
            return Ok(());
        }
        match self.reclaim() {
            Err(Abort::Failed(error)) if matches!(*error, Error::NotRemovable { .. }) => {
                Err(*error)
            }
            // Whatever else it is, tidying meets it again after the put.
            _ => Ok(()),
        }
    }

    /// What follows every change: some cleaning. It never fails the change, which is done.
    fn tidy(&mut self, bytes: usize) {
        let pause = self.handle.clean_pause.load(Relaxed);
        if pause > 0 {
            self.handle.clean_pause.store(pause - 1, Relaxed);
            return;
        }
        let threshold = self.threshold();
        let cleaned = self.mutator.clean_behind(threshold, bytes as u64);
        let tidied = match cleaned.and_then(|()| self.reclaim()) {
            Ok(()) => {
                self.publish_view();
                Ok(())
            }
            Err(Abort::Recover(what, _)) => self.recover(what),
            Err(Abort::Enlarge | Abort::Renumber) => {
                self.rearrange(|handle, mutator| handle.rebuild_from_itself(mutator))
            }
            Err(Abort::Failed(error)) => Err(*error),
        };
        if let Err(error) = tidied {
            log::warn!("{error}: tidying pauses");
            self.publish_view();
            self.handle.clean_pause.store(PAUSE, Relaxed);
        }
    }

    /// Goes on with removing what cleaning has come through.
    fn reclaim(&mut self) -> WriteResult<()> {
        if !self.mutator.has_evacuated() {
            return Ok(());
        }
        if !self.handle.options.background {
            return self.mutator.reclaim_all();
        }
        let writer_mutex = self.handle.writer_mutex();
        let mut tasks = writer_mutex.tasks.lock();
        self.mutator.reclaim_some(&mut tasks)
    }

    /// Listing costs what the roster is long: holes must not outnumber the entries three to one.
    fn shrink_if_sparse(&mut self) -> Result<()> {
        let counters = self.mutator.generation.header().counters();
        if counters.roster_len <= ROSTER_LEAST || counters.occupied * 4 >= counters.roster_len {
            return Ok(());
        }
        self.rearrange(|handle, mutator| handle.shrink(mutator))
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        let this = (self.handle.id, self.epoch);
        HELD.with_borrow_mut(|held| held.retain(|held| *held != this));
        if self.epoch != lock::epoch() {
            // A forked child: the lock and the mutex are the parent's.
            std::mem::forget(self.mutator.0.take());
            return;
        }
        if let Err(error) = self.sync_if_asked() {
            log::error!("{error}");
        }
        if self.prepared {
            self.mutator.generation.note_visit();
        }
        if !self.handle.options.exclusive {
            let generation = &self.mutator.generation;
            generation.header().set(word::HOLDER, 0);
            generation.unlock();
        }
    }
}

/// An inherited writer is dead: the lock is the parent's. An iterator may fork, and both processes
/// come back from it.
fn refuse_forked(handle: &Handle, epoch: u64) -> Result<()> {
    lock::refuse_forked(epoch, &handle.path)
}

/// The writer_mutex, held; none when patience is at its end.
fn wait_for<'a>(
    writer_mutex: &'a Mutex<Option<Mutator>>,
    patience: &Patience,
) -> Option<MutexGuard<'a, Option<Mutator>>> {
    if let Some(guard) = writer_mutex.try_lock() {
        return Some(guard);
    }
    match patience.left() {
        Some(left) => writer_mutex.try_lock_for(left),
        None => Some(writer_mutex.lock()),
    }
}

/// Locks the index that stands at the path, whichever that turns out to be; most likely it is the
/// one of the last write. The mutator stays where it is: moving it costs 9 ns.
fn lock_current(handle: &Handle, idle: &mut Option<Mutator>, patience: &Patience) -> Result<()> {
    loop {
        let mutator = idle.get_or_insert_with(|| {
            let names = Arc::clone(&handle.names);
            Mutator::new(handle.generation.load_full(), names, Stage::Final)
        });
        let generation = &mutator.generation;
        let Some(lock) = generation.lock.as_ref().filter(|lock| lock.is_own()) else {
            // Inherited by fork: the child opens the files for itself.
            handle.reopen(generation)?;
            *idle = None;
            continue;
        };
        // Before the first store, which is that of the lock.
        generation.own_blocks()?;
        let header = generation.header();
        acquire(lock, Some(header), patience, &handle.names)?;
        let superseded = header.poll().superseded();
        if superseded || handle.due_for_look() {
            let there = handle.inode_at_path();
            let there = there.inspect_err(|_| unlock_shared(handle, generation))?;
            if there != Some(generation.inode) {
                generation.unlock();
                handle.reopen(generation)?;
                *idle = None;
                continue;
            }
        }
        if superseded {
            // The lock is held on the inode that counts, so the switch that marked it never
            // happened.
            header.set_poll(header.poll().with_superseded(false));
            discard_staged(&handle.names, Extent::of(header))
                .inspect_err(|_| unlock_shared(handle, generation))?;
        }
        return Ok(());
    }
}

/// Lets go of a lock that was taken in vain; an exclusive handle keeps it whatever happens.
fn unlock_shared(handle: &Handle, generation: &Generation) {
    if !handle.options.exclusive {
        generation.unlock();
    }
}
