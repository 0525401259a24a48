//! Where each field is stored in the files: a reading of `docs/format.md`, for undamaged files
//! only.
//!
//! Checks no checksum and maps nothing. The bytes must be the engine's own.

use std::ops::Range;

use super::image::{Image, segment_number};

pub(crate) const PAGE: usize = 4096;
/// First record of a segment.
pub(crate) const FIRST_RECORD: usize = 128;
/// First entry of a roster.
pub(crate) const FIRST_POSITION: usize = 64;
/// Bytes of a record before its key.
pub(crate) const RECORD_HEADER: usize = 24;

/// Offsets in the index header.
pub(crate) mod header {
    pub(crate) const VERSION: usize = 8;
    pub(crate) const CRC: usize = 12;
    pub(crate) const CACHE_ID: usize = 16;
    pub(crate) const GENERATION: usize = 32;
    pub(crate) const HEAP_ID: usize = 40;
    pub(crate) const ROSTER_ID: usize = 48;
    pub(crate) const SEGMENT_FLAGS: usize = 52;
    /// At this offset in the index and in a segment.
    pub(crate) const HASH_SEED: usize = 56;
    pub(crate) const HASH_CHECK: usize = 64;
    pub(crate) const FLAGS: usize = 76;
    pub(crate) const APPEND_ONLY: u32 = 2;
    pub(crate) const REGION_SLOTS: usize = 80;
    pub(crate) const DIRECTORY_BITS: usize = 88;
    pub(crate) const MAX_SEGMENT_BYTES: usize = 96;
    pub(crate) const MAX_ENTRIES: usize = 104;
    pub(crate) const POLL: usize = 128;
    pub(crate) const COUNTERS: usize = 192;
    pub(crate) const HOLE_HEAD: usize = 216;
    pub(crate) const ROSTER_LEN: usize = 224;
    pub(crate) const FREE_REGION: usize = 232;
    pub(crate) const REGIONS: usize = 240;
    pub(crate) const RESERVED: usize = 256;
    pub(crate) const TAIL: usize = 264;
    pub(crate) const OLDEST: usize = 528;
    pub(crate) const CURSOR: usize = 536;
    pub(crate) const INTENT: usize = 320;
    pub(crate) const INTENT_BODY: usize = 328;
    pub(crate) const INTENT_COUNTERS: usize = 384;
    pub(crate) const INODE: usize = 464;
    pub(crate) const DEVICE: usize = 560;
    pub(crate) const DIRTY: usize = 472;
    pub(crate) const SYNC_ERROR: usize = 488;
    pub(crate) const SYNCED: usize = 552;
    pub(crate) const HOLDER: usize = 576;
    pub(crate) const VISITED: usize = 608;
    pub(crate) const BORN: usize = 616;
    /// The end of the last word that has a meaning.
    pub(crate) const END: usize = 632;
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

pub(crate) fn set_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn set_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Packs a place of the heap into a word.
pub(crate) fn place(segment: u16, at: usize) -> u64 {
    (u64::from(segment) << 32) | (at as u64 / 8)
}

/// Bytes of a slot's body.
pub(crate) const BODY: usize = 8;

/// What determines the layout of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) slots: usize,
    pub(crate) directory_bits: u32,
}

impl Geometry {
    pub(crate) fn of(index: &[u8]) -> Self {
        Self {
            slots: u32_at(index, header::REGION_SLOTS) as usize,
            directory_bits: u32_at(index, header::DIRECTORY_BITS),
        }
    }

    pub(crate) fn regions_at(&self) -> usize {
        (PAGE + (8 << self.directory_bits)).next_multiple_of(64)
    }

    pub(crate) fn region_bytes(&self) -> usize {
        64 + self.slots * (9 + BODY)
    }

    pub(crate) fn region(&self, number: usize) -> Range<usize> {
        let at = self.regions_at() + number * self.region_bytes();
        at..at + self.region_bytes()
    }
}

/// A slot of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) region: usize,
    pub(crate) index: usize,
    pub(crate) control: u8,
    pub(crate) link: u64,
    pub(crate) position: u32,
    /// Offsets of link and body in the index file.
    pub(crate) link_at: usize,
    pub(crate) body_at: usize,
}

impl Slot {
    pub(crate) fn is_entry(&self) -> bool {
        self.link as u32 > 1
    }

    /// Returns segment and offset of the record that the slot links to.
    pub(crate) fn record(&self) -> (u16, usize) {
        ((self.link >> 32) as u16, self.link as u32 as usize * 8)
    }
}

pub(crate) fn depth(index: &[u8]) -> u32 {
    u32::from(index[header::POLL])
}

/// Returns the region that a directory entry leads to.
pub(crate) fn directory(index: &[u8], entry: usize) -> usize {
    (u64_at(index, PAGE + 8 * entry) & 0xff_ffff) as usize
}

/// Returns all slots of the regions that the directory leads to.
pub(crate) fn slots(index: &[u8]) -> Vec<Slot> {
    let geometry = Geometry::of(index);
    let mut regions: Vec<_> = (0..1 << depth(index))
        .map(|i| directory(index, i))
        .collect();
    regions.sort_unstable();
    regions.dedup();
    let mut found = Vec::new();
    for region in regions {
        let at = geometry.region(region).start;
        for slot in 0..geometry.slots {
            let link_at = at + 64 + geometry.slots + 8 * slot;
            let bodies = at + 64 + 9 * geometry.slots;
            let body_at = bodies + slot * BODY;
            found.push(Slot {
                region,
                index: slot,
                control: index[at + 64 + slot],
                link: u64_at(index, link_at),
                position: u32_at(index, body_at),
                link_at,
                body_at,
            });
        }
    }
    found
}

/// A record and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) segment: u16,
    pub(crate) at: usize,
    pub(crate) mtime: u64,
    pub(crate) is_deletion: bool,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

impl Record {
    /// Returns the range of the record, its checksum included.
    pub(crate) fn range(&self) -> Range<usize> {
        self.at..self.at + RECORD_HEADER + self.key.len() + self.value.len()
    }

    /// Parses the bytes at an offset without a check; `None` if they cannot be a record that ends
    /// within the file.
    pub(crate) fn parse(bytes: &[u8], segment: u16, at: usize) -> Option<Self> {
        let fixed = bytes.get(at..at + RECORD_HEADER)?;
        let (key_len, value_len) = (usize::from(u16_at(fixed, 20)), u32_at(fixed, 4) as usize);
        let kind = fixed[22];
        let unused = u32_at(fixed, 16) == 0 && fixed[23] == 0;
        if key_len == 0 || !unused || !(kind == 1 || kind == 2) {
            return None;
        }
        let key_at = at + RECORD_HEADER;
        Some(Self {
            segment,
            at,
            mtime: u64_at(fixed, 8),
            is_deletion: kind == 2,
            key: bytes.get(key_at..key_at + key_len)?.to_vec(),
            value: bytes
                .get(key_at + key_len..key_at + key_len + value_len)?
                .to_vec(),
        })
    }
}

/// Returns all records of an undamaged heap in their order, dead ones included.
pub(crate) fn records(image: &Image) -> Vec<Record> {
    let mut found = Vec::new();
    for (suffix, bytes) in image.files() {
        let Some(number) = segment_number(suffix) else {
            continue;
        };
        let mut at = FIRST_RECORD;
        while let Some(record) = Record::parse(bytes, number, at) {
            at = record.range().end.next_multiple_of(8);
            found.push(record);
        }
        assert!(
            bytes[at.min(bytes.len())..].iter().all(|&byte| byte == 0),
            "{suffix} at {at}"
        );
    }
    found.sort_by_key(|record| (record.segment, record.at));
    found
}
