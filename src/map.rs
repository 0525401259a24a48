//! Mapped files as slices of shared words.
//!
//! A [`Memory`] is a file (or, for tests, plain memory) cut into windows that are mapped on first
//! use at their full size and never moved: the file grows underneath. It hands out only what is
//! known to be allocated. It does not know what the words mean, nor who may write them.
#![expect(
    unsafe_code,
    reason = "a mapping is memory that the compiler cannot see; this is the module that vouches for it"
)]

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
#[cfg(any(test, fuzzing))]
use crate::sync::fuse::{self, Step};
use crate::sync::{Relaxed, Word, load};

/// Fresh ranges up to this size are written with zeros at once.
const WARM_MAX: u64 = 8 << 20;
/// What `statfs` says of a file system in memory.
#[cfg(target_os = "linux")]
const TMPFS: u32 = 0x0102_1994;
static ZEROS: [u8; 1 << 18] = [0; 1 << 18];

/// An open file that windows are mapped from.
#[derive(Debug)]
pub(crate) struct MappedFile {
    file: File,
    path: PathBuf,
    writable: bool,
}

impl MappedFile {
    pub(crate) fn new(file: File, path: &Path, writable: bool) -> Arc<Self> {
        Arc::new(Self {
            file,
            path: path.to_owned(),
            writable,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The file's real size in bytes, asked of the system.
    pub(crate) fn len(&self) -> Result<u64> {
        Ok(self
            .file
            .metadata()
            .map_err(Error::io(&self.path, "read the size of the file"))?
            .len())
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
        fuse::step(Step::Sync(&self.file));
        if self.writable && self.is_in_memory() {
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
        self.check_limit(at + len)?;
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

    fn check_room(&self, len: u64) -> Result<()> {
        match rustix::fs::fstatvfs(&self.file) {
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
        fuse::step(Step::Write);
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
        let in_memory = self.is_in_memory();
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

    /// Whether the file system is in memory, where reading a hole of a mapped file takes room.
    fn is_in_memory(&self) -> bool {
        #[cfg(target_os = "linux")]
        return rustix::fs::fstatfs(&self.file).is_ok_and(|stat| stat.f_type as u32 == TMPFS);
        #[cfg(not(target_os = "linux"))]
        return false;
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
    fn warm(&self, at: u64, len: u64) {
        #[cfg(any(test, fuzzing))]
        fuse::step(Step::Write);
        let mut from = at;
        while len <= WARM_MAX && from < at + len {
            let count = (at + len - from).min(ZEROS.len() as u64) as usize;
            if self.file.write_all_at(&ZEROS[..count], from).is_err() {
                return;
            }
            from += count as u64;
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

/// Shared memory in windows of one size.
#[derive(Debug)]
pub(crate) struct Memory {
    source: Source,
    /// Where the first window starts in the file.
    base: u64,
    window_bytes: u64,
    /// The first window, which everybody needs, and those behind it, mapped on first use.
    first: Window,
    others: Box<[OnceLock<Window>]>,
    /// Bytes behind `base` that are known to be allocated.
    known: Word,
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
    #[expect(dead_code, reason = "keeps the memory that `start` points to")]
    owner: Owner,
}

#[derive(Debug)]
enum Owner {
    #[cfg(not(loom))]
    Mapping(#[expect(dead_code, reason = "keeps the memory")] MmapRaw),
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
}

impl Memory {
    /// Windows over `file` from byte `base` on: up to `count` of `window_bytes` each, both
    /// multiples of eight.
    pub(crate) fn new(
        file: Arc<MappedFile>,
        base: u64,
        window_bytes: u64,
        count: usize,
    ) -> Result<Self> {
        debug_assert!(base.is_multiple_of(8) && window_bytes.is_multiple_of(8) && count > 0);
        let memory = Self {
            first: map_file(&file, base, window_bytes as usize)?,
            others: (1..count).map(|_| OnceLock::new()).collect(),
            source: Source::File(file),
            base,
            window_bytes,
            known: Word::new(0),
        };
        memory.refresh()?;
        Ok(memory)
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
            window_bytes: bytes as u64,
            first: window,
            others: Box::new([]),
            known: Word::new(bytes as u64),
        }
    }

    /// The allocated part of the first window, which may be empty.
    #[inline(always)]
    pub(crate) fn first(&self) -> &[Word] {
        self.first.words(self.known_words(0))
    }

    /// The allocated part of window `index`; empty where nothing of it is allocated.
    #[inline(always)]
    pub(crate) fn window(&self, index: usize) -> Result<&[Word]> {
        match index {
            0 => Ok(self.first()),
            _ => self.other(index),
        }
    }

    fn other(&self, index: usize) -> Result<&[Word]> {
        let Some(cell) = self.others.get(index - 1) else {
            return Ok(&[]);
        };
        let window = match cell.get() {
            Some(window) => window,
            None => self.map(index, cell)?,
        };
        Ok(window.words(self.known_words(self.window_bytes * index as u64)))
    }

    /// Words behind a place that are known to be allocated.
    #[inline(always)]
    fn known_words(&self, before: u64) -> usize {
        let count = load(&self.known).saturating_sub(before) / 8;
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// Maps a window; of two threads that do it at once, one mapping is dropped.
    #[cold]
    fn map<'a>(&self, index: usize, cell: &'a OnceLock<Window>) -> Result<&'a Window> {
        let window = match &self.source {
            Source::File(file) => {
                let at = self.base + self.window_bytes * index as u64;
                map_file(file, at, self.window_bytes as usize)?
            }
            #[cfg(test)]
            Source::Plain => unreachable!("plain memory has its only window from the start"),
        };
        Ok(cell.get_or_init(|| window))
    }

    /// Looks at the file's real size again; returns the bytes that are allocated behind the base.
    #[cold]
    pub(crate) fn refresh(&self) -> Result<u64> {
        let len = match &self.source {
            Source::File(file) => file.len()?.saturating_sub(self.base),
            #[cfg(test)]
            Source::Plain => load(&self.known),
        };
        let capacity = self.window_bytes * (self.others.len() as u64 + 1);
        let len = len.min(capacity) & !7;
        // Never back: another thread may have seen the file longer meanwhile.
        Ok(self.known.fetch_max(len, Relaxed).max(len))
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
                file.warm(self.base + known, bytes - known);
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

#[cfg(not(loom))]
fn map_file(file: &MappedFile, at: u64, bytes: usize) -> Result<Window> {
    let mut options = MmapOptions::new();
    options.offset(at).len(bytes);
    let fail = || Error::io(&file.path, "map the file");
    let map = if file.writable {
        options.map_raw(&file.file)
    } else {
        options.map_raw_read_only(&file.file)
    };
    let map = map.map_err(fail())?;
    let start = NonNull::new(map.as_mut_ptr().cast::<Word>())
        .filter(|start| start.is_aligned())
        .ok_or_else(|| io::Error::other("the mapping is not aligned"))
        .map_err(fail())?;
    Ok(Window {
        start,
        words: map.len() / 8,
        owner: Owner::Mapping(map),
    })
}

/// Under loom a mapping is plain memory, the same for all who map the same range of a file.
#[cfg(loom)]
fn map_file(file: &MappedFile, at: u64, bytes: usize) -> Result<Window> {
    let meta = file.file.metadata();
    let meta = meta.map_err(Error::io(&file.path, "map the file"))?;
    let inode = (meta.dev(), meta.ino());
    let words = crate::sync::modelled::mapping(&file.file, inode, at, bytes / 8);
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

    #[test]
    fn a_window_ends_where_the_file_ends_and_follows_its_growth() {
        let (_dir, file) = file(4096 + 100);
        let memory = Memory::new(file, 4096, 1 << 16, 2).unwrap();
        assert_eq!(memory.first().len(), 12, "100 bytes are twelve whole words");
        assert_eq!(memory.window(1).unwrap().len(), 0);
        let early = memory.first();
        memory.grow((1 << 16) + 80).unwrap();
        store(&memory.first()[3], 77);
        assert_eq!(load(&early[3]), 77, "nothing was moved");
        assert_eq!(memory.first().len(), 1 << 13);
        assert_eq!(memory.window(1).unwrap().len(), 10);
        assert_eq!(memory.window(2).unwrap().len(), 0);
    }

    #[test]
    fn growth_allocates_blocks() {
        let (_dir, file) = file(0);
        let memory = Memory::new(Arc::clone(&file), 0, 1 << 20, 1).unwrap();
        memory.grow(1 << 18).unwrap();
        assert!(
            file.disk_bytes().unwrap() >= 1 << 18,
            "a hole would be SIGBUS on a full disk"
        );
    }
}
