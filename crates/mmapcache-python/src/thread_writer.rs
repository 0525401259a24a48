//! Writers of the engine, each kept in the thread that took it.
//!
//! A writer holds a lock that belongs to its thread, and Python objects move between threads. So the
//! object holds a number, and the writer is in memory of the thread; in another thread there is none
//! under that number, which is an error of its own.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use pyo3::prelude::*;

use crate::errors;
use crate::waiting::Patience;

static NEXT: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// Whether this thread has ever kept a writer. A look at `KEPT` before the engine has set up its own
    /// memory of this thread would have that torn down first, and the writers after it.
    static HAS_KEPT: Cell<bool> = const { Cell::new(false) };
    static KEPT: RefCell<HashMap<u64, Kept>> = RefCell::new(HashMap::new());
}

struct Kept {
    writer: Box<dyn Any>,
    /// Set when the Python object went in another thread.
    is_abandoned: Arc<AtomicBool>,
}

/// The place of a writer `W`, which owns the handle that it borrows.
pub(crate) struct ThreadWriter<W> {
    number: u64,
    is_held: AtomicBool,
    is_abandoned: Arc<AtomicBool>,
    writer: PhantomData<fn() -> W>,
}

impl<W: 'static> ThreadWriter<W> {
    /// Makes a place without a writer.
    pub(crate) fn new() -> Self {
        Self {
            number: NEXT.fetch_add(1, Relaxed),
            is_held: AtomicBool::new(false),
            is_abandoned: Arc::default(),
            writer: PhantomData,
        }
    }

    /// Takes a writer and keeps it in this thread.
    ///
    /// # Errors
    ///
    /// `WriterError` if this object has one already; those of `take`.
    pub(crate) fn enter(
        &self,
        py: Python<'_>,
        patience: Patience,
        mut take: impl FnMut() -> mmapcache::Result<W> + Send,
    ) -> PyResult<()> {
        if self.is_held.swap(true, Relaxed) {
            let message = "this writer holds the lock already; take another one, or leave it first";
            return Err(errors::plain(py, "WriterError", message));
        }
        let entered = patience.run(py, || {
            release_abandoned();
            let kept = Kept {
                writer: Box::new(take()?),
                is_abandoned: Arc::clone(&self.is_abandoned),
            };
            HAS_KEPT.set(true);
            KEPT.with_borrow_mut(|all| all.insert(self.number, kept));
            Ok(())
        });
        if entered.is_err() {
            self.is_held.store(false, Relaxed);
        }
        entered
    }

    /// Calls `f` with the writer, without the interpreter. No other call of this thread finds the writer
    /// during that.
    ///
    /// # Errors
    ///
    /// `WriterError` if the writer was not entered, or in another thread; those of `f`.
    pub(crate) fn with<R: Send>(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&mut W) -> mmapcache::Result<R> + Send,
    ) -> PyResult<R> {
        let called = py.detach(|| {
            let mut kept = self.take_kept()?;
            let result = kept.writer.downcast_mut::<W>().map(f);
            KEPT.with_borrow_mut(|all| all.insert(self.number, kept));
            result
        });
        match called {
            None => Err(self.missing(py)),
            Some(result) => result.map_err(|error| errors::to_python(py, error)),
        }
    }

    /// Takes the writer away and calls `f` with it, without the interpreter.
    ///
    /// # Errors
    ///
    /// As [`with`](Self::with).
    pub(crate) fn leave(
        &self,
        py: Python<'_>,
        f: impl FnOnce(W) -> mmapcache::Result<()> + Send,
    ) -> PyResult<()> {
        if !HAS_KEPT.get() || !KEPT.with_borrow(|all| all.contains_key(&self.number)) {
            return Err(self.missing(py));
        }
        let left = py.detach(
            || match self.take_kept().map(|kept| kept.writer.downcast::<W>()) {
                Some(Ok(writer)) => f(*writer),
                _ => Ok(()),
            },
        );
        self.is_held.store(false, Relaxed);
        left.map_err(|error| errors::to_python(py, error))
    }

    fn take_kept(&self) -> Option<Kept> {
        if !HAS_KEPT.get() {
            return None;
        }
        KEPT.with_borrow_mut(|all| all.remove(&self.number))
    }

    #[cold]
    fn missing(&self, py: Python<'_>) -> PyErr {
        let message = match self.is_held.load(Relaxed) {
            true => "this writer belongs to the thread that entered it, and to one call at a time",
            false => "this writer is not open; use it in a `with` statement",
        };
        errors::plain(py, "WriterError", message)
    }
}

impl<W> Drop for ThreadWriter<W> {
    fn drop(&mut self) {
        if !self.is_held.load(Relaxed) {
            return;
        }
        let own = HAS_KEPT.get().then(|| {
            let removed = KEPT.try_with(|all| all.borrow_mut().remove(&self.number));
            removed.ok().flatten()
        });
        if own.flatten().is_none() {
            // Its thread drops it when it takes the next writer, or ends.
            self.is_abandoned.store(true, Relaxed);
        }
    }
}

/// Drops the writers of this thread whose objects went in another thread.
fn release_abandoned() {
    if HAS_KEPT.get() {
        KEPT.with_borrow_mut(|all| all.retain(|_, kept| !kept.is_abandoned.load(Relaxed)));
    }
}
