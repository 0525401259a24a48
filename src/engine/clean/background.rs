//! BackgroundTasks: work that a write hands to a thread of its own instead of waiting for the disk.
//!
//! An task takes no lock. It stores what it achieved in the index header itself (invariant L3), so
//! the next writer finds it there, whichever handle or process that is; a handle only remembers
//! whether one is under way. Knows how work is handed over; what for is the caller's.

use std::sync::Arc;
#[cfg(not(any(test, fuzzing, loom)))]
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::error::Result;
#[cfg(not(any(test, fuzzing, loom)))]
use crate::lock;

/// The tasks of one handle: one at a time.
#[derive(Debug, Default)]
pub(crate) struct BackgroundTasks {
    pub under_way: Option<BackgroundTask>,
    /// Whether this handle lived long enough to see an task of its own end.
    pub has_collected: bool,
    releases: Vec<Work>,
}

impl BackgroundTasks {
    /// Sends for memory and blocks of what was removed to be given back.
    pub(crate) fn release<T: Send + Sync + 'static>(&mut self, removed: Vec<Arc<T>>) {
        self.releases.retain_mut(|work| !work.is_over());
        let work = move || {
            give_back(removed);
            Ok(())
        };
        // Without a thread it is dropped here.
        self.releases.extend(Work::begin(work));
    }

    /// Waits until what was removed is given back. Whether there was anything.
    pub(crate) fn await_releases(&mut self) -> bool {
        let releases = std::mem::take(&mut self.releases);
        let any = !releases.is_empty();
        for work in releases {
            work.collect();
        }
        any
    }
}

/// One task.
#[derive(Debug)]
pub(crate) struct BackgroundTask {
    /// The id of the heap that it is about.
    pub heap: u64,
    /// Bytes of the heap when it set out.
    pub heap_bytes: u64,
    work: Work,
}

impl BackgroundTask {
    /// Sets out; none where the system has no thread to give.
    pub(crate) fn send(
        heap: u64,
        heap_bytes: u64,
        work: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Option<Self> {
        Some(Self {
            heap,
            heap_bytes,
            work: Work::begin(work)?,
        })
    }

    pub(crate) fn is_over(&mut self) -> bool {
        self.work.is_over()
    }

    /// Waits for the end. None where nothing can be said of the outcome.
    pub(crate) fn collect(self) -> Option<Result<()>> {
        self.work.collect()
    }
}

#[cfg(not(any(test, fuzzing, loom)))]
#[derive(Debug)]
struct Work {
    thread: Option<JoinHandle<Result<()>>>,
    epoch: u64,
}

#[cfg(not(any(test, fuzzing, loom)))]
impl Work {
    fn begin(work: impl FnOnce() -> Result<()> + Send + 'static) -> Option<Self> {
        Some(Self {
            thread: Some(thread().spawn(work).ok()?),
            epoch: lock::epoch(),
        })
    }

    fn is_over(&mut self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn collect(mut self) -> Option<Result<()>> {
        self.thread.take()?.join().ok()
    }
}

#[cfg(not(any(test, fuzzing, loom)))]
impl Drop for Work {
    fn drop(&mut self) {
        // In a forked child there is no such thread, and nothing to let go of.
        if self.epoch != lock::epoch() {
            std::mem::forget(self.thread.take());
        }
    }
}

/// A stack that is enough for system calls and what the standard library needs for them.
#[cfg(not(any(test, fuzzing, loom)))]
fn thread() -> Builder {
    Builder::new()
        .name("mmapcache".into())
        .stack_size(64 * 1024)
}

/// In tests, where each step is counted and can be the last, the work is done by the same thread, a
/// few looks later.
#[cfg(any(test, fuzzing, loom))]
struct Work {
    looks: u32,
    work: Box<dyn FnOnce() -> Result<()> + Send>,
}

#[cfg(any(test, fuzzing, loom))]
impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Work")
    }
}

#[cfg(any(test, fuzzing, loom))]
impl Work {
    fn begin(work: impl FnOnce() -> Result<()> + Send + 'static) -> Option<Self> {
        let work = Box::new(work);
        Some(Self { looks: 0, work })
    }

    fn is_over(&mut self) -> bool {
        self.looks += 1;
        self.looks > 2
    }

    fn collect(self) -> Option<Result<()>> {
        Some((self.work)())
    }
}

/// Gives back memory and blocks of what was removed. That may take the file system as long as the
/// file was large, and whoever drops the last reference waits for it.
fn give_back<T>(removed: Vec<Arc<T>>) {
    for one in removed {
        // A reader that is about to let go of it should not be the last.
        let busy = |_: &u32| Arc::strong_count(&one) > 1;
        for _ in (0..100).take_while(busy) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
