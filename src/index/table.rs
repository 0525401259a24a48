//! The hash table in the index file: a directory over regions of control bytes and slots.
//!
//! Knows slots, links and hash bits. It does not know what a link leads to, nor the order in which
//! an operation stores: that is the engine's.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::Geometry;
use crate::format::index::{PAGE, Poll};
use crate::format::region::{Entry, Shape};
use crate::hash::Hash;
use crate::index::header::{Header, WORDS};
pub(crate) use crate::index::region::Glance;
use crate::index::region::{Layout, Region};
use crate::os::mmap::{Burst, Extent, MappedFile, Memory, Stores, coarse_millis, page_bytes};
use crate::sync::{Word, acquire, acquire_fence, load, publish, store};

/// Pages of the largest piece in which the page cache holds a file: 2 MiB, where they have 4 KiB.
const LARGE: u64 = 512;
/// Regions to the first window at most, as a power of two.
const WINDOW_REGIONS_LOG2: u32 = 14;

/// The index file, mapped: header page, directory, regions.
#[derive(Debug)]
pub(crate) struct Table {
    /// Header page and directory, one window.
    head: Memory,
    regions: Memory,
    file: Arc<MappedFile>,
    geometry: Geometry,
    layout: Layout,
    burst: Burst,
}

/// The region that serves a hash, and what was read to find it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located<'a> {
    pub poll: Poll,
    pub entry: Entry,
    pub region: Region<'a>,
}

impl Table {
    /// Maps an index file whose geometry is known.
    pub(crate) fn new(file: Arc<MappedFile>, geometry: Geometry) -> Result<Self> {
        let layout = Layout::new(&geometry);
        let head = Extent {
            base: 0,
            unit_bytes: geometry.regions_at(),
            units: 1,
            first_log2: 0,
            stores: Stores::Scattered,
        };
        let regions = Extent {
            base: geometry.regions_at(),
            unit_bytes: geometry.region_bytes() as u64,
            units: geometry.max_regions(),
            first_log2: WINDOW_REGIONS_LOG2,
            stores: Stores::Scattered,
        };
        let head = Memory::new(Arc::clone(&file), head)?;
        let regions = Memory::new(Arc::clone(&file), regions)?;
        let table = Self {
            head,
            regions,
            file,
            geometry,
            layout,
            burst: Burst::new(),
        };
        if table.head.first().len() < WORDS {
            return Err(table.damaged("a header page cut short", 0));
        }
        Ok(table)
    }

    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    pub(crate) fn file(&self) -> &Arc<MappedFile> {
        &self.file
    }

    pub(crate) fn damaged(&self, what: &'static str, at: u64) -> Error {
        Error::damaged(self.file.path(), what, at)
    }

    /// Counts a change that is about to be made. On btrfs, where so many came together that most
    /// pages are going to be stored to, makes all of them dirty in their order: dirtied one by one,
    /// each reserves room for metadata of its own, until the disk has to be written to free some.
    #[inline]
    pub(crate) fn count_change(&self) {
        if self.file.copies_on_write() {
            self.count_scattered();
        }
    }

    #[cold]
    fn count_scattered(&self) {
        let pages = self.regions.known() / page_bytes();
        if self.burst.count((pages / 64).max(256), coarse_millis) {
            self.regions.dirty_all();
        }
    }

    /// Writes all of the file to the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.burst.end();
        self.file.sync()
    }

    /// Sees to it that storing to the file needs no blocks that it shares now.
    pub(crate) fn own_blocks(&self) -> Result<()> {
        // Of a damaged one the next is made anew.
        let Ok(depth) = self.depth(self.header().poll()) else {
            return Ok(());
        };
        let hole = self.directory_hole(depth);
        self.file
            .own_blocks(&[0..hole.start, hole.end..self.file.len()?])
    }

    /// The header page's words.
    #[inline(always)]
    pub(crate) fn header(&self) -> Header<'_> {
        // The page was there when the table was mapped, and no file of ours is ever cut.
        #[expect(
            clippy::expect_used,
            reason = "checked by `new`; known lengths never shrink below a page"
        )]
        Header::new(self.head.first()).expect("the header page is mapped")
    }

    /// Allocated room of the directory, in entries.
    #[inline(always)]
    fn directory(&self) -> &[Word] {
        self.head.first().get(WORDS..).unwrap_or(&[])
    }

    /// The word of a directory entry.
    #[inline(always)]
    fn entry_word(&self, index: u32) -> Result<&Word> {
        let at = PAGE + u64::from(index) * 8;
        self.directory()
            .get(index as usize)
            .ok_or_else(|| self.damaged("a directory cut short", at))
    }

    /// A directory entry.
    #[inline(always)]
    pub(crate) fn entry(&self, index: u32) -> Result<Entry> {
        Ok(Entry(acquire(self.entry_word(index)?)))
    }

    /// Whether the directory leads to a region for all hashes of a shape, and as far as one more
    /// look can tell for no others. A replacement takes the place of the region in those entries.
    pub(crate) fn leads_alone_to(&self, region: u32, shape: Shape) -> Result<bool> {
        let depth = self.depth(self.header().poll())?;
        if shape.depth > depth || !shape.holds(shape.prefix) {
            return Ok(false);
        }
        for index in (shape.prefix..1 << depth).step_by(1 << shape.depth) {
            if self.entry(index)?.region() != region {
                return Ok(false);
            }
        }
        // The other half of what was split last.
        let sibling = shape.prefix ^ ((1 << shape.depth) >> 1);
        Ok(shape.depth == 0 || self.entry(sibling)?.region() != region)
    }

    pub(crate) fn set_entry(&self, index: u32, entry: Entry) -> Result<()> {
        publish(self.entry_word(index)?, entry.0);
        Ok(())
    }

    /// The directory's depth as polled; an impossible one is damage.
    #[inline(always)]
    pub(crate) fn depth(&self, poll: Poll) -> Result<u32> {
        let depth = poll.depth();
        if depth <= self.geometry.directory_bits {
            Ok(depth)
        } else {
            Err(self.damaged("the directory's depth", 128))
        }
    }

    /// The region of a hash, at one moment; see [`Table::look_again`].
    #[inline(always)]
    pub(crate) fn locate(&self, poll: Poll, hash: Hash) -> Result<Located<'_>> {
        let depth = self.depth(poll)?;
        let index = hash.directory() & ((1 << depth) - 1);
        let entry = self.entry(index)?;
        Ok(Located {
            poll,
            entry,
            region: self.region(entry.region())?,
        })
    }

    /// The polled word and the directory entry again, after everything that was read in a located
    /// region. Where both are the same, what was not found there was not there.
    ///
    /// Comparing the depth alone would give false misses: an entry can be switched at an unchanged
    /// depth.
    #[inline(always)]
    pub(crate) fn look_again(&self, located: &Located<'_>, hash: Hash) -> Result<(Poll, Entry)> {
        let index = hash.directory() & ((1 << self.depth(located.poll)?) - 1);
        Ok(seen_again(self.header(), self.entry_word(index)?))
    }

    /// The beginning of a search, which is the end of most: what the first group says of the hash.
    /// Links are asked for while its control bytes are waited for if `links_ahead`.
    #[inline(always)]
    pub(crate) fn glance(&self, poll: Poll, hash: Hash, links_ahead: bool) -> Glance {
        let depth = poll.depth();
        if depth > self.geometry.directory_bits {
            return Glance::Unsure;
        }
        let head = self.head.first();
        let at = WORDS + (hash.directory() & ((1 << depth) - 1)) as usize;
        let (Some(header), Some(entry)) = (Header::new(head), head.get(at)) else {
            return Glance::Unsure;
        };
        let seen = Entry(acquire(entry));
        let Some(region) = self.region_at_hand(seen.region()) else {
            return Glance::Unsure;
        };
        if links_ahead {
            region.prefetch_links(hash);
        }
        let home = region.glance(hash);
        if home != Glance::Absent {
            return home;
        }
        match seen_again(header, entry) == (poll, seen) {
            true => Glance::Absent,
            false => Glance::Unsure,
        }
    }

    /// Asks for the control bytes and links at which a search for a hash begins.
    pub(crate) fn prefetch_search(&self, hash: Hash) {
        self.approach(self.header().poll(), hash);
    }

    /// The region in which a search for a hash would look now, its first lines asked for; none
    /// where it is not known to be there. Only a hint.
    #[inline]
    pub(crate) fn approach(&self, poll: Poll, hash: Hash) -> Option<Region<'_>> {
        let depth = self.depth(poll).ok()?;
        let entry = self.entry(hash.directory() & ((1 << depth) - 1)).ok()?;
        let words = self.region_words(entry.region()).ok()??;
        let region = Region::new(words, self.layout, entry.region());
        region.prefetch(hash);
        Some(region)
    }

    /// Asks for a slot and its region's stamp, where they are known to be.
    #[inline(always)]
    pub(crate) fn prefetch_slot(&self, number: u32) {
        let (region, index) = self.slot_home(number);
        if let Some(region) = self.region_at_hand(region) {
            region.prefetch_stamp();
            region.slot(index).prefetch();
        }
    }

    /// A region by its number, where that takes no mapping and no look at the file's size.
    #[inline(always)]
    pub(crate) fn region_at_hand(&self, number: u32) -> Option<Region<'_>> {
        let words = self.layout.region_words();
        let at = number as usize * words;
        let region = self.regions.first().get(at..at + words)?;
        Some(Region::new(region, self.layout, number))
    }

    /// Makes room in the directory for all entries of a depth, of which the first `used` are in
    /// use.
    pub(crate) fn allocate_directory(&self, used: u64, depth: u32) -> Result<()> {
        let from = PAGE + used * 8;
        // The room lies inside the file once there are regions: the file's length says nothing
        // about it.
        let end = self.directory_hole(depth).start;
        self.file.allocate(from, end.saturating_sub(from))?;
        self.head.refresh()?;
        Ok(())
    }

    /// What may be missing of a file whose directory has this depth.
    fn directory_hole(&self, depth: u32) -> Range<u64> {
        directory_hole(&self.geometry, depth, page_bytes())
    }

    /// Allocates the room between the directory and the first region that must not be a hole.
    pub(crate) fn allocate_margin(&self) -> Result<()> {
        let last = self.directory_hole(0).end;
        self.file.allocate(last, self.geometry.regions_at() - last)
    }

    /// Fills the holes of a copy without zeros, but for the one that is meant to be there.
    pub(crate) fn fill_holes(&self) -> Result<()> {
        let depth = self.depth(self.header().poll())?;
        self.file.fill_holes(self.directory_hole(depth))
    }

    /// Doubles the directory: both halves then say the same.
    pub(crate) fn double_directory(&self) -> Result<()> {
        let poll = self.header().poll();
        let depth = self.depth(poll)?;
        self.allocate_directory(1 << depth, depth + 1)?;
        let entries = self.directory();
        let half = 1_usize << depth;
        let (low, high) = match entries.get(..2 * half) {
            Some(entries) => entries.split_at(half),
            None => return Err(self.damaged("a directory cut short", PAGE)),
        };
        for (from, to) in low.iter().zip(high) {
            store(to, load(from));
        }
        self.header().set_poll(Poll(poll.0 + 1));
        Ok(())
    }

    /// A region by its number.
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

    /// The file may have grown since it was last looked at.
    #[cold]
    fn region_again(&self, number: u32) -> Result<Region<'_>> {
        self.regions.refresh()?;
        match self.region_words(number)? {
            Some(words) => Ok(Region::new(words, self.layout, number)),
            None => Err(self.damaged("a region beyond the file's end", self.region_at(number))),
        }
    }

    /// Where a region stands in the file, in bytes.
    pub(crate) fn region_at(&self, number: u32) -> u64 {
        self.geometry.regions_at() + u64::from(number) * self.geometry.region_bytes() as u64
    }

    /// Where a slot's body stands in the file, in bytes.
    pub(crate) fn body_at(&self, region: u32, index: u32) -> u64 {
        let body = u64::from(index) * self.geometry.body_bytes() as u64;
        self.region_at(region) + self.layout.bodies_at() + body
    }

    /// Allocates blocks for the first `count` regions.
    pub(crate) fn allocate_regions(&self, count: u64) -> Result<()> {
        self.regions
            .grow(count * self.geometry.region_bytes() as u64)
    }

    /// The same and, where that is much, on up to a multiple of 256 KiB, which the page cache takes
    /// in large pieces.
    pub(crate) fn allocate_ahead(&self, count: u64) -> Result<()> {
        const STEP: u64 = 1 << 18;
        let at = self.geometry.regions_at();
        let bytes = count * self.geometry.region_bytes() as u64;
        let more = (at + bytes).next_multiple_of(STEP) - at;
        let much = bytes.saturating_sub(self.regions.known()) >= STEP;
        self.regions.grow(if much { more } else { bytes })
    }

    /// Regions for which the file has room.
    pub(crate) fn allocated_regions(&self) -> u64 {
        self.regions.known() / self.geometry.region_bytes() as u64
    }

    /// Regions for which the file has room, asked of the system where it seems to be more than was
    /// known.
    pub(crate) fn regions_there(&self) -> u64 {
        if self.header().counters().regions > self.allocated_regions() {
            // What cannot be asked stays as it was known.
            let _ = self.regions.refresh();
        }
        self.allocated_regions().min(self.geometry.max_regions())
    }

    /// The number of a slot, unique in the table.
    #[inline]
    pub(crate) fn slot_number(&self, region: u32, index: u32) -> u32 {
        region * self.geometry.region_slots + index
    }

    /// The region and the index of a slot number.
    #[inline]
    pub(crate) fn slot_home(&self, number: u32) -> (u32, u32) {
        let shift = self.geometry.region_slots.trailing_zeros();
        (number >> shift, number & (self.geometry.region_slots - 1))
    }
}

/// What may be missing of a file whose directory has this depth, where pages have so many bytes.
///
/// The page cache may hold a hole in one piece with its neighbours, and then storing to them
/// needs blocks for the hole as well: on a full disk that is SIGBUS. A file that is read from
/// its beginning comes in single pages first, then in pieces of up to [`LARGE`] pages, each at
/// a multiple of its size.
fn directory_hole(geometry: &Geometry, depth: u32, page: u64) -> Range<u64> {
    let end = PAGE + (8_u64 << depth);
    let step = if end <= 4 * page { page } else { LARGE * page };
    // The page that ends at the first region, or holds its beginning, is there in any case.
    let regions = geometry.regions_at();
    let last = (regions - 1) / page * page;
    let start = end.next_multiple_of(step);
    if start < last {
        start..last
    } else {
        regions..regions
    }
}

/// The polled word and a directory entry, behind everything that was read before.
#[inline(always)]
fn seen_again(header: Header<'_>, entry: &Word) -> (Poll, Entry) {
    acquire_fence();
    (header.poll(), Entry(load(entry)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::record::Variant;

    fn geometry(directory_bits: u32) -> Geometry {
        Geometry {
            region_slots: 512,
            inline_key: 24,
            directory_bits,
            max_segment_bytes: 1 << 30,
            max_entries: 0,
            append_only: false,
            variant: Variant::Versioned,
        }
    }

    /// A page of the page cache that is partly a hole would need blocks when it is stored to.
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
