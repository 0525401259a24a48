//! `MmapCache`: keys and values, as a mapping.

pub(crate) mod entry;
mod listings;
mod update;
pub(crate) mod writer;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mmapcache::Version;
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::bytes_like::BytesLike;
use crate::errors;
use crate::handle::Handle;
use crate::keywords::Keywords;
use crate::listing::{Listing, Source};
use crate::open_options::OpenOptions;
use crate::read_buffer;
use crate::reports;

use self::entry::Entry;
use self::writer::Writer;

/// An open map.
pub(crate) struct Opened {
    pub map: Arc<mmapcache::MmapCache>,
    pub options: OpenOptions,
}

/// A persistent hash table in memory-mapped files, shared by any number of threads and processes: the
/// native part of `mmapcache.MmapCache`, which makes it a mapping.
#[pyclass(frozen, subclass, weakref, module = "mmapcache._native")]
pub(crate) struct MmapCache(Handle<Opened>);

/// Opens a map, waiting for a process that creates or recovers it.
fn open(py: Python<'_>, path: &Path, options: OpenOptions) -> PyResult<Opened> {
    let engine = options.engine();
    let map = options.patience.run(py, || engine.open(path))?;
    Ok(Opened {
        map: Arc::new(map),
        options,
    })
}

impl MmapCache {
    /// Calls the engine, without the interpreter: for what can wait for the lock, or takes long.
    fn write<T: Send>(
        &self,
        py: Python<'_>,
        call: impl Fn(&mmapcache::MmapCache) -> mmapcache::Result<T> + Send,
    ) -> PyResult<T> {
        self.0.with(py, |opened| {
            let map = &*opened.map;
            opened.options.patience.run(py, move || call(map))
        })
    }

    /// Calls the engine, with the interpreter: for what is over in less time than releasing it takes. A
    /// get of 100 bytes takes 163 ns so, and 261 if it releases the interpreter; beside a thread that
    /// computes, 321 and 996, because then it has to be won back. If the page is not in memory, other
    /// threads wait for the disk; `get_many` and listings release the interpreter.
    #[inline]
    fn read<T>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&mmapcache::MmapCache) -> mmapcache::Result<T>,
    ) -> PyResult<T> {
        self.0.with(py, |opened| {
            call(&opened.map).map_err(|error| errors::to_python(py, error))
        })
    }

    fn list<S: Source + 'static>(
        &self,
        py: Python<'_>,
        list: impl FnOnce(Arc<mmapcache::MmapCache>) -> mmapcache::Result<S> + Send,
    ) -> PyResult<Listing> {
        let map = Arc::clone(&self.0.share(py)?.map);
        let source = py.detach(|| list(map));
        let source = source.map_err(|error| errors::to_python(py, error))?;
        Ok(Listing::new(source))
    }

    fn find<'py>(&self, py: Python<'py>, key: &[u8]) -> PyResult<Option<Bound<'py, PyBytes>>> {
        read_buffer::read(py, |value| self.read(py, |map| map.get_into(key, value)))
    }
}

#[pymethods]
impl MmapCache {
    /// Opens nothing: `__init__` does, so that a subclass may have other arguments.
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        Self(Handle::unopened())
    }

    #[pyo3(signature = (path, **options))]
    fn __init__(
        &self,
        py: Python<'_>,
        path: PathBuf,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        let keywords = Keywords::new(options);
        let mut options = OpenOptions::take(&keywords)?;
        options.max_entries = keywords.take("max_entries")?;
        keywords.finish("MmapCache()")?;
        let opened = open(py, &path, options)?;
        reports::warn_of_losses(py, opened.map.last_recovery(), opened.map.path())?;
        self.0.open(opened);
        Ok(())
    }

    /// The path of the index, with all symbolic links resolved.
    #[getter]
    fn path(&self, py: Python<'_>) -> PyResult<OsString> {
        self.0
            .with(py, |opened| Ok(opened.map.path().as_os_str().to_owned()))
    }

    /// Whether the handle is closed, or was never opened.
    #[getter]
    fn closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Returns the arguments that open such a handle again: the path, and the options.
    fn _arguments<'py>(&self, py: Python<'py>) -> PyResult<(OsString, Bound<'py, PyDict>)> {
        self.0.with(py, |opened| {
            opened.options.refuse_exclusive()?;
            let dict = opened.options.to_dict(py)?;
            dict.set_item("max_entries", opened.options.max_entries)?;
            Ok((opened.map.path().as_os_str().to_owned(), dict))
        })
    }

    /// Returns the value of a key, or the default if there is none.
    #[pyo3(signature = (key, default=None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        key: BytesLike<'py>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(match self.find(py, key.as_bytes())? {
            Some(value) => Some(value.into_any()),
            None => default,
        })
    }

    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        key: BytesLike<'py>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let found = self.find(py, key.as_bytes())?;
        found.ok_or_else(|| PyKeyError::new_err(PyBytes::new(py, key.as_bytes()).unbind()))
    }

    fn __setitem__(
        &self,
        py: Python<'_>,
        key: BytesLike<'_>,
        value: BytesLike<'_>,
    ) -> PyResult<()> {
        self.put(py, key, value).map(|_| ())
    }

    fn __delitem__(&self, py: Python<'_>, key: BytesLike<'_>) -> PyResult<()> {
        let bytes = key.as_bytes();
        match self.write(py, |map| map.delete(bytes))? {
            true => Ok(()),
            false => Err(PyKeyError::new_err(PyBytes::new(py, bytes).unbind())),
        }
    }

    /// Reads no checksum: a later read may still find the value damaged.
    fn __contains__(&self, py: Python<'_>, key: BytesLike<'_>) -> PyResult<bool> {
        self.read(py, |map| map.contains(key.as_bytes()))
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.0.with(py, |opened| Ok(opened.map.len() as usize))
    }

    fn __iter__(&self, py: Python<'_>) -> PyResult<Listing> {
        self.list(py, listings::keys)
    }

    /// Returns an iterator over the values.
    fn _values(&self, py: Python<'_>) -> PyResult<Listing> {
        self.list(py, listings::values)
    }

    /// Returns an iterator over pairs of key and value.
    fn _items(&self, py: Python<'_>) -> PyResult<Listing> {
        self.list(py, listings::items)
    }

    /// Returns an iterator over pairs of key and `Entry`.
    fn entries(&self, py: Python<'_>) -> PyResult<Listing> {
        self.list(py, listings::entries)
    }

    /// Stores a value under a key, in place of any other. Returns the new version.
    fn put(&self, py: Python<'_>, key: BytesLike<'_>, value: BytesLike<'_>) -> PyResult<u64> {
        let (key, value) = (key.as_bytes(), value.as_bytes());
        self.write(py, |map| map.put(key, value))
            .map(Version::as_nanos)
    }

    /// Returns the entry of a key: its value and version. `None` if there is none. The strict form of
    /// `get`: a damaged entry is a `CorruptionError`.
    fn entry(&self, py: Python<'_>, key: BytesLike<'_>) -> PyResult<Option<Entry>> {
        let entry = self.read(py, |map| map.entry(key.as_bytes()))?;
        Ok(entry.map(|entry| Entry::new(py, &entry)))
    }

    /// Returns the version of a key's entry, or `None`. Reads no value and no checksum.
    fn version(&self, py: Python<'_>, key: BytesLike<'_>) -> PyResult<Option<u64>> {
        let version = self.read(py, |map| map.version(key.as_bytes()))?;
        Ok(version.map(Version::as_nanos))
    }

    /// Stores a value if the key has no entry, decided under the lock. Returns the new version, or
    /// `None`.
    fn insert_if_absent(
        &self,
        py: Python<'_>,
        key: BytesLike<'_>,
        value: BytesLike<'_>,
    ) -> PyResult<Option<u64>> {
        let (key, value) = (key.as_bytes(), value.as_bytes());
        let version = self.write(py, |map| map.insert_if_absent(key, value))?;
        Ok(version.map(Version::as_nanos))
    }

    /// Stores a value if the entry still has this version (compare and swap). Returns the new version, or
    /// `None` if it has another one or is gone.
    fn put_if(
        &self,
        py: Python<'_>,
        key: BytesLike<'_>,
        value: BytesLike<'_>,
        version: u64,
    ) -> PyResult<Option<u64>> {
        let (key, value) = (key.as_bytes(), value.as_bytes());
        let seen = Version::from_nanos(version);
        let version = self.write(py, |map| map.put_if(key, value, seen))?;
        Ok(version.map(Version::as_nanos))
    }

    /// Deletes an entry. Returns whether there was one.
    fn delete(&self, py: Python<'_>, key: BytesLike<'_>) -> PyResult<bool> {
        let key = key.as_bytes();
        self.write(py, |map| map.delete(key))
    }

    /// Deletes the entry if it still has this version. Returns whether it was deleted.
    fn delete_if(&self, py: Python<'_>, key: BytesLike<'_>, version: u64) -> PyResult<bool> {
        let key = key.as_bytes();
        let seen = Version::from_nanos(version);
        self.write(py, |map| map.delete_if(key, seen))
    }

    /// Calls `function` with the entry of a key, or `None`, under the lock; stores the bytes that it
    /// returns, deletes the entry for `None`, leaves it for `KEEP`. Returns whether anything changed.
    ///
    /// What the function raises is raised, and nothing is changed. It may read this cache; writing to it
    /// is a `WriterError`. Other writers wait for it.
    fn update_with(
        &self,
        py: Python<'_>,
        key: BytesLike<'_>,
        function: Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        self.0
            .with(py, |opened| update::update_with(opened, &key, &function))
    }

    /// Deletes the entry of a key and returns its value; the default if there is none. Of several threads
    /// and processes that pop a key at once, one gets the value.
    #[pyo3(signature = (key, /, *default))]
    fn pop<'py>(
        &self,
        py: Python<'py>,
        key: BytesLike<'py>,
        default: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let bytes = key.as_bytes();
        let popped = self.write(py, |map| update::pop(map, bytes))?;
        or_default(py, popped, bytes, default)
    }

    /// Returns the value of a key; stores the default first if there is none.
    fn setdefault<'py>(
        &self,
        py: Python<'py>,
        key: BytesLike<'py>,
        default: BytesLike<'py>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        if let Some(value) = self.find(py, key.as_bytes())? {
            return Ok(value);
        }
        let (key, value) = (key.as_bytes(), default.as_bytes());
        let kept = self.write(py, |map| update::set_default(map, key, value))?;
        Ok(PyBytes::new(py, kept.as_deref().unwrap_or(value)))
    }

    /// Stores pairs, some hundreds under one lock. Stops at the first error; what was stored before stays.
    fn _put_many(&self, py: Python<'_>, pairs: &Bound<'_, PyAny>) -> PyResult<()> {
        let opened = self.0.share(py)?;
        update::put_many(py, &opened, pairs)
    }

    /// Looks many keys up at once, faster than one by one. Returns their values in the order of the
    /// keys, with `None` for those that have none.
    fn get_many<'py>(
        &self,
        py: Python<'py>,
        keys: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyList>> {
        self.0.with(py, |opened| {
            read_buffer::read_many(py, &keys, |keys, each| opened.map.get_many(keys, each))
        })
    }

    /// Returns a uniformly random key, or `None` if there is none.
    fn random_key<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let key = self.write(py, mmapcache::MmapCache::random_key)?;
        Ok(key.map(|key| PyBytes::new(py, &key)))
    }

    /// Replaces all entries by pairs of an iterable, at once for all readers. If it raises, nothing is
    /// changed. It may read this cache; other writers wait.
    fn atomic_rebuild(&self, py: Python<'_>, pairs: &Bound<'_, PyAny>) -> PyResult<()> {
        let opened = self.0.share(py)?;
        update::rebuild(py, &opened, pairs)
    }

    /// Deletes all entries, at once for all readers.
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.write(py, mmapcache::MmapCache::clear)
    }

    /// Reclaims the room of all dead records. Usually not needed: writes reclaim as they go.
    fn compact(&self, py: Python<'_>) -> PyResult<()> {
        self.write(py, mmapcache::MmapCache::compact)
    }

    /// Syncs everything to the disk.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.write(py, mmapcache::MmapCache::flush)
    }

    /// Returns the number of changes since the cache was created. One load: compare it with an earlier
    /// one to learn whether anything was written.
    fn change_count(&self, py: Python<'_>) -> PyResult<u64> {
        self.0.with(py, |opened| Ok(opened.map.change_count()))
    }

    /// Returns counters and totals.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.read(py, mmapcache::MmapCache::stats)?;
        reports::stats(py, &stats)
    }

    /// Returns the bytes that the files take on the disk.
    fn disk_usage<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let usage = self.write(py, mmapcache::MmapCache::disk_usage)?;
        reports::disk_usage(py, &usage)
    }

    /// Copies the cache to another path, where there is none, while others write. Returns what was
    /// copied.
    fn backup<'py>(&self, py: Python<'py>, path: PathBuf) -> PyResult<Bound<'py, PyDict>> {
        let report = self.write(py, |map| map.backup().to(&path))?;
        reports::backup(py, &report)
    }

    /// Verifies every entry, record and counter. Returns what was found; `problems` is empty if all is
    /// well.
    fn verify<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let report = self.write(py, |map| map.verify().run())?;
        reports::verify(py, &report)
    }

    /// What the last recovery by this handle found and lost; `None` if it made none.
    #[getter]
    fn last_recovery<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let recovery = self.0.with(py, |opened| Ok(opened.map.last_recovery()))?;
        recovery
            .map(|recovery| reports::recovery(py, &recovery))
            .transpose()
    }

    /// Prepares several changes under one lock, for a `with` statement.
    fn writer(&self, py: Python<'_>) -> PyResult<Writer> {
        self.0.share(py).map(Writer::new)
    }

    /// Closes the handle; closing it again does nothing. Iterators keep the files open until they go.
    fn close(&self, py: Python<'_>) {
        self.0.close(py);
    }

    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        match slf.get().0.is_closed() {
            true => Err(errors::closed(slf.py())),
            false => Ok(slf.clone()),
        }
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) {
        self.close(py);
    }
}

/// Returns a value that was found, or else the default that the caller gave, if any.
pub(crate) fn or_default<'py>(
    py: Python<'py>,
    found: Option<Vec<u8>>,
    key: &[u8],
    default: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    if default.len() > 1 {
        let message = format!(
            "pop() takes a key and one default, {} more given",
            default.len()
        );
        return Err(pyo3::exceptions::PyTypeError::new_err(message));
    }
    match found {
        Some(value) => Ok(PyBytes::new(py, &value).into_any()),
        None if default.is_empty() => Err(PyKeyError::new_err(PyBytes::new(py, key).unbind())),
        None => default.get_item(0),
    }
}
