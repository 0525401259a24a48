//! The header of a heap segment: enough to rebuild a lost index.
//!
//! Knows nothing of the records behind it.

use bytemuck::{Pod, Zeroable};

use crate::format::index::APPEND_ONLY;
use crate::format::record::Variant;
use crate::format::seal::Sealed;
use crate::format::slot::Place;
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
    pub inline_key: u32,
    pub directory_bits: u32,
    pub record_variant: u32,
    pub reserved_a: u32,
    pub max_segment_bytes: u64,
    pub max_entries: u64,
    pub created: u64,
}

// Records start on a cache line, and nothing of the header may reach into the first of them.
const _: () = assert!(size_of::<SegmentHeader>() == 120);
const _: () = assert!(size_of::<SegmentHeader>() as u64 <= HEADER_BYTES);
const _: () = assert!(HEADER_BYTES == 128);

impl Sealed for SegmentHeader {
    const MAGIC: [u8; 8] = *b"MMCHEAP\0";

    fn unknown_flags(&self) -> u32 {
        self.flags & !APPEND_ONLY
    }
}

impl SegmentHeader {
    /// The geometry of the index beside which the segment was made, if its numbers can be true.
    pub(crate) fn geometry(&self) -> Option<Geometry> {
        let geometry = Geometry {
            region_slots: self.region_slots,
            inline_key: self.inline_key,
            directory_bits: self.directory_bits,
            max_segment_bytes: self.max_segment_bytes,
            max_entries: self.max_entries,
            append_only: self.flags & APPEND_ONLY != 0,
            variant: Variant::from_disk(self.record_variant)?,
        };
        geometry.fault().is_none().then_some(geometry)
    }

    /// The flags of a segment that is made beside an index of this geometry.
    pub(crate) fn flags_for(geometry: &Geometry) -> u32 {
        if geometry.append_only { APPEND_ONLY } else { 0 }
    }

    /// The hash kind, if this crate knows it.
    pub(crate) fn hash_kind(&self) -> Option<HashKind> {
        HashKind::from_disk(self.hash_kind)
    }
}

/// Where the first record of a segment stands.
pub(crate) fn first_place(segment: u16) -> Place {
    Place {
        segment,
        unit: (HEADER_BYTES / 8) as u32,
    }
}
