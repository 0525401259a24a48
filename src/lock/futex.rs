//! Sleeping until a word changes: `futex`.
//!
//! One system call, for words that processes share and for words of one process. A return means
//! nothing: the waiter loads the word again. May call `sync` only.
#![cfg_attr(
    all(target_os = "linux", not(loom)),
    expect(unsafe_code, reason = "a system call that takes the address of a word")
)]

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use crate::sync::Word;

/// Sleeps until a wake, if the word's low half is still `low`, and for at most `most`.
pub(super) fn wait(word: &Word, low: u32, most: Duration) {
    #[cfg(loom)]
    {
        // No timeout: a lost wake is then a deadlock, which loom reports.
        let _ = most;
        crate::sync::loom_model::sleep(word, low);
    }
    #[cfg(all(target_os = "linux", not(loom)))]
    {
        sleep(low_half(word), libc::FUTEX_WAIT, low, most);
    }
    #[cfg(all(not(target_os = "linux"), not(loom)))]
    {
        let _ = (word, low);
        std::thread::sleep(most.min(Duration::from_millis(1)));
    }
}

/// Wakes one waiter for this word, in any process, or all of them.
pub(super) fn wake(word: &Word, all: bool) {
    #[cfg(all(target_os = "linux", not(loom)))]
    call(
        low_half(word),
        libc::FUTEX_WAKE,
        if all { i32::MAX as u32 } else { 1 },
        std::ptr::null(),
    );
    #[cfg(loom)]
    {
        let _ = word;
        crate::sync::loom_model::wake(all);
    }
    #[cfg(all(not(target_os = "linux"), not(loom)))]
    let _ = (word, all);
}

/// Sleeps until a thread of this process wakes this one, if the word is still `value`, and for at
/// most `most`.
pub(super) fn wait_here(word: &AtomicU32, value: u32, most: Duration) {
    #[cfg(all(target_os = "linux", not(loom)))]
    {
        let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        sleep(std::ptr::from_ref(word).cast(), operation, value, most);
    }
    // Loom's threads take turns on one thread of the system.
    #[cfg(any(not(target_os = "linux"), loom))]
    {
        let _ = (word, value);
        std::thread::sleep(most.min(Duration::from_millis(1)));
    }
}

/// Wakes one of the threads of this process that wait for this word, or all of them.
pub(super) fn wake_here(word: &AtomicU32, all: bool) {
    #[cfg(all(target_os = "linux", not(loom)))]
    call(
        std::ptr::from_ref(word).cast(),
        libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
        if all { i32::MAX as u32 } else { 1 },
        std::ptr::null(),
    );
    #[cfg(any(not(target_os = "linux"), loom))]
    let _ = (word, all);
}

/// Returns the first half of the word, which on a little-endian machine is the low one.
#[cfg(all(target_os = "linux", not(loom)))]
fn low_half(word: &Word) -> *const u32 {
    std::ptr::from_ref(word).cast()
}

#[cfg(all(target_os = "linux", not(loom)))]
fn sleep(word: *const u32, operation: i32, value: u32, most: Duration) {
    let most = libc::timespec {
        tv_sec: most.as_secs().min(1 << 20) as _,
        tv_nsec: libc::c_long::from(most.subsec_nanos()),
    };
    let failed = call(word, operation, value, &raw const most);
    if failed && std::io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether the call failed.
#[cfg(all(target_os = "linux", not(loom)))]
fn call(word: *const u32, operation: i32, value: u32, most: *const libc::timespec) -> bool {
    // SAFETY: M1: the word is borrowed by the caller and so stays where it is, mapped or in this
    // process's memory, and the system only loads it; `most` is null, or points to a time that
    // outlives the call.
    unsafe { libc::syscall(libc::SYS_futex, word, operation, value, most) == -1 }
}
