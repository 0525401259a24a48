//! A batch of changes to a cache under one lock.
//!
//! May call `cache`, which makes it, and what that may call.

use std::fmt;
use std::time::Duration;

use crate::cache::{Cache, InsertOptions, insertion};
use crate::engine::write::put::Terms;
use crate::engine::{Version, Writer};
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::Result;
use crate::format::record::Traits;

/// A batch of changes to a [`Cache`], under its writer lock; made by [`Cache::writer`].
///
/// Readers of all threads and processes continue and see each change as it is made; other writers wait.
/// A batch is not a transaction: changes made before an error or a kill stay. Dropping the batch releases
/// the lock. With [`Durability::Sync`](crate::Durability::Sync), call [`commit`](Self::commit) to learn
/// whether the sync succeeded. A callback for
/// removals hears of them at `commit`, or after the next change.
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

    /// Stores a value, as [`Cache::insert`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Writer::put`].
    pub fn insert(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Version> {
        self.insert_with(key, value, &InsertOptions::new())
    }

    /// Stores a value, as [`Cache::insert_with`].
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
        let (key, stored) = (key.as_ref(), options.stored(value.as_ref()));
        self.cache.check_put(key, &stored)?;
        let terms = insertion::terms(&self.writer, options)?;
        insertion::put(self.cache, &mut self.writer, key, &stored, terms)
    }

    /// Stores that a key is known not to exist, as [`Cache::insert_absent`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Writer::put`].
    pub fn insert_absent(&mut self, key: impl AsRef<[u8]>, ttl: Duration) -> Result<Version> {
        let key = key.as_ref();
        self.cache.check_put(key, &[])?;
        let terms = Terms {
            traits: Traits::NEGATIVE,
            ..insertion::terms(&self.writer, &InsertOptions::new().ttl(ttl))?
        };
        insertion::put(self.cache, &mut self.writer, key, &[], terms)
    }

    /// Removes the entry of a key, as [`Cache::remove`]. Returns whether it had a fresh one.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Writer::delete`].
    pub fn remove(&mut self, key: impl AsRef<[u8]>) -> Result<bool> {
        let key = key.as_ref();
        self.cache.check_key(key)?;
        let found = self.cache.find_undamaged(key)?;
        self.cache.delete(&mut self.writer, key, found.as_ref())?;
        Ok(found.is_some_and(|found| found.is_served()))
    }

    /// Ends the batch and releases the lock. With [`Durability::Sync`](crate::Durability::Sync) the
    /// changes are on the disk when it returns without an error.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Writer::commit`].
    pub fn commit(self) -> Result<()> {
        let committed = self.writer.commit();
        self.cache.report_removals();
        committed
    }
}
