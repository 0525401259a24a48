//! Checks one piece of a cache: slot by slot, position by position, record by record.
//!
//! What seems wrong is checked again while a writer is at work. May call `generation`, `open`,
//! `index`, `heap` and everything below them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Corruption, Result};
use crate::format::heap_addr::HeapAddr;
use crate::format::index::word;
use crate::format::record::{Kind, RecordHeader};
use crate::format::region::RegionStateWord;
use crate::format::roster::Position;
use crate::format::segment;
use crate::format::slot::Link;
use crate::hash::Hash;
use crate::heap::{ScanItem, Segment, WholeRecord};
use crate::index::attempt::Attempt;
use crate::index::region::{Region, Slot};
use crate::os::file_names::Stage;
use crate::sync::acquire_fence;

use crate::engine::generation::Generation;
use crate::engine::handle::Handle;
use crate::engine::open;
use crate::engine::read::redo_copy;

/// Faults that are listed one by one; the rest is only counted.
const LISTED: usize = 1_000;
/// Attempts after which what seems wrong is reported.
const ATTEMPTS: u32 = 20;
/// Attempts to read a record that writers overwrite again and again.
const MOST_ATTEMPTS: u32 = 10_000;
/// Slots and positions that are prefetched.
const AHEAD: usize = 32;

/// A problem that a check found: a value in a file that is invalid or contradicts another one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// The offset in the file, in bytes.
    pub at: u64,
    /// The problem, as a phrase.
    pub what: Corruption,
}

/// How much of a cache a [`Verify`](crate::Verify) checks. Each level includes the ones before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum VerifyLevel {
    /// The headers of all files and regions, and the directory. Time by the number of regions and
    /// segments.
    Headers,
    /// Every slot and roster position, and the counters of entries. Reads index and roster
    /// only.
    Slots,
    /// The checksum of every record of the heap, dead ones too, and every slot against its record.
    #[default]
    Records,
}

/// The result of a [`Verify`](crate::Verify).
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Valid entries.
    pub entries: u64,
    /// Valid records in the heap, live or dead.
    pub records: u64,
    /// Regions of the index that were checked.
    pub regions: u64,
    /// Groups of eight slots that a lookup of an absent key reads on average; 1 at best.
    pub miss_groups: f64,
    /// Bytes of the heap that should hold records and do not verify.
    pub damaged_bytes: u64,
    /// The problems, at most a thousand, sorted by file and offset.
    pub problems: Vec<Problem>,
    /// The number of all problems.
    pub problem_count: u64,
    /// Whether the counters of the header were compared too, because no process wrote during the check.
    pub totals_compared: bool,
}

/// Sums over the slots of the table.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    pub occupied: u64,
    pub deleted: u64,
    pub live: u64,
    pub groups: u64,
    pub miss_groups: u64,
}

/// What a slot said of its entry at one moment.
#[derive(Clone, Copy)]
struct LoadedEntry<'a> {
    slot: Slot<'a>,
    link: Link,
    /// The hash bits that slot, link and control byte keep.
    stored: Hash,
}

/// A part of a cache that one thread checks at a time.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    /// Directory entries, with the regions that they lead to, and the directory's depth.
    Entries(Range<u32>, u32),
    Positions(Range<u32>),
    /// A segment, and its bytes.
    Segment(u16, u64),
}

impl Sums {
    pub(crate) fn add(&mut self, other: &Self) {
        self.occupied += other.occupied;
        self.deleted += other.deleted;
        self.live += other.live;
        self.groups += other.groups;
        self.miss_groups += other.miss_groups;
    }
}

impl VerifyReport {
    /// Returns whether there are no problems.
    pub fn is_clean(&self) -> bool {
        self.problem_count == 0
    }

    pub(crate) fn fault(&mut self, path: PathBuf, at: u64, what: Corruption) {
        self.problem_count += 1;
        if self.problems.len() < LISTED {
            self.problems.push(Problem { path, at, what });
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.entries += other.entries;
        self.records += other.records;
        self.regions += other.regions;
        self.damaged_bytes += other.damaged_bytes;
        self.problem_count += other.problem_count;
        debug_assert!(self.problems.len() <= LISTED);
        let room = LISTED - self.problems.len();
        self.problems.extend(other.problems.into_iter().take(room));
    }
}

/// Returns what was read; `None` if it is corrupt. A file that the system refuses to map is not
/// corrupt.
fn unless_corrupt<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.is_corruption() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the record that a writer stores at a place now, and appends its key.
#[cold]
fn read_overwritten(
    generation: &Generation,
    segment: &Segment,
    place: HeapAddr,
    key: &mut Vec<u8>,
) -> Option<RecordHeader> {
    let mut copy = WholeRecord::default();
    let found = redo_copy::read(generation, segment, place, &mut copy)?;
    key.extend_from_slice(copy.key());
    Some(found)
}

/// Returns how many records a range has that did not verify, if that was only because writers were
/// overwriting them.
#[cold]
fn overwritten(
    generation: &Generation,
    segment: &Segment,
    from: u32,
    to: u32,
) -> Result<Option<u64>> {
    let at = |unit| HeapAddr {
        segment: segment.number(),
        unit,
    };
    let (mut unit, mut records, mut attempts) = (from, 0, 0);
    while unit < to {
        let changes = generation.header().changes();
        let whole = match segment.verify(unit)? {
            None => redo_copy::read(generation, segment, at(unit), &mut WholeRecord::default()),
            found => found,
        };
        let damaged = whole.is_none() && redo_copy::is_settled(generation, at(unit), changes);
        attempts += u32::from(whole.is_none());
        if !generation.is_in_place() || damaged || attempts == MOST_ATTEMPTS {
            return Ok(None);
        }
        if let Some(found) = whole {
            unit += (found.stored_bytes() / 8) as u32;
            records += 1;
        }
    }
    Ok(Some(records))
}

/// Returns whether the bits that the index stores are those of a key's hash.
fn is_hash_of(generation: &Generation, stored: Hash, key: &[u8]) -> bool {
    let hash = generation.hasher.hash(key);
    hash.control() == stored.control()
        && hash.tag() == stored.tag()
        && hash.stored() == stored.stored()
}

/// The result of one check of a slot: the live bytes of its record, or what is wrong.
/// [`Attempt::Absent`] is a slot without an entry.
type Checked = Attempt<u64, Corruption>;

/// A check of some pieces of one generation, by one thread.
pub(crate) struct Check<'a> {
    handle: &'a Handle,
    generation: &'a Generation,
    level: VerifyLevel,
    /// Segments that the generation does not have mapped.
    segments: BTreeMap<u16, Option<Arc<Segment>>>,
    pub report: VerifyReport,
    pub sums: Sums,
    key: Vec<u8>,
    /// The words of the header that a writer at work changes, when they were loaded last.
    seen: [u64; 4],
    /// Pauses since they changed.
    pauses: u32,
}

impl<'v> Check<'v> {
    pub(crate) fn new(handle: &'v Handle, generation: &'v Generation, level: VerifyLevel) -> Self {
        Self {
            handle,
            generation,
            level,
            segments: BTreeMap::new(),
            report: VerifyReport::default(),
            sums: Sums::default(),
            key: Vec::new(),
            seen: [0; 4],
            pauses: 0,
        }
    }

    fn fault_in_index(&mut self, generation: &Generation, at: u64, what: Corruption) {
        self.report
            .fault(generation.table.file().path().to_owned(), at, what);
    }

    /// Checks a piece.
    pub(crate) fn piece(&mut self, piece: &Piece) -> Result<()> {
        match *piece {
            Piece::Entries(ref range, depth) => {
                range.clone().try_for_each(|index| self.entry(index, depth))
            }
            Piece::Positions(ref range) => self.roster(range.clone()),
            Piece::Segment(number, _) => self.heap(number),
        }
    }

    /// Returns a segment of the generation, and maps it if necessary.
    fn segment(&mut self, number: u16) -> Result<Option<&Segment>> {
        if self.generation.segment(number).is_some() {
            return Ok(self.generation.segment(number));
        }
        if !self.segments.contains_key(&number) {
            let found = open::segment(self.generation, &self.handle.names, number)?;
            self.segments.insert(number, found);
        }
        Ok(self.segments.get(&number).and_then(Option::as_deref))
    }

    /// Checks a directory entry, and its region if this is the first entry that leads there.
    fn entry(&mut self, index: u32, depth: u32) -> Result<()> {
        for number in 0..=ATTEMPTS {
            let generation = self.generation;
            let at = crate::format::index::PAGE + u64::from(index) * 8;
            let (entry, region) = match generation
                .table
                .entry(index)
                .and_then(|entry| Ok((entry, generation.table.region(entry.region())?)))
            {
                Ok(found) => found,
                Err(error) if error.is_corruption() => {
                    self.fault_in_index(generation, at, Corruption::DirectoryEntry);
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            let shape = region.shape();
            let stamp = region.stamp();
            // S4: the region that the entry meant. S2: it serves the hashes of this entry.
            let right = stamp == RegionStateWord::live(entry.incarnation())
                && shape.holds(index)
                && shape.depth
                    <= generation
                        .table
                        .depth(generation.header().poll())
                        .unwrap_or(depth);
            if right && index != shape.prefix {
                return Ok(());
            }
            if right && self.level == VerifyLevel::Headers {
                self.report.regions += 1;
                return Ok(());
            }
            if right && self.region(generation, region, stamp)? {
                return Ok(());
            }
            if number == ATTEMPTS {
                let what = Corruption::DirectoryMismatch;
                self.fault_in_index(generation, at, what);
            } else {
                self.pause(generation);
            }
        }
        Ok(())
    }

    /// Checks a region's slots. Returns false if the region was replaced during the check.
    fn region(
        &mut self,
        generation: &Generation,
        region: Region<'_>,
        stamp: RegionStateWord,
    ) -> Result<bool> {
        let (mut live, mut right, mut wrong) = (0, 0, Vec::new());
        let mut ahead = region.full();
        for index in ahead.by_ref().take(AHEAD) {
            self.prefetch(region, index);
        }
        for index in region.full() {
            if let Some(next) = ahead.next() {
                self.prefetch(region, next);
            }
            match self.until_valid(generation, region, index)? {
                Attempt::Done(bytes) => {
                    right += 1;
                    live += bytes;
                }
                Attempt::Absent | Attempt::Retry => {}
                Attempt::Corrupt(what) => wrong.push((index, what)),
            }
        }
        let counts = region.recount();
        // S4: validates all that was read of the region.
        if region.stamp_after() != stamp {
            return Ok(false);
        }
        for (index, what) in wrong {
            let at = generation.table.body_at(region.number(), index);
            self.fault_in_index(generation, at, what);
        }
        self.compare_counts(generation, region, stamp);
        self.report.regions += 1;
        self.report.entries += right;
        self.sums.occupied += u64::from(counts.occupied);
        self.sums.deleted += u64::from(counts.deleted);
        self.sums.live += live;
        self.sums.groups += region.group_count();
        self.sums.miss_groups += region.miss_groups();
        Ok(true)
    }

    fn compare_counts(
        &mut self,
        generation: &Generation,
        region: Region<'_>,
        stamp: RegionStateWord,
    ) {
        for _ in 0..ATTEMPTS {
            let same = region.recount() == region.counts();
            // R2: with a redo record, a writer is between two stores, or was killed there.
            let busy = generation.header().has_redo();
            if same || busy || region.stamp_after() != stamp {
                return;
            }
            self.pause(generation);
        }
        let counts_at = crate::format::region::word::COUNTS as u64 * 8;
        let at = generation.table.region_at(region.number()) + counts_at;
        self.fault_in_index(generation, at, Corruption::RegionCounts);
    }

    /// Checks a slot until it is valid, or was wrong in all attempts. A free lock is no reason for
    /// fewer attempts: a writer may have released it a moment ago.
    fn until_valid(
        &mut self,
        generation: &Generation,
        region: Region<'_>,
        index: u32,
    ) -> Result<Checked> {
        let mut attempts = 0;
        loop {
            let checked = self.slot(generation, region, index)?;
            attempts += 1;
            if attempts == ATTEMPTS || !matches!(checked, Attempt::Corrupt(_)) {
                return Ok(checked);
            }
            self.pause(generation);
        }
    }

    /// Prefetches the roster position and the record of a slot, which lie all over roster and heap (a
    /// million entries: 230 ns an entry, 420 without).
    #[inline]
    fn prefetch(&self, region: Region<'_>, index: u32) {
        // Only a hint: loom must not take its loads for an ordering.
        if cfg!(loom) {
            return;
        }
        let slot = region.slot(index);
        let link = slot.link();
        self.generation.roster.prefetch(slot.identity().position);
        if self.level == VerifyLevel::Records
            && link.is_entry()
            && let Some(segment) = self.generation.segment(link.addr().segment)
        {
            segment.prefetch(link.addr().unit);
        }
    }

    /// Checks one slot against its record and its roster position.
    fn slot(&mut self, generation: &Generation, region: Region<'_>, index: u32) -> Result<Checked> {
        let slot = region.slot(index);
        let link = slot.link();
        if !link.is_entry() {
            // S3: the control byte may have been loaded before the link; it is loaded again.
            let busy = generation.header().has_redo();
            return Ok(if busy || region.control(index) < 0x80 {
                Attempt::Absent
            } else {
                Attempt::Corrupt(Corruption::ControlWithoutEntry)
            });
        }
        let (identity, control) = (slot.identity(), region.control(index));
        let stored = slot.hash(link, control);
        let entry = LoadedEntry { slot, link, stored };
        let contents = if self.level == VerifyLevel::Records {
            self.record(generation, &entry)?
        } else {
            self.link(link.addr())?
        };
        let number = generation.table.slot_number(region.number(), index);
        let listed = unless_corrupt(generation.roster.get(identity.position))?;
        let is_listed = listed == Some(Position::Slot(number));
        // S6: the directory leads to a new region before the roster does. R2: with a redo record,
        // position and slot need not name each other yet.
        let busy = generation.header().has_redo();
        if !matches!(contents, Attempt::Done(_)) {
            return Ok(contents);
        }
        Ok(if control < 0x80 {
            // S3
            Attempt::Corrupt(Corruption::EntryHash)
        } else if link.is_gone() {
            Attempt::Corrupt(Corruption::EntryDeleted)
        } else if !region.shape().holds(stored.directory()) {
            // S2
            Attempt::Corrupt(Corruption::EntryInOtherRegion)
        } else if !is_listed && !busy {
            // R2
            Attempt::Corrupt(Corruption::PositionMismatch)
        } else if !region.probe(stored).any(|(found, _, _)| found == index) {
            // S2
            Attempt::Corrupt(Corruption::EntryUnreachable)
        } else {
            contents
        })
    }

    /// Compares a slot with the record that it leads to.
    fn record(&mut self, generation: &Generation, entry: &LoadedEntry<'_>) -> Result<Checked> {
        let &LoadedEntry { slot, link, stored } = entry;
        let place = link.addr();
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        let record = match self.segment(place.segment)? {
            Some(segment) => match segment.read_any(place.unit, &mut key, None)? {
                None => read_overwritten(generation, segment, place, &mut key),
                found => found,
            },
            None => None,
        };
        let checked = match record.filter(|header| header.kind == Kind::Entry) {
            None => Attempt::Corrupt(Corruption::EntryRecord),
            Some(_) if !is_hash_of(generation, stored, &key) => {
                Attempt::Corrupt(Corruption::EntryHash)
            }
            Some(header) if !header.may_be_at(slot.identity().position) => {
                Attempt::Corrupt(Corruption::EntryVersion)
            }
            Some(header) => Attempt::Done(header.stored_bytes()),
        };
        self.key = key;
        Ok(checked)
    }

    /// Checks a slot by itself: that its link leads into a segment.
    fn link(&mut self, place: HeapAddr) -> Result<Checked> {
        let end = match self.segment(place.segment)? {
            None => return Ok(Attempt::Corrupt(Corruption::LinkToMissingSegment)),
            Some(segment) if place.bytes() < segment.allocated() => segment.allocated(),
            Some(segment) => segment.refresh()?,
        };
        Ok(
            match (segment::HEADER_BYTES..end).contains(&place.bytes()) {
                true => Attempt::Done(0),
                false => Attempt::Corrupt(Corruption::LinkBeyondEnd),
            },
        )
    }

    /// Checks R2: each position of the roster leads to a slot that names it.
    fn roster(&mut self, positions: Range<u32>) -> Result<()> {
        let generation = self.generation;
        let path = generation.roster.file().path().to_owned();
        for position in positions.clone() {
            let at = crate::format::roster::HEADER_BYTES + u64::from(position) * 4;
            let ahead = position.saturating_add(AHEAD as u32);
            if !cfg!(loom)
                && positions.contains(&ahead)
                && let Ok(Position::Slot(number)) = generation.roster.get(ahead)
            {
                generation.table.prefetch_slot(number);
            }
            for number in 0..=ATTEMPTS {
                let busy = generation.header().has_redo();
                let Some(found) = unless_corrupt(generation.roster.get(position))? else {
                    self.report.fault(path, at, Corruption::RosterTruncated);
                    return Ok(());
                };
                let Position::Slot(slot) = found else { break };
                let (region, index) = generation.table.slot_home(slot);
                let is_named =
                    unless_corrupt(generation.table.region(region))?.is_some_and(|region| {
                        region.slot(index).link().is_entry()
                            && region.slot(index).identity().position == position
                    });
                if is_named || u64::from(position) >= generation.header().counters().roster_len {
                    break;
                }
                if number == ATTEMPTS && !busy && !generation.header().has_redo() {
                    self.report
                        .fault(path.clone(), at, Corruption::PositionOfOtherEntry);
                }
                self.pause(generation);
            }
        }
        Ok(())
    }

    /// Checks the records of a segment.
    fn heap(&mut self, number: u16) -> Result<()> {
        let generation = self.generation;
        let tail = generation.header().tail();
        let level = self.level;
        let path = self.handle.names.segment(number, Stage::Final);
        let Some(segment) = self.segment(number)? else {
            // Reclaimed during the check (H4), or lost: then its entries were reported.
            if level != VerifyLevel::Records && open::has_segment_file(&self.handle.names, number) {
                let what = Corruption::SegmentHeader;
                self.report.fault(path, 0, what);
            }
            return Ok(());
        };
        if level != VerifyLevel::Records {
            return Ok(());
        }
        let end = if number == tail.segment {
            tail.unit
        } else {
            segment.capacity_units()
        };
        let path = segment.file().path().to_owned();
        let (mut records, mut damage) = (0, Vec::new());
        let mut scanner = segment.scan(0, end);
        while let Some(found) = scanner.next_item()? {
            match found {
                ScanItem::Record(..) => records += 1,
                ScanItem::Corrupt { from, to } => match overwritten(generation, segment, from, to)?
                {
                    Some(more) => records += more,
                    None => damage.push((from, to)),
                },
            }
        }
        self.report.records += records;
        for (from, to) in damage {
            self.report.damaged_bytes += u64::from(to - from) * 8;
            let what = Corruption::RecordBytes;
            self.report.fault(path.clone(), u64::from(from) * 8, what);
        }
        Ok(())
    }

    /// Checks H1: the bytes after `tail` are zero. Otherwise the index is older than the heap.
    pub(crate) fn end_of_heap(&mut self) -> Result<()> {
        let generation = self.generation;
        let tail = generation.header().tail();
        let Some(segment) = self.segment(tail.segment)? else {
            return Ok(());
        };
        if segment.is_blank(tail.unit)? {
            return Ok(());
        }
        // A writer stores `reserved` before a record.
        acquire_fence();
        if generation.header().reserved() == tail && generation.header().tail() == tail {
            let at = word::TAIL as u64 * 8;
            self.fault_in_index(generation, at, Corruption::BytesAfterTail);
        }
        Ok(())
    }

    /// Waits for a writer that seems to be at work: one whose id is in the header, where a killed
    /// writer leaves it, and that has changed something during the last pauses.
    fn pause(&mut self, generation: &Generation) {
        let header = generation.header();
        let now = header.progress();
        if self.seen != now {
            (self.seen, self.pauses) = (now, 0);
        }
        if header.holder_word() != 0 && self.pauses < ATTEMPTS {
            self.pauses += 1;
            #[cfg(not(loom))]
            std::thread::sleep(std::time::Duration::from_micros(500));
            #[cfg(loom)]
            crate::sync::loom_model::pause();
        }
    }
}
