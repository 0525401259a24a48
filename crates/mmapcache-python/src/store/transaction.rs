//! Transactions: a writer that a thread keeps between calls, and the way in which each call finds the
//! lock or such a writer.
//!
//! A writer belongs to its thread, and so does a transaction of diskcache. Calls of this thread in
//! between use it; other threads and processes wait. If the thread ends, or the process is killed, the
//! next writer rolls back what was not committed.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mmapcache::{CacheWriter, Result};
use pyo3::prelude::*;
use self_cell::self_cell;

use crate::errors;
use crate::store::change::Change;
use crate::store::open::{Open, is_locked, is_too_large};
use crate::store::undo::{self, UndoLog};

self_cell!(
    struct Batch {
        owner: Arc<Open>,
        #[not_covariant]
        dependent: CacheWriter,
    }
);

/// The transaction of a thread.
struct Held {
    open: Arc<Open>,
    /// `None` if the lock was released in between.
    batch: Option<Batch>,
    process: u32,
    depth: u32,
    undo: UndoLog,
}

thread_local! {
    /// Whether this thread has ever kept a writer. A look at `HELD` before the engine has set up its own
    /// memory of this thread would have that torn down first, and the writer after it.
    static HAS_HELD: Cell<bool> = const { Cell::new(false) };
    static HELD: RefCell<Vec<Held>> = const { RefCell::new(Vec::new()) };
}

/// Takes the transaction that this thread has on a store out of its place. Not that of a process that
/// this one was forked from: it goes on with it.
fn take(open: &Open) -> Option<Held> {
    if !HAS_HELD.get() {
        return None;
    }
    HELD.with_borrow_mut(|all| {
        let process = std::process::id();
        all.retain(|held| held.process == process);
        let at = all
            .iter()
            .position(|held| std::ptr::eq(&raw const *held.open, open))?;
        Some(all.swap_remove(at))
    })
}

fn keep(held: Held) {
    HAS_HELD.set(true);
    HELD.with_borrow_mut(|all| all.push(held));
}

enum Attempt<T, F> {
    Done(Result<T>),
    /// Another writer holds the lock; the change was not called.
    Locked(F),
}

/// Changes a store under the writer lock: that of this thread's transaction, or one of its own. `change`
/// runs without the interpreter. With `retry` it waits for the lock as long as it takes.
///
/// The interpreter is released although most changes find the lock free and take 1 us: others hold it
/// for as long as their transaction lasts.
///
/// # Errors
///
/// `Timeout`; what a signal handler raises during the wait; the errors of the engine.
pub(super) fn write<T: Send>(
    py: Python<'_>,
    open: &Arc<Open>,
    retry: bool,
    change: impl FnOnce(&mut Change<'_, '_>) -> Result<T> + Send,
) -> PyResult<T> {
    let mut wait = Wait::new((!retry).then_some(open.timeout));
    let mut change = change;
    loop {
        match py.detach(|| attempt(open, change)) {
            Attempt::Done(done) => return done.map_err(|error| errors::to_python(py, error)),
            Attempt::Locked(again) => change = again,
        }
        wait.go_on(py)?;
    }
}

fn attempt<T, F: FnOnce(&mut Change<'_, '_>) -> Result<T>>(
    open: &Arc<Open>,
    change: F,
) -> Attempt<T, F> {
    if let Some(mut held) = take(open) {
        if let Some(batch) = &mut held.batch {
            let undo = &mut held.undo;
            let done = batch.with_dependent_mut(|open, writer| {
                change(&mut Change::new(open, writer, Some(undo)))
            });
            keep(held);
            return Attempt::Done(done);
        }
        keep(held);
    }
    match open.acquire() {
        Ok(mut writer) => Attempt::Done(change(&mut Change::new(open, &mut writer, None))),
        Err(error) if is_locked(&error) => Attempt::Locked(change),
        Err(error) => Attempt::Done(Err(error)),
    }
}

/// Calls the engine, which takes the lock itself, without the interpreter and again while another writer
/// holds the lock.
pub(super) fn call<T: Send>(
    py: Python<'_>,
    open: &Open,
    retry: bool,
    call: impl FnMut() -> Result<T> + Send,
) -> PyResult<T> {
    wait_for(py, (!retry).then_some(open.timeout), call)
}

/// As [`call`], for so long; without an end if it is `None`.
pub(super) fn wait_for<T: Send>(
    py: Python<'_>,
    timeout: Option<Duration>,
    mut call: impl FnMut() -> Result<T> + Send,
) -> PyResult<T> {
    let mut wait = Wait::new(timeout);
    loop {
        match py.detach(&mut call) {
            Err(error) if is_locked(&error) => wait.go_on(py)?,
            done => return done.map_err(|error| errors::to_python(py, error)),
        }
    }
}

/// A wait for the lock, in pieces.
struct Wait {
    until: Option<Instant>,
}

impl Wait {
    fn new(timeout: Option<Duration>) -> Self {
        // Without an end, too, if that is beyond what the clock can tell.
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Self { until }
    }

    #[cold]
    fn go_on(&mut self, py: Python<'_>) -> PyResult<()> {
        py.check_signals()?;
        match self.until {
            Some(until) if Instant::now() >= until => Err(timed_out(py)),
            _ => Ok(()),
        }
    }
}

/// Returns diskcache's exception for a lock that was not free in time.
fn timed_out(py: Python<'_>) -> PyErr {
    let class = py
        .import("mmapcache.diskcache.core")
        .and_then(|module| module.getattr("Timeout"));
    match class.and_then(|class| class.call0()) {
        Ok(timeout) => PyErr::from_value(timeout),
        Err(failed) => failed,
    }
}

/// Begins a transaction in this thread, or another level of the one that it has.
pub(super) fn begin(py: Python<'_>, open: &Arc<Open>, retry: bool) -> PyResult<()> {
    if let Some(mut held) = take(open) {
        held.depth += 1;
        keep(held);
        return Ok(());
    }
    call(py, open, retry, || {
        let batch = Batch::try_new(Arc::clone(open), |open| open.acquire())?;
        keep(Held {
            open: Arc::clone(open),
            batch: Some(batch),
            process: std::process::id(),
            depth: 1,
            undo: UndoLog::new(),
        });
        Ok(())
    })
}

/// Ends a level of this thread's transaction; the outermost makes the changes last, or undoes them.
pub(super) fn end(py: Python<'_>, open: &Arc<Open>, commits: bool) -> PyResult<()> {
    let ended = py.detach(|| {
        let mut held = take(open)?;
        held.depth -= 1;
        if held.depth > 0 {
            keep(held);
            return Some(Ok(()));
        }
        Some(match commits {
            true => held.undo.commit(open),
            false => undo_changes(&mut held, open),
        })
    });
    match ended {
        Some(ended) => ended.map_err(|error| errors::to_python(py, error)),
        None => Err(errors::plain(
            py,
            "WriterError",
            "this thread has no transaction: it ends in the thread and the process that began it",
        )),
    }
}

fn undo_changes(held: &mut Held, open: &Open) -> Result<()> {
    if held.undo.is_empty() {
        return Ok(());
    }
    let Some(batch) = &mut held.batch else {
        return Ok(());
    };
    match batch.with_dependent_mut(|_, writer| undo::roll_back(open, writer)) {
        Err(error) if is_too_large(&error) => {
            held.batch = None;
            // The marker is still there: the next writer rolls back.
            open.acquire().map(drop)
        }
        done => done,
    }
}

/// Returns whether this thread holds the lock: another handle of it would wait for ever.
pub(super) fn is_held(open: &Open) -> bool {
    let Some(held) = take(open) else {
        return false;
    };
    let is_held = held.batch.is_some();
    keep(held);
    is_held
}

/// Returns whether this thread has a transaction that a caller began.
pub(super) fn is_inside(open: &Open) -> bool {
    let Some(held) = take(open) else {
        return false;
    };
    let is_inside = held.depth > 1 || !held.undo.is_empty();
    keep(held);
    is_inside
}

/// Releases the lock of a transaction that has changed nothing, for a call of the engine that takes the
/// lock itself.
pub(super) fn release(open: &Open) {
    if let Some(mut held) = take(open) {
        held.batch = None;
        keep(held);
    }
}
