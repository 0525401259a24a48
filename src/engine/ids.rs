//! Ids of keys, in a cache that only grows: their allocation and look-up.
//!
//! An id is a roster position plus one. Ids are reserved in blocks: before the first of a block is
//! given, a record that reserves the block is on the disk. So a rebuild from a heap whose last
//! records are lost knows which ids may have been given, and none is given twice.
//!
//! Whether a cache has ids is its [`KeyPolicy`], which callers pass on by calling [`put`] and
//! [`adopt`] here. May call `write::put`, `read::lookup` and everything below them.

use crate::error::{Corruption, ErrorKind, Result};
use crate::format::index::{Counters, word};
use crate::format::life::Life;
use crate::format::record::Traits;
use crate::format::record::{self, Kind, Variant};
use crate::format::roster::Position;
use crate::hash::Hash;
use crate::index::region::Region;
use crate::index::table::Table;

use crate::engine::generation::Generation;
use crate::engine::handle::Handle;
use crate::engine::read::expected_count::ExpectedCount;
use crate::engine::read::lookup::{Answer, read_with};
use crate::engine::write::heap_end::{self, Need};
use crate::engine::write::mutator::{Abort, At, Mutator, Target, WriteResult, old_bytes};
use crate::engine::write::put::{NewRecord, StoredRecord, Terms};
use crate::engine::write::{durability, publish, put, split};

/// Ids that are reserved at once: the heap is synced once for each block.
#[cfg(not(test))]
pub(crate) const RESERVED_AHEAD: u64 = 1 << 14;
#[cfg(test)]
pub(crate) const RESERVED_AHEAD: u64 = 8;
/// The highest id: its position is the last that a roster can have.
pub(crate) const HIGHEST: u64 = 1 << 31;
/// Ids that may be unused in a row. Each power loss costs at most one block: were more missing, a
/// forged record would make the roster grow.
const UNUSED_AT_MOST: u64 = 1 << 24;
/// The longest value of a key with an id: it has none.
pub(crate) const MAX_VALUE: u64 = 0;
/// Attempts at one position after which a lookup gives up.
const ATTEMPTS: u32 = 10_000;

/// What a cache gives its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyPolicy {
    /// Versions: each put gets the next one, and any roster position.
    Versioned,
    /// Ids: the first put of a key gets the next one, which is its roster position too. Entries
    /// never change, and have no values.
    WithIds,
}

impl KeyPolicy {
    /// Returns the policy of a generation.
    #[inline]
    pub(crate) fn of(generation: &Generation) -> Self {
        match generation.table.geometry().variant {
            Variant::Versioned | Variant::Expiring => Self::Versioned,
            Variant::Numbered => Self::WithIds,
        }
    }
}

/// Puts an entry under the policy of its cache. Returns its version or its id: the next one, or the
/// given one if it repeats an older entry.
#[inline]
pub(crate) fn put(
    mutator: &mut Mutator,
    key: &[u8],
    value: &[u8],
    terms: Terms,
) -> WriteResult<u64> {
    match KeyPolicy::of(&mutator.generation) {
        KeyPolicy::Versioned => put::put(mutator, key, value, terms),
        KeyPolicy::WithIds => put_with_id(mutator, key, value, terms.version),
    }
}

/// Links a record that is in the heap already, as the entry of a key that has none, under the
/// policy of its cache.
pub(crate) fn adopt(mutator: &mut Mutator, stored: &StoredRecord) -> WriteResult<()> {
    match KeyPolicy::of(&mutator.generation) {
        KeyPolicy::Versioned => put::adopt(mutator, stored, publish::take_position),
        KeyPolicy::WithIds => {
            let id = stored.header.mtime;
            put::adopt(mutator, stored, |generation, after| {
                take_position(generation, id, after)
            })
        }
    }
}

#[cold]
fn put_with_id(
    mutator: &mut Mutator,
    key: &[u8],
    value: &[u8],
    id: Option<u64>,
) -> WriteResult<u64> {
    if !value.is_empty() {
        return Err(put::value_too_large(mutator, value.len(), MAX_VALUE).into());
    }
    mutator.with_table(|mutator, table| {
        let hash = mutator.generation.hasher.hash(key);
        let region = mutator.region(table, hash)?;
        if mutator.find_in(region, hash, key)?.is_some() {
            put::refuse_if_append_only(mutator)?;
            // The geometry of a cache with ids is append-only.
            return Err(Abort::Recover(
                Corruption::IdsInMutableCache,
                At::Word(word::COUNTERS),
            ));
        }
        insert_with_id(mutator, table, region, hash, key, id)
    })
}

/// Inserts a key that has no entry: under the given id, or under the next one.
fn insert_with_id(
    mutator: &mut Mutator,
    table: &Table,
    region: Region<'_>,
    hash: Hash,
    key: &[u8],
    id: Option<u64>,
) -> WriteResult<u64> {
    debug_assert!(mutator.generation.is_numbered(), "N1: its records say ids");
    let given = mutator.generation.header().counters().roster_len;
    let id = id.unwrap_or(given.saturating_add(1));
    check_limit(mutator)?;
    reserve_block(mutator, id)?;
    let region = split::make_room(mutator, table, region, hash)?;
    let new = NewRecord {
        header: record::RecordHeader {
            variant: Variant::Numbered,
            value_len: 0,
            mtime: id,
            key_len: key.len() as u16,
            kind: Kind::Entry,
            life: Life::NONE,
            traits: Traits::NONE,
        },
        hash,
        key,
        value: &[],
    };
    let generation = &mutator.generation;
    let bytes = new.header.stored_bytes();
    let plan = publish::plan_insert(table, region, hash, bytes, |after| {
        take_position(generation, id, after)
    })?;
    // N2: the id is at most the highest that is reserved on the disk.
    debug_assert!(id <= mutator.generation.header().reserved_ids());
    put::insert(mutator, table, &plan, &new)?;
    Ok(id)
}

/// Returns the id of a key, giving it one now if it has none. An entry whose record does not verify
/// is dropped.
pub(crate) fn id_or_insert(mutator: &mut Mutator, key: &[u8]) -> WriteResult<u64> {
    check_has_ids(&mutator.generation)?;
    mutator.with_table(|mutator, table| {
        let hash = mutator.generation.hasher.hash(key);
        let region = mutator.region(table, hash)?;
        region.prefetch_home_bodies(hash);
        if let Some(target) = mutator.find_in(region, hash, key)? {
            match verified_id(&mutator.generation, &target)? {
                Some(id) => return Ok(id),
                None => drop_damaged(&mutator.generation, &target)?,
            }
            // Damage may have hidden a second entry of the key.
            if mutator.find_in(region, hash, key)?.is_some() {
                put::refuse_if_append_only(mutator)?;
            }
        }
        insert_with_id(mutator, table, region, hash, key, None)
    })
}

fn verified_id(generation: &Generation, target: &Target<'_>) -> WriteResult<Option<u64>> {
    let place = target.link.addr();
    let verified = match generation.segment(place.segment) {
        Some(segment) => segment.verify(place.unit)?,
        None => None,
    };
    Ok(verified.map(|header| header.mtime))
}

#[cold]
fn drop_damaged(generation: &Generation, target: &Target<'_>) -> WriteResult<()> {
    put::drop_entry(generation, target, old_bytes(generation, target)?)?;
    publish::count_dropped(generation.header(), 1);
    Ok(())
}

/// Refuses a cache without ids: it may have replaced the files of one with ids.
pub(crate) fn check_has_ids(generation: &Generation) -> Result<()> {
    match KeyPolicy::of(generation) {
        KeyPolicy::WithIds => Ok(()),
        KeyPolicy::Versioned => Err(ErrorKind::OptionMismatch {
            option: "record variant",
            asked: Variant::Numbered.to_disk().into(),
            found: Variant::Versioned.to_disk().into(),
        }
        .at(&generation.table.file().path())),
    }
}

/// Returns what cannot be true of the reserved ids in a header, if anything, and its word.
#[inline]
pub(crate) fn fault(generation: &Generation) -> Option<(Corruption, usize)> {
    match KeyPolicy::of(generation) {
        KeyPolicy::Versioned => None,
        KeyPolicy::WithIds => reserved_fault(generation),
    }
}

fn reserved_fault(generation: &Generation) -> Option<(Corruption, usize)> {
    let header = generation.header();
    let given = header.counters_after().roster_len;
    // N2: a block is reserved when the one before it is used up.
    let is_valid = (given..=given + RESERVED_AHEAD).contains(&header.reserved_ids());
    (!is_valid).then_some((Corruption::ReservedIds, word::LAST_MTIME))
}

/// Returns whether the heap of a cache is cleaned. Where nothing is deleted or overwritten, only
/// reservations and damage take room.
pub(crate) fn is_cleaned(generation: &Generation) -> bool {
    KeyPolicy::of(generation) == KeyPolicy::Versioned
}

/// Refuses a new key if all ids were given, or may have been.
fn check_limit(mutator: &Mutator) -> WriteResult<()> {
    let limit = match mutator.generation.table.geometry().max_entries {
        0 => HIGHEST,
        limit => limit.min(HIGHEST),
    };
    if mutator.generation.header().counters().roster_len < limit {
        return Ok(());
    }
    let path = mutator.names.cache().to_owned();
    Err(ErrorKind::IdsExhausted { limit }.at(path).into())
}

/// Reserves a block of ids if this one is not reserved: no power loss can have it given twice.
fn reserve_block(mutator: &mut Mutator, id: u64) -> WriteResult<()> {
    if id <= mutator.generation.header().reserved_ids() {
        return Ok(());
    }
    let end = (id - 1 + RESERVED_AHEAD).min(HIGHEST);
    append_reservation(mutator, end)?;
    durability::sync_heap(mutator)?;
    // N2: raised only after the sync of the record that says so.
    mutator.generation.header().set_reserved_ids(end);
    Ok(())
}

/// Appends the record that reserves all ids up to `end`.
fn append_reservation(mutator: &mut Mutator, end: u64) -> WriteResult<()> {
    let header = record::RecordHeader {
        variant: Variant::Numbered,
        value_len: 0,
        mtime: end,
        key_len: 1,
        kind: Kind::Reservation,
        life: Life::NONE,
        traits: Traits::NONE,
    };
    let live = mutator.generation.header().counters().live;
    heap_end::append(mutator, header, &[0], &[], live, Need::Ordinary)?;
    heap_end::commit_record(mutator.generation.header());
    Ok(())
}

/// Takes the roster position of an id that no key has. Positions that it leaves out stay free for
/// ever.
fn take_position(generation: &Generation, id: u64, after: &mut Counters) -> WriteResult<u32> {
    let fresh = after.roster_len.saturating_add(UNUSED_AT_MOST);
    if id == 0 || id > fresh.min(HIGHEST) {
        return Err(Abort::Recover(
            Corruption::IdNotReserved,
            At::Word(word::LAST_MTIME),
        ));
    }
    let position = id - 1;
    publish::ensure_position(&generation.roster, position)?;
    if is_given(generation, position as u32)? {
        return Err(Abort::Recover(
            Corruption::IdAssignedTwice,
            At::Roster(position as u32),
        ));
    }
    if position >= after.roster_len {
        leave_out(generation, after.roster_len, position)?;
        after.roster_len = id;
    }
    debug_assert!(position < after.roster_len, "N3: the length covers the id");
    Ok(position as u32)
}

/// Reserves again, in a heap of its own, what the index that is replaced had reserved.
pub(crate) fn repeat_reservation(fresh: &mut Mutator, old: &Generation) -> WriteResult<()> {
    match KeyPolicy::of(&fresh.generation) {
        KeyPolicy::Versioned => Ok(()),
        KeyPolicy::WithIds => append_reservation(fresh, old.header().reserved_ids()),
    }
}

/// Gives up all ids that are reserved and that no key is known to have.
pub(crate) fn give_up_reserved(generation: &Generation) -> WriteResult<()> {
    match KeyPolicy::of(generation) {
        KeyPolicy::Versioned => Ok(()),
        KeyPolicy::WithIds => skip_to(generation, generation.header().reserved_ids()),
    }
}

/// Leaves out the ids that another generation had given, or given up.
pub(crate) fn skip_given(generation: &Generation, old: &Generation) -> WriteResult<()> {
    skip_to(generation, old.roster_len().into())
}

/// Leaves out the ids that the original of a copy had given by `given`, and reserves those that it
/// gave during the copy, from a block that was reserved since.
pub(crate) fn skip_copied(fresh: &mut Mutator, given: u64) -> WriteResult<()> {
    if KeyPolicy::of(&fresh.generation) == KeyPolicy::Versioned {
        return Ok(());
    }
    skip_to(&fresh.generation, given)?;
    if given > fresh.generation.header().reserved_ids() {
        append_reservation(fresh, given)?;
        fresh.generation.header().set_reserved_ids(given);
    }
    Ok(())
}

/// Leaves out the ids up to a length of the roster; of a cache without ids, does nothing.
pub(crate) fn skip_to(generation: &Generation, roster_len: u64) -> WriteResult<()> {
    let header = generation.header();
    let mut counters = header.counters();
    if KeyPolicy::of(generation) == KeyPolicy::WithIds && roster_len > counters.roster_len {
        publish::ensure_position(&generation.roster, roster_len - 1)?;
        leave_out(generation, counters.roster_len, roster_len)?;
        counters.roster_len = roster_len;
        publish::set_counters(header, &counters);
    }
    Ok(())
}

/// Frees positions after the roster's end. No reader reads them before the length covers them.
fn leave_out(generation: &Generation, from: u64, to: u64) -> Result<()> {
    debug_assert!(from <= to, "N3: the roster never shrinks");
    for position in from..to {
        // N3: left out for ever, so no other key gets them.
        generation.roster.set(position as u32, Position::Free(0))?;
    }
    Ok(())
}

/// Returns whether an entry has a position. A position that was never stored reads as the first
/// slot, which names its own position.
fn is_given(generation: &Generation, position: u32) -> WriteResult<bool> {
    let Position::Slot(number) = generation.roster.get(position)? else {
        return Ok(false);
    };
    let table = &generation.table;
    let (region, index) = table.slot_home(number);
    let slot = table.region(region)?.slot(index);
    Ok(slot.link().is_entry() && slot.identity().position == position)
}

/// Returns whether a record's id cannot be its key's: another key has it, or no key can have it.
pub(crate) fn has_id(generation: &Generation, id: u64) -> WriteResult<bool> {
    let counters = generation.header().counters();
    let highest = counters
        .roster_len
        .saturating_add(UNUSED_AT_MOST)
        .min(HIGHEST);
    if !(1..=highest).contains(&id) {
        return Ok(true);
    }
    Ok(id <= counters.roster_len && is_given(generation, id as u32 - 1)?)
}

/// Stores which ids may have been given: those that the heap says, or those that an old index has
/// `carried`. No header says more than a block beyond the heap, unless it is damaged.
pub(crate) fn set_reserved(generation: &Generation, heap: u64, carried: u64) {
    let highest = if carried <= heap.saturating_add(UNUSED_AT_MOST) {
        heap.max(carried)
    } else {
        heap
    };
    generation.header().set_reserved_ids(highest);
}

/// Returns the id of a key, without a lock.
pub(crate) fn id_of(handle: &Handle, key: &[u8]) -> Result<Option<u64>> {
    let mut nothing = Vec::new();
    match read_with(handle, key, &mut nothing, |header| header)? {
        Answer::Found(header) if header.variant == Variant::Numbered => Ok(Some(header.mtime)),
        Answer::Found(_) => check_has_ids(&handle.current()?.0).map(|()| None),
        // To the caller, a damaged key has no id; the damage was counted.
        Answer::Absent | Answer::Damaged(_) => Ok(None),
    }
}

/// Returns the number of ids that were given, or may have been.
pub(crate) fn ids_given(handle: &Handle) -> Result<u64> {
    let (generation, _) = handle.current()?;
    check_has_ids(&generation)?;
    Ok(generation.roster_len().into())
}

/// The result of one attempt to read the key of an id.
enum Attempt {
    Found,
    Absent,
    /// Something changed while it was read, or it is damaged.
    Again,
    /// The segment is not mapped.
    Unmapped(u16),
}

/// Appends the key of an id, without a lock. Returns false if no key has the id, or if what is
/// there is damaged.
///
/// A record says its own id, and is never changed or moved within its generation (N1). So a record
/// that verifies and says the id is the right one, however it was found.
///
/// # Errors
///
/// Returns [`ErrorKind::Contended`] if writers changed it during each attempt.
pub(crate) fn key_of(handle: &Handle, id: u64, out: &mut Vec<u8>) -> Result<bool> {
    let mut damaged_at = None;
    let mut is_fresh = false;
    for _ in 0..ATTEMPTS {
        let (generation, _) = handle.current()?;
        let changes = generation.header().changes();
        match attempt(&generation, id, out)? {
            Attempt::Found => return Ok(true),
            Attempt::Absent => {
                check_has_ids(&generation)?;
                return Ok(false);
            }
            Attempt::Unmapped(segment) if handle.map_segment(&generation, segment)? => continue,
            Attempt::Unmapped(_) | Attempt::Again => {}
        }
        // Damage, if nothing was changed during a whole attempt.
        if damaged_at.replace(changes) == Some(changes) {
            if is_fresh || !handle.reopen_on_overlay()? {
                handle.saw_damage();
                return Ok(false);
            }
            is_fresh = true;
        }
    }
    Err(ErrorKind::Contended {
        what: "the key of an id",
        attempts: ATTEMPTS,
    }
    .at(&handle.path))
}

/// Attempts once to read the key of an id.
fn attempt(generation: &Generation, id: u64, out: &mut Vec<u8>) -> Result<Attempt> {
    let position = match id.checked_sub(1) {
        Some(position) if position < u64::from(generation.roster_len()) => position as u32,
        _ => return Ok(Attempt::Absent),
    };
    if KeyPolicy::of(generation) == KeyPolicy::Versioned {
        return Ok(Attempt::Absent);
    }
    let Position::Slot(slot) = generation.roster.get(position)? else {
        return Ok(Attempt::Absent);
    };
    let (region, index) = generation.table.slot_home(slot);
    let Ok(region) = generation.table.region(region) else {
        return Ok(Attempt::Again);
    };
    let link = region.slot(index).link();
    if !link.is_entry() {
        return Ok(Attempt::Again);
    }
    let place = link.addr();
    let Some(segment) = generation.segment(place.segment) else {
        return Ok(Attempt::Unmapped(place.segment));
    };
    let start = out.len();
    match segment.read_any(place.unit, out, None)? {
        // N1: the record says its id, under its checksum.
        Some(header) if header.mtime == id && header.kind == Kind::Entry => Ok(Attempt::Found),
        _ => {
            out.truncate(start);
            Ok(Attempt::Again)
        }
    }
}

/// How many labels a listing has to find: what an [`ExpectedCount`] says, for the generation in
/// which it was taken.
#[derive(Debug)]
pub(crate) struct IdTally {
    tally: ExpectedCount,
    generation: u64,
}

impl IdTally {
    /// Takes the count. The caller asks for the highest id after that.
    pub(crate) fn of(handle: &Handle) -> Result<Self> {
        let (generation, _) = handle.current()?;
        Ok(Self {
            tally: ExpectedCount::of(&generation),
            generation: generation.ids.roster,
        })
    }

    /// Returns an error if a listing that found `found` labels and came to its end lacks some.
    pub(crate) fn check(&self, handle: &Handle, found: u64) -> Result<()> {
        let (generation, _) = handle.current()?;
        let checked = if generation.ids.roster == self.generation {
            self.tally.check(&generation, found)
        } else if found < self.tally.counted() {
            // Another generation has replaced it, which may lack what was damaged.
            Err(ErrorKind::Superseded.at(&handle.path))
        } else {
            Ok(())
        };
        checked.inspect_err(|error| {
            if error.is_corruption() {
                handle.saw_damage();
            }
        })
    }
}
