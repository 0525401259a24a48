//! Counters in the memory of one process, from the standard library or, under `--cfg loom`, from
//! loom; and loom's locks, which take the place of those of `lock`.
//!
//! Unlike a [`Word`](crate::sync::Word), no other process sees them, and every kind of atomic access
//! is allowed. Calls no other module.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::AtomicU64 as Count;

#[cfg(all(loom, test))]
pub(crate) use model::leave_out;
#[cfg(loom)]
pub(crate) use model::{Count, LoomMutex, LoomMutexGuard};

/// A check made under a lock, which a model can leave out to show that it is needed.
#[cfg(any(feature = "intern", loom))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ModelCheck {
    /// Whether no thread has taken the value again since its last handle was dropped.
    StillUnheld,
    /// Whether the entry in the table is the same one.
    SameEntry,
}

/// Returns the outcome of a check. True if a model leaves the check out.
#[cfg(any(feature = "intern", loom))]
#[inline(always)]
pub(crate) fn holds(check: ModelCheck, outcome: bool) -> bool {
    #[cfg(loom)]
    return outcome || model::is_left_out(check);
    #[cfg(not(loom))]
    {
        let _ = check;
        outcome
    }
}

#[cfg(loom)]
mod model {
    //! Loom's counters and locks, and the check that a model leaves out.

    use std::cell::Cell;

    pub(crate) use loom::sync::MutexGuard as LoomMutexGuard;
    pub(crate) use loom::sync::atomic::AtomicU64 as Count;

    use super::ModelCheck;

    /// A lock without poisoning.
    #[derive(Debug)]
    pub(crate) struct LoomMutex<T>(loom::sync::Mutex<T>);

    impl<T> LoomMutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> LoomMutexGuard<'_, T> {
            match self.0.lock() {
                Ok(guard) => guard,
                Err(poisoned) => poisoned.into_inner(),
            }
        }
    }

    thread_local! {
        /// Loom runs all threads of a model on one thread of the system.
        static LEFT_OUT: Cell<Option<ModelCheck>> = const { Cell::new(None) };
    }

    /// Leaves a check out of the models that follow; with `None`, no check.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "only models leave something out")
    )]
    pub(crate) fn leave_out(check: Option<ModelCheck>) {
        LEFT_OUT.set(check);
    }

    pub(in crate::sync) fn is_left_out(check: ModelCheck) -> bool {
        LEFT_OUT.get() == Some(check)
    }
}
