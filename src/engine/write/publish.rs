//! Slots, roster positions and counters: what an insertion or a removal is going to store there.
//!
//! Everything that can fail fails in `plan_*`. A plan names absolute values, so its stores may be
//! repeated. This file alone stores the redo record, the counters and the totals; in which order,
//! `put` and `split` decide. May call the mutator and everything below it.

use crate::format::index::Counters;
use crate::format::record::RecordHeader;
use crate::format::region::{DELETED, SlotCounts};
use crate::format::roster::Position;
use crate::format::slot::{Link, SlotIdentity};
use crate::hash::Hash;
use crate::index::header::Header;
use crate::index::redo::Redo;
use crate::index::region::Region;
use crate::index::roster::Roster;
use crate::index::table::Table;

use crate::engine::generation::Generation;
use crate::engine::write::cache_words;
use crate::engine::write::mutator::{Abort, Target, WriteResult};

/// Positions by which the roster grows at once, at most: 256 KiB.
const POSITIONS_AHEAD: u64 = 1 << 16;
/// The position of an entry that has none in the roster.
pub(crate) const NO_POSITION: u32 = u32::MAX;

/// What an insertion is going to store, apart from the entry itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Insertion {
    pub slot: u32,
    pub position: u32,
    pub counts: SlotCounts,
    pub after: Counters,
}

impl Insertion {
    #[inline]
    pub(crate) fn redo(&self, link: Link) -> Redo {
        Redo::Insert {
            slot: self.slot,
            position: self.position,
            link,
            after: self.after,
        }
    }
}

/// What a removal is going to store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Removal {
    pub slot: u32,
    pub position: u32,
    /// What replaces the link.
    pub vacant: Link,
    /// The free-list entry that follows this one, plus one; 0 if it is the last.
    pub next_free: u32,
    pub after: Counters,
}

impl Removal {
    pub(crate) fn redo(&self) -> Redo {
        Redo::Delete {
            slot: self.slot,
            position: self.position,
            vacant: self.vacant,
            next_free: self.next_free,
            after: self.after,
        }
    }
}

/// Chooses the slot of a new entry; `position` chooses its roster position. Everything that can
/// fail fails here.
#[inline(always)]
pub(crate) fn plan_insert(
    table: &Table,
    region: Region<'_>,
    hash: Hash,
    bytes: u64,
    position: impl FnOnce(&mut Counters) -> WriteResult<u32>,
) -> WriteResult<Insertion> {
    let vacancy = match table.geometry().is_cache() {
        true => region.any_vacancy(hash),
        false => region.vacancy(hash),
    };
    let (index, control) = vacancy.ok_or(Abort::Enlarge)?;
    // The slot comes while the record is being written: a put of a new key among a million cost
    // 577 ns without.
    region.slot(index).prefetch();
    let mut after = table.header().counters();
    let position = position(&mut after)?;
    let slot = table.slot_number(region.number(), index);
    after.occupied = after.occupied.saturating_add(1);
    after.deleted = after.deleted.saturating_sub(u64::from(control == DELETED));
    after.high_water = after.high_water.max(u64::from(slot) + 1);
    after.live = after.live.saturating_add(bytes);
    let mut counts = region.counts();
    counts.occupied = counts.occupied.saturating_add(1);
    counts.deleted = counts.deleted.saturating_sub(u32::from(control == DELETED));
    debug_assert!(
        u64::from(position) < after.roster_len,
        "R2: the roster's length covers position {position}"
    );
    debug_assert_eq!(table.slot_home(slot), (region.number(), index));
    Ok(Insertion {
        slot,
        position,
        counts,
        after,
    })
}

/// Takes a roster position for a new entry: the first of the free list, if it really is free, or
/// the next at the end.
pub(crate) fn take_position(generation: &Generation, after: &mut Counters) -> WriteResult<u32> {
    let roster = &generation.roster;
    if let Some(position) = after.hole_head.checked_sub(1) {
        // R1: only a position that no entry has.
        if position < after.roster_len
            && let Position::Free(next) = roster.get(position as u32)?
            && u64::from(next) <= after.roster_len
        {
            after.hole_head = u64::from(next);
            return Ok(position as u32);
        }
        // The free list is corrupt: its positions stay unused until the roster is rebuilt.
        after.hole_head = 0;
    }
    let position = after.roster_len;
    if position >= 1 << 31 {
        return Err(Abort::Enlarge);
    }
    ensure_position(roster, position)?;
    after.roster_len += 1;
    Ok(position as u32)
}

/// Allocates and maps a roster position. That may fail here, and not after a redo record is
/// committed.
pub(crate) fn ensure_position(roster: &Roster, position: u64) -> WriteResult<()> {
    if position >= roster.capacity() {
        // H2: a sixteenth more, so that a large roster does not grow page by page, and not so much
        // that it takes long.
        let ahead = (roster.capacity() / 16).min(POSITIONS_AHEAD) + 1024;
        let more = (roster.capacity().max(position) + ahead).next_multiple_of(1024);
        if roster.allocate(more).is_err() {
            roster.allocate(position + 1)?;
        }
    }
    roster.get(position as u32)?;
    Ok(())
}

/// Plans the removal of an entry whose live records have `bytes` bytes.
pub(crate) fn plan_removal(
    generation: &Generation,
    table: &Table,
    target: &Target<'_>,
    bytes: u64,
) -> WriteResult<Removal> {
    let region = table.region(target.region)?;
    let mut after = table.header().counters();
    // S2: a probe passes over a group without an empty byte, so its slots become tombstones.
    let vacant = if region.group_has_empty(target.index) {
        Link::NEVER
    } else {
        Link::DELETED
    };
    let slot = table.slot_number(target.region, target.index);
    let mut position = target.slot.identity().position;
    debug_assert!(after.hole_head <= 1 << 31, "the header was checked");
    let next_free = after.hole_head as u32;
    // R2: a position that does not name this slot may be another entry's.
    let in_roster = u64::from(position) < after.roster_len
        && generation.roster.get(position)? == Position::Slot(slot);
    if in_roster {
        after.hole_head = u64::from(position) + 1;
    } else {
        position = NO_POSITION;
    }
    after.occupied = after.occupied.saturating_sub(1);
    after.deleted = after
        .deleted
        .saturating_add(u64::from(vacant == Link::DELETED));
    after.live = after.live.saturating_sub(bytes);
    debug_assert!(!vacant.is_entry(), "a removal leaves no link to a record");
    Ok(Removal {
        slot,
        position,
        vacant,
        next_free,
        after,
    })
}

/// Commits a redo record.
#[inline]
pub(crate) fn commit_redo(header: Header<'_>, redo: Redo) {
    debug_assert!(!header.has_redo(), "one change at a time");
    header.entry_words().commit_redo(redo);
}

/// Clears the redo record: all that it stands for is stored.
#[inline]
pub(crate) fn clear_redo(header: Header<'_>) {
    debug_assert!(
        cfg!(loom) || header.tail() == header.reserved(),
        "H1: its record is committed"
    );
    header.entry_words().clear_redo();
}

/// Fills the body of a slot: what readers must find when they see its link.
#[inline]
pub(crate) fn fill_slot(
    region: Region<'_>,
    index: u32,
    position: u32,
    hash: Hash,
    record: &RecordHeader,
) {
    debug_assert_ne!(position, NO_POSITION, "R2: a new entry has a position");
    let slot = region.slot(index);
    slot.set_identity(SlotIdentity {
        position,
        units: record.slot_units(),
        hash: hash.stored(),
    });
    slot.set_deadline(record.deadline());
}

/// Stores the counters of the index.
#[inline]
pub(crate) fn set_counters(header: Header<'_>, after: &Counters) {
    debug_assert!(
        after.hole_head <= after.roster_len,
        "the free list is in the roster: {after:?}"
    );
    debug_assert!(after.regions > 0, "S2: a hash has a region");
    header.entry_words().set_counters(after);
}

/// Stores the live bytes alone: an overwrite changes no other counter.
#[inline]
pub(crate) fn set_live(header: Header<'_>, live: u64) {
    header.entry_words().set_live(live);
}

/// Counts a change, after its other stores: a reader that sees it counted sees all of it.
#[inline]
pub(crate) fn count_change(header: Header<'_>) {
    header.entry_words().count_change();
}

/// Counts a put of a new key.
#[inline]
pub(crate) fn count_put(header: Header<'_>) {
    header.entry_words().count_put();
}

/// Counts a put that replaced a value.
#[inline]
pub(crate) fn count_overwrite(header: Header<'_>) {
    let words = header.entry_words();
    words.count_put();
    words.count_overwrite();
}

/// Counts a delete that removed an entry.
#[inline]
pub(crate) fn count_delete(header: Header<'_>) {
    header.entry_words().count_delete();
}

/// Counts entries that were given up because their records were damaged or gone.
pub(crate) fn count_dropped(header: Header<'_>, entries: u64) {
    if entries > 0 {
        cache_words::distrust_all(header);
    }
    header.entry_words().count_dropped(entries);
}

/// Counts a rebuild of index and roster from the heap.
pub(crate) fn count_recovery(header: Header<'_>) {
    header.entry_words().count_recovery();
}
