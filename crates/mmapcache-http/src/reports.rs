//! What goes wrong without failing a request: counted, and logged at most once a second for each kind.
//!
//! Calls the crate `log` only.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A full disk or a foreign cache concerns every request: one line a second tells as much as thousands.
const PAUSE: Duration = Duration::from_secs(1);

/// Counts events of one kind, and logs some of them.
#[derive(Debug, Default)]
pub(crate) struct Report {
    count: AtomicU64,
    /// The count at the last line of the log, and when that was.
    logged: Mutex<(u64, Option<Instant>)>,
}

impl Report {
    /// Counts an event, and logs it as a warning unless another one was logged within a second.
    #[cold]
    pub(crate) fn warn(&self, event: fmt::Arguments<'_>) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        // A thread that panicked while it logged does not stop others from it.
        let mut logged = self.logged.lock().unwrap_or_else(|lock| lock.into_inner());
        let (before, last) = *logged;
        if last.is_some_and(|last| last.elapsed() < PAUSE) {
            return;
        }
        *logged = (count, Some(Instant::now()));
        drop(logged);
        match count.saturating_sub(before + 1) {
            0 => log::warn!("{event}"),
            more => log::warn!("{event} ({more} more of this kind were not logged)"),
        }
    }

    /// Counts an event of normal operation.
    pub(crate) fn note(&self, event: fmt::Arguments<'_>) {
        self.count.fetch_add(1, Ordering::Relaxed);
        log::debug!("{event}");
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// The events of a manager and its clones.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    pub(crate) unreadable: Report,
    pub(crate) failed_lookups: Report,
    pub(crate) failed_stores: Report,
    pub(crate) failed_removals: Report,
    pub(crate) declined: Report,
}
