//! The part of the index header that never changes, field by field.
//!
//! Decodes whatever bytes are there; it does not know which of them are plausible.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::format::VERSION;
use crate::format::index::IndexHeader;
use crate::format::seal::{self, HeaderError, SealedHeader as _};

/// The fields of an index header that are written once, when a generation is made.
///
/// Where [`checksum_ok`](Self::checksum_ok) is not `Some(true)`, any of the others can be wrong.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sealed {
    /// The first eight bytes of the file.
    pub magic: [u8; 8],
    /// Whether they are those of an index.
    pub magic_ok: bool,
    /// The version of the format.
    pub version: u32,
    /// Whether this crate reads that version.
    pub version_ok: bool,
    /// Whether the checksum holds, apart from a wrong magic; none in another version, whose rules
    /// are not known here.
    pub checksum_ok: Option<bool>,
    /// The cache that the file belongs to: the same in all of its files and generations.
    pub cache_id: [u8; 16],
    /// How often the whole cache was replaced, counted from 1.
    pub generation: u64,
    /// The heap that belongs to this generation.
    pub heap_id: u64,
    /// The roster that belongs to this generation.
    pub roster_id: u64,
    /// The seed of the hash function.
    pub hash_seed: u64,
    /// What the hash function made of a fixed text.
    pub hash_check: u64,
    /// Which hash function: 1 is XXH3 with 64 bits.
    pub hash_kind: u32,
    /// Feature flags. Bit 0: writers lock the cache by a word of the index, not by `flock`. Bit 1:
    /// append-only.
    pub flags: u32,
    /// Whether what was put stays as it is: by its flag, or because its entries are numbered.
    pub append_only: bool,
    /// Slots in a region.
    pub region_slots: u32,
    /// Bytes of each key that its slot repeats.
    pub inline_key_bytes: u32,
    /// The directory has room for two to this power of entries.
    pub directory_bits: u32,
    /// Which kind of heap records.
    pub record_variant: u32,
    /// The most that one heap segment may hold.
    pub max_segment_bytes: u64,
    /// The most entries that the cache may hold; 0 for no limit.
    pub max_entries: u64,
    /// When the cache was created.
    pub created: SystemTime,
}

impl fmt::Debug for Sealed {
    /// Without the hash seed: who reads it in a log can choose keys that collide.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed")
            .field("version", &self.version)
            .field("checksum_ok", &self.checksum_ok)
            .field("generation", &self.generation)
            .field("flags", &self.flags)
            .field("created", &self.created)
            .finish_non_exhaustive()
    }
}

impl Sealed {
    /// Decodes the header at the start of an index.
    pub(super) fn decode(header: &IndexHeader) -> Self {
        Self {
            magic: header.magic,
            magic_ok: header.magic == IndexHeader::MAGIC,
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
            region_slots: header.region_slots,
            inline_key_bytes: header.inline_key,
            directory_bits: header.directory_bits,
            record_variant: header.record_variant,
            max_segment_bytes: header.max_segment_bytes,
            max_entries: header.max_entries,
            created: moment(header.created),
        }
    }
}

/// Whether the checksum fits. A wrong magic is put right first: it is reported on its own, and what
/// matters then is whether the rest of the header can be believed.
fn checksum_ok(header: &IndexHeader) -> Option<bool> {
    let header = IndexHeader {
        magic: IndexHeader::MAGIC,
        ..*header
    };
    match seal::open::<IndexHeader>(bytemuck::bytes_of(&header)) {
        Ok(_) | Err(HeaderError::Flags(_)) => Some(true),
        Err(HeaderError::Version(_)) => None,
        Err(_) => Some(false),
    }
}

/// A moment as the files store it. All of a u64 of nanoseconds fits into a system time.
pub(super) fn moment(nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanos)
}
