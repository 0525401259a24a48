//! A batch of changes to a cache under one lock.
//!
//! May call `cache`, which makes it, and what that may call.

use std::fmt;

use crate::cache::{Cache, InsertOptions};
use crate::engine::write::limits;
use crate::engine::{Version, Writer};
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::Result;

/// A batch of changes to a [`Cache`], under its writer lock; made by [`Cache::writer`].
///
/// Readers of all threads and processes continue and see each change as it is made; other writers wait.
/// A batch is not a transaction: changes made before an error or a kill stay. Dropping the batch releases
/// the lock. With [`Durability::Sync`](crate::Durability::Sync), call [`commit`](Self::commit) to learn
/// whether the sync succeeded.
///
/// A batch stays on the thread that began it. Until it ends, each writing method of the cache returns
/// [`ErrorKind::AlreadyWriting`] on that thread. In a forked child all its methods return
/// [`ErrorKind::ForkedWriter`].
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let cache = mmapcache::Cache::open(dir.path().join("c"))?;
/// let mut batch = cache.writer()?;
/// for (name, address) in [("a.example", "192.0.2.1"), ("b.example", "192.0.2.2")] {
///     batch.insert(name, address)?;
/// }
/// batch.commit()?;
/// assert_eq!(cache.get("b.example")?.as_deref(), Some(&b"192.0.2.2"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CacheWriter<'a> {
    cache: &'a Cache,
    writer: Writer<'a>,
}

impl fmt::Debug for CacheWriter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CacheWriter").field(self.cache).finish()
    }
}

impl<'a> CacheWriter<'a> {
    pub(super) fn take(cache: &'a Cache) -> Result<Self> {
        let writer = cache.cache.writer()?;
        Ok(Self { cache, writer })
    }

    /// Stores a value without a deadline, as [`Cache::insert`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Writer::put`].
    pub fn insert(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Version> {
        self.insert_with(key, value, &InsertOptions::new())
    }

    /// Stores a value with a deadline, as [`Cache::insert_with`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Writer::put`].
    pub fn insert_with(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &InsertOptions,
    ) -> Result<Version> {
        let (key, value) = (key.as_ref(), value.as_ref());
        limits::check_put(self.cache.cache.handle(), key, value)?;
        self.writer.put_with(key, value, options.terms())
    }

    /// Removes the entry of a key, as [`Cache::remove`]. Returns whether it had a fresh one.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Writer::delete`].
    pub fn remove(&mut self, key: impl AsRef<[u8]>) -> Result<bool> {
        let key = key.as_ref();
        let was_fresh = self.cache.find_fresh(key)?.is_some();
        self.writer.delete_bytes(key)?;
        Ok(was_fresh)
    }

    /// Ends the batch and releases the lock. With [`Durability::Sync`](crate::Durability::Sync) the
    /// changes are on the disk when it returns without an error.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Writer::commit`].
    pub fn commit(self) -> Result<()> {
        self.writer.commit()
    }
}
