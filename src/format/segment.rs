//! The header of a heap segment: enough to rebuild a lost index.
//!
//! May call `format` only; independent of the records after it.

use bytemuck::{Pod, Zeroable};

use crate::format::heap_addr::HeapAddr;
use crate::format::index::{APPEND_ONLY, EXPIRING, IN_PLACE, IndexHeader};
use crate::format::record::Variant;
use crate::format::seal::SealedHeader;
use crate::format::{Geometry, HashKind};

/// Bytes before the first record.
pub(crate) const HEADER_BYTES: u64 = 128;
/// The highest segment number of one heap id.
pub(crate) const LAST_NUMBER: u32 = if cfg!(test) { 600 } else { 65_535 };

/// The sealed header of a segment.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct SegmentHeader {
    pub magic: [u8; 8],
    pub version: u32,
    pub crc: u32,
    pub cache_id: [u8; 16],
    pub heap_id: u64,
    pub capacity: u64,
    pub number: u32,
    pub flags: u32,
    pub hash_seed: u64,
    pub hash_check: u64,
    pub hash_kind: u32,
    pub region_slots: u32,
    /// Bytes of each key that an index of format 1 repeated; not used any more.
    pub inline_key: u32,
    pub directory_bits: u32,
    pub record_variant: u32,
    pub reserved_a: u32,
    pub max_segment_bytes: u64,
    pub max_entries: u64,
    pub created: u64,
}

// Records start on a cache line, and no part of the header may reach into it.
const _: () = assert!(size_of::<SegmentHeader>() == 120);
const _: () = assert!(size_of::<SegmentHeader>() as u64 <= HEADER_BYTES);
const _: () = assert!(HEADER_BYTES == 128);

impl SealedHeader for SegmentHeader {
    const MAGIC: [u8; 8] = *b"MMCHEAP\0";
    const VERSION: u32 = 1;

    fn unknown_flags(&self) -> u32 {
        self.flags & !(APPEND_ONLY | EXPIRING | IN_PLACE)
    }
}

impl SegmentHeader {
    /// Returns the geometry of the index beside which the segment was created. `None` if it is
    /// invalid.
    pub(crate) fn geometry(&self) -> Option<Geometry> {
        let geometry = Geometry {
            region_slots: self.region_slots,
            directory_bits: self.directory_bits,
            max_segment_bytes: self.max_segment_bytes,
            max_entries: self.max_entries,
            append_only: self.flags & APPEND_ONLY != 0,
            in_place: self.flags & IN_PLACE != 0,
            variant: Variant::from_disk(self.record_variant)?,
        };
        let agrees = Self::flags_for(&geometry) == self.flags;
        (agrees && geometry.fault().is_none()).then_some(geometry)
    }

    /// Returns the flags of a segment that is created beside an index of this geometry.
    pub(crate) fn flags_for(geometry: &Geometry) -> u32 {
        IndexHeader::entry_flags(geometry)
    }

    /// Returns whether records of the segment may be overwritten where they are.
    pub(crate) fn is_in_place(&self) -> bool {
        self.flags & IN_PLACE != 0
    }

    /// Returns the hash kind. `None` if this crate does not have it.
    pub(crate) fn hash_kind(&self) -> Option<HashKind> {
        HashKind::from_disk(self.hash_kind)
    }
}

/// Returns the address of the first record of a segment.
pub(crate) fn first_place(segment: u16) -> HeapAddr {
    HeapAddr {
        segment,
        unit: (HEADER_BYTES / 8) as u32,
    }
}
