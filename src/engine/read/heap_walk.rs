//! A walk over the records of the heap, in their order, that finds the live ones.
//!
//! A record is live if a link in its key's region leads back to it. So an entry costs a sequential read
//! and one random cache line, the links of its home group, which is asked for some records before.
//! Knows one generation and takes no lock; what it cannot decide, it hands to the listing. May call
//! `part`, `upcoming`, `generation` and everything below them.

use crate::error::Result;
use crate::format::heap_addr::HeapAddr;
use crate::format::record::Kind;
use crate::format::segment::first_place;
use crate::hash::Hash;
use crate::heap::{ScanItem, Segment, WholeRecord};
use crate::index::region::Trace;
use crate::sync::acquire_fence;

use crate::engine::generation::Generation;
use crate::engine::read::part::Part;
use crate::engine::read::redo_copy;
use crate::engine::read::upcoming::UpcomingRecords;

/// Attempts to trace a record before the listing reads by positions what is left.
const ATTEMPTS: u32 = 10_000;

/// A walk over the records that were committed at its beginning.
#[derive(Debug)]
pub(crate) struct HeapWalk {
    first: HeapAddr,
    /// The committed end of the heap at the beginning.
    pub end: HeapAddr,
    /// What is to be copied next.
    at: HeapAddr,
    /// Where the scan of another part goes on after a moved entry.
    resume: HeapAddr,
    /// What the scans of the segment may still spend on bytes that are no records.
    budget: u64,
    upcoming: UpcomingRecords,
    part: Part,
    /// The parts that are left, and where their scans begin.
    pending: Vec<(HeapAddr, Part)>,
    /// The most moved entries that a part remembers.
    most_moved: usize,
    is_begun: bool,
    pub is_over: bool,
    /// Whether entries may have been passed over, because of damage.
    pub is_incomplete: bool,
    /// From each of these places on, the rest of its segment was not seen.
    unseen: Vec<HeapAddr>,
}

/// What the walk has found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found {
    /// The record of an entry.
    Live { version: u64, value_len: u32 },
    /// A record whose key, of this hash, may have an entry at or after the walk's end.
    Moved(Hash),
    /// The end.
    Over,
}

impl HeapWalk {
    /// Begins a walk. `None` if a segment is not mapped, or the end of the heap cannot be right.
    ///
    /// The first segment, then the end: an entry that exists when the end is loaded has its record
    /// between them, or, if it was not committed yet, right at the end. No link leads into segments
    /// before the clean cursor (H4); their files may be gone.
    pub(crate) fn new(generation: &Generation, most_moved: usize) -> Option<Self> {
        let header = generation.header();
        let cleaned = header.clean_cursor().map(|cursor| cursor.addr.segment);
        let oldest = header.checked_oldest()?.max(cleaned.unwrap_or(0));
        // The end covers what was copied before the cursor came so far.
        acquire_fence();
        let end = header.tail();
        let reserved = header.reserved();
        let mut numbers = oldest..=end.segment;
        let last = generation.segment(end.segment)?;
        // H1: nothing is after the end but one record for which room is reserved.
        let is_end = reserved > end || last.is_blank(end.unit).unwrap_or(false);
        let is_mapped = numbers.all(|number| generation.segment(number).is_some());
        if !(is_end && is_mapped && generation.is_within(end) && end >= first_place(oldest)) {
            return None;
        }
        Some(Self {
            first: first_place(oldest),
            end,
            at: first_place(oldest),
            resume: first_place(oldest),
            budget: u64::MAX,
            upcoming: UpcomingRecords::new(generation.hasher.hash(b"")),
            part: Part::default(),
            pending: Vec::new(),
            most_moved,
            is_begun: false,
            is_over: false,
            is_incomplete: false,
            unseen: Vec::new(),
        })
    }

    /// Returns the copy of the record that was found last.
    #[inline(always)]
    pub(crate) fn record(&self) -> &WholeRecord {
        &self.upcoming.last().copy
    }

    /// Finds the next record that the listing needs.
    #[inline(always)]
    pub(crate) fn next(&mut self, generation: &Generation) -> Result<Found> {
        if !self.is_begun
            && let Some(found) = self.in_flight(generation)
        {
            return Ok(found);
        }
        loop {
            if self.upcoming.are_few() && !self.read_ahead(generation)? {
                return Ok(Found::Over);
            }
            let Some(next) = self.upcoming.take() else {
                continue;
            };
            if !self.part.has(next.hash) {
                continue;
            }
            let (hash, version, value_len) = (next.hash, next.version, next.value_len);
            let after = next.unit + next.units;
            let place = HeapAddr {
                unit: next.unit,
                ..self.at
            };
            let traced = generation.table.trace(hash, place, self.end);
            match traced.or_else(|| self.trace_slowly(generation, hash, place)) {
                Some(Trace::Live) => return Ok(Found::Live { version, value_len }),
                Some(Trace::Later) => {
                    self.resume = HeapAddr {
                        unit: after,
                        ..place
                    };
                    return Ok(Found::Moved(hash));
                }
                Some(Trace::Dead) | None => {}
            }
        }
    }

    /// Copies more records, and goes to the next segment if none of the current one is left. Returns
    /// false if none is left at all.
    #[inline(always)]
    fn read_ahead(&mut self, generation: &Generation) -> Result<bool> {
        let Some(segment) = generation.segment(self.at.segment) else {
            self.give_up_segment();
            return Ok(self.leave_segment());
        };
        let until = self.until(segment);
        if self.at.unit < until {
            let upcoming = &mut self.upcoming;
            self.at.unit = upcoming.add(generation, segment, self.at.unit, until);
        }
        if !self.upcoming.is_empty() {
            return Ok(true);
        }
        match self.at.unit < until {
            true => self.pass_over(generation, segment, until).map(|()| true),
            false => Ok(self.leave_segment()),
        }
    }

    /// Returns the unit at which the scan of a segment ends.
    #[inline(always)]
    fn until(&self, segment: &Segment) -> u32 {
        let most = segment.capacity_units();
        match segment.number() == self.end.segment {
            true => self.end.unit.min(most),
            false => most,
        }
    }

    /// Looks at the record that was written when the walk began. Its link may have been there before
    /// the end was after it, so it is treated as that of an entry that was moved since.
    #[cold]
    fn in_flight(&mut self, generation: &Generation) -> Option<Found> {
        self.is_begun = true;
        self.resume = self.at;
        let segment = generation.segment(self.end.segment)?;
        // The file may have grown for this very record.
        self.is_incomplete |= segment.refresh().is_err();
        let upcoming = &mut self.upcoming;
        let header = upcoming.read_last(generation, segment, self.end.unit)?;
        (header.kind == Kind::Entry).then(|| Found::Moved(self.upcoming.last().hash))
    }

    /// Goes to the next segment, or to the next part. Returns false at the end of the last part.
    #[cold]
    fn leave_segment(&mut self) -> bool {
        self.budget = u64::MAX;
        self.upcoming.clear();
        if self.at.segment < self.end.segment {
            self.at = first_place(self.at.segment + 1);
            return true;
        }
        if let Some((from, part)) = self.pending.pop() {
            (self.at, self.part) = (from, part);
            return true;
        }
        self.is_over = true;
        false
    }

    /// Notes that the rest of the segment is not seen.
    fn give_up_segment(&mut self) {
        self.is_incomplete = true;
        if !self.unseen.contains(&self.at) {
            self.unseen.push(self.at);
        }
    }

    /// Passes over bytes that are no valid record, or makes room in the mapping for one that is after
    /// what was known to be mapped.
    #[cold]
    fn pass_over(&mut self, generation: &Generation, segment: &Segment, until: u32) -> Result<()> {
        let allocated = segment.allocated();
        if segment.refresh()? > allocated {
            return Ok(());
        }
        let from = self.at.unit;
        let mut scanner = segment.scan(from, until).within(self.budget);
        match scanner.next_item()? {
            // Zeros: a rotated segment ends here, and before the heap's end there are none.
            None => self.is_incomplete |= self.at.segment == self.end.segment,
            // Another thread has made room for it in the mapping since.
            Some(ScanItem::Record(..)) => return Ok(()),
            Some(ScanItem::Corrupt { .. }) if self.is_overwritten(generation, segment) => {
                return Ok(());
            }
            Some(ScanItem::Corrupt { .. }) => self.is_incomplete = true,
        }
        self.budget = scanner.budget();
        if scanner.gave_up() {
            self.give_up_segment();
        }
        self.at.unit = scanner.unit().max(from + 1);
        Ok(())
    }

    /// Returns whether the record at the walk's place was only being overwritten. Then it is the next
    /// one, by the redo copy, or can be read again. Passed over, it would count as listed.
    fn is_overwritten(&mut self, generation: &Generation, segment: &Segment) -> bool {
        if !generation.is_in_place() {
            return false;
        }
        let place = self.at;
        for _ in 0..ATTEMPTS {
            let changes = generation.header().changes();
            if let Some(units) = self.upcoming.add_copy(generation, segment, place) {
                self.at.unit += units;
                return true;
            }
            if segment
                .verify(place.unit)
                .is_ok_and(|found| found.is_some())
            {
                return true;
            }
            if redo_copy::is_settled(generation, place, changes) {
                return false;
            }
            std::hint::spin_loop();
        }
        false
    }

    /// Traces a record whose region is not in the first window, or is being replaced. `None` if its
    /// directory entry is corrupt.
    #[cold]
    fn trace_slowly(
        &mut self,
        generation: &Generation,
        hash: Hash,
        place: HeapAddr,
    ) -> Option<Trace> {
        let traced = trace(generation, hash, place, self.end);
        self.is_incomplete |= traced.is_none();
        traced
    }

    /// Notes that an entry is listed which is at a place after the end. Returns false if it was listed
    /// before.
    pub(crate) fn note_moved(&mut self, position: u32, hash: Hash) -> bool {
        if !self.part.note_moved(position, hash) {
            return false;
        }
        if let Some(other) = self.part.split_beyond(self.most_moved) {
            self.pending.push((self.resume, other));
        }
        true
    }

    /// Returns whether the walk has listed the entry of a key that has its valid record at `place`.
    ///
    /// An entry at a place after the end counts as listed: it was moved during the walk. If it was not
    /// listed, its record was damaged before, and it was overwritten since.
    pub(crate) fn has_listed(&self, generation: &Generation, key: &[u8], place: HeapAddr) -> bool {
        let is_unseen = |from: &HeapAddr| from.segment == place.segment && *from <= place;
        if place >= self.end {
            return true;
        }
        if place < self.first || self.unseen.iter().any(is_unseen) {
            return false;
        }
        let hash = generation.hasher.hash(key);
        trace(generation, hash, place, self.end) == Some(Trace::Live)
    }
}

/// Traces a record until the answer is valid. `None` if the index is corrupt there, or writers disturb
/// each attempt.
fn trace(generation: &Generation, hash: Hash, place: HeapAddr, end: HeapAddr) -> Option<Trace> {
    let attempt = || generation.table.trace_slowly(hash, place, end);
    (0..ATTEMPTS).find_map(|_| attempt().transpose())?.ok()
}

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use super::*;

    // Another thread of the handle learns that the file has grown, after the walk has found no record
    // in what was mapped, and before it asks for the file's length.
    #[test]
    fn walk_passes_over_no_record() {
        let dir = tempfile::tempdir().unwrap();
        let cache = crate::MmapCache::open(dir.path().join("cache")).unwrap();
        for i in 0..10_u8 {
            cache.put(&[i], b"value").unwrap();
        }
        let generation = cache.handle().generation.load_full();
        let mut walk = HeapWalk::new(&generation, 1).unwrap();
        let segment = generation.segment(walk.at.segment).unwrap();
        walk.pass_over(&generation, segment, walk.until(segment))
            .unwrap();
        let mut found = 0;
        while !walk.is_over {
            let next = walk.next(&generation).unwrap();
            found += u32::from(matches!(next, Found::Live { .. }));
        }
        assert_eq!(found, 10);
    }
}
