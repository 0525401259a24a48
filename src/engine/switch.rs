//! Replacing a generation: a shadow copy beside the old one, and one atomic rename.
//!
//! If anything fails before the rename, nothing of the new generation is left. Why it is built,
//! callers decide. This file alone marks a generation as superseded. May call `engine::ids`,
//! `staging` and everything below them.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Corruption, Error, ErrorKind, Result};
use crate::format::index::{IndexHeader, word};
use crate::format::roster::{Position, RosterHeader};
use crate::format::seal::SealedHeader;
use crate::format::segment::SegmentHeader;
use crate::format::{Geometry, LockKind};
use crate::index::header::Header;
use crate::index::region::Slot;
use crate::index::roster::Roster;
use crate::index::table::Table;
use crate::lock::{self, LockDeadline};
use crate::os::file_names::{FileNames, Stage};
use crate::os::files;

use crate::engine::clean::state;
use crate::engine::create::{self, Plan};
use crate::engine::file_header::read_sealed;
use crate::engine::generation::{Generation, Ids};
use crate::engine::handle::Handle;
use crate::engine::ids::{self, KeyPolicy};
use crate::engine::locking::acquire;
use crate::engine::open;
use crate::engine::segment_numbers::Extent;
use crate::engine::staging::{self, DiscardOnPanic, discard_listed, discard_staged};
use crate::engine::write::mutator::{Abort, At, Mutator, WriteResult};
use crate::engine::write::put::StoredRecord;
use crate::engine::write::put::Terms;
use crate::engine::write::{cache_words, durability, heap_end, publish};
use crate::os::random;

/// What becomes of the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heap {
    /// The new generation gets a heap of its own.
    Fresh,
    /// The segments stay as they are; only index and roster are new.
    Kept,
}

/// Builds a new generation with `fill` and makes it the current one. The mutator, whose lock is
/// held, works on it afterwards. If anything fails before the commit, all is as before.
pub(crate) fn replace(
    handle: &Handle,
    mutator: &mut Mutator,
    heap: Heap,
    capacity: u64,
    fill: impl FnOnce(&mut Mutator) -> WriteResult<()>,
) -> WriteResult<()> {
    let replaced = match heap {
        Heap::Fresh => Extent::of(mutator.generation.header()),
        Heap::Kept => Extent::NONE,
    };
    handle.names.check_replaceable(replaced.numbers())?;
    clear_staged_names(handle, mutator)?;
    if heap == Heap::Kept {
        // A recovery: what the header says of the heap may be older than the heap.
        discard_listed(&handle.names)?;
        map_all(mutator)?;
    }
    let epoch = lock::epoch();
    let geometry = *mutator.generation.table.geometry();
    let built = stage(mutator, heap, geometry, capacity).and_then(|mut fresh| {
        let guard = DiscardOnPanic::new(&handle.names);
        fill(&mut fresh)?;
        drop(guard);
        commit_and_follow(handle, mutator, &fresh)?;
        Ok(())
    });
    if built.is_err() && epoch == lock::epoch() {
        // The first error is the one to report; the next writer removes what is left. In a child
        // that `fill` has forked, the files are the parent's.
        let _ = discard_staged(&handle.names, Extent::NONE);
    }
    built
}

/// Rebuilds the table with larger regions and the same entries, over the same heap.
pub(crate) fn enlarge(handle: &Handle, mutator: &mut Mutator) -> WriteResult<()> {
    replace_index(handle, mutator, reindex_larger)
}

/// Rebuilds table and roster in the right size and with the same entries, over the same heap.
pub(crate) fn shrink(handle: &Handle, mutator: &mut Mutator) -> WriteResult<()> {
    let geometry = *mutator.generation.table.geometry();
    replace_index(handle, mutator, |mutator| reindex(mutator, geometry))
}

fn replace_index(
    handle: &Handle,
    mutator: &mut Mutator,
    build: impl FnOnce(&mut Mutator) -> WriteResult<Mutator>,
) -> WriteResult<()> {
    handle.names.check_replaceable(Extent::NONE.numbers())?;
    clear_staged_names(handle, mutator)?;
    map_known(mutator)?;
    let built = build(mutator).and_then(|fresh| {
        let header = fresh.generation.header();
        Extent::NONE.set_replaced(header);
        // Of a cache that was never flushed no file but the index is promised, now as before.
        let old = mutator.generation.header();
        if old.is_marked() && !old.is_flushed() && !old.sync_failed() {
            create::mark_new(&fresh.generation, handle.boot);
        }
        Ok(commit_and_follow(handle, mutator, &fresh)?)
    });
    if built.is_err() {
        let _ = discard_staged(&handle.names, Extent::NONE);
    }
    built
}

/// Copies all entries, with their versions, into a generation with a heap of its own: dead records
/// are left out.
pub(crate) fn rebuild_from_itself(handle: &Handle, mutator: &mut Mutator) -> WriteResult<()> {
    let table = Arc::clone(&mutator.generation.table);
    let roster = Arc::clone(&mutator.generation.roster);
    let mut source = Mutator::new(
        Arc::clone(&mutator.generation),
        Arc::clone(&mutator.names),
        mutator.stage,
    );
    let capacity = table.header().occupied();
    replace(handle, mutator, Heap::Fresh, capacity, |fresh| {
        ids::repeat_reservation(fresh, &source.generation)?;
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let mut listed = 0;
        for position in 0..source.generation.roster_len() {
            let Some(slot) = listed_slot(&table, &roster, position)? else {
                continue;
            };
            listed += 1;
            let place = slot.link().addr();
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
                // G3: with its version.
                Some(header) => put_staged(fresh, &key, &value, Terms::repeat(&header))?,
                None => publish::count_dropped(fresh.generation.header(), 1),
            }
        }
        ids::skip_given(&fresh.generation, &source.generation)?;
        all_listed(&table, listed)
    })
}

/// Removes what an interrupted switch left under staged names. What a committed one left there is
/// this generation's, and gets its final names first. Refuses to replace files of another release.
fn clear_staged_names(handle: &Handle, mutator: &Mutator) -> Result<()> {
    // A sync that fails after this would be forgotten with the old index.
    if let Some(task) = handle.writer_mutex().tasks.lock().under_way.take()
        && let Some(outcome) = task.collect()
    {
        // Its work is done again.
        let _ = mutator.generation.header().note_sync(outcome);
    }
    if mutator.generation.header().renames_pending() {
        staging::finish_renames(&handle.names, &mutator.generation)?;
    }
    let extent = Extent::of(mutator.generation.header());
    for number in extent.numbers() {
        read_sealed::<SegmentHeader>(&handle.names.segment(number, Stage::Final))?;
    }
    discard_staged(&handle.names, extent)
}

/// Makes a finished generation the current one; the mutator works on it afterwards.
fn commit_and_follow(handle: &Handle, mutator: &mut Mutator, fresh: &Mutator) -> Result<()> {
    let old = Arc::clone(&mutator.generation);
    debug_assert_eq!(old.ids.cache, fresh.generation.ids.cache);
    debug_assert_ne!(
        old.ids.roster, fresh.generation.ids.roster,
        "G1: its own roster"
    );
    let heap = if old.ids.heap == fresh.generation.ids.heap {
        Heap::Kept
    } else {
        Heap::Fresh
    };
    commit(&handle.names, &fresh.generation, heap, Some(old.header()))?;
    follow(handle, mutator, &fresh.generation);
    Ok(())
}

/// Lets handle and mutator use a committed generation. Nothing here can undo the commit: what
/// fails, the next writer completes.
fn follow(handle: &Handle, mutator: &mut Mutator, generation: &Arc<Generation>) {
    if let Err(error) = staging::finish_renames(&handle.names, generation) {
        log::warn!("{error}: the files' final names are left to the next writer");
    }
    // Open by the final names, and keep the lock that is held.
    let mut reopened = open::generation(&handle.names, true);
    if let Ok(opened) = &mut reopened
        && opened.ids == generation.ids
    {
        opened.lock.clone_from(&generation.lock);
    }
    mutator.generation = match reopened {
        Ok(opened) if opened.ids == generation.ids => Arc::new(opened),
        _ => Arc::clone(generation),
    };
    debug_assert_eq!(mutator.generation.ids, generation.ids, "G2: as committed");
    mutator.stage = Stage::Final;
    handle.generation.store(Arc::clone(&mutator.generation));
}

/// Makes a finished generation the current one: the rename of its index commits. `old` is the
/// header of the generation that it replaces, if that can be read.
pub(crate) fn commit(
    names: &FileNames,
    generation: &Generation,
    heap: Heap,
    old: Option<Header<'_>>,
) -> Result<()> {
    make_ready(names, generation, heap, old)?;
    if let Some(old) = old {
        // A contender that waits for the old index's lock must find the new one's free for a
        // moment.
        generation.header().set_waiting(old.waiting());
        // G2: readers look at the path from here on; before, all that they do is in the old one.
        old.set_superseded(true);
    }
    // G2: this rename is the commit.
    let renamed = files::rename(&names.index(Stage::New), &names.index(Stage::Final));
    if renamed.is_err()
        && let Some(old) = old
    {
        old.set_superseded(false);
    }
    renamed
}

/// Takes back the mark of a switch that marked a generation as superseded and was then killed.
pub(crate) fn clear_superseded(header: Header<'_>) {
    header.set_superseded(false);
}

/// Makes a finished generation a cache where there is none.
pub(crate) fn commit_new(names: &FileNames, generation: &Generation) -> Result<()> {
    Extent::NONE.set_replaced(generation.header());
    make_ready(names, generation, Heap::Fresh, None)?;
    files::rename_new(&names.index(Stage::New), &names.index(Stage::Final))
}

/// Syncs all files of a finished generation, or only the index of one that is marked as dirty, and
/// takes its lock before another process can.
fn make_ready(
    names: &FileNames,
    generation: &Generation,
    heap: Heap,
    old: Option<Header<'_>>,
) -> Result<()> {
    // G1: the files have staged names, and the header says so.
    staging::expect_renames(generation.header());
    // W2: readers of the old generation have the same heap, or all of the new one is synced.
    durability::freeze(generation, generation.header().tail());
    state::note_compacted(generation.header());
    if heap == Heap::Fresh {
        cache_words::forget_order(generation.header());
    }
    if let (Heap::Fresh, Some(old)) = (heap, old) {
        Extent::of(old).set_replaced(generation.header());
    }
    // To a reader that polls it, replacing everything is a change too, even by nothing.
    publish::count_change(generation.header());
    if generation.header().is_marked() {
        debug_assert!(heap == Heap::Kept && !generation.header().is_flushed());
        generation.table.sync()?;
    } else {
        sync_all(names, generation, heap, old)?;
    }
    // No process can know the new inode yet, so this never waits.
    if let Some(lock) = &generation.lock {
        let at_once = LockDeadline::new(Some(Duration::ZERO));
        acquire(lock, Some(generation.header()), &at_once, names)?;
        generation.note_visit();
    }
    Ok(())
}

/// Syncs all files of a finished generation, which then counts as flushed.
fn sync_all(
    names: &FileNames,
    generation: &Generation,
    heap: Heap,
    old: Option<Header<'_>>,
) -> Result<()> {
    // Of a kept heap: after a failed sync the system counts its pages as clean, but they are not
    // written.
    let shared = old.filter(|_| heap == Heap::Kept);
    note_sync(shared, generation.sync_heap())?;
    // H4: all of it is on the disk, so from here on nothing of it may be removed before its
    // replacement is.
    let header = generation.header();
    durability::set_all_synced(header, header.tail());
    debug_assert!(header.renames_pending() && header.is_flushed());
    generation.sync_index()?;
    note_sync(old, names.sync_dirs())
}

fn note_sync(header: Option<Header<'_>>, synced: Result<()>) -> Result<()> {
    match header {
        Some(header) => header.note_sync(synced),
        None => synced,
    }
}

/// Maps every segment of the heap that is in the directory, whatever the header says.
pub(crate) fn map_all(mutator: &mut Mutator) -> Result<()> {
    let numbers = mutator.names.segment_numbers()?;
    map_numbers(mutator, numbers.into_iter())
}

/// Maps every segment of the heap that the header names.
pub(crate) fn map_known(mutator: &mut Mutator) -> Result<()> {
    let extent = Extent::of(mutator.generation.header());
    map_numbers(mutator, extent.numbers())
}

/// Maps segments. One whose header is damaged gets a new header, if its records are of this heap.
fn map_numbers(mutator: &mut Mutator, numbers: impl Iterator<Item = u16>) -> Result<()> {
    let names = Arc::clone(&mutator.names);
    let mut segments = Vec::new();
    for number in numbers {
        let opened = match open::segment(&mutator.generation, &names, number) {
            Err(error) if !error.is_corruption() => return Err(error),
            opened => opened.ok().flatten(),
        };
        match opened {
            Some(segment) => segments.push(segment),
            None => segments.extend(open::salvage_segment(&mutator.generation, &names, number)?),
        }
    }
    debug_assert!(segments.is_sorted_by_key(|segment| segment.number()));
    mutator.generation = Arc::new(mutator.generation.with_segments(segments));
    Ok(())
}

/// Creates an empty generation under staged names, and a mutator for it.
fn stage(old: &Mutator, heap: Heap, geometry: Geometry, capacity: u64) -> WriteResult<Mutator> {
    let (from, access) = (&old.generation, old.access()?);
    let fresh_heap = heap == Heap::Fresh;
    let plan = Plan {
        geometry: geometry.for_capacity(capacity),
        hash_kind: from.hash_kind,
        // Another seed whenever all keys are hashed again: keys chosen against the old one lose
        // their effect.
        seed: if fresh_heap {
            random::number()
        } else {
            from.seed
        },
        ids: Ids {
            cache: from.ids.cache,
            generation: from.ids.generation.wrapping_add(1),
            heap: if fresh_heap {
                random::number()
            } else {
                from.ids.heap
            },
            roster: random::number(),
        },
        created: from.created,
        lock: from
            .lock
            .as_ref()
            .map_or(LockKind::Word, |lock| lock.kind()),
        capacity,
        access,
    };
    let made = create::generation(&old.names, &plan)?;
    carry_totals(made.header(), from.header());
    let generation = match heap {
        Heap::Fresh => create::first_segment(made, &old.names, &plan.access)?,
        Heap::Kept => {
            made.header().new_file_words().carry_heap(from.header());
            made.with_segments(from.segments().cloned().collect())
        }
    };
    if fresh_heap {
        heap_end::follow_segment(&generation, 0);
    }
    // A kept heap's segments have their final names already.
    let stage = if fresh_heap { Stage::New } else { old.stage };
    Ok(Mutator::new(
        Arc::new(generation),
        Arc::clone(&old.names),
        stage,
    ))
}

/// Continues the totals and the last version of another generation in a new header.
pub(crate) fn carry_totals(fresh: Header<'_>, from: Header<'_>) {
    let words = fresh.new_file_words();
    words.carry_totals(from);
    // G3: versions never go back.
    words.carry_last_version(from);
    words.carry_cache(from);
}

/// Continues the totals of another cache in its copy. Its last id is what the copied heap says.
pub(crate) fn carry_copied_totals(fresh: &Generation, from: Header<'_>) {
    match KeyPolicy::of(fresh) {
        KeyPolicy::Versioned => carry_totals(fresh.header(), from),
        KeyPolicy::WithIds => fresh.header().new_file_words().carry_totals(from),
    }
}

/// Rebuilds the index with regions of twice the slots, or four times, up to the maximum; a small one
/// in the usual shape.
pub(crate) fn reindex_larger(old: &mut Mutator) -> WriteResult<Mutator> {
    let old_geometry = *old.generation.table.geometry();
    let mut geometry = old_geometry.grown();
    if geometry != old_geometry {
        match reindex(old, geometry) {
            Err(Abort::Enlarge) => {}
            other => return other,
        }
    }
    loop {
        if geometry.region_slots * 2 > *Geometry::REGION_SLOTS.end() {
            let limit = u64::from(geometry.region_slots) << geometry.directory_bits;
            return Err(ErrorKind::TableFull { limit }.at(&old.names.cache()).into());
        }
        geometry.region_slots *= 2;
        debug_assert_eq!(geometry.fault(), None, "larger, and valid");
        match reindex(old, geometry) {
            Err(Abort::Enlarge) => {}
            other => return other,
        }
    }
}

/// Builds a new index and roster over the same heap, with the same entries in roster order.
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
        let place = link.addr();
        key.clear();
        let found = match old.segment(place.segment)? {
            Some(segment) => segment.read_any(place.unit, &mut key, None)?,
            None => {
                // The missing segment may be mounted later.
                old.refuse_missing(place.segment)?;
                None
            }
        };
        let Some(found) = found else {
            publish::count_dropped(fresh.generation.header(), 1);
            continue;
        };
        let hash = fresh.generation.hasher.hash(&key);
        if has_entry(&mut fresh, &key)? {
            return Err(twice(position));
        }
        let stored = StoredRecord {
            place,
            header: found,
            hash,
        };
        ids::adopt(&mut fresh, &stored)?;
    }
    ids::skip_given(&fresh.generation, &old.generation)?;
    all_listed(&table, listed)?;
    fresh.generation = Arc::new(
        fresh
            .generation
            .with_segments(old.generation.segments().cloned().collect()),
    );
    Ok(fresh)
}

/// Returns the slot that a roster position names; `None` if the position is free. Refuses a damaged
/// roster: its entries would be left out, and the heap still has them.
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
            Corruption::PositionOfOtherEntry,
            At::Roster(position),
        ));
    }
    Ok(Some(slot))
}

/// Refuses a roster that listed fewer or more entries than there are.
fn all_listed(table: &Table, listed: u64) -> WriteResult<()> {
    if listed == table.header().occupied() {
        return Ok(());
    }
    Err(Abort::Recover(
        Corruption::EntryUnlisted,
        At::Word(word::COUNTERS),
    ))
}

/// The error for a key with two entries. Damage hid one of them; which is newer, the heap says.
fn twice(position: u32) -> Abort {
    Abort::Recover(Corruption::EntryRepeated, At::Roster(position))
}

fn has_entry(fresh: &mut Mutator, key: &[u8]) -> WriteResult<bool> {
    let table = Arc::clone(&fresh.generation.table);
    let hash = fresh.generation.hasher.hash(key);
    Ok(fresh.find(&table, hash, key)?.is_some())
}

/// Puts an entry into a generation that no other process can see yet, and enlarges its table if it
/// must.
pub(crate) fn put_staged(
    mutator: &mut Mutator,
    key: &[u8],
    value: &[u8],
    terms: Terms,
) -> WriteResult<()> {
    loop {
        match ids::put(mutator, key, value, terms) {
            Err(Abort::Enlarge) => {
                let larger = reindex_larger(mutator)?;
                *mutator = larger;
            }
            other => return other.map(|_| ()),
        }
    }
}

/// Returns the error of a change that no further recovery can complete.
pub(crate) fn give_up(stop: Abort, mutator: &Mutator) -> Error {
    match stop {
        Abort::Failed(error) => error,
        Abort::Recover(what, at) => mutator.corrupted(what, at),
        Abort::Enlarge | Abort::Renumber => ErrorKind::TableFull {
            limit: mutator.generation.header().occupied(),
        }
        .at(&mutator.names.cache()),
    }
}
