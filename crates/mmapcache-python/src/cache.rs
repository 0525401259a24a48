//! `Cache`: keys and values that expire, as a mapping.

mod compute;
pub(crate) mod entry;
mod listings;
mod settings;
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
use crate::insert_terms::{Name, Terms};
use crate::keywords::Keywords;
use crate::listing::Listing;
use crate::map::or_default;
use crate::open_options::OpenOptions;
use crate::pairs;
use crate::read_buffer;
use crate::reports;
use crate::seconds::Seconds;

use self::entry::CacheEntry;
use self::listings::Part;
use self::settings::Settings;
use self::writer::CacheWriter;

/// An open cache.
pub(crate) struct Opened {
    pub cache: Arc<mmapcache::Cache>,
    pub options: OpenOptions,
}

/// Keys and values that expire, in memory-mapped files, shared by any number of threads and processes: the
/// native part of `mmapcache.Cache`, which makes it a mapping.
#[pyclass(frozen, subclass, weakref, module = "mmapcache._native")]
pub(crate) struct Cache(Handle<Opened>);

/// Opens a cache, waiting for a process that creates or recovers it, or changes its settings.
fn open(py: Python<'_>, path: &Path, options: OpenOptions, settings: Settings) -> PyResult<Opened> {
    let engine = options.engine();
    let cache = options.patience.run(py, || {
        let builder = mmapcache::Cache::builder(path).options(&engine);
        settings.apply(builder).open()
    })?;
    Ok(Opened {
        cache: Arc::new(cache),
        options,
    })
}

impl Cache {
    /// Calls the engine, without the interpreter: for what can wait for the lock, or takes long.
    fn write<T: Send>(
        &self,
        py: Python<'_>,
        call: impl Fn(&mmapcache::Cache) -> mmapcache::Result<T> + Send,
    ) -> PyResult<T> {
        self.0.with(py, |opened| {
            let cache = &*opened.cache;
            opened.options.patience.run(py, move || call(cache))
        })
    }

    /// Calls the engine, with the interpreter: for what is over in less time than releasing it takes.
    #[inline]
    fn read<T>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&mmapcache::Cache) -> mmapcache::Result<T>,
    ) -> PyResult<T> {
        self.0.with(py, |opened| {
            call(&opened.cache).map_err(|error| errors::to_python(py, error))
        })
    }

    fn list(&self, py: Python<'_>, part: Part) -> PyResult<Listing> {
        let cache = Arc::clone(&self.0.share(py)?.cache);
        let source = py.detach(|| listings::list(cache, part));
        let source = source.map_err(|error| errors::to_python(py, error))?;
        Ok(Listing::new(source))
    }

    fn find<'py>(&self, py: Python<'py>, key: &[u8]) -> PyResult<Option<Bound<'py, PyBytes>>> {
        read_buffer::read(py, |value| {
            self.read(py, |cache| cache.get_into(key, value))
        })
    }

    fn to_bytes(py: Python<'_>, value: Option<Vec<u8>>) -> Option<Bound<'_, PyBytes>> {
        value.map(|value| PyBytes::new(py, &value))
    }
}

#[pymethods]
impl Cache {
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
        let settings = Settings::take(&keywords)?;
        let options = OpenOptions::take(&keywords)?;
        keywords.finish("Cache()")?;
        self.0.open(open(py, &path, options, settings)?);
        Ok(())
    }

    /// The path of the index, with all symbolic links resolved.
    #[getter]
    fn path(&self, py: Python<'_>) -> PyResult<OsString> {
        self.0
            .with(py, |opened| Ok(opened.cache.path().as_os_str().to_owned()))
    }

    /// Whether the handle is closed, or was never opened.
    #[getter]
    fn closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Returns the arguments that open such a handle again: the path, and the options. Limits and
    /// defaults are in the files.
    fn _arguments<'py>(&self, py: Python<'py>) -> PyResult<(OsString, Bound<'py, PyDict>)> {
        self.0.with(py, |opened| {
            opened.options.refuse_exclusive()?;
            let path = opened.cache.path().as_os_str().to_owned();
            Ok((path, opened.options.to_dict(py)?))
        })
    }

    /// Returns the value of a key, or the default if there is no fresh one.
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

    /// Stores a value, with the life that is the cache's default.
    fn __setitem__(
        &self,
        py: Python<'_>,
        key: BytesLike<'_>,
        value: BytesLike<'_>,
    ) -> PyResult<()> {
        self.insert(py, key, value, None).map(|_| ())
    }

    fn __delitem__(&self, py: Python<'_>, key: BytesLike<'_>) -> PyResult<()> {
        let bytes = key.as_bytes();
        match self.write(py, |cache| update::take_value(cache, bytes))? {
            Some(_) => Ok(()),
            None => Err(PyKeyError::new_err(PyBytes::new(py, bytes).unbind())),
        }
    }

    fn __contains__(&self, py: Python<'_>, key: BytesLike<'_>) -> PyResult<bool> {
        self.read(py, |cache| cache.contains(key.as_bytes()))
    }

    /// Counts the fresh values, by reading all entries; `len_with_expired` is one load.
    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        let count = |cache: &mmapcache::Cache| {
            let mut fresh = 0;
            for item in cache.entries()? {
                fresh += usize::from(!item?.1.is_negative());
            }
            Ok(fresh)
        };
        self.write(py, count)
    }

    /// Returns whether there is a fresh value. Reads entries until it meets one.
    fn __bool__(&self, py: Python<'_>) -> PyResult<bool> {
        self.list(py, Part::Key)?
            .is_empty(py)
            .map(|is_empty| !is_empty)
    }

    fn __iter__(&self, py: Python<'_>) -> PyResult<Listing> {
        self.list(py, Part::Key)
    }

    /// Returns an iterator over the fresh values.
    fn _values(&self, py: Python<'_>) -> PyResult<Listing> {
        self.list(py, Part::Value)
    }

    /// Returns an iterator over pairs of key and fresh value.
    fn _items(&self, py: Python<'_>) -> PyResult<Listing> {
        self.list(py, Part::Pair)
    }

    /// Returns an iterator over pairs of key and `CacheEntry`, of fresh entries, negative ones too.
    fn entries(&self, py: Python<'_>) -> PyResult<Listing> {
        self.list(py, Part::Entry)
    }

    /// Looks many keys up at once, faster than one by one. Returns their values in the order of the
    /// keys, with `None` for those that have none.
    fn get_many<'py>(
        &self,
        py: Python<'py>,
        keys: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyList>> {
        self.0.with(py, |opened| {
            read_buffer::read_many(py, &keys, |keys, each| opened.cache.get_many(keys, each))
        })
    }

    /// Returns the fresh or stale entry of a key, which may be a negative one; `None` if there is none.
    fn entry(&self, py: Python<'_>, key: BytesLike<'_>) -> PyResult<Option<CacheEntry>> {
        let entry = self.read(py, |cache| cache.entry(key.as_bytes()))?;
        Ok(entry.map(|entry| CacheEntry::new(py, entry)))
    }

    /// Returns the value of a key, or the default, without using the entry: that does not count for
    /// eviction, renews no deadline and is not in the statistics.
    #[pyo3(signature = (key, default=None))]
    fn peek<'py>(
        &self,
        py: Python<'py>,
        key: BytesLike<'py>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let value = self.read(py, |cache| cache.peek(key.as_bytes()))?;
        Ok(match Self::to_bytes(py, value) {
            Some(value) => Some(value.into_any()),
            None => default,
        })
    }

    /// Returns the entry of a key as `entry`, without using it, as `peek`.
    fn peek_entry(&self, py: Python<'_>, key: BytesLike<'_>) -> PyResult<Option<CacheEntry>> {
        let entry = self.read(py, |cache| cache.peek_entry(key.as_bytes()))?;
        Ok(entry.map(|entry| CacheEntry::new(py, entry)))
    }

    /// Returns the entry of a key as the files have it, fresh or expired; `None` if there is none.
    fn stored_entry(&self, py: Python<'_>, key: BytesLike<'_>) -> PyResult<Option<CacheEntry>> {
        let entry = self.read(py, |cache| cache.stored_entry(key.as_bytes()))?;
        Ok(entry.map(|entry| CacheEntry::new(py, entry)))
    }

    /// Stores a value in place of any other. Returns the new version.
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
        let version = self.write(py, |cache| cache.insert_with(key, value, &terms))?;
        Ok(version.as_nanos())
    }

    /// Stores a value if the key has no fresh entry, decided under the lock. Returns the new version, or
    /// `None`.
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
        let version = self.write(py, |cache| cache.add(key, value, &terms))?;
        Ok(version.map(Version::as_nanos))
    }

    /// Stores a value if the key has a fresh one, decided under the lock. Returns the new version, or
    /// `None`.
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
        let version = self.write(py, |cache| cache.replace(key, value, &terms))?;
        Ok(version.map(Version::as_nanos))
    }

    /// Stores a value if the key's entry is fresh and has this version (compare and swap). Returns the new
    /// version, or `None`.
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
        let version = self.write(py, |cache| cache.insert_if(key, value, seen, &terms))?;
        Ok(version.map(Version::as_nanos))
    }

    /// Calls `function` with the fresh entry of a key, or `None`, under the lock; stores the bytes that it
    /// returns, removes the entry for `None`, leaves it for `KEEP`. Returns the version of a value that was
    /// stored, otherwise `None`.
    ///
    /// Without terms an entry that is there keeps its deadline and groups. What the function raises is
    /// raised, and nothing is changed. It may read this cache; writing to it is a `WriterError`.
    #[pyo3(signature = (key, function, **terms))]
    fn update_with(
        &self,
        py: Python<'_>,
        key: BytesLike<'_>,
        function: Bound<'_, PyAny>,
        terms: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Option<u64>> {
        let has_terms = terms.is_some_and(|terms| !terms.is_empty());
        let given = Terms::of_insertion("update_with()", terms)?.insert;
        let opened = self.0.share(py)?;
        let terms = has_terms.then_some(given);
        update::update_with(&opened, key.as_bytes(), &function, terms)
    }

    /// Stores a value and returns the fresh one that it replaces, or `None`.
    #[pyo3(signature = (key, value, **terms))]
    fn swap<'py>(
        &self,
        py: Python<'py>,
        key: BytesLike<'_>,
        value: BytesLike<'_>,
        terms: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let terms = Terms::of_insertion("swap()", terms)?.insert;
        let (key, value) = (key.as_bytes(), value.as_bytes());
        let replaced = self.write(py, |cache| cache.swap(key, value, &terms))?;
        Ok(Self::to_bytes(py, replaced))
    }

    /// Stores the pairs of an iterable, on the same terms, some hundreds under one lock. Stops at the first
    /// error; what was stored before stays.
    #[pyo3(signature = (pairs, **terms))]
    fn insert_many(
        &self,
        py: Python<'_>,
        pairs: &Bound<'_, PyAny>,
        terms: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        let terms = Terms::of_insertion("insert_many()", terms)?.insert;
        let opened = self.0.share(py)?;
        pairs::in_groups(pairs, |group| {
            opened.options.patience.run(py, || {
                let mut writer = opened.cache.writer()?;
                for (key, value) in group {
                    writer.insert_with(key, value, &terms)?;
                }
                writer.commit()
            })
        })
    }

    /// Stores that a key is known not to exist, for `ttl` seconds. Returns the new version.
    fn insert_absent(&self, py: Python<'_>, key: BytesLike<'_>, ttl: Seconds) -> PyResult<u64> {
        let (key, Seconds(ttl)) = (key.as_bytes(), ttl);
        let version = self.write(py, |cache| cache.insert_absent(key, ttl))?;
        Ok(version.as_nanos())
    }

    /// Returns the value of a key. If there is none, calls the function and stores the bytes that it
    /// returns: one call at a time for a key, over all threads and processes; the others wait for its value.
    #[pyo3(signature = (key, function, **terms))]
    fn get_or_insert_with<'py>(
        &self,
        py: Python<'py>,
        key: BytesLike<'_>,
        function: Bound<'py, PyAny>,
        terms: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let terms = Terms::of_computation("get_or_insert_with()", terms)?;
        let (opened, function) = (self.0.share(py)?, function.unbind());
        let value = compute::get_or_insert_with(py, &opened, key.as_bytes(), &function, &terms)?;
        Ok(Self::to_bytes(py, value))
    }

    /// Removes the entry of a key. Returns whether it had a fresh one.
    fn remove(&self, py: Python<'_>, key: BytesLike<'_>) -> PyResult<bool> {
        let key = key.as_bytes();
        self.write(py, |cache| cache.remove(key))
    }

    /// Removes the entry of a key if it is fresh and has this version. Returns whether it was removed.
    fn remove_if(&self, py: Python<'_>, key: BytesLike<'_>, version: u64) -> PyResult<bool> {
        let key = key.as_bytes();
        let seen = Version::from_nanos(version);
        self.write(py, |cache| cache.remove_if(key, seen))
    }

    /// Removes the entries of many keys, under one lock. Returns how many were fresh.
    fn remove_many(&self, py: Python<'_>, keys: &Bound<'_, PyAny>) -> PyResult<u64> {
        let keys: Vec<BytesLike<'_>> = keys
            .try_iter()?
            .map(|key| key?.extract())
            .collect::<PyResult<_>>()?;
        let keys: Vec<&[u8]> = keys.iter().map(BytesLike::as_bytes).collect();
        self.write(py, |cache| {
            let mut writer = cache.writer()?;
            let mut removed = 0;
            for key in &keys {
                removed += u64::from(writer.remove(key)?);
            }
            writer.commit()?;
            Ok(removed)
        })
    }

    /// Removes the entry of a key and returns its value, to one of several callers; `None` if there is no
    /// fresh one.
    fn take<'py>(
        &self,
        py: Python<'py>,
        key: BytesLike<'_>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let key = key.as_bytes();
        let taken = self.write(py, |cache| cache.take(key))?;
        Ok(Self::to_bytes(py, taken))
    }

    /// As `take`; the default if there is no fresh value, and `KeyError` without one. A negative entry stays.
    #[pyo3(signature = (key, /, *default))]
    fn pop<'py>(
        &self,
        py: Python<'py>,
        key: BytesLike<'py>,
        default: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let bytes = key.as_bytes();
        let taken = self.write(py, |cache| update::take_value(cache, bytes))?;
        or_default(py, taken, bytes, default)
    }

    /// Adds to a counter of all processes, and returns its new value. Without a fresh value it begins at
    /// 0, on the terms given; an existing counter keeps its deadline.
    #[pyo3(signature = (key, by=1, **terms))]
    fn increment(
        &self,
        py: Python<'_>,
        key: BytesLike<'_>,
        by: i64,
        terms: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<i64> {
        let terms = Terms::of_insertion("increment()", terms)?.insert;
        let key = key.as_bytes();
        self.write(py, |cache| cache.increment(key, by, &terms))
    }

    /// Gives the fresh entry of a key another deadline, `ttl` seconds from now. Returns whether there was
    /// one.
    fn touch(&self, py: Python<'_>, key: BytesLike<'_>, ttl: Seconds) -> PyResult<bool> {
        let (key, Seconds(ttl)) = (key.as_bytes(), ttl);
        self.write(py, |cache| cache.touch(key, ttl))
    }

    /// Takes the deadline from the fresh entry of a key. Returns whether there was one.
    fn persist(&self, py: Python<'_>, key: BytesLike<'_>) -> PyResult<bool> {
        let key = key.as_bytes();
        self.write(py, |cache| cache.persist(key))
    }

    /// Returns the value of a key, and lets it live until `ttl` seconds from now; `None` if there is none.
    /// The deadline is renewed only if that gains a tenth of `ttl`, so most calls write nothing.
    fn get_and_renew<'py>(
        &self,
        py: Python<'py>,
        key: BytesLike<'_>,
        ttl: Seconds,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let (key, Seconds(ttl)) = (key.as_bytes(), ttl);
        let value = self.write(py, |cache| cache.get_and_renew(key, ttl))?;
        Ok(Self::to_bytes(py, value))
    }

    /// Ends all entries that have this tag now, in constant time, for all processes.
    fn invalidate_tag(&self, py: Python<'_>, tag: Name) -> PyResult<()> {
        self.write(py, |cache| cache.invalidate_tag(&tag.0))
    }

    /// Ends all entries that are in this namespace now, in constant time, for all processes.
    fn invalidate_namespace(&self, py: Python<'_>, namespace: Name) -> PyResult<()> {
        self.write(py, |cache| cache.invalidate_namespace(&namespace.0))
    }

    /// Removes all expired and invalidated entries. Returns how many. Reads the whole index.
    fn sweep(&self, py: Python<'_>) -> PyResult<u64> {
        self.write(py, mmapcache::Cache::sweep)
    }

    /// Removes the expired entries among the next `slots` slots of the index, where the last call of any
    /// process stopped. Returns how many.
    fn sweep_some(&self, py: Python<'_>, slots: u64) -> PyResult<u64> {
        self.write(py, |cache| cache.sweep_some(slots))
    }

    /// Evicts entries until the files take at most so many bytes. Returns the bytes that they take less.
    fn evict_to(&self, py: Python<'_>, bytes: u64) -> PyResult<u64> {
        self.write(py, |cache| cache.evict_to(bytes))
    }

    /// Removes all entries, at once for all readers.
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.write(py, mmapcache::Cache::clear)
    }

    /// Syncs everything to the disk.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.write(py, mmapcache::Cache::flush)
    }

    /// Returns the number of entries, with those that expired and are not removed yet. One load.
    fn len_with_expired(&self, py: Python<'_>) -> PyResult<u64> {
        self.0
            .with(py, |opened| Ok(opened.cache.len_with_expired()))
    }

    /// Returns the version of the last change of any entry. One load.
    fn last_version(&self, py: Python<'_>) -> PyResult<u64> {
        self.read(py, mmapcache::Cache::last_version)
            .map(Version::as_nanos)
    }

    /// Returns counters and sizes: of the files, of this handle, and of all processes.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.read(py, mmapcache::Cache::stats)?;
        reports::cache_stats(py, &stats)
    }

    /// Returns the limits and defaults as they are stored now.
    fn settings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let settings = self.read(py, mmapcache::Cache::settings)?;
        reports::settings(py, &settings)
    }

    /// Returns the bytes that the files take on the disk.
    fn disk_usage<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let usage = self.write(py, mmapcache::Cache::disk_usage)?;
        reports::disk_usage(py, &usage)
    }

    /// Copies the cache to another path, where there is none, while others write. Returns what was
    /// copied.
    fn backup<'py>(&self, py: Python<'py>, path: PathBuf) -> PyResult<Bound<'py, PyDict>> {
        let report = self.write(py, |cache| cache.backup().to(&path))?;
        reports::backup(py, &report)
    }

    /// Verifies every entry, record and counter. Returns what was found; `problems` is empty if all is
    /// well.
    fn verify<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let report = self.write(py, |cache| cache.verify().run())?;
        reports::verify(py, &report)
    }

    /// Prepares several changes under one lock, for a `with` statement.
    fn writer(&self, py: Python<'_>) -> PyResult<CacheWriter> {
        self.0.share(py).map(CacheWriter::new)
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
