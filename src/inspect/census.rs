//! What is in an index, counted in one pass.
//!
//! Knows what slots say of themselves and of the heap. What stands in the heap, and whether it
//! verifies, it does not know.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::format::Geometry;
use crate::format::record::{Kind, RecordHeader, Variant};
use crate::format::region::{DELETED, EMPTY};
use crate::format::segment::HEADER_BYTES;
use crate::format::slot::{Link, RecordMeta};
use crate::index::region::{Region as Generation, Slot as SlotView};

use crate::inspect::histogram::Histogram;
use crate::inspect::layout::Known;
use crate::inspect::overview::Overview;
use crate::inspect::region::RegionState;
use crate::inspect::slot::{distance, is_reached};

/// What is in an index, counted; made by [`Anatomy::census`](crate::inspect::Anatomy::census).
///
/// One pass reads the whole index once, a MiB at a time, and never the heap: 160 MB, which is a
/// million entries of the default kind, take some 0.1 s from the page cache. It takes no lock.
/// While somebody writes, the numbers are of different moments, and slots can seem implausible that
/// never were; [`steady`](Self::steady) says whether anybody did.
///
/// It keeps 16 bytes for each region, which is a 2,500th of an index of the default kind and never
/// more than a twentieth, and 48 bytes for each segment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Census {
    /// When it began. Ages are counted back from here.
    pub taken: SystemTime,
    /// Whether no entry has changed since the files were opened, no change was under way, be it that
    /// of a writer killed at it, and the pass came to its end. Then an implausible slot is damage.
    pub steady: bool,
    /// Slots of live regions that hold an entry, as far as the index tells.
    pub entries: u64,
    /// Slots of live regions that are free, but that searches still pass.
    pub deleted: u64,
    /// Slots of live regions that are free.
    pub empty: u64,
    /// Slots of live regions that cannot be right. They are counted nowhere else, so all slots of
    /// live regions are the sum of these four.
    pub implausible: u64,
    /// Entries by the groups of eight slots that a search looks at until it finds them: first those
    /// that are found in the first group.
    pub probes: Vec<u64>,
    /// Groups that a search for an absent key looks at, on average over where it begins; 1 at best,
    /// 0 where there is no region.
    pub miss_groups: f64,
    /// Bytes of the keys.
    pub key_bytes: Histogram,
    /// Bytes of the values. Empty where entries are numbered.
    pub value_bytes: Histogram,
    /// Seconds since the entries were written; 0 for those of the future. Empty where entries are
    /// numbered.
    pub ages: Histogram,
    /// Heap bytes of the records that entries link to.
    pub live_bytes: u64,
    /// Regions, by their numbers.
    pub regions: Vec<RegionCount>,
    /// Segments whose files are there, by their numbers.
    pub segments: Vec<SegmentCount>,
}

/// What is in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionCount {
    /// Its number.
    pub number: u32,
    /// What it is; where it is not live, its slots are not counted.
    pub state: RegionState,
    /// Slots that it has.
    pub slots: u16,
    /// Slots that hold an entry, as far as the index tells.
    pub occupied: u16,
    /// Slots that are free, but that searches still pass.
    pub deleted: u16,
    /// Slots that cannot be right.
    pub implausible: u16,
}

/// What entries link to in a segment of the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentCount {
    /// Its number.
    pub number: u16,
    /// Bytes of its file.
    pub len: u64,
    /// Bytes up to the heap's end, its header included: of the segments before the last all of
    /// them, of those behind it none.
    pub used: u64,
    /// Records that entries link to.
    pub live_records: u64,
    /// Bytes of these records.
    pub live_bytes: u64,
    /// Bytes in use that no entry links to, the header not among them: what cleaning reclaims.
    pub dead_bytes: u64,
}

impl Census {
    /// Groups that a search for a key that is there looks at, on average; 0 where there is none.
    pub fn hit_groups(&self) -> f64 {
        let groups = (1..)
            .zip(&self.probes)
            .map(|(groups, count)| groups * count);
        groups.sum::<u64>() as f64 / self.entries.max(1) as f64
    }

    /// Slots of live regions.
    pub fn slots(&self) -> u64 {
        self.entries + self.deleted + self.empty + self.implausible
    }
}

/// A census under way.
#[derive(Debug)]
pub(super) struct Counting {
    census: Census,
    geometry: Geometry,
    now: u64,
    groups: u64,
    misses: u64,
}

/// What a slot counts as.
enum Kept {
    Empty,
    Deleted,
    Entry,
    Implausible,
}

impl Counting {
    pub(super) fn new(known: &Known, segments: Vec<(u16, u64)>, overview: &Overview) -> Self {
        let taken = SystemTime::now();
        let since = taken.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let tail = overview.changing.as_ref().map(|header| header.tail);
        let segments = segments.into_iter().map(|(number, len)| {
            let used = match tail {
                Some(tail) if tail.segment == number => tail.at.min(len),
                Some(tail) if tail.segment < number => 0,
                _ => len,
            };
            SegmentCount {
                number,
                len,
                used,
                live_records: 0,
                live_bytes: 0,
                dead_bytes: 0,
            }
        });
        Self {
            census: Census {
                taken,
                steady: false,
                entries: 0,
                deleted: 0,
                empty: 0,
                implausible: 0,
                probes: vec![0; known.geometry.region_slots as usize / 8],
                miss_groups: 0.0,
                key_bytes: Histogram::default(),
                value_bytes: Histogram::default(),
                ages: Histogram::default(),
                live_bytes: 0,
                regions: Vec::new(),
                segments: segments.collect(),
            },
            geometry: known.geometry,
            now: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
            groups: 0,
            misses: 0,
        }
    }

    /// Counts a region's slots.
    pub(super) fn region(&mut self, generation: Generation<'_>) {
        let mut count = RegionCount {
            number: generation.number(),
            state: RegionState::of(generation.stamp()),
            slots: self.geometry.region_slots as u16,
            occupied: 0,
            deleted: 0,
            implausible: 0,
        };
        if count.state == RegionState::Live {
            let mut empty = 0;
            for index in 0..self.geometry.region_slots {
                match self.slot(generation, index) {
                    Kept::Empty => empty += 1,
                    Kept::Deleted => count.deleted += 1,
                    Kept::Entry => count.occupied += 1,
                    Kept::Implausible => count.implausible += 1,
                }
            }
            let used = count.occupied + count.deleted + count.implausible;
            debug_assert_eq!(empty + u64::from(used), u64::from(count.slots));
            let census = &mut self.census;
            census.empty += empty;
            census.entries += u64::from(count.occupied);
            census.deleted += u64::from(count.deleted);
            census.implausible += u64::from(count.implausible);
            self.groups += generation.group_count();
            self.misses += generation.miss_groups();
        }
        self.census.regions.push(count);
    }

    #[inline]
    fn slot(&mut self, generation: Generation<'_>, index: u32) -> Kept {
        let (control, link) = (generation.control(index), generation.link(index));
        match (control, link.is_entry()) {
            (EMPTY, false) => return Kept::Empty,
            (DELETED, false) => return Kept::Deleted,
            (0x80.., true) => {}
            _ => return Kept::Implausible,
        }
        let slot = generation.slot(index);
        let hash = slot.hash(link, control);
        let meta = slot.meta(link.which());
        let at_home =
            generation.shape().holds(hash.directory()) && is_reached(generation, hash, index);
        if !at_home || !self.link_to(link, slot, meta) {
            return Kept::Implausible;
        }
        self.census.probes[distance(&self.geometry, hash, index) as usize - 1] += 1;
        self.census.key_bytes.add(slot.identity().key_len.into());
        if self.geometry.variant == Variant::Versioned {
            self.census.value_bytes.add(meta.value_len.into());
            let age = self.now.saturating_sub(meta.mtime) / 1_000_000_000;
            self.census.ages.add(age);
        }
        Kept::Entry
    }

    /// Counts the record of an entry. False if it cannot stand there.
    #[inline]
    fn link_to(&mut self, link: Link, slot: SlotView<'_>, meta: RecordMeta) -> bool {
        let (place, key_len) = (link.addr(), slot.identity().key_len);
        let header = RecordHeader {
            variant: self.geometry.variant,
            value_len: meta.value_len,
            mtime: meta.mtime,
            key_len,
            kind: Kind::Entry,
        };
        let bytes = header.stored_bytes();
        let segments = &mut self.census.segments;
        let found = segments.binary_search_by_key(&place.segment, |segment| segment.number);
        let Some(segment) = found.ok().and_then(|at| segments.get_mut(at)) else {
            return false;
        };
        let inside = place.bytes() >= HEADER_BYTES && place.bytes() + bytes <= segment.len;
        if key_len == 0 || !inside {
            return false;
        }
        segment.live_records += 1;
        segment.live_bytes += bytes;
        self.census.live_bytes += bytes;
        true
    }

    pub(super) fn end(mut self, steady: bool) -> Census {
        for segment in &mut self.census.segments {
            let records = segment.used.saturating_sub(HEADER_BYTES);
            segment.dead_bytes = records.saturating_sub(segment.live_bytes);
        }
        while self.census.probes.last() == Some(&0) {
            self.census.probes.pop();
        }
        self.census.steady = steady;
        self.census.miss_groups = self.misses as f64 / self.groups.max(1) as f64;
        self.census
    }
}
