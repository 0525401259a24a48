//! A fence that one thread makes for all threads of its process: `membarrier`, from Linux 4.14 on.
//!
//! A thread that reads often then needs no fence of its own, only one for the compiler; a thread that
//! rarely changes what the others read pays for all. Until the system has prepared that, and where it
//! refuses, each reader makes its own. May call `sync`.
#![cfg_attr(
    all(target_os = "linux", not(loom)),
    expect(unsafe_code, reason = "a system call that the libraries lack")
)]

use std::sync::atomic::AtomicU32;
#[cfg(all(target_os = "linux", not(loom)))]
use std::sync::atomic::compiler_fence;

use crate::sync::{Acquire, Ordering, Relaxed, Release, fence};

/// The system has not been asked.
const UNKNOWN: u32 = 0;
/// The system has been asked, and has not answered or has refused.
const OWN: u32 = 1;
/// Writers make the fence for all.
const FOR_ALL: u32 = 2;
/// Reads of this process before it asks: one that reads little does not wait for the answer.
const READS: u32 = 1_000;

static STATE: AtomicU32 = AtomicU32::new(UNKNOWN);
/// Reads so far, or fewer: threads may count at the same time.
static COUNTED: AtomicU32 = AtomicU32::new(0);
/// 1 if a thread may be started that asks.
static MAY_START: AtomicU32 = AtomicU32::new(0);

/// Allows this process to start a thread that asks the system.
pub(crate) fn allow_thread() {
    MAY_START.store(1, Relaxed);
}

/// Asks the system, once in a process. In a process of one thread that takes 20 us. In one of several it
/// takes 5 to 16 ms, for the system waits until each processor has been in the kernel; so another
/// thread asks, if that is allowed.
#[cold]
fn prepare() {
    if STATE.swap(OWN, Relaxed) != UNKNOWN {
        return;
    }
    if system::is_alone() {
        ask();
    } else if MAY_START.load(Relaxed) == 1 {
        let thread = std::thread::Builder::new().name("mmapcache".into());
        // Without a thread, readers make their own fences.
        let _ = thread.stack_size(64 * 1024).spawn(ask);
    }
}

fn ask() {
    if system::register() {
        // A thread that was refused by then has made its own fence before.
        STATE.store(FOR_ALL, Release);
    }
}

/// The fence of a reader: between its store that announces what it reads, and the load by which it finds
/// out whether that is still current.
#[inline(always)]
#[cfg_attr(loom, allow(dead_code, reason = "only a model calls it"))]
pub(super) fn in_reader() {
    // Acquire: a writer that made no fence for all was refused before the state said that they do, and
    // the reader's next load sees what that writer had stored.
    if STATE.load(Acquire) == FOR_ALL {
        #[cfg(all(target_os = "linux", not(loom)))]
        compiler_fence(Ordering::SeqCst);
    } else {
        own_fence();
    }
}

/// Makes a reader's own fence, and counts.
#[inline(never)]
fn own_fence() {
    fence(Ordering::SeqCst);
    let counted = COUNTED.load(Relaxed);
    if counted < READS {
        COUNTED.store(counted + 1, Relaxed);
    } else if STATE.load(Relaxed) == UNKNOWN {
        prepare();
    }
}

/// The fence of a writer: between its store that replaces what is current, and the loads by which it
/// finds out who still reads the old. Returns false if the system accepted once and now refuses: then
/// nothing is known of the readers.
#[must_use]
#[cfg_attr(loom, allow(dead_code, reason = "only a model calls it"))]
pub(super) fn in_writer() -> bool {
    fence(Ordering::SeqCst);
    system::fence_all() || STATE.load(Acquire) != FOR_ALL || system::fence_all()
}

#[cfg(all(target_os = "linux", not(loom)))]
mod system {
    //! The system calls.

    use std::os::unix::fs::MetadataExt;

    /// Returns whether this process has one thread, as far as it can be told.
    pub(super) fn is_alone() -> bool {
        // A directory for each thread, and two links that each directory has.
        std::fs::metadata("/proc/self/task").is_ok_and(|threads| threads.nlink() == 3)
    }

    /// Announces that this process will use [`fence_all`]. A forked child need not do so again.
    pub(super) fn register() -> bool {
        call(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
    }

    pub(super) fn fence_all() -> bool {
        call(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
    }

    fn call(command: i32) -> bool {
        // SAFETY: L7: the call takes no address; it only lets processors execute a fence.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }
}

#[cfg(not(all(target_os = "linux", not(loom))))]
mod system {
    pub(super) fn is_alone() -> bool {
        true
    }

    pub(super) fn register() -> bool {
        false
    }

    pub(super) fn fence_all() -> bool {
        false
    }
}
