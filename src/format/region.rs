//! Directory entries, region headers and control bytes, as in extendible hashing over Swiss tables.
//!
//! Packs and unpacks words; calls no other module but its parent's constants.

/// Bytes before a region's control bytes.
pub(crate) const HEADER_BYTES: usize = 64;
/// The first region begins at a multiple of this.
pub(crate) const ALIGNMENT: u64 = 64;

/// Positions in a region's header, in words.
pub(crate) mod word {
    pub(crate) const STAMP: usize = 0;
    pub(crate) const SHAPE: usize = 1;
    pub(crate) const COUNTS: usize = 2;
    pub(crate) const NEXT_FREE: usize = 3;
}

// Control bytes start after the header's words, at a word.
const _: () = assert!(word::NEXT_FREE < HEADER_BYTES / 8 && HEADER_BYTES == 64);

/// A control byte that ends a probe.
pub(crate) const EMPTY: u8 = 0x00;
/// A control byte that a probe passes over.
pub(crate) const DELETED: u8 = 0x01;

const REGION_BITS: u32 = 24;
/// Region numbers that a directory entry can name.
pub(crate) const MAX_NUMBERS: u64 = 1 << REGION_BITS;
/// Incarnations use 40 bits: at fifty microseconds for each rebuild of a region, they last for 600
/// days of rebuilds alone.
pub(crate) const MAX_INCARNATION: u64 = (1 << 40) - 1;

/// A directory entry: a region, and the generation tag (the incarnation) that it must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DirectoryEntry(pub u64);

impl DirectoryEntry {
    pub(crate) fn new(region: u32, incarnation: u64) -> Self {
        debug_assert!(region < 1 << REGION_BITS && incarnation <= MAX_INCARNATION);
        Self(u64::from(region) | (incarnation << REGION_BITS))
    }

    #[inline]
    pub(crate) fn region(self) -> u32 {
        (self.0 & ((1 << REGION_BITS) - 1)) as u32
    }

    #[inline]
    pub(crate) fn incarnation(self) -> u64 {
        self.0 >> REGION_BITS
    }
}

/// A region's state word: its generation tag (the incarnation), and whether its contents are valid.
/// No incarnation is used twice, which guards readers against reuse (ABA, S4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RegionStateWord(pub u64);

impl RegionStateWord {
    const BUILDING: u64 = 1;
    const LIVE: u64 = 2;
    const FREE: u64 = 3;

    pub(crate) fn building(incarnation: u64) -> Self {
        debug_assert!(incarnation <= MAX_INCARNATION, "S4: tags have 40 bits");
        Self(incarnation << 8 | Self::BUILDING)
    }

    #[inline]
    pub(crate) fn live(incarnation: u64) -> Self {
        Self(incarnation << 8 | Self::LIVE)
    }

    pub(crate) fn free(incarnation: u64) -> Self {
        Self(incarnation << 8 | Self::FREE)
    }

    pub(crate) fn is_live(self) -> bool {
        self.0 & 0xff == Self::LIVE
    }

    pub(crate) fn incarnation(self) -> u64 {
        self.0 >> 8
    }
}

/// The part of the hash space that a region serves: hashes whose low `depth` directory bits are
/// `prefix`. `depth` is the region's local depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RegionShape {
    pub depth: u32,
    pub prefix: u32,
}

impl RegionShape {
    pub(crate) fn to_word(self) -> u64 {
        u64::from(self.prefix) | (u64::from(self.depth) << 32)
    }

    pub(crate) fn from_word(word: u64) -> Self {
        Self {
            depth: ((word >> 32) & 0xff) as u32,
            prefix: word as u32,
        }
    }

    /// Returns whether a directory index, or the directory bits of a hash, belong here.
    pub(crate) fn holds(self, directory_bits: u32) -> bool {
        self.depth <= crate::format::MAX_DIRECTORY_BITS
            && directory_bits & ((1 << self.depth) - 1) == self.prefix
    }
}

/// The number of slots of a region that are not empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotCounts {
    pub occupied: u32,
    pub deleted: u32,
}

impl SlotCounts {
    pub(crate) fn to_word(self) -> u64 {
        u64::from(self.occupied) | (u64::from(self.deleted) << 32)
    }

    pub(crate) fn from_word(word: u64) -> Self {
        Self {
            occupied: word as u32,
            deleted: (word >> 32) as u32,
        }
    }

    pub(crate) fn taken(self) -> u32 {
        self.occupied.saturating_add(self.deleted)
    }
}
