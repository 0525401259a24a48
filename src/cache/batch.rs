//! A batch of changes to a cache under one lock.
//!
//! May call `cache`, which makes it, and what that may call.

use std::fmt;
use std::time::Duration;

use crate::cache::change::{self, Condition};
use crate::cache::{Cache, CacheEntry, InsertOptions, entry, idle, insertion};
use crate::engine::write::put::Terms;
use crate::engine::{Update, Version, Writer};
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
        insertion::insert(self.cache, &mut self.writer, key, &stored, options)
    }

    /// Returns the fresh or stale entry of a key, as [`Cache::entry`]: what this batch has changed is
    /// seen, and no other writer changes it until the batch ends.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::entry`].
    pub fn entry(&mut self, key: impl AsRef<[u8]>) -> Result<Option<CacheEntry>> {
        let (cache, key) = (self.cache, key.as_ref());
        cache.check_key(key)?;
        self.writer.refuse_forked()?;
        let found = match cache.find(key)? {
            Some(found) => cache.count_found(found),
            None => cache.count_miss(),
        };
        if let Some(found) = &found
            && found.traits.is_idle()
        {
            idle::renew_in_batch(cache, &mut self.writer, key, found);
        }
        Ok(found.map(entry::of))
    }

    /// Stores a value if the key has no fresh or stale entry, as [`Cache::add`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Writer::insert_if_absent`].
    pub fn add(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &InsertOptions,
    ) -> Result<Option<Version>> {
        self.insert_where(key.as_ref(), value.as_ref(), options, Condition::Absent)
    }

    /// Stores a value if the key has a fresh or stale one, as [`Cache::replace`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Writer::put_if`].
    pub fn replace(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &InsertOptions,
    ) -> Result<Option<Version>> {
        self.insert_where(key.as_ref(), value.as_ref(), options, Condition::Value)
    }

    /// Stores a value if the key's entry has the version `seen`, as [`Cache::insert_if`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Writer::put_if`].
    pub fn insert_if(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        seen: Version,
        options: &InsertOptions,
    ) -> Result<Option<Version>> {
        let condition = Condition::Version(seen);
        self.insert_where(key.as_ref(), value.as_ref(), options, condition)
    }

    fn insert_where(
        &mut self,
        key: &[u8],
        value: &[u8],
        options: &InsertOptions,
        condition: Condition,
    ) -> Result<Option<Version>> {
        let stored = options.stored(value);
        self.cache.check_put(key, &stored)?;
        change::insert_where(
            self.cache,
            &mut self.writer,
            key,
            &stored,
            options,
            condition,
        )
    }

    /// Decides what becomes of the entry of a key, as [`Cache::update`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Writer::update`].
    pub fn update(
        &mut self,
        key: impl AsRef<[u8]>,
        decide: impl FnOnce(Option<&CacheEntry>) -> Update<(Vec<u8>, InsertOptions)>,
    ) -> Result<Option<Version>> {
        let key = key.as_ref();
        self.cache.check_key(key)?;
        change::update(self.cache, &mut self.writer, key, |entry| Ok(decide(entry)))
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

    /// Removes the entry of a key, as [`Cache::remove`]. Returns whether it had a fresh or stale one.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Writer::delete`].
    pub fn remove(&mut self, key: impl AsRef<[u8]>) -> Result<bool> {
        let key = key.as_ref();
        self.cache.check_key(key)?;
        change::remove(self.cache, &mut self.writer, key)
    }

    /// Removes the entry of a key if it has the version `seen`, as [`Cache::remove_if`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Writer::delete_if`].
    pub fn remove_if(&mut self, key: impl AsRef<[u8]>, seen: Version) -> Result<bool> {
        let key = key.as_ref();
        self.cache.check_key(key)?;
        change::remove_if(self.cache, &mut self.writer, key, seen)
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
