//! Growing the table, a region at a time.
//!
//! A region that is full is rebuilt aside, into two by the next hash bit or into one without its
//! tombstones, and swapped in. Knows how regions are replaced, not what is put into them.

use crate::format::index::{Counters, word};
use crate::format::region::{Entry, MAX_INCARNATION, Shape, Stamp};
use crate::format::roster::Position;
use crate::hash::Hash;
use crate::index::header::Intent;
use crate::index::region::Region;
use crate::index::table::Table;

use crate::engine::write::mutator::{Abort, At, Mutator, WriteResult};

/// Regions by which the file grows at once, at most: about 256 KiB.
const REGIONS_AHEAD: u64 = 8;

impl Mutator {
    /// Sees to it that a new entry with this hash finds a slot, and its neighbours short probes.
    /// Returns the region that is the hash's afterwards.
    pub(crate) fn make_room<'t>(
        &mut self,
        table: &'t Table,
        region: Region<'t>,
        hash: Hash,
    ) -> WriteResult<Region<'t>> {
        let mut region = region;
        // A split may leave all entries on one side, where their next hash bits are the same.
        while table.geometry().is_crowded(region.counts()) {
            let relieved = self.relieve(table, region);
            region = table.locate(table.header().poll(), hash)?.region;
            match relieved {
                Ok(()) => {}
                // A step that fails for want of room must not fail a put that fits.
                Err(stop) if stop.is_want_of_room() && region.vacancy(hash).is_some() => break,
                Err(stop) => return Err(stop),
            }
        }
        Ok(region)
    }

    /// Splits a region, or purges it of tombstones.
    fn relieve(&mut self, table: &Table, region: Region<'_>) -> WriteResult<()> {
        let counts = region.recount();
        let slots = table.geometry().region_slots;
        let shape = region.shape();
        let splittable = shape.depth < table.geometry().directory_bits;
        if !table.geometry().is_crowded(counts) {
            // The header's counts were wrong; the control bytes are what counts.
            region.set_counts(counts);
            return Ok(());
        }
        if counts.deleted > slots / 8 {
            return self.replace(table, region, shape, false);
        }
        if splittable {
            return self.replace(table, region, shape, true);
        }
        Err(Abort::Enlarge)
    }

    /// Rebuilds a region aside and swaps it in. A kill before the intent leaves free regions that
    /// were scribbled on; a kill behind it is finished by whoever comes next, from the new regions
    /// themselves.
    fn replace(
        &mut self,
        table: &Table,
        old: Region<'_>,
        shape: Shape,
        split: bool,
    ) -> WriteResult<()> {
        if !table.leads_alone_to(old.number(), shape)? {
            return Err(Abort::Recover(
                "a region that serves other hashes than it says",
                At::Index(table.region_at(old.number())),
            ));
        }
        // They come while the new regions are emptied.
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
            Shape {
                depth,
                prefix: shape.prefix,
            },
        )?;
        let upper = Shape {
            depth,
            prefix: shape.prefix | (1 << shape.depth),
        };
        let high_region = high.map(|high| begin(table, high, upper)).transpose()?;
        self.distribute(table, old, shape, low_region, high_region)?;
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
        // The old region's own word for the list: nothing reads it before the region is on the
        // list.
        old.set_next_free(next_free);
        let intent = Intent::Replace {
            old: old.number(),
            low,
            high,
            after,
        };
        table.header().arm(intent);
        self.apply_replace(table, &intent)?;
        table.header().disarm();
        Ok(())
    }

    /// Copies every entry to its new region, as it stands.
    ///
    /// An entry that is damaged, or that the roster does not know, would be lost on the way sooner
    /// or later: the heap still has it, so index and roster are rebuilt from there instead.
    fn distribute(
        &self,
        table: &Table,
        old: Region<'_>,
        shape: Shape,
        low: Region<'_>,
        high: Option<Region<'_>>,
    ) -> WriteResult<()> {
        // The positions lie far apart: ask for all of them before the first is needed.
        let mut roster = self.generation.roster.walk();
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
            let known = u64::from(position) < positions
                && roster.at(position)?.get() == Position::Slot(number);
            if !known || !link.is_entry() || !shape.holds(hash.directory()) {
                let at = At::Index(table.body_at(old.number(), index));
                return Err(Abort::Recover(
                    "a damaged entry in a region that is rebuilt",
                    at,
                ));
            }
            let upper = hash.directory() & (1 << shape.depth) != 0;
            let target = if upper { high.unwrap_or(low) } else { low };
            if target.adopt(slot, hash).is_none() {
                let at = At::Index(table.region_at(old.number()));
                return Err(Abort::Recover("more entries than a region has slots", at));
            }
        }
        for region in std::iter::once(low).chain(high) {
            region.set_counts(region.recount());
            region.set_stamp(Stamp::live(region.stamp().incarnation()));
        }
        Ok(())
    }

    /// The stores of a replacement behind its intent; storing them twice is the same as once.
    ///
    /// Directory entries are switched one by one: until the lock is released the old region, still
    /// intact, says the same as the new ones. Then the roster follows, and only then is the old
    /// region given up.
    pub(crate) fn apply_replace(&self, table: &Table, intent: &Intent) -> WriteResult<()> {
        let &Intent::Replace {
            old,
            low,
            high,
            after,
        } = intent
        else {
            return Err(Abort::Recover(
                "an intent of another kind",
                At::Word(word::INTENT),
            ));
        };
        let depth = table.depth(table.header().poll())?;
        let old_region = table.region(old)?;
        for number in std::iter::once(low).chain(high) {
            let region = table.region(number)?;
            let shape = region.shape();
            let stamp = region.stamp();
            if !stamp.is_live()
                || shape.depth > depth
                || !shape.holds(shape.prefix)
                || number == old
            {
                return Err(Abort::Recover(
                    "an intent names a region that is not ready",
                    At::Word(word::INTENT_BODY),
                ));
            }
            let entry = Entry::new(number, stamp.incarnation() & MAX_INCARNATION);
            for index in (shape.prefix..1 << depth).step_by(1 << shape.depth) {
                table.set_entry(index, entry)?;
            }
        }
        for number in std::iter::once(low).chain(high) {
            self.repoint(table, table.region(number)?, old, &after)?;
        }
        old_region.set_stamp(Stamp::free(old_region.stamp().incarnation()));
        table.header().set_counters(&after);
        Ok(())
    }

    /// Tells the roster where the entries of a region are now.
    fn repoint(
        &self,
        table: &Table,
        region: Region<'_>,
        old: u32,
        after: &Counters,
    ) -> WriteResult<()> {
        let mut roster = self.generation.roster.walk();
        for index in region.full() {
            let position = region.slot(index).identity().position;
            if u64::from(position) >= after.roster_len {
                continue;
            }
            // A damaged position must not take another entry's place.
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
}

/// Stamps a region as being built, and empties it.
fn begin(table: &Table, number: u32, shape: Shape) -> WriteResult<Region<'_>> {
    let incarnation = table.header().get(word::INCARNATION);
    if incarnation > MAX_INCARNATION {
        return Err(Abort::Enlarge);
    }
    table.header().set(word::INCARNATION, incarnation + 1);
    let region = table.region(number)?;
    region.set_stamp(Stamp::building(incarnation));
    region.reset(shape);
    Ok(region)
}

/// A region that nothing leads to: from the free list, if its head really is free, or a new one.
fn take_region(table: &Table, after: &mut Counters) -> WriteResult<u32> {
    if let Some(number) = after.free_region.checked_sub(1) {
        if number < after.regions && is_free(table, number as u32)? {
            let next = table.region(number as u32)?.next_free();
            after.free_region = if next <= after.regions { next } else { 0 };
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

/// Whether no directory entry leads to a region, which a killed builder may have stamped as
/// anything.
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
