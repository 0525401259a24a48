//! Copy-on-write file systems and shared blocks, which decide how a file is best filled.
//!
//! Everything here is best effort: a file system that does not answer counts as an ordinary one.
//! Calls no other module.
#![cfg_attr(
    target_os = "linux",
    expect(
        unsafe_code,
        reason = "no library asks which extents of a file are shared"
    )
)]

use std::fs::File;
use std::ops::Range;

/// How a file system treats stores to blocks that hold data already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileSystem {
    /// It stores in place, and no two files share blocks.
    Ordinary,
    /// The same, in memory: reading a hole of a mapped file takes room.
    InMemory,
    /// It stores in place, except to blocks that two files share: XFS.
    Shares,
    /// It stores to new blocks, and reserves metadata for each page that is dirtied alone: btrfs.
    CopiesOnWrite,
}

/// The number by which `statfs` reports a file system in memory.
#[cfg(target_os = "linux")]
const TMPFS: u32 = 0x0102_1994;
#[cfg(target_os = "linux")]
const BTRFS: u32 = 0x9123_683e;
#[cfg(target_os = "linux")]
const XFS: u32 = 0x5846_5342;

#[cfg(target_os = "linux")]
fn magic(file: &File) -> Option<u32> {
    rustix::fs::fstatfs(file)
        .ok()
        .map(|stat| stat.f_type as u32)
}

#[cfg(not(target_os = "linux"))]
fn magic(_file: &File) -> Option<u32> {
    None
}

impl FileSystem {
    pub(super) fn of(file: &File) -> Self {
        match magic(file) {
            #[cfg(target_os = "linux")]
            Some(BTRFS) => Self::CopiesOnWrite,
            #[cfg(target_os = "linux")]
            Some(XFS) => Self::Shares,
            #[cfg(target_os = "linux")]
            Some(TMPFS) => Self::InMemory,
            _ => Self::Ordinary,
        }
    }
}

/// Asks the file system to store to an empty file in place (`chattr +C`). btrfs then keeps no
/// checksums of it, which records and headers have themselves, and does not compress it.
#[cfg(target_os = "linux")]
pub(super) fn store_in_place(file: &File) {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    if let Ok(flags) = ioctl_getflags(file) {
        let wanted = (flags - IFlags::COMPRESSED) | IFlags::NOCOW;
        // A file system that refuses is used as it is.
        let _ = ioctl_setflags(file, wanted);
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn store_in_place(_file: &File) {}

/// Returns whether a file shares blocks of this range with another file. False if the file system
/// does not report it.
#[cfg(target_os = "linux")]
pub(super) fn is_shared(file: &File, range: Range<u64>) -> bool {
    let mut at = range.start;
    while at < range.end {
        let Some(request) = extents(file, at..range.end) else {
            return false;
        };
        let count = (request.mapped as usize).min(MAX_EXTENTS);
        let found = &request.extents[..count];
        if found.iter().any(|extent| extent.flags & SHARED != 0) {
            return true;
        }
        let end = found
            .last()
            .map(|last| last.logical.saturating_add(last.length));
        match end {
            Some(end) if end > at => at = end,
            _ => return false,
        }
    }
    false
}

#[cfg(not(target_os = "linux"))]
pub(super) fn is_shared(_file: &File, _range: Range<u64>) -> bool {
    false
}

/// The most extents that one call returns.
#[cfg(target_os = "linux")]
const MAX_EXTENTS: usize = 32;
/// `FIEMAP_EXTENT_SHARED`.
#[cfg(target_os = "linux")]
const SHARED: u32 = 0x2000;
/// `FS_IOC_FIEMAP`. Its number has the size of `struct fiemap` without its extents.
#[cfg(target_os = "linux")]
const FIEMAP: rustix::ioctl::Opcode = rustix::ioctl::opcode::read_write::<[u64; 4]>(b'f', 11);

/// `struct fiemap` of Linux, with its extents.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    wanted: u32,
    reserved: u32,
    extents: [FiemapExtent; MAX_EXTENTS],
}

/// `struct fiemap_extent` of Linux.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct FiemapExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved: [u64; 2],
    flags: u32,
    reserved_too: [u32; 3],
}

/// Returns the first extents of a range. `None` if the file system does not report them.
#[cfg(target_os = "linux")]
#[allow(
    clippy::cast_lossless,
    reason = "the type of its number differs between C libraries"
)]
fn extents(file: &File, range: Range<u64>) -> Option<Fiemap> {
    use std::os::fd::AsRawFd;
    let mut request = Fiemap {
        start: range.start,
        length: range.end - range.start,
        wanted: MAX_EXTENTS as u32,
        ..bytemuck::Zeroable::zeroed()
    };
    let target = std::ptr::from_mut(&mut request);
    // SAFETY: M4 (docs/design.md): the kernel stores to the fields of `Fiemap` and to at most
    // `wanted` extents after them, which `Fiemap` contains, and every bit pattern is valid.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), FIEMAP as _, target) };
    // M4: the kernel reports no more extents than it was asked for.
    debug_assert!(answer != 0 || request.mapped <= request.wanted);
    (answer == 0).then_some(request)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    // M4: however many extents a file has, the kernel reports no more than there is room for.
    #[test]
    fn extents_fit_their_buffer() {
        let file = tempfile::tempfile().unwrap();
        let step = 1 << 20;
        for at in 0..2 * MAX_EXTENTS as u64 {
            file.write_all_at(b"extent", at * step).unwrap();
        }
        file.sync_all().unwrap();
        if let Some(request) = extents(&file, 0..2 * MAX_EXTENTS as u64 * step) {
            assert!(request.mapped <= request.wanted, "{}", request.mapped);
        }
        assert!(!is_shared(&file, 0..2 * MAX_EXTENTS as u64 * step));
    }
}
