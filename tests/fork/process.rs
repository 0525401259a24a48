//! Processes forked from this one, until they end.
//!
//! Knows no caches; the tests themselves follow the rules for forking with threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Runs the closure in a forked child, which never returns from it. Returns the child's process id.
pub(super) fn fork(body: impl FnOnce()) -> libc::pid_t {
    // SAFETY: no other thread of these processes holds a lock, except those that the C library
    // takes care of, and the cache's own, which are tested.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "a forked child");
    if pid > 0 {
        return pid;
    }
    let well = catch_unwind(AssertUnwindSafe(body)).is_ok();
    // SAFETY: ends the process at once, with nothing that belongs to the parent.
    unsafe { libc::_exit(if well { 0 } else { 1 }) }
}

/// Forks, and returns in both processes. A child that panics exits at once: the end of its only
/// thread would otherwise pass for success.
pub(super) fn fork_here() -> libc::pid_t {
    // SAFETY: as in `fork`.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "a forked child");
    if pid == 0 {
        // SAFETY: ends the process at once, with nothing that belongs to the parent.
        std::panic::set_hook(Box::new(|_| unsafe { libc::_exit(2) }));
    }
    pid
}

/// Ends a child that returned from [`fork_here`].
pub(super) fn end(well: bool) -> ! {
    // SAFETY: ends the process at once, with nothing that belongs to the parent.
    unsafe { libc::_exit(if well { 0 } else { 1 }) }
}

/// Waits until the forked child has ended, and asserts that it succeeded.
#[track_caller]
pub(super) fn join(pid: libc::pid_t) {
    let mut status = -1;
    // SAFETY: `status` is a live integer, and no other thread waits for the process, a child.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!((waited, status), (pid, 0), "the forked child failed");
}

/// The same, but a child that does not end within 15 seconds hangs: it is killed, and the test
/// fails.
#[track_caller]
pub(super) fn join_in_time(pid: libc::pid_t) {
    let begun = Instant::now();
    loop {
        let mut status = -1;
        // SAFETY: as in `join`.
        let waited = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
        if waited != 0 {
            assert_eq!((waited, status), (pid, 0), "the forked child failed");
            return;
        }
        if begun.elapsed() > Duration::from_secs(15) {
            kill(pid);
            panic!("the forked child hangs");
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Ends this process if it runs for another minute, so that a test that hangs fails.
pub(super) fn end_if_it_hangs() {
    // SAFETY: only sets a timer, whose signal ends the process.
    unsafe { libc::alarm(60) };
}

pub(super) fn kill(pid: libc::pid_t) {
    // SAFETY: the process is a child that was not waited for, so its id is its own.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    // SAFETY: no other thread waits for the process, a child; its status is not read.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
}
