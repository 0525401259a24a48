//! Decodes a slot of the index, whether it is valid or not.

use crate::engine::Problem;
use crate::error::Corruption;
use crate::format::Geometry;
use crate::format::record::Variant;
use crate::format::region::{DELETED, EMPTY, HEADER_BYTES};
use crate::format::slot::Link;
use crate::hash::{Hash, Hasher};
use crate::index::region::Region as IndexRegion;

use crate::inspect::file_reader::FileReader;
use crate::inspect::index_state::HeapAddress;
use crate::inspect::record::Record;
use crate::inspect::region_state::RegionState;

/// The state of a slot, by its control byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlotState {
    Empty,
    Deleted,
    Full,
    Unknown,
}

/// The contents of a roster position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RosterEntry {
    /// The number of a slot.
    Slot(u32),
    /// Part of the free list.
    Free,
}

/// A slot of the index.
///
/// If it has no entry, its other fields are those of an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Slot {
    /// The number in the index.
    pub number: u32,
    /// The number of its region.
    pub region: u32,
    /// The number in its region.
    pub index: u32,
    pub(super) region_state: RegionState,
    /// The offset of the control byte in the file.
    pub control_at: u64,
    /// The offset of the link in the file.
    pub link_at: u64,
    /// The offset of the body in the file.
    pub body_at: u64,
    pub(super) state: SlotState,
    /// The control byte.
    pub control: u8,
    /// The link as stored.
    pub link: u64,
    /// The address of the linked record; `None` without a link.
    pub address: Option<HeapAddress>,
    /// The roster position of the entry.
    pub position: u32,
    /// `None` if the position cannot be read.
    pub(super) roster: Option<RosterEntry>,
    /// The size of the record in units of 8 bytes, 65,535 if it is larger.
    pub units: u16,
    /// Bits 0 to 15 of the hash of the key.
    pub stored_hash: u16,
    /// Bits 42 to 56 of the hash of the key, from the link.
    pub tag: u16,
    /// The 20 bits of the hash that select the region.
    pub directory_bits: u32,
    /// In a [`Cache`](crate::Cache), the deadline in milliseconds since the Unix epoch, by which the
    /// search for expired entries goes: the record decides. `None` if there is none.
    pub deadline_ms: Option<u64>,
    /// The number of groups of eight slots that a search probes until it finds the entry, at least 1.
    /// `None` without an entry, or if a search does not find it.
    pub probe: Option<u32>,
    /// The problems. An active or killed writer can cause some of them.
    pub problems: Vec<Problem>,
    numbered: bool,
    hasher: Option<Hasher>,
}

/// Everything outside the region that is needed to check a slot.
#[derive(Debug)]
pub(super) struct SlotContext<'a> {
    pub(super) geometry: &'a Geometry,
    pub(super) index: &'a FileReader,
    pub(super) hasher: Option<Hasher>,
    /// The offset of the region.
    pub(super) region_at: u64,
    /// Roster positions ever used, if known.
    pub(super) roster_len: Option<u64>,
    /// The contents of the roster position of the slot.
    pub(super) roster: Option<RosterEntry>,
    /// The length of the linked segment; `None` if it does not exist.
    pub(super) segment_len: Option<u64>,
}

/// Returns the number of groups from the home group of a hash to a slot, both included.
pub(super) fn distance(geometry: &Geometry, hash: Hash, index: u32) -> u32 {
    let groups = geometry.region_slots / 8;
    debug_assert!(groups.is_power_of_two() && index / 8 < groups);
    let home = hash.group() as u32 & (groups - 1);
    (index / 8 + groups - home) % groups + 1
}

/// Returns whether a search for a hash reaches a slot.
pub(super) fn is_reached(region: IndexRegion<'_>, hash: Hash, index: u32) -> bool {
    region.probe(hash).any(|(found, ..)| found == index)
}

impl Slot {
    /// Decodes a slot by its number in a region.
    pub(super) fn decode(region: IndexRegion<'_>, index: u32, context: &SlotContext<'_>) -> Self {
        let geometry = context.geometry;
        let (slot, control) = (region.slot(index), region.control(index));
        let (link, identity) = (slot.link(), slot.identity());
        let hash = slot.hash(link, control);
        let [control_at, link_at, body_at] = offsets(geometry, index);
        let state = match control {
            EMPTY => SlotState::Empty,
            DELETED => SlotState::Deleted,
            0x80.. => SlotState::Full,
            _ => SlotState::Unknown,
        };
        let found = state == SlotState::Full && link.is_entry() && is_reached(region, hash, index);
        let mut decoded = Self {
            number: region.number() * geometry.region_slots + index,
            region: region.number(),
            index,
            region_state: RegionState::new(region.stamp()),
            control_at: context.region_at + control_at,
            link_at: context.region_at + link_at,
            body_at: context.region_at + body_at,
            state,
            control,
            link: link.0,
            address: link.is_entry().then(|| link.addr().into()),
            position: identity.position,
            roster: context.roster,
            units: identity.units,
            stored_hash: identity.hash,
            tag: link.tag(),
            directory_bits: hash.directory(),
            deadline_ms: Some(slot.deadline()).filter(|&deadline| deadline > 0),
            probe: found.then(|| distance(geometry, hash, index)),
            problems: Vec::new(),
            numbered: geometry.variant == Variant::Numbered,
            hasher: context.hasher,
        };
        decoded.problems = decoded.find_problems(region, link, context);
        decoded
    }

    /// Returns the state of the slot by its control byte: "empty", "deleted", "full" or "unknown". A
    /// search continues after a deleted slot.
    pub fn state(&self) -> &'static str {
        match self.state {
            SlotState::Empty => "empty",
            SlotState::Deleted => "deleted",
            SlotState::Full => "full",
            SlotState::Unknown => "unknown",
        }
    }

    /// Returns the state of the region, as [`RegionScan::state`](crate::inspect::RegionScan::state).
    pub fn region_state(&self) -> &'static str {
        self.region_state.as_str()
    }

    /// Returns the slot number at the roster position. `None` if the position is free or cannot be read.
    pub fn roster_slot(&self) -> Option<u32> {
        match self.roster {
            Some(RosterEntry::Slot(number)) => Some(number),
            Some(RosterEntry::Free) | None => None,
        }
    }

    /// Returns whether the roster position is free.
    pub fn is_position_free(&self) -> bool {
        self.roster == Some(RosterEntry::Free)
    }

    /// Returns whether the slot has an entry, according to the index.
    pub fn is_entry(&self) -> bool {
        let live = self.region_state == RegionState::Live;
        live && self.state == SlotState::Full && self.address.is_some()
    }

    /// Returns the differences between the slot and its record, with their offsets in the index.
    ///
    /// `record` is the one at [`address`](Self::address).
    pub fn differences(&self, record: &Record, index: &std::path::Path) -> Vec<Problem> {
        let has_hash = |hasher: Hasher| {
            let hash = hasher.hash(&record.key);
            hash.control() == self.control
                && hash.tag() == self.tag
                && hash.stored() == self.stored_hash
        };
        let is_id = !self.numbered || record.version == u64::from(self.position) + 1;
        let checks = [
            (self.hasher.is_none_or(has_hash), 6, Corruption::EntryHash),
            (is_id, 0, Corruption::EntryVersion),
        ];
        let wrong = checks.into_iter().filter(|(holds, ..)| !holds);
        wrong
            .map(|(_, at, what)| Problem {
                path: index.to_owned(),
                at: self.body_at + at,
                what,
            })
            .collect()
    }

    /// Returns the problems.
    fn find_problems(
        &self,
        region: IndexRegion<'_>,
        link: Link,
        context: &SlotContext<'_>,
    ) -> Vec<Problem> {
        let mut problems = ProblemList {
            index: context.index,
            found: Vec::new(),
        };
        problems.check(
            self.state != SlotState::Unknown,
            self.control_at,
            Corruption::ControlByte,
        );
        let full = self.state == SlotState::Full;
        problems.check(
            full || !link.is_entry() || self.region_state != RegionState::Live,
            self.control_at,
            Corruption::EntryWithoutControl,
        );
        problems.check(
            !full || link.is_entry(),
            self.link_at,
            Corruption::ControlWithoutEntry,
        );
        if !full || !link.is_entry() {
            return problems.found;
        }
        self.check_link(&mut problems, link, context);
        self.check_body(&mut problems, context);
        problems.check(
            region.shape().holds(self.directory_bits),
            self.body_at + 6,
            Corruption::EntryInOtherRegion,
        );
        problems.check(
            self.probe.is_some(),
            self.control_at,
            Corruption::EntryUnreachable,
        );
        problems.found
    }

    fn check_link(&self, problems: &mut ProblemList<'_>, link: Link, context: &SlotContext<'_>) {
        let Some(address) = self.address else { return };
        problems.check(
            address.at >= crate::format::segment::HEADER_BYTES,
            self.link_at,
            Corruption::LinkToHeader,
        );
        match context.segment_len {
            None => problems.check(false, self.link_at, Corruption::LinkToMissingSegment),
            Some(len) => problems.check(address.at < len, self.link_at, Corruption::LinkBeyondEnd),
        }
        problems.check(!link.is_gone(), self.link_at, Corruption::EntryDeleted);
    }

    fn check_body(&self, problems: &mut ProblemList<'_>, context: &SlotContext<'_>) {
        let body = self.body_at;
        problems.check(
            context
                .roster_len
                .is_none_or(|len| u64::from(self.position) < len),
            body,
            Corruption::PositionBeyondEnd,
        );
        problems.check(
            context.roster == Some(RosterEntry::Slot(self.number)),
            body,
            Corruption::EntryUnlisted,
        );
    }
}

/// Returns the offsets of control byte, link and body of a slot in its region.
pub(super) fn offsets(geometry: &Geometry, index: u32) -> [u64; 3] {
    let (slots, index) = (u64::from(geometry.region_slots), u64::from(index));
    let header = HEADER_BYTES as u64;
    let links = header + slots + geometry.mark_bytes() as u64;
    [
        header + index,
        links + 8 * index,
        links + 8 * slots + geometry.body_bytes() as u64 * index,
    ]
}

/// The problems found so far.
struct ProblemList<'a> {
    index: &'a FileReader,
    found: Vec<Problem>,
}

impl ProblemList<'_> {
    fn check(&mut self, holds: bool, at: u64, what: Corruption) {
        if !holds {
            self.found.push(self.index.problem(at, what));
        }
    }
}
