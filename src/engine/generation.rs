//! One generation of a cache: its index, roster and heap, mapped.
//!
//! A generation is immutable but for the words in its files; a handle swaps generations whole.
//! `open` maps the files of an existing one, `create` makes the files of a new one. May call
//! `index`, `heap`, `lock` and everything below them.

use std::fmt;
use std::sync::Arc;

use crate::error::{Corruption, Result};
use crate::format::heap_addr::HeapAddr;
use crate::format::record::Variant;
use crate::format::segment::SegmentHeader;
use crate::format::settings::{Bound, Settings};
use crate::format::{Geometry, HashKind};
use crate::hash::Hasher;
use crate::heap::Segment;
use crate::index::header::Header;
use crate::index::roster::Roster;
use crate::index::table::Table;
use crate::lock::FileLock;
use crate::os::mapped_file::MappedFile;

use crate::engine::file_identity::{FileTimes, last_visit};
use crate::engine::version;

/// Positions that a roster can have at most.
const MAX_POSITIONS: u64 = 1 << 31;
/// The largest piece in which the page cache holds a file.
const LARGEST_PAGE: u64 = 1 << 21;

/// The number of the generation that a new cache begins with.
pub(crate) const FIRST_GENERATION: u64 = 1;

/// The ids that distinguish a generation from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    pub cache: [u8; 16],
    pub generation: u64,
    pub heap: u64,
    pub roster: u64,
}

/// One generation, mapped.
pub(crate) struct Generation {
    pub table: Arc<Table>,
    pub roster: Arc<Roster>,
    pub ids: Ids,
    pub hasher: Hasher,
    pub hash_kind: HashKind,
    pub seed: u64,
    pub created: u64,
    /// The writer lock; `None` on a read-only handle.
    pub lock: Option<Arc<FileLock>>,
    /// Device and inode of the index.
    pub inode: (u64, u64),
    /// The times of the files when they were opened for writing.
    pub seen: FileTimes,
    pub mapped: MappedSegments,
}

/// The segments of a heap that are mapped, by number.
#[derive(Debug, Default)]
pub(crate) struct MappedSegments {
    /// The number of the first segment in `segments`.
    first: u16,
    segments: Box<[Option<Arc<Segment>>]>,
}

impl MappedSegments {
    fn of(all: Vec<Arc<Segment>>) -> Self {
        let numbers = || all.iter().map(|segment| segment.number());
        let first = numbers().min().unwrap_or(0);
        let last = numbers().max().unwrap_or(0);
        let mut segments: Box<[Option<Arc<Segment>>]> = (first..=last).map(|_| None).collect();
        for segment in all {
            let at = usize::from(segment.number() - first);
            debug_assert!(segments[at].is_none(), "H3: numbers are unique");
            segments[at] = Some(segment);
        }
        Self { first, segments }
    }

    #[inline(always)]
    fn get(&self, number: u16) -> Option<&Segment> {
        let at = usize::from(number.wrapping_sub(self.first));
        let found = self.segments.get(at)?.as_deref();
        debug_assert!(found.is_none_or(|segment| segment.number() == number));
        found
    }
}

impl fmt::Debug for Generation {
    /// Formats neither the hash seed nor anything that is mapped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation")
            .field("generation", &self.ids.generation)
            .field("inode", &self.inode)
            .finish_non_exhaustive()
    }
}

impl Generation {
    #[inline]
    pub(crate) fn header(&self) -> Header<'_> {
        self.table.header()
    }

    /// Returns whether entries can neither be overwritten nor deleted.
    pub(crate) fn is_append_only(&self) -> bool {
        self.table.geometry().is_append_only()
    }

    /// Returns whether records may be overwritten where they are; see `engine::write::in_place`.
    #[inline]
    pub(crate) fn is_in_place(&self) -> bool {
        self.table.geometry().in_place
    }

    /// Returns whether its keys have ids, and its entries never change; see `engine::ids`.
    pub(crate) fn is_numbered(&self) -> bool {
        self.variant() == Variant::Numbered
    }

    /// Returns whether it is that of a `Cache`.
    #[inline]
    pub(crate) fn is_cache(&self) -> bool {
        self.table.geometry().is_cache()
    }

    /// Returns the limits and defaults of a `Cache`; `None` of other generations, and if they are
    /// corrupt.
    #[inline]
    pub(crate) fn settings(&self) -> Option<Settings> {
        self.is_cache().then(|| self.header().settings()).flatten()
    }

    /// Returns the bytes that the files of a `Cache` may take, if that is limited.
    #[inline]
    pub(crate) fn bound(&self) -> Option<Bound> {
        self.settings()?.bound()
    }

    /// Returns how its records are laid out.
    pub(crate) fn variant(&self) -> Variant {
        self.table.geometry().variant
    }

    /// Returns whether the index is a copy of the file that was written to; see
    /// [`Header::is_copied`].
    pub(crate) fn is_copied(&self, boot: [u64; 2]) -> bool {
        let header = self.header();
        let (born, known) = (self.seen.born, header.born());
        // A file that was removed and created again may have the same inode number.
        header.is_copied(boot, self.inode) || (born != 0 && known != 0 && born != known)
    }

    /// Returns whether the files were not flushed, and the last writer of this very index wrote
    /// under another boot, or wrote to another file.
    pub(crate) fn is_from_elsewhere(&self, boot: [u64; 2]) -> bool {
        let header = self.header();
        header.is_dirty() && (self.is_copied(boot) || !header.is_from_here(boot, self.inode))
    }

    /// Returns whether something other than a writer changed a file since the last writer left.
    pub(crate) fn is_touched(&self) -> bool {
        self.seen.latest > self.last_visit()
    }

    /// Returns the latest time that the last writer's own stores can have given a file.
    #[inline]
    pub(crate) fn last_visit(&self) -> u64 {
        last_visit(self.header(), self.variant())
    }

    /// Notes that a writer is at work, and that it has accounted for all changes of the files seen
    /// so far.
    pub(crate) fn note_visit(&self) {
        self.header()
            .note_visit(version::now().max(self.seen.latest));
    }

    /// As [`note_visit`](Self::note_visit), without the lock.
    pub(crate) fn raise_visit(&self) {
        let now = version::now().max(self.seen.latest);
        self.header().raise_visited(now);
    }

    /// Releases the writer lock.
    #[inline]
    pub(crate) fn unlock(&self) {
        if let Some(lock) = &self.lock {
            lock.release(Some(self.header().lock_words()));
        }
    }

    /// Returns a segment if it is already mapped.
    #[inline]
    pub(crate) fn segment(&self, number: u16) -> Option<&Segment> {
        self.mapped.get(number)
    }

    /// Returns the segments that are already mapped, in ascending order.
    pub(crate) fn segments(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.mapped.segments.iter().flatten()
    }

    /// Returns the same generation with one more segment mapped, and without those that were
    /// reclaimed.
    pub(crate) fn with_segment(&self, segment: Arc<Segment>) -> Self {
        let oldest = self.header().oldest();
        let kept = self
            .segments()
            .filter(|known| known.number() >= oldest && known.number() != segment.number());
        let mut all: Vec<_> = kept.cloned().collect();
        debug_assert!(all.is_sorted_by_key(|known| known.number()));
        all.push(segment);
        self.with_segments(all)
    }

    /// Returns the same generation with exactly these segments mapped.
    pub(crate) fn with_segments(&self, all: Vec<Arc<Segment>>) -> Self {
        Self {
            table: Arc::clone(&self.table),
            roster: Arc::clone(&self.roster),
            lock: self.lock.clone(),
            mapped: MappedSegments::of(all),
            ids: self.ids,
            hasher: self.hasher,
            hash_kind: self.hash_kind,
            seed: self.seed,
            created: self.created,
            inode: self.inode,
            seen: self.seen,
        }
    }

    /// Returns whether a segment's header has the ids of this heap.
    pub(crate) fn owns(&self, header: &SegmentHeader) -> bool {
        header.cache_id == self.ids.cache && header.heap_id == self.ids.heap
    }

    /// Returns the header of a segment of this heap.
    pub(crate) fn segment_header(&self, number: u16, capacity: u64) -> SegmentHeader {
        let geometry = self.table.geometry();
        debug_assert!(capacity <= *Geometry::SEGMENT_BYTES.end() + crate::format::index::PAGE);
        SegmentHeader {
            cache_id: self.ids.cache,
            heap_id: self.ids.heap,
            capacity,
            number: u32::from(number),
            // A2: a rebuild from the heap alone learns it here.
            flags: SegmentHeader::flags_for(geometry),
            hash_seed: self.seed,
            hash_check: self.hasher.check_value(),
            hash_kind: self.hash_kind.to_disk(),
            region_slots: geometry.region_slots,
            directory_bits: geometry.directory_bits,
            record_variant: geometry.variant.to_disk(),
            max_segment_bytes: geometry.max_segment_bytes,
            max_entries: geometry.max_entries,
            // G3: deletion records are dropped with their segments, so the newest segment's header
            // has a version that none written before it exceeds.
            created: version::now().max(self.header().last_version()),
            ..bytemuck::Zeroable::zeroed()
        }
    }

    /// Writes the mapped segments to the disk.
    pub(crate) fn sync_heap(&self) -> Result<()> {
        self.segments()
            .try_for_each(|segment| segment.file().sync())
    }

    /// Writes roster and index to the disk.
    pub(crate) fn sync_index(&self) -> Result<()> {
        self.roster.file().sync()?;
        self.table.sync()
    }

    /// H2: makes the blocks that the next stores go to the files' own. Files share blocks after
    /// another program has copied them with a reflink.
    #[inline]
    pub(crate) fn own_blocks(&self) -> Result<()> {
        if self.table.file().shares_blocks() {
            return self.own_shared_blocks();
        }
        Ok(())
    }

    #[cold]
    fn own_shared_blocks(&self) -> Result<()> {
        self.table.own_blocks()?;
        let roster = self.roster.file();
        roster.own_blocks(std::slice::from_ref(&(0..roster.len()?)))?;
        match self.segment(self.header().tail().segment) {
            Some(last) => self.own_end_of(last.file()),
            None => Ok(()),
        }
    }

    /// Makes the end of the last segment its own: what is stored to, and what the page cache may
    /// hold in one piece with it.
    pub(crate) fn own_end_of(&self, file: &MappedFile) -> Result<()> {
        let from = self.header().tail().bytes() & !(LARGEST_PAGE - 1);
        file.own_blocks(std::slice::from_ref(&(from..file.len()?)))
    }

    /// Returns the number of roster positions that can be read, whatever number the header counts.
    pub(crate) fn roster_len(&self) -> u32 {
        self.readable_positions(self.header().roster_len())
    }

    /// Returns whether the header counts positions that the mapped roster does not have.
    pub(crate) fn lacks_positions(&self) -> bool {
        self.header().roster_len() > u64::from(self.roster_len())
    }

    /// Returns how many of `counted` positions the roster's file has room for.
    pub(crate) fn readable_positions(&self, counted: u64) -> u32 {
        let room = if counted > self.roster.capacity() {
            self.roster.refresh().unwrap_or(0)
        } else {
            counted
        };
        counted.min(room).min(MAX_POSITIONS) as u32
    }

    /// Returns an error if the header counts more positions than the roster file has room for: a
    /// listing would leave out entries. A writer makes room before it counts.
    pub(crate) fn check_roster_length(&self) -> Result<()> {
        let counted = self.header().roster_len();
        let readable = self.readable_positions(counted);
        if u64::from(readable) == counted {
            return Ok(());
        }
        let what = Corruption::RosterTruncated;
        Err(self.roster.corrupted(readable, what))
    }

    /// Returns whether a place lies within a mapped segment.
    pub(crate) fn is_within(&self, place: HeapAddr) -> bool {
        self.segment(place.segment)
            .is_some_and(|segment| place.bytes() <= segment.capacity())
    }
}
