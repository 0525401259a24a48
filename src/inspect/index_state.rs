//! The part of the index header that writers change. Decodes invalid words too.

use std::time::SystemTime;

use crate::cache::{CacheCounts, CacheSettings};
use crate::format::heap_addr::HeapAddr;
use crate::index::header::Header;
use crate::index::redo::{Redo, RedoState};

use crate::inspect::index_header::time;

/// An address in the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct HeapAddress {
    /// The number of the segment.
    pub segment: u16,
    /// The offset in the segment, in bytes.
    pub at: u64,
}

impl HeapAddress {
    /// Returns the address of an offset in a segment.
    pub fn new(segment: u16, at: u64) -> Self {
        Self { segment, at }
    }
}

impl From<HeapAddr> for HeapAddress {
    fn from(address: HeapAddr) -> Self {
        Self {
            segment: address.segment,
            at: address.bytes(),
        }
    }
}

/// The redo record: the change in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PendingChange {
    Insert,
    Delete,
    Replace,
    Overwrite,
    Unknown,
}

/// The fields of the index header that change with the cache.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct IndexState {
    /// The depth of the directory, which uses two to this power of entries.
    pub depth: u32,
    /// Whether another generation has replaced this one, or is replacing it.
    pub superseded: bool,
    /// Live entries.
    pub occupied: u64,
    /// Slots of deleted entries that searches still probe.
    pub deleted: u64,
    /// One more than the highest slot number ever used.
    pub high_water_mark: u64,
    /// The first free roster position, if there is one.
    pub first_free_position: Option<u64>,
    /// Roster positions ever used.
    pub roster_len: u64,
    /// The first free region, if there is one.
    pub first_free_region: Option<u64>,
    /// Regions of the index, free ones included.
    pub regions: u64,
    /// Heap bytes of live records.
    pub live_bytes: u64,
    /// The reserved end of the heap, after the record in flight.
    pub reserved: HeapAddress,
    /// The committed end of the heap.
    pub tail: HeapAddress,
    /// The live bytes after the record in flight.
    pub live_after: u64,
    /// When an entry was last written; `None` if never.
    pub last_write: Option<SystemTime>,
    /// Changes so far, of any kind.
    pub changes: u64,
    /// Bytes of the segments before the last.
    pub heap_base: u64,
    /// The number of the oldest segment; `u64::MAX` if the word is invalid.
    pub oldest_segment: u64,
    /// The clean cursor: how far cleaning has come; `None` if the word is invalid.
    pub cleaned: Option<HeapAddress>,
    /// Whether cleaning found damage in the oldest segment.
    pub cleaning_found_damage: bool,
    pub(super) pending: Option<PendingChange>,
    /// The id of the boot during which the files were last written; zero if never, or if unknown.
    pub boot: u128,
    /// The inode of the index at that time.
    pub inode: u64,
    /// Whether changes may not have reached the disk.
    pub dirty: bool,
    /// Whether the cache was ever flushed.
    pub flushed: bool,
    /// The end of the synced part of the heap.
    pub synced: HeapAddress,
    /// The place before which no record is overwritten where it is; `None` in a cache without that, or if
    /// the word is invalid.
    pub frozen: Option<HeapAddress>,
    /// Whether a sync failed.
    pub sync_failed: bool,
    /// Whether files of this generation may still have temporary names.
    pub renames_pending: bool,
    /// The next generation tag of a region.
    pub next_region_tag: u64,
    /// When the whole cache was last rebuilt or compacted; `None` if never.
    pub compacted: Option<SystemTime>,
    /// Values stored since the cache was created, overwrites included.
    pub puts: u64,
    /// Values that replaced another one.
    pub overwrites: u64,
    /// Entries deleted.
    pub deletes: u64,
    /// Entries dropped because their records are damaged or missing.
    pub dropped: u64,
    /// The process id that the writer stored.
    pub writer: Option<u32>,
    /// The limits and defaults of a `Cache`; `None` if they are corrupt. Files of other types have none.
    pub settings: Option<CacheSettings>,
    /// The statistics of a `Cache`; 0 in files of other types.
    pub counts: CacheCounts,
}

impl IndexState {
    /// Decodes the words of a header page.
    pub(super) fn decode(header: Header<'_>) -> Self {
        let poll = header.poll();
        let counters = header.counters();
        let (boot, inode) = (header.written_under(), header.inode());
        let cursor = header.clean_cursor();
        let optional_time = |nanos| Some(nanos).filter(|&nanos| nanos != 0).map(time);
        Self {
            depth: poll.depth(),
            superseded: poll.superseded(),
            occupied: counters.occupied,
            deleted: counters.deleted,
            high_water_mark: counters.high_water,
            first_free_position: counters.hole_head.checked_sub(1),
            roster_len: counters.roster_len,
            first_free_region: counters.free_region.checked_sub(1),
            regions: counters.regions,
            live_bytes: counters.live,
            reserved: header.reserved().into(),
            tail: header.tail().into(),
            live_after: header.live_after(),
            last_write: optional_time(header.last_version()),
            changes: header.changes(),
            heap_base: header.heap_base(),
            oldest_segment: header.checked_oldest().map_or(u64::MAX, u64::from),
            cleaned: cursor.map(|cursor| cursor.addr.into()),
            cleaning_found_damage: cursor.is_some_and(|cursor| cursor.damage),
            pending: pending(header),
            boot: u128::from(boot[0]) << 64 | u128::from(boot[1]),
            inode,
            dirty: header.is_dirty(),
            flushed: header.is_flushed(),
            synced: header.synced_to().into(),
            frozen: header.frozen_to().map(HeapAddress::from),
            sync_failed: header.sync_failed(),
            renames_pending: header.renames_pending(),
            next_region_tag: header.next_region_tag(),
            compacted: optional_time(header.compacted()),
            puts: header.puts(),
            overwrites: header.overwrites(),
            deletes: header.deletes(),
            dropped: header.dropped(),
            writer: Some(header.holder_word() as u32).filter(|&pid| pid != 0),
            settings: header.settings().map(CacheSettings::from_stored),
            counts: CacheCounts::of(header.statistics()),
        }
    }

    /// Returns the change in flight, by an active or a killed writer: "insert", "delete", "replace" (of a
    /// region), "overwrite" (of a record where it is), or "unknown" for an invalid redo record. The next
    /// writer finishes it.
    pub fn pending(&self) -> Option<&'static str> {
        self.pending.map(|pending| match pending {
            PendingChange::Insert => "insert",
            PendingChange::Delete => "delete",
            PendingChange::Replace => "replace",
            PendingChange::Overwrite => "overwrite",
            PendingChange::Unknown => "unknown",
        })
    }

    /// Returns the bytes of the heap up to its end, in all segments.
    pub fn heap_bytes(&self) -> u64 {
        self.heap_base.saturating_add(self.tail.at)
    }

    /// Returns the heap bytes that cleaning can reclaim.
    pub fn dead_bytes(&self) -> u64 {
        self.heap_bytes().saturating_sub(self.live_bytes)
    }
}

fn pending(header: Header<'_>) -> Option<PendingChange> {
    match header.redo() {
        RedoState::Cleared => None,
        RedoState::Corrupt => Some(PendingChange::Unknown),
        RedoState::Committed(Redo::Insert { .. }) => Some(PendingChange::Insert),
        RedoState::Committed(Redo::Delete { .. }) => Some(PendingChange::Delete),
        RedoState::Committed(Redo::Replace { .. }) => Some(PendingChange::Replace),
        RedoState::Committed(Redo::Overwrite { .. }) => Some(PendingChange::Overwrite),
    }
}
