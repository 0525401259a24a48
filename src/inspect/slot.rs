//! A slot of the index, decoded.
//!
//! Knows what index and roster say of an entry. What stands in the heap it does not know: see
//! [`Slot::differences`] for what the two say of each other.

use crate::engine::Problem;
use crate::error::Corruption;
use crate::format::Geometry;
use crate::format::region::{DELETED, EMPTY, HEADER_BYTES};
use crate::format::slot::Link;
use crate::hash::{Hash, Hasher};
use crate::index::region::{Region as Generation, Slot as SlotView};

use crate::inspect::changing::HeapPlace;
use crate::inspect::record::Record;
use crate::inspect::region::RegionState;
use crate::inspect::source::Source;

/// What a slot is, by its control byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlotState {
    /// Free; a search ends at its group.
    Empty,
    /// Free, its entry deleted; a search goes on behind it.
    Deleted,
    /// Taken.
    Full,
    /// A byte that no version of this crate writes.
    Unknown,
}

/// What the roster has at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RosterEntry {
    /// The number of a slot.
    Slot(u32),
    /// Nothing; the next free position, if there is one.
    Hole(Option<u32>),
}

/// A slot of the index.
///
/// Where it holds no entry, what its body says is left over from an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Slot {
    /// Its number in the whole index.
    pub number: u32,
    /// Its region's number.
    pub region: u32,
    /// Its number in its region.
    pub index: u32,
    /// What its region is: slots of regions that are not live hold no entries.
    pub region_state: RegionState,
    /// Where its control byte stands, in bytes from the file's start.
    pub control_at: u64,
    /// Where its link stands.
    pub link_at: u64,
    /// Where its body stands.
    pub body_at: u64,
    /// What it is, by its control byte.
    pub state: SlotState,
    /// The control byte.
    pub control: u8,
    /// The link, as it is stored.
    pub link: u64,
    /// The record that it links to; none where it links to none.
    pub place: Option<HeapPlace>,
    /// Which of the two pairs of version and length belongs to that record: the second, not the
    /// first.
    pub second_pair: bool,
    /// The entry's position in the roster.
    pub position: u32,
    /// What the roster has there; none where it cannot be read.
    pub roster: Option<RosterEntry>,
    /// Bytes of the whole key.
    pub key_len: u16,
    /// The key's first bytes, as many as the slot repeats.
    pub key: Vec<u8>,
    /// Bits 0 to 15 of the key's hash.
    pub stored_hash: u16,
    /// Bits 42 to 56 of the key's hash, from the link.
    pub tag: u16,
    /// The 20 bits of the hash by which its region is found.
    pub directory_bits: u32,
    /// When the entry was written, in nanoseconds since the Unix epoch; a numbered key's number.
    pub version: u64,
    /// Bytes of the value.
    pub value_len: u32,
    /// Groups of eight slots that a search looks at until it finds the entry, 1 at best; none where
    /// there is no entry, or where no search finds it.
    pub probe: Option<u32>,
    /// What is wrong. Traces of a writer at work, or killed at it, are among it.
    pub doubts: Vec<Problem>,
}

/// What has to be known beside a slot to judge it.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) geometry: &'a Geometry,
    pub(super) index: &'a Source,
    pub(super) hasher: Option<Hasher>,
    /// Where the region begins.
    pub(super) region_at: u64,
    /// Positions of the roster in use, as far as that is known.
    pub(super) roster_len: Option<u64>,
    /// What the roster has at the slot's position.
    pub(super) roster: Option<RosterEntry>,
    /// Bytes of the segment that the link names; none if there is none.
    pub(super) segment_len: Option<u64>,
}

/// Groups that a search looks at until it comes to a slot, whether it gets there or not.
pub(super) fn distance(geometry: &Geometry, hash: Hash, index: u32) -> u32 {
    let groups = geometry.region_slots / 8;
    let home = hash.group() as u32 & (groups - 1);
    (index / 8 + groups - home) % groups + 1
}

/// Whether a search for a hash comes to a slot.
pub(super) fn is_reached(generation: Generation<'_>, hash: Hash, index: u32) -> bool {
    generation.probe(hash).any(|(found, ..)| found == index)
}

/// The key's first bytes, of which a slot keeps no more than it has room for.
fn key_part(slot: SlotView<'_>, key_len: u16) -> Vec<u8> {
    let mut key = vec![0; slot.key().len() * 8];
    crate::os::words::copy_out(slot.key(), &mut key);
    key.truncate(key.len().min(key_len.into()));
    key
}

impl Slot {
    /// Decodes a slot by its number in a region.
    pub(super) fn decode(
        generation: Generation<'_>,
        index: u32,
        around: &Surroundings<'_>,
    ) -> Self {
        let geometry = around.geometry;
        let (slot, control) = (generation.slot(index), generation.control(index));
        let (link, identity) = (slot.link(), slot.identity());
        let hash = slot.hash(link, control);
        let meta = slot.meta(link.which());
        let [control_at, link_at, body_at] = offsets(geometry, index);
        let state = match control {
            EMPTY => SlotState::Empty,
            DELETED => SlotState::Deleted,
            0x80.. => SlotState::Full,
            _ => SlotState::Unknown,
        };
        let found =
            state == SlotState::Full && link.is_entry() && is_reached(generation, hash, index);
        let mut decoded = Self {
            number: generation.number() * geometry.region_slots + index,
            region: generation.number(),
            index,
            region_state: RegionState::of(generation.stamp()),
            control_at: around.region_at + control_at,
            link_at: around.region_at + link_at,
            body_at: around.region_at + body_at,
            state,
            control,
            link: link.0,
            place: link.is_entry().then(|| link.addr().into()),
            second_pair: link.which(),
            position: identity.position,
            roster: around.roster,
            key_len: identity.key_len,
            key: key_part(slot, identity.key_len),
            stored_hash: identity.hash,
            tag: link.tag(),
            directory_bits: hash.directory(),
            version: meta.mtime,
            value_len: meta.value_len,
            probe: found.then(|| distance(geometry, hash, index)),
            doubts: Vec::new(),
        };
        decoded.doubts = decoded.doubt(generation, slot, link, around);
        decoded
    }

    /// Whether the slot holds an entry, as far as the index tells.
    pub fn is_entry(&self) -> bool {
        let live = self.region_state == RegionState::Live;
        live && self.state == SlotState::Full && self.place.is_some()
    }

    /// What slot and record say differently, each with its place in the index.
    ///
    /// `record` is the one at [`place`](Self::place).
    pub fn differences(&self, record: &Record, index: &std::path::Path) -> Vec<Problem> {
        let pair = if self.second_pair { 24 } else { 8 };
        let inline = self.key.len().min(record.key.len());
        let has_version = !record.numbered;
        let checks = [
            (
                self.key_len == record.key_len,
                4,
                Corruption::EntryKeyLength,
            ),
            (
                self.key[..inline] == record.key[..inline],
                40,
                Corruption::EntryKey,
            ),
            (
                self.version == record.version,
                if has_version { pair } else { 0 },
                Corruption::EntryVersion,
            ),
            (
                self.value_len == record.value_len,
                if has_version { pair + 8 } else { 0 },
                Corruption::EntryValueLength,
            ),
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

    /// What is wrong, in the order of the bytes.
    fn doubt(
        &self,
        generation: Generation<'_>,
        slot: SlotView<'_>,
        link: Link,
        around: &Surroundings<'_>,
    ) -> Vec<Problem> {
        let mut doubts = Doubts {
            index: around.index,
            found: Vec::new(),
        };
        doubts.check(
            self.state != SlotState::Unknown,
            self.control_at,
            Corruption::ControlByte,
        );
        let full = self.state == SlotState::Full;
        doubts.check(
            full || !link.is_entry() || self.region_state != RegionState::Live,
            self.control_at,
            Corruption::EntryWithoutControl,
        );
        doubts.check(
            !full || link.is_entry(),
            self.link_at,
            Corruption::ControlWithoutEntry,
        );
        if !full || !link.is_entry() {
            return doubts.found;
        }
        self.doubt_link(&mut doubts, around);
        self.doubt_body(&mut doubts, slot, around);
        doubts.check(
            generation.shape().holds(self.directory_bits),
            self.body_at + 6,
            Corruption::EntryInOtherRegion,
        );
        doubts.check(
            self.probe.is_some(),
            self.control_at,
            Corruption::EntryUnreachable,
        );
        doubts.found
    }

    fn doubt_link(&self, doubts: &mut Doubts<'_>, around: &Surroundings<'_>) {
        let Some(place) = self.place else { return };
        doubts.check(
            place.at >= crate::format::segment::HEADER_BYTES,
            self.link_at,
            Corruption::LinkToHeader,
        );
        match around.segment_len {
            None => doubts.check(false, self.link_at, Corruption::LinkToMissingSegment),
            Some(len) => doubts.check(place.at < len, self.link_at, Corruption::LinkBeyondEnd),
        }
        let numbered = around.geometry.variant == crate::format::record::Variant::Numbered;
        doubts.check(
            !(numbered && self.second_pair),
            self.link_at,
            Corruption::EntryMetas,
        );
    }

    fn doubt_body(&self, doubts: &mut Doubts<'_>, slot: SlotView<'_>, around: &Surroundings<'_>) {
        let body = self.body_at;
        doubts.check(
            around
                .roster_len
                .is_none_or(|len| u64::from(self.position) < len),
            body,
            Corruption::PositionBeyondEnd,
        );
        doubts.check(
            around.roster == Some(RosterEntry::Slot(self.number)),
            body,
            Corruption::EntryUnlisted,
        );
        doubts.check(self.key_len > 0, body + 4, Corruption::EntryWithoutKey);
        let room = slot.key().len() * 8;
        let whole = !self.key.is_empty() && self.key.len() == usize::from(self.key_len);
        if whole && let Some(hasher) = around.hasher {
            let hash = hasher.hash(&self.key);
            let same = hash.control() == self.control
                && hash.tag() == self.tag
                && hash.stored() == self.stored_hash;
            doubts.check(same, body + 6, Corruption::EntryHash);
        }
        let mut padded = vec![0; room];
        crate::os::words::copy_out(slot.key(), &mut padded);
        doubts.check(
            padded[self.key.len()..].iter().all(|&byte| byte == 0),
            body + 40 + self.key.len() as u64,
            Corruption::EntryKeyPadding,
        );
    }
}

/// Offsets of a slot's control byte, link and body in its region.
fn offsets(geometry: &Geometry, index: u32) -> [u64; 3] {
    let (slots, index) = (u64::from(geometry.region_slots), u64::from(index));
    let header = HEADER_BYTES as u64;
    [
        header + index,
        header + 2 * slots + 8 * index,
        header + 10 * slots + geometry.body_bytes() as u64 * index,
    ]
}

/// The faults found so far.
struct Doubts<'a> {
    index: &'a Source,
    found: Vec<Problem>,
}

impl Doubts<'_> {
    fn check(&mut self, holds: bool, at: u64, what: Corruption) {
        if !holds {
            self.found.push(self.index.fault(at, what));
        }
    }
}
