//! An mutator: one generation that is being changed, and what its parts say of a key.
//!
//! It works on a generation whose writer lock is held, or which nobody else can see yet. Knows how
//! an entry is found to be changed and which records are dead since; not how anything is stored.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::region::Stamp;
use crate::format::slot::{Link, Place};
use crate::format::{record, roster};
use crate::hash::Hash;
use crate::heap::{Dead, Outcome, Segment};
use crate::index::region::{Region, Slot};
use crate::index::table::Table;
use crate::os::files::{Access, Names, Stage};

use crate::engine::clean::batch::Batch;
use crate::engine::generation::Generation;
use crate::engine::heap_presence::missing_segment;

/// Why an mutator stopped.
#[derive(Debug)]
pub(crate) enum Abort {
    /// Boxed, to keep results small: they are copied while the stores of a change are on their way.
    Failed(Box<Error>),
    /// The shared state contradicts itself, and where that was seen: index and roster must be rebuilt
    /// from the heap.
    Recover(&'static str, At),
    /// The table can grow no further with its geometry.
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
    Heap(Place),
}

impl Abort {
    /// Whether a larger table or a larger disk would have helped.
    pub(crate) fn is_want_of_room(&self) -> bool {
        match self {
            Self::Failed(error) => matches!(**error, Error::DiskFull { .. }),
            Self::Enlarge => true,
            Self::Recover(..) | Self::Renumber => false,
        }
    }
}

impl From<Error> for Abort {
    fn from(error: Error) -> Self {
        Self::Failed(Box::new(error))
    }
}

pub(crate) type WriteResult<T> = std::result::Result<T, Abort>;

/// Changes one generation.
#[derive(Debug)]
pub(crate) struct Mutator {
    pub generation: Arc<Generation>,
    pub names: Arc<Names>,
    /// Under which names this generation's segments are made.
    pub stage: Stage,
    /// The generation's table once more, kept over from the last change; see [`Mutator::with_table`].
    table: Option<Arc<Table>>,
    /// Segments whose files were removed; whoever drops them last gives back memory and blocks.
    pub removed: Vec<Arc<Segment>>,
    /// What this mutator superseded or deleted; see [`Mutator::dead`].
    dead: Dead,
    /// The cleaner's, kept for the sake of its memory.
    pub batch: Batch,
}

/// An entry as a writer found it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub region: u32,
    pub index: u32,
    pub slot: Slot<'a>,
    pub link: Link,
    /// The record's header, which the slot repeats, or else its checksum proves; none where the
    /// record cannot be believed and only the slot is known.
    pub record: Option<record::Header>,
}

impl Mutator {
    pub(crate) fn new(generation: Arc<Generation>, names: Arc<Names>, stage: Stage) -> Self {
        Self {
            dead: Dead::new(generation.ids.roster),
            generation,
            names,
            stage,
            table: None,
            removed: Vec::new(),
            batch: Batch::default(),
        }
    }

    /// What is known to be dead of this generation's heap.
    pub(crate) fn dead(&mut self) -> &mut Dead {
        let generation = self.generation.ids.roster;
        if self.dead.generation() != generation {
            self.dead = Dead::new(generation);
        }
        &mut self.dead
    }

    /// Remembers that an entry's record is dead: nothing links to it any more.
    pub(crate) fn mark_dead(&mut self, target: &Target<'_>) {
        if let Some(header) = target.record {
            self.mark_record_dead(target.link.place(), header);
        }
    }

    pub(crate) fn mark_record_dead(&mut self, place: Place, header: record::Header) {
        let units = (header.stored_bytes() / 8) as u32;
        self.dead().mark(place, units);
    }

    /// The error of a contradiction that no recovery ends.
    pub(crate) fn damaged(&self, what: &'static str, at: At) -> Error {
        match at {
            At::Word(word) => self.generation.table.damaged(what, word as u64 * 8),
            At::Index(at) => self.generation.table.damaged(what, at),
            At::Roster(position) => {
                let at = roster::HEADER_BYTES + u64::from(position) * 4;
                Error::damaged(self.generation.roster.file().path(), what, at)
            }
            At::Heap(place) => {
                let path = self.names.segment(place.segment, self.stage);
                Error::damaged(&path, what, place.bytes())
            }
        }
    }

    /// Runs a change with the table beside the mutator.
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

    /// Who may touch this generation's files, and so those that are made for it.
    pub(crate) fn access(&self) -> Result<Access> {
        let index = self.generation.table.file();
        Access::of(index.file(), index.path())
    }

    /// A segment of the heap, mapped if it was not; none where its file is gone.
    pub(crate) fn segment(&mut self, number: u16) -> Result<Option<&Segment>> {
        if self.generation.segment(number).is_none() {
            let Some(segment) = self.generation.open_segment(&self.names, number)? else {
                return Ok(None);
            };
            self.generation = Arc::new(self.generation.with_segment(segment));
        }
        Ok(self.generation.segment(number))
    }

    /// The region of a hash, checked against the directory entry that leads to it.
    ///
    /// In line, like the other parts of a put: it takes 189 ns of the engine, 201 where they hand
    /// their results on through memory.
    #[inline(always)]
    pub(crate) fn region<'t>(&self, table: &'t Table, hash: Hash) -> WriteResult<Region<'t>> {
        let located = table.locate(table.header().poll(), hash)?;
        // What the search begins with comes while the region is checked.
        located.region.prefetch(hash);
        let (stamp, shape) = (located.region.stamp(), located.region.shape());
        if stamp != Stamp::live(located.entry.incarnation()) || !shape.holds(hash.directory()) {
            let at = At::Index(table.region_at(located.region.number()));
            return Err(Abort::Recover(
                "a directory entry and its region disagree",
                at,
            ));
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
        for (index, slot, link) in region.probe(hash) {
            // It comes while the record does.
            slot.prefetch();
            let record = match self.segment(link.place().segment)? {
                Some(segment) => match segment.compare(link.place().unit, key)? {
                    Outcome::Match(header) if slot_repeats(slot, link, header) => Some(header),
                    // One of the two is damaged.
                    Outcome::Match(_) => segment.verify(link.place().unit)?,
                    _ if slot_says(slot, key) => None,
                    _ => continue,
                },
                None if slot_says(slot, key) => None,
                None => {
                    self.refuse_missing(link.place().segment)?;
                    continue;
                }
            };
            let region = region.number();
            return Ok(Some(Target {
                region,
                index,
                slot,
                link,
                record,
            }));
        }
        Ok(None)
    }

    /// Refuses to take a key for absent whose entry may be in a segment that is not there.
    #[cold]
    pub(crate) fn refuse_missing(&self, number: u16) -> WriteResult<()> {
        match missing_segment(&self.generation, &self.names, number)? {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// Finds the entry whose record stands at a place.
    pub(crate) fn find_place<'t>(
        &self,
        table: &'t Table,
        hash: Hash,
        place: Place,
    ) -> WriteResult<Option<Target<'t>>> {
        let located = table.locate(self.generation.header().poll(), hash)?;
        let found = located
            .region
            .probe(hash)
            .find(|(_, _, link)| link.place() == place);
        Ok(found.map(|(index, slot, link)| Target {
            region: located.region.number(),
            index,
            slot,
            link,
            record: None,
        }))
    }
}

/// Whether the slot itself names the key in full.
fn slot_says(slot: Slot<'_>, key: &[u8]) -> bool {
    let whole = key.len() <= slot.key().len() * 8;
    whole
        && usize::from(slot.identity().key_len) == key.len()
        && crate::os::words::equal(slot.key(), key)
}

/// Whether a slot says the same of its record as the record's header, which is in another file.
#[inline]
fn slot_repeats(slot: Slot<'_>, link: Link, header: record::Header) -> bool {
    let repeated = slot.meta(link.which());
    (header.mtime, header.value_len) == (repeated.mtime, repeated.value_len)
}

/// Heap bytes of the record that an entry links to, by the record or else by the slot.
pub(crate) fn old_bytes(target: &Target<'_>) -> u64 {
    match target.record {
        Some(header) => header.stored_bytes(),
        None => {
            let meta = target.slot.meta(target.link.which());
            let key = u64::from(target.slot.identity().key_len);
            let fixed = target.slot.variant().header_bytes() as u64;
            (fixed + key + u64::from(meta.value_len)).next_multiple_of(8)
        }
    }
}
