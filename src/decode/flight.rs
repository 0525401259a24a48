//! A decoding that is under way, and those who wait for what comes of it.

use std::sync::Arc;
use std::thread::{self, ThreadId};

use parking_lot::{Condvar, Mutex};

/// One decoding of one value.
#[derive(Debug)]
pub(super) struct Flight<T> {
    pilot: ThreadId,
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

impl<T> Flight<T> {
    /// Begins one, which the calling thread is to land.
    pub(super) fn new() -> Self {
        Self {
            pilot: thread::current().id(),
            landed: Mutex::new(Landing::NotYet),
            bell: Condvar::new(),
        }
    }

    /// Whether the calling thread would wait for itself.
    pub(super) fn is_own(&self) -> bool {
        self.pilot == thread::current().id()
    }

    pub(super) fn land(&self, instance: Option<Arc<T>>) {
        *self.landed.lock() = instance.map_or(Landing::Failed, Landing::Decoded);
        self.bell.notify_all();
    }

    /// Waits for the instance; none where there is none.
    pub(super) fn wait(&self) -> Option<Arc<T>> {
        let mut landed = self.landed.lock();
        loop {
            match &*landed {
                Landing::NotYet => self.bell.wait(&mut landed),
                Landing::Failed => return None,
                Landing::Decoded(instance) => return Some(Arc::clone(instance)),
            }
        }
    }
}
