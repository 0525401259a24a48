//! Counters in the memory of one process, from the standard library or, under `--cfg loom`, from
//! loom; and loom's locks, which take the place of those of `lock`.
//!
//! Unlike a [`Word`](crate::sync::Word) they are seen by no other process, and every kind of atomic access
//! is allowed. This file knows nothing of what is counted.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::AtomicU64 as Count;

#[cfg(all(loom, test))]
pub(crate) use model::leave_out;
#[cfg(loom)]
pub(crate) use model::{Count, Lock, Locked};

/// One of the questions that are asked under a lock and that a model can leave out, to see that it
/// is missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// Whether nobody has taken the value up again since its last handle went.
    StillUnheld,
    /// Whether what stands in the table is that very entry.
    SameEntry,
}

/// What a check says; always true where a model leaves it out.
#[inline(always)]
pub(crate) fn holds(check: Check, outcome: bool) -> bool {
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
    //! Loom's counters and locks, and the check that is left out of a model.

    use std::cell::Cell;

    pub(crate) use loom::sync::MutexGuard as Locked;
    pub(crate) use loom::sync::atomic::AtomicU64 as Count;

    use super::Check;

    /// A lock without poisoning.
    #[derive(Debug)]
    pub(crate) struct Lock<T>(loom::sync::Mutex<T>);

    impl<T> Lock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> Locked<'_, T> {
            match self.0.lock() {
                Ok(guard) => guard,
                Err(poisoned) => poisoned.into_inner(),
            }
        }
    }

    thread_local! {
        /// Loom runs all threads of a model on one thread of the system.
        static LEFT_OUT: Cell<Option<Check>> = const { Cell::new(None) };
    }

    /// Leaves a check out of the models that follow, or none.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "only models leave something out")
    )]
    pub(crate) fn leave_out(check: Option<Check>) {
        LEFT_OUT.set(check);
    }

    pub(in crate::sync) fn is_left_out(check: Check) -> bool {
        LEFT_OUT.get() == Some(check)
    }
}
