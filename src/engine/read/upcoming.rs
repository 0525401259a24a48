//! Verified copies of the next records of a segment, whose links are on their way.
//!
//! A walk copies some records, then prefetches the links of all their keys at once, so that the processor
//! translates their addresses side by side. May call `generation` and everything below it.

use crate::format::heap_addr::HeapAddr;
use crate::format::record::{Kind, RecordHeader};
use crate::hash::Hash;
use crate::heap::{Segment, WholeRecord};

use crate::engine::generation::Generation;
use crate::engine::read::redo_copy;

/// Records that are copied together. As many are always ahead of the one that is needed.
const AHEAD: usize = 16;
/// Bytes of the longest record that is copied ahead; a longer one is copied when it is needed.
const MOST_BYTES: u64 = 4096;

/// A record of an entry.
#[derive(Debug)]
pub(crate) struct Upcoming {
    pub copy: WholeRecord,
    pub unit: u32,
    pub units: u32,
    pub version: u64,
    pub value_len: u32,
    pub hash: Hash,
}

/// The records of entries that were copied, in their order.
#[derive(Debug)]
pub(crate) struct UpcomingRecords {
    records: Box<[Upcoming]>,
    first: usize,
    count: usize,
}

impl UpcomingRecords {
    pub(crate) fn new(hash: Hash) -> Self {
        let empty = || Upcoming {
            copy: WholeRecord::default(),
            unit: 0,
            units: 0,
            version: 0,
            value_len: 0,
            hash,
        };
        Self {
            records: (0..2 * AHEAD).map(|_| empty()).collect(),
            first: 0,
            count: 0,
        }
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self) {
        self.count = 0;
    }

    /// Returns whether more should be added before the next is taken.
    #[inline(always)]
    pub(crate) fn are_few(&self) -> bool {
        self.count <= AHEAD
    }

    /// Returns whether there is none.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes the next record, which stays as it is until the one after it is taken.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> Option<&Upcoming> {
        let at = self.first;
        self.count = self.count.checked_sub(1)?;
        self.first = (at + 1) % (2 * AHEAD);
        self.records.get(at)
    }

    /// Returns the record that was taken last.
    #[inline(always)]
    pub(crate) fn last(&self) -> &Upcoming {
        &self.records[(self.first + 2 * AHEAD - 1) % (2 * AHEAD)]
    }

    /// Copies the record at `unit` as the one that was taken last.
    pub(crate) fn read_last(
        &mut self,
        generation: &Generation,
        segment: &Segment,
        unit: u32,
    ) -> Option<RecordHeader> {
        let at = (self.first + 2 * AHEAD - 1) % (2 * AHEAD);
        let last = &mut self.records[at];
        let header = segment.whole_mapped(unit, u64::MAX, &mut last.copy)?;
        last.note(generation, unit, header);
        Some(header)
    }

    /// Adds the record that a writer stores at a place now, if there is none yet. Returns its words.
    #[cold]
    pub(crate) fn add_copy(
        &mut self,
        generation: &Generation,
        segment: &Segment,
        place: HeapAddr,
    ) -> Option<u32> {
        debug_assert!(self.is_empty(), "the record at the place is the next");
        self.first = 0;
        let next = &mut self.records[0];
        let header = redo_copy::read(generation, segment, place, &mut next.copy)?;
        next.note(generation, place.unit, header);
        self.count = 1;
        Some(next.units)
    }

    /// Adds the records from `unit` on, as many as there is room for. Returns where it stopped: at the
    /// end, or before a record that is long or not valid.
    #[inline(never)]
    pub(crate) fn add(
        &mut self,
        generation: &Generation,
        segment: &Segment,
        mut unit: u32,
        until: u32,
    ) -> u32 {
        let old = self.count;
        if old == 0 {
            // A long record always takes the same buffer.
            self.first = 0;
        }
        // One less: the record that was taken last stays.
        while self.count < 2 * AHEAD - 1 && unit < until {
            let at = (self.first + self.count) % (2 * AHEAD);
            let most = if self.count == 0 {
                u64::MAX
            } else {
                MOST_BYTES
            };
            let next = &mut self.records[at];
            let read = segment.whole_mapped(unit, most, &mut next.copy);
            let Some(header) = read.filter(|header| fits(header, unit, until)) else {
                break;
            };
            if header.kind == Kind::Entry {
                next.note(generation, unit, header);
                self.count += 1;
            }
            unit += (header.stored_bytes() / 8) as u32;
        }
        for at in old..self.count {
            let next = &self.records[(self.first + at) % (2 * AHEAD)];
            generation.table.prefetch_links(next.hash);
        }
        unit
    }
}

impl Upcoming {
    #[inline(always)]
    fn note(&mut self, generation: &Generation, unit: u32, header: RecordHeader) {
        self.unit = unit;
        self.units = (header.stored_bytes() / 8) as u32;
        self.version = header.mtime;
        self.value_len = header.value_len;
        self.hash = generation.hasher.hash(self.copy.key());
    }
}

/// Returns whether a record ends before the scan does.
#[inline(always)]
fn fits(header: &RecordHeader, unit: u32, until: u32) -> bool {
    u64::from(unit) + header.stored_bytes() / 8 <= u64::from(until)
}
