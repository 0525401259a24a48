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

/// Nobody has asked the system.
const UNKNOWN: u32 = 0;
/// The system has been asked, and has not answered or has refused.
const OWN: u32 = 1;
/// Writers make the fence for all.
const FOR_ALL: u32 = 2;

static STATE: AtomicU32 = AtomicU32::new(UNKNOWN);

/// Asks the system, once in a process. In a process of one thread that takes 4 us. In one of several it
/// takes 13 to 16 ms, for the system waits until each processor has been in the kernel; so another
/// thread asks, if the caller may start one.
pub(crate) fn prepare(may_start_thread: bool) {
    if STATE.load(Relaxed) != UNKNOWN {
        return;
    }
    if system::is_alone() {
        STATE.store(OWN, Relaxed);
        ask();
    } else if may_start_thread && STATE.swap(OWN, Relaxed) == UNKNOWN {
        let thread = std::thread::Builder::new().name("mmapcache".into());
        // Without a thread, readers make their own fences.
        let _ = thread.stack_size(64 * 1024).spawn(ask);
    }
}

fn ask() {
    if system::register() {
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
        fence(Ordering::SeqCst);
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
        // SAFETY: the call takes no address; it only lets processors execute a fence.
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
