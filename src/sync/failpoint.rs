//! Failpoints: stop a thread at its n-th store or file operation, as a kill would, so that what came
//! before is done and nothing follows; or run other code just before it; or report each operation to
//! an observer.
//!
//! In tests and under fuzzing only. [`failpoint!`](crate::sync::failpoint) marks the places and
//! expands to nothing in other builds. Calls no other module.

/// Marks an [`Operation`](crate::sync::failpoint::Operation) that is about to happen: a place at
/// which tests and the fuzzer may stop the thread. Expands to nothing in other builds.
macro_rules! failpoint {
    ($operation:ident $(($($argument:expr),*))?) => {
        #[cfg(any(test, fuzzing))]
        $crate::sync::failpoint::step(
            $crate::sync::failpoint::Operation::$operation $(($($argument),*))?
        );
    };
}
pub(crate) use failpoint;

#[cfg(any(test, fuzzing))]
pub(crate) use armed::*;

#[cfg(any(test, fuzzing))]
#[cfg_attr(
    not(test),
    allow(dead_code, reason = "only the engine's own tests observe")
)]
mod armed {
    use std::cell::Cell;
    use std::fs::File;
    use std::path::Path;

    /// The operation that comes next. All operations reported before it are done.
    #[derive(Clone, Copy, Debug)]
    pub(crate) enum Operation<'a> {
        /// A store to a mapped file.
        Store,
        /// Bytes or blocks for a file, by a system call.
        Write,
        Sync(&'a File),
        Create(&'a Path),
        Rename(&'a Path, &'a Path),
        Remove(&'a Path),
        SyncDir(&'a Path),
    }

    type Observer = Box<dyn FnMut(Operation<'_>)>;

    thread_local! {
        static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
        static HOOK: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
        static OBSERVER: Cell<Option<Observer>> = const { Cell::new(None) };
        static KILLED: Cell<bool> = const { Cell::new(false) };
    }

    /// The payload of the panic by which a failpoint stops its thread.
    pub(crate) struct Killed;

    /// Lets `steps` more operations of this thread happen, and stops it at the one after them.
    pub(crate) fn set(steps: u64) {
        LEFT.set(Some(steps));
        KILLED.set(false);
    }

    /// Returns whether a failpoint stopped this thread and was not cleared since.
    pub(crate) fn has_killed() -> bool {
        KILLED.get()
    }

    /// Runs `hook` before the operation at which [`set`] would stop the thread, and continues.
    pub(crate) fn interrupt(steps: u64, hook: impl FnOnce() + 'static) {
        LEFT.set(Some(steps));
        HOOK.set(Some(Box::new(hook)));
    }

    /// Lets all operations happen again. Returns whether the failpoint was not reached.
    pub(crate) fn clear() -> bool {
        HOOK.take();
        KILLED.set(false);
        LEFT.take().is_some()
    }

    /// Reports each operation of this thread to `observer` before it happens, except those that the
    /// observer makes.
    pub(crate) fn observe(observer: impl FnMut(Operation<'_>) + 'static) {
        OBSERVER.set(Some(Box::new(observer)));
    }

    /// Removes the observer.
    pub(crate) fn stop_observing() {
        OBSERVER.take();
    }

    /// Counts an operation, and stops the thread at the last.
    pub(crate) fn step(next: Operation<'_>) {
        match LEFT.get() {
            None => {}
            Some(0) => {
                LEFT.set(None);
                match HOOK.take() {
                    Some(hook) => hook(),
                    None => {
                        KILLED.set(true);
                        std::panic::resume_unwind(Box::new(Killed))
                    }
                }
            }
            Some(left) => LEFT.set(Some(left - 1)),
        }
        if let Some(mut observer) = OBSERVER.take() {
            let left = LEFT.take();
            observer(next);
            LEFT.set(left);
            OBSERVER.set(Some(observer));
        }
    }
}
