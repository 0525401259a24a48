//! [`Store`], the native part of `mmapcache.diskcache`: entries with the meaning that diskcache gives them.
//!
//! Table of contents. `open` has the files; `key` and `value` say how objects are stored, with `codec`
//! for those that have no form here. `calls` is what the methods do, from `arguments` to an `answer`. They
//! change entries by `transaction`, which finds the lock; `change` is what they do there, with `undo` in a
//! transaction. `entries`, `queue` and `order` are the operations, `scan` and `upkeep` those that read all
//! entries.
//!
//! Lookups keep the interpreter: they take no lock and 0.3 us if the entry is in memory, and a thread that
//! releases the interpreter waits up to 5 ms for it beside one that computes.

mod answer;
mod arguments;
mod calls;
mod change;
mod codec;
mod entries;
mod key;
mod open;
mod order;
mod queue;
mod scan;
mod transaction;
mod undo;
mod upkeep;
mod value;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use mmapcache::Eviction;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyInt, PyList, PyTuple};

use crate::errors;
use crate::store::answer::Wanted;
use crate::store::arguments::{
    Given, Life, Optional, SetOptions, clock, item_name, missing, or_pair, side_of,
};
use crate::store::change::Found;
use crate::store::codec::Codec;
use crate::store::key::Key;
use crate::store::open::Open;
use crate::store::value::{Number, Stored};

/// How a store is opened, and opened again after it was closed.
struct Setup {
    directory: PathBuf,
    timeout: Duration,
}

/// What is in both `Setup` and the files, as the Python part reads it from the settings.
#[derive(Clone, Copy, Default)]
struct Settings {
    counts: bool,
    parks: bool,
    is_ordered: bool,
    is_queue: bool,
    file_bytes: usize,
    max_bytes: Option<u64>,
    is_fifo: bool,
}

/// A directory with entries; `mmapcache.diskcache.Cache` is made of it.
///
/// Threads and forked processes may use one object. After `close` the next call opens the files again.
#[pyclass(frozen, subclass, dict, weakref, module = "mmapcache._native")]
pub(crate) struct Store {
    setup: PyOnceLock<Setup>,
    codec: PyOnceLock<Codec>,
    settings: Mutex<Option<Settings>>,
    /// Whether the bound is to be set when the transaction ends.
    owes_bound: AtomicBool,
    open: ArcSwapOption<Open>,
}

#[pymethods]
impl Store {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            setup: PyOnceLock::new(),
            codec: PyOnceLock::new(),
            settings: Mutex::default(),
            owes_bound: AtomicBool::new(false),
            open: ArcSwapOption::empty(),
        }
    }

    /// Opens the files in a directory, which exists.
    fn _open(&self, py: Python<'_>, directory: PathBuf, timeout: f64) -> PyResult<()> {
        if timeout.is_nan() {
            return Err(PyValueError::new_err("the timeout is not a number"));
        }
        let setup = Setup {
            directory,
            timeout: Duration::try_from_secs_f64(timeout.max(0.0)).unwrap_or(Duration::MAX),
        };
        if self.setup.set(py, setup).is_err() {
            return Err(PyRuntimeError::new_err("__init__ was called before"));
        }
        self.open(py).map(drop)
    }

    /// Says what turns objects into bytes: what `Codec` takes.
    fn _use(&self, py: Python<'_>, functions: &Bound<'_, PyAny>) -> PyResult<()> {
        let set = self.codec.set(py, Codec::new(functions)?);
        set.map_err(|_| PyRuntimeError::new_err("__init__ was called before"))
    }

    /// Says what the settings are; `max_bytes` as `None` is no bound.
    #[allow(clippy::too_many_arguments, reason = "each is a keyword argument")]
    #[pyo3(signature = (*, statistics, parks, ordered, queue, file_bytes, max_bytes, fifo))]
    fn _configure(
        &self,
        py: Python<'_>,
        statistics: bool,
        parks: bool,
        ordered: bool,
        queue: bool,
        file_bytes: usize,
        max_bytes: Option<u64>,
        fifo: bool,
    ) -> PyResult<()> {
        let settings = Settings {
            counts: statistics,
            parks,
            is_ordered: ordered,
            is_queue: queue,
            file_bytes,
            max_bytes,
            is_fifo: fifo,
        };
        *self.settings() = Some(settings);
        let open = self.open(py)?;
        if transaction::is_held(&open) {
            // The bound is set by another handle of this thread, which would wait for this one.
            self.owes_bound.store(true, Relaxed);
            return upkeep::configure_flags(&open, settings)
                .map_err(|error| errors::to_python(py, error));
        }
        transaction::call(py, &open, true, || upkeep::configure(&open, settings))
    }

    /// Returns the stored settings, as `_store_settings` got them; `None` if there are none.
    fn _load_settings<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let open = self.open(py)?;
        let stored = open.meta.get(upkeep::SETTINGS);
        let stored = stored.map_err(|error| errors::to_python(py, error))?;
        Ok(stored.map(|stored| PyBytes::new(py, &stored)))
    }

    fn _store_settings(&self, py: Python<'_>, settings: &[u8]) -> PyResult<()> {
        let open = self.open(py)?;
        transaction::write(py, &open, true, |change| {
            change.put_meta(upkeep::SETTINGS, settings)
        })
    }

    /// Returns the value of a key, or `default` if there is none or it has expired.
    ///
    /// `read`: values of at least `disk_min_file_size` bytes, and those that were stored with `read`, are
    /// returned as an open file. `expire_time`, `tag`: returns a tuple with them. Takes no lock; `retry`
    /// has no effect.
    #[pyo3(signature = (key, default=None, read=false, expire_time=false, tag=false, retry=false))]
    #[allow(clippy::too_many_arguments, reason = "those of diskcache")]
    fn get<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        default: Optional<'py>,
        read: bool,
        expire_time: bool,
        tag: bool,
        retry: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _ = retry;
        let found = self.find(py, key, read, tag)?;
        self.count(found.is_some());
        let wanted = Wanted {
            expire: expire_time,
            tag,
        };
        let default = default.unwrap_or_else(|| py.None().into_bound(py));
        wanted.answer(py, found, default)
    }

    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let found = self.find(py, key, false, false)?;
        self.count(found.is_some());
        found.map(|found| found.value).ok_or_else(|| missing(key))
    }

    fn __contains__(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let open = self.open(py)?;
        let key = Key::of(key, self.codec(py)?)?;
        let value = open.data.get(key.engine());
        let Some(value) = value.map_err(|error| errors::to_python(py, error))? else {
            return Ok(false);
        };
        let stored = Stored::split(&value).ok_or_else(value::unreadable)?;
        let is_same = key.whole().is_none() || key.whole() == stored.key;
        match stored.expire {
            Some(expire) if is_same => Ok(expire > clock(py)?),
            _ => Ok(is_same),
        }
    }

    /// Stores a value under a key.
    ///
    /// `expire`: seconds until it expires; zero and less is at once. `read`: the value is a file opened in
    /// binary mode, whose bytes are stored. `tag`: names a group for `evict`. Raises `Timeout` if another
    /// writer holds the lock for longer than the timeout, unless `retry` is true. Returns True.
    #[pyo3(signature = (key, value, expire=None, read=false, tag=None, retry=false))]
    #[allow(clippy::too_many_arguments, reason = "those of diskcache")]
    fn set<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
        expire: Optional<'py>,
        read: bool,
        tag: Optional<'py>,
        retry: bool,
    ) -> PyResult<bool> {
        let options = SetOptions {
            expire,
            read,
            tag,
            retry,
        };
        self.store(py, (key, value), &options, false)
    }

    fn __setitem__<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        self.set(py, key, value, None, false, None, true).map(drop)
    }

    /// Stores a value under a key that has none, or an expired one. Returns whether it did: of several
    /// threads or processes that add a key at once, one.
    #[pyo3(signature = (key, value, expire=None, read=false, tag=None, retry=false))]
    #[allow(clippy::too_many_arguments, reason = "those of diskcache")]
    fn add<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
        expire: Optional<'py>,
        read: bool,
        tag: Optional<'py>,
        retry: bool,
    ) -> PyResult<bool> {
        let options = SetOptions {
            expire,
            read,
            tag,
            retry,
        };
        self.store(py, (key, value), &options, true)
    }

    /// Adds to the number of a key and returns the sum; no addition of another process is lost. The item
    /// keeps when it expires, and its tag. Without one, begins with `default`; raises `KeyError` if that is
    /// None.
    #[pyo3(
        signature = (key, delta=None, default=Given::Not, retry=false),
        text_signature = "($self, key, delta=1, default=0, retry=False)"
    )]
    fn incr<'py>(
        slf: &Bound<'py, Self>,
        key: &Bound<'py, PyAny>,
        delta: Optional<'py>,
        default: Given<'py>,
        retry: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let store = slf.get();
        let delta = delta.unwrap_or_else(|| PyInt::new(py, 1).into_any());
        let default = match default {
            Given::Not => Some(PyInt::new(py, 0).into_any()),
            Given::Object(default) => (!default.is_none()).then_some(default),
        };
        let (by, begin) = (Number::of(&delta), default.as_ref().map(Number::of));
        if let Some(by) = by
            && begin != Some(None)
            && let Some(sum) = store.add_to(py, key, by, begin.flatten(), retry)?
        {
            return Ok(sum);
        }
        // Numbers beyond 64 bits, and whatever else can be added to.
        slf.call_method1("_add_object", (key, delta, default, retry))
    }

    /// Sets in how many seconds an item expires; None is never. Returns False if there is no fresh one.
    #[pyo3(signature = (key, expire=None, retry=false))]
    fn touch(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        expire: Optional<'_>,
        retry: bool,
    ) -> PyResult<bool> {
        let open = self.open(py)?;
        let key = Key::of(key, self.codec(py)?)?;
        let has_life = expire.is_some();
        let life = Life::new(py, &open, expire.as_ref())?;
        let now = if has_life { life.now } else { clock(py)? };
        upkeep::write_again(py, &open, retry, |change| {
            if life.is_parked {
                entries::note_parked(change)?;
            }
            entries::touch(change, &key, life.expire, life.is_parked, now)
        })
    }

    /// Removes an item and returns its value, or `default` if there is none. Of several threads or
    /// processes that pop a key at once, one gets the value. A value that cannot be decoded stays.
    #[pyo3(signature = (key, default=None, expire_time=false, tag=false, retry=false))]
    fn pop<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        default: Optional<'py>,
        expire_time: bool,
        tag: bool,
        retry: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let wanted = Wanted {
            expire: expire_time,
            tag,
        };
        let open = self.open(py)?;
        let key = Key::of(key, self.codec(py)?)?;
        loop {
            let now = clock(py)?;
            let found = transaction::write(py, &open, retry, |change| change.find(key.engine()))?;
            let found = found.filter(|found| entries::is_of(found, &key) && found.is_fresh(now));
            let Some(found) = found else {
                let default = default.unwrap_or_else(|| py.None().into_bound(py));
                return wanted.answer(py, None, default);
            };
            let answer = self.answer_found(py, &found, tag)?;
            if self.remove_seen(py, &open, &key, &found, retry)? {
                return wanted.of(py, answer.value, answer.expire, answer.tag);
            }
        }
    }

    /// Removes an item. Returns False if there is no fresh one.
    #[pyo3(signature = (key, retry=false))]
    fn delete(&self, py: Python<'_>, key: &Bound<'_, PyAny>, retry: bool) -> PyResult<bool> {
        let open = self.open(py)?;
        let key = Key::of(key, self.codec(py)?)?;
        let now = clock(py)?;
        transaction::write(py, &open, retry, |change| {
            entries::delete(change, &key, None, now)
        })
    }

    fn __delitem__(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<()> {
        match self.delete(py, key, true)? {
            true => Ok(()),
            false => Err(missing(key)),
        }
    }

    /// Stores a value at a side of the queue of a prefix: "back" or "front". Returns its key: a number
    /// from 500,000,000,000,000 on, or a text of the prefix and the number.
    #[pyo3(signature = (value, prefix=None, side="back", expire=None, read=false, tag=None, retry=false))]
    #[allow(clippy::too_many_arguments, reason = "those of diskcache")]
    fn push<'py>(
        &self,
        py: Python<'py>,
        value: &Bound<'py, PyAny>,
        prefix: Option<&str>,
        side: &str,
        expire: Optional<'py>,
        read: bool,
        tag: Optional<'py>,
        retry: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let options = SetOptions {
            expire: None,
            read,
            tag,
            retry,
        };
        let open = self.open(py)?;
        let codec = self.codec(py)?;
        let side = side_of(side)?;
        let tag = options.tag(codec)?;
        let life = Life::new(py, &open, expire.as_ref())?;
        let terms = life.terms(tag.as_deref());
        // Any number: it says whether the key is so long that the value has it.
        let key = Key::of_item(prefix, 0);
        if key.whole().is_some() {
            return Err(PyValueError::new_err("a prefix has at most 59,000 bytes"));
        }
        let mut bytes = value::encode(value, read, None, &key, &terms, codec)?;
        let len = bytes.len();
        let number = upkeep::write_of_size(py, &open, retry, len, |change| {
            if terms.is_parked {
                entries::note_parked(change)?;
            }
            entries::push(change, prefix, side, &mut bytes, life.now)
        })?;
        item_name(py, prefix, number)
    }

    /// Removes the item at a side of the queue of a prefix, and returns its key and value; `default` if the
    /// queue is empty. Each item is pulled once. Expired ones are removed.
    #[pyo3(
        signature = (prefix=None, default=Given::Not, side="front", expire_time=false, tag=false, retry=false),
        text_signature = "($self, prefix=None, default=(None, None), side='front', expire_time=False, tag=False, retry=False)"
    )]
    #[allow(clippy::too_many_arguments, reason = "those of diskcache")]
    fn pull<'py>(
        &self,
        py: Python<'py>,
        prefix: Option<&str>,
        default: Given<'py>,
        side: &str,
        expire_time: bool,
        tag: bool,
        retry: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let item = self.item(py, prefix, side, (true, retry, tag))?;
        let wanted = Wanted {
            expire: expire_time,
            tag,
        };
        wanted.answer(py, item, or_pair(py, default)?)
    }

    /// Returns key and value of the item at a side of a queue, as `pull`, and leaves it there.
    #[pyo3(
        signature = (prefix=None, default=Given::Not, side="front", expire_time=false, tag=false, retry=false),
        text_signature = "($self, prefix=None, default=(None, None), side='front', expire_time=False, tag=False, retry=False)"
    )]
    #[allow(clippy::too_many_arguments, reason = "those of diskcache")]
    fn peek<'py>(
        &self,
        py: Python<'py>,
        prefix: Option<&str>,
        default: Given<'py>,
        side: &str,
        expire_time: bool,
        tag: bool,
        retry: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let item = self.item(py, prefix, side, (false, retry, tag))?;
        let wanted = Wanted {
            expire: expire_time,
            tag,
        };
        wanted.answer(py, item, or_pair(py, default)?)
    }

    /// Returns key and value of the item that was inserted first or last; raises `KeyError` if there is
    /// none. Reads all items, except in an ordered store.
    #[pyo3(signature = (last=true, expire_time=false, tag=false, retry=false))]
    fn peekitem<'py>(
        &self,
        py: Python<'py>,
        last: bool,
        expire_time: bool,
        tag: bool,
        retry: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let wanted = Wanted {
            expire: expire_time,
            tag,
        };
        let (answer, _, _) = self.end_item(py, last, tag, retry)?;
        wanted.of(py, answer.value, answer.expire, answer.tag)
    }

    /// Removes the item that `peekitem` returns, and returns its key and value.
    #[pyo3(signature = (last=true))]
    fn _popitem<'py>(&self, py: Python<'py>, last: bool) -> PyResult<Bound<'py, PyAny>> {
        let open = self.open(py)?;
        loop {
            let (answer, key, found) = self.end_item(py, last, false, true)?;
            let version = found.version;
            let is_removed = transaction::write(py, &open, true, |change| {
                let meant = |found: &Found| found.version == version;
                scan::remove(change, std::slice::from_ref(&key), meant)
            })?;
            if is_removed > 0 {
                return Ok(answer.value);
            }
        }
    }

    /// Counts items, with those that have expired and were not removed yet. O(1).
    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.open(py)?.data.len_with_expired() as usize)
    }

    /// Returns all keys, in the order of insertion.
    fn _keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let open = self.open(py)?;
        let codec = self.codec(py)?;
        let keys = transaction::call(py, &open, true, || scan::keys_in_order(&open))?;
        let list = PyList::empty(py);
        for key in keys {
            list.append(key::decode(py, &key, codec)?)?;
        }
        Ok(list)
    }

    /// Returns the numbers between which the queue without a prefix has its items, if the store has no
    /// other keys.
    fn _queue_numbers(&self, py: Python<'_>) -> PyResult<Option<(i64, i64)>> {
        let open = self.open(py)?;
        if !open.flags.is_queue.load(Relaxed) {
            return Ok(None);
        }
        let ends = transaction::write(py, &open, true, queue::only_ends)?;
        Ok(ends.map(|ends| (ends.head, ends.tail)))
    }

    /// Returns one of `count` shards for a key: the same one in each process.
    fn _shard(&self, py: Python<'_>, key: &Bound<'_, PyAny>, count: u64) -> PyResult<u64> {
        if count == 0 {
            return Err(PyValueError::new_err("no shards"));
        }
        Ok(Key::of(key, self.codec(py)?)?.hash() % count)
    }

    /// Begins a transaction of this thread, or another level of it.
    fn _begin(&self, py: Python<'_>, retry: bool) -> PyResult<()> {
        transaction::begin(py, &self.open(py)?, retry)
    }

    /// Ends a level of the transaction: the outermost makes the changes last, or undoes them.
    fn _end(&self, py: Python<'_>, commits: bool) -> PyResult<()> {
        let open = self.open(py)?;
        transaction::end(py, &open, commits)?;
        if !self.owes_bound.load(Relaxed) || transaction::is_held(&open) {
            return Ok(());
        }
        self.owes_bound.store(false, Relaxed);
        match *self.settings() {
            Some(settings) => {
                transaction::call(py, &open, true, || upkeep::configure(&open, settings))
            }
            None => Ok(()),
        }
    }

    /// Removes all items, within a transaction. Returns how many there were.
    fn _clear(&self, py: Python<'_>) -> PyResult<u64> {
        let open = self.open(py)?;
        upkeep::clear(py, &open)
    }

    /// Evicts until the files take at most so many bytes, within a transaction. Returns how many items.
    fn _evict_to(&self, py: Python<'_>, bytes: u64, fifo: bool) -> PyResult<u64> {
        let eviction = if fifo {
            Eviction::Fifo
        } else {
            Eviction::Clock
        };
        upkeep::evict_to(py, &self.open(py)?, bytes, eviction)
    }

    /// Removes items that have expired at a moment. Returns how many.
    fn _expire(&self, py: Python<'_>, now: f64, retry: bool) -> PyResult<u64> {
        upkeep::expire(py, &self.open(py)?, now, retry)
    }

    /// Removes the items with a tag, and returns how many. Reads all items, and takes the lock for 100 at
    /// a time. The argument of a `Timeout` is the number of those that were removed before.
    #[pyo3(signature = (tag, retry=false))]
    fn evict(&self, py: Python<'_>, tag: &Bound<'_, PyAny>, retry: bool) -> PyResult<u64> {
        let tag = key::encode_tag(tag, self.codec(py)?)?;
        upkeep::evict(py, &self.open(py)?, &tag, retry)
    }

    /// Returns the bytes that the files take on the disk.
    fn volume(&self, py: Python<'_>) -> PyResult<u64> {
        let open = self.open(py)?;
        transaction::call(py, &open, true, || upkeep::volume(&open))
    }

    /// Returns the hits and misses of all processes, and begins again at zero if asked to.
    fn _statistics(&self, py: Python<'_>, reset: bool) -> PyResult<(u64, u64)> {
        let open = self.open(py)?;
        transaction::call(py, &open, true, || upkeep::statistics(&open, reset))
    }

    /// Returns what is wrong with the files, as texts. `repairs`: repairs them before that.
    fn _check(&self, py: Python<'_>, repairs: bool) -> PyResult<Vec<String>> {
        let setup = self.setup(py)?;
        if repairs {
            self.close(py);
            let directory = &setup.directory;
            let repaired = py.detach(|| upkeep::repair(directory));
            repaired.map_err(|error| errors::to_python(py, error))?;
        }
        let open = self.open(py)?;
        transaction::call(py, &open, true, || upkeep::problems(&open))
    }

    /// Closes the files. The next call opens them again.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.open.store(None));
    }
}
