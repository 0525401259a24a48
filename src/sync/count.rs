//! Counters in the memory of one process, from the standard library or, under `--cfg loom`, from
//! loom; and loom's locks, which take the place of those of `lock`.
//!
//! Unlike a [`Word`](crate::sync::Word), no other process sees them, and every kind of atomic access
//! is allowed. Calls no other module.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::AtomicU64 as Count;
#[cfg(not(loom))]
pub(crate) use thread_numbers::thread_number;

/// Held by tests that need a number, or take all.
#[cfg(all(test, not(loom)))]
pub(crate) static NUMBERS_IN_TEST: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Numbers that threads can own; see [`thread_number`].
pub(crate) const THREAD_NUMBERS: usize = 63;

/// Models count nothing by thread.
#[cfg(loom)]
pub(crate) fn thread_number() -> usize {
    THREAD_NUMBERS
}

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

#[cfg(not(loom))]
mod thread_numbers {
    //! Small numbers for threads, each with one owner at a time.

    use std::cell::Cell;
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

    use super::THREAD_NUMBERS;

    const UNKNOWN: usize = usize::MAX;

    /// A bit for each number that a thread owns. A forked child keeps those of its parent's threads.
    static OWNED: AtomicU64 = AtomicU64::new(0);

    thread_local! {
        // Without a destructor, so that reading it is one load.
        static NUMBER: Cell<usize> = const { Cell::new(UNKNOWN) };
        static OWNER: Owner = const { Owner };
    }

    struct Owner;

    impl Drop for Owner {
        fn drop(&mut self) {
            let number = NUMBER.replace(THREAD_NUMBERS);
            if number < THREAD_NUMBERS {
                // What the thread stored belongs to the number's next owner.
                OWNED.fetch_and(!(1 << number), Release);
            }
        }
    }

    /// Returns a number below [`THREAD_NUMBERS`] that no other living thread of this process has, or
    /// [`THREAD_NUMBERS`] itself, which all others share.
    #[inline]
    pub(crate) fn thread_number() -> usize {
        let number = NUMBER.get();
        if number == UNKNOWN { claim() } else { number }
    }

    #[cold]
    fn claim() -> usize {
        let free = |owned: u64| (owned.trailing_ones() as usize) < THREAD_NUMBERS;
        let taken = OWNED.fetch_update(Acquire, Relaxed, |owned| {
            free(owned).then(|| owned | (1 << owned.trailing_ones()))
        });
        let number = taken.map_or(THREAD_NUMBERS, |owned| owned.trailing_ones() as usize);
        NUMBER.set(number);
        // A thread that is ending cannot register its destructor any more: it shares.
        if OWNER.try_with(|_| ()).is_err() {
            drop(Owner);
        }
        NUMBER.get()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn living_threads_own_different_numbers() {
            let _all = crate::sync::count::NUMBERS_IN_TEST.lock();
            let barrier = std::sync::Barrier::new(100);
            let mut numbers: Vec<_> = std::thread::scope(|scope| {
                let number = || {
                    let number = thread_number();
                    barrier.wait();
                    assert_eq!(thread_number(), number);
                    number
                };
                let threads: Vec<_> = (0..100).map(|_| scope.spawn(number)).collect();
                threads.into_iter().map(|it| it.join().unwrap()).collect()
            });
            numbers.retain(|&number| number < THREAD_NUMBERS);
            let count = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), count, "{numbers:?}");
        }
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
