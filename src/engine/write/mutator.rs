//! The mutator: exclusive access to one generation, with key look-up for writers.
//!
//! It works on a generation whose writer lock is held, or which no other process can see yet. It
//! stores nothing; `write::put` and others do. May call `engine::generation`, `clean::batch` and
//! everything below them.

use std::cell::Cell;
use std::sync::Arc;

use crate::error::{Corruption, Error, ErrorKind, Result};
use crate::format::MAX_KEY;
use crate::format::heap_addr::HeapAddr;
use crate::format::index::STATISTICS;
use crate::format::region::RegionStateWord;
use crate::format::roster::Position;
use crate::format::slot::{Link, MANY_UNITS};
use crate::format::{record, roster};
use crate::hash::Hash;
use crate::heap::{DeadSet, RecordRead, Segment};
use crate::index::region::{Region, Slot};
use crate::index::table::Table;
use crate::os::file_names::{FileNames, Stage};
use crate::os::files::Access;

use crate::engine::clean::batch::Batch;
use crate::engine::clean::refusal::Refusal;
use crate::engine::clean::retention::Retention;
use crate::engine::generation::Generation;
use crate::engine::heap_presence::missing_segment;
use crate::engine::open;
use crate::engine::statistics::Counter;

/// Removals that are kept for a callback, between two reports.
const NAMED: usize = 1 << 16;

/// Why a change stopped.
#[derive(Debug)]
pub(crate) enum Abort {
    /// An operation failed. One pointer wide: results are copied while the stores of a change are in
    /// flight.
    Failed(Error),
    /// The shared state contradicts itself, at this place: index and roster must be rebuilt from the
    /// heap.
    Recover(Corruption, At),
    /// The table cannot grow further with its geometry.
    Enlarge,
    /// The heap has used up its segment numbers.
    Renumber,
}

/// A place in one of a generation's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// A word of the index header.
    Word(usize),
    /// A byte of the index.
    Index(u64),
    /// A position of the roster.
    Roster(u32),
    /// A place in the heap.
    Heap(HeapAddr),
}

impl Abort {
    /// Returns whether a larger table or a larger disk would have helped.
    pub(crate) fn is_want_of_room(&self) -> bool {
        match self {
            Self::Failed(error) => matches!(error.kind(), ErrorKind::DiskFull { .. }),
            Self::Enlarge => true,
            Self::Recover(..) | Self::Renumber => false,
        }
    }
}

impl From<Error> for Abort {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

pub(crate) type WriteResult<T> = std::result::Result<T, Abort>;

/// Changes one generation.
#[derive(Debug)]
pub(crate) struct Mutator {
    pub generation: Arc<Generation>,
    pub names: Arc<FileNames>,
    /// Under which names this generation's segments are made.
    pub stage: Stage,
    /// The generation's table again, kept from the last change; see [`Mutator::with_table`].
    table: Option<Arc<Table>>,
    /// Segments whose files were removed; dropping the last reference gives back memory and blocks.
    pub removed: Vec<Arc<Segment>>,
    /// The records that this mutator superseded or deleted; see [`Mutator::dead`].
    dead: DeadSet,
    /// The batch of cleaning, kept to reuse its memory.
    pub batch: Batch,
    /// Entries of a `Cache` that cleaning removed since the session last reported it, by what they are
    /// counted as.
    pub removals: [u64; STATISTICS],
    /// Whether there are any.
    pub has_removals: bool,
    /// Those that a callback wants to hear of, at most [`NAMED`].
    pub ended: Vec<Ended>,
    /// Whether a callback wants to hear of them by their keys.
    pub names_removals: bool,
    /// Writes to a `Cache`; they look for expired entries in turns.
    pub writes: u32,
    /// Which entries the next step of cleaning keeps.
    pub retention: Retention,
    /// What was counted last; see `reclaim::evacuated_bytes`.
    pub evacuated: Cell<EvacuatedBytes>,
    /// What the last refusal of an insertion found out.
    pub refusal: Refusal,
}

/// The bytes of evacuated segments, and which those are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EvacuatedBytes {
    /// The heap's id.
    pub heap: u64,
    /// The first segment, and the one after the last.
    pub range: (u16, u16),
    pub bytes: u64,
}

/// An entry that cleaning removed.
#[derive(Debug)]
pub(crate) struct Ended {
    /// As what it is counted.
    pub counter: Counter,
    pub key: Vec<u8>,
    /// The stored length of its value.
    pub len: u32,
}

/// An entry as a writer found it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub region: u32,
    pub index: u32,
    pub slot: Slot<'a>,
    pub link: Link,
    /// The record's header: a checksum proves it, or it has the key, and the size that the slot says.
    /// `None` if the record is damaged and only the slot is known.
    pub record: Option<record::RecordHeader>,
}

impl<'a> Target<'a> {
    /// Returns the slot that a roster position leads to, without its record. Its link may lead to
    /// none. `None` if the position is a hole.
    pub(crate) fn at_position(generation: &'a Generation, position: u32) -> Result<Option<Self>> {
        let Position::Slot(number) = generation.roster.get(position)? else {
            return Ok(None);
        };
        let (region, index) = generation.table.slot_home(number);
        let slot = generation.table.region(region)?.slot(index);
        Ok(Some(Self {
            region,
            index,
            slot,
            link: slot.link(),
            record: None,
        }))
    }
}

impl Mutator {
    pub(crate) fn new(generation: Arc<Generation>, names: Arc<FileNames>, stage: Stage) -> Self {
        Self {
            dead: DeadSet::new(generation.ids.roster),
            generation,
            names,
            stage,
            table: None,
            removed: Vec::new(),
            batch: Batch::default(),
            removals: [0; STATISTICS],
            has_removals: false,
            ended: Vec::new(),
            names_removals: false,
            writes: 0,
            retention: Retention::ALL,
            evacuated: Cell::default(),
            refusal: Refusal::default(),
        }
    }

    /// Returns the dead-record set of this generation's heap.
    pub(crate) fn dead(&mut self) -> &mut DeadSet {
        let generation = self.generation.ids.roster;
        if self.dead.roster_id() != generation {
            self.dead = DeadSet::new(generation);
        }
        &mut self.dead
    }

    /// Marks an entry's record dead: no entry links to it any more.
    pub(crate) fn mark_dead(&mut self, target: &Target<'_>) {
        // Not by a length that the slot does not prove: cleaning would skip what is after it.
        let is_proved = |header: &record::RecordHeader| header.slot_units() < MANY_UNITS;
        if let Some(header) = target.record.filter(is_proved) {
            self.mark_record_dead(target.link.addr(), header);
        }
    }

    /// Notes that an entry was removed.
    pub(crate) fn note_removal(&mut self, counter: Counter, key: &[u8], len: u32) {
        self.has_removals = true;
        self.removals[counter as usize] += 1;
        if self.names_removals && self.ended.len() < NAMED {
            self.ended.push(Ended {
                counter,
                key: key.to_vec(),
                len,
            });
        }
    }

    pub(crate) fn mark_record_dead(&mut self, place: HeapAddr, header: record::RecordHeader) {
        let units = (header.stored_bytes() / 8) as u32;
        self.dead().mark(place, units);
    }

    /// Returns the error of a contradiction that no recovery has ended.
    pub(crate) fn corrupted(&self, what: Corruption, at: At) -> Error {
        match at {
            At::Word(word) => self.generation.table.corrupted(what, word as u64 * 8),
            At::Index(at) => self.generation.table.corrupted(what, at),
            At::Roster(position) => {
                let at = roster::HEADER_BYTES + u64::from(position) * 4;
                Error::corrupted(self.generation.roster.file().path(), what, at)
            }
            At::Heap(place) => {
                let path = self.names.segment(place.segment, self.stage);
                Error::corrupted(&path, what, place.bytes())
            }
        }
    }

    /// Runs a change with the mutator and its table.
    ///
    /// The table's count is not touched each time: an atomic increment waits until all stores
    /// before it are in the cache, and those of a put mostly miss it (650 ns a put with it, 520
    /// without).
    pub(crate) fn with_table<T>(&mut self, change: impl FnOnce(&mut Self, &Table) -> T) -> T {
        let kept = self
            .table
            .take()
            .filter(|table| Arc::ptr_eq(table, &self.generation.table));
        let table = kept.unwrap_or_else(|| Arc::clone(&self.generation.table));
        let done = change(self, &table);
        self.table = Some(table);
        done
    }

    /// Returns owner and mode of this generation's files, for new files of it.
    pub(crate) fn access(&self) -> Result<Access> {
        let index = self.generation.table.file();
        Access::of(index.file(), index.path())
    }

    /// Returns a segment of the heap, mapping it if it was not; `None` if its file is gone.
    pub(crate) fn segment(&mut self, number: u16) -> Result<Option<&Segment>> {
        if self.generation.segment(number).is_none() {
            let Some(segment) = open::segment(&self.generation, &self.names, number)? else {
                return Ok(None);
            };
            debug_assert_eq!(segment.number(), number, "its header says so");
            self.generation = Arc::new(self.generation.with_segment(segment));
        }
        Ok(self.generation.segment(number))
    }

    /// Returns the region of a hash, checked against the directory entry that leads to it (S2, S4).
    ///
    /// Inlined, like the other parts of a put: it takes 189 ns of the engine, 201 if they pass their
    /// results through memory.
    #[inline(always)]
    pub(crate) fn region<'t>(&self, table: &'t Table, hash: Hash) -> WriteResult<Region<'t>> {
        let located = table.locate(table.header().poll(), hash)?;
        // The first group comes while the region is checked.
        located.region.prefetch(hash);
        let (stamp, shape) = (located.region.stamp(), located.region.shape());
        if stamp != RegionStateWord::live(located.entry.incarnation())
            || !shape.holds(hash.directory())
        {
            let at = At::Index(table.region_at(located.region.number()));
            return Err(Abort::Recover(Corruption::DirectoryMismatch, at));
        }
        Ok(located.region)
    }

    /// Finds the live entry of a key.
    pub(crate) fn find<'t>(
        &mut self,
        table: &'t Table,
        hash: Hash,
        key: &[u8],
    ) -> WriteResult<Option<Target<'t>>> {
        let region = self.region(table, hash)?;
        self.find_in(region, hash, key)
    }

    #[inline(always)]
    pub(crate) fn find_in<'t>(
        &mut self,
        region: Region<'t>,
        hash: Hash,
        key: &[u8],
    ) -> WriteResult<Option<Target<'t>>> {
        debug_assert!((1..=MAX_KEY).contains(&key.len()), "the caller checks keys");
        let mut damaged = None;
        for (index, slot, link) in region.probe(hash) {
            let unit = link.addr().unit;
            let identity = || slot.identity();
            let is_same_hash = || identity().hash == hash.stored();
            let record = match self.segment(link.addr().segment)? {
                Some(segment) => match segment.compare(unit, key)? {
                    // The checksum of a short record costs less than the cache miss for the slot's body.
                    RecordRead::Match(header) if header.is_short() => segment.verify(unit)?,
                    RecordRead::Match(header) if header.slot_units() == identity().units => {
                        Some(header)
                    }
                    // One of the two is damaged, or of a killed writer.
                    RecordRead::Match(_) => segment.verify(unit)?,
                    // 38 bits of the hash say whose record is damaged.
                    _ if is_same_hash() && segment.verify(unit)?.is_none() => None,
                    _ => continue,
                },
                None if is_same_hash() => None,
                None => {
                    self.refuse_missing(link.addr().segment)?;
                    continue;
                }
            };
            let target = Target {
                region: region.number(),
                index,
                slot,
                link,
                record,
            };
            if target.record.is_some() {
                return Ok(Some(target));
            }
            damaged.get_or_insert(target);
        }
        if damaged.is_none() && region.hides_entry(hash) {
            // The key may have an entry there: a second one would bring its value back one day.
            let at = At::Index(self.generation.table.region_at(region.number()));
            return Err(Abort::Recover(Corruption::EntryWithoutControl, at));
        }
        Ok(damaged)
    }

    /// Refuses to report a key as absent if its entry may be in a missing segment.
    #[cold]
    pub(crate) fn refuse_missing(&self, number: u16) -> WriteResult<()> {
        match missing_segment(&self.generation, &self.names, number)? {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// Finds the entry whose record is at a place.
    pub(crate) fn find_place<'t>(
        &self,
        table: &'t Table,
        hash: Hash,
        place: HeapAddr,
    ) -> WriteResult<Option<Target<'t>>> {
        let located = table.locate(self.generation.header().poll(), hash)?;
        let found = located
            .region
            .probe(hash)
            .find(|(_, _, link)| link.addr() == place);
        Ok(found.map(|(index, slot, link)| Target {
            region: located.region.number(),
            index,
            slot,
            link,
            record: None,
        }))
    }
}

/// Returns the heap bytes of the record that an entry links to, from the record or else the slot. Those
/// that a large damaged record claims.
pub(crate) fn old_bytes(generation: &Generation, target: &Target<'_>) -> Result<u64> {
    if let Some(header) = target.record {
        return Ok(header.stored_bytes());
    }
    let (place, units) = (target.link.addr(), target.slot.identity().units);
    match generation.segment(place.segment) {
        Some(segment) if units == MANY_UNITS => Ok(segment.stored_bytes(place.unit)?.unwrap_or(0)),
        _ => Ok(u64::from(units) * 8),
    }
}
