//! Replacing a whole generation with one rename.
//!
//! Knows how a new generation is built beside the old one and becomes the one that counts, and that
//! nothing is left of it when that fails. It does not know why it is built.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::format::index::{IndexHeader, word};
use crate::format::record::Kind;
use crate::format::roster::{Position, RosterHeader};
use crate::format::seal::Sealed;
use crate::format::segment::SegmentHeader;
use crate::format::{Geometry, LockKind};
use crate::index::header::Header;
use crate::index::region::Slot;
use crate::index::roster::Roster;
use crate::index::table::Table;
use crate::lock::{self, Patience};
use crate::os::files::{self, Names, Stage};

use crate::engine::generation::{Generation, Ids, Plan, read_sealed};
use crate::engine::handle::{Handle, acquire, random};
use crate::engine::segment_numbers::Extent;
use crate::engine::staging::{DiscardOnPanic, discard_listed, discard_staged, finish_renames};
use crate::engine::version;
use crate::engine::write::mutator::{Abort, At, Mutator, WriteResult};

/// What becomes of the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heap {
    /// The new generation gets its own.
    Fresh,
    /// The segments stay as they are; only index and roster are new.
    Kept,
}

/// Words of the header that a new generation goes on with.
pub(crate) const CARRIED: [usize; 7] = [
    word::LAST_MTIME,
    word::CHANGES,
    word::PUTS,
    word::OVERWRITES,
    word::DELETES,
    word::DROPPED,
    word::RECOVERIES,
];
/// Words that describe the heap, and go where it goes.
const HEAP_WORDS: [usize; 9] = [
    word::HEAP_HOME,
    word::RESERVED,
    word::TAIL,
    word::HEAP_BASE,
    word::OLDEST,
    word::CURSOR,
    word::SYNCED,
    word::SYNC_ERROR,
    word::FLUSHED,
];

impl Handle {
    /// Builds a new generation with `fill` and makes it the one that counts. The mutator, whose lock
    /// is held, works on it afterwards. If anything fails before the commit, all is as before.
    pub(crate) fn switch(
        &self,
        mutator: &mut Mutator,
        heap: Heap,
        capacity: u64,
        fill: impl FnOnce(&mut Mutator) -> WriteResult<()>,
    ) -> WriteResult<()> {
        let replaced = match heap {
            Heap::Fresh => Extent::of(mutator.generation.header()),
            Heap::Kept => Extent::NONE,
        };
        self.names.check_replaceable(replaced.numbers())?;
        self.clear_the_way(mutator)?;
        if heap == Heap::Kept {
            // A recovery: what the header says of the heap may be older than the heap.
            discard_listed(&self.names)?;
            map_all(mutator)?;
        }
        let epoch = lock::epoch();
        let built = stage(
            mutator,
            heap,
            *mutator.generation.table.geometry(),
            capacity,
        )
        .and_then(|mut fresh| {
            let guard = DiscardOnPanic::new(&self.names);
            fill(&mut fresh)?;
            drop(guard);
            self.commit(mutator, &fresh)?;
            Ok(())
        });
        if built.is_err() && epoch == lock::epoch() {
            // The first error is the one to report; what is left behind is removed by the next
            // writer. In a child that `fill` has forked, the files are the parent's.
            let _ = discard_staged(&self.names, Extent::NONE);
        }
        built
    }

    /// The same entries in a table with larger regions, over the same heap.
    pub(crate) fn enlarge(&self, mutator: &mut Mutator) -> WriteResult<()> {
        self.names.check_replaceable(Extent::NONE.numbers())?;
        self.clear_the_way(mutator)?;
        map_known(mutator)?;
        let built = reindex_larger(mutator).and_then(|fresh| {
            Extent::NONE.set_replaced(fresh.generation.header());
            Ok(self.commit(mutator, &fresh)?)
        });
        if built.is_err() {
            let _ = discard_staged(&self.names, Extent::NONE);
        }
        built
    }

    /// The same entries in a table and a roster of the right size, over the same heap.
    pub(crate) fn shrink(&self, mutator: &mut Mutator) -> WriteResult<()> {
        self.names.check_replaceable(Extent::NONE.numbers())?;
        self.clear_the_way(mutator)?;
        map_known(mutator)?;
        let geometry = *mutator.generation.table.geometry();
        let built = reindex(mutator, geometry).and_then(|fresh| {
            Extent::NONE.set_replaced(fresh.generation.header());
            Ok(self.commit(mutator, &fresh)?)
        });
        if built.is_err() {
            let _ = discard_staged(&self.names, Extent::NONE);
        }
        built
    }

    /// The same entries, with their versions, in a heap of their own: what is dead is left behind.
    pub(crate) fn rebuild_from_itself(&self, mutator: &mut Mutator) -> WriteResult<()> {
        let table = Arc::clone(&mutator.generation.table);
        let roster = Arc::clone(&mutator.generation.roster);
        let mut source = Mutator::new(
            Arc::clone(&mutator.generation),
            Arc::clone(&mutator.names),
            mutator.stage,
        );
        self.switch(mutator, Heap::Fresh, table.header().occupied(), |fresh| {
            if fresh.generation.is_numbered() {
                fresh.append_reservation(table.header().get(word::LAST_MTIME))?;
            }
            let (mut key, mut value) = (Vec::new(), Vec::new());
            let mut listed = 0;
            for position in 0..source.generation.roster_len() {
                let Some(slot) = listed_slot(&table, &roster, position)? else {
                    continue;
                };
                listed += 1;
                let place = slot.link().place();
                key.clear();
                value.clear();
                let found = match source.segment(place.segment)? {
                    Some(segment) => segment.read_any(place.unit, &mut key, Some(&mut value))?,
                    None => {
                        source.refuse_missing(place.segment)?;
                        None
                    }
                };
                match found {
                    Some(_) if has_entry(fresh, &key)? => return Err(twice(position)),
                    Some(header) => put_staged(fresh, &key, &value, Some(header.mtime))?,
                    None => fresh.generation.header().add(word::DROPPED, 1),
                }
            }
            fresh.go_on_behind(source.generation.roster_len().into())?;
            all_listed(&table, listed)
        })
    }

    /// Removes what an interrupted switch left under preliminary names. What a committed one left
    /// there comes first to its final names: it is this very generation's. Refuses to replace what
    /// is of another release.
    fn clear_the_way(&self, mutator: &Mutator) -> Result<()> {
        // A sync that fails meanwhile would be forgotten with the old index.
        if let Some(task) = self.writer_mutex().tasks.lock().under_way.take()
            && let Some(outcome) = task.collect()
        {
            // What it was about is done anew.
            let _ = mutator.generation.header().note_sync(outcome);
        }
        if mutator.generation.header().get(word::RENAMES_PENDING) != 0 {
            finish_renames(&self.names, &mutator.generation)?;
        }
        let extent = Extent::of(mutator.generation.header());
        for number in extent.numbers() {
            read_sealed::<SegmentHeader>(&self.names.segment(number, Stage::Final))?;
        }
        discard_staged(&self.names, extent)
    }

    /// Makes a finished generation the one that counts, and the mutator work on it.
    fn commit(&self, mutator: &mut Mutator, fresh: &Mutator) -> Result<()> {
        let old = Arc::clone(&mutator.generation);
        let heap = if old.ids.heap == fresh.generation.ids.heap {
            Heap::Kept
        } else {
            Heap::Fresh
        };
        commit(&self.names, &fresh.generation, heap, Some(old.header()))?;
        self.follow(mutator, &fresh.generation);
        Ok(())
    }

    /// What follows a commit cannot undo it: where something fails, the next writer finishes it.
    fn follow(&self, mutator: &mut Mutator, generation: &Arc<Generation>) {
        if let Err(error) = finish_renames(&self.names, generation) {
            log::warn!("{error}: the files' final names are left to the next writer");
        }
        // Open by the final names, and keep the lock that is held.
        let mut reopened = Generation::open(&self.names, true);
        if let Ok(opened) = &mut reopened
            && opened.ids == generation.ids
        {
            opened.lock.clone_from(&generation.lock);
        }
        mutator.generation = match reopened {
            Ok(opened) if opened.ids == generation.ids => Arc::new(opened),
            _ => Arc::clone(generation),
        };
        mutator.stage = Stage::Final;
        self.generation.store(Arc::clone(&mutator.generation));
    }
}

/// Makes a finished generation the one that counts: the rename of its index commits. `old` is the
/// header of the one that it replaces, where there is one that can be read.
pub(crate) fn commit(
    names: &Names,
    generation: &Generation,
    heap: Heap,
    old: Option<Header<'_>>,
) -> Result<()> {
    make_ready(names, generation, heap, old)?;
    if let Some(old) = old {
        // Whoever began to wait for the old index's lock is to find the new one's free for a
        // moment.
        generation
            .header()
            .set(word::WAITING, old.get(word::WAITING));
        old.set_poll(old.poll().with_superseded(true));
    }
    let renamed = files::rename(&names.index(Stage::New), &names.index(Stage::Final));
    if renamed.is_err()
        && let Some(old) = old
    {
        old.set_poll(old.poll().with_superseded(false));
    }
    renamed
}

/// Makes a finished generation a cache where there is none.
pub(crate) fn commit_new(names: &Names, generation: &Generation) -> Result<()> {
    Extent::NONE.set_replaced(generation.header());
    make_ready(names, generation, Heap::Fresh, None)?;
    files::rename_new(&names.index(Stage::New), &names.index(Stage::Final))
}

/// Sees to it that all files of a finished generation are on the disk, and takes its lock, before
/// anybody can.
fn make_ready(
    names: &Names,
    generation: &Generation,
    heap: Heap,
    old: Option<Header<'_>>,
) -> Result<()> {
    generation.header().set(word::RENAMES_PENDING, 1);
    generation.header().set(word::COMPACTED, version::now());
    if let (Heap::Fresh, Some(old)) = (heap, old) {
        Extent::of(old).set_replaced(generation.header());
    }
    // To whoever polls it, replacing everything is a change too, though it be by nothing.
    generation.header().count_change();
    // Of a kept heap: that its pages count as clean from now on must not be mistaken for written.
    let shared = old.filter(|_| heap == Heap::Kept);
    note_sync(shared, generation.sync_heap())?;
    // All of it is on the disk, so from here on nothing of it may be removed before what replaces
    // it is.
    generation
        .header()
        .set(word::SYNCED, generation.header().tail().to_word());
    generation.header().set(word::FLUSHED, 1);
    generation.sync_index()?;
    note_sync(old, names.sync_dirs())?;
    // Nobody can know the new inode yet, so this never waits; it is held before anybody can.
    if let Some(lock) = &generation.lock {
        let at_once = Patience::new(Some(Duration::ZERO));
        acquire(lock, Some(generation.header()), &at_once, names)?;
        generation.note_visit();
    }
    Ok(())
}

fn note_sync(header: Option<Header<'_>>, synced: Result<()>) -> Result<()> {
    match header {
        Some(header) => header.note_sync(synced),
        None => synced,
    }
}

/// Maps every segment of the heap that stands in the directory, whatever the header says.
pub(crate) fn map_all(mutator: &mut Mutator) -> Result<()> {
    let numbers = mutator.names.segment_numbers()?;
    map_numbers(mutator, numbers.into_iter())
}

/// Maps every segment of the heap that the header knows.
pub(crate) fn map_known(mutator: &mut Mutator) -> Result<()> {
    let extent = Extent::of(mutator.generation.header());
    map_numbers(mutator, extent.numbers())
}

/// A segment whose header is damaged gets it back, if its records are of this heap.
fn map_numbers(mutator: &mut Mutator, numbers: impl Iterator<Item = u16>) -> Result<()> {
    let names = Arc::clone(&mutator.names);
    let mut segments = Vec::new();
    for number in numbers {
        let opened = match mutator.generation.open_segment(&names, number) {
            Err(error) if !error.is_corruption() => return Err(error),
            opened => opened.ok().flatten(),
        };
        match opened {
            Some(segment) => segments.push(segment),
            None => segments.extend(mutator.generation.salvage_segment(&names, number)?),
        }
    }
    mutator.generation = Arc::new(mutator.generation.with_segments(segments));
    Ok(())
}

/// An empty generation under preliminary names, and an mutator for it.
fn stage(old: &Mutator, heap: Heap, geometry: Geometry, capacity: u64) -> WriteResult<Mutator> {
    let (from, access) = (&old.generation, old.access()?);
    let fresh_heap = heap == Heap::Fresh;
    let plan = Plan {
        geometry,
        hash_kind: from.hash_kind,
        // Another seed whenever all keys are hashed again, so that keys chosen against one do not
        // stay a nuisance.
        seed: if fresh_heap { random() } else { from.seed },
        ids: Ids {
            cache: from.ids.cache,
            generation: from.ids.generation.wrapping_add(1),
            heap: if fresh_heap { random() } else { from.ids.heap },
            roster: random(),
        },
        created: from.created,
        lock: from
            .lock
            .as_ref()
            .map_or(LockKind::Word, |lock| lock.kind()),
        capacity,
        access,
    };
    let made = Generation::create(&old.names, &plan)?;
    for at in CARRIED {
        made.header().set(at, from.header().get(at));
    }
    let generation = match heap {
        Heap::Fresh => made.with_first_segment(&old.names, &plan.access)?,
        Heap::Kept => {
            for at in HEAP_WORDS {
                made.header().set(at, from.header().get(at));
            }
            made.with_segments(from.segments().cloned().collect())
        }
    };
    // A kept heap's segments stand under their final names already.
    let stage = if fresh_heap { Stage::New } else { old.stage };
    Ok(Mutator::new(
        Arc::new(generation),
        Arc::clone(&old.names),
        stage,
    ))
}

/// The same entries with regions of twice the slots, or four times, up to the most.
pub(crate) fn reindex_larger(old: &mut Mutator) -> WriteResult<Mutator> {
    let mut geometry = *old.generation.table.geometry();
    loop {
        if geometry.region_slots * 2 > *Geometry::REGION_SLOTS.end() {
            let limit = u64::from(geometry.region_slots) << geometry.directory_bits;
            return Err(Error::TableFull {
                path: old.names.cache().to_owned(),
                limit,
            }
            .into());
        }
        geometry.region_slots *= 2;
        match reindex(old, geometry) {
            Err(Abort::Enlarge) => {}
            other => return other,
        }
    }
}

/// The same entries, in roster order, in a new index and roster over the same heap.
fn reindex(old: &mut Mutator, geometry: Geometry) -> WriteResult<Mutator> {
    files::remove_stale(&old.names.index(Stage::New), IndexHeader::MAGIC)?;
    files::remove_stale(&old.names.roster(Stage::New), RosterHeader::MAGIC)?;
    let mut fresh = stage(
        old,
        Heap::Kept,
        geometry,
        old.generation.header().occupied(),
    )?;
    let table = Arc::clone(&old.generation.table);
    let mut key = Vec::new();
    let mut listed = 0;
    for position in 0..old.generation.roster_len() {
        let Some(slot) = listed_slot(&table, &old.generation.roster, position)? else {
            continue;
        };
        listed += 1;
        let link = slot.link();
        let place = link.place();
        key.clear();
        let found = match old.segment(place.segment)? {
            Some(segment) => segment.read_any(place.unit, &mut key, None)?,
            None => {
                // It may come back.
                old.refuse_missing(place.segment)?;
                None
            }
        };
        let Some(found) = found else {
            fresh.generation.header().add(word::DROPPED, 1);
            continue;
        };
        let bytes = if found.kind == Kind::Entry {
            found.stored_bytes()
        } else {
            0
        };
        let hash = fresh.generation.hasher.hash(&key);
        if has_entry(&mut fresh, &key)? {
            return Err(twice(position));
        }
        fresh.adopt(place, slot.meta(link.which()), bytes, hash, &key)?;
    }
    fresh.go_on_behind(old.generation.roster_len().into())?;
    all_listed(&table, listed)?;
    fresh.generation = Arc::new(
        fresh
            .generation
            .with_segments(old.generation.segments().cloned().collect()),
    );
    Ok(fresh)
}

/// The slot that a roster position leads to; none where it is a hole. What goes by the roster would
/// leave out the entries that a damaged one does not know: the heap still has them.
fn listed_slot<'t>(
    table: &'t Table,
    roster: &Roster,
    position: u32,
) -> WriteResult<Option<Slot<'t>>> {
    let Position::Slot(number) = roster.get(position)? else {
        return Ok(None);
    };
    let (region, index) = table.slot_home(number);
    let slot = table.region(region)?.slot(index);
    if !slot.link().is_entry() || slot.identity().position != position {
        return Err(Abort::Recover(
            "a roster position that leads to no entry of its own",
            At::Roster(position),
        ));
    }
    Ok(Some(slot))
}

/// Whether a roster listed as many entries as there are.
fn all_listed(table: &Table, listed: u64) -> WriteResult<()> {
    if listed == table.header().occupied() {
        return Ok(());
    }
    Err(Abort::Recover(
        "a roster that does not know every entry",
        At::Word(word::COUNTERS),
    ))
}

/// One of them was hidden by damage; which is newer, the heap knows.
fn twice(position: u32) -> Abort {
    Abort::Recover("a key with two entries", At::Roster(position))
}

fn has_entry(fresh: &mut Mutator, key: &[u8]) -> WriteResult<bool> {
    let table = Arc::clone(&fresh.generation.table);
    let hash = fresh.generation.hasher.hash(key);
    Ok(fresh.find(&table, hash, key)?.is_some())
}

/// Puts an entry into a generation that nobody sees yet, enlarging its table where it must.
pub(crate) fn put_staged(
    mutator: &mut Mutator,
    key: &[u8],
    value: &[u8],
    version: Option<u64>,
) -> WriteResult<()> {
    loop {
        match mutator.put(key, value, version) {
            Err(Abort::Enlarge) => {
                let larger = reindex_larger(mutator)?;
                *mutator = larger;
            }
            other => return other.map(|_| ()),
        }
    }
}

/// The error of a stop that no further step can mend.
pub(crate) fn give_up(stop: Abort, mutator: &Mutator) -> Error {
    match stop {
        Abort::Failed(error) => *error,
        Abort::Recover(what, at) => mutator.damaged(what, at),
        Abort::Enlarge | Abort::Renumber => Error::TableFull {
            path: mutator.names.cache().to_owned(),
            limit: mutator.generation.header().occupied(),
        },
    }
}
