//! What the calls of a store do, from the arguments to the answer.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::errors;
use crate::store::answer::Answer;
use crate::store::arguments::{
    Life, Optional, SetOptions, clock, item_name, missing, not_initialised, side_of,
};
use crate::store::change::Found;
use crate::store::codec::Codec;
use crate::store::entries::{self, Sum};
use crate::store::key::{self, Key};
use crate::store::open::Open;
use crate::store::value::{self, Number, Stored};
use crate::store::{Settings, Setup, Store, order, queue, scan, transaction, upkeep};

/// How long opening waits for another writer, whatever the timeout of the store: as diskcache.
const OPENING: Duration = Duration::from_secs(60);

impl Store {
    pub(super) fn setup(&self, py: Python<'_>) -> PyResult<&Setup> {
        self.setup.get(py).ok_or_else(not_initialised)
    }

    #[inline]
    pub(super) fn codec(&self, py: Python<'_>) -> PyResult<&Codec> {
        self.codec.get(py).ok_or_else(not_initialised)
    }

    /// Returns the open files; opens them if they were closed.
    #[inline]
    pub(super) fn open(&self, py: Python<'_>) -> PyResult<Arc<Open>> {
        match self.open.load_full() {
            Some(open) => Ok(open),
            None => self.open_again(py),
        }
    }

    #[cold]
    pub(super) fn open_again(&self, py: Python<'_>) -> PyResult<Arc<Open>> {
        let setup = self.setup(py)?;
        let settings = *self.settings();
        let opened = transaction::wait_for(py, Some(OPENING), || {
            let open = Open::new(&setup.directory, setup.timeout)?;
            if let Some(settings) = settings {
                upkeep::configure(&open, settings)?;
            }
            Ok(open)
        })?;
        // Another thread may have opened them since: all use the same, for its transactions.
        let none = None::<Arc<Open>>;
        let before = self.open.compare_and_swap(&none, Some(Arc::clone(&opened)));
        Ok(arc_swap::Guard::into_inner(before).unwrap_or(opened))
    }

    /// Returns the settings; `None` until the first `_configure`.
    pub(super) fn settings(&self) -> MutexGuard<'_, Option<Settings>> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds a fresh entry. `file` as in `Stored::decode`.
    #[inline]
    pub(super) fn find<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        file: bool,
        wants_tag: bool,
    ) -> PyResult<Option<Answer<'py>>> {
        let open = self.open(py)?;
        let codec = self.codec(py)?;
        let key = Key::of(key, codec)?;
        let value = open.data.get(key.engine());
        let Some(value) = value.map_err(|error| errors::to_python(py, error))? else {
            return Ok(None);
        };
        let stored = Stored::split(&value).ok_or_else(value::unreadable)?;
        if key.whole() != stored.key && key.whole().is_some() {
            return Ok(None);
        }
        if let Some(expire) = stored.expire
            && expire <= clock(py)?
        {
            return Ok(None);
        }
        let file = file.then(|| open.flags.file_bytes.load(Relaxed));
        self.answer(py, &stored, file, wants_tag).map(Some)
    }

    pub(super) fn answer<'py>(
        &self,
        py: Python<'py>,
        stored: &Stored<'_>,
        file: Option<usize>,
        wants_tag: bool,
    ) -> PyResult<Answer<'py>> {
        let codec = self.codec(py)?;
        let tag = stored.tag.filter(|_| wants_tag);
        Ok(Answer {
            value: stored.decode(py, file, codec)?,
            expire: stored.expire,
            tag: tag.map(|tag| key::decode_tag(py, tag, codec)).transpose()?,
        })
    }

    /// Stores a value; see [`entries::set`].
    pub(super) fn store<'py>(
        &self,
        py: Python<'py>,
        (key, value): (&Bound<'py, PyAny>, &Bound<'py, PyAny>),
        options: &SetOptions<'py>,
        adds: bool,
    ) -> PyResult<bool> {
        let open = self.open(py)?;
        let codec = self.codec(py)?;
        let caller_key = key;
        let key = Key::of(key, codec)?;
        let tag = options.tag(codec)?;
        let mut life = Life::new(py, &open, options.expire.as_ref())?;
        if adds {
            life.now = clock(py)?;
        }
        let terms = life.terms(tag.as_deref());
        let read = options.read;
        let mut bytes = value::encode(value, read, Some(caller_key), &key, &terms, codec)?;
        let now = life.now;
        let is_parked = terms.is_parked;
        let len = bytes.len();
        upkeep::write_of_size(py, &open, options.retry, len, |change| {
            if is_parked {
                entries::note_parked(change)?;
            }
            entries::set(change, &key, &mut bytes, adds, now)
        })
    }

    /// Returns the item that a queue has at one side, and removes it if asked to.
    pub(super) fn item<'py>(
        &self,
        py: Python<'py>,
        prefix: Option<&str>,
        side: &str,
        (removes, retry, wants_tag): (bool, bool, bool),
    ) -> PyResult<Option<Answer<'py>>> {
        let open = self.open(py)?;
        let side = side_of(side)?;
        loop {
            let now = clock(py)?;
            let found = transaction::write(py, &open, retry, |change| {
                queue::peek(change, prefix, side, now)
            })?;
            let Some((number, found)) = found else {
                return Ok(None);
            };
            let mut answer = self.answer_found(py, &found, wants_tag)?;
            let name = item_name(py, prefix, number)?;
            answer.value = PyTuple::new(py, [name, answer.value])?.into_any();
            // Removed when it is decoded: an item that cannot be is not lost.
            let key = Key::of_item(prefix, number);
            if !removes {
                return Ok(Some(answer));
            }
            let version = found.version;
            let is_pulled = transaction::write(py, &open, retry, |change| {
                let is_pulled = entries::delete(change, &key, Some(version), f64::NEG_INFINITY)?;
                if is_pulled {
                    queue::pulled(change, prefix, number)?;
                }
                Ok(is_pulled)
            })?;
            if is_pulled {
                return Ok(Some(answer));
            }
        }
    }

    pub(super) fn answer_found<'py>(
        &self,
        py: Python<'py>,
        found: &Found,
        wants_tag: bool,
    ) -> PyResult<Answer<'py>> {
        let stored = found.stored().ok_or_else(value::unreadable)?;
        self.answer(py, &stored, None, wants_tag)
    }

    /// Removes an entry if it still is the one that was seen.
    pub(super) fn remove_seen(
        &self,
        py: Python<'_>,
        open: &Arc<Open>,
        key: &Key,
        seen: &Found,
        retry: bool,
    ) -> PyResult<bool> {
        let version = seen.version;
        transaction::write(py, open, retry, |change| {
            entries::delete(change, key, Some(version), f64::NEG_INFINITY)
        })
    }

    /// Adds to a number; `None` if Python has to.
    pub(super) fn add_to<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        delta: Number,
        default: Option<Number>,
        retry: bool,
    ) -> PyResult<Optional<'py>> {
        let open = self.open(py)?;
        let codec = self.codec(py)?;
        if codec.disk(py).is_some() {
            return Ok(None);
        }
        let caller_key = key;
        let key = Key::of(key, codec)?;
        let now = clock(py)?;
        let sum = transaction::write(py, &open, retry, |change| {
            entries::add_to(change, &key, delta, default, now)
        })?;
        match sum {
            Sum::Number(number) => number.into_python(py).map(Some),
            Sum::Missing => Err(missing(caller_key)),
            Sum::Other => Ok(None),
        }
    }

    #[inline]
    pub(super) fn count(&self, is_hit: bool) {
        if let Some(open) = &*self.open.load()
            && open.flags.counts.load(Relaxed)
        {
            let counter = if is_hit { &open.hits } else { &open.misses };
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Returns the item that was inserted first or last, with what the engine has as its key.
    pub(super) fn end_item<'py>(
        &self,
        py: Python<'py>,
        last: bool,
        wants_tag: bool,
        retry: bool,
    ) -> PyResult<(Answer<'py>, Vec<u8>, Found)> {
        let open = self.open(py)?;
        let now = clock(py)?;
        let is_ordered = open.flags.is_ordered.load(Relaxed);
        let found = match is_ordered {
            true => transaction::write(py, &open, retry, |change| order::end(change, last, now))?,
            false => {
                let end = transaction::call(py, &open, retry, || scan::end(&open, last, now))?;
                end.map(|listed| (listed.key, listed.found))
            }
        };
        let Some((key, found)) = found else {
            return Err(PyKeyError::new_err("dictionary is empty"));
        };
        let mut answer = self.answer_found(py, &found, wants_tag)?;
        let whole = found.stored().and_then(|stored| stored.key).unwrap_or(&key);
        let name = key::decode(py, whole, self.codec(py)?)?;
        answer.value = PyTuple::new(py, [name, answer.value])?.into_any();
        Ok((answer, key, found))
    }
}
