//! `Writer`: several changes of a map under one lock.

use std::sync::Arc;

use mmapcache::Version;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use self_cell::self_cell;

use crate::bytes_like::BytesLike;
use crate::map::Opened;
use crate::map::entry::Entry;
use crate::thread_writer::ThreadWriter;

/// `None` once it is committed.
type MaybeWriter<'a> = Option<mmapcache::Writer<'a>>;

self_cell!(
    struct HeldWriter {
        owner: Arc<Opened>,
        #[not_covariant]
        dependent: MaybeWriter,
    }
);

impl HeldWriter {
    fn take(map: Arc<Opened>) -> mmapcache::Result<Self> {
        Self::try_new(map, |map| map.map.writer().map(Some))
    }

    fn call<R>(
        &mut self,
        f: impl FnOnce(&mut mmapcache::Writer<'_>) -> mmapcache::Result<R>,
    ) -> mmapcache::Result<R> {
        self.with_dependent_mut(|_, writer| {
            f(writer
                .as_mut()
                .expect("only leaving commits, and takes the writer away"))
        })
    }

    fn commit(mut self) -> mmapcache::Result<()> {
        self.with_dependent_mut(|_, writer| writer.take().map_or(Ok(()), mmapcache::Writer::commit))
    }
}

/// Several changes under one lock, made by `MmapCache.writer()`; a context manager, whose block holds the
/// lock.
///
/// Readers go on and see each change as it is made; other writers wait. A batch is no transaction: what was
/// changed before an exception stays. It belongs to the thread that entered it.
#[pyclass(frozen, weakref, module = "mmapcache")]
pub(crate) struct Writer {
    map: Arc<Opened>,
    held: ThreadWriter<HeldWriter>,
}

impl Writer {
    pub(super) fn new(map: Arc<Opened>) -> Self {
        Self {
            map,
            held: ThreadWriter::new(),
        }
    }
}

#[pymethods]
impl Writer {
    /// Waits for the lock, at most `lock_timeout`.
    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        let writer = slf.get();
        let map = &writer.map;
        let take = || HeldWriter::take(Arc::clone(map));
        writer.held.enter(slf.py(), map.options.patience, take)?;
        Ok(slf.clone())
    }

    /// Releases the lock. With `durability="sync"` the changes are on the disk when it returns.
    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.held.leave(py, HeldWriter::commit)
    }

    /// Stores a value. Returns the new version.
    fn put(&self, py: Python<'_>, key: BytesLike<'_>, value: BytesLike<'_>) -> PyResult<u64> {
        let (key, value) = (key.as_bytes(), value.as_bytes());
        let version = self
            .held
            .with(py, |held| held.call(|writer| writer.put(key, value)))?;
        Ok(version.as_nanos())
    }

    /// Deletes an entry. Returns whether there was one.
    fn delete(&self, py: Python<'_>, key: BytesLike<'_>) -> PyResult<bool> {
        let key = key.as_bytes();
        self.held
            .with(py, |held| held.call(|writer| writer.delete(key)))
    }

    /// Returns the entry of a key, or `None`.
    fn entry(&self, py: Python<'_>, key: BytesLike<'_>) -> PyResult<Option<Entry>> {
        let key = key.as_bytes();
        let entry = self
            .held
            .with(py, |held| held.call(|writer| writer.entry(key)))?;
        Ok(entry.map(|entry| Entry::new(py, &entry)))
    }

    /// Stores a value if the key has no entry. Returns the new version, or `None`.
    fn insert_if_absent(
        &self,
        py: Python<'_>,
        key: BytesLike<'_>,
        value: BytesLike<'_>,
    ) -> PyResult<Option<u64>> {
        let (key, value) = (key.as_bytes(), value.as_bytes());
        let put = |held: &mut HeldWriter| held.call(|writer| writer.insert_if_absent(key, value));
        Ok(self.held.with(py, put)?.map(Version::as_nanos))
    }

    /// Stores a value if the entry has this version. Returns the new version, or `None`.
    fn put_if(
        &self,
        py: Python<'_>,
        key: BytesLike<'_>,
        value: BytesLike<'_>,
        version: u64,
    ) -> PyResult<Option<u64>> {
        let (key, value) = (key.as_bytes(), value.as_bytes());
        let seen = Version::from_nanos(version);
        let put = |held: &mut HeldWriter| held.call(|writer| writer.put_if(key, value, seen));
        Ok(self.held.with(py, put)?.map(Version::as_nanos))
    }

    /// Deletes the entry if it has this version. Returns whether it was deleted.
    fn delete_if(&self, py: Python<'_>, key: BytesLike<'_>, version: u64) -> PyResult<bool> {
        let key = key.as_bytes();
        let seen = Version::from_nanos(version);
        self.held
            .with(py, |held| held.call(|writer| writer.delete_if(key, seen)))
    }
}
