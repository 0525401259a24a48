//! Child processes of other users.
#![expect(unsafe_code, reason = "changing the user is a call of the C library")]

/// Whether this process is root, and so can become another user. Otherwise the test says that it
/// did not run, and fails if `CI` is set.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        assert!(std::env::var_os("CI").is_none(), "CI must be root");
        eprintln!("NOT RUN: other users need root");
    }
    root
}

/// Makes this process another user's, with one group. Only for child processes: a process cannot
/// undo it.
pub(crate) fn become_user(user: u32, group: u32) {
    // SAFETY: changes the credentials of this process only; no pointer is used for no groups.
    let left = unsafe { libc::setgroups(0, std::ptr::null()) };
    // SAFETY: changes the credentials of this process only.
    let grouped = unsafe { libc::setresgid(group, group, group) };
    // SAFETY: changes the credentials of this process only.
    let changed = unsafe { libc::setresuid(user, user, user) };
    assert_eq!((left, grouped, changed), (0, 0, 0));
}
