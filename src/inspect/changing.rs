//! The part of the index header that writers change, field by field.
//!
//! Decodes whatever words are there; it does not know which of them are plausible.

use std::time::SystemTime;

use crate::format::index::word;
use crate::format::slot::{Cursor, Place};
use crate::index::header::{Armed, Header, Intent};

use crate::inspect::sealed::moment;

/// A place in the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct HeapPlace {
    /// The segment's number.
    pub segment: u16,
    /// Bytes from the segment's start.
    pub at: u64,
}

impl HeapPlace {
    /// The place so many bytes from a segment's start.
    pub fn new(segment: u16, at: u64) -> Self {
        Self { segment, at }
    }
}

impl From<Place> for HeapPlace {
    fn from(place: Place) -> Self {
        Self {
            segment: place.segment,
            at: place.bytes(),
        }
    }
}

/// What a writer was about to do, or is about to do at this moment. The next one finishes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PendingChange {
    /// An entry is being inserted.
    Insert,
    /// An entry is being deleted.
    Delete,
    /// A region of the table is being replaced by one or two others.
    Replace,
    /// Words that no version of this crate writes.
    Unknown,
}

/// The fields of an index header that change with the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changing {
    /// The directory has two to this power of entries in use.
    pub depth: u32,
    /// Whether another generation has replaced this one, or is about to.
    pub superseded: bool,
    /// Live entries.
    pub occupied: u64,
    /// Slots of deleted entries that are not free yet.
    pub deleted: u64,
    /// One more than the highest slot number ever used.
    pub high_water_mark: u64,
    /// The first free position of the roster, if there is one.
    pub first_hole: Option<u64>,
    /// Roster positions ever used.
    pub roster_len: u64,
    /// The first free region, if there is one.
    pub first_free_region: Option<u64>,
    /// Regions that the index holds, free ones included.
    pub regions: u64,
    /// Heap bytes of live records.
    pub live_bytes: u64,
    /// Where the heap ends once the record under way is in.
    pub reserved: HeapPlace,
    /// Where the heap ends.
    pub tail: HeapPlace,
    /// The live bytes once the record under way is in.
    pub live_after: u64,
    /// When an entry was last written; none if never.
    pub last_write: Option<SystemTime>,
    /// Changes so far, of any kind.
    pub changes: u64,
    /// Bytes of the segments before the last.
    pub heap_base: u64,
    /// The number of the oldest segment; `u64::MAX` where that cannot be believed.
    pub oldest_segment: u64,
    /// How far cleaning has come in it; none where that cannot be believed.
    pub cleaned: Option<HeapPlace>,
    /// Whether cleaning has met damage in the oldest segment.
    pub cleaning_met_damage: bool,
    /// The change under way: that of a writer at work, or of one that was killed.
    pub pending: Option<PendingChange>,
    /// The boot under which the files were last written; zero if never, or not known.
    pub boot: u128,
    /// The inode that the index then had.
    pub inode: u64,
    /// Whether changes may not have reached the disk.
    pub dirty: bool,
    /// Whether the cache was ever flushed.
    pub flushed: bool,
    /// Up to where the heap was synced.
    pub synced: HeapPlace,
    /// Whether a sync failed.
    pub sync_failed: bool,
    /// Whether files of this generation may still stand under preliminary names.
    pub renames_pending: bool,
    /// The number that the next life of a region gets.
    pub next_incarnation: u64,
    /// When the cache was last rebuilt or compacted as a whole; none if never.
    pub compacted: Option<SystemTime>,
    /// Values stored since the cache was created, overwrites included.
    pub puts: u64,
    /// Values stored over another one.
    pub overwrites: u64,
    /// Entries deleted.
    pub deletes: u64,
    /// Damaged entries that were given up.
    pub dropped: u64,
    /// Process id of the writer, as far as it said so.
    pub writer: Option<u32>,
}

impl Changing {
    /// Decodes the words of a header page.
    pub(super) fn decode(header: Header<'_>) -> Self {
        let poll = header.poll();
        let counters = header.counters();
        let (boot, inode) = (header.written_under(), header.get(word::INODE));
        let cursor = Cursor::from_word(header.get(word::CURSOR));
        let at = |place| HeapPlace::from(Place::from_word(header.get(place)));
        let time = |place| {
            Some(header.get(place))
                .filter(|&nanos| nanos != 0)
                .map(moment)
        };
        Self {
            depth: poll.depth(),
            superseded: poll.superseded(),
            occupied: counters.occupied,
            deleted: counters.deleted,
            high_water_mark: counters.high_water,
            first_hole: counters.hole_head.checked_sub(1),
            roster_len: counters.roster_len,
            first_free_region: counters.free_region.checked_sub(1),
            regions: counters.regions,
            live_bytes: counters.live,
            reserved: header.reserved().into(),
            tail: header.tail().into(),
            live_after: header.live_after(),
            last_write: time(word::LAST_MTIME),
            changes: header.get(word::CHANGES),
            heap_base: header.get(word::HEAP_BASE),
            oldest_segment: header.checked_oldest().map_or(u64::MAX, u64::from),
            cleaned: cursor.map(|cursor| cursor.place.into()),
            cleaning_met_damage: cursor.is_some_and(|cursor| cursor.damage),
            pending: pending(header),
            boot: u128::from(boot[0]) << 64 | u128::from(boot[1]),
            inode,
            dirty: header.is_dirty(),
            flushed: header.get(word::FLUSHED) != 0,
            synced: at(word::SYNCED),
            sync_failed: header.get(word::SYNC_ERROR) != 0,
            renames_pending: header.get(word::RENAMES_PENDING) != 0,
            next_incarnation: header.get(word::INCARNATION),
            compacted: time(word::COMPACTED),
            puts: header.get(word::PUTS),
            overwrites: header.get(word::OVERWRITES),
            deletes: header.get(word::DELETES),
            dropped: header.get(word::DROPPED),
            writer: Some(header.get(word::HOLDER) as u32).filter(|&pid| pid != 0),
        }
    }

    /// Bytes of the heap up to its end, in all segments.
    pub fn heap_bytes(&self) -> u64 {
        self.heap_base.saturating_add(self.tail.at)
    }

    /// Heap bytes that cleaning reclaims.
    pub fn dead_bytes(&self) -> u64 {
        self.heap_bytes().saturating_sub(self.live_bytes)
    }
}

fn pending(header: Header<'_>) -> Option<PendingChange> {
    match header.intent() {
        Armed::No => None,
        Armed::Damaged => Some(PendingChange::Unknown),
        Armed::Yes(Intent::Insert { .. }) => Some(PendingChange::Insert),
        Armed::Yes(Intent::Delete { .. }) => Some(PendingChange::Delete),
        Armed::Yes(Intent::Replace { .. }) => Some(PendingChange::Replace),
    }
}
