//! The index file's first page: its sealed header, then the words that writers change.
//!
//! Positions and packing of the words; independent of the order in which writers store them. May
//! call `format` only.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use crate::error::Corruption;
use crate::format::record::Variant;
use crate::format::seal::SealedHeader;
use crate::format::{Geometry, HashKind, LockKind};

/// Bytes of slot 0, the header page.
pub(crate) const PAGE: u64 = 4096;

/// The flag of [`LockKind::Word`].
const LOCKED_BY_WORD: u32 = 1;
/// The flag of a cache whose entries never change; its segments have it too.
pub(super) const APPEND_ONLY: u32 = 2;
/// Entries have deadlines: an older release would return expired ones.
pub(crate) const EXPIRING: u32 = 4;
/// Records may be overwritten where they are: an older release would take one that is being written for
/// damage. The segments have it too.
pub(super) const IN_PLACE: u32 = 8;
/// All flags that this crate has.
const FLAGS: u32 = LOCKED_BY_WORD | APPEND_ONLY | EXPIRING | IN_PLACE;

/// The part of the header page that never changes within a generation.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct IndexHeader {
    pub magic: [u8; 8],
    pub version: u32,
    pub crc: u32,
    pub cache_id: [u8; 16],
    pub generation: u64,
    pub heap_id: u64,
    pub roster_id: u64,
    pub hash_seed: u64,
    pub hash_check: u64,
    pub hash_kind: u32,
    pub flags: u32,
    pub region_slots: u32,
    pub reserved_a: u32,
    pub directory_bits: u32,
    pub record_variant: u32,
    pub max_segment_bytes: u64,
    pub max_entries: u64,
    pub created: u64,
    pub reserved: u64,
}

// Whole words up to the state word, which starts a cache line of its own.
const _: () = assert!(size_of::<IndexHeader>() == word::POLL * 8);

impl SealedHeader for IndexHeader {
    const MAGIC: [u8; 8] = *b"MMCINDEX";
    const VERSION: u32 = crate::format::VERSION;

    fn unknown_flags(&self) -> u32 {
        self.flags & !FLAGS
    }
}

impl IndexHeader {
    /// Returns the geometry, or the name of an invalid number.
    pub(crate) fn geometry(&self) -> Result<Geometry, Corruption> {
        let geometry = Geometry {
            region_slots: self.region_slots,
            directory_bits: self.directory_bits,
            max_segment_bytes: self.max_segment_bytes,
            max_entries: self.max_entries,
            append_only: self.flags & APPEND_ONLY != 0,
            in_place: self.flags & IN_PLACE != 0,
            variant: Variant::from_disk(self.record_variant).ok_or(Corruption::RecordVariant)?,
        };
        if Self::entry_flags(&geometry) != self.flags & (APPEND_ONLY | EXPIRING | IN_PLACE) {
            return Err(Corruption::RecordVariant);
        }
        match geometry.fault() {
            Some(what) => Err(what),
            None => Ok(geometry),
        }
    }

    /// Returns the offset of the field that [`geometry`](Self::geometry) refuses, in bytes.
    pub(crate) fn place_of(what: Corruption) -> usize {
        match what {
            Corruption::DirectoryBits => offset_of!(Self, directory_bits),
            Corruption::MaxSegmentBytes => offset_of!(Self, max_segment_bytes),
            Corruption::RecordVariant => offset_of!(Self, record_variant),
            _ => offset_of!(Self, region_slots),
        }
    }

    /// Returns whether entries never change, even if the geometry is invalid.
    #[cfg(feature = "inspect")]
    pub(crate) fn is_append_only(&self) -> bool {
        let numbered = self.record_variant == Variant::Numbered.to_disk();
        numbered || self.flags & APPEND_ONLY != 0
    }

    /// Returns whether records may be overwritten where they are, even if the geometry is invalid.
    #[cfg(feature = "inspect")]
    pub(crate) fn is_in_place(&self) -> bool {
        self.flags & IN_PLACE != 0
    }

    pub(crate) fn lock_kind(&self) -> LockKind {
        if self.flags & LOCKED_BY_WORD == 0 {
            LockKind::Flock
        } else {
            LockKind::Word
        }
    }

    /// Returns the flags of a cache with this kind of lock and this geometry.
    pub(crate) fn flags_for(kind: LockKind, geometry: &Geometry) -> u32 {
        let lock = match kind {
            LockKind::Flock => 0,
            LockKind::Word => LOCKED_BY_WORD,
        };
        lock | Self::entry_flags(geometry)
    }

    /// Returns the flags that say what may become of entries; index and segments have the same.
    pub(super) fn entry_flags(geometry: &Geometry) -> u32 {
        let append_only = if geometry.append_only { APPEND_ONLY } else { 0 };
        let in_place = if geometry.in_place { IN_PLACE } else { 0 };
        let expiring = match geometry.variant {
            Variant::Expiring => EXPIRING,
            Variant::Versioned | Variant::Numbered => 0,
        };
        append_only | expiring | in_place
    }

    /// Returns the hash kind. `None` if this crate does not have it.
    pub(crate) fn hash_kind(&self) -> Option<HashKind> {
        HashKind::from_disk(self.hash_kind)
    }
}

/// Words that have changed places since format 1.
const SWAPPED_IN_2: [(usize, usize); 3] = [
    (word::PUTS, word::HEAP_BASE),
    (word::OVERWRITES, word::OLDEST),
    (word::DELETES, word::CURSOR),
];

/// Puts the words of a header page of format 1 where format 2 has them.
pub(crate) fn rearrange_from_1<T>(page: &mut [T]) {
    for (one, other) in SWAPPED_IN_2 {
        page.swap(one, other);
    }
}

/// Positions of the changing words, counted in words from the start of the page.
pub(crate) mod word {
    /// The state word: the directory's global depth and the superseded mark. Every reader polls it.
    pub(crate) const POLL: usize = 16;
    /// Where the heap is stored, and which of its segments must be there.
    pub(crate) const HEAP_HOME: usize = 17;
    /// The segment numbers of the heap that this generation replaced: the first, and one past the
    /// last. An end of 0 means unknown.
    pub(crate) const REPLACED_FIRST: usize = 18;
    pub(crate) const REPLACED_END: usize = 19;
    /// The eight words of [`crate::format::Counters`].
    pub(crate) const COUNTERS: usize = 24;
    pub(crate) const OCCUPIED: usize = COUNTERS;
    pub(crate) const DELETED: usize = COUNTERS + 1;
    pub(crate) const ROSTER_LEN: usize = COUNTERS + 4;
    pub(crate) const REGIONS: usize = COUNTERS + 6;
    pub(crate) const LIVE: usize = COUNTERS + 7;
    pub(crate) const RESERVED: usize = 32;
    pub(crate) const TAIL: usize = 33;
    pub(crate) const LIVE_AFTER: usize = 34;
    pub(crate) const LAST_MTIME: usize = 35;
    pub(crate) const CHANGES: usize = 36;
    /// Beside the words that each overwrite stores, so that writers that take turns move one line of
    /// the cache between their processors.
    pub(crate) const PUTS: usize = 37;
    pub(crate) const OVERWRITES: usize = 38;
    pub(crate) const DELETES: usize = 39;
    /// The kind of the committed redo record; 0 if there is none.
    pub(crate) const INTENT: usize = 40;
    /// The body of the redo record.
    pub(crate) const INTENT_BODY: usize = 41;
    /// See [`crate::format::heap_addr::Replaced`].
    pub(crate) const REPLACED: usize = 44;
    /// The removals of all segments below this number are synced.
    pub(crate) const REMOVALS_SYNCED: usize = 45;
    /// The counters after the redo.
    pub(crate) const INTENT_COUNTERS: usize = 48;
    pub(crate) const BOOT_ID: usize = 56;
    pub(crate) const INODE: usize = 58;
    pub(crate) const DIRTY: usize = 59;
    pub(crate) const FLUSHED: usize = 60;
    pub(crate) const SYNC_ERROR: usize = 61;
    pub(crate) const RENAMES_PENDING: usize = 62;
    pub(crate) const INCARNATION: usize = 63;
    pub(crate) const COMPACTED: usize = 64;
    pub(crate) const HEAP_BASE: usize = 65;
    pub(crate) const OLDEST: usize = 66;
    pub(crate) const CURSOR: usize = 67;
    pub(crate) const DROPPED: usize = 68;
    pub(crate) const SYNCED: usize = 69;
    pub(crate) const DEVICE: usize = 70;
    pub(crate) const HOLDER: usize = 72;
    /// The lock word.
    pub(crate) const LOCK: usize = 73;
    /// The process that waits for a `flock`.
    pub(crate) const WAITING: usize = 74;
    /// The writer-at-work word: the owner inside the critical section of the lock word.
    pub(crate) const INSIDE: usize = 75;
    /// When a writer last held the lock, by the clock of file systems.
    pub(crate) const VISITED: usize = 76;
    /// When the index file was created, according to its file system.
    pub(crate) const BORN: usize = 77;
    /// How often index and roster were rebuilt from the heap.
    pub(crate) const RECOVERIES: usize = 78;
    /// No record before this place is overwritten where it is. As a
    /// [`CleanCursor`](crate::format::heap_addr::CleanCursor), for its check.
    pub(crate) const FROZEN: usize = 79;
    /// The eight words of [`crate::format::settings::Settings`].
    pub(crate) const SETTINGS: usize = 128;
    /// The same again, stored first: complete while the others change.
    pub(crate) const SETTINGS_COPY: usize = 144;
    /// Grows when a group of entries is invalidated.
    pub(crate) const INVALIDATIONS: usize = 136;
    /// [`NO_DEADLINES`](super::NO_DEADLINES) while no deadline is stored apart from its entry.
    pub(crate) const DEADLINES: usize = 137;
    /// Entries with a version up to this may have lost what limits them.
    pub(crate) const TRUSTED_FROM: usize = 138;
    /// Where the next write looks for expired entries: a slot number.
    pub(crate) const SWEEP: usize = 139;
    /// The last segment of which an entry was removed without a deletion record, plus one.
    pub(crate) const EVICTED: usize = 140;
    /// From this place on, records lie in the heap in the order in which they were written. As a
    /// [`CleanCursor`](crate::format::heap_addr::CleanCursor), for its check.
    pub(crate) const ORDERED_FROM: usize = 141;
    /// Shards of [`STATISTICS`](super::STATISTICS) counters.
    pub(crate) const SHARDS: usize = 160;
    /// [`REDO_COPY_WORDS`](super::REDO_COPY_WORDS) words: the record that an overwrite in place stores.
    pub(crate) const REDO_COPY: usize = 416;
}

/// Shards of the counters of a `Cache`, and words of each.
pub(crate) const SHARDS: usize = 16;
pub(crate) const SHARD_WORDS: usize = 16;
/// The counters of a shard, in their order, without the unused words at its end.
pub(crate) const STATISTICS: usize = 11;
/// The value of [`word::DEADLINES`] that spares lookups of long values a second one. Any other means
/// that they make it, so damage costs time only.
pub(crate) const NO_DEADLINES: u64 = 0x6f6e_6c79_5f6f_776e;

/// Words of the longest record that can be overwritten in place.
pub(crate) const REDO_COPY_WORDS: usize = 96;

const _: () = assert!(word::SHARDS + SHARDS * SHARD_WORDS <= word::REDO_COPY);
const _: () = assert!((word::REDO_COPY + REDO_COPY_WORDS) * 8 == PAGE as usize);

/// Where the heap is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeapLocation {
    /// Not stored, by an older release.
    Unknown,
    /// At the default path, next to the index.
    NextToIndex,
    /// At another path, which the files do not name.
    Elsewhere,
}

/// The word `heap_home`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeapHome {
    pub home: HeapLocation,
    /// From this segment on, none is missing unless it was cleaned. A recovery may have left out
    /// segments before it.
    pub whole_from: u16,
}

impl HeapHome {
    pub(crate) fn from_word(word: u64) -> Self {
        Self {
            home: match word & 0xff {
                1 => HeapLocation::NextToIndex,
                2 => HeapLocation::Elsewhere,
                _ => HeapLocation::Unknown,
            },
            whole_from: (word >> 32) as u16,
        }
    }

    pub(crate) fn to_word(self) -> u64 {
        let home = match self.home {
            HeapLocation::Unknown => 0,
            HeapLocation::NextToIndex => 1,
            HeapLocation::Elsewhere => 2,
        };
        home | (u64::from(self.whole_from) << 32)
    }
}

/// The state word of the header: the low byte is the directory's global depth, the top bit the
/// superseded mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeaderStateWord(pub u64);

impl HeaderStateWord {
    const SUPERSEDED: u64 = 1 << 63;

    pub(crate) fn at_depth(depth: u32) -> Self {
        debug_assert!(depth <= crate::format::MAX_DIRECTORY_BITS);
        Self(u64::from(depth))
    }

    #[inline]
    pub(crate) fn depth(self) -> u32 {
        (self.0 & 0xff) as u32
    }

    #[inline]
    pub(crate) fn superseded(self) -> bool {
        self.0 & Self::SUPERSEDED != 0
    }

    pub(crate) fn with_superseded(self, mark: bool) -> Self {
        Self(if mark {
            self.0 | Self::SUPERSEDED
        } else {
            self.0 & !Self::SUPERSEDED
        })
    }
}

/// The counters that change together with an entry or a region, as one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Live entries.
    pub occupied: u64,
    /// Slots of deleted entries, which probes pass over and which are not free.
    pub deleted: u64,
    /// The highest slot number ever used, plus one.
    pub high_water: u64,
    /// The first free-list entry of the roster, plus one; 0 if the list is empty.
    pub hole_head: u64,
    /// Roster positions ever used.
    pub roster_len: u64,
    /// The first free region, plus one; 0 if there is none.
    pub free_region: u64,
    /// Regions that the file holds, including free ones.
    pub regions: u64,
    /// Heap bytes of live records.
    pub live: u64,
}

impl Counters {
    pub(crate) fn to_words(self) -> [u64; 8] {
        [
            self.occupied,
            self.deleted,
            self.high_water,
            self.hole_head,
            self.roster_len,
            self.free_region,
            self.regions,
            self.live,
        ]
    }

    pub(crate) fn from_words(words: [u64; 8]) -> Self {
        let [
            occupied,
            deleted,
            high_water,
            hole_head,
            roster_len,
            free_region,
            regions,
            live,
        ] = words;
        Self {
            occupied,
            deleted,
            high_water,
            hole_head,
            roster_len,
            free_region,
            regions,
            live,
        }
    }
}
