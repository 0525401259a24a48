//! A region of the index, decoded.
//!
//! Knows what a region's header says and what its control bytes add up to; of its slots it knows
//! nothing else.

use crate::engine::Problem;
use crate::error::Corruption;
use crate::format::region::{DirectoryEntry, MAX_INCARNATION, RegionShape, RegionStateWord, word};
use crate::index::region::Region as Generation;

use crate::inspect::source::Source;

/// What a region is, by its stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegionState {
    /// Nothing was ever written here.
    Unused,
    /// It is being filled, or was when its writer was killed; nothing leads to it yet.
    Building,
    /// Its slots count.
    Live,
    /// It waits to be used again.
    Free,
    /// A byte that no version of this crate writes.
    Unknown(u8),
}

/// A region of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Region {
    /// Its number.
    pub number: u32,
    /// Where it begins, in bytes from the file's start.
    pub at: u64,
    /// What it is.
    pub state: RegionState,
    /// Which life of the region this is.
    pub incarnation: u64,
    /// It serves the hashes whose lowest `depth` directory bits are this.
    pub prefix: u32,
    /// Bits of `prefix` that count.
    pub depth: u32,
    /// Entries, as its header says.
    pub occupied: u32,
    /// Slots of deleted entries that are not free yet, as its header says.
    pub deleted: u32,
    /// Entries, by the control bytes.
    pub counted_occupied: u32,
    /// Slots of deleted entries that are not free yet, by the control bytes.
    pub counted_deleted: u32,
    /// Of a free region: the free one behind it.
    pub next_free: Option<u64>,
    /// What is wrong with its header.
    pub doubts: Vec<Problem>,
}

impl RegionState {
    pub(super) fn of(stamp: RegionStateWord) -> Self {
        match (stamp.0 & 0xff) as u8 {
            0 if stamp.0 == 0 => Self::Unused,
            1 => Self::Building,
            2 => Self::Live,
            3 => Self::Free,
            other => Self::Unknown(other),
        }
    }
}

impl Region {
    /// Decodes a region that stands at `at`; `entry` is what the directory has for its prefix.
    pub(super) fn decode(
        generation: Generation<'_>,
        at: u64,
        directory_bits: u32,
        entry: Option<DirectoryEntry>,
        index: &Source,
    ) -> Self {
        let (stamp, shape) = (generation.stamp(), generation.shape());
        let (counts, counted) = (generation.counts(), generation.recount());
        let mut region = Self {
            number: generation.number(),
            at,
            state: RegionState::of(stamp),
            incarnation: stamp.incarnation(),
            prefix: shape.prefix,
            depth: shape.depth,
            occupied: counts.occupied,
            deleted: counts.deleted,
            counted_occupied: counted.occupied,
            counted_deleted: counted.deleted,
            next_free: generation.next_free().checked_sub(1),
            doubts: Vec::new(),
        };
        region.doubt(shape, stamp, directory_bits, entry, index);
        region
    }

    fn doubt(
        &mut self,
        shape: RegionShape,
        stamp: RegionStateWord,
        directory_bits: u32,
        entry: Option<DirectoryEntry>,
        index: &Source,
    ) {
        let is_live = self.state == RegionState::Live;
        let shaped = shape.depth <= directory_bits && shape.holds(shape.prefix);
        let led_to = entry.is_none_or(|entry| {
            entry.region() == self.number && stamp == RegionStateWord::live(entry.incarnation())
        });
        let same = (self.occupied, self.deleted) == (self.counted_occupied, self.counted_deleted);
        let checks = [
            (
                !matches!(self.state, RegionState::Unknown(_)),
                word::STAMP,
                Corruption::RegionState,
            ),
            (
                self.incarnation <= MAX_INCARNATION,
                word::STAMP,
                Corruption::RegionTag,
            ),
            (shaped || !is_live, word::SHAPE, Corruption::RegionPrefix),
            (
                led_to || !is_live || !shaped,
                word::SHAPE,
                Corruption::DirectoryMismatch,
            ),
            (same || !is_live, word::COUNTS, Corruption::RegionCounts),
        ];
        let wrong = checks.into_iter().filter(|(holds, ..)| !holds);
        let at = self.at;
        self.doubts
            .extend(wrong.map(|(_, word, what)| index.fault(at + word as u64 * 8, what)));
    }
}
