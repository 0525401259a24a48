//! Whether this process can start threads: a forked child may not be able to.
//!
//! In Rust's standard library (1.95) a thread that starts or ends holds a mutex of the process for a moment
//! (`stack_overflow::thread_info`). A child that is forked in that moment inherits it locked: each thread
//! that it starts waits for it forever, and so does a caller that joins one. May call `ofd`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::Builder;
use std::time::Duration;

use crate::lock::ofd::epoch;

/// What is known of the forked child with this epoch: twice the epoch, and one more if its threads start.
static KNOWN: AtomicU64 = AtomicU64::new(0);

/// How long a thread may take to begin. If a busy machine takes longer, callers do the work themselves.
const PATIENCE: Duration = Duration::from_secs(1);

/// Returns whether threads that this process starts will run. In a forked child the first call starts one to
/// find out, and takes a second if it does not run; it is left behind then.
pub(crate) fn can_start_threads() -> bool {
    recall(&KNOWN, epoch(), one_starts)
}

fn recall(known: &AtomicU64, epoch: u64, find_out: impl FnOnce() -> bool) -> bool {
    if epoch == 0 {
        return true;
    }
    let recalled = known.load(Ordering::Relaxed);
    if recalled / 2 == epoch {
        return recalled % 2 == 1;
    }
    let starts = find_out();
    known.store(epoch * 2 + u64::from(starts), Ordering::Relaxed);
    starts
}

fn one_starts() -> bool {
    let (begun, begins) = mpsc::channel();
    let thread = Builder::new()
        .name("mmapcache".into())
        .stack_size(64 * 1024);
    let started = thread.spawn(move || begun.send(()));
    started.is_ok() && begins.recv_timeout(PATIENCE).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unforked_process_starts_threads() {
        assert!(recall(&AtomicU64::new(0), 0, || false));
    }

    #[test]
    fn forked_child_finds_out_once() {
        for starts in [false, true] {
            let known = AtomicU64::new(0);
            assert_eq!(recall(&known, 1, || starts), starts);
            assert_eq!(recall(&known, 1, || !starts), starts);
            // A child of the child.
            assert_eq!(recall(&known, 2, || !starts), !starts);
        }
    }

    #[test]
    fn thread_reports_that_it_began() {
        assert!(one_starts());
    }
}
