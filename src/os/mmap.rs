//! Mapped files as slices of shared words.
//!
//! A [`Memory`] is a file (or, for tests, plain memory) cut into windows that are mapped on first
//! use at their full size and never moved: the file grows underneath. It hands out only what is
//! known to be allocated. It does not know what the words mean, nor who may write them.
#![expect(
    unsafe_code,
    reason = "a mapping is memory that the compiler cannot see; this is the module that vouches for it"
)]

mod burst;
mod cow;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};

use memmap2::MmapOptions;
#[cfg(not(loom))]
use memmap2::MmapRaw;
use rustix::fs::{FallocateFlags, SeekFrom};

use crate::error::{Error, Result};
use crate::lock::set_once;
use crate::os::files;
pub(crate) use crate::os::mmap::burst::Burst;
use crate::os::mmap::cow::FileSystem;
#[cfg(any(test, fuzzing))]
use crate::sync::failpoint::{self, Step};
use crate::sync::{Relaxed, Word, load};

/// Fresh ranges up to this size are written with zeros at once.
const WARM_MAX: u64 = 8 << 20;
static ZEROS: [u8; 1 << 18] = [0; 1 << 18];

/// How a file is stored to once it has data: that decides by which pieces it is best filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stores {
    /// From its beginning to its end, once.
    InOrder,
    /// A word here and there.
    Scattered,
}

impl Stores {
    /// Bytes of zeros that one call writes: the page cache holds them in one piece from then on,
    /// and where it does, a store to one page makes the whole piece dirty (ext4 and XFS from Linux
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

/// Milliseconds for which blocks that were made a file's own are taken for it.
const OWNED_FOR: u64 = 250;

/// Bytes of a page of the page cache; not of anything in a file.
pub(crate) fn page_bytes() -> u64 {
    (rustix::param::page_size() as u64).max(4096)
}

/// Milliseconds of a clock that costs a few nanoseconds to read.
pub(crate) fn coarse_millis() -> u64 {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::MonotonicCoarse;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(clock);
    time.tv_sec as u64 * 1_000 + time.tv_nsec as u64 / 1_000_000
}

/// An open file that windows are mapped from.
#[derive(Debug)]
pub(crate) struct MappedFile {
    file: File,
    path: PathBuf,
    writable: bool,
    /// Bytes that a mapping has though the file grows: of a file on overlayfs that is open for
    /// reading only. See [`files::pinned`].
    pinned: Option<u64>,
    file_system: FileSystem,
    /// When its blocks were last made its own, in milliseconds of a coarse clock.
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

    /// A file that was created a moment ago and is still empty. On a copy-on-write file system it
    /// becomes one that is stored to in place.
    pub(crate) fn created(file: File, path: &Path) -> Arc<Self> {
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

    /// The file's real size in bytes, asked of the system, as far as a mapping has it.
    pub(crate) fn len(&self) -> Result<u64> {
        let len = self
            .file
            .metadata()
            .map_err(Error::io(&self.path, "read the size of the file"))?
            .len();
        Ok(self.pinned.map_or(len, |pinned| len.min(pinned)))
    }

    /// Bytes of the blocks that the file takes on the disk.
    pub(crate) fn disk_bytes(&self) -> Result<u64> {
        let meta = self
            .file
            .metadata()
            .map_err(Error::io(&self.path, "read the size of the file"))?;
        Ok(meta.blocks() * 512)
    }

    /// Writes all data of the file to the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        #[cfg(any(test, fuzzing))]
        failpoint::step(Step::Sync(&self.file));
        if self.writable && cow::is_in_memory(&self.file) {
            self.touch();
        }
        self.file
            .sync_data()
            .map_err(Error::io(&self.path, Error::SYNC))
    }

    /// Moves the file's times to now: in memory stores to a mapping do not, and who copies files by
    /// their times would miss them. Only a hint.
    fn touch(&self) {
        use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
        // Both, as whoever may write may ask for that.
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

    /// Allocates blocks for a range, so that storing into a mapping of it cannot fail. Nobody uses
    /// the range yet.
    pub(crate) fn allocate(&self, at: u64, len: u64) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        let end = at.saturating_add(len);
        self.check_limit(end)?;
        // A large request that fails half-way may leave the disk full, so ask for the room first.
        self.check_room(len)?;
        match self.preallocate(at, len) {
            Err(Error::Unsupported { .. }) => self.write_zeros(at, len),
            other => other,
        }
    }

    /// Growing beyond the process's file size limit would be a signal, which ends the process
    /// unless it is handled.
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

    /// Whether each page that is dirtied alone costs far more than many in a row.
    #[inline]
    pub(crate) fn copies_on_write(&self) -> bool {
        self.file_system == FileSystem::CopiesOnWrite
    }

    /// Whether the file may share blocks with others, so that a store to one may need another.
    #[inline]
    pub(crate) fn shares_blocks(&self) -> bool {
        self.file_system == FileSystem::Shares && self.writable
    }

    /// Gives the file blocks of its own where it shares some, as the copy by another program may
    /// have it do: storing to one on a full disk would be SIGBUS. Looks again after a while only.
    /// The ranges must have no holes that are to stay.
    pub(crate) fn own_blocks(&self, ranges: &[Range<u64>]) -> Result<()> {
        let now = coarse_millis();
        if !self.shares_blocks() || now.wrapping_sub(load(&self.owned)) < OWNED_FOR {
            return Ok(());
        }
        for range in ranges {
            // Asked for first, because unsharing needs free blocks even where nothing is shared.
            if cow::is_shared(&self.file, range.clone()) {
                self.unshare(range.start, range.end - range.start)?;
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
                // Where blocks cannot be shared there is nothing to be done.
                _ => return Ok(()),
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn unshare(&self, _at: u64, _len: u64) -> Result<()> {
        Ok(())
    }

    /// Whether the disk has room for so many more bytes, as far as it can be asked.
    pub(crate) fn check_room(&self, len: u64) -> Result<()> {
        match rustix::fs::fstatvfs(&self.file) {
            // Some file systems tell no sizes: ramfs, and some that are served by a program.
            Ok(stat) if stat.f_blocks == 0 => Ok(()),
            Ok(stat) if stat.f_bavail.saturating_mul(stat.f_frsize) < len => {
                Err(self.disk_full(len))
            }
            // What cannot be asked turns out when it is tried.
            _ => Ok(()),
        }
    }

    fn disk_full(&self, needed: u64) -> Error {
        Error::DiskFull {
            path: self.path.clone(),
            needed,
        }
    }

    /// Allocates blocks for a range that may be in use, where the file system can do that.
    fn preallocate(&self, at: u64, len: u64) -> Result<()> {
        #[cfg(any(test, fuzzing))]
        failpoint::step(Step::Write);
        loop {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), at, len) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                    let what =
                        "has holes, on a file system that cannot fill them; copy it without holes";
                    return Err(Error::Unsupported {
                        path: self.path.clone(),
                        what,
                    });
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

    /// Fills the holes of a file that was copied without its zeros: storing into one on a full disk
    /// would be SIGBUS. Only `legitimate` is left as it is.
    pub(crate) fn fill_holes(&self, legitimate: Range<u64>) -> Result<()> {
        let in_memory = cow::is_in_memory(&self.file);
        if !self.writable && !in_memory {
            return Ok(());
        }
        let len = self.len()?;
        let wanted = len.saturating_sub(legitimate.end - legitimate.start);
        let blocks = self.disk_bytes()?;
        let is = |bytes: u64| blocks == bytes.next_multiple_of(rustix::param::page_size() as u64);
        if in_memory && (is(wanted) || is(len)) {
            // There is nothing but data in the blocks there, and a look for holes walks all pages.
            return Ok(());
        }
        let holes = || {
            let before = self.holes(0..legitimate.start.min(len));
            before.chain(self.holes(legitimate.end..len))
        };
        if holes().next().is_none() {
            return Ok(());
        }
        // What is allocated but was never written looks like a hole: the blocks tell them apart.
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

    /// The ranges without blocks, or without anything written to them. None where the file system
    /// does not tell.
    fn holes(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let mut at = range.start;
        std::iter::from_fn(move || {
            if at >= range.end {
                return None;
            }
            let start = rustix::fs::seek(&self.file, SeekFrom::Hole(at)).ok()?;
            // There is no data behind the last hole.
            at = rustix::fs::seek(&self.file, SeekFrom::Data(start)).unwrap_or(range.end);
            let end = at.min(range.end);
            (start < end).then_some(start..end)
        })
    }

    /// Reads a range through a mapping in such a way that want of room is an error, not a signal.
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
            // A kernel that does not know the advice is left to try it.
            _ => Ok(()),
        };
        #[cfg(not(target_os = "linux"))]
        return Ok(drop(map));
    }

    /// Writes zeros to a range that was allocated a moment ago and holds none of our bytes. Only a
    /// hint.
    ///
    /// The page cache then takes it in large pieces: storing to a fresh page costs 0.5 to 0.9 us,
    /// against 3 to 7 where each page is faulted in from an unwritten extent, by
    /// `MADV_POPULATE_WRITE` too.
    fn warm(&self, at: u64, len: u64, stores: Stores) {
        #[cfg(any(test, fuzzing))]
        failpoint::step(Step::Write);
        // On btrfs all of it, in order: there each page that is dirtied alone reserves metadata
        // (200,000 entries copied in 57 s, and in 0.9 where the index was written first).
        if len > WARM_MAX && self.file_system != FileSystem::CopiesOnWrite {
            return;
        }
        let piece = stores.piece(self.file_system);
        let mut from = at;
        while from < at + len {
            // The pieces end at multiples of their size, where the page cache's do.
            let end = (from + 1).next_multiple_of(piece).min(at + len);
            let zeros = &ZEROS[..(end - from) as usize];
            if self.file.write_all_at(zeros, from).is_err() {
                return;
            }
            from = end;
        }
    }

    /// Where `fallocate` is missing: zeros all over a range that nobody uses.
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

/// Shared memory in windows: the first, and each of the others as large as all before it.
///
/// It is counted in units of the user's choice, none of which lies in two windows.
#[derive(Debug)]
pub(crate) struct Memory {
    source: Source,
    /// Where the first window starts in the file.
    base: u64,
    unit_bytes: u64,
    /// Units there can be.
    units: u64,
    /// Units of the first window, as a power of two.
    first_log2: u32,
    /// The first window, which everybody needs, and those behind it, mapped on first use.
    first: Window,
    others: Box<[OnceLock<Window>]>,
    /// Bytes behind `base` that are known to be allocated.
    known: Word,
    stores: Stores,
}

/// What is mapped, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Where it starts in the file, a multiple of eight.
    pub base: u64,
    /// Bytes of a unit, a multiple of eight.
    pub unit_bytes: u64,
    /// Units there can be.
    pub units: u64,
    /// The most units of the first window, as a power of two.
    pub first_log2: u32,
    pub stores: Stores,
}

/// The least that the first window has, in bytes, if there can be so much.
const FIRST_LEAST: u64 = 1 << 18;

impl Extent {
    /// Units of the first window, as a power of two, for a file that has `len` bytes of this.
    ///
    /// As large as may be, for what lies in it is found fastest. Where the process's address space
    /// is limited, twice what the file has.
    fn first_log2(&self, len: u64) -> u32 {
        match address_limit() {
            Some(_) => self.log2_of(len.saturating_mul(2)),
            None => self.first_log2,
        }
    }

    /// Units for so many bytes, as a power of two.
    fn log2_of(&self, bytes: u64) -> u32 {
        let units = bytes.max(FIRST_LEAST).div_ceil(self.unit_bytes);
        units.next_power_of_two().ilog2().min(self.first_log2)
    }
}

/// The limit of this process's address space, if it has one.
fn address_limit() -> Option<u64> {
    #[cfg(target_os = "linux")]
    return rustix::process::getrlimit(rustix::process::Resource::As).current;
    #[cfg(not(target_os = "linux"))]
    return None;
}

#[derive(Debug)]
enum Source {
    File(Arc<MappedFile>),
    #[cfg(test)]
    Plain,
}

/// One mapping, or plain memory in its place.
#[derive(Debug)]
struct Window {
    start: NonNull<Word>,
    words: usize,
    /// Keeps the memory that `start` points to.
    #[cfg_attr(any(loom, not(target_os = "linux")), expect(dead_code))]
    owner: Owner,
}

#[derive(Debug)]
enum Owner {
    #[cfg(not(loom))]
    Mapping(MmapRaw),
    #[cfg(test)]
    Plain(#[expect(dead_code, reason = "keeps the memory")] Box<[Word]>),
    #[cfg(loom)]
    Modelled(#[expect(dead_code, reason = "keeps the memory")] Arc<[Word]>),
}

// SAFETY: M1 (docs/design.md): a window is a region of memory that stays where it is until its
// owner is dropped, and all access to it goes through atomic words, so it may be shared and sent
// like a slice of atomics.
unsafe impl Send for Window {}
// SAFETY: M1, as above.
unsafe impl Sync for Window {}

impl Window {
    /// The first `count` words, or fewer where the window is shorter.
    #[inline(always)]
    fn words(&self, count: usize) -> &[Word] {
        let count = count.min(self.words);
        // SAFETY: M1 and M2: `start` is eight-byte aligned, the window spans at least `count` words
        // and lives as long as `self`; every bit pattern is a valid word, and words are only
        // touched atomically.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), count) }
    }

    /// Makes the first pages dirty, as stores would. A kernel that cannot leaves them as they are.
    fn dirty(&self, bytes: usize) {
        #[cfg(all(target_os = "linux", not(loom)))]
        if bytes > 0
            && let Owner::Mapping(map) = &self.owner
        {
            let _ = map.advise_range(memmap2::Advice::PopulateWrite, 0, bytes);
        }
        #[cfg(not(all(target_os = "linux", not(loom))))]
        let _ = bytes;
    }
}

impl Memory {
    /// Windows over a file.
    pub(crate) fn new(file: Arc<MappedFile>, extent: Extent) -> Result<Self> {
        debug_assert!(extent.base.is_multiple_of(8) && extent.unit_bytes.is_multiple_of(8));
        let len = file.len()?.saturating_sub(extent.base);
        let least = extent.log2_of(len.min(extent.unit_bytes << extent.first_log2));
        let mut first_log2 = extent.first_log2(len);
        let first = loop {
            let units = extent.units.min(1 << first_log2);
            match map_file(&file, extent.base, units * extent.unit_bytes) {
                // What the process may not have, it may not need.
                Err(_) if first_log2 > least => first_log2 -= 1,
                mapped => break mapped?,
            }
        };
        let others = window_of(extent.units.saturating_sub(1), first_log2).0;
        let memory = Self {
            first,
            others: (0..others).map(|_| OnceLock::new()).collect(),
            source: Source::File(file),
            base: extent.base,
            unit_bytes: extent.unit_bytes,
            units: extent.units,
            first_log2,
            known: Word::new(0),
            stores: extent.stores,
        };
        memory.refresh()?;
        Ok(memory)
    }

    /// The first 4 KiB of a file, which has so much.
    pub(crate) fn page(file: Arc<MappedFile>) -> Result<Self> {
        let extent = Extent {
            base: 0,
            unit_bytes: 4096,
            units: 1,
            first_log2: 0,
            stores: Stores::Scattered,
        };
        Self::new(file, extent)
    }

    /// One window of plain zeroed memory.
    #[cfg(test)]
    pub(crate) fn plain(bytes: usize) -> Self {
        let area: Box<[Word]> = (0..bytes / 8).map(|_| Word::new(0)).collect();
        let window = Window {
            start: NonNull::from(&area[0]),
            words: area.len(),
            owner: Owner::Plain(area),
        };
        Self {
            source: Source::Plain,
            base: 0,
            unit_bytes: bytes as u64,
            units: 1,
            first_log2: 0,
            first: window,
            others: Box::new([]),
            known: Word::new(bytes as u64),
            stores: Stores::InOrder,
        }
    }

    /// The allocated part of the first window, which may be empty.
    #[inline(always)]
    pub(crate) fn first(&self) -> &[Word] {
        self.first.words(self.known_words(0))
    }

    /// The allocated part of the window that a unit lies in, which may be empty, and the first unit
    /// of that window.
    #[inline(always)]
    pub(crate) fn window(&self, unit: u64) -> Result<(&[Word], u64)> {
        match window_of(unit, self.first_log2) {
            (0, _) => Ok((self.first(), 0)),
            (index, start) => Ok((self.other(index, start)?, start)),
        }
    }

    fn other(&self, index: usize, start: u64) -> Result<&[Word]> {
        let before = start * self.unit_bytes;
        let known = self.known_words(before);
        let Some(cell) = self.others.get(index - 1).filter(|_| known > 0) else {
            return Ok(&[]);
        };
        let window = match cell.get() {
            Some(window) => window,
            None => self.map(start, cell)?,
        };
        Ok(window.words(known))
    }

    /// Words behind a place that are known to be allocated.
    #[inline(always)]
    fn known_words(&self, before: u64) -> usize {
        let count = load(&self.known).saturating_sub(before) / 8;
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// Maps a window; of two threads that do it at once, one mapping is dropped.
    #[cold]
    fn map<'a>(&self, start: u64, cell: &'a OnceLock<Window>) -> Result<&'a Window> {
        let window = match &self.source {
            Source::File(file) => {
                let at = self.base + start * self.unit_bytes;
                let units = start.min(self.units - start);
                map_file(file, at, units * self.unit_bytes)?
            }
            #[cfg(test)]
            Source::Plain => unreachable!("plain memory has its only window from the start"),
        };
        Ok(set_once(cell, || window))
    }

    /// Looks at the file's real size again; returns the bytes that are allocated behind the base.
    #[cold]
    pub(crate) fn refresh(&self) -> Result<u64> {
        let len = match &self.source {
            Source::File(file) => file.len()?.saturating_sub(self.base),
            #[cfg(test)]
            Source::Plain => load(&self.known),
        };
        let len = len.min(self.unit_bytes * self.units) & !7;
        // Never back: another thread may have seen the file longer meanwhile.
        Ok(self.known.fetch_max(len, Relaxed).max(len))
    }

    /// Makes every page that is mapped dirty, one after the other. Only a hint.
    ///
    /// For file systems that reserve more for pages that are dirtied here and there.
    pub(crate) fn dirty_all(&self) {
        let windows =
            std::iter::once(&self.first).chain(self.others.iter().filter_map(OnceLock::get));
        let mut left = load(&self.known);
        for window in windows {
            let bytes = left.min(window.words as u64 * 8);
            window.dirty(bytes as usize);
            left -= bytes;
        }
    }

    /// Bytes behind the base that are known to be allocated.
    pub(crate) fn known(&self) -> u64 {
        load(&self.known)
    }

    /// Sees to it that at least `bytes` behind the base are allocated. Only the writer calls this.
    pub(crate) fn grow(&self, bytes: u64) -> Result<()> {
        let known = self.refresh()?;
        if bytes <= known {
            return Ok(());
        }
        match &self.source {
            Source::File(file) => {
                file.allocate(self.base + known, bytes - known)?;
                file.warm(self.base + known, bytes - known, self.stores);
            }
            #[cfg(test)]
            Source::Plain => {
                return Err(Error::DiskFull {
                    path: PathBuf::new(),
                    needed: bytes,
                });
            }
        }
        self.refresh()?;
        Ok(())
    }
}

/// The number of the window that a unit lies in, and the first unit of that window.
#[inline(always)]
fn window_of(unit: u64, first_log2: u32) -> (usize, u64) {
    match unit >> first_log2 {
        0 => (0, 0),
        beyond => (
            beyond.ilog2() as usize + 1,
            1 << beyond.ilog2() << first_log2,
        ),
    }
}

#[cfg(not(loom))]
fn map_file(file: &MappedFile, at: u64, bytes: u64) -> Result<Window> {
    let mut options = MmapOptions::new();
    options
        .offset(at)
        .len(usize::try_from(bytes).unwrap_or(usize::MAX));
    let fail = |error: io::Error| Error::io(&file.path, refusal(&error))(error);
    let map = if file.writable {
        options.map_raw(&file.file)
    } else {
        options.map_raw_read_only(&file.file)
    };
    let map = map.map_err(fail)?;
    let start = NonNull::new(map.as_mut_ptr().cast::<Word>())
        .filter(|start| start.is_aligned())
        .ok_or_else(|| io::Error::other("the mapping is not aligned"))
        .map_err(fail)?;
    Ok(Window {
        start,
        words: map.len() / 8,
        owner: Owner::Mapping(map),
    })
}

/// What could not be done because a mapping was refused, with the limit that most likely refused
/// it.
#[cfg(not(loom))]
fn refusal(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => {
            "map the file: the process locks its memory (`mlockall`) and may lock no more; raise \
             RLIMIT_MEMLOCK (`ulimit -l`)"
        }
        Some(libc::ENOMEM) if address_limit().is_some() => {
            "map the file: the process may have no more address space; raise RLIMIT_AS \
             (`ulimit -v`), or close other handles"
        }
        Some(libc::ENOMEM) => {
            "map the file: the process has too many mappings, or no memory is left; raise \
             `vm.max_map_count`, or close other handles"
        }
        _ => "map the file",
    }
}

/// Under loom a mapping is plain memory, the same for all who map the same range of a file.
#[cfg(loom)]
fn map_file(file: &MappedFile, at: u64, bytes: u64) -> Result<Window> {
    let meta = file.file.metadata();
    let meta = meta.map_err(Error::io(&file.path, "map the file"))?;
    let inode = (meta.dev(), meta.ino());
    let words = crate::sync::loom_model::mapping(&file.file, inode, at, bytes as usize / 8);
    Ok(Window {
        start: NonNull::from(&words[0]),
        words: words.len(),
        owner: Owner::Modelled(words),
    })
}

/// Asks for a word's cache line, to be written soon. Only a hint; nothing where the machine has
/// none.
#[inline]
pub(crate) fn prefetch(word: &Word) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: M1: the address is that of a live word, and a prefetch neither reads nor writes
        // it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(word).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = word;
}

/// Lends the bytes of shared words.
///
/// # Safety
///
/// No thread and no process may write to these words, and nobody may truncate the file, while the
/// slice lives.
pub(crate) unsafe fn as_bytes(words: &[Word]) -> &[u8] {
    // SAFETY: M1: the words are valid for as long as the borrow; the caller promises that nobody
    // writes to them.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast::<u8>(), size_of_val(words)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::store;

    fn file(bytes: u64) -> (tempfile::TempDir, Arc<MappedFile>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        file.set_len(bytes).unwrap();
        let mapped = MappedFile::new(file, &path, true);
        (dir, mapped)
    }

    fn extent(base: u64, unit_bytes: u64, units: u64) -> Extent {
        Extent {
            base,
            unit_bytes,
            units,
            first_log2: 0,
            stores: Stores::Scattered,
        }
    }

    // A window ends where the file ends, and follows its growth.
    #[test]
    fn window_follows_file_growth() {
        let (_dir, file) = file(4096 + 100);
        let memory = Memory::new(file, extent(4096, 1 << 16, 2)).unwrap();
        assert_eq!(memory.first().len(), 12, "100 bytes are twelve whole words");
        assert_eq!(memory.window(1).unwrap().0.len(), 0);
        let early = memory.first();
        memory.grow((1 << 16) + 80).unwrap();
        store(&memory.first()[3], 77);
        assert_eq!(load(&early[3]), 77, "nothing was moved");
        assert_eq!(memory.first().len(), 1 << 13);
        assert_eq!(memory.window(1).unwrap().0.len(), 10);
        assert_eq!(memory.window(2).unwrap().0.len(), 0);
    }

    #[test]
    fn windows_double_and_are_contiguous() {
        for first_log2 in [0, 3] {
            let mut last = (0, 0);
            for unit in 0..1 << 12 {
                let (index, start) = window_of(unit, first_log2);
                let end = if index == 0 {
                    1 << first_log2
                } else {
                    2 * start
                };
                assert!((start..end).contains(&unit), "{unit}");
                assert!(index == 0 || start == 1 << (first_log2 as usize + index - 1));
                assert!(index == last.0 || (index == last.0 + 1 && start == unit));
                last = (index, start);
            }
        }
        let (_dir, file) = file(0);
        let memory = Memory::new(file, extent(0, 1 << 12, 7)).unwrap();
        memory.grow(7 << 12).unwrap();
        for unit in 0..8 {
            let (words, start) = memory.window(unit).unwrap();
            let within = (unit - start) as usize * 512;
            assert_eq!(words.get(within).is_some(), unit < 7, "{unit}");
            if let Some(word) = words.get(within) {
                assert_eq!(load(word), 0);
                store(word, unit + 1);
            }
        }
    }

    #[test]
    fn growth_allocates_blocks() {
        let (_dir, file) = file(0);
        let memory = Memory::new(Arc::clone(&file), extent(0, 1 << 20, 1)).unwrap();
        memory.grow(1 << 18).unwrap();
        assert!(
            file.disk_bytes().unwrap() >= 1 << 18,
            "a hole would be SIGBUS on a full disk"
        );
    }
}
