//! The lock that every Unix has: `flock` on the whole file.
//!
//! Two system calls for each turn, and no queue. So a waiter stores its number in a word, and a
//! handle that finds another one's number there lets that one go first. May call `sync`;
//! independent of what the lock guards.

use std::fs::File;
use std::io;
use std::time::Duration;

use fs2::FileExt;

use crate::sync::{Word, load, store};

use crate::lock::{LockDeadline, LockError};

/// The longest sleep between two attempts to take a lock that is held.
const LONGEST_PAUSE: Duration = Duration::from_millis(1);

/// Acquires the lock. With a word for waiters, handles take turns.
pub(super) fn acquire(
    file: &File,
    waiting: Option<&Word>,
    number: u64,
    deadline: &LockDeadline,
) -> Result<(), LockError> {
    let Some(waiting) = waiting else {
        return wait(file, deadline, || {});
    };
    debug_assert_ne!(number, 0, "0 says that no handle waits");
    yield_to_waiter(waiting, number);
    wait(file, deadline, || store(waiting, number))?;
    if load(waiting) == number {
        store(waiting, 0);
    }
    Ok(())
}

/// Lets a waiter take the lock first. A handle that acquires it again as soon as it is free would
/// otherwise keep all others out. Without a waiter this costs a load.
fn yield_to_waiter(waiting: &Word, number: u64) {
    let announced = load(waiting);
    if announced != 0 && announced != number {
        std::thread::sleep(2 * LONGEST_PAUSE);
        // Once for each announcement, because the waiter may be gone.
        if load(waiting) == announced {
            store(waiting, 0);
        }
    }
}

/// Calls `announce` after each attempt that found the lock held.
fn wait(file: &File, deadline: &LockDeadline, mut announce: impl FnMut()) -> Result<(), LockError> {
    let mut pause = Duration::from_micros(20);
    loop {
        match FileExt::try_lock_exclusive(file) {
            Ok(()) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EWOULDBLOCK) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(LockError::Io(error)),
        }
        announce();
        let Some(left) = deadline.left() else {
            return block(file);
        };
        if left.is_zero() {
            return Err(LockError::TimedOut);
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn block(file: &File) -> Result<(), LockError> {
    loop {
        match FileExt::lock_exclusive(file) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(LockError::Io(error)),
        }
    }
}

/// Releases the lock. Unlocking an open file description cannot fail, and closing it would unlock it
/// too.
pub(super) fn release(file: &File) {
    let _ = FileExt::unlock(file);
}
