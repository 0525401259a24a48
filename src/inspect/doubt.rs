//! What in an overview cannot be true.
//!
//! Knows the bounds that every state of a cache keeps, also that of a writer killed between two
//! stores. What such a kill leaves behind is no fault, so this compares less than one might.

use crate::error::Corruption;
use std::mem::offset_of;
use std::path::Path;

use crate::engine::Problem;
use crate::format::index::{IndexHeader, PAGE, word};
use crate::format::seal::SealedHeader as _;
use crate::format::{Geometry, roster};
use crate::hash::Hasher;

use crate::inspect::changing::{Changing, PendingChange};
use crate::inspect::companion::{Companion, Role};
use crate::inspect::overview::Overview;
use crate::inspect::sealed::Sealed;

/// The faults found so far, in one file.
struct Doubts<'a> {
    path: &'a Path,
    found: Vec<Problem>,
}

impl Doubts<'_> {
    fn check(&mut self, holds: bool, at: usize, what: Corruption) {
        if !holds {
            self.found.push(Problem {
                path: self.path.to_owned(),
                at: at as u64,
                what,
            });
        }
    }

    /// As `check`, for one of the changing words.
    fn check_word(&mut self, holds: bool, word: usize, what: Corruption) {
        self.check(holds, word * 8, what);
    }
}

/// Everything that is implausible, the static header first.
pub(super) fn all(overview: &Overview, page: &[u8]) -> Vec<Problem> {
    let mut doubts = Doubts {
        path: &overview.path,
        found: Vec::new(),
    };
    doubts.check(
        page.len() as u64 == PAGE,
        page.len(),
        Corruption::HeaderTruncated,
    );
    let geometry = page
        .get(..size_of::<IndexHeader>())
        .and_then(|bytes| sealed(&mut doubts, &bytemuck::pod_read_unaligned(bytes)));
    if let Some(changing) = &overview.changing {
        alone(&mut doubts, changing);
        if let Some(geometry) = geometry
            && overview.steady
        {
            together(&mut doubts, changing, &geometry, overview.len);
        }
    }
    let mut found = doubts.found;
    companions(&mut found, overview);
    found
}

/// Checks the static header. Returns its geometry if the rest can be judged by it.
fn sealed(doubts: &mut Doubts<'_>, header: &IndexHeader) -> Option<Geometry> {
    let sealed = Sealed::decode(header);
    doubts.check(
        sealed.magic_ok,
        offset_of!(IndexHeader, magic),
        Corruption::HeaderMagic,
    );
    doubts.check(
        sealed.version_ok,
        offset_of!(IndexHeader, version),
        Corruption::HeaderVersion,
    );
    doubts.check(
        sealed.checksum_ok != Some(false),
        offset_of!(IndexHeader, crc),
        Corruption::HeaderChecksum,
    );
    if !sealed.version_ok {
        return None;
    }
    doubts.check(
        header.generation > 0,
        offset_of!(IndexHeader, generation),
        Corruption::GenerationNumber,
    );
    let kind = header.hash_kind();
    doubts.check(
        kind.is_some(),
        offset_of!(IndexHeader, hash_kind),
        Corruption::HashKind,
    );
    let hash_fits = kind
        .is_none_or(|kind| Hasher::new(kind, header.hash_seed).check_value() == header.hash_check);
    doubts.check(
        hash_fits,
        offset_of!(IndexHeader, hash_check),
        Corruption::HashCheck,
    );
    let known = header.unknown_flags() == 0;
    doubts.check(
        known,
        offset_of!(IndexHeader, flags),
        Corruption::HeaderFlags,
    );
    if !known {
        return None;
    }
    match header.geometry() {
        Ok(geometry) => Some(geometry),
        Err(what) => {
            doubts.check(false, IndexHeader::place_of(what), what);
            None
        }
    }
}

/// Checks the words that can be judged each by itself.
fn alone(doubts: &mut Doubts<'_>, changing: &Changing) {
    doubts.check_word(
        changing.pending != Some(PendingChange::Unknown),
        word::INTENT,
        Corruption::RedoRecord,
    );
    doubts.check_word(
        changing.oldest_segment <= u64::from(u16::MAX),
        word::OLDEST,
        Corruption::OldestSegment,
    );
}

/// Checks the words against the geometry and each other.
fn together(doubts: &mut Doubts<'_>, changing: &Changing, geometry: &Geometry, len: u64) {
    let slots = changing
        .regions
        .saturating_mul(geometry.region_slots.into());
    let end = changing
        .regions
        .saturating_mul(geometry.region_bytes() as u64)
        .saturating_add(geometry.regions_at());
    doubts.check_word(
        changing.depth <= geometry.directory_bits,
        word::POLL,
        Corruption::DirectoryDepth,
    );
    doubts.check_word(
        changing.regions <= geometry.max_regions() && end <= len,
        word::COUNTERS + 6,
        Corruption::RegionCount,
    );
    doubts.check_word(
        changing.tail <= changing.reserved,
        word::TAIL,
        Corruption::ReservedBeforeTail,
    );
    // Between two stores of one change its counters are from before and after it.
    if changing.pending.is_some() {
        return;
    }
    doubts.check_word(
        changing.occupied.saturating_add(changing.deleted) <= slots,
        word::COUNTERS,
        Corruption::EntryCount,
    );
    doubts.check_word(
        changing.high_water_mark <= slots,
        word::COUNTERS + 2,
        Corruption::HighWaterMark,
    );
    doubts.check_word(
        changing
            .first_hole
            .is_none_or(|hole| hole < changing.roster_len),
        word::COUNTERS + 3,
        Corruption::RosterLength,
    );
    doubts.check_word(
        changing.occupied <= changing.roster_len,
        word::COUNTERS + 4,
        Corruption::RosterLength,
    );
    doubts.check_word(
        changing
            .first_free_region
            .is_none_or(|region| region < changing.regions),
        word::COUNTERS + 5,
        Corruption::FreeRegion,
    );
    doubts.check_word(
        changing.live_bytes <= changing.heap_bytes(),
        word::COUNTERS + 7,
        Corruption::LiveBytes,
    );
}

/// Checks the other files against the index.
fn companions(found: &mut Vec<Problem>, overview: &Overview) {
    // The index itself has been looked at in full, and what is being prepared may be half done.
    let settled = |file: &&Companion| !file.staged && file.role != Role::Index;
    for file in overview.files.iter().filter(settled) {
        if let Some(what) = file.fault {
            found.push(fault(&file.path, 0, what));
        }
    }
    let (Some(sealed), Some(changing)) = (&overview.sealed, &overview.changing) else {
        return;
    };
    if !overview.steady || sealed.checksum_ok != Some(true) || changing.superseded {
        return;
    }
    let find = |role, id| {
        let wanted = Some((sealed.cache_id, id));
        let mut files = overview.files.iter();
        files.find(|file| file.role == role && file.belongs_to == wanted)
    };
    let index = &overview.path;
    match find(Role::Roster, sealed.roster_id) {
        None => found.push(fault(
            index,
            offset_of!(IndexHeader, roster_id) as u64,
            Corruption::RosterMissing,
        )),
        Some(file) if room(file) < changing.roster_len => {
            found.push(fault(&file.path, file.len, Corruption::RosterTruncated))
        }
        Some(_) => {}
    }
    match find(Role::Segment(changing.tail.segment), sealed.heap_id) {
        None => found.push(fault(
            index,
            word::TAIL as u64 * 8,
            Corruption::LastSegmentMissing,
        )),
        Some(file) if file.len < changing.tail.at => {
            found.push(fault(&file.path, file.len, Corruption::SegmentTruncated))
        }
        Some(_) => {}
    }
    // The oldest may be missing: cleaning removes its file before it says so.
    let mut inner = changing.oldest_segment.saturating_add(1)..u64::from(changing.tail.segment);
    // Said once: a damaged word can name 65,536 of them.
    if inner.any(|number| find(Role::Segment(number as u16), sealed.heap_id).is_none()) {
        found.push(fault(
            index,
            word::OLDEST as u64 * 8,
            Corruption::SegmentMissing,
        ));
    }
}

/// Positions that a roster file has room for.
fn room(file: &Companion) -> u64 {
    file.len.saturating_sub(roster::HEADER_BYTES) / 4
}

fn fault(path: &Path, at: u64, what: Corruption) -> Problem {
    Problem {
        path: path.to_owned(),
        at,
        what,
    }
}
