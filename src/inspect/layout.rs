//! Where things stand in an index, also where its header cannot be believed.
//!
//! Knows who else says how large regions are, and how to choose among those who disagree. Does not
//! know what is in a region.

use crate::error::{Corruption, Error, ErrorKind, Result};
use crate::format::index::IndexHeader;
use crate::format::record::Variant;
use crate::format::region::{
    self, MAX_INCARNATION, RegionShape, RegionStateWord, SlotCounts, word,
};
use crate::format::seal;
use crate::format::seal::HeaderError as SealFault;
use crate::format::segment::SegmentHeader;
use crate::format::{Geometry, VERSION};
use crate::hash::Hasher;
use crate::os::file_names::{FileNames, Stage};

use crate::inspect::companion::{Companion, Role};
use crate::inspect::overview::Overview;
use crate::inspect::source::Source;

/// Regions that are looked at to tell a right geometry from a wrong one.
const SAMPLE: u64 = 64;
/// Segments whose headers are asked where the index's own cannot be believed.
const WITNESSES: usize = 64;

/// Who said where things stand in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayoutSource {
    /// The index's own header, whose checksum holds.
    Index,
    /// The index's own header, though its checksum does not hold: the regions are where it says.
    DamagedIndex,
    /// The header of this segment of the heap, which repeats the index's.
    Segment(u16),
}

/// Where things stand in the index file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Layout {
    /// Who says so.
    pub source: LayoutSource,
    /// Slots in a region.
    pub region_slots: u32,
    /// Bytes of each key that its slot repeats.
    pub inline_key_bytes: u32,
    /// The directory has room for two to this power of entries.
    pub directory_bits: u32,
    /// Whether keys have a number instead of a value, as in the files of
    /// [`Labels`](crate::Labels).
    pub numbered: bool,
    /// Where the first region begins, in bytes from the file's start.
    pub regions_at: u64,
    /// Bytes of a region.
    pub region_bytes: u64,
    /// Regions that the header counts; where that cannot be true, those that the file has room for.
    pub regions: u32,
}

/// A layout, and what the engine makes of it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) layout: Layout,
    pub(super) geometry: Geometry,
}

/// What can be known without the index's regions: which may be nothing.
#[derive(Debug)]
pub(super) struct Knowledge {
    pub(super) known: Option<Known>,
    pub(super) heap_id: Option<u64>,
    pub(super) hasher: Option<Hasher>,
    /// Version and unknown flags of the index's header, where it is of another release.
    pub(super) other_release: Option<(u32, u32)>,
}

/// One who says what the geometry is.
struct Witness {
    source: LayoutSource,
    geometry: Option<Geometry>,
    heap_id: u64,
    hasher: Option<Hasher>,
}

impl Knowledge {
    pub(super) fn gather(names: &FileNames, index: &Source, overview: &Overview) -> Result<Self> {
        let bytes = index.read(0, size_of::<IndexHeader>() as u64)?;
        let own = bytemuck::try_pod_read_unaligned::<IndexHeader>(&bytes).ok();
        let other_release = match seal::open::<IndexHeader>(&bytes) {
            Err(SealFault::Version(found)) => Some((found, 0)),
            Err(SealFault::Flags(flags)) => Some((VERSION, flags)),
            _ => None,
        };
        let trusted = overview
            .sealed
            .as_ref()
            .is_some_and(|sealed| sealed.checksum_ok == Some(true))
            && other_release.is_none();
        let own = own.map(|header| by_index(&header, trusted));
        if let Some(own) = own.as_ref().filter(|own| trusted && own.geometry.is_some()) {
            return Ok(Self {
                known: own.layout(index, overview)?,
                heap_id: Some(own.heap_id),
                hasher: own.hasher,
                other_release,
            });
        }
        let segments = by_segments(names, overview)?;
        let heap_id = heap_id(own.as_ref(), &segments, trusted);
        // A witness of another heap tells of another index; the index itself comes first.
        let believed = other_release.is_none();
        let heard: Vec<Witness> = own
            .filter(|_| believed)
            .into_iter()
            .chain(
                segments
                    .into_iter()
                    .filter(|one| Some(one.heap_id) == heap_id),
            )
            .collect();
        let mut best: Option<(i64, &Witness)> = None;
        for one in heard.iter().filter(|one| one.geometry.is_some()) {
            let score = one.score(index)?;
            if best.is_none_or(|(highest, _)| score > highest) {
                best = Some((score, one));
            }
        }
        let known = match best {
            Some((_, one)) => one.layout(index, overview)?,
            None => None,
        };
        Ok(Self {
            known,
            heap_id,
            hasher: heard.iter().find_map(|one| one.hasher),
            other_release,
        })
    }

    /// The layout, or why there is none.
    pub(super) fn known(&self, index: &Source) -> Result<&Known> {
        self.known.as_ref().ok_or_else(|| match self.other_release {
            Some((found, flags)) => ErrorKind::UnsupportedVersion {
                found,
                supported: VERSION,
                flags,
            }
            .at(&index.path()),
            None => Error::corrupted(
                index.path(),
                Corruption::Layout,
                std::mem::offset_of!(IndexHeader, region_slots) as u64,
            ),
        })
    }
}

fn by_index(header: &IndexHeader, trusted: bool) -> Witness {
    Witness {
        source: match trusted {
            true => LayoutSource::Index,
            false => LayoutSource::DamagedIndex,
        },
        geometry: header.geometry().ok(),
        heap_id: header.heap_id,
        hasher: header
            .hash_kind()
            .map(|kind| Hasher::new(kind, header.hash_seed))
            .filter(|hasher| hasher.check_value() == header.hash_check),
    }
}

/// The headers of the last segments that can be believed, the last first: those before may tell of
/// smaller regions than there are now.
fn by_segments(names: &FileNames, overview: &Overview) -> Result<Vec<Witness>> {
    let segments = overview.files.iter().rev().filter_map(segment_number);
    let mut found = Vec::new();
    for (number, stage) in segments.take(WITNESSES) {
        let Some(file) = Source::open_if_there(&names.segment(number, stage))? else {
            continue;
        };
        let bytes = file.read(0, size_of::<SegmentHeader>() as u64)?;
        let Ok(header) = seal::open::<SegmentHeader>(&bytes) else {
            continue;
        };
        found.push(Witness {
            source: LayoutSource::Segment(number),
            geometry: header.geometry(),
            heap_id: header.heap_id,
            hasher: header
                .hash_kind()
                .map(|kind| Hasher::new(kind, header.hash_seed)),
        });
    }
    Ok(found)
}

fn segment_number(file: &Companion) -> Option<(u16, Stage)> {
    let stage = if file.staged {
        Stage::New
    } else {
        Stage::Final
    };
    match file.role {
        Role::Segment(number) if file.belongs_to.is_some() => Some((number, stage)),
        _ => None,
    }
}

/// The heap of the index: as it says itself, if it can be believed or a segment agrees; else that
/// of the last segment.
fn heap_id(own: Option<&Witness>, segments: &[Witness], trusted: bool) -> Option<u64> {
    let own = own.map(|own| own.heap_id);
    let agreed = own.filter(|&id| trusted || segments.iter().any(|one| one.heap_id == id));
    agreed
        .or_else(|| segments.first().map(|one| one.heap_id))
        .or(own)
}

impl Witness {
    fn layout(&self, index: &Source, overview: &Overview) -> Result<Option<Known>> {
        let Some(geometry) = self.geometry else {
            return Ok(None);
        };
        let room = room(&geometry, index)?;
        let counted = overview.changing.as_ref().map(|header| header.regions);
        let regions = counted.filter(|&count| count <= room).unwrap_or(room);
        Ok(Some(Known {
            geometry,
            layout: Layout {
                source: self.source,
                region_slots: geometry.region_slots,
                inline_key_bytes: geometry.inline_key,
                directory_bits: geometry.directory_bits,
                numbered: geometry.variant == Variant::Numbered,
                regions_at: geometry.regions_at(),
                region_bytes: geometry.region_bytes() as u64,
                regions: regions as u32,
            },
        }))
    }

    /// How many of the first regions look like regions where this geometry puts them, less those
    /// that do not.
    fn score(&self, index: &Source) -> Result<i64> {
        let Some(geometry) = self.geometry else {
            return Ok(i64::MIN);
        };
        let mut score = 0;
        for number in 0..room(&geometry, index)?.min(SAMPLE) {
            let at = geometry.regions_at() + number * geometry.region_bytes() as u64;
            let bytes = index.read(at, region::HEADER_BYTES as u64)?;
            // Never used: it tells nothing.
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

/// Regions that the file has room for.
fn room(geometry: &Geometry, index: &Source) -> Result<u64> {
    let bytes = index.len()?.saturating_sub(geometry.regions_at());
    Ok((bytes / geometry.region_bytes() as u64).min(geometry.max_regions()))
}

/// Whether bytes can be a region's header.
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
