//! A proof of life: a locked byte of the index that the system lets go when its owner dies.
//!
//! Each contender draws a number and locks the byte of that number, far behind the end of the file,
//! for as long as it has the file open. Whoever finds a number in the lock word asks whether its
//! byte is still locked. That is right whatever became of process ids: in other containers, after a
//! restart of the machine, or in a copy of the file. It does not know what the numbers are for.
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
use crate::format::lock::FIRST_LIFE;
#[cfg(any(target_os = "linux", loom))]
use crate::format::lock::NUMBERS;

/// Locks the byte of a number that nobody has, for as long as the description is open.
pub(super) fn begin(file: &File) -> io::Result<u32> {
    // Two draws meet once in two thousand million.
    for _ in 0..64 {
        let number = draw();
        if number != 0 && lock(file, number)? {
            return Ok(number);
        }
    }
    Err(io::ErrorKind::QuotaExceeded.into())
}

#[cfg(all(target_os = "linux", not(loom)))]
fn draw() -> u32 {
    let mut bytes = [0; 4];
    #[cfg(not(fuzzing))]
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    #[cfg(fuzzing)]
    let filled = {
        bytes.copy_from_slice(&crate::fuzzing::next_random().to_le_bytes()[..4]);
        Ok::<_, io::Error>(4)
    };
    // 0 is drawn again.
    filled.map_or(0, |_| u32::from_le_bytes(bytes) % NUMBERS)
}

/// Whether nobody has a number (any more).
#[cfg(all(target_os = "linux", not(loom)))]
pub(super) fn is_over(file: &File, number: u32) -> io::Result<bool> {
    let asked = control(file, libc::F_OFD_GETLK, libc::F_WRLCK, number)?;
    Ok(i32::from(asked.l_type) == libc::F_UNLCK)
}

/// Whether the byte was nobody's, and is this description's now.
#[cfg(all(target_os = "linux", not(loom)))]
fn lock(file: &File, number: u32) -> io::Result<bool> {
    match control(file, libc::F_OFD_SETLK, libc::F_WRLCK, number) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Lets the byte go before its description is closed.
#[cfg(all(target_os = "linux", not(loom)))]
pub(super) fn end(file: &File, number: u32) {
    // Where it fails, closing does it.
    let _ = control(file, libc::F_OFD_SETLK, libc::F_UNLCK, number);
}

#[cfg(all(target_os = "linux", not(loom)))]
fn control(file: &File, command: i32, kind: i32, number: u32) -> io::Result<libc::flock> {
    use std::os::fd::AsRawFd;
    let mut byte = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: FIRST_LIFE + i64::from(number),
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

/// Never asked for: `lock` has no such locks to take.
#[cfg(all(not(target_os = "linux"), not(loom)))]
fn draw() -> u32 {
    1
}

#[cfg(loom)]
fn draw() -> u32 {
    (crate::sync::loom_model::number() % u64::from(NUMBERS)) as u32
}

#[cfg(loom)]
pub(super) fn is_over(_file: &File, number: u32) -> io::Result<bool> {
    Ok(crate::sync::loom_model::is_dead(number))
}

#[cfg(loom)]
pub(super) fn end(_file: &File, number: u32) {
    crate::sync::loom_model::kill(number);
}

#[cfg(all(not(target_os = "linux"), not(loom)))]
pub(super) fn end(_file: &File, _number: u32) {}

#[cfg(loom)]
fn lock(_file: &File, _number: u32) -> io::Result<bool> {
    Ok(true)
}

#[cfg(all(not(target_os = "linux"), not(loom)))]
pub(super) fn is_over(_file: &File, _number: u32) -> io::Result<bool> {
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
        let number = begin(&owner).unwrap();
        assert!(!is_over(&other, number).unwrap());
        assert!(!lock(&other, number).unwrap(), "it was drawn twice");
        assert!(is_over(&other, number ^ 1).unwrap(), "nobody drew it");
        drop(owner);
        assert!(is_over(&other, number).unwrap());
    }

    #[test]
    fn copied_file_has_no_living_owners() {
        let (there, here) = (
            tempfile::NamedTempFile::new().unwrap(),
            tempfile::NamedTempFile::new().unwrap(),
        );
        let number = begin(there.as_file()).unwrap();
        assert!(is_over(here.as_file(), number).unwrap());
    }
}
