//! Directory entries, region headers and control bytes.
//!
//! Knows the packing of words, not how a region is searched or replaced.

/// Bytes before a region's control bytes.
pub(crate) const HEADER_BYTES: usize = 64;

/// Places in a region's header, in words.
pub(crate) mod word {
    pub(crate) const STAMP: usize = 0;
    pub(crate) const SHAPE: usize = 1;
    pub(crate) const COUNTS: usize = 2;
    pub(crate) const NEXT_FREE: usize = 3;
}

// Control bytes start behind the header's words, at a word.
const _: () = assert!(word::NEXT_FREE < HEADER_BYTES / 8 && HEADER_BYTES == 64);

/// A control byte that ends a probe.
pub(crate) const EMPTY: u8 = 0x00;
/// A control byte that a probe passes.
pub(crate) const DELETED: u8 = 0x01;

const REGION_BITS: u32 = 24;
/// Region numbers that a directory entry can name.
pub(crate) const MAX_NUMBERS: u64 = 1 << REGION_BITS;
/// Incarnations use 40 bits: at fifty microseconds for a rebuild they last for 600 days of nothing
/// else.
pub(crate) const MAX_INCARNATION: u64 = (1 << 40) - 1;

/// A directory entry: which region, and which life of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry(pub u64);

impl Entry {
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

/// A region's first word: which life this is, and whether its contents may be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(pub u64);

impl Stamp {
    const BUILDING: u64 = 1;
    const LIVE: u64 = 2;
    const FREE: u64 = 3;

    pub(crate) fn building(incarnation: u64) -> Self {
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

/// Which part of the hash space a region serves: hashes whose low `depth` directory bits are
/// `prefix`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub depth: u32,
    pub prefix: u32,
}

impl Shape {
    pub(crate) fn to_word(self) -> u64 {
        u64::from(self.prefix) | (u64::from(self.depth) << 32)
    }

    pub(crate) fn from_word(word: u64) -> Self {
        Self {
            depth: ((word >> 32) & 0xff) as u32,
            prefix: word as u32,
        }
    }

    /// Whether a directory index, or the directory bits of a hash, belong here.
    pub(crate) fn holds(self, directory_bits: u32) -> bool {
        self.depth <= crate::format::MAX_DIRECTORY_BITS
            && directory_bits & ((1 << self.depth) - 1) == self.prefix
    }
}

/// How many slots of a region are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub occupied: u32,
    pub deleted: u32,
}

impl Counts {
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
