//! Put and delete: the whole order of stores of each, in one place.
//!
//! A kill at any store leaves the old state or the new one, and readers never need recovery. The
//! steps of a put of a new key, in [`insert`] and [`apply_insert`]:
//!
//! 1. Reserve: store `live_after` and `reserved` (H1).
//! 2. Write the record after `tail` (S1, H2).
//! 3. Commit the redo record: from here on recovery stores steps 4 to 8 again.
//! 4. Fill the slot's body (S1).
//! 5. Store the slot's number in the roster (R2).
//! 6. Store the counters of header and region, absolute.
//! 7. Store the control byte (S3).
//! 8. Store the link (S1): readers see the entry. Count the change.
//! 9. Commit the record: `tail` moves to `reserved` (H1).
//! 10. Clear the redo record.
//!
//! An overwrite ([`overwrite`]) has steps 1, 2, then the deadline (S5), the link, the live bytes,
//! and 9; its link alone decides. A delete ([`delete`]) has steps 1 to 3 with a deletion record,
//! then the link first, the control byte, the roster position and the counters, and 9, 10.
//!
//! May call `heap_end`, `publish`, `split` and everything below them.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::format::heap_addr::HeapAddr;
use crate::format::index::Counters;
use crate::format::life::Life;
use crate::format::record::{self, Kind, Traits};
use crate::format::region::{DELETED, EMPTY, SlotCounts};
use crate::format::roster::Position;
use crate::format::settings::{EvictionPolicy, Settings};
use crate::format::slot::{Link, SlotIdentity};
use crate::hash::Hash;
use crate::index::region::{MARK_MAX, Region};
use crate::index::table::Table;

use crate::engine::generation::Generation;
use crate::engine::version::Version;
use crate::engine::write::heap_end::{self, Need};
use crate::engine::write::in_place;
use crate::engine::write::mutator::{Mutator, Target, WriteResult, old_bytes};
use crate::engine::write::publish::{self, Insertion, NO_POSITION, Removal};
use crate::engine::write::split;

/// A record that is about to become an entry, or is one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewRecord<'a> {
    pub header: record::RecordHeader,
    pub hash: Hash,
    pub key: &'a [u8],
    pub value: &'a [u8],
}

/// A record that is in the heap already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoredRecord {
    pub place: HeapAddr,
    pub header: record::RecordHeader,
    pub hash: Hash,
}

impl StoredRecord {
    /// Returns the heap bytes that are live with it: none with a deletion.
    fn live_bytes(&self) -> u64 {
        match self.is_gone() {
            true => 0,
            false => self.header.stored_bytes(),
        }
    }

    /// Returns whether the record is a deletion, which an index links to while it is rebuilt.
    fn is_gone(&self) -> bool {
        self.header.kind == Kind::Deletion
    }
}

/// What an entry is put with, besides key and value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// The version of the entry that this one repeats; `None` for the next version.
    pub version: Option<u64>,
    /// In milliseconds since the Unix epoch; `None` outside a `Cache`.
    pub deadline: Option<u64>,
    /// None outside a `Cache`.
    pub traits: Traits,
}

impl Terms {
    /// The next version, and no deadline.
    pub(crate) const PLAIN: Self = Self {
        version: None,
        deadline: None,
        traits: Traits::NONE,
    };

    /// Returns those of an entry that is put again.
    pub(crate) fn repeat(header: &record::RecordHeader) -> Self {
        Self {
            version: Some(header.mtime),
            deadline: header.life.deadline(header.mtime),
            traits: header.traits,
        }
    }
}

/// Puts an entry and returns its version: the next one, or the given one if it repeats an older
/// entry.
pub(crate) fn put(
    mutator: &mut Mutator,
    key: &[u8],
    value: &[u8],
    terms: Terms,
) -> WriteResult<u64> {
    mutator.with_table(|mutator, table| put_into(mutator, table, key, value, terms))
}

fn put_into(
    mutator: &mut Mutator,
    table: &Table,
    key: &[u8],
    value: &[u8],
    terms: Terms,
) -> WriteResult<u64> {
    let hash = mutator.generation.hasher.hash(key);
    let region = mutator.region(table, hash)?;
    // Not only the slot that is chosen later: otherwise the next put waits for the store to it
    // (204 ns of the engine, 221 without).
    region.prefetch_home_bodies(hash);
    check_value(mutator, key, value)?;
    let next = || Version::next(mutator.generation.header().last_version());
    let version = terms.version.unwrap_or_else(next);
    let life = terms
        .deadline
        .map_or(Life::NONE, |deadline| Life::new(version, deadline));
    let new = NewRecord {
        header: record::RecordHeader {
            variant: mutator.generation.variant(),
            value_len: value.len() as u32,
            mtime: version,
            key_len: key.len() as u16,
            kind: Kind::Entry,
            life,
            traits: terms.traits,
        },
        hash,
        key,
        value,
    };
    if let Some(target) = mutator.find_in(region, hash, key)? {
        // A1: refused before the first store.
        refuse_overwriting(mutator, &target)?;
        overwrite(mutator, table, target, &new)?;
        return Ok(version);
    }
    if !terms.traits.has(Traits::INTERNAL) {
        check_entry_limit(mutator)?;
    }
    let region = split::make_room(mutator, table, region, hash)?;
    let generation = &mutator.generation;
    let bytes = new.header.stored_bytes();
    let plan = publish::plan_insert(table, region, hash, bytes, |after| {
        publish::take_position(generation, after)
    })?;
    let mark = generation.is_cache().then(|| first_mark(region, hash));
    insert(mutator, table, &plan, &new)?;
    if let Some(mark) = mark {
        region.set_mark(table.slot_home(plan.slot).1, mark);
    }
    Ok(version)
}

/// Returns the mark of a new entry of a `Cache`: as used as can be if its key was evicted not long ago,
/// or else unused. Simulated on the Twitter trace of libCacheSim with a hundredth of its keys: 0.3264
/// misses instead of 0.3315.
fn first_mark(region: Region<'_>, hash: Hash) -> u8 {
    if region.remembers(hash) { MARK_MAX } else { 0 }
}

/// Refuses a value that no segment has room for.
#[inline(always)]
fn check_value(mutator: &Mutator, key: &[u8], value: &[u8]) -> WriteResult<()> {
    let most = mutator.generation.table.geometry().max_segment_bytes;
    let max = heap_end::max_value(most, key.len());
    if value.len() as u64 > max {
        return Err(value_too_large(mutator, value.len(), max).into());
    }
    Ok(())
}

#[cold]
pub(crate) fn value_too_large(mutator: &Mutator, len: usize, max: u64) -> Error {
    ErrorKind::ValueTooLarge { len, max }.at(&mutator.names.cache())
}

/// Refuses whatever would change an entry of an append-only cache (A1). Callers ask before their
/// first store.
pub(crate) fn refuse_if_append_only(mutator: &Mutator) -> WriteResult<()> {
    if !mutator.generation.is_append_only() {
        return Ok(());
    }
    let path = mutator.names.cache().to_owned();
    Err(ErrorKind::AppendOnly.at(path).into())
}

/// Refuses another value of an entry of an append-only cache, unless the record is damaged: what
/// damage has taken may be put again.
fn refuse_overwriting(mutator: &Mutator, target: &Target<'_>) -> WriteResult<()> {
    if mutator.generation.is_append_only() && !is_valid(&mutator.generation, target)? {
        return Ok(());
    }
    refuse_if_append_only(mutator)
}

/// Returns whether the record of an entry verifies.
fn is_valid(generation: &Generation, target: &Target<'_>) -> Result<bool> {
    let place = target.link.addr();
    match generation.segment(place.segment) {
        Some(segment) if target.record.is_some() => Ok(segment.verify(place.unit)?.is_some()),
        _ => Ok(false),
    }
}

fn check_entry_limit(mutator: &Mutator) -> WriteResult<()> {
    let limit = match mutator.generation.is_cache() {
        true => most_entries_of_cache(&mutator.generation),
        false => mutator.generation.table.geometry().max_entries,
    };
    if limit > 0 && mutator.generation.header().occupied() >= limit {
        return Err(ErrorKind::TableFull { limit }
            .at(&mutator.names.cache())
            .into());
    }
    Ok(())
}

/// Returns the limit of a `Cache` that may evict nothing; 0 if there is none.
fn most_entries_of_cache(generation: &Generation) -> u64 {
    let settings = generation.settings();
    let refuses = |settings: &Settings| settings.eviction == EvictionPolicy::Refuse;
    settings
        .filter(refuses)
        .map_or(0, |settings| settings.max_entries)
}

/// Stores a new entry, for which there is room: steps 1 to 10.
#[inline(always)]
pub(crate) fn insert(
    mutator: &mut Mutator,
    table: &Table,
    plan: &Insertion,
    new: &NewRecord<'_>,
) -> WriteResult<()> {
    let NewRecord {
        header,
        hash,
        key,
        value,
    } = *new;
    debug_assert_eq!(header.kind, Kind::Entry, "S1: links lead to entries");
    // 1. H1: announced before a byte after `tail` is stored.
    let room = heap_end::reserve(mutator, &header, plan.after.live, Need::Ordinary)?;
    // 2. S1: the record is complete before the link, and before the redo record that names it.
    let place = room.write(header, key, value)?;
    debug_assert_eq!(
        place,
        table.header().tail(),
        "H1: one record after the tail"
    );
    let link = Link::new(place, hash.tag());
    // 3.
    publish::commit_redo(table.header(), plan.redo(link));
    // 4. to 8.
    apply_insert(&mutator.generation, table, plan, link, hash, &header)?;
    publish::count_put(table.header());
    // 9. H1: the record is linked.
    heap_end::commit_record(table.header());
    // 10.
    publish::clear_redo(table.header());
    Ok(())
}

/// Steps 4 to 8: the stores of an insertion after its redo record. Storing them twice has the same
/// effect as once, so recovery calls this too.
pub(crate) fn apply_insert(
    generation: &Generation,
    table: &Table,
    plan: &Insertion,
    link: Link,
    hash: Hash,
    record: &record::RecordHeader,
) -> WriteResult<()> {
    let (region, index) = table.slot_home(plan.slot);
    let region = table.region(region)?;
    debug_assert!(
        region.shape().holds(hash.directory()),
        "S2: the region is the hash's"
    );
    debug_assert_eq!(link.tag(), hash.tag(), "S2: probes compare it");
    // 4. S1: the body before the link.
    publish::fill_slot(region, index, plan.position, hash, record);
    // 5. R2: the position names the slot, the slot the position.
    let position = Position::Slot(plan.slot);
    generation.roster.set(plan.position, position)?;
    // 6. Absolute values. A reader that sees the roster's length sees step 5.
    publish::set_counters(table.header(), &plan.after);
    region.set_counts(plan.counts);
    // 7. S3: a full byte over an unpublished slot costs a reader one attempt; a missing one would
    // hide the key.
    region.set_control(index, hash.control());
    debug_assert_eq!(region.control(index), hash.control(), "S3");
    // 8. S1: published last.
    region.slot(index).set_link(link);
    publish::count_change(table.header());
    Ok(())
}

/// Replaces the value of an entry.
///
/// A kill before the link's store leaves the old value, and a record in `tail..reserved` that
/// recovery takes back. A kill after it leaves a record that is linked, and counters that recovery
/// completes from `live_after`.
fn overwrite(
    mutator: &mut Mutator,
    table: &Table,
    target: Target<'_>,
    new: &NewRecord<'_>,
) -> WriteResult<()> {
    let NewRecord {
        header, key, value, ..
    } = *new;
    if mutator.generation.is_in_place() && in_place::can_overwrite(mutator, &target, &header) {
        let place = target.link.addr();
        return in_place::overwrite(mutator, table, place, header, (key, value));
    }
    let shared = table.header();
    let live = shared.counters().live;
    let live_after = live
        .saturating_sub(old_bytes(&mutator.generation, &target)?)
        .saturating_add(header.stored_bytes());
    debug_assert_eq!(header.kind, Kind::Entry, "S1: links lead to entries");
    // H1: announced before a byte after `tail` is stored.
    let room = heap_end::reserve(mutator, &header, live_after, Need::Ordinary)?;
    // S1: the record is complete before the link.
    let place = room.write(header, key, value)?;
    relink(&target, place, &header);
    if live_after != live {
        // Otherwise the line of the counters stays in the caches of all processors.
        publish::set_live(shared, live_after);
    }
    publish::count_change(shared);
    publish::count_overwrite(shared);
    // H1: the record is linked.
    heap_end::commit_record(shared);
    mutator.mark_dead(&target);
    Ok(())
}

/// Links an entry to another record of its key that is in the heap already.
#[inline]
pub(crate) fn relink(target: &Target<'_>, place: HeapAddr, record: &record::RecordHeader) {
    debug_assert!(target.link.is_entry(), "S1: only an entry is linked again");
    debug_assert!(
        cfg!(loom) || target.slot.link() == target.link,
        "L1: as it was found"
    );
    // S5: hints, stored at any time. Records of one size follow each other often: then no line of the
    // body is touched.
    let units = record.slot_units();
    let old = target.record.filter(|old| old.is_short());
    if old.map(|old| old.slot_units()) != Some(units) {
        let identity = target.slot.identity();
        if identity.units != units {
            target.slot.set_identity(SlotIdentity { units, ..identity });
        }
    }
    target.slot.set_deadline(record.deadline());
    // S1: published last.
    let link = Link::new(place, target.link.tag());
    let is_gone = record.kind == Kind::Deletion;
    target.slot.set_link(link.with_gone(is_gone));
}

/// Links a record that is in the heap already, as the entry of a key that has none; `position`
/// chooses its roster position.
pub(crate) fn adopt(
    mutator: &mut Mutator,
    stored: &StoredRecord,
    position: impl FnOnce(&Generation, &mut Counters) -> WriteResult<u32>,
) -> WriteResult<()> {
    let StoredRecord {
        place,
        header,
        hash,
    } = *stored;
    let bytes = stored.live_bytes();
    let table = Arc::clone(&mutator.generation.table);
    let region = mutator.region(&table, hash)?;
    let region = split::make_room(mutator, &table, region, hash)?;
    let generation = &mutator.generation;
    let plan = publish::plan_insert(&table, region, hash, bytes, |after| {
        position(generation, after)
    })?;
    let link = Link::new(place, hash.tag()).with_gone(stored.is_gone());
    publish::commit_redo(table.header(), plan.redo(link));
    apply_insert(generation, &table, &plan, link, hash, &header)?;
    publish::clear_redo(table.header());
    Ok(())
}

/// Deletes the entry of a key. Returns whether there was one.
pub(crate) fn delete(mutator: &mut Mutator, key: &[u8]) -> WriteResult<bool> {
    mutator.with_table(|mutator, table| delete_from(mutator, table, key))
}

fn delete_from(mutator: &mut Mutator, table: &Table, key: &[u8]) -> WriteResult<bool> {
    refuse_if_append_only(mutator)?;
    let hash = mutator.generation.hasher.hash(key);
    let region = mutator.region(table, hash)?;
    // The position comes while the record does.
    region.prefetch_home_bodies(hash);
    let Some(target) = mutator.find_in(region, hash, key)? else {
        forbid_return(mutator, key)?;
        return Ok(false);
    };
    let generation = &mutator.generation;
    debug_assert!(!generation.is_append_only(), "A1: refused before");
    generation.roster.prefetch(target.slot.identity().position);
    let header = deletion(generation, key);
    let plan = publish::plan_removal(generation, table, &target, old_bytes(generation, &target)?)?;
    // H1: announced before a byte after `tail` is stored.
    let room = heap_end::reserve(mutator, &header, plan.after.live, Need::Deletion)?;
    // H5: until its segment is the oldest, the record keeps older ones of the key from coming back.
    let place = room.write(header, key, &[])?;
    remove(&mutator.generation, table, &plan)?;
    publish::count_delete(table.header());
    heap_end::commit_record(table.header());
    publish::clear_redo(table.header());
    mutator.mark_dead(&target);
    // To cleaning, which reads it in the oldest segment, a deletion is dead from the start.
    mutator.mark_record_dead(place, header);
    Ok(true)
}

/// Appends the deletion record of a key without an entry, if it may have had one that was removed
/// without such a record and would come back by a rebuild from the heap.
#[inline]
fn forbid_return(mutator: &mut Mutator, key: &[u8]) -> WriteResult<()> {
    let header = mutator.generation.header();
    if header.evicted() <= u64::from(header.oldest()) {
        return Ok(());
    }
    let record = deletion(&mutator.generation, key);
    let live = header.counters().live;
    // E3: it keeps the removed entry from coming back. H1: no entry links to it, so it is committed at
    // once.
    heap_end::append(mutator, record, key, &[], live, Need::Deletion)?;
    let header = mutator.generation.header();
    publish::count_change(header);
    heap_end::commit_record(header);
    Ok(())
}

/// Returns the header of a key's deletion record.
fn deletion(generation: &Generation, key: &[u8]) -> record::RecordHeader {
    record::RecordHeader {
        variant: generation.variant(),
        value_len: 0,
        mtime: Version::next(generation.header().last_version()),
        key_len: key.len() as u16,
        kind: Kind::Deletion,
        life: Life::NONE,
        traits: Traits::NONE,
    }
}

/// Removes an entry from index and roster without a deletion record: because its record is lost, or
/// may come back. `bytes` bytes of live records go with it.
pub(crate) fn drop_entry(
    generation: &Generation,
    target: &Target<'_>,
    bytes: u64,
) -> WriteResult<()> {
    let table = &generation.table;
    let plan = publish::plan_removal(generation, table, target, bytes)?;
    remove(generation, table, &plan)?;
    publish::clear_redo(table.header());
    Ok(())
}

/// Commits the redo record of a removal, which stays committed, and stores the removal.
fn remove(generation: &Generation, table: &Table, plan: &Removal) -> WriteResult<()> {
    publish::commit_redo(table.header(), plan.redo());
    apply_delete(generation, table, plan)
}

/// The stores of a removal after its redo record. Storing them twice has the same effect as once,
/// but for the region's own counts, which recovery takes from the control bytes.
pub(crate) fn apply_delete(
    generation: &Generation,
    table: &Table,
    plan: &Removal,
) -> WriteResult<()> {
    let (region, index) = table.slot_home(plan.slot);
    let region = table.region(region)?;
    debug_assert!(!plan.vacant.is_entry(), "the slot is vacant after it");
    // The link first: readers go by it. S3 holds, for it leads to no record any more.
    region.slot(index).set_link(plan.vacant);
    let control = match plan.vacant == Link::NEVER {
        true => EMPTY,
        false => DELETED,
    };
    region.set_control(index, control);
    if plan.position != NO_POSITION {
        // R1, R2: the position is free after the link that named it went.
        generation
            .roster
            .set(plan.position, Position::Free(plan.next_free))?;
    }
    publish::set_counters(table.header(), &plan.after);
    let counts = region.counts();
    let deleted = u32::from(plan.vacant == Link::DELETED);
    region.set_counts(SlotCounts {
        occupied: counts.occupied.saturating_sub(1),
        deleted: counts.deleted.saturating_add(deleted),
    });
    publish::count_change(table.header());
    Ok(())
}
