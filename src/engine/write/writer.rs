//! The public writer: the lock of a cache, held, and what can be done under it.
//!
//! May call `write::session`, `clean::policy` and everything below them.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::error::{ErrorKind, Result};
use crate::format::record::Traits;
use crate::format::settings::Settings;
use crate::lock;

use crate::engine::clean::{eviction, expire, policy, validity};
use crate::engine::entry::{Entry, Update};
use crate::engine::handle::Handle;
use crate::engine::ids;
use crate::engine::options::Durability;
use crate::engine::read::lookup;
use crate::engine::switch::put_staged;
use crate::engine::version::Version;
use crate::engine::write::mutator::Mutator;
use crate::engine::write::put::Terms;
use crate::engine::write::session::Session;
use crate::engine::write::{cache_words, clear, put};

/// A batch of changes to a cache, under its writer lock; made by
/// [`MmapCache::writer`](crate::MmapCache::writer).
///
/// Readers of all threads and processes continue and see each change as it is made; other writers wait.
/// A batch is not a transaction: changes made before an error or a kill stay. Dropping the writer
/// releases the lock. With [`Durability::Sync`](crate::Durability::Sync), call [`Writer::commit`] to learn whether the sync
/// succeeded.
///
/// A writer stays on the thread that took it. In a forked child every method of an inherited writer
/// returns [`ErrorKind::ForkedWriter`], and dropping it releases nothing.
pub struct Writer<'a> {
    session: Session<'a>,
}

impl fmt::Debug for Writer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.session.fmt(f)
    }
}

impl<'a> Writer<'a> {
    #[inline]
    pub(crate) fn take(handle: &'a Handle) -> Result<Self> {
        Self::take_within(handle, handle.options.lock_timeout, None)
    }

    /// As [`Writer::take`], with another deadline than the handle's, for a change of this key if there
    /// is one.
    #[inline]
    pub(crate) fn take_within(
        handle: &'a Handle,
        timeout: Option<Duration>,
        key: Option<&[u8]>,
    ) -> Result<Self> {
        let session = Session::take(handle, timeout, key)?;
        Ok(Self { session })
    }

    /// The session, for tests of single steps.
    #[cfg(test)]
    pub(crate) fn session(&mut self) -> &mut Session<'a> {
        &mut self.session
    }

    /// Stores a value under a key; overwrites the existing value, if any. Returns the new version.
    ///
    /// O(1) amortised: some calls rebuild a region of the index, or move a few records.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::KeyLength`] if the key is empty or too long, [`ErrorKind::ValueTooLarge`] if key and
    ///   value exceed a segment.
    /// - [`ErrorKind::AppendOnly`] if the key has an entry in an
    ///   [append-only](crate::Options::append_only) cache.
    /// - [`ErrorKind::TableFull`] if the key is new and the cache has
    ///   [`max_entries`](crate::Options::max_entries).
    /// - [`ErrorKind::DiskFull`], [`ErrorKind::NotRemovable`], [`ErrorKind::SyncFailed`] and
    ///   [`ErrorKind::Io`] if the system refuses a file operation.
    /// - [`ErrorKind::Corrupted`] or [`ErrorKind::HeapMissing`] if the cache is damaged beyond what
    ///   recovery can do.
    /// - [`ErrorKind::ForkedWriter`] in a forked child.
    ///
    /// The existing value, if any, is unchanged then.
    #[inline]
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Version> {
        self.put_bytes(key.as_ref(), value.as_ref())
    }

    #[inline]
    pub(crate) fn put_bytes(&mut self, key: &[u8], value: &[u8]) -> Result<Version> {
        self.put_with(key, value, Terms::PLAIN)
    }

    /// As [`put`](Self::put), with a deadline and traits in a `Cache`.
    #[inline]
    pub(crate) fn put_with(&mut self, key: &[u8], value: &[u8], terms: Terms) -> Result<Version> {
        let session = &mut self.session;
        session.handle.check_key(key)?;
        policy::refuse_unbounded(session)?;
        // An invalidation of entries, or of a deadline, is not refused for want of room.
        if !terms.traits.has(Traits::INTERNAL) {
            eviction::before_put(session, key.len(), value.len())?;
        }
        let bytes = key.len() + value.len();
        let version = policy::run_with_room(session, bytes, |mutator| {
            ids::put(mutator, key, value, terms)
        })?;
        policy::tidy(session, bytes);
        Ok(Version(version))
    }

    /// Returns the id of a key, giving it one now if it has none.
    pub(crate) fn id(&mut self, key: &[u8]) -> Result<u64> {
        self.session.handle.check_key(key)?;
        policy::run_with_room(&mut self.session, key.len(), |mutator| {
            ids::id_or_insert(mutator, key)
        })
    }

    /// Deletes a key's entry. Returns whether there was one. Works on a full disk too, from a small
    /// reserve.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::AppendOnly`] in an [append-only](crate::Options::append_only) cache, whether
    /// there is an entry or not, [`ErrorKind::DiskFull`] if even the reserve is used up, and the other
    /// errors of [`put`](Self::put) except those about values and limits.
    #[inline]
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.delete_bytes(key.as_ref())
    }

    pub(crate) fn delete_bytes(&mut self, key: &[u8]) -> Result<bool> {
        let session = &mut self.session;
        session.handle.check_key(key)?;
        let tail = |session: &Session<'_>| session.mutator.generation.header().tail();
        let before = tail(session);
        let deleted =
            policy::run_with_room(session, key.len(), |mutator| put::delete(mutator, key))?;
        // E3: a key without an entry may have got a deletion record.
        if deleted || tail(session) != before {
            policy::tidy(session, key.len());
        }
        Ok(deleted)
    }

    /// Returns the entry of a key, its value and version, or `None` if there is none.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::entry`](crate::MmapCache::entry), and
    /// [`ErrorKind::ForkedWriter`] in a forked child.
    pub fn entry(&self, key: impl AsRef<[u8]>) -> Result<Option<Entry>> {
        self.entry_of_bytes(key.as_ref())
    }

    fn entry_of_bytes(&self, key: &[u8]) -> Result<Option<Entry>> {
        // Without the lock it would not be what the next change finds.
        self.session.refuse_forked()?;
        lookup::entry(self.session.handle, key)
    }

    /// Refuses a forked child, which does not have the lock.
    pub(crate) fn refuse_forked(&self) -> Result<()> {
        self.session.refuse_forked()
    }

    /// As [`Writer::entry`], but a damaged entry counts as absent: it may be overwritten.
    fn entry_or_damaged(&self, key: &[u8]) -> Result<Option<Entry>> {
        match self.entry_of_bytes(key) {
            Err(error) if error.is_corruption() => Ok(None),
            other => other,
        }
    }

    /// Stores a value if the key has no entry. Returns the new version, or `None` if there is an entry. A
    /// damaged entry counts as absent.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`put`](Self::put), and [`ErrorKind::Contended`] and
    /// [`ErrorKind::HeapMissing`] if the entry cannot be read.
    pub fn insert_if_absent(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Option<Version>> {
        self.insert_bytes_if_absent(key.as_ref(), value.as_ref())
    }

    fn insert_bytes_if_absent(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Version>> {
        if self.entry_or_damaged(key)?.is_some() {
            return Ok(None);
        }
        self.put_bytes(key, value).map(Some)
    }

    /// Stores a value if the entry still has the version `seen` (compare and swap). Returns the new
    /// version, or `None` if the entry has another version or is gone. A damaged entry counts as gone.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::AppendOnly`] in an append-only cache in any case, and the errors of
    /// [`insert_if_absent`](Self::insert_if_absent).
    pub fn put_if(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        seen: Version,
    ) -> Result<Option<Version>> {
        self.put_bytes_if(key.as_ref(), value.as_ref(), seen)
    }

    fn put_bytes_if(&mut self, key: &[u8], value: &[u8], seen: Version) -> Result<Option<Version>> {
        if self.has_version(key, seen)? {
            return self.put_bytes(key, value).map(Some);
        }
        Ok(None)
    }

    /// Deletes the entry if it still has the version `seen`. Returns whether it was deleted: false if it
    /// has another version or is gone.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`delete`](Self::delete), and [`ErrorKind::Contended`] and
    /// [`ErrorKind::HeapMissing`] if the entry cannot be read.
    pub fn delete_if(&mut self, key: impl AsRef<[u8]>, seen: Version) -> Result<bool> {
        self.delete_bytes_if(key.as_ref(), seen)
    }

    fn delete_bytes_if(&mut self, key: &[u8], seen: Version) -> Result<bool> {
        Ok(self.has_version(key, seen)? && self.delete_bytes(key)?)
    }

    fn has_version(&self, key: &[u8], seen: Version) -> Result<bool> {
        self.session.handle.check_key(key)?;
        self.session.refuse_forked()?;
        self.session.refuse_if_append_only()?;
        let entry = self.entry_or_damaged(key)?;
        Ok(entry.is_some_and(|entry| entry.version == seen))
    }

    /// Updates an entry: `decide` gets the current entry and returns what to do with it. Returns whether
    /// anything was changed. A damaged entry counts as absent.
    ///
    /// `decide` is called once. If it panics, the entry is unchanged and unwinding releases the lock. It
    /// may read the cache; writing to it from there is [`ErrorKind::AlreadyWriting`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`insert_if_absent`](Self::insert_if_absent) and [`delete`](Self::delete).
    pub fn update(
        &mut self,
        key: impl AsRef<[u8]>,
        decide: impl FnOnce(Option<&Entry>) -> Update,
    ) -> Result<bool> {
        let key = key.as_ref();
        let entry = self.entry_or_damaged(key)?;
        match decide(entry.as_ref()) {
            // The closure may have forked.
            Update::Keep => self.session.refuse_forked().map(|()| false),
            Update::Put(value) => self.put_bytes(key, &value).map(|_| true),
            Update::Delete => self.delete_bytes(key),
        }
    }

    /// Ends the batch and releases the lock. With [`Durability::Sync`](crate::Durability::Sync) the changes are on the disk when it
    /// returns without an error.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Io`] if the sync fails, [`ErrorKind::SyncFailed`] if an earlier one failed, and
    /// [`ErrorKind::ForkedWriter`] in a forked child.
    pub fn commit(mut self) -> Result<()> {
        self.sync_if_asked()
    }

    /// Syncs what was changed, if the options ask for that.
    pub(crate) fn sync_if_asked(&mut self) -> Result<()> {
        self.session.sync_if_asked()
    }

    /// Writes everything to the disk, and removes the dirty mark.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.session.flush()
    }

    /// Reclaims all dead bytes of the heap.
    pub(crate) fn compact(&mut self) -> Result<()> {
        policy::compact(&mut self.session)
    }

    /// Evicts entries of a `Cache` until its files take at most so many bytes. Returns the bytes that
    /// they take less.
    pub(crate) fn evict_to(&mut self, bytes: u64) -> Result<u64> {
        eviction::evict_to(&mut self.session, bytes)
    }

    /// Removes the expired entries of a `Cache` among the next slots. Returns how many there were.
    pub(crate) fn sweep(&mut self, slots: u64) -> Result<u64> {
        self.session.run(|mutator| expire::sweep(mutator, slots))
    }

    /// Returns the path of the cache.
    pub(crate) fn path(&self) -> &Path {
        &self.session.handle.path
    }

    /// Returns the limits and defaults of a `Cache`; `None` if they are corrupt.
    #[inline]
    pub(crate) fn settings(&self) -> Option<Settings> {
        self.session.mutator.generation.header().settings()
    }

    /// Returns whether the entry of every group that was invalidated after a version is still there.
    pub(crate) fn has_groups_since(&mut self, version: Version) -> Result<bool> {
        let Version(version) = version;
        let kept = |mutator: &mut Mutator| validity::has_groups_since(mutator, version);
        self.session.run(kept)
    }

    /// Returns the number of puts so far that replaced a value.
    #[inline]
    pub(crate) fn overwrites(&self) -> u64 {
        self.session.mutator.generation.header().overwrites()
    }

    /// Stores the limits and defaults of a `Cache`.
    pub(crate) fn set_settings(&mut self, settings: Settings) -> Result<()> {
        self.session.run(|mutator| {
            cache_words::set_settings(mutator.generation.header(), settings);
            Ok(())
        })?;
        if self.session.handle.options.durability != Durability::Sync {
            return Ok(());
        }
        let generation = &self.session.mutator.generation;
        let synced = generation.table.file().sync();
        generation.header().note_sync(synced)
    }

    /// Removes all entries.
    pub(crate) fn clear(&mut self) -> Result<()> {
        clear::clear(&mut self.session)
    }

    /// Copies the entries into a heap of their own: nothing dead or damaged is left.
    pub(crate) fn rewrite_heap(&mut self) -> Result<()> {
        self.session.rewrite_heap()
    }

    /// Replaces all entries by the items of an iterator, atomically for readers; see
    /// [`MmapCache::atomic_rebuild`](crate::MmapCache::atomic_rebuild).
    ///
    /// Because the writer holds the lock before the iterator starts, no change by another process can be
    /// lost:
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let cache = mmapcache::MmapCache::open(dir.path().join("c"))?;
    /// # cache.put(b"keep", b"")?;
    /// let mut writer = cache.writer()?;
    /// // The filter passes errors on: the rebuild fails on the first one and changes nothing.
    /// let kept = cache.iter()?.filter(|item| !matches!(item, Ok((key, _)) if key == b"drop"));
    /// writer.atomic_rebuild(kept)?;
    /// # assert_eq!(cache.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::RebuildSource`] if the iterator returns an error.
    /// - [`ErrorKind::AppendOnly`] in an append-only cache.
    /// - [`ErrorKind::InvalidOption`] if [`Options::capacity`](crate::Options::capacity) is too large.
    /// - The errors of [`put`](Self::put), for an item or the new files.
    ///
    /// The cache is unchanged then.
    pub fn atomic_rebuild<K, V, E>(
        &mut self,
        items: impl IntoIterator<Item = std::result::Result<(K, V), E>>,
    ) -> Result<()>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (handle, epoch) = (self.session.handle, self.session.epoch());
        self.session.replace_entries(|fresh| {
            for item in items {
                // The iterator may have forked.
                lock::refuse_forked(epoch, &handle.path)?;
                let (key, value) = item.map_err(|error| {
                    ErrorKind::RebuildSource {
                        source: error.into(),
                    }
                    .at(&handle.path)
                })?;
                handle.check_key(key.as_ref())?;
                put_staged(fresh, key.as_ref(), value.as_ref(), Terms::PLAIN)?;
            }
            Ok(())
        })
    }
}
