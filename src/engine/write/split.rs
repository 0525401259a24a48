//! Growing the table, one region at a time (extendible hashing).
//!
//! A crowded region is rebuilt aside, into two by the next hash bit or into one without its
//! tombstones, and swapped in. This file alone stores the tag that the next region gets. May call
//! `publish` and everything below it.

use crate::error::Corruption;
use crate::format::index::{Counters, word};
use crate::format::region::{DirectoryEntry, MAX_INCARNATION, RegionShape, RegionStateWord};
use crate::format::roster::Position;
use crate::hash::Hash;
use crate::index::redo::Redo;
use crate::index::region::Region;
use crate::index::table::Table;

use crate::engine::generation::Generation;
use crate::engine::write::mutator::{Abort, At, Mutator, WriteResult};
use crate::engine::write::publish;

/// Regions by which the file grows at once, at most: about 256 KiB.
const REGIONS_AHEAD: u64 = 8;

/// What the replacement of a region is going to store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replacement {
    pub old: u32,
    pub low: u32,
    pub high: Option<u32>,
    pub after: Counters,
}

impl Replacement {
    fn redo(&self) -> Redo {
        Redo::Replace {
            old: self.old,
            low: self.low,
            high: self.high,
            after: self.after,
        }
    }
}

/// Makes room for a new entry with this hash, and keeps probes short. Returns the region that is
/// the hash's afterwards.
pub(crate) fn make_room<'t>(
    mutator: &Mutator,
    table: &'t Table,
    region: Region<'t>,
    hash: Hash,
) -> WriteResult<Region<'t>> {
    let mut region = region;
    // A split leaves all entries on one side if their next hash bits are the same.
    while table.geometry().is_crowded(region.counts()) {
        let relieved = relieve(mutator, table, region);
        region = table.locate(table.header().poll(), hash)?.region;
        match relieved {
            Ok(()) => {}
            // For want of room a split may fail; a put that fits must not.
            Err(stop) if stop.is_want_of_room() && region.vacancy(hash).is_some() => break,
            Err(stop) => return Err(stop),
        }
    }
    Ok(region)
}

/// Splits a region, or purges it of tombstones.
fn relieve(mutator: &Mutator, table: &Table, region: Region<'_>) -> WriteResult<()> {
    let counts = region.recount();
    let slots = table.geometry().region_slots;
    let shape = region.shape();
    let splittable = shape.depth < table.geometry().directory_bits;
    if !table.geometry().is_crowded(counts) {
        // The region's stored counts were wrong: the control bytes decide.
        region.set_counts(counts);
        return Ok(());
    }
    if counts.deleted > slots / 8 {
        return replace(mutator, table, region, shape, false);
    }
    if splittable {
        return replace(mutator, table, region, shape, true);
    }
    Err(Abort::Enlarge)
}

/// Rebuilds a region aside and swaps it in. A kill before the redo record is committed leaves free
/// regions with some contents; after it, recovery completes the change from the new regions.
fn replace(
    mutator: &Mutator,
    table: &Table,
    old: Region<'_>,
    shape: RegionShape,
    split: bool,
) -> WriteResult<()> {
    if !table.leads_alone_to(old.number(), shape)? {
        return Err(Abort::Recover(
            Corruption::DirectoryMismatch,
            At::Index(table.region_at(old.number())),
        ));
    }
    // The old region's memory comes while the new regions are emptied.
    old.prefetch_bodies();
    if split && shape.depth >= table.depth(table.header().poll())? {
        table.double_directory()?;
    }
    let mut after = table.header().counters();
    let low = take_region(table, &mut after)?;
    let high = if split {
        Some(take_region(table, &mut after)?)
    } else {
        None
    };
    let depth = shape.depth + u32::from(split);
    let low_region = begin(
        table,
        low,
        RegionShape {
            depth,
            prefix: shape.prefix,
        },
    )?;
    let upper = RegionShape {
        depth,
        prefix: shape.prefix | (1 << shape.depth),
    };
    let high_region = high.map(|high| begin(table, high, upper)).transpose()?;
    // S6: the old region is not changed.
    distribute(mutator, table, old, shape, low_region, high_region)?;
    let deleted = u64::from(old.recount().deleted);
    after.deleted = after.deleted.saturating_sub(deleted);
    for region in std::iter::once(low_region).chain(high_region) {
        let top = region
            .last_full()
            .map(|index| table.slot_number(region.number(), index));
        after.high_water = after
            .high_water
            .max(top.map_or(0, |top| u64::from(top) + 1));
    }
    let next_free = after.free_region;
    after.free_region = u64::from(old.number()) + 1;
    // The old region's word for the free list: no process reads it before the region is free.
    old.set_next_free(next_free);
    debug_assert!(
        ![Some(low), high].contains(&Some(old.number())),
        "S6: others"
    );
    let replacement = Replacement {
        old: old.number(),
        low,
        high,
        after,
    };
    publish::commit_redo(table.header(), replacement.redo());
    apply_replace(&mutator.generation, table, &replacement)?;
    publish::clear_redo(table.header());
    Ok(())
}

/// Copies every entry to its new region, unchanged.
///
/// An entry that is damaged, or that is not in the roster, would be lost sooner or later. The heap
/// still has it, so index and roster are rebuilt from there instead.
fn distribute(
    mutator: &Mutator,
    table: &Table,
    old: Region<'_>,
    shape: RegionShape,
    low: Region<'_>,
    high: Option<Region<'_>>,
) -> WriteResult<()> {
    // The positions lie far apart: ask for all of them before the first is needed.
    let mut roster = mutator.generation.roster.cursor();
    let positions = table.header().counters().roster_len;
    for index in old.full() {
        let position = old.slot(index).identity().position;
        if u64::from(position) < positions {
            roster.at(position)?.prefetch();
        }
    }
    for index in old.full() {
        let slot = old.slot(index);
        let link = slot.link();
        let hash = slot.hash(link, old.control(index));
        let position = slot.identity().position;
        let number = table.slot_number(old.number(), index);
        let known =
            u64::from(position) < positions && roster.at(position)?.get() == Position::Slot(number);
        if !known || !link.is_entry() || !shape.holds(hash.directory()) {
            let at = At::Index(table.body_at(old.number(), index));
            return Err(Abort::Recover(Corruption::EntryRecord, at));
        }
        let upper = hash.directory() & (1 << shape.depth) != 0;
        let target = if upper { high.unwrap_or(low) } else { low };
        debug_assert!(!target.stamp().is_live(), "S4: no reader sees it yet");
        if target.adopt(slot, hash, old.mark(index)).is_none() {
            let at = At::Index(table.region_at(old.number()));
            return Err(Abort::Recover(Corruption::RegionOverfull, at));
        }
    }
    let copied = std::iter::once(low).chain(high);
    debug_assert_eq!(
        copied.map(|region| region.recount().occupied).sum::<u32>(),
        old.recount().occupied,
        "S6: each entry once"
    );
    for region in std::iter::once(low).chain(high) {
        region.set_counts(region.recount());
        // S4: the contents are complete before the tag is live.
        region.set_stamp(RegionStateWord::live(region.stamp().incarnation()));
    }
    Ok(())
}

/// The stores of a replacement after its redo record. Storing them twice has the same effect as
/// once.
///
/// Directory entries are switched one by one; until the last of them the old region, still intact, says the same
/// as the new ones. Then the roster follows, and only then is the old region freed.
pub(crate) fn apply_replace(
    generation: &Generation,
    table: &Table,
    replacement: &Replacement,
) -> WriteResult<()> {
    let Replacement {
        old,
        low,
        high,
        after,
    } = *replacement;
    let depth = table.depth(table.header().poll())?;
    let old_region = table.region(old)?;
    for number in std::iter::once(low).chain(high) {
        let region = table.region(number)?;
        let shape = region.shape();
        let stamp = region.stamp();
        if !stamp.is_live() || shape.depth > depth || !shape.holds(shape.prefix) || number == old {
            return Err(Abort::Recover(
                Corruption::RedoRegion,
                At::Word(word::INTENT_BODY),
            ));
        }
        let entry = DirectoryEntry::new(number, stamp.incarnation() & MAX_INCARNATION);
        for index in (shape.prefix..1 << depth).step_by(1 << shape.depth) {
            // S2: the new region holds the hashes of this entry.
            table.set_entry(index, entry)?;
        }
    }
    for number in std::iter::once(low).chain(high) {
        repoint(generation, table, table.region(number)?, old, &after)?;
    }
    // S6: directory and roster lead to the new regions only.
    old_region.set_stamp(RegionStateWord::free(old_region.stamp().incarnation()));
    debug_assert!(!old_region.stamp().is_live(), "S6: free");
    publish::set_counters(table.header(), &after);
    Ok(())
}

/// Stores in the roster where the entries of a region are now.
fn repoint(
    generation: &Generation,
    table: &Table,
    region: Region<'_>,
    old: u32,
    after: &Counters,
) -> WriteResult<()> {
    let mut roster = generation.roster.cursor();
    for index in region.full() {
        let position = region.slot(index).identity().position;
        if u64::from(position) >= after.roster_len {
            continue;
        }
        // R1: a damaged position must not replace another entry's.
        let place = roster.at(position)?;
        if let Position::Slot(slot) = place.get()
            && table.slot_home(slot).0 == old
        {
            let number = table.slot_number(region.number(), index);
            place.set(Position::Slot(number));
        }
    }
    Ok(())
}

/// Marks a region as being built, under a new tag, and empties it.
fn begin(table: &Table, number: u32, shape: RegionShape) -> WriteResult<Region<'_>> {
    debug_assert!(shape.depth <= table.geometry().directory_bits);
    let tag = table.header().next_region_tag();
    if tag > MAX_INCARNATION {
        return Err(Abort::Enlarge);
    }
    // S4: no region ever had this tag.
    table.header().set_next_region_tag(tag + 1);
    let region = table.region(number)?;
    region.set_stamp(RegionStateWord::building(tag));
    region.reset(shape);
    Ok(region)
}

/// Takes a region that no directory entry leads to: from the free list, if its head really is free,
/// or a new one.
fn take_region(table: &Table, after: &mut Counters) -> WriteResult<u32> {
    if let Some(number) = after.free_region.checked_sub(1) {
        if number < after.regions && is_free(table, number as u32)? {
            let next = table.region(number as u32)?.next_free();
            // A damaged list must not give a region twice.
            let is_next = next <= after.regions && next != number + 1;
            after.free_region = if is_next { next } else { 0 };
            return Ok(number as u32);
        }
        after.free_region = 0;
    }
    let number = after.regions;
    if number >= table.geometry().max_regions() {
        return Err(Abort::Enlarge);
    }
    if number >= table.allocated_regions() {
        let ahead = (number / 8).clamp(1, REGIONS_AHEAD);
        if table.allocate_ahead(number + ahead).is_err() {
            table.allocate_regions(number + 1)?;
        }
    }
    after.regions += 1;
    Ok(number as u32)
}

/// Returns whether no directory entry leads to a region. A killed builder may have left any state
/// word in it.
fn is_free(table: &Table, number: u32) -> WriteResult<bool> {
    let region = table.region(number)?;
    let shape = region.shape();
    let depth = table.depth(table.header().poll())?;
    if shape.depth > depth {
        return Ok(!region.stamp().is_live());
    }
    let prefix = shape.prefix & ((1 << depth) - 1);
    Ok(table.entry(prefix)?.region() != number)
}
