//! An open file that windows are mapped from: its size, and how it gets blocks, zeros and syncs.
//!
//! Storing into a mapping of a hole on a full disk raises SIGBUS, so every range is allocated before
//! it is mapped for stores (H2). May call `error`, `sync`, `os::clock` and `os::files`.

mod cow;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::MmapOptions;
use rustix::fs::{FallocateFlags, SeekFrom};

use crate::error::{Error, ErrorKind, Result};
use crate::os::clock::coarse_millis;
use crate::os::files;
use crate::os::mapped_file::cow::FileSystem;
use crate::sync::{Relaxed, Word, failpoint, load};

/// The largest fresh range that is filled with zeros at once, in bytes.
const WARM_MAX: u64 = 8 << 20;
static ZEROS: [u8; 1 << 18] = [0; 1 << 18];

/// How a file is stored to once it has data: that decides in which pieces it is best filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StorePattern {
    /// From its beginning to its end, once.
    Sequential,
    /// Single words at any place.
    Scattered,
}

impl StorePattern {
    /// Returns how many bytes of zeros one call writes. The page cache then holds them in one piece,
    /// and a store to one page of the piece makes the whole piece dirty (ext4 and XFS from Linux
    /// 6.16 on).
    fn piece(self, file_system: FileSystem) -> u64 {
        match self {
            // Single pages are read at half the speed, 256 KiB write four times as much for a small
            // change (docs/decisions.md, section 2).
            Self::Scattered if file_system != FileSystem::CopiesOnWrite => {
                page_bytes().max(16 << 10)
            }
            _ => ZEROS.len() as u64,
        }
    }
}

/// Milliseconds for which blocks that the file was given as its own count as its own.
const OWNED_FOR: u64 = 250;

/// Returns the bytes of a page of the page cache. Nothing in a file depends on it.
pub(crate) fn page_bytes() -> u64 {
    (rustix::param::page_size() as u64).max(4096)
}

/// An open file that windows are mapped from.
#[derive(Debug)]
pub(crate) struct MappedFile {
    file: File,
    path: PathBuf,
    writable: bool,
    /// The bytes that a mapping of the file has even if the file grows: of a file on overlayfs that
    /// is open for reading only. See [`files::pinned`].
    pinned: Option<u64>,
    file_system: FileSystem,
    /// When the file last got blocks of its own, in milliseconds of a coarse clock.
    owned: Word,
}

impl MappedFile {
    pub(crate) fn new(file: File, path: &Path, writable: bool) -> Arc<Self> {
        let (file, pinned) = match writable {
            true => (file, None),
            false => files::pinned(file, path),
        };
        Arc::new(Self {
            file_system: FileSystem::of(&file),
            file,
            path: path.to_owned(),
            writable,
            pinned,
            owned: Word::new(0),
        })
    }

    /// Takes a file that was just created and is still empty. Copy-on-write file systems then store
    /// to it in place.
    pub(crate) fn created(file: File, path: &Path) -> Arc<Self> {
        debug_assert!(file.metadata().map_or(true, |meta| meta.len() == 0));
        let created = Self::new(file, path, true);
        if created.file_system == FileSystem::CopiesOnWrite {
            cow::store_in_place(&created.file);
        }
        created
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Returns whether the file is open for writing.
    #[cfg(not(loom))]
    pub(super) fn is_writable(&self) -> bool {
        self.writable
    }

    /// Returns the bytes of the file that a mapping has, asked of the system.
    pub(crate) fn len(&self) -> Result<u64> {
        let len = self
            .file
            .metadata()
            .map_err(Error::io(&self.path, "read the size of the file"))?
            .len();
        // M2: of a file on overlayfs, the end from before it was opened.
        Ok(self.pinned.map_or(len, |pinned| len.min(pinned)))
    }

    /// Returns the bytes of the blocks that the file takes on the disk.
    pub(crate) fn disk_bytes(&self) -> Result<u64> {
        let meta = self
            .file
            .metadata()
            .map_err(Error::io(&self.path, "read the size of the file"))?;
        Ok(meta.blocks() * 512)
    }

    /// Writes all data of the file to the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        failpoint!(Sync(&self.file));
        if self.writable && self.file_system == FileSystem::InMemory {
            self.touch();
        }
        self.file.sync_data().map_err(Error::sync(&self.path))
    }

    /// Sets the file's times to now, if that is possible. In a file system in memory, stores to a
    /// mapping do not, and a program that copies changed files by their times would miss them.
    fn touch(&self) {
        use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
        // Setting both to now is allowed to every process that may write to the file.
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        };
        let times = Timestamps {
            last_access: now,
            last_modification: now,
        };
        let _ = futimens(&self.file, &times);
    }

    /// Allocates blocks for a range that is not in use, so that storing into a mapping of it cannot
    /// fail (H2).
    pub(crate) fn allocate(&self, at: u64, len: u64) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        let end = at.saturating_add(len);
        self.check_limit(end)?;
        // A large request that fails half-way may leave the disk full, so ask for the room first.
        self.check_room(len)?;
        match self.preallocate(at, len) {
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported { .. }) => {
                self.write_zeros(at, len)
            }
            other => other,
        }
    }

    /// Fails if the file would grow beyond the process's file size limit. The system would send a
    /// signal, which ends the process unless it is handled.
    pub(crate) fn check_limit(&self, end: u64) -> Result<()> {
        match rustix::process::getrlimit(rustix::process::Resource::Fsize).current {
            Some(limit) if end > limit && end > self.len()? => {
                let action = "grow the file beyond this process's limit (`ulimit -f`)";
                let source = io::Error::from(io::ErrorKind::FileTooLarge);
                Err(Error::io(&self.path, action)(source))
            }
            _ => Ok(()),
        }
    }

    /// Returns whether each page that is dirtied alone costs far more than many in a row.
    #[inline]
    pub(crate) fn copies_on_write(&self) -> bool {
        self.file_system == FileSystem::CopiesOnWrite
    }

    /// Returns whether the file may share blocks with others, so that a store to a shared block may
    /// need a new one.
    #[inline]
    pub(crate) fn shares_blocks(&self) -> bool {
        self.file_system == FileSystem::Shares && self.writable
    }

    /// Gives the file blocks of its own where it shares some, as it may after another program copied
    /// it: storing to a shared block on a full disk would raise SIGBUS. Checks again only after
    /// [`OWNED_FOR`] milliseconds. The ranges must have no holes that are to stay holes.
    pub(crate) fn own_blocks(&self, ranges: &[Range<u64>]) -> Result<()> {
        let now = coarse_millis();
        if !self.shares_blocks() || now.wrapping_sub(load(&self.owned)) < OWNED_FOR {
            return Ok(());
        }
        for range in ranges {
            // Checked first, because unsharing needs free blocks even if nothing is shared.
            if cow::is_shared(&self.file, range.clone()) {
                self.unshare(range.start, range.end.saturating_sub(range.start))?;
            }
        }
        self.owned.store(now, Relaxed);
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn unshare(&self, at: u64, len: u64) -> Result<()> {
        use rustix::io::Errno;
        loop {
            match rustix::fs::fallocate(&self.file, FallocateFlags::UNSHARE_RANGE, at, len) {
                Err(Errno::INTR) => {}
                Err(Errno::NOSPC | Errno::DQUOT) => return Err(self.disk_full(len)),
                // A file system that cannot unshare blocks does not share any.
                _ => return Ok(()),
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn unshare(&self, _at: u64, _len: u64) -> Result<()> {
        Ok(())
    }

    /// Fails if the disk has no room for `len` more bytes, as far as the file system reports it.
    pub(crate) fn check_room(&self, len: u64) -> Result<()> {
        match rustix::fs::fstatvfs(&self.file) {
            // Some file systems report no sizes: ramfs, and some that are served by a program.
            Ok(stat) if stat.f_blocks == 0 => Ok(()),
            Ok(stat) if stat.f_bavail.saturating_mul(stat.f_frsize) < len => {
                Err(self.disk_full(len))
            }
            // If the system does not answer, the allocation itself will fail.
            _ => Ok(()),
        }
    }

    fn disk_full(&self, needed: u64) -> Error {
        ErrorKind::DiskFull { needed }.at(&self.path)
    }

    /// Allocates blocks for a range that may be in use, if the file system can do that.
    fn preallocate(&self, at: u64, len: u64) -> Result<()> {
        failpoint!(Write);
        loop {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), at, len) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                    let what =
                        "has holes, on a file system that cannot fill them; copy it without holes";
                    return Err(ErrorKind::Unsupported { what }.at(&self.path));
                }
                Err(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) => {
                    return Err(self.disk_full(len));
                }
                Err(error) => {
                    return Err(Error::io(&self.path, "allocate room in the file")(
                        error.into(),
                    ));
                }
            }
        }
    }

    /// Fills the holes of a file that another program copied without its zeros: storing into a hole
    /// on a full disk would raise SIGBUS. Leaves the `legitimate` hole as it is.
    pub(crate) fn fill_holes(&self, legitimate: Range<u64>) -> Result<()> {
        debug_assert!(legitimate.start <= legitimate.end);
        let in_memory = self.file_system == FileSystem::InMemory;
        if !self.writable && !in_memory {
            return Ok(());
        }
        let len = self.len()?;
        let wanted = len.saturating_sub(legitimate.end - legitimate.start);
        let blocks = self.disk_bytes()?;
        let is = |bytes: u64| blocks == bytes.next_multiple_of(rustix::param::page_size() as u64);
        if in_memory && (is(wanted) || is(len)) {
            // In memory blocks hold data only, and a search for holes walks all pages.
            return Ok(());
        }
        let holes = || {
            let before = self.holes(0..legitimate.start.min(len));
            before.chain(self.holes(legitimate.end..len))
        };
        if holes().next().is_none() {
            return Ok(());
        }
        // Allocated blocks that were never written look like holes, but count as blocks.
        self.check_room(wanted.saturating_sub(blocks))?;
        for hole in holes() {
            let count = hole.end - hole.start;
            if self.writable {
                self.preallocate(hole.start, count)?;
            } else {
                self.populate(hole.start, count)?;
            }
        }
        Ok(())
    }

    /// Returns the ranges without blocks, or without anything written to them. Empty if the file
    /// system does not report them.
    fn holes(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let mut at = range.start;
        std::iter::from_fn(move || {
            if at >= range.end {
                return None;
            }
            let start = rustix::fs::seek(&self.file, SeekFrom::Hole(at)).ok()?;
            // There is no data after the last hole.
            at = rustix::fs::seek(&self.file, SeekFrom::Data(start)).unwrap_or(range.end);
            let end = at.min(range.end);
            (start < end).then_some(start..end)
        })
    }

    /// Reads a range through a mapping, so that a lack of room is an error and not a signal.
    fn populate(&self, at: u64, len: u64) -> Result<()> {
        let mut options = MmapOptions::new();
        let map = options
            .offset(at)
            .len(len as usize)
            .map_raw_read_only(&self.file)
            .map_err(Error::io(&self.path, "map the file"))?;
        #[cfg(target_os = "linux")]
        return match map.advise(memmap2::Advice::PopulateRead) {
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => Err(self.disk_full(len)),
            // A kernel without this advice reads the range when it is accessed.
            _ => Ok(()),
        };
        #[cfg(not(target_os = "linux"))]
        return Ok(drop(map));
    }

    /// Writes zeros to a range that was just allocated and holds none of the cache's bytes. Only a
    /// hint: ignores errors.
    ///
    /// The page cache then takes it in large pieces: storing to a fresh page costs 0.5 to 0.9 us,
    /// against 3 to 7 if each page is faulted in from an unwritten extent, also by
    /// `MADV_POPULATE_WRITE`.
    pub(super) fn warm(&self, at: u64, len: u64, stores: StorePattern) {
        failpoint!(Write);
        // On btrfs all of it, in order: there each page that is dirtied alone reserves metadata
        // (200,000 entries copied in 57 s, and in 0.9 s when the index was written first).
        if len > WARM_MAX && self.file_system != FileSystem::CopiesOnWrite {
            return;
        }
        let piece = stores.piece(self.file_system);
        let mut from = at;
        while from < at + len {
            // The pieces end at multiples of their size, as those of the page cache do.
            let end = (from + 1).next_multiple_of(piece).min(at + len);
            let zeros = &ZEROS[..(end - from) as usize];
            if self.file.write_all_at(zeros, from).is_err() {
                return;
            }
            from = end;
        }
    }

    /// Writes zeros to a range that is not in use, for file systems without `fallocate`.
    fn write_zeros(&self, at: u64, len: u64) -> Result<()> {
        let fail = |source: io::Error| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => self.disk_full(len),
            _ => Error::io(&self.path, "write zeros to the file")(source),
        };
        let mut from = at;
        while from < at + len {
            let count = (at + len - from).min(ZEROS.len() as u64) as usize;
            self.file
                .write_all_at(&ZEROS[..count], from)
                .map_err(fail)?;
            from += count as u64;
        }
        Ok(())
    }
}
