//! The public writer: the lock of a cache, held, and what can be done under it.
//!
//! May call `write::session`, `clean::policy` and everything below them.

use std::fmt;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::lock;

use crate::engine::clean::policy;
use crate::engine::entry::{Entry, Update};
use crate::engine::handle::Handle;
use crate::engine::ids;
use crate::engine::read::lookup;
use crate::engine::switch::put_staged;
use crate::engine::version::Version;
use crate::engine::write::session::Session;
use crate::engine::write::{clear, put};

/// The writer lock of a cache, held: a batch of changes under one lock and, with
/// [`Durability::Sync`](crate::Durability::Sync), one sync.
///
/// Other threads and processes read at the same time and see each change as it is made; their writes
/// wait. A batch is not a transaction: what was done before an error or a kill stays done. Dropping
/// the writer releases the lock; with [`Durability::Sync`](crate::Durability::Sync) call
/// [`Writer::commit`] to learn whether the sync succeeded.
///
/// A writer stays on the thread that took it. In a forked child it is unusable: every method returns
/// [`Error::Forked`], and dropping it releases nothing.
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
        Self::take_within(handle, handle.options.lock_timeout)
    }

    /// As [`Writer::take`], with another deadline than the handle's.
    #[inline]
    pub(crate) fn take_within(handle: &'a Handle, timeout: Option<Duration>) -> Result<Self> {
        let session = Session::take(handle, timeout)?;
        Ok(Self { session })
    }

    /// The session, for tests of single steps.
    #[cfg(test)]
    pub(crate) fn session(&mut self) -> &mut Session<'a> {
        &mut self.session
    }

    /// Stores a value under a key, replacing the value of an existing entry. Returns the entry's new
    /// version.
    ///
    /// O(1). Now and then a region of the table is rebuilt along the way, or a few records are
    /// moved.
    ///
    /// # Errors
    ///
    /// Returns [`Error::KeyLength`], [`Error::ValueTooLarge`], [`Error::TableFull`],
    /// [`Error::DiskFull`], [`Error::NotRemovable`], [`Error::Io`], or [`Error::AppendOnly`] if the
    /// key has an entry in an [append-only](crate::Options::append_only) cache. After an error the
    /// old value, if there was one, is unchanged.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<Version> {
        let session = &mut self.session;
        session.handle.check_key(key)?;
        policy::refuse_unbounded(session)?;
        let bytes = key.len() + value.len();
        let version = policy::run_with_room(session, bytes, |mutator| {
            ids::put(mutator, key, value, None)
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

    /// Deletes a key's entry. Returns whether there was one.
    ///
    /// Works on a full disk too, out of a small reserve.
    ///
    /// # Errors
    ///
    /// Returns [`Error::KeyLength`], [`Error::DiskFull`] if even the reserve is used up,
    /// [`Error::Io`], or [`Error::AppendOnly`] in an [append-only](crate::Options::append_only)
    /// cache, whether the key has an entry or not.
    pub fn delete(&mut self, key: &[u8]) -> Result<bool> {
        let session = &mut self.session;
        session.handle.check_key(key)?;
        let deleted =
            policy::run_with_room(session, key.len(), |mutator| put::delete(mutator, key))?;
        if deleted {
            policy::tidy(session, key.len());
        }
        Ok(deleted)
    }

    /// Returns the entry of a key: its value and version.
    ///
    /// # Errors
    ///
    /// As [`MmapCache::entry`](crate::MmapCache::entry).
    pub fn entry(&self, key: &[u8]) -> Result<Option<Entry>> {
        // Without the lock it would not be what the next change finds.
        self.session.refuse_forked()?;
        lookup::entry(self.session.handle, key)
    }

    /// As [`Writer::entry`], but a damaged entry counts as absent: it may be overwritten.
    fn entry_or_damaged(&self, key: &[u8]) -> Result<Option<Entry>> {
        match self.entry(key) {
            Err(error) if error.is_corruption() => Ok(None),
            other => other,
        }
    }

    /// Stores a value if the key has none. Returns the new version, or `None` if the key has an
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
    /// version, or `None` if the entry has another version or is gone.
    ///
    /// # Errors
    ///
    /// As [`Writer::put`]; in an append-only cache [`Error::AppendOnly`] in any case.
    pub fn put_if(&mut self, key: &[u8], value: &[u8], seen: Version) -> Result<Option<Version>> {
        if self.has_version(key, seen)? {
            return self.put(key, value).map(Some);
        }
        Ok(None)
    }

    /// Deletes the entry if it still has the version that the caller saw. Returns false if it has
    /// another version or is gone.
    ///
    /// # Errors
    ///
    /// As [`Writer::delete`].
    pub fn delete_if(&mut self, key: &[u8], seen: Version) -> Result<bool> {
        Ok(self.has_version(key, seen)? && self.delete(key)?)
    }

    fn has_version(&self, key: &[u8], seen: Version) -> Result<bool> {
        self.session.handle.check_key(key)?;
        self.session.refuse_forked()?;
        self.session.refuse_if_append_only()?;
        let entry = self.entry_or_damaged(key)?;
        Ok(entry.is_some_and(|entry| entry.version == seen))
    }

    /// Passes the entry of a key to a closure, which decides what becomes of it. Returns whether
    /// something was changed.
    ///
    /// The closure runs once, under the lock. If it panics, the entry is unchanged and the lock is
    /// released with the writer. Writing to the same cache from inside returns
    /// [`Error::WriterHeld`]; reading is fine.
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
            Update::Keep => self.session.refuse_forked().map(|()| false),
            Update::Put(value) => self.put(key, &value).map(|_| true),
            Update::Delete => self.delete(key),
        }
    }

    /// Ends the batch. With [`Durability::Sync`](crate::Durability::Sync) it is on the disk if this
    /// returns no error.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Io`] if the sync failed, or [`Error::SyncFailed`] if an earlier one had
    /// failed.
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

    /// Removes all entries.
    pub(crate) fn clear(&mut self) -> Result<()> {
        clear::clear(&mut self.session)
    }

    /// Copies the entries into a heap of their own: nothing dead or damaged is left.
    pub(crate) fn rewrite_heap(&mut self) -> Result<()> {
        self.session.rewrite_heap()
    }

    /// Replaces all entries by the items of an iterator, at once for all readers; see
    /// [`MmapCache::atomic_rebuild`](crate::MmapCache::atomic_rebuild).
    ///
    /// With the writer taken before the items are read, no write of another process can be lost
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
    /// Returns [`Error::Source`] if the iterator gave an error, [`Error::AppendOnly`], or one of the
    /// errors of [`Writer::put`]. After any of them the cache is as it was.
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
                let (key, value) = item.map_err(|error| Error::Source {
                    path: handle.path.to_path_buf(),
                    source: error.into(),
                })?;
                handle.check_key(key.as_ref())?;
                put_staged(fresh, key.as_ref(), value.as_ref(), None)?;
            }
            Ok(())
        })
    }
}
