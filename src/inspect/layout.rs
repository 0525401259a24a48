//! Determines the layout of an index, also if its header is damaged.
//!
//! The headers of segments repeat the parameters of the index. If the checksum of the index does not
//! match, the layout is the one that fits the existing regions best.

use crate::error::{Corruption, Error, ErrorKind, Result};
use crate::format::index::IndexHeader as DiskHeader;
use crate::format::region::{
    self, MAX_INCARNATION, RegionShape, RegionStateWord, SlotCounts, word,
};
use crate::format::seal;
use crate::format::seal::HeaderError as SealFault;
use crate::format::segment::SegmentHeader;
use crate::format::{Geometry, VERSION};
use crate::hash::Hasher;
use crate::os::file_names::{FileNames, Stage};

use crate::inspect::cache_file::{CacheFile, FileRole};
use crate::inspect::file_reader::FileReader;
use crate::inspect::headers::Headers;

/// The number of regions that a candidate is tested with.
const SAMPLE: u64 = 64;
/// The most segments whose headers are candidates.
const MAX_SEGMENTS: usize = 64;

/// The layout of an index.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) geometry: Geometry,
    /// The number of regions by the header, or by the length of the file if the header is invalid.
    pub(super) regions: u32,
}

/// What the headers tell, as far as it is known.
#[derive(Debug)]
pub(super) struct Discovery {
    pub(super) layout: Option<Layout>,
    pub(super) heap_id: Option<u64>,
    pub(super) hasher: Option<Hasher>,
    /// Version and unknown flags, if the index is of another release.
    pub(super) other_release: Option<(u32, u32)>,
}

/// A header that may contain the layout.
struct LayoutCandidate {
    geometry: Option<Geometry>,
    heap_id: u64,
    hasher: Option<Hasher>,
}

impl Discovery {
    pub(super) fn run(names: &FileNames, index: &FileReader, headers: &Headers) -> Result<Self> {
        let bytes = index.read(0, size_of::<DiskHeader>() as u64)?;
        let header = bytemuck::try_pod_read_unaligned::<DiskHeader>(&bytes).ok();
        let other_release = match seal::open::<DiskHeader>(&bytes) {
            Err(SealFault::Version(found)) => Some((found, 0)),
            Err(SealFault::Flags(flags)) => Some((VERSION, flags)),
            _ => None,
        };
        let valid = other_release.is_none()
            && (headers.header.as_ref()).is_some_and(|header| header.checksum_ok == Some(true));
        let index_candidate = header.map(|header| from_index(&header));
        let usable = |one: &&LayoutCandidate| valid && one.geometry.is_some();
        if let Some(candidate) = index_candidate.as_ref().filter(usable) {
            return Ok(Self {
                layout: candidate.layout(index, headers)?,
                heap_id: Some(candidate.heap_id),
                hasher: candidate.hasher,
                other_release,
            });
        }
        let segments = from_segments(names, headers)?;
        let heap_id = heap_id(index_candidate.as_ref(), &segments, valid);
        // A segment of another heap belongs to another index. The index comes first: it wins a tie.
        let candidates: Vec<LayoutCandidate> = index_candidate
            .filter(|_| other_release.is_none())
            .into_iter()
            .chain(
                segments
                    .into_iter()
                    .filter(|one| Some(one.heap_id) == heap_id),
            )
            .collect();
        let mut best: Option<(i64, &LayoutCandidate)> = None;
        for one in candidates.iter().filter(|one| one.geometry.is_some()) {
            let score = one.score(index)?;
            if best.is_none_or(|(highest, _)| score > highest) {
                best = Some((score, one));
            }
        }
        let layout = match best {
            Some((_, one)) => one.layout(index, headers)?,
            None => None,
        };
        Ok(Self {
            layout,
            heap_id,
            hasher: candidates.iter().find_map(|one| one.hasher),
            other_release,
        })
    }

    /// Returns the layout, or the error if it is unknown.
    pub(super) fn layout(&self, index: &FileReader) -> Result<&Layout> {
        self.layout
            .as_ref()
            .ok_or_else(|| match self.other_release {
                Some((found, flags)) => ErrorKind::UnsupportedVersion {
                    found,
                    supported: VERSION,
                    flags,
                }
                .at(&index.path()),
                None => Error::corrupted(
                    index.path(),
                    Corruption::Layout,
                    std::mem::offset_of!(DiskHeader, region_slots) as u64,
                ),
            })
    }
}

fn from_index(header: &DiskHeader) -> LayoutCandidate {
    LayoutCandidate {
        geometry: header.geometry().ok(),
        heap_id: header.heap_id,
        hasher: header
            .hash_kind()
            .map(|kind| Hasher::new(kind, header.hash_seed))
            .filter(|hasher| hasher.check_value() == header.hash_check),
    }
}

/// Returns the valid headers of the last segments, the last first: earlier ones may be of an index with
/// smaller regions.
fn from_segments(names: &FileNames, headers: &Headers) -> Result<Vec<LayoutCandidate>> {
    let segments = headers.files.iter().rev().filter_map(segment_number);
    let mut found = Vec::new();
    for (number, stage) in segments.take(MAX_SEGMENTS) {
        let Some(file) = FileReader::open_if_present(&names.segment(number, stage))? else {
            continue;
        };
        let bytes = file.read(0, size_of::<SegmentHeader>() as u64)?;
        let Ok(header) = seal::open::<SegmentHeader>(&bytes) else {
            continue;
        };
        found.push(LayoutCandidate {
            geometry: header.geometry(),
            heap_id: header.heap_id,
            hasher: header
                .hash_kind()
                .map(|kind| Hasher::new(kind, header.hash_seed)),
        });
    }
    Ok(found)
}

fn segment_number(file: &CacheFile) -> Option<(u16, Stage)> {
    let stage = if file.staged {
        Stage::New
    } else {
        Stage::Final
    };
    match file.role {
        FileRole::Segment(number) if file.ids.is_some() => Some((number, stage)),
        _ => None,
    }
}

/// Returns the heap id of the index if its header is valid or a segment has the same id, otherwise that
/// of the last segment.
fn heap_id(
    index: Option<&LayoutCandidate>,
    segments: &[LayoutCandidate],
    valid: bool,
) -> Option<u64> {
    let own = index.map(|index| index.heap_id);
    let agreed = own.filter(|&id| valid || segments.iter().any(|one| one.heap_id == id));
    agreed
        .or_else(|| segments.first().map(|one| one.heap_id))
        .or(own)
}

impl LayoutCandidate {
    fn layout(&self, index: &FileReader, headers: &Headers) -> Result<Option<Layout>> {
        let Some(geometry) = self.geometry else {
            return Ok(None);
        };
        let room = room(&geometry, index)?;
        let counted = headers.state.as_ref().map(|state| state.regions);
        let regions = counted.filter(|&count| count <= room).unwrap_or(room);
        Ok(Some(Layout {
            geometry,
            regions: regions as u32,
        }))
    }

    /// Returns how many of the first regions have a valid header in this geometry, minus the others.
    fn score(&self, index: &FileReader) -> Result<i64> {
        let Some(geometry) = self.geometry else {
            return Ok(i64::MIN);
        };
        let mut score = 0;
        for number in 0..room(&geometry, index)?.min(SAMPLE) {
            let at = geometry.regions_at() + number * geometry.region_bytes() as u64;
            let bytes = index.read(at, region::HEADER_BYTES as u64)?;
            // Never used.
            if bytes.iter().all(|&byte| byte == 0) {
                continue;
            }
            score += if is_plausible(&geometry, &bytes) {
                1
            } else {
                -1
            };
        }
        Ok(score)
    }
}

/// Returns the number of regions in the file.
fn room(geometry: &Geometry, index: &FileReader) -> Result<u64> {
    let bytes = index.len()?.saturating_sub(geometry.regions_at());
    Ok((bytes / geometry.region_bytes() as u64).min(geometry.max_regions()))
}

/// Returns whether bytes can be the header of a region.
fn is_plausible(geometry: &Geometry, bytes: &[u8]) -> bool {
    let (words, _) = bytes.as_chunks::<8>();
    let get = |at: usize| words.get(at).map_or(0, |eight| u64::from_le_bytes(*eight));
    let (stamp, shape) = (get(word::STAMP), get(word::SHAPE));
    let (parsed, counts) = (
        RegionShape::from_word(shape),
        SlotCounts::from_word(get(word::COUNTS)),
    );
    matches!(stamp & 0xff, 1..=3)
        && RegionStateWord(stamp).incarnation() <= MAX_INCARNATION
        && parsed.depth <= geometry.directory_bits
        && parsed.holds(parsed.prefix)
        && parsed.to_word() == shape
        && counts.taken() <= geometry.region_slots
        && words[word::NEXT_FREE + 1..]
            .iter()
            .all(|eight| *eight == [0; 8])
}
