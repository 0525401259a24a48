//! The hash table in the index file, by extendible hashing (Fagin 1979): a directory over regions
//! (its buckets) of control bytes and slots.
//!
//! May call `error`, `format`, `hash`, `os`, `sync`, and the header and the regions of `index`. The
//! engine decides the order of the stores of an operation, and follows links into the heap.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Corruption, Error, Result};
use crate::format::Geometry;
use crate::format::heap_addr::HeapAddr;
use crate::format::index::{HeaderStateWord, PAGE, word};
use crate::format::region::{DirectoryEntry, RegionShape};
use crate::hash::Hash;
use crate::index::attempt::Attempt;
use crate::index::header::Header;
use crate::index::redo::WORDS;
use crate::index::region::{HomeLink, Region, RegionLayout, Trace};
use crate::os::burst::BurstDetector;
use crate::os::clock::coarse_millis;
use crate::os::mapped_file::{MappedFile, StorePattern, page_bytes};
use crate::os::mmap::{MappedWords, WindowLayout};
use crate::sync::{Word, acquire, acquire_fence, load, publish, store};

/// Pages of the largest piece in which the page cache holds a file: 2 MiB with pages of 4 KiB.
const LARGE: u64 = 512;
/// Bytes of header and directory that the system may read at once.
const HEAD_AHEAD: u64 = 1 << 16;
/// Regions of the first window at most, as a power of two.
const WINDOW_REGIONS_LOG2: u32 = 14;

/// The index file, mapped: header page, directory, regions.
#[derive(Debug)]
pub(crate) struct Table {
    /// Header page and directory, in one window.
    head: MappedWords,
    regions: MappedWords,
    file: Arc<MappedFile>,
    geometry: Geometry,
    layout: RegionLayout,
    burst: BurstDetector,
}

/// The region that serves a hash, and the words that were read to find it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located<'a> {
    pub poll: HeaderStateWord,
    pub entry: DirectoryEntry,
    pub region: Region<'a>,
}

impl Table {
    /// Maps an index file whose geometry is known.
    pub(crate) fn new(file: Arc<MappedFile>, geometry: Geometry) -> Result<Self> {
        let layout = RegionLayout::new(&geometry);
        debug_assert!(geometry.regions_at() >= PAGE + geometry.directory_bytes());
        let head = WindowLayout {
            base: 0,
            unit_bytes: geometry.regions_at(),
            units: 1,
            first_log2: 0,
            stores: StorePattern::Scattered,
        };
        let regions = WindowLayout {
            base: geometry.regions_at(),
            unit_bytes: geometry.region_bytes() as u64,
            units: geometry.max_regions(),
            first_log2: WINDOW_REGIONS_LOG2,
            stores: StorePattern::Scattered,
        };
        let head = MappedWords::new(Arc::clone(&file), head)?;
        if geometry.regions_at() > HEAD_AHEAD {
            // Between directory and regions is a hole, which the system would read as zeros: 7 ms of the 10
            // that a new index took where it reads 8 MiB ahead.
            head.read_singly();
        }
        let regions = MappedWords::new(Arc::clone(&file), regions)?;
        let table = Self {
            head,
            regions,
            file,
            geometry,
            layout,
            burst: BurstDetector::new(),
        };
        if table.head.first().len() < WORDS {
            return Err(table.corrupted(Corruption::HeaderTruncated, 0));
        }
        Ok(table)
    }

    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    pub(crate) fn file(&self) -> &Arc<MappedFile> {
        &self.file
    }

    pub(crate) fn corrupted(&self, what: Corruption, at: u64) -> Error {
        Error::corrupted(self.file.path(), what, at)
    }

    /// Counts a change that the caller is about to make. On btrfs, a burst of changes will store to
    /// most pages, so this makes all pages dirty in order: dirtied one by one, each page reserves room
    /// for metadata of its own, until the system must write to the disk to free some.
    #[inline]
    pub(crate) fn count_change(&self) {
        if self.file.copies_on_write() {
            self.count_scattered();
        }
    }

    #[cold]
    fn count_scattered(&self) {
        let pages = self.regions.allocated() / page_bytes();
        if self.burst.count((pages / 64).max(256), coarse_millis) {
            self.regions.dirty_all();
        }
    }

    /// Writes all of the file to the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.burst.reset();
        self.file.sync()
    }

    /// Gives the file blocks of its own where it shares some, so that stores need no new ones (H2).
    pub(crate) fn own_blocks(&self) -> Result<()> {
        // A corrupt file will be replaced by a new one.
        let Ok(depth) = self.depth(self.header().poll()) else {
            return Ok(());
        };
        let hole = self.directory_hole(depth);
        self.file
            .own_blocks(&[0..hole.start, hole.end..self.file.len()?])
    }

    /// Returns the header page's words.
    #[inline(always)]
    pub(crate) fn header(&self) -> Header<'_> {
        // M2: the page was there when the table was mapped, and no file is ever made shorter.
        #[expect(
            clippy::expect_used,
            reason = "checked by `new`; known lengths never shrink below a page"
        )]
        Header::new(self.head.first()).expect("the header page is mapped")
    }

    /// Returns the allocated part of the directory, in entries.
    #[inline(always)]
    fn directory(&self) -> &[Word] {
        self.head.first().get(WORDS..).unwrap_or(&[])
    }

    /// Returns the word of a directory entry.
    #[inline(always)]
    fn entry_word(&self, index: u32) -> Result<&Word> {
        let at = PAGE + u64::from(index) * 8;
        self.directory()
            .get(index as usize)
            .ok_or_else(|| self.corrupted(Corruption::DirectoryTruncated, at))
    }

    /// Returns a directory entry.
    #[inline(always)]
    pub(crate) fn entry(&self, index: u32) -> Result<DirectoryEntry> {
        Ok(DirectoryEntry(acquire(self.entry_word(index)?)))
    }

    /// Returns whether all directory entries of a shape lead to a region, and the entries of its
    /// sibling do not. A replacement of the region takes over those entries (S2).
    pub(crate) fn leads_alone_to(&self, region: u32, shape: RegionShape) -> Result<bool> {
        let depth = self.depth(self.header().poll())?;
        if shape.depth > depth || !shape.holds(shape.prefix) {
            return Ok(false);
        }
        for index in (shape.prefix..1 << depth).step_by(1 << shape.depth) {
            if self.entry(index)?.region() != region {
                return Ok(false);
            }
        }
        // The other half of the last split.
        let sibling = shape.prefix ^ ((1 << shape.depth) >> 1);
        Ok(shape.depth == 0 || self.entry(sibling)?.region() != region)
    }

    pub(crate) fn set_entry(&self, index: u32, entry: DirectoryEntry) -> Result<()> {
        debug_assert!(index >> self.geometry.directory_bits == 0);
        debug_assert!(u64::from(entry.region()) < self.geometry.max_regions());
        publish(self.entry_word(index)?, entry.0);
        Ok(())
    }

    /// Returns the directory's global depth in a state word. Fails if it is impossible.
    #[inline(always)]
    pub(crate) fn depth(&self, poll: HeaderStateWord) -> Result<u32> {
        let depth = poll.depth();
        if depth <= self.geometry.directory_bits {
            Ok(depth)
        } else {
            Err(self.corrupted(Corruption::DirectoryDepth, word::POLL as u64 * 8))
        }
    }

    /// Returns the region of a hash, to be validated with [`Table::look_again`] (S2).
    #[inline(always)]
    pub(crate) fn locate(&self, poll: HeaderStateWord, hash: Hash) -> Result<Located<'_>> {
        let depth = self.depth(poll)?;
        let index = hash.directory() & ((1 << depth) - 1);
        let entry = self.entry(index)?;
        Ok(Located {
            poll,
            entry,
            region: self.region(entry.region())?,
        })
    }

    /// Loads the polled word and the directory entry again, after everything that was read in a
    /// located region. If both are the same, a key that was not found there is absent (S4).
    ///
    /// Comparing the depth alone would give false misses: an entry can be switched at an unchanged
    /// depth.
    #[inline(always)]
    pub(crate) fn look_again(
        &self,
        located: &Located<'_>,
        hash: Hash,
    ) -> Result<(HeaderStateWord, DirectoryEntry)> {
        let index = hash.directory() & ((1 << self.depth(located.poll)?) - 1);
        Ok(seen_again(self.header(), self.entry_word(index)?))
    }

    /// Probes the home group of a hash only, which ends most look-ups, and validates a miss. If
    /// `links_ahead`, the links are prefetched while the control bytes are waited for; if
    /// `marks_ahead`, the marks too.
    #[inline(always)]
    pub(crate) fn fast_path(
        &self,
        poll: HeaderStateWord,
        hash: Hash,
        links_ahead: bool,
        marks_ahead: bool,
    ) -> Attempt<HomeLink<'_>> {
        let depth = poll.depth();
        if depth > self.geometry.directory_bits {
            return Attempt::Retry;
        }
        let head = self.head.first();
        let at = WORDS + (hash.directory() & ((1 << depth) - 1)) as usize;
        let (Some(header), Some(entry)) = (Header::new(head), head.get(at)) else {
            return Attempt::Retry;
        };
        let seen = DirectoryEntry(acquire(entry));
        let Some(region) = self.region_mapped(seen.region()) else {
            return Attempt::Retry;
        };
        if links_ahead {
            region.prefetch_links(hash);
            if marks_ahead {
                region.prefetch_marks(hash);
            }
        }
        let home = region.fast_path(hash);
        if !matches!(home, Attempt::Absent) {
            return home;
        }
        // S4: a miss is valid only if the directory entry is unchanged, as in `look_again`.
        match seen_again(header, entry) == (poll, seen) {
            true => Attempt::Absent,
            false => Attempt::Retry,
        }
    }

    /// Returns what the links say about a record that has a key of this hash; see [`Region::trace`].
    /// `None` if the answer is not valid, or the region is not mapped: [`Table::trace_slowly`] has one.
    ///
    /// That it is live is true of a moment after the directory entry was loaded: the region was the
    /// hash's then, and whatever its words became since, none of them leads to this record unless its
    /// entry did. Every other answer is validated as a miss (S4).
    #[inline(always)]
    pub(crate) fn trace(&self, hash: Hash, place: HeapAddr, end: HeapAddr) -> Option<Trace> {
        let (header, poll, entry) = self.directory_mapped(hash)?;
        let seen = DirectoryEntry(acquire(entry));
        let trace = self.region_mapped(seen.region())?.trace(hash, place, end);
        let is_valid = trace == Trace::Live || seen_again(header, entry) == (poll, seen);
        is_valid.then_some(trace)
    }

    /// As [`Table::trace`], of any region. `None` if the region was replaced during the call.
    pub(crate) fn trace_slowly(
        &self,
        hash: Hash,
        place: HeapAddr,
        end: HeapAddr,
    ) -> Result<Option<Trace>> {
        let located = self.locate(self.header().poll(), hash)?;
        let trace = located.region.trace(hash, place, end);
        let again = self.look_again(&located, hash)?;
        let is_valid = trace == Trace::Live || again == (located.poll, located.entry);
        Ok(is_valid.then_some(trace))
    }

    /// Prefetches the links of a hash's home group, if they are mapped. Only a hint.
    #[inline(always)]
    pub(crate) fn prefetch_links(&self, hash: Hash) {
        if let Some((_, _, entry)) = self.directory_mapped(hash)
            && let Some(region) = self.region_mapped(DirectoryEntry(load(entry)).region())
        {
            region.prefetch_links(hash);
        }
    }

    /// Returns the header, its state word, and the directory entry of a hash. `None` if the depth is
    /// corrupt.
    #[inline(always)]
    fn directory_mapped(&self, hash: Hash) -> Option<(Header<'_>, HeaderStateWord, &Word)> {
        let head = self.head.first();
        let header = Header::new(head)?;
        let poll = header.poll();
        let depth = poll.depth();
        if depth > self.geometry.directory_bits {
            return None;
        }
        let at = WORDS + (hash.directory() & ((1 << depth) - 1)) as usize;
        Some((header, poll, head.get(at)?))
    }

    /// Prefetches the control bytes and links at which a search for a hash begins.
    pub(crate) fn prefetch_search(&self, hash: Hash) {
        self.prefetch_region(self.header().poll(), hash);
    }

    /// Returns the region in which a search for a hash would begin now, and prefetches its first cache
    /// lines. `None` if it is not mapped. Only a hint.
    #[inline]
    pub(crate) fn prefetch_region(&self, poll: HeaderStateWord, hash: Hash) -> Option<Region<'_>> {
        let depth = self.depth(poll).ok()?;
        let entry = self.entry(hash.directory() & ((1 << depth) - 1)).ok()?;
        let words = self.region_words(entry.region()).ok()??;
        let region = Region::new(words, self.layout, entry.region());
        region.prefetch(hash);
        Some(region)
    }

    /// Prefetches a slot and its region's state word, if they are mapped.
    #[inline(always)]
    pub(crate) fn prefetch_slot(&self, number: u32) {
        let (region, index) = self.slot_home(number);
        if let Some(region) = self.region_mapped(region) {
            region.prefetch_state();
            region.slot(index).prefetch();
        }
    }

    /// Returns a region by its number. `None` if it is not already mapped.
    #[inline(always)]
    pub(crate) fn region_mapped(&self, number: u32) -> Option<Region<'_>> {
        let words = self.layout.region_words();
        let at = number as usize * words;
        let region = self.regions.first().get(at..at + words)?;
        Some(Region::new(region, self.layout, number))
    }

    /// Allocates blocks for all directory entries of a depth, of which the first `used` are in use
    /// (H2).
    pub(crate) fn allocate_directory(&self, used: u64, depth: u32) -> Result<()> {
        debug_assert!(used <= 1 << depth, "the rest is to be allocated");
        let from = PAGE + used * 8;
        // The range is inside the file once there are regions, so the file's length does not tell
        // whether it is allocated.
        let end = self.directory_hole(depth).start;
        self.file.allocate(from, end.saturating_sub(from))?;
        self.head.refresh()?;
        Ok(())
    }

    /// Returns the range that may be a hole in a file whose directory has this depth.
    fn directory_hole(&self, depth: u32) -> Range<u64> {
        debug_assert!(depth <= self.geometry.directory_bits);
        directory_hole(&self.geometry, depth, page_bytes())
    }

    /// Allocates the range before the first region that must not be a hole (H2).
    pub(crate) fn allocate_margin(&self) -> Result<()> {
        let last = self.directory_hole(0).end;
        self.file.allocate(last, self.geometry.regions_at() - last)
    }

    /// Fills the holes of a file that was copied without its zeros, except the legitimate one (H2).
    pub(crate) fn fill_holes(&self) -> Result<()> {
        let depth = self.depth(self.header().poll())?;
        self.file.fill_holes(self.directory_hole(depth))
    }

    /// Doubles the directory: both halves are then equal.
    pub(crate) fn double_directory(&self) -> Result<()> {
        let poll = self.header().poll();
        let depth = self.depth(poll)?;
        self.allocate_directory(1 << depth, depth + 1)?;
        let entries = self.directory();
        let half = 1_usize << depth;
        let (low, high) = match entries.get(..2 * half) {
            Some(entries) => entries.split_at(half),
            None => return Err(self.corrupted(Corruption::DirectoryTruncated, PAGE)),
        };
        for (from, to) in low.iter().zip(high) {
            store(to, load(from));
        }
        debug_assert!(depth < self.geometry.directory_bits);
        // S2: published after the upper half, so that both depths lead to the same regions.
        self.header().set_poll(HeaderStateWord(poll.0 + 1));
        Ok(())
    }

    /// Returns a region by its number.
    #[inline(always)]
    pub(crate) fn region(&self, number: u32) -> Result<Region<'_>> {
        match self.region_words(number)? {
            Some(words) => Ok(Region::new(words, self.layout, number)),
            None => self.region_again(number),
        }
    }

    #[inline(always)]
    fn region_words(&self, number: u32) -> Result<Option<&[Word]>> {
        let (window, start) = self.regions.window(number.into())?;
        let within = (u64::from(number) - start) as usize;
        let words = self.layout.region_words();
        Ok(window.get(within * words..(within + 1) * words))
    }

    /// The same after reading the file's size again, because it may have grown.
    #[cold]
    fn region_again(&self, number: u32) -> Result<Region<'_>> {
        self.regions.refresh()?;
        match self.region_words(number)? {
            Some(words) => Ok(Region::new(words, self.layout, number)),
            None => Err(self.corrupted(Corruption::RegionBeyondEnd, self.region_at(number))),
        }
    }

    /// Returns the offset of a region in the file.
    pub(crate) fn region_at(&self, number: u32) -> u64 {
        self.geometry.regions_at() + u64::from(number) * self.geometry.region_bytes() as u64
    }

    /// Returns the offset of a slot's body in the file.
    pub(crate) fn body_at(&self, region: u32, index: u32) -> u64 {
        debug_assert!(index < self.geometry.region_slots);
        let body = u64::from(index) * self.geometry.body_bytes() as u64;
        self.region_at(region) + self.layout.bodies_at() + body
    }

    /// Allocates blocks for the first `count` regions.
    pub(crate) fn allocate_regions(&self, count: u64) -> Result<()> {
        debug_assert!(count <= self.geometry.max_regions());
        self.regions
            .grow(count * self.geometry.region_bytes() as u64)
    }

    /// The same, rounded up to a multiple of 256 KiB if at least so much is new, because the page cache
    /// takes such ranges in large pieces.
    pub(crate) fn allocate_ahead(&self, count: u64) -> Result<()> {
        const STEP: u64 = 1 << 18;
        let at = self.geometry.regions_at();
        let bytes = count * self.geometry.region_bytes() as u64;
        let more = (at + bytes).next_multiple_of(STEP) - at;
        let much = bytes.saturating_sub(self.regions.allocated()) >= STEP;
        // Several small regions share a page: the puts of 100 new entries take 390 us, against 540.
        let page = match (self.geometry.region_bytes() as u64) < PAGE {
            true => (at + bytes).next_multiple_of(PAGE) - at,
            false => bytes,
        };
        self.regions.grow(if much { more } else { page })
    }

    /// Returns the regions that this process knows to be allocated.
    pub(crate) fn allocated_regions(&self) -> u64 {
        self.regions.allocated() / self.geometry.region_bytes() as u64
    }

    /// Returns the bytes of the file's blocks, or slightly more if another process has made the file
    /// longer.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let header = self.header();
        let depth = header.poll().depth().min(self.geometry.directory_bits);
        let hole = self.directory_hole(depth);
        let counted = header.counters().regions;
        let counted = counted.saturating_mul(self.geometry.region_bytes() as u64);
        let regions = counted.max(self.regions.allocated());
        (self.geometry.regions_at() + regions).saturating_sub(hole.end - hole.start)
    }

    /// Returns the allocated regions, after asking the system if the header counts more of them than
    /// this process knows.
    pub(crate) fn refreshed_regions(&self) -> u64 {
        if self.header().counters().regions > self.allocated_regions() {
            // If the system does not answer, the known number stays.
            let _ = self.regions.refresh();
        }
        self.allocated_regions().min(self.geometry.max_regions())
    }

    /// Returns the number of a slot, which is unique in the table.
    #[inline]
    pub(crate) fn slot_number(&self, region: u32, index: u32) -> u32 {
        debug_assert!(index < self.geometry.region_slots);
        debug_assert!(u64::from(region) < self.geometry.max_regions());
        region * self.geometry.region_slots + index
    }

    /// Returns the region and the index of a slot number.
    #[inline]
    pub(crate) fn slot_home(&self, number: u32) -> (u32, u32) {
        let shift = self.geometry.region_slots.trailing_zeros();
        (number >> shift, number & (self.geometry.region_slots - 1))
    }
}

/// Returns the range that may be a hole in a file whose directory has this depth, with pages of
/// `page` bytes.
///
/// The page cache may hold a hole in one piece with its neighbours, and a store to them then needs
/// blocks for the hole as well: on a full disk that raises SIGBUS (H2). A file that is read from its
/// beginning comes in single pages first, then in pieces of up to [`LARGE`] pages, each at a multiple
/// of its size.
fn directory_hole(geometry: &Geometry, depth: u32, page: u64) -> Range<u64> {
    let end = PAGE + (8_u64 << depth);
    let step = if end <= 4 * page { page } else { LARGE * page };
    // The page that ends at the first region, or holds its beginning, is always allocated.
    let regions = geometry.regions_at();
    let last = (regions - 1) / page * page;
    let start = end.next_multiple_of(step);
    if start < last {
        start..last
    } else {
        regions..regions
    }
}

/// Loads the polled word and a directory entry, after everything that was read before.
#[inline(always)]
fn seen_again(header: Header<'_>, entry: &Word) -> (HeaderStateWord, DirectoryEntry) {
    acquire_fence();
    (header.poll(), DirectoryEntry(load(entry)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::record::Variant;

    fn geometry(directory_bits: u32) -> Geometry {
        Geometry {
            region_slots: 512,
            directory_bits,
            max_segment_bytes: 1 << 30,
            max_entries: 0,
            append_only: false,
            in_place: false,
            variant: Variant::Versioned,
        }
    }

    /// H2: a store to a page of the page cache that is partly a hole would need blocks.
    #[test]
    fn directory_hole_consists_of_whole_pages() {
        for page in [4 << 10, 16 << 10, 64 << 10] {
            for bits in [0, 4, 9, 13, 17, 20] {
                let geometry = geometry(bits);
                for depth in 0..=bits {
                    let hole = directory_hole(&geometry, depth, page);
                    let what = format!("pages of {page}, {bits} bits, depth {depth}: {hole:?}");
                    assert!(hole.start >= PAGE + (8 << depth), "{what}");
                    assert!(hole.end <= geometry.regions_at(), "{what}");
                    if !hole.is_empty() {
                        assert!(hole.start.is_multiple_of(page), "{what}");
                        assert!(hole.end.is_multiple_of(page), "{what}");
                        assert!(geometry.regions_at() > hole.end, "{what}");
                    }
                    let end = PAGE + (8_u64 << depth);
                    let large = (LARGE * page).min(geometry.regions_at());
                    assert!(
                        hole.is_empty() || end <= 4 * page || hole.start.is_multiple_of(large),
                        "{what}"
                    );
                }
            }
        }
        let usual = directory_hole(&geometry(20), 0, 4096);
        assert_eq!(usual, 8192..8 << 20);
    }
}
