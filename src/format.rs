//! Every byte on disk: the constants of `docs/format.md`, and pure functions that pack and unpack
//! words.
//!
//! Calls no other module: no file, no mapping, no lock. A test compares each row of the tables in
//! `docs/format.md` with this module.
#![forbid(unsafe_code)]

pub(crate) mod extension;
pub(crate) mod freshness;
pub(crate) mod heap_addr;
pub(crate) mod index;
pub(crate) mod internal;
pub(crate) mod life;
pub(crate) mod lock;
pub(crate) mod record;
pub(crate) mod region;
pub(crate) mod roster;
pub(crate) mod seal;
pub(crate) mod segment;
pub(crate) mod settings;
pub(crate) mod slot;

#[cfg(test)]
mod tests;

use crate::error::Corruption;

/// The version of the format, which is that of the index. Heap and roster are as in version 1.
pub(crate) const VERSION: u32 = 2;
/// Bits of hash that the largest directory uses.
pub(crate) const MAX_DIRECTORY_BITS: u32 = 20;
/// The longest key, in bytes.
pub(crate) const MAX_KEY: usize = 65_535;

/// The hash function of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HashKind {
    /// XXH3, 64 bits, seeded.
    Xxh3,
    /// A few bits of it, so that tests have many collisions.
    #[cfg(any(test, fuzzing))]
    Colliding,
}

impl HashKind {
    pub(crate) fn to_disk(self) -> u32 {
        match self {
            Self::Xxh3 => 1,
            #[cfg(any(test, fuzzing))]
            Self::Colliding => 0xffff,
        }
    }

    pub(crate) fn from_disk(value: u32) -> Option<Self> {
        match value {
            1 => Some(Self::Xxh3),
            #[cfg(any(test, fuzzing))]
            0xffff => Some(Self::Colliding),
            _ => None,
        }
    }
}

/// The kind of lock by which the writers of a cache exclude each other. Fixed at creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockKind {
    /// `flock` on the index, which works on every Unix: two system calls for each lock.
    Flock,
    /// A lock word in the index, taken by one atomic instruction without a system call; byte-range
    /// locks tell whether its owner is alive. The default.
    #[default]
    Word,
}

/// The sizes that determine the layout of the files. Never changes within a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Slots in a region: a power of two.
    pub region_slots: u32,
    /// The directory has room for two to this power of entries.
    pub directory_bits: u32,
    /// The most bytes of a segment, unless it holds a single record.
    pub max_segment_bytes: u64,
    /// Most entries; 0 for no limit.
    pub max_entries: u64,
    /// Whether entries never change. Entries of a numbered cache never do, and do not set this.
    pub append_only: bool,
    /// Whether a record may be overwritten where it is; see `engine::write::in_place`. Only in a
    /// versioned cache that is not append-only.
    pub in_place: bool,
    /// The layout of records, and with them of slots.
    pub variant: record::Variant,
}

impl Geometry {
    pub(crate) const REGION_SLOTS: std::ops::RangeInclusive<u32> = 16..=1024;
    pub(crate) const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 16 * 1024..=16 << 30;

    /// Slots in a region, and bits of the directory, of a cache that begins small: room for some 200
    /// entries. A cache of this shape outgrows it; see [`Self::grown`].
    pub(crate) const SMALL: (u32, u32) = (16, 5);
    /// Slots in a region, unless the caller chooses another number.
    pub(crate) const USUAL_SLOTS: u32 = 512;
    /// Entries for which a small table does.
    const SMALL_ENTRIES: u64 = 128;

    /// Returns the geometry that a table has once it outgrows its small beginning; the same, if it has
    /// no small one.
    pub(crate) fn grown(self) -> Self {
        if (self.region_slots, self.directory_bits) != Self::SMALL {
            return self;
        }
        Self {
            region_slots: Self::USUAL_SLOTS,
            directory_bits: MAX_DIRECTORY_BITS,
            ..self
        }
    }

    /// Returns the geometry of a table with room for so many entries.
    pub(crate) fn for_capacity(self, entries: u64) -> Self {
        match entries <= Self::SMALL_ENTRIES {
            true => self,
            false => self.grown(),
        }
    }

    /// Returns the name of an invalid number. `None` if all are valid.
    pub(crate) fn fault(&self) -> Option<Corruption> {
        if !Self::REGION_SLOTS.contains(&self.region_slots) || !self.region_slots.is_power_of_two()
        {
            return Some(Corruption::RegionSlots);
        }
        if self.directory_bits > MAX_DIRECTORY_BITS {
            return Some(Corruption::DirectoryBits);
        }
        if !Self::SEGMENT_BYTES.contains(&self.max_segment_bytes) {
            return Some(Corruption::MaxSegmentBytes);
        }
        // A release that writes them in place must know how their entries end.
        if self.in_place && (self.append_only || self.variant != record::Variant::Versioned) {
            return Some(Corruption::RecordVariant);
        }
        None
    }

    /// Returns whether entries have a life: those of a `Cache`.
    #[inline]
    pub(crate) fn is_cache(&self) -> bool {
        self.variant == record::Variant::Expiring
    }

    /// Returns whether entries never change.
    pub(crate) fn is_append_only(&self) -> bool {
        self.append_only || self.variant == record::Variant::Numbered
    }

    /// Returns the bytes that the directory may grow to.
    pub(crate) fn directory_bytes(&self) -> u64 {
        8 << self.directory_bits
    }

    /// Returns the offset of the first region in the index file.
    pub(crate) fn regions_at(&self) -> u64 {
        (index::PAGE + self.directory_bytes()).next_multiple_of(region::ALIGNMENT)
    }

    /// Returns the bytes of a slot.
    pub(crate) fn slot_bytes(&self) -> usize {
        slot::LINK_BYTES + self.body_bytes()
    }

    /// Returns the bytes of a slot's body: all of the slot but the link.
    pub(crate) fn body_bytes(&self) -> usize {
        match self.variant {
            record::Variant::Versioned | record::Variant::Numbered => slot::BODY_BYTES,
            record::Variant::Expiring => slot::EXPIRING_BODY_BYTES,
        }
    }

    /// Returns the bytes of a region's access marks, which only a `Cache` has.
    pub(crate) fn mark_bytes(&self) -> usize {
        match self.is_cache() {
            true => self.region_slots as usize,
            false => 0,
        }
    }

    /// Returns the bytes of a region: header, control bytes, access marks, links, bodies.
    pub(crate) fn region_bytes(&self) -> usize {
        let slots = self.region_slots as usize;
        region::HEADER_BYTES + slots + self.mark_bytes() + slots * self.slot_bytes()
    }

    /// Returns whether a region must be rebuilt before it takes another entry: if seven eighths of its
    /// slots are occupied or deleted, or if more than an eighth are deleted. Without the second rule,
    /// searches for absent keys probed 3.4 groups under churn, instead of 1.2; with it, 1.6.
    pub(crate) fn is_crowded(&self, counts: region::SlotCounts) -> bool {
        counts.taken() >= self.region_slots / 8 * 7 || counts.deleted > self.region_slots / 8
    }

    /// Returns the limit of region numbers, so that every slot has a number below 2^31.
    pub(crate) fn max_regions(&self) -> u64 {
        ((1_u64 << 31) / u64::from(self.region_slots)).min(region::MAX_NUMBERS)
    }
}
