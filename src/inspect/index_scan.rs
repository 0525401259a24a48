//! Counts what is in an index.

use std::time::SystemTime;

use crate::error::Result;
use crate::format::Geometry;
use crate::format::record::{Kind, RecordHeader};
use crate::format::region::{DELETED, EMPTY};
use crate::format::segment::HEADER_BYTES;
use crate::format::slot::Link;
use crate::index::region::Region as IndexRegion;

use crate::inspect::file_reader::FileReader;
use crate::inspect::record;
use crate::inspect::region_state::RegionState;
use crate::inspect::slot::{distance, is_reached};

/// The contents of an index, as returned by
/// [`CacheFiles::scan_index`](crate::inspect::CacheFiles::scan_index).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct IndexScan {
    /// When the scan began.
    pub started: SystemTime,
    /// Whether the scan is complete, no entry has changed since the files were opened, and no change
    /// was in flight, not even one of a killed writer. Then an invalid slot is damage.
    pub consistent: bool,
    /// Slots of live regions that have an entry.
    pub entries: u64,
    /// Free slots of live regions that searches still probe.
    pub deleted: u64,
    /// Empty slots of live regions.
    pub empty: u64,
    /// Invalid slots of live regions, which are in no other count.
    pub invalid: u64,
    /// Entries by the number of groups of eight slots that a search for them probes: first those in
    /// the first group.
    pub entries_by_groups: Vec<u64>,
    /// Entries of a [`Cache`](crate::Cache) by how often they were used since they were put or last kept,
    /// from 0 to 3: those of the first count go first. All zeros for other types.
    pub entries_by_uses: [u64; 4],
    /// The groups that a search for an absent key probes, as the mean over all home groups; at least
    /// 1, or 0 without a live region.
    pub miss_groups: f64,
    /// Heap bytes of the records of entries.
    pub live_bytes: u64,
    /// All regions, in the order of their numbers.
    pub regions: Vec<RegionScan>,
    /// Number, records of entries and their bytes of each segment.
    segments: Vec<(u16, u64, u64)>,
}

/// The contents of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionScan {
    /// The number of the region.
    pub number: u32,
    pub(super) state: RegionState,
    /// Slots of the region.
    pub slots: u16,
    /// Slots that have an entry. 0 in a region that is not live, as in the next two counts.
    pub occupied: u16,
    /// Free slots that searches still probe.
    pub deleted: u16,
    /// Invalid slots.
    pub invalid: u16,
}

/// The records of entries in a segment.
#[derive(Debug)]
struct Segment {
    number: u16,
    file: FileReader,
    len: u64,
    records: u64,
    bytes: u64,
}

impl RegionScan {
    /// Returns the state of the region: "unused", "being built", "live", "free" for reuse, or
    /// "unknown" for an invalid state.
    pub fn state(&self) -> &'static str {
        self.state.as_str()
    }

    /// Returns whether the region is live.
    pub fn is_live(&self) -> bool {
        self.state == RegionState::Live
    }
}

impl IndexScan {
    /// Returns the groups that a search for a present key probes, on average; 0 without entries.
    pub fn hit_groups(&self) -> f64 {
        let groups = (1..)
            .zip(&self.entries_by_groups)
            .map(|(groups, count)| groups * count);
        groups.sum::<u64>() as f64 / self.entries.max(1) as f64
    }

    /// Returns the number of slots in live regions.
    pub fn slots(&self) -> u64 {
        self.entries + self.deleted + self.empty + self.invalid
    }

    /// Returns count and bytes of the records of entries in a segment.
    pub fn live_records(&self, segment: u16) -> (u64, u64) {
        let found = (self.segments).binary_search_by_key(&segment, |&(number, ..)| number);
        let segment = found.ok().and_then(|at| self.segments.get(at));
        segment.map_or((0, 0), |&(_, records, bytes)| (records, bytes))
    }
}

/// A scan in progress.
pub(super) struct IndexScanner<F> {
    scan: IndexScan,
    segments: Vec<Segment>,
    geometry: Geometry,
    entry: F,
    groups: u64,
    misses: u64,
}

/// The state of a slot as the scan counts it.
enum SlotClass {
    Empty,
    Deleted,
    Entry,
    Invalid,
}

impl<F: FnMut(u16, u32, u64)> IndexScanner<F> {
    /// Begins a scan. `segments` has file and length of each segment, in the order of their numbers;
    /// `entry` receives key length, value length and version of each entry.
    pub(super) fn new(geometry: Geometry, segments: Vec<(u16, FileReader, u64)>, entry: F) -> Self {
        let segments = segments.into_iter().map(|(number, file, len)| Segment {
            number,
            file,
            len,
            records: 0,
            bytes: 0,
        });
        Self {
            segments: segments.collect(),
            scan: IndexScan {
                started: SystemTime::now(),
                consistent: false,
                entries: 0,
                deleted: 0,
                empty: 0,
                invalid: 0,
                entries_by_groups: vec![0; geometry.region_slots as usize / 8],
                entries_by_uses: [0; 4],
                miss_groups: 0.0,
                live_bytes: 0,
                regions: Vec::new(),
                segments: Vec::new(),
            },
            geometry,
            entry,
            groups: 0,
            misses: 0,
        }
    }

    /// Counts the slots of a region.
    pub(super) fn region(&mut self, region: IndexRegion<'_>) -> Result<()> {
        let mut count = RegionScan {
            number: region.number(),
            state: RegionState::new(region.stamp()),
            slots: self.geometry.region_slots as u16,
            occupied: 0,
            deleted: 0,
            invalid: 0,
        };
        if count.is_live() {
            let mut empty = 0;
            for index in 0..self.geometry.region_slots {
                match self.slot(region, index)? {
                    SlotClass::Empty => empty += 1,
                    SlotClass::Deleted => count.deleted += 1,
                    SlotClass::Entry => count.occupied += 1,
                    SlotClass::Invalid => count.invalid += 1,
                }
            }
            let used = count.occupied + count.deleted + count.invalid;
            debug_assert_eq!(empty + u64::from(used), u64::from(count.slots));
            let scan = &mut self.scan;
            scan.empty += empty;
            scan.entries += u64::from(count.occupied);
            scan.deleted += u64::from(count.deleted);
            scan.invalid += u64::from(count.invalid);
            self.groups += region.group_count();
            self.misses += region.miss_groups();
        }
        self.scan.regions.push(count);
        Ok(())
    }

    #[inline]
    fn slot(&mut self, region: IndexRegion<'_>, index: u32) -> Result<SlotClass> {
        let (control, link) = (region.control(index), region.link(index));
        match (control, link.is_entry()) {
            (EMPTY, false) => return Ok(SlotClass::Empty),
            (DELETED, false) => return Ok(SlotClass::Deleted),
            (0x80.., true) => {}
            _ => return Ok(SlotClass::Invalid),
        }
        let hash = region.slot(index).hash(link, control);
        let in_place = region.shape().holds(hash.directory()) && is_reached(region, hash, index);
        let Some(header) = self.record(link)?.filter(|_| in_place) else {
            return Ok(SlotClass::Invalid);
        };
        let groups = distance(&self.geometry, hash, index) as usize;
        self.scan.entries_by_groups[groups - 1] += 1;
        if self.geometry.is_cache() {
            self.scan.entries_by_uses[usize::from(region.mark(index))] += 1;
        }
        (self.entry)(header.key_len, header.value_len, header.mtime);
        Ok(SlotClass::Entry)
    }

    /// Counts the record of an entry, by its header. Returns `None` if no segment can contain it.
    #[inline]
    fn record(&mut self, link: Link) -> Result<Option<RecordHeader>> {
        let address = link.addr();
        let segments = &mut self.segments;
        let found = segments.binary_search_by_key(&address.segment, |segment| segment.number);
        let Some(segment) = found.ok().and_then(|at| segments.get_mut(at)) else {
            return Ok(None);
        };
        let header = record::read_header(&segment.file, address.bytes(), self.geometry.variant)?;
        let is_inside = |header: &RecordHeader| {
            let at = address.bytes();
            at >= HEADER_BYTES && at + header.stored_bytes() <= segment.len
        };
        let Some(header) = header.filter(|header| header.kind == Kind::Entry && is_inside(header))
        else {
            return Ok(None);
        };
        segment.records += 1;
        segment.bytes += header.stored_bytes();
        self.scan.live_bytes += header.stored_bytes();
        Ok(Some(header))
    }

    /// Ends the scan.
    pub(super) fn finish(mut self, consistent: bool) -> IndexScan {
        while self.scan.entries_by_groups.last() == Some(&0) {
            self.scan.entries_by_groups.pop();
        }
        self.scan.consistent = consistent;
        let counts = |segment: &Segment| (segment.number, segment.records, segment.bytes);
        self.scan.segments = self.segments.iter().map(counts).collect();
        self.scan.miss_groups = self.misses as f64 / self.groups.max(1) as f64;
        self.scan
    }
}
