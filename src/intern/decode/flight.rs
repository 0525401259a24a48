//! A decoding in progress, and the threads that wait for its result (single flight).
//!
//! Belongs to one process: a forked child has neither the thread that decodes nor the waiting ones.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use crate::lock;

/// One decoding of one value.
#[derive(Debug)]
pub(super) struct Flight<T> {
    /// The thread that decodes.
    leader: ThreadId,
    epoch: u64,
    result: Mutex<Outcome<T>>,
    ready: Condvar,
}

#[derive(Debug)]
enum Outcome<T> {
    Pending,
    /// Decoding failed, or panicked: each waiting thread may try.
    Failed,
    Decoded(Arc<T>),
}

/// Which thread decodes, as seen by the calling thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leader {
    /// The calling thread, which would wait for itself.
    ThisThread,
    /// Another thread of this process.
    OtherThread,
    /// A thread of the parent process, from before a fork: it never completes the flight here.
    Parent,
}

impl<T> Flight<T> {
    /// Begins a flight that the calling thread must complete.
    pub(super) fn new() -> Self {
        Self {
            leader: thread::current().id(),
            epoch: lock::epoch(),
            result: Mutex::new(Outcome::Pending),
            ready: Condvar::new(),
        }
    }

    pub(super) fn leader(&self) -> Leader {
        if self.leader == thread::current().id() {
            Leader::ThisThread
        } else if self.epoch == lock::epoch() {
            Leader::OtherThread
        } else {
            Leader::Parent
        }
    }

    /// Stores the result, `None` for a failure, and wakes the waiting threads.
    pub(super) fn complete(&self, instance: Option<Arc<T>>) {
        // The leader forked while it decoded. No waiting thread is in the child, but one of them may
        // have held the mutex at the fork.
        if self.epoch != lock::epoch() {
            return;
        }
        let mut result = self.result();
        debug_assert!(matches!(*result, Outcome::Pending), "a flight ends once");
        *result = instance.map_or(Outcome::Failed, Outcome::Decoded);
        drop(result);
        self.ready.notify_all();
    }

    /// Waits for the result. `None` if the leader failed.
    pub(super) fn wait(&self) -> Option<Arc<T>> {
        let mut result = self.result();
        loop {
            match &*result {
                Outcome::Pending => {
                    let woken = self.ready.wait(result);
                    result = woken.unwrap_or_else(PoisonError::into_inner);
                }
                Outcome::Failed => return None,
                Outcome::Decoded(instance) => return Some(Arc::clone(instance)),
            }
        }
    }

    fn result(&self) -> MutexGuard<'_, Outcome<T>> {
        // No code that can panic runs while it is locked.
        self.result.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
