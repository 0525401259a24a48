//! Liveness by byte-range locks of open file descriptions (OFD), which the kernel drops when the
//! owner dies.
//!
//! Each contender chooses a random id and locks the byte of that id, far after the end of the file,
//! for as long as it has the file open (L4). A waiter that finds an id in the lock word checks
//! whether its byte is still locked. This is right across reused process ids: in other containers,
//! after a restart of the machine, or in a copy of the file. May call `format` only.
#![cfg_attr(
    all(target_os = "linux", not(loom)),
    expect(
        unsafe_code,
        reason = "locks of open file descriptions have no safe call"
    )
)]

use std::fs::File;
use std::io;

#[cfg(all(target_os = "linux", not(loom)))]
use crate::format::lock::FIRST_LIVENESS_BYTE;
use crate::format::lock::OWNER_IDS;

/// Locks the byte of an id that no process has, for as long as the description is open.
pub(super) fn claim(file: &File) -> io::Result<u32> {
    // Two random ids are equal once in 2^31.
    for _ in 0..64 {
        let id = random_id();
        debug_assert!(id < OWNER_IDS, "L4: an id that the lock word can hold");
        if id != 0 && lock(file, id)? {
            return Ok(id);
        }
    }
    Err(io::ErrorKind::QuotaExceeded.into())
}

#[cfg(all(target_os = "linux", not(loom)))]
fn random_id() -> u32 {
    let mut bytes = [0; 4];
    crate::os::random::fill(&mut bytes);
    // 0 is drawn again.
    u32::from_le_bytes(bytes) % OWNER_IDS
}

/// Returns whether no process has an id (any more).
#[cfg(all(target_os = "linux", not(loom)))]
pub(super) fn is_dead(file: &File, id: u32) -> io::Result<bool> {
    let byte = FIRST_LIVENESS_BYTE + i64::from(id);
    let asked = control(file, libc::F_OFD_GETLK, libc::F_WRLCK, byte)?;
    Ok(i32::from(asked.l_type) == libc::F_UNLCK)
}

/// Locks the byte of an id. Returns false if another description has it.
#[cfg(all(target_os = "linux", not(loom)))]
fn lock(file: &File, id: u32) -> io::Result<bool> {
    lock_byte(file, FIRST_LIVENESS_BYTE + i64::from(id))
}

/// Locks a byte. Returns false if another description has it.
#[cfg(all(target_os = "linux", not(loom)))]
pub(super) fn lock_byte(file: &File, byte: i64) -> io::Result<bool> {
    match control(file, libc::F_OFD_SETLK, libc::F_WRLCK, byte) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Unlocks the byte before its description is closed.
#[cfg(all(target_os = "linux", not(loom)))]
pub(super) fn release(file: &File, id: u32) {
    unlock_byte(file, FIRST_LIVENESS_BYTE + i64::from(id));
}

#[cfg(all(target_os = "linux", not(loom)))]
pub(super) fn unlock_byte(file: &File, byte: i64) {
    // If this fails, closing the description unlocks it.
    let _ = control(file, libc::F_OFD_SETLK, libc::F_UNLCK, byte);
}

#[cfg(all(target_os = "linux", not(loom)))]
fn control(file: &File, command: i32, kind: i32, start: i64) -> io::Result<libc::flock> {
    use std::os::fd::AsRawFd;
    let mut byte = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: 1,
        l_pid: 0,
    };
    // SAFETY: L1: the descriptor is open for as long as the file is borrowed, and `byte` is a
    // `flock` that outlives the call.
    let failed = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut byte) } == -1;
    if failed {
        return Err(io::Error::last_os_error());
    }
    Ok(byte)
}

/// Not used, because `lock` always fails on these systems.
#[cfg(all(not(target_os = "linux"), not(loom)))]
fn random_id() -> u32 {
    1
}

#[cfg(loom)]
fn random_id() -> u32 {
    (crate::sync::loom_model::number() % u64::from(OWNER_IDS)) as u32
}

#[cfg(loom)]
pub(super) fn is_dead(_file: &File, id: u32) -> io::Result<bool> {
    Ok(crate::sync::loom_model::is_dead(id))
}

#[cfg(loom)]
pub(super) fn release(_file: &File, id: u32) {
    crate::sync::loom_model::kill(id);
}

#[cfg(all(not(target_os = "linux"), not(loom)))]
pub(super) fn release(_file: &File, _number: u32) {}

#[cfg(loom)]
fn lock(_file: &File, _number: u32) -> io::Result<bool> {
    Ok(true)
}

#[cfg(all(not(target_os = "linux"), not(loom)))]
pub(super) fn is_dead(_file: &File, _number: u32) -> io::Result<bool> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(not(target_os = "linux"), not(loom)))]
fn lock(_file: &File, _number: u32) -> io::Result<bool> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux", not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn liveness_lasts_as_long_as_description() {
        let named = tempfile::NamedTempFile::new().unwrap();
        let open = || File::options().write(true).open(named.path()).unwrap();
        let (owner, other) = (open(), open());
        let id = claim(&owner).unwrap();
        assert!(!is_dead(&other, id).unwrap());
        assert!(!lock(&other, id).unwrap(), "chosen twice");
        assert!(is_dead(&other, id ^ 1).unwrap(), "no process chose it");
        drop(owner);
        assert!(is_dead(&other, id).unwrap());
    }

    #[test]
    fn copied_file_has_no_living_owners() {
        let (there, here) = (
            tempfile::NamedTempFile::new().unwrap(),
            tempfile::NamedTempFile::new().unwrap(),
        );
        let id = claim(there.as_file()).unwrap();
        assert!(is_dead(here.as_file(), id).unwrap());
    }
}
