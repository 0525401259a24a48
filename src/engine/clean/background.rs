//! Background tasks: fsync and the release of files, off the writer's thread.
//!
//! A task takes no lock. It stores its result in the index header itself (invariant L3), so the next
//! writer of any handle or process finds it there; a handle only remembers whether a task is under
//! way. May call `lock` and `sync`.

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
    /// Whether this handle lived long enough to see a task of its own end.
    pub has_collected: bool,
    releases: Vec<Work>,
}

impl BackgroundTasks {
    /// Starts giving back memory and blocks of what was removed.
    pub(crate) fn release<T: Send + Sync + 'static>(&mut self, removed: Vec<Arc<T>>) {
        self.releases.retain_mut(|work| !work.is_over());
        let work = move || {
            give_back(removed);
            Ok(())
        };
        // If the process can start no thread, it is dropped here.
        self.releases.extend(Work::begin(work));
    }

    /// Waits until what was removed is given back. Returns whether there was anything.
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
    /// Bytes of the heap when it began.
    pub heap_bytes: u64,
    work: Work,
}

impl BackgroundTask {
    /// Begins a task; `None` if the process can start no thread.
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

    /// Waits for the end. Returns `None` if the result is unknown.
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
        if !lock::can_start_threads() {
            return None;
        }
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
        // In a forked child there is no such thread, and nothing to release.
        if self.epoch != lock::epoch() {
            std::mem::forget(self.thread.take());
        }
    }
}

/// Returns a builder of threads with a stack that suffices for system calls and what the standard
/// library needs for them.
#[cfg(not(any(test, fuzzing, loom)))]
fn thread() -> Builder {
    Builder::new()
        .name("mmapcache".into())
        .stack_size(64 * 1024)
}

/// In tests, where each step is counted and can be the last, the same thread does the work, when it
/// has asked for the end a few times.
#[cfg(any(test, fuzzing, loom))]
struct Work {
    asked: u32,
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
        Some(Self { asked: 0, work })
    }

    fn is_over(&mut self) -> bool {
        self.asked += 1;
        self.asked > 2
    }

    fn collect(self) -> Option<Result<()>> {
        Some((self.work)())
    }
}

/// Gives back memory and blocks of what was removed. For a large file that takes the file system
/// long, and the thread that drops the last reference waits for it.
fn give_back<T>(removed: Vec<Arc<T>>) {
    for one in removed {
        // A reader that is about to drop its reference should not be the last.
        let busy = |_: &u32| Arc::strong_count(&one) > 1;
        for _ in (0..100).take_while(busy) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
