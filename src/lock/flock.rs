//! The lock that every Unix has: `flock` on the whole file.
//!
//! Two system calls for each turn, and no queue: so whoever waits leaves its number in a word, and
//! whoever finds another's there lets it go first. It does not know what the lock guards.

use std::fs::File;
use std::io;
use std::time::Duration;

use fs2::FileExt;

use crate::sync::{Word, load, store};

use crate::lock::{Patience, Refusal};

/// Between two looks at a lock that somebody else holds.
const LONGEST_PAUSE: Duration = Duration::from_millis(1);

/// Takes the lock; with a word for those who wait, in turn with them.
pub(super) fn acquire(
    file: &File,
    waiting: Option<&Word>,
    number: u64,
    patience: &Patience,
) -> Result<(), Refusal> {
    let Some(waiting) = waiting else {
        return wait(file, patience, || {});
    };
    give_way(waiting, number);
    wait(file, patience, || store(waiting, number))?;
    if load(waiting) == number {
        store(waiting, 0);
    }
    Ok(())
}

/// Lets whoever waits for the lock have it first: one who takes it again as soon as it is free
/// would else keep all others out. Without a waiter this costs a load.
fn give_way(waiting: &Word, number: u64) {
    let announced = load(waiting);
    if announced != 0 && announced != number {
        std::thread::sleep(2 * LONGEST_PAUSE);
        // Once for each announcement: the waiter may be gone.
        if load(waiting) == announced {
            store(waiting, 0);
        }
    }
}

/// `announce` is called after each look that found the lock taken.
fn wait(file: &File, patience: &Patience, mut announce: impl FnMut()) -> Result<(), Refusal> {
    let mut pause = Duration::from_micros(20);
    loop {
        match FileExt::try_lock_exclusive(file) {
            Ok(()) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EWOULDBLOCK) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Refusal::Io(error)),
        }
        announce();
        let Some(left) = patience.left() else {
            return block(file);
        };
        if left.is_zero() {
            return Err(Refusal::TimedOut);
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn block(file: &File) -> Result<(), Refusal> {
    loop {
        match FileExt::lock_exclusive(file) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Refusal::Io(error)),
        }
    }
}

/// Lets go of the lock. Unlocking an open description cannot fail; were it to, closing it unlocks
/// too.
pub(super) fn release(file: &File) {
    let _ = FileExt::unlock(file);
}
