//! Finds impossible values in the headers of a cache's files.
//!
//! Checks only what holds in every state of a cache, also after a writer was killed between two
//! stores.

use std::mem::offset_of;
use std::path::Path;

use crate::engine::Problem;
use crate::error::Corruption;
use crate::format::index::{IndexHeader as DiskHeader, PAGE, word};
use crate::format::seal::SealedHeader as _;
use crate::format::{Geometry, roster};
use crate::hash::Hasher;

use crate::inspect::cache_file::{CacheFile, FileRole};
use crate::inspect::headers::Headers;
use crate::inspect::index_header::IndexHeader;
use crate::inspect::index_state::{IndexState, PendingChange};

/// The problems found so far in the index.
struct ProblemList<'a> {
    path: &'a Path,
    found: Vec<Problem>,
}

impl ProblemList<'_> {
    fn check(&mut self, holds: bool, at: usize, what: Corruption) {
        if !holds {
            self.found.push(Problem {
                path: self.path.to_owned(),
                at: at as u64,
                what,
            });
        }
    }

    /// Checks a word of the header page.
    fn check_word(&mut self, holds: bool, word: usize, what: Corruption) {
        self.check(holds, word * 8, what);
    }
}

/// Returns all problems, those of the constant fields first.
pub(super) fn find(headers: &Headers, page: &[u8]) -> Vec<Problem> {
    let mut problems = ProblemList {
        path: &headers.path,
        found: Vec::new(),
    };
    problems.check(
        page.len() as u64 == PAGE,
        page.len(),
        Corruption::HeaderTruncated,
    );
    let geometry = page
        .get(..size_of::<DiskHeader>())
        .and_then(|bytes| check_header(&mut problems, &bytemuck::pod_read_unaligned(bytes)));
    if let Some(state) = &headers.state {
        check_words(&mut problems, state);
        if let Some(geometry) = geometry
            && headers.consistent
        {
            compare_words(&mut problems, state, &geometry, headers.len);
        }
    }
    let mut found = problems.found;
    check_files(&mut found, headers);
    found
}

/// Checks the constant fields. Returns the geometry if the words can be compared with it.
fn check_header(problems: &mut ProblemList<'_>, header: &DiskHeader) -> Option<Geometry> {
    let decoded = IndexHeader::decode(header);
    problems.check(
        decoded.magic_ok,
        offset_of!(DiskHeader, magic),
        Corruption::HeaderMagic,
    );
    problems.check(
        decoded.version_ok,
        offset_of!(DiskHeader, version),
        Corruption::HeaderVersion,
    );
    problems.check(
        decoded.checksum_ok != Some(false),
        offset_of!(DiskHeader, crc),
        Corruption::HeaderChecksum,
    );
    if !decoded.version_ok {
        return None;
    }
    problems.check(
        header.generation > 0,
        offset_of!(DiskHeader, generation),
        Corruption::GenerationNumber,
    );
    let kind = header.hash_kind();
    problems.check(
        kind.is_some(),
        offset_of!(DiskHeader, hash_kind),
        Corruption::HashKind,
    );
    let hash_fits = kind
        .is_none_or(|kind| Hasher::new(kind, header.hash_seed).check_value() == header.hash_check);
    problems.check(
        hash_fits,
        offset_of!(DiskHeader, hash_check),
        Corruption::HashCheck,
    );
    let known = header.unknown_flags() == 0;
    problems.check(
        known,
        offset_of!(DiskHeader, flags),
        Corruption::HeaderFlags,
    );
    if !known {
        return None;
    }
    match header.geometry() {
        Ok(geometry) => Some(geometry),
        Err(what) => {
            problems.check(false, DiskHeader::place_of(what), what);
            None
        }
    }
}

/// Checks single words.
fn check_words(problems: &mut ProblemList<'_>, state: &IndexState) {
    problems.check_word(
        state.pending != Some(PendingChange::Unknown),
        word::INTENT,
        Corruption::RedoRecord,
    );
    problems.check_word(
        state.oldest_segment <= u64::from(u16::MAX),
        word::OLDEST,
        Corruption::OldestSegment,
    );
}

/// Compares the words with the geometry and with each other.
fn compare_words(
    problems: &mut ProblemList<'_>,
    state: &IndexState,
    geometry: &Geometry,
    len: u64,
) {
    let slots = state.regions.saturating_mul(geometry.region_slots.into());
    let end = state
        .regions
        .saturating_mul(geometry.region_bytes() as u64)
        .saturating_add(geometry.regions_at());
    problems.check_word(
        state.depth <= geometry.directory_bits,
        word::POLL,
        Corruption::DirectoryDepth,
    );
    problems.check_word(
        state.regions <= geometry.max_regions() && end <= len,
        word::COUNTERS + 6,
        Corruption::RegionCount,
    );
    problems.check_word(
        state.tail <= state.reserved,
        word::TAIL,
        Corruption::ReservedBeforeTail,
    );
    // During a change, some counters have their values from before it and some from after it.
    if state.pending.is_some() {
        return;
    }
    problems.check_word(
        state.occupied.saturating_add(state.deleted) <= slots,
        word::COUNTERS,
        Corruption::EntryCount,
    );
    problems.check_word(
        state.high_water_mark <= slots,
        word::COUNTERS + 2,
        Corruption::HighWaterMark,
    );
    problems.check_word(
        state
            .first_free_position
            .is_none_or(|position| position < state.roster_len),
        word::COUNTERS + 3,
        Corruption::RosterLength,
    );
    problems.check_word(
        state.occupied <= state.roster_len,
        word::COUNTERS + 4,
        Corruption::RosterLength,
    );
    problems.check_word(
        state
            .first_free_region
            .is_none_or(|region| region < state.regions),
        word::COUNTERS + 5,
        Corruption::FreeRegion,
    );
    problems.check_word(
        state.live_bytes <= state.heap_bytes(),
        word::COUNTERS + 7,
        Corruption::LiveBytes,
    );
}

/// Compares the other files with the index.
fn check_files(found: &mut Vec<Problem>, headers: &Headers) {
    // The index is already checked, and a file that is being prepared may be incomplete.
    let is_final = |file: &&CacheFile| !file.staged && file.role != FileRole::Index;
    for file in headers.files.iter().filter(is_final) {
        if let Some(what) = file.problem {
            found.push(problem(&file.path, 0, what));
        }
    }
    let (Some(header), Some(state)) = (&headers.header, &headers.state) else {
        return;
    };
    if !headers.consistent || header.checksum_ok != Some(true) || state.superseded {
        return;
    }
    let find = |role, id| {
        let wanted = Some((header.cache_id, id));
        let mut files = headers.files.iter();
        files.find(|file| file.role == role && file.ids == wanted)
    };
    let index = &headers.path;
    match find(FileRole::Roster, header.roster_id) {
        None => found.push(problem(
            index,
            offset_of!(DiskHeader, roster_id) as u64,
            Corruption::RosterMissing,
        )),
        Some(file) if position_count(file) < state.roster_len => {
            found.push(problem(&file.path, file.len, Corruption::RosterTruncated))
        }
        Some(_) => {}
    }
    match find(FileRole::Segment(state.tail.segment), header.heap_id) {
        None => found.push(problem(
            index,
            word::TAIL as u64 * 8,
            Corruption::LastSegmentMissing,
        )),
        Some(file) if file.len < state.tail.at => {
            found.push(problem(&file.path, file.len, Corruption::SegmentTruncated))
        }
        Some(_) => {}
    }
    // The oldest may be missing: cleaning removes its file before it updates the word.
    let mut inner = state.oldest_segment.saturating_add(1)..u64::from(state.tail.segment);
    // One problem for all: a damaged word can include 65,536 segments.
    if inner.any(|number| find(FileRole::Segment(number as u16), header.heap_id).is_none()) {
        found.push(problem(
            index,
            word::OLDEST as u64 * 8,
            Corruption::SegmentMissing,
        ));
    }
}

/// Returns the number of positions in a roster file.
fn position_count(file: &CacheFile) -> u64 {
    file.len.saturating_sub(roster::HEADER_BYTES) / 4
}

fn problem(path: &Path, at: u64, what: Corruption) -> Problem {
    Problem {
        path: path.to_owned(),
        at,
        what,
    }
}
