//! One computation of the value of a key, by a Python function.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use mmapcache::{ComputeError, ErrorKind, Obtained, Version};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::bytes_like::BytesLike;
use crate::cache::Opened;
use crate::errors;
use crate::insert_terms::Terms;

/// The longest wait without a look at the signals.
const PIECE: Duration = Duration::from_millis(100);

thread_local! {
    /// The keys that this thread is computing, with the addresses of their caches.
    static COMPUTING: RefCell<Vec<(usize, Vec<u8>)>> = const { RefCell::new(Vec::new()) };
}

/// Notes that this thread computes a key, until it is dropped.
struct Computing;

impl Computing {
    fn begin(cache: usize, key: &[u8]) -> Self {
        COMPUTING.with_borrow_mut(|computing| computing.push((cache, key.to_vec())));
        Self
    }

    fn has(cache: usize, key: &[u8]) -> bool {
        COMPUTING.with_borrow(|all| all.iter().any(|(of, is)| *of == cache && is == key))
    }
}

impl Drop for Computing {
    fn drop(&mut self) {
        COMPUTING.with_borrow_mut(|computing| computing.pop());
    }
}

/// Returns the value of a key, computed by the function if there is none; `None` if it is known not to
/// exist.
pub(super) fn get_or_insert_with(
    py: Python<'_>,
    opened: &Arc<Opened>,
    key: &[u8],
    function: &Py<PyAny>,
    terms: &Terms,
) -> PyResult<Option<Vec<u8>>> {
    let cache = Arc::as_ptr(&opened.cache).addr();
    if Computing::has(cache, key) {
        // Waiting for it would take the whole patience: a task does not notice that it waits for itself.
        let found = opened.cache.get(key);
        return match found.map_err(|error| errors::to_python(py, error))? {
            Some(value) => Ok(Some(value)),
            None => Err(errors::plain(py, "WriterError", &own_computation())),
        };
    }
    if terms.is_optional() {
        return optional(py, opened, key, function, terms);
    }
    let (computed, begun) = py.detach(|| {
        let (timers, begun) = (Timers::default(), Cell::new(None));
        let f = || async {
            begun.set(opened.cache.last_version().ok());
            let _computing = Computing::begin(cache, key);
            call(function)
        };
        let sleep = |time| timers.sleep(time);
        let future = opened
            .cache
            .get_or_try_insert_async(key, terms.compute(), sleep, f);
        let computed = block_on(future, &timers)?;
        Ok::<_, PyErr>((computed, begun.get()))
    })?;
    obtained(py, opened, key, terms, begun, computed).map(Some)
}

/// The same for a function that may return `None`. It waits as a thread: a signal is seen when the wait is
/// over, after the patience at the latest.
fn optional(
    py: Python<'_>,
    opened: &Arc<Opened>,
    key: &[u8],
    function: &Py<PyAny>,
    terms: &Terms,
) -> PyResult<Option<Vec<u8>>> {
    let mut begun = None;
    let computed = py.detach(|| {
        let f = || {
            begun = opened.cache.last_version().ok();
            let _computing = Computing::begin(Arc::as_ptr(&opened.cache).addr(), key);
            call_optional(function)
        };
        let cache = &opened.cache;
        match cache.get_or_try_insert_optional_with(key, terms.compute(), f) {
            Ok(None) => Ok(None),
            Ok(Some(found)) => Ok(Some(Ok(found))),
            Err(error) => Ok::<_, PyErr>(Some(Err(error))),
        }
    })?;
    computed
        .map(|computed| obtained(py, opened, key, terms, begun, computed))
        .transpose()
}

fn call(function: &Py<PyAny>) -> PyResult<Vec<u8>> {
    call_optional(function)?.ok_or_else(|| {
        PyTypeError::new_err(
            "the function returned None; give absent_for to store that the key does not exist",
        )
    })
}

fn call_optional(function: &Py<PyAny>) -> PyResult<Option<Vec<u8>>> {
    Python::attach(|py| {
        let value = function.bind(py).call0()?;
        if value.is_none() {
            return Ok(None);
        }
        match value.extract::<BytesLike<'_>>() {
            Ok(value) => Ok(Some(value.as_bytes().to_vec())),
            Err(_) => Err(PyTypeError::new_err(format!(
                "the function of a computation returns bytes, not {}",
                value.get_type()
            ))),
        }
    })
}

/// Returns the value of a computation. One that could not be stored because another writer held the lock
/// is stored again: the engine waits for a piece of the time only.
fn obtained(
    py: Python<'_>,
    opened: &Arc<Opened>,
    key: &[u8],
    terms: &Terms,
    begun: Option<Version>,
    computed: Result<Obtained, ComputeError<PyErr>>,
) -> PyResult<Vec<u8>> {
    match computed {
        Ok(obtained) => Ok(obtained.value),
        Err(ComputeError::Failed(raised)) => Err(raised),
        Err(ComputeError::Cache(error)) => Err(match error.kind() {
            ErrorKind::AlreadyComputing => errors::plain(py, "WriterError", &own_computation()),
            _ => errors::to_python(py, error),
        }),
        Err(ComputeError::NotStored { value, error }) => match (error.kind(), begun) {
            (ErrorKind::Locked { .. }, Some(begun)) => {
                store_again(py, opened, key, value, terms, begun)
            }
            _ => Err(errors::not_stored(py, &value, error)),
        },
        Err(other) => Err(errors::plain(py, "MmapCacheError", &other.to_string())),
    }
}

/// Stores a value unless another one was stored under the key during the computation, which is returned
/// then, or a group of it was invalidated.
fn store_again(
    py: Python<'_>,
    opened: &Arc<Opened>,
    key: &[u8],
    value: Vec<u8>,
    terms: &Terms,
    begun: Version,
) -> PyResult<Vec<u8>> {
    let cache = &opened.cache;
    let stored = opened.options.patience.run(py, || {
        let newer = cache
            .entry(key)?
            .filter(|entry| entry.version() > begun && !entry.is_negative());
        if let Some(entry) = newer {
            return Ok(Some(entry.into_value()));
        }
        cache.insert_computed(key, &value, &terms.insert, begun)?;
        Ok(None)
    });
    match stored {
        Ok(other) => Ok(other.unwrap_or(value)),
        Err(cause) => Err(errors::not_stored_because(py, &value, cause)),
    }
}

fn own_computation() -> String {
    "this thread is computing the value of this key; compute it without asking the cache for it"
        .to_owned()
}

/// The moment at which a future that sleeps wants to be polled.
#[derive(Default)]
struct Timers(Cell<Option<Instant>>);

impl Timers {
    fn sleep(&self, time: Duration) -> Sleep<'_> {
        let until = Instant::now() + time;
        Sleep {
            timers: self,
            until,
        }
    }
}

struct Sleep<'a> {
    timers: &'a Timers,
    until: Instant,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.until {
            return Poll::Ready(());
        }
        let next = self.timers.0.get();
        let next = next.map_or(self.until, |next| next.min(self.until));
        self.timers.0.set(Some(next));
        Poll::Pending
    }
}

/// Wakes a thread that waits for a future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future as this thread, which is without the interpreter. Signals end the wait: the future is
/// dropped then, and another caller computes.
fn block_on<F: Future>(future: F, timers: &Timers) -> PyResult<F::Output> {
    let mut future = pin!(future);
    // Most calls find a value at once.
    if let Poll::Ready(done) = future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        return Ok(done);
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut checked = Instant::now();
    loop {
        timers.0.set(None);
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Ok(done);
        }
        let now = Instant::now();
        if now.duration_since(checked) >= PIECE {
            Python::attach(|py| py.check_signals())?;
            checked = now;
        }
        let left = timers
            .0
            .get()
            .map(|next| next.saturating_duration_since(now));
        thread::park_timeout(left.unwrap_or(PIECE).min(PIECE));
    }
}
