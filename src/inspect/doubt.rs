//! What in an overview cannot be true.
//!
//! Knows the bounds that every state of a cache keeps, also that of a writer killed between two
//! stores. What such a kill leaves behind is no fault, so this compares less than one might.

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
use crate::inspect::sealed::{Sealed, UNKNOWN_FLAGS};

/// The faults found so far, in one file.
struct Doubts<'a> {
    path: &'a Path,
    found: Vec<Problem>,
}

impl Doubts<'_> {
    fn check(&mut self, holds: bool, at: usize, what: &'static str) {
        if !holds {
            self.found.push(Problem {
                path: self.path.to_owned(),
                at: at as u64,
                what,
            });
        }
    }

    /// As `check`, for one of the changing words.
    fn check_word(&mut self, holds: bool, word: usize, what: &'static str) {
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
        "the file ends within its header page",
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
        "the magic is not that of an index",
    );
    doubts.check(
        sealed.version_ok,
        offset_of!(IndexHeader, version),
        "the version is not one that this crate reads",
    );
    doubts.check(
        sealed.checksum_ok != Some(false),
        offset_of!(IndexHeader, crc),
        "the header's checksum does not fit",
    );
    if !sealed.version_ok {
        return None;
    }
    doubts.check(
        header.generation > 0,
        offset_of!(IndexHeader, generation),
        "the generation is zero",
    );
    let kind = header.hash_kind();
    doubts.check(
        kind.is_some(),
        offset_of!(IndexHeader, hash_kind),
        "the hash kind is not known",
    );
    let hash_fits = kind
        .is_none_or(|kind| Hasher::new(kind, header.hash_seed).check_value() == header.hash_check);
    doubts.check(
        hash_fits,
        offset_of!(IndexHeader, hash_check),
        "the hash check value is not this function's",
    );
    let known = header.unknown_flags() == 0;
    doubts.check(known, offset_of!(IndexHeader, flags), UNKNOWN_FLAGS);
    if !known {
        return None;
    }
    match header.geometry() {
        Ok(geometry) => Some(geometry),
        Err(what) => {
            doubts.check(false, place_of(what), what);
            None
        }
    }
}

/// Where the field stands that a geometry is refused for.
fn place_of(what: &str) -> usize {
    match what {
        "slots per region" => offset_of!(IndexHeader, region_slots),
        "inline key bytes" => offset_of!(IndexHeader, inline_key),
        "directory bits" => offset_of!(IndexHeader, directory_bits),
        "largest segment" => offset_of!(IndexHeader, max_segment_bytes),
        "record variant" => offset_of!(IndexHeader, record_variant),
        _ => 0,
    }
}

/// Checks the words that can be judged each by itself.
fn alone(doubts: &mut Doubts<'_>, changing: &Changing) {
    doubts.check_word(
        changing.pending != Some(PendingChange::Unknown),
        word::INTENT,
        "the change under way is none that this crate makes",
    );
    doubts.check_word(
        changing.oldest_segment <= u64::from(u16::MAX),
        word::OLDEST,
        "the oldest segment has a number that no segment has",
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
        "the directory is deeper than it has room for",
    );
    doubts.check_word(
        changing.regions <= geometry.max_regions() && end <= len,
        word::COUNTERS + 6,
        "there are more regions than the file holds",
    );
    doubts.check_word(
        changing.tail <= changing.reserved,
        word::TAIL,
        "the heap ends behind what is reserved",
    );
    // Between two stores of one change its counters are from before and after it.
    if changing.pending.is_some() {
        return;
    }
    doubts.check_word(
        changing.occupied.saturating_add(changing.deleted) <= slots,
        word::COUNTERS,
        "there are more entries than slots",
    );
    doubts.check_word(
        changing.high_water_mark <= slots,
        word::COUNTERS + 2,
        "the highest slot lies behind the last one",
    );
    doubts.check_word(
        changing
            .first_hole
            .is_none_or(|hole| hole < changing.roster_len),
        word::COUNTERS + 3,
        "the first hole lies behind the roster's end",
    );
    doubts.check_word(
        changing.occupied <= changing.roster_len,
        word::COUNTERS + 4,
        "the roster is shorter than there are entries",
    );
    doubts.check_word(
        changing
            .first_free_region
            .is_none_or(|region| region < changing.regions),
        word::COUNTERS + 5,
        "the first free region lies behind the last one",
    );
    doubts.check_word(
        changing.live_bytes <= changing.heap_bytes(),
        word::COUNTERS + 7,
        "there are more live bytes than bytes in the heap",
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
            "the roster of this generation is missing",
        )),
        Some(file) if room(file) < changing.roster_len => {
            found.push(fault(&file.path, file.len, "the roster is cut short"))
        }
        Some(_) => {}
    }
    match find(Role::Segment(changing.tail.segment), sealed.heap_id) {
        None => found.push(fault(
            index,
            word::TAIL as u64 * 8,
            "the last segment of the heap is missing",
        )),
        Some(file) if file.len < changing.tail.at => {
            found.push(fault(&file.path, file.len, "the segment is cut short"))
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
            "a segment between the oldest and the last is missing",
        ));
    }
}

/// Positions that a roster file has room for.
fn room(file: &Companion) -> u64 {
    file.len.saturating_sub(roster::HEADER_BYTES) / 4
}

fn fault(path: &Path, at: u64, what: &'static str) -> Problem {
    Problem {
        path: path.to_owned(),
        at,
        what,
    }
}
