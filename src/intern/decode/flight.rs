//! A decoding that is under way, and those who wait for what comes of it.
//!
//! Belongs to one process: a forked child has neither the thread that decodes nor those that wait.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use crate::lock;

/// One decoding of one value.
#[derive(Debug)]
pub(super) struct Flight<T> {
    pilot: ThreadId,
    epoch: u64,
    landed: Mutex<Landing<T>>,
    bell: Condvar,
}

#[derive(Debug)]
enum Landing<T> {
    NotYet,
    /// Decoding failed, or panicked: whoever waited may try.
    Failed,
    Decoded(Arc<T>),
}

/// What a flight is to the calling thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pilot {
    /// The thread itself, which would wait for itself.
    Own,
    /// Another thread of this process.
    Other,
    /// A thread of the process that this one was forked from: nobody lands it here.
    Gone,
}

impl<T> Flight<T> {
    /// Begins one, which the calling thread is to land.
    pub(super) fn new() -> Self {
        Self {
            pilot: thread::current().id(),
            epoch: lock::epoch(),
            landed: Mutex::new(Landing::NotYet),
            bell: Condvar::new(),
        }
    }

    pub(super) fn pilot(&self) -> Pilot {
        if self.pilot == thread::current().id() {
            Pilot::Own
        } else if self.epoch == lock::epoch() {
            Pilot::Other
        } else {
            Pilot::Gone
        }
    }

    pub(super) fn land(&self, instance: Option<Arc<T>>) {
        // The pilot forked while it decoded: who waited for it is not in the child, but may have
        // held the lock at that moment.
        if self.epoch != lock::epoch() {
            return;
        }
        *self.landed() = instance.map_or(Landing::Failed, Landing::Decoded);
        self.bell.notify_all();
    }

    /// Waits for the instance; none where there is none.
    pub(super) fn wait(&self) -> Option<Arc<T>> {
        let mut landed = self.landed();
        loop {
            match &*landed {
                Landing::NotYet => {
                    let rung = self.bell.wait(landed);
                    landed = rung.unwrap_or_else(PoisonError::into_inner);
                }
                Landing::Failed => return None,
                Landing::Decoded(instance) => return Some(Arc::clone(instance)),
            }
        }
    }

    fn landed(&self) -> MutexGuard<'_, Landing<T>> {
        // Nothing panics under it.
        self.landed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
