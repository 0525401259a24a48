//! The roster file: a sealed header, then a packed array of u32.
//!
//! Packs and unpacks positions; independent of the free list's rules.

use bytemuck::{Pod, Zeroable};

use crate::format::seal::SealedHeader;

/// Bytes before the first position.
pub(crate) const HEADER_BYTES: u64 = 64;

/// The sealed header of the roster.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct RosterHeader {
    pub magic: [u8; 8],
    pub version: u32,
    pub crc: u32,
    pub cache_id: [u8; 16],
    pub roster_id: u64,
    pub generation: u64,
    pub reserved: [u8; 16],
}

// Positions start right after the header.
const _: () = assert!(size_of::<RosterHeader>() as u64 == HEADER_BYTES);
const _: () = assert!(HEADER_BYTES == 64);

impl SealedHeader for RosterHeader {
    const MAGIC: [u8; 8] = *b"MMCROSTR";
    const VERSION: u32 = 1;
}

/// The contents of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// The slot number of a live entry.
    Slot(u32),
    /// A free-list entry: the next free position plus one (0: the list ends here).
    Free(u32),
}

impl Position {
    const FREE: u32 = 1 << 31;

    pub(crate) fn to_disk(self) -> u32 {
        match self {
            Self::Slot(slot) => {
                debug_assert!(slot < Self::FREE, "R2: not a free-list entry");
                slot
            }
            Self::Free(next) => next | Self::FREE,
        }
    }

    pub(crate) fn from_disk(value: u32) -> Self {
        if value & Self::FREE == 0 {
            Self::Slot(value)
        } else {
            Self::Free(value & !Self::FREE)
        }
    }
}
