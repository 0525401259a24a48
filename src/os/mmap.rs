//! Mapped files as slices of shared words.
//!
//! A [`MappedWords`] is a file (or, in tests, plain memory) divided into windows that are mapped on
//! first use at their full size and never moved: the file grows underneath. A slice that it returns
//! ends at the allocated end of the file. May call `error`, `lock`, `sync` and `os::mapped_file`.
#![expect(
    unsafe_code,
    reason = "the compiler cannot see mapped memory; this module guarantees its rules (M1, M2)"
)]

#[cfg(not(loom))]
use std::io;
#[cfg(loom)]
use std::os::unix::fs::MetadataExt;
#[cfg(test)]
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};

#[cfg(not(loom))]
use memmap2::{MmapOptions, MmapRaw};

use crate::error::{Error, Result};
use crate::lock::set_once;
use crate::os::mapped_file::{MappedFile, StorePattern};
use crate::os::words::copy_out;
use crate::sync::{Relaxed, Word, load};

/// Shared memory in windows. Each window but the first is as large as all before it together.
///
/// It is counted in units of the caller's choice, none of which lies in two windows.
#[derive(Debug)]
pub(crate) struct MappedWords {
    source: Source,
    /// Where the first window starts in the file.
    base: u64,
    unit_bytes: u64,
    /// The number of units at most.
    units: u64,
    /// Units of the first window, as a power of two.
    first_log2: u32,
    /// The first window, which every lookup needs, and the windows after it, mapped on first use.
    first: Window,
    others: Box<[OnceLock<Window>]>,
    /// Bytes after `base` that are known to be allocated. Never decreases.
    allocated: Word,
    stores: StorePattern,
}

/// How a part of a file is divided into windows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowLayout {
    /// Where it starts in the file, a multiple of eight.
    pub base: u64,
    /// Bytes of a unit, a multiple of eight.
    pub unit_bytes: u64,
    /// The number of units at most.
    pub units: u64,
    /// Units of the first window at most, as a power of two.
    pub first_log2: u32,
    pub stores: StorePattern,
}

/// The smallest first window in bytes, unless all units together take less.
const FIRST_LEAST: u64 = 1 << 18;

impl WindowLayout {
    /// Returns the units for so many bytes, as a power of two.
    fn log2_of(&self, bytes: u64) -> u32 {
        let units = bytes.max(FIRST_LEAST).div_ceil(self.unit_bytes);
        units.next_power_of_two().ilog2().min(self.first_log2)
    }
}

/// Returns the limit of this process's address space, if it has one.
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

/// One mapping, or plain memory instead of one.
#[derive(Debug)]
struct Window {
    start: NonNull<Word>,
    words: usize,
    /// Keeps the memory that `start` points to.
    #[cfg_attr(loom, expect(dead_code))]
    owner: Owner,
}

#[derive(Debug)]
enum Owner {
    #[cfg(not(loom))]
    Mapping(#[cfg_attr(not(unix), expect(dead_code, reason = "keeps the mapping"))] MmapRaw),
    #[cfg(test)]
    Plain(#[expect(dead_code, reason = "keeps the memory")] Box<[Word]>),
    #[cfg(loom)]
    Modelled(#[expect(dead_code, reason = "keeps the memory")] Arc<[Word]>),
}

// SAFETY: M1 (docs/design.md): a window is a range of memory that does not move until its owner is
// dropped, and all access to it goes through atomic words, so threads may share and send it like a
// slice of atomics.
unsafe impl Send for Window {}
// SAFETY: M1, as above.
unsafe impl Sync for Window {}

impl Window {
    /// Returns the first `count` words, or all words if there are fewer.
    #[inline(always)]
    fn words(&self, count: usize) -> &[Word] {
        let count = count.min(self.words);
        debug_assert!(self.start.is_aligned(), "M1: words of eight bytes");
        // SAFETY: M1 and M2: `start` is eight-byte aligned, the window spans at least `count` words
        // and lives as long as `self`; every bit pattern is a valid word, and words are only
        // accessed atomically.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), count) }
    }

    /// Lets the system read only the pages that are asked for. Does nothing if it cannot.
    fn read_singly(&self) {
        #[cfg(not(loom))]
        #[cfg_attr(
            not(test),
            expect(irrefutable_let_patterns, reason = "tests have plain memory")
        )]
        if let Owner::Mapping(map) = &self.owner {
            let _ = map.advise(memmap2::Advice::Random);
        }
    }

    /// Takes all pages out of the mapping, which stays. Does nothing if the kernel refuses.
    fn release_pages(&self) {
        #[cfg(all(target_os = "linux", not(loom)))]
        #[cfg_attr(
            not(test),
            expect(irrefutable_let_patterns, reason = "tests have plain memory")
        )]
        if let Owner::Mapping(map) = &self.owner {
            // SAFETY: M1: the window stays mapped, and it is shared with its file: what was stored stays
            // in the page cache, from where the next access of a page gets it again.
            let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        }
    }

    /// Makes the first pages dirty, as stores would. Does nothing if the kernel cannot do that.
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

impl MappedWords {
    /// Maps the first window of a file.
    pub(crate) fn new(file: Arc<MappedFile>, layout: WindowLayout) -> Result<Self> {
        debug_assert!(layout.base.is_multiple_of(8) && layout.unit_bytes.is_multiple_of(8));
        let (first_log2, first) = first_window(&file, layout)?;
        let others = window_of(layout.units.saturating_sub(1), first_log2).0;
        debug_assert!(first.words as u64 * 8 >= layout.unit_bytes.min(FIRST_LEAST));
        let memory = Self {
            first,
            others: (0..others).map(|_| OnceLock::new()).collect(),
            source: Source::File(file),
            base: layout.base,
            unit_bytes: layout.unit_bytes,
            units: layout.units,
            first_log2,
            allocated: Word::new(0),
            stores: layout.stores,
        };
        memory.refresh()?;
        Ok(memory)
    }

    /// Maps the first 4 KiB of a file that is at least as long.
    pub(crate) fn page(file: Arc<MappedFile>) -> Result<Self> {
        let layout = WindowLayout {
            base: 0,
            unit_bytes: 4096,
            units: 1,
            first_log2: 0,
            stores: StorePattern::Scattered,
        };
        Self::new(file, layout)
    }

    /// Takes one window of plain zeroed memory.
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
            allocated: Word::new(bytes as u64),
            stores: StorePattern::Sequential,
        }
    }

    /// Returns the allocated part of the first window, which may be empty.
    #[inline(always)]
    pub(crate) fn first(&self) -> &[Word] {
        self.first.words(self.allocated_words(0))
    }

    /// Returns the allocated part of the window that a unit lies in, which may be empty, and the
    /// first unit of that window.
    #[inline(always)]
    pub(crate) fn window(&self, unit: u64) -> Result<(&[Word], u64)> {
        match window_of(unit, self.first_log2) {
            (0, _) => Ok((self.first(), 0)),
            (index, start) => Ok((self.other(index, start)?, start)),
        }
    }

    fn other(&self, index: usize, start: u64) -> Result<&[Word]> {
        let before = start * self.unit_bytes;
        let allocated = self.allocated_words(before);
        let Some(cell) = self.others.get(index - 1).filter(|_| allocated > 0) else {
            return Ok(&[]);
        };
        let window = match cell.get() {
            Some(window) => window,
            None => self.map(start, cell)?,
        };
        Ok(window.words(allocated))
    }

    /// Returns the words after a position that are known to be allocated.
    #[inline(always)]
    fn allocated_words(&self, before: u64) -> usize {
        let count = load(&self.allocated).saturating_sub(before) / 8;
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// Maps a window. If two threads do so at once, one of the mappings is dropped.
    #[cold]
    fn map<'a>(&self, start: u64, cell: &'a OnceLock<Window>) -> Result<&'a Window> {
        let window = match &self.source {
            Source::File(file) => {
                debug_assert!(start < self.units, "a window of the layout");
                let at = self.base + start * self.unit_bytes;
                let units = start.min(self.units - start);
                map_file(file, at, units * self.unit_bytes)?
            }
            #[cfg(test)]
            Source::Plain => unreachable!("plain memory has one window"),
        };
        Ok(set_once(cell, || window))
    }

    /// Reads the file's size again. Returns the bytes that are allocated after the base.
    #[cold]
    pub(crate) fn refresh(&self) -> Result<u64> {
        let len = match &self.source {
            Source::File(file) => file.len()?.saturating_sub(self.base),
            #[cfg(test)]
            Source::Plain => load(&self.allocated),
        };
        let len = len.min(self.unit_bytes * self.units) & !7;
        // M2: never decreases, because another thread may have seen the file longer by now.
        Ok(self.allocated.fetch_max(len, Relaxed).max(len))
    }

    /// Lets the system read only those pages of the first window that are asked for, where it would read
    /// megabytes ahead.
    pub(crate) fn read_singly(&self) {
        self.first.read_singly();
    }

    /// Takes all pages out of the mappings, for a file that is synced next and that no thread stores
    /// to any more. Only a hint.
    ///
    /// A sync makes each page read-only that was stored to, and interrupts all processors that run this
    /// process, once for each page; taken out together, the pages cost one interrupt for 2 MiB. An overwrite
    /// in steady state takes 1,200 ns, and 1,509 without this.
    pub(crate) fn release_pages(&self) {
        let others = self.others.iter().filter_map(OnceLock::get);
        std::iter::once(&self.first)
            .chain(others)
            .for_each(Window::release_pages);
    }

    /// Makes every mapped page dirty, in order. Only a hint.
    ///
    /// For file systems that reserve more for pages that are dirtied in scattered places.
    pub(crate) fn dirty_all(&self) {
        let windows =
            std::iter::once(&self.first).chain(self.others.iter().filter_map(OnceLock::get));
        let mut left = load(&self.allocated);
        for window in windows {
            let bytes = left.min(window.words as u64 * 8);
            window.dirty(bytes as usize);
            left -= bytes;
        }
    }

    /// Returns the bytes after the base that are known to be allocated.
    pub(crate) fn allocated(&self) -> u64 {
        load(&self.allocated)
    }

    /// Allocates blocks for the first `bytes` bytes after the base. Only a writer calls this (L3).
    pub(crate) fn grow(&self, bytes: u64) -> Result<()> {
        let allocated = self.refresh()?;
        if bytes <= allocated {
            return Ok(());
        }
        match &self.source {
            Source::File(file) => {
                // H2: before any window over the range is returned.
                file.allocate(self.base + allocated, bytes - allocated)?;
                file.warm(self.base + allocated, bytes - allocated, self.stores);
            }
            #[cfg(test)]
            Source::Plain => {
                return Err(crate::ErrorKind::DiskFull { needed: bytes }.at(PathBuf::new()));
            }
        }
        let grown = self.refresh()?;
        let most = (self.unit_bytes * self.units) & !7;
        debug_assert!(grown >= (bytes & !7).min(most), "H2: {grown} of {bytes}");
        Ok(())
    }
}

/// Maps the first window of a file. Returns its units, as a power of two.
///
/// As large as possible, because access to the first window is fastest. If the process's address
/// space is limited, twice the bytes that the file has.
fn first_window(file: &MappedFile, layout: WindowLayout) -> Result<(u32, Window)> {
    let len = || Ok::<_, Error>(file.len()?.saturating_sub(layout.base));
    let mut first_log2 = match address_limit() {
        Some(_) => layout.log2_of(len()?.saturating_mul(2)),
        None => layout.first_log2,
    };
    loop {
        let units = layout.units.min(1 << first_log2);
        let error = match map_file(file, layout.base, units * layout.unit_bytes) {
            Ok(first) => return Ok((first_log2, first)),
            Err(error) => error,
        };
        // The process may not need as much as it may not map.
        let least = layout.log2_of(len()?.min(layout.unit_bytes << layout.first_log2));
        if first_log2 <= least {
            return Err(error);
        }
        first_log2 -= 1;
    }
}

/// Returns the number of the window that a unit lies in, and the first unit of that window.
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
    debug_assert!(bytes > 0 && at.is_multiple_of(8), "M1: aligned words");
    let mut options = MmapOptions::new();
    options
        .offset(at)
        .len(usize::try_from(bytes).unwrap_or(usize::MAX));
    let fail = |error: io::Error| Error::io(file.path(), refused_action(&error))(error);
    let map = if file.is_writable() {
        options.map_raw(file.file())
    } else {
        options.map_raw_read_only(file.file())
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

/// Returns the action that failed because the system refused a mapping, with the limit that most
/// likely caused it.
#[cfg(not(loom))]
fn refused_action(error: &io::Error) -> &'static str {
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

/// Under loom a mapping is plain memory, the same for all that map the same range of a file.
#[cfg(loom)]
fn map_file(file: &MappedFile, at: u64, bytes: u64) -> Result<Window> {
    let meta = file.file().metadata();
    let meta = meta.map_err(Error::io(file.path(), "map the file"))?;
    let inode = (meta.dev(), meta.ino());
    let words = crate::sync::loom_model::mapping(file.file(), inode, at, bytes as usize / 8);
    Ok(Window {
        start: NonNull::from(&words[0]),
        words: words.len(),
        owner: Owner::Modelled(words),
    })
}

/// Prefetches a word's cache line. Only a hint; does nothing on machines other than x86-64.
#[inline]
pub(crate) fn prefetch(word: &Word) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: M1: the address points to a live word, and a prefetch neither reads nor writes it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(word).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = word;
}

/// Bytes that are copied at a time where the machine has instructions for it.
const BLOCK: usize = 64;

/// Appends `len` bytes of shared words, from byte `skip` on, to private memory. Appends fewer if the
/// words end before.
///
/// The bytes may be torn if another process stores to them now: the caller computes a checksum
/// of the copy.
#[inline]
pub(crate) fn append(words: &[Word], skip: usize, len: usize, out: &mut Vec<u8>) {
    let end = (skip + len).min(words.len() * 8);
    let mut at = skip.min(end);
    out.reserve(end - at);
    if HAS_BLOCKS && end - at >= BLOCK {
        let blocks = (end - at) / BLOCK;
        let room = out.spare_capacity_mut();
        assert!(room.len() >= blocks * BLOCK);
        // SAFETY: M1: the copy is private, and its room was asserted.
        unsafe { copy_blocks(words, at, blocks, room.as_mut_ptr().cast()) };
        at += blocks * BLOCK;
        // SAFETY: M1: so much of the room was filled just now.
        unsafe { out.set_len(out.len() + blocks * BLOCK) };
    }
    while at < end {
        let mut piece = [0_u8; 2 * BLOCK];
        let first = at / 8;
        copy_out(&words[first..], &mut piece);
        let bytes = &piece[at % 8..(end - first * 8).min(piece.len())];
        out.extend_from_slice(bytes);
        at += bytes.len();
    }
}

/// Copies whole shared words to private memory, up to the end of the shorter one.
#[inline(always)]
pub(crate) fn copy_to(words: &[Word], out: &mut [u8]) {
    let blocks = (words.len() * 8).min(out.len()) / BLOCK;
    let done = if HAS_BLOCKS { blocks * BLOCK } else { 0 };
    if done > 0 {
        // SAFETY: M1: the slice is private, and as many blocks fit into it.
        unsafe { copy_blocks(words, 0, blocks, out.as_mut_ptr()) };
    }
    copy_out(&words[done / 8..], &mut out[done..]);
}

/// Copies the first `count` of some shared words to private memory, and perhaps words after them.
#[inline(always)]
pub(crate) fn copy_first<const MOST: usize>(words: &[Word], count: usize, out: &mut [u64; MOST]) {
    let blocks = (count * 8).div_ceil(BLOCK);
    let bytes = blocks * BLOCK;
    if HAS_BLOCKS && blocks > 0 && bytes <= words.len() * 8 && bytes <= size_of_val(out) {
        // SAFETY: M1: the array is private, has so much room, and any bytes are numbers.
        unsafe { copy_blocks(words, 0, blocks, out.as_mut_ptr().cast()) };
        return;
    }
    for (copied, word) in out.iter_mut().zip(&words[..count]) {
        *copied = load(word).to_le();
    }
}

/// Whether [`copy_blocks`] exists. Models and Miri know the loads of words only.
const HAS_BLOCKS: bool = cfg!(all(target_arch = "x86_64", not(any(loom, miri))));

/// Copies at least one whole block of shared words, from byte `at` on, to private memory.
///
/// The compiler may not combine loads of atomic words, so it copies eight bytes at a time. These
/// instructions copy 16, and the compiler knows nothing of the memory that they load: 256 KiB are
/// copied, verified and read to the end in 51 us, where memcpy, CRC-32 and reading take 62.
///
/// # Safety
///
/// There is room for the blocks at `to`.
#[inline(always)]
unsafe fn copy_blocks(words: &[Word], at: usize, blocks: usize, to: *mut u8) {
    assert!(blocks > 0 && at + blocks * BLOCK <= words.len() * 8);
    #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
    // SAFETY: M1, M2: so many bytes are mapped from `at` on, as was asserted, and the caller has so much
    // room at `to`. An aligned word is loaded whole, or by two loads of its bytes; a checksum follows.
    unsafe {
        std::arch::asm!(
            "2:",
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups {c}, [{from} + 32]",
            "movups {d}, [{from} + 48]",
            "movups [{to}], {a}",
            "movups [{to} + 16], {b}",
            "movups [{to} + 32], {c}",
            "movups [{to} + 48], {d}",
            "add {from}, 64",
            "add {to}, 64",
            "dec {left}",
            "jnz 2b",
            from = inout(reg) words.as_ptr().cast::<u8>().wrapping_add(at) => _,
            to = inout(reg) to => _,
            left = inout(reg) blocks => _,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack),
        );
    }
    let _ = to;
}

/// Lends the bytes of shared words.
///
/// # Safety
///
/// No thread and no process may write to these words, or truncate the file, while the slice lives
/// (M3).
pub(crate) unsafe fn as_bytes(words: &[Word]) -> &[u8] {
    // SAFETY: M1, M3: the words are valid for as long as the borrow, and the caller guarantees that
    // no thread and no process writes to them.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast::<u8>(), size_of_val(words)) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

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

    fn layout(base: u64, unit_bytes: u64, units: u64) -> WindowLayout {
        WindowLayout {
            base,
            unit_bytes,
            units,
            first_log2: 0,
            stores: StorePattern::Scattered,
        }
    }

    // A window ends where the file ends, and follows its growth.
    #[test]
    fn window_follows_file_growth() {
        let (_dir, file) = file(4096 + 100);
        let memory = MappedWords::new(file, layout(4096, 1 << 16, 2)).unwrap();
        // M2: a slice ends at the end of the file, rounded down to a word.
        assert_eq!(memory.first().len(), 12);
        assert_eq!(memory.window(1).unwrap().0.len(), 0);
        let early = memory.first();
        memory.grow((1 << 16) + 80).unwrap();
        store(&memory.first()[3], 77);
        // M1: the window that was returned earlier did not move.
        assert_eq!(load(&early[3]), 77);
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
        let memory = MappedWords::new(file, layout(0, 1 << 12, 7)).unwrap();
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

    // Any part of the words, by blocks and by the pieces before and after them.
    #[test]
    fn appended_bytes_are_the_words() {
        let text: Vec<u8> = (0..4096_u32).map(|at| (at * 7 + at / 251) as u8).collect();
        let area: Vec<Word> = (0..512).map(|_| Word::new(0)).collect();
        crate::os::words::copy_in(&area, &[&text]);
        for count in [0, 1, 7, 8, 9, 16, 20, 511, 512] {
            let mut out = vec![0xee; 4096];
            copy_to(&area[..count], &mut out);
            assert_eq!(out[..count * 8], text[..count * 8]);
            assert!(out[count * 8..].iter().all(|&byte| byte == 0xee));
        }
        for skip in [0, 1, 7, 8, 24, 52, 63, 64, 65, 4090] {
            for len in [0, 1, 8, 63, 64, 65, 127, 128, 129, 1000, 4000, 5000] {
                let mut out = b"before".to_vec();
                append(&area, skip, len, &mut out);
                let end = (skip + len).min(text.len());
                assert_eq!(out[..6], *b"before");
                assert_eq!(out[6..], text[skip..end], "{len} bytes from {skip}");
            }
        }
    }

    #[test]
    fn growth_allocates_blocks() {
        let (_dir, file) = file(0);
        let memory = MappedWords::new(Arc::clone(&file), layout(0, 1 << 20, 1)).unwrap();
        memory.grow(1 << 18).unwrap();
        // H2: storing to a hole on a full disk would raise SIGBUS.
        assert!(file.disk_bytes().unwrap() >= 1 << 18);
    }
}
