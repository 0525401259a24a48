//! What decides how a mapped file is best filled and stored to: its file system.
//!
//! Tells copy-on-write file systems from others, and asks them for files that are stored to in
//! place. Knows nothing of mappings. Everything here is best effort: a file system that cannot be
//! asked is an ordinary one.
#![expect(
    unsafe_code,
    reason = "no library asks which extents of a file are shared"
)]

use std::fs::File;
use std::ops::Range;

/// How a file system treats stores to blocks that hold data already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileSystem {
    /// It stores in place, and no two files share blocks.
    Ordinary,
    /// It stores in place, except to blocks that two files share: XFS.
    Shares,
    /// It stores to new blocks, and reserves metadata for each page that is dirtied alone: btrfs.
    CopiesOnWrite,
}

/// What `statfs` says of a file system in memory.
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
            _ => Self::Ordinary,
        }
    }
}

/// Whether the file system is in memory, where reading a hole of a mapped file takes room.
#[cfg(target_os = "linux")]
pub(super) fn is_in_memory(file: &File) -> bool {
    magic(file) == Some(TMPFS)
}

/// Elsewhere nothing is known of file systems.
#[cfg(not(target_os = "linux"))]
pub(super) fn is_in_memory(_file: &File) -> bool {
    false
}

/// Asks for an empty file that is stored to in place (`chattr +C`). btrfs then keeps no checksums
/// of it, which records and headers of ours have themselves, and does not compress it.
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

/// Whether a file shares some of these bytes' blocks with another one; false where the file system
/// does not say so.
#[cfg(target_os = "linux")]
pub(super) fn is_shared(file: &File, range: Range<u64>) -> bool {
    let mut at = range.start;
    while at < range.end {
        let Some(request) = extents(file, at..range.end) else {
            return false;
        };
        let count = (request.mapped as usize).min(EXTENTS);
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

/// Extents that one call asks for.
#[cfg(target_os = "linux")]
const EXTENTS: usize = 32;
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
struct Request {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    wanted: u32,
    reserved: u32,
    extents: [Extent; EXTENTS],
}

/// `struct fiemap_extent` of Linux.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved: [u64; 2],
    flags: u32,
    reserved_too: [u32; 3],
}

/// The first extents of a range; none where the file system does not tell them.
#[cfg(target_os = "linux")]
#[allow(
    clippy::cast_lossless,
    reason = "the type of its number differs between C libraries"
)]
fn extents(file: &File, range: Range<u64>) -> Option<Request> {
    use std::os::fd::AsRawFd;
    let mut request = Request {
        start: range.start,
        length: range.end - range.start,
        wanted: EXTENTS as u32,
        ..bytemuck::Zeroable::zeroed()
    };
    let target = std::ptr::from_mut(&mut request);
    // SAFETY: M4 (docs/design.md): the call stores to the fields of `Request` and to at most
    // `wanted` extents behind them, which are there, and any of its bits make a valid one.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), FIEMAP as _, target) };
    (answer == 0).then_some(request)
}
