//! `CacheWriter`: several changes of a cache under one lock.

use std::sync::Arc;

use mmapcache::Version;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use self_cell::self_cell;

use crate::bytes_like::BytesLike;
use crate::cache::Opened;
use crate::cache::entry::CacheEntry;
use crate::insert_terms::Terms;
use crate::seconds::Seconds;
use crate::thread_writer::ThreadWriter;

/// `None` once it is committed.
type MaybeWriter<'a> = Option<mmapcache::CacheWriter<'a>>;

self_cell!(
    struct HeldWriter {
        owner: Arc<Opened>,
        #[not_covariant]
        dependent: MaybeWriter,
    }
);

impl HeldWriter {
    fn take(cache: Arc<Opened>) -> mmapcache::Result<Self> {
        Self::try_new(cache, |cache| cache.cache.writer().map(Some))
    }

    fn call<R>(
        &mut self,
        f: impl FnOnce(&mut mmapcache::CacheWriter<'_>) -> mmapcache::Result<R>,
    ) -> mmapcache::Result<R> {
        self.with_dependent_mut(|_, writer| {
            f(writer
                .as_mut()
                .expect("only leaving commits, and takes the writer away"))
        })
    }

    fn commit(mut self) -> mmapcache::Result<()> {
        self.with_dependent_mut(|_, writer| {
            writer.take().map_or(Ok(()), mmapcache::CacheWriter::commit)
        })
    }
}

/// Several changes under one lock, made by `Cache.writer()`; a context manager, whose block holds the lock.
///
/// Readers go on and see each change as it is made; other writers wait. A batch is no transaction: what was
/// changed before an exception stays. It belongs to the thread that entered it.
#[pyclass(frozen, weakref, module = "mmapcache")]
pub(crate) struct CacheWriter {
    cache: Arc<Opened>,
    held: ThreadWriter<HeldWriter>,
}

impl CacheWriter {
    pub(super) fn new(cache: Arc<Opened>) -> Self {
        Self {
            cache,
            held: ThreadWriter::new(),
        }
    }
}

#[pymethods]
impl CacheWriter {
    /// Waits for the lock, at most `lock_timeout`.
    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        let writer = slf.get();
        let cache = &writer.cache;
        let take = || HeldWriter::take(Arc::clone(cache));
        writer.held.enter(slf.py(), cache.options.patience, take)?;
        Ok(slf.clone())
    }

    /// Releases the lock. With `durability="sync"` the changes are on the disk when it returns.
    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.held.leave(py, HeldWriter::commit)
    }

    /// Stores a value, as `Cache.insert`. Returns the new version.
    #[pyo3(signature = (key, value, **terms))]
    fn insert(
        &self,
        py: Python<'_>,
        key: BytesLike<'_>,
        value: BytesLike<'_>,
        terms: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<u64> {
        let terms = Terms::of_insertion("insert()", terms)?.insert;
        let (key, value) = (key.as_bytes(), value.as_bytes());
        let insert =
            |held: &mut HeldWriter| held.call(|writer| writer.insert_with(key, value, &terms));
        Ok(self.held.with(py, insert)?.as_nanos())
    }

    /// Returns the fresh or stale entry of a key, as this batch has left it; `None` if there is none.
    fn entry(&self, py: Python<'_>, key: BytesLike<'_>) -> PyResult<Option<CacheEntry>> {
        let key = key.as_bytes();
        let entry = self
            .held
            .with(py, |held| held.call(|writer| writer.entry(key)))?;
        Ok(entry.map(|entry| CacheEntry::new(py, entry)))
    }

    /// Stores a value if the key has no fresh entry. Returns the new version, or `None`.
    #[pyo3(signature = (key, value, **terms))]
    fn add(
        &self,
        py: Python<'_>,
        key: BytesLike<'_>,
        value: BytesLike<'_>,
        terms: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Option<u64>> {
        let terms = Terms::of_insertion("add()", terms)?.insert;
        let (key, value) = (key.as_bytes(), value.as_bytes());
        let add = |held: &mut HeldWriter| held.call(|writer| writer.add(key, value, &terms));
        Ok(self.held.with(py, add)?.map(Version::as_nanos))
    }

    /// Stores a value if the key has a fresh one. Returns the new version, or `None`.
    #[pyo3(signature = (key, value, **terms))]
    fn replace(
        &self,
        py: Python<'_>,
        key: BytesLike<'_>,
        value: BytesLike<'_>,
        terms: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Option<u64>> {
        let terms = Terms::of_insertion("replace()", terms)?.insert;
        let (key, value) = (key.as_bytes(), value.as_bytes());
        let replace =
            |held: &mut HeldWriter| held.call(|writer| writer.replace(key, value, &terms));
        Ok(self.held.with(py, replace)?.map(Version::as_nanos))
    }

    /// Stores a value if the key's entry is fresh and has this version. Returns the new version, or `None`.
    #[pyo3(signature = (key, value, version, **terms))]
    fn insert_if(
        &self,
        py: Python<'_>,
        key: BytesLike<'_>,
        value: BytesLike<'_>,
        version: u64,
        terms: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Option<u64>> {
        let terms = Terms::of_insertion("insert_if()", terms)?.insert;
        let (key, value) = (key.as_bytes(), value.as_bytes());
        let seen = Version::from_nanos(version);
        let insert =
            |held: &mut HeldWriter| held.call(|writer| writer.insert_if(key, value, seen, &terms));
        Ok(self.held.with(py, insert)?.map(Version::as_nanos))
    }

    /// Removes an entry if it is fresh and has this version. Returns whether it was removed.
    fn remove_if(&self, py: Python<'_>, key: BytesLike<'_>, version: u64) -> PyResult<bool> {
        let key = key.as_bytes();
        let seen = Version::from_nanos(version);
        self.held
            .with(py, |held| held.call(|writer| writer.remove_if(key, seen)))
    }

    /// Stores that a key is known not to exist, as `Cache.insert_absent`. Returns the new version.
    fn insert_absent(&self, py: Python<'_>, key: BytesLike<'_>, ttl: Seconds) -> PyResult<u64> {
        let (key, Seconds(ttl)) = (key.as_bytes(), ttl);
        let insert = |held: &mut HeldWriter| held.call(|writer| writer.insert_absent(key, ttl));
        Ok(self.held.with(py, insert)?.as_nanos())
    }

    /// Removes an entry. Returns whether there was a fresh one.
    fn remove(&self, py: Python<'_>, key: BytesLike<'_>) -> PyResult<bool> {
        let key = key.as_bytes();
        self.held
            .with(py, |held| held.call(|writer| writer.remove(key)))
    }
}
