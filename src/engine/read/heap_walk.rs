//! A walk over the records of the heap, in their order, that finds the live ones.
//!
//! A record is live if a link in its key's region leads back to it. So an entry costs a sequential read
//! and one random cache line, the links of its home group, which is asked for [`AHEAD`] records before.
//! Knows one generation and takes no lock; what it cannot decide, it hands to the listing. May call
//! `part`, `generation` and everything below it.

use crate::error::Result;
use crate::format::heap_addr::HeapAddr;
use crate::format::record::{Kind, RecordHeader};
use crate::format::segment::first_place;
use crate::hash::Hash;
use crate::heap::segment::PEEKED_KEY;
use crate::heap::{ScanItem, Segment, WholeRecord};
use crate::index::region::Trace;

use crate::engine::generation::Generation;
use crate::engine::read::part::Part;

/// Records whose links are asked for before they are needed.
const AHEAD: usize = 16;
/// Attempts to trace a record before the listing reads by positions what is left.
const ATTEMPTS: u32 = 10_000;

/// A walk over the records that were committed at its beginning.
#[derive(Debug)]
pub(crate) struct HeapWalk {
    first: HeapAddr,
    /// The committed end of the heap at the beginning.
    pub end: HeapAddr,
    /// The next record.
    at: HeapAddr,
    /// What the scans of the segment may still spend on bytes that are no records.
    budget: u64,
    upcoming: Upcoming,
    part: Part,
    /// The parts that are left, and where their scans begin.
    pending: Vec<(HeapAddr, Part)>,
    /// The most moved entries that a part remembers.
    most_moved: usize,
    began: bool,
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
    Live(RecordHeader),
    /// A record whose key, of this hash, may have an entry at or after the walk's end.
    Moved(Hash),
    /// The end.
    Over,
}

/// The next records of a segment, with the hashes of their keys, whose links are prefetched.
#[derive(Debug)]
struct Upcoming {
    records: [(u32, Option<Hash>); 2 * AHEAD],
    /// Kept from one to the next: clearing it each time takes longer than filling it.
    key: [u8; PEEKED_KEY],
    first: usize,
    count: usize,
    /// The record after them; `None` if that is not known.
    next: Option<u32>,
}

impl HeapWalk {
    /// Begins a walk. `None` if a segment is not mapped, or the end of the heap cannot be right.
    ///
    /// The oldest segment first, then the end: an entry that exists when the end is loaded has its
    /// record between them, or, if it was not committed yet, right at the end.
    pub(crate) fn new(generation: &Generation, most_moved: usize) -> Option<Self> {
        let header = generation.header();
        let oldest = header.checked_oldest()?;
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
            budget: u64::MAX,
            upcoming: Upcoming::new(),
            part: Part::default(),
            pending: Vec::new(),
            most_moved,
            began: false,
            is_over: false,
            is_incomplete: false,
            unseen: Vec::new(),
        })
    }

    /// Finds the next record that the listing needs, and copies it to `record`.
    #[inline(always)]
    pub(crate) fn next(
        &mut self,
        generation: &Generation,
        record: &mut WholeRecord,
    ) -> Result<Found> {
        if !self.began {
            self.began = true;
            if let Some(found) = self.in_flight(generation, record) {
                return Ok(found);
            }
        }
        loop {
            let place = self.at;
            let segment = generation.segment(place.segment);
            let until = segment.map_or(0, |segment| self.until(segment));
            let Some(segment) = segment.filter(|_| place.unit < until) else {
                match self.leave_segment(segment.is_some()) {
                    true => continue,
                    false => return Ok(Found::Over),
                }
            };
            let hash = self.upcoming.take(generation, segment, place.unit, until);
            let read = segment.whole_mapped(place.unit, record);
            let header = match read.filter(|header| fits(header, place.unit, until)) {
                Some(header) => header,
                None => match self.read_slowly(segment, record)? {
                    Some(header) => header,
                    None => continue,
                },
            };
            self.at.unit += (header.stored_bytes() / 8) as u32;
            if header.kind != Kind::Entry {
                continue;
            }
            let hash = hash.unwrap_or_else(|| generation.hasher.hash(record.key()));
            if !self.part.has(hash) {
                continue;
            }
            let traced = generation.table.trace(hash, place, self.end);
            match traced.or_else(|| self.trace_slowly(generation, hash, place)) {
                Some(Trace::Live) => return Ok(Found::Live(header)),
                Some(Trace::Later) => return Ok(Found::Moved(hash)),
                Some(Trace::Dead) | None => {}
            }
        }
    }

    /// Looks at the record that was written when the walk began. Its link may have been there before
    /// the end was after it, so it is treated as that of an entry that was moved since.
    #[cold]
    fn in_flight(&mut self, generation: &Generation, record: &mut WholeRecord) -> Option<Found> {
        let segment = generation.segment(self.end.segment)?;
        let header = segment.whole_mapped(self.end.unit, record)?;
        (header.kind == Kind::Entry).then(|| Found::Moved(generation.hasher.hash(record.key())))
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

    /// Goes to the next segment, or to the next part. Returns false at the end of the last part.
    #[cold]
    fn leave_segment(&mut self, is_mapped: bool) -> bool {
        if !is_mapped {
            self.give_up_segment();
        }
        self.budget = u64::MAX;
        self.upcoming.count = 0;
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

    /// Reads the current record if it is after what was known to be mapped. Passes over bytes that are
    /// no valid record, and returns `None`.
    #[cold]
    fn read_slowly(
        &mut self,
        segment: &Segment,
        record: &mut WholeRecord,
    ) -> Result<Option<RecordHeader>> {
        let (from, until) = (self.at.unit, self.until(segment));
        segment.refresh()?;
        let read = segment.whole_mapped(from, record);
        if let Some(header) = read.filter(|header| fits(header, from, until)) {
            return Ok(Some(header));
        }
        let mut scanner = segment.scan(from, until).within(self.budget);
        match scanner.next_item()? {
            // Zeros: a rotated segment ends here, and before the heap's end there are none.
            None => self.is_incomplete |= self.at.segment == self.end.segment,
            Some(ScanItem::Record(..) | ScanItem::Corrupt { .. }) => self.is_incomplete = true,
        }
        self.budget = scanner.budget();
        if scanner.gave_up() {
            self.give_up_segment();
        }
        self.at.unit = scanner.unit().max(from + 1);
        Ok(None)
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
            self.pending.push((self.at, other));
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

/// Returns whether a record ends before the scan does.
#[inline(always)]
fn fits(header: &RecordHeader, unit: u32, until: u32) -> bool {
    u64::from(unit) + header.stored_bytes() / 8 <= u64::from(until)
}

impl Upcoming {
    fn new() -> Self {
        Self {
            records: [(0, None); 2 * AHEAD],
            key: [0; PEEKED_KEY],
            first: 0,
            count: 0,
            next: None,
        }
    }

    /// Returns the hash of the record at `unit`, if it is known, and prefetches links for the records
    /// after it.
    #[inline(always)]
    fn take(
        &mut self,
        generation: &Generation,
        segment: &Segment,
        unit: u32,
        until: u32,
    ) -> Option<Hash> {
        if self.count == 0 || self.records[self.first].0 != unit {
            (self.count, self.next) = (0, Some(unit));
        }
        if self.count <= AHEAD && self.next.is_some() {
            self.refill(generation, segment, until);
        }
        let (_, hash) = self.records[self.first];
        if self.count > 0 {
            self.first = (self.first + 1) % (2 * AHEAD);
            self.count -= 1;
            return hash;
        }
        None
    }

    /// Adds as many records as there is room for, then prefetches the links of all of them.
    #[inline(never)]
    fn refill(&mut self, generation: &Generation, segment: &Segment, until: u32) {
        let old = self.count;
        while self.count < 2 * AHEAD && self.add(generation, segment, until) {}
        for at in old..self.count {
            if let (_, Some(hash)) = self.records[(self.first + at) % (2 * AHEAD)] {
                generation.table.prefetch_links(hash);
            }
        }
    }

    /// Adds the next record. Returns false if there is none that can be told.
    #[inline(always)]
    fn add(&mut self, generation: &Generation, segment: &Segment, until: u32) -> bool {
        let next = self.next.take().filter(|&unit| unit < until);
        let Some(unit) = next else {
            return false;
        };
        let Some((units, key)) = segment.peek(unit, &mut self.key) else {
            return false;
        };
        // Only a hint: the record is verified when it is read, and a link must lead to it.
        let hash = key.map(|key| generation.hasher.hash(key));
        self.records[(self.first + self.count) % (2 * AHEAD)] = (unit, hash);
        self.count += 1;
        self.next = unit.checked_add(units);
        true
    }
}
