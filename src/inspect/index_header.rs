//! The part of the index header that never changes. Decodes invalid bytes too.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::format::VERSION;
use crate::format::index::IndexHeader as DiskHeader;
use crate::format::seal::{self, HeaderError, SealedHeader as _};

/// The fields of the index header that are written once, when a generation is created.
///
/// If [`checksum_ok`](Self::checksum_ok) is not `Some(true)`, any other field can be wrong.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexHeader {
    /// The first eight bytes of the file.
    pub magic: [u8; 8],
    /// Whether these are the bytes of an index.
    pub magic_ok: bool,
    /// The version of the format.
    pub version: u32,
    /// Whether this crate reads that version.
    pub version_ok: bool,
    /// Whether the checksum matches, even if the magic is wrong; `None` in another version.
    pub checksum_ok: Option<bool>,
    /// The id of the cache, the same in all its files and generations.
    pub cache_id: [u8; 16],
    /// How often the whole cache was replaced, counting from 1.
    pub generation: u64,
    /// The id of the heap of this generation.
    pub heap_id: u64,
    /// The id of the roster of this generation.
    pub roster_id: u64,
    /// The seed of the hash function.
    pub hash_seed: u64,
    /// The hash of a fixed text.
    pub hash_check: u64,
    /// The hash function: 1 is XXH3 with 64 bits.
    pub hash_kind: u32,
    /// Feature flags. Bit 0: the writer lock is a word of the index, not a `flock`. Bit 1: append-only.
    /// Bit 2: a `Cache`. Bit 3: records may be overwritten where they are.
    pub flags: u32,
    /// Whether entries never change: by the flag, or because this is an id cache.
    pub append_only: bool,
    /// Whether records may be overwritten where they are.
    pub in_place: bool,
    /// Slots in a region.
    pub region_slots: u32,
    /// The directory has space for two to this power of entries.
    pub directory_bits: u32,
    /// The layout of heap records: 1 with values, 2 of an id cache.
    pub record_variant: u32,
    /// The largest size of a segment.
    pub max_segment_bytes: u64,
    /// The limit of entries; 0 for none.
    pub max_entries: u64,
    /// When the cache was created.
    pub created: SystemTime,
}

impl fmt::Debug for IndexHeader {
    /// Omits the hash seed: a reader of a log could choose keys that collide.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexHeader")
            .field("version", &self.version)
            .field("checksum_ok", &self.checksum_ok)
            .field("generation", &self.generation)
            .field("flags", &self.flags)
            .field("created", &self.created)
            .finish_non_exhaustive()
    }
}

impl IndexHeader {
    /// Decodes the header at the start of an index.
    pub(super) fn decode(header: &DiskHeader) -> Self {
        Self {
            magic: header.magic,
            magic_ok: header.magic == DiskHeader::MAGIC,
            version: header.version,
            version_ok: header.version == VERSION,
            checksum_ok: checksum_ok(header),
            cache_id: header.cache_id,
            generation: header.generation,
            heap_id: header.heap_id,
            roster_id: header.roster_id,
            hash_seed: header.hash_seed,
            hash_check: header.hash_check,
            hash_kind: header.hash_kind,
            flags: header.flags,
            append_only: header.is_append_only(),
            in_place: header.is_in_place(),
            region_slots: header.region_slots,
            directory_bits: header.directory_bits,
            record_variant: header.record_variant,
            max_segment_bytes: header.max_segment_bytes,
            max_entries: header.max_entries,
            created: time(header.created),
        }
    }
}

/// Returns whether the checksum matches after a correction of the magic. A wrong magic is a problem of
/// its own; the checksum tells whether the rest of the header is valid.
fn checksum_ok(header: &DiskHeader) -> Option<bool> {
    let header = DiskHeader {
        magic: DiskHeader::MAGIC,
        ..*header
    };
    match seal::open::<DiskHeader>(bytemuck::bytes_of(&header)) {
        Ok(_) | Err(HeaderError::Flags(_)) => Some(true),
        Err(HeaderError::Version(_)) => None,
        Err(_) => Some(false),
    }
}

/// Converts a time from the files. Every u64 of nanoseconds fits into a system time.
pub(super) fn time(nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanos)
}
