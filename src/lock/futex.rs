//! Waiting until a word changes, without running meanwhile: `futex`.
//!
//! Knows one system call. A return says nothing: whoever waited looks at the word again.
#![cfg_attr(
    all(target_os = "linux", not(loom)),
    expect(unsafe_code, reason = "a system call that takes the address of a word")
)]

use std::time::Duration;

use crate::sync::Word;

/// Waits until somebody wakes, if the word's low half is still `low`; at most so long.
pub(super) fn wait(word: &Word, low: u32, most: Duration) {
    #[cfg(loom)]
    {
        // Whoever relies on the end of a pause alone is found out.
        let _ = most;
        crate::sync::modelled::sleep(word, low);
    }
    #[cfg(all(target_os = "linux", not(loom)))]
    {
        let most = libc::timespec {
            tv_sec: most.as_secs().min(1 << 20) as libc::time_t,
            tv_nsec: libc::c_long::from(most.subsec_nanos()),
        };
        let failed = call(word, libc::FUTEX_WAIT, low, &raw const most);
        if failed && last_error() == Some(libc::ENOSYS) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    #[cfg(all(not(target_os = "linux"), not(loom)))]
    {
        let _ = (word, low);
        std::thread::sleep(most.min(Duration::from_millis(1)));
    }
}

/// Wakes one of those that wait for this word, in whichever process, or all of them.
pub(super) fn wake(word: &Word, all: bool) {
    #[cfg(all(target_os = "linux", not(loom)))]
    call(
        word,
        libc::FUTEX_WAKE,
        if all { i32::MAX as u32 } else { 1 },
        std::ptr::null(),
    );
    #[cfg(loom)]
    {
        let _ = word;
        crate::sync::modelled::wake(all);
    }
    #[cfg(all(not(target_os = "linux"), not(loom)))]
    let _ = (word, all);
}

#[cfg(all(target_os = "linux", not(loom)))]
fn last_error() -> Option<i32> {
    std::io::Error::last_os_error().raw_os_error()
}

/// The system reads the half of the word that stands first, which on a little-endian machine is the
/// low one. Whether the call failed.
#[cfg(all(target_os = "linux", not(loom)))]
fn call(word: &Word, operation: i32, value: u32, most: *const libc::timespec) -> bool {
    let address = std::ptr::from_ref(word).cast::<u32>();
    // SAFETY: M1: the word stays mapped for as long as it is borrowed, and the system only loads
    // it; `most` is null, or points to a time that outlives the call.
    unsafe { libc::syscall(libc::SYS_futex, address, operation, value, most) == -1 }
}
