//! Plans: what inserting or removing an entry is going to store in index and roster, and the
//! storing of it.
//!
//! Whatever can fail fails while a plan is made. Then an intent with all of it is armed, and from
//! there on whoever takes the lock next can only finish: the stores may be repeated, for they are
//! of values that the plan names. Knows nothing of the heap, nor when an intent may be cleared.

use crate::format::index::{Counters, word};
use crate::format::record::Variant;
use crate::format::region::{Counts, DELETED, EMPTY};
use crate::format::roster::Position;
use crate::format::slot::{Identity, Link, Meta};
use crate::hash::Hash;
use crate::index::header::Intent;
use crate::index::region::Region;
use crate::index::table::Table;

use crate::engine::write::mutator::{Abort, At, Mutator, Target, WriteResult};

/// Positions by which the roster grows at once, at most: 256 KiB.
const POSITIONS_AHEAD: u64 = 1 << 16;
/// The position of an entry that the roster does not know.
pub(crate) const NO_POSITION: u32 = u32::MAX;

/// What an insertion is going to store, apart from the entry itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Insertion {
    pub slot: u32,
    pub position: u32,
    pub counts: Counts,
    pub after: Counters,
}

impl Mutator {
    /// Chooses slot and roster position of a new entry. Whatever can fail, fails here.
    #[inline(always)]
    pub(crate) fn plan_insert(
        &mut self,
        table: &Table,
        region: Region<'_>,
        hash: Hash,
        bytes: u64,
        version: u64,
    ) -> WriteResult<Insertion> {
        let (index, control) = region.vacancy(hash).ok_or(Abort::Enlarge)?;
        // The slot comes while the record is being written: a put of a new key among a million cost
        // 577 ns without.
        region.slot(index).prefetch();
        let mut after = table.header().counters();
        let position = match table.geometry().variant {
            Variant::Versioned => self.take_position(&mut after)?,
            Variant::Numbered => self.position_of(version, &mut after)?,
        };
        let slot = table.slot_number(region.number(), index);
        after.occupied = after.occupied.saturating_add(1);
        after.deleted = after.deleted.saturating_sub(u64::from(control == DELETED));
        after.high_water = after.high_water.max(u64::from(slot) + 1);
        after.live = after.live.saturating_add(bytes);
        let mut counts = region.counts();
        counts.occupied = counts.occupied.saturating_add(1);
        counts.deleted = counts.deleted.saturating_sub(u32::from(control == DELETED));
        Ok(Insertion {
            slot,
            position,
            counts,
            after,
        })
    }

    /// A roster position for a new entry: the first hole, if it really is one, or the next at the
    /// end.
    fn take_position(&mut self, after: &mut Counters) -> WriteResult<u32> {
        let roster = &self.generation.roster;
        if let Some(position) = after.hole_head.checked_sub(1) {
            if position < after.roster_len
                && let Position::Hole(next) = roster.get(position as u32)?
                && u64::from(next) <= after.roster_len
            {
                after.hole_head = u64::from(next);
                return Ok(position as u32);
            }
            // The list cannot be believed: what it holds stays unused until the roster is rebuilt.
            after.hole_head = 0;
        }
        let position = after.roster_len;
        if position >= 1 << 31 {
            return Err(Abort::Enlarge);
        }
        self.room_in_roster(position)?;
        after.roster_len += 1;
        Ok(position as u32)
    }

    /// Sees to it that a roster position is allocated and mapped: here, where that may fail, and
    /// not when the intent is armed.
    pub(crate) fn room_in_roster(&self, position: u64) -> WriteResult<()> {
        let roster = &self.generation.roster;
        if position >= roster.room() {
            // A sixteenth more, so that a large roster does not grow page by page, and not so much
            // that it takes long.
            let ahead = (roster.room() / 16).min(POSITIONS_AHEAD) + 1024;
            let more = (roster.room().max(position) + ahead).next_multiple_of(1024);
            if roster.allocate(more).is_err() {
                roster.allocate(position + 1)?;
            }
        }
        roster.get(position as u32)?;
        Ok(())
    }

    /// Publishes a new entry under an intent, which stays armed.
    ///
    /// The record is complete before the intent is armed, and the intent names all there is to
    /// know, so from here on whoever takes the lock next can only finish. The control byte precedes
    /// the link: one over an unpublished slot costs a reader a look, a missing one would hide the
    /// key.
    pub(crate) fn link_new(
        &self,
        table: &Table,
        plan: &Insertion,
        link: Link,
        hash: Hash,
        meta: Meta,
        key: &[u8],
    ) -> WriteResult<()> {
        let (slot, position, after) = (plan.slot, plan.position, plan.after);
        table.header().arm(Intent::Insert {
            slot,
            position,
            link,
            after,
        });
        self.apply_insert(table, plan, link, hash, meta, key)
    }

    /// The stores of an insertion behind its intent; storing them twice is the same as once.
    pub(crate) fn apply_insert(
        &self,
        table: &Table,
        plan: &Insertion,
        link: Link,
        hash: Hash,
        meta: Meta,
        key: &[u8],
    ) -> WriteResult<()> {
        let (region, index) = table.slot_home(plan.slot);
        let region = table.region(region)?;
        let slot = region.slot(index);
        slot.set_identity(Identity {
            position: plan.position,
            key_len: key.len() as u16,
            hash: hash.stored(),
        });
        slot.set_meta(link.which(), meta);
        slot.set_key(key);
        self.generation
            .roster
            .set(plan.position, Position::Slot(plan.slot))?;
        let shared = table.header();
        shared.set_counters(&plan.after);
        region.set_counts(plan.counts);
        region.set_control(index, hash.control());
        slot.set_link(link);
        shared.count_change();
        Ok(())
    }

    pub(crate) fn plan_removal(
        &self,
        table: &Table,
        target: &Target<'_>,
        bytes: u64,
    ) -> WriteResult<Intent> {
        let region = table.region(target.region)?;
        let mut after = table.header().counters();
        let vacant = if region.group_has_empty(target.index) {
            Link::NEVER
        } else {
            Link::DELETED
        };
        let slot = table.slot_number(target.region, target.index);
        let mut position = target.slot.identity().position;
        let next_hole = after.hole_head as u32;
        let in_roster = u64::from(position) < after.roster_len
            && self.generation.roster.get(position)? == Position::Slot(slot);
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
        Ok(Intent::Delete {
            slot,
            position,
            vacant,
            next_hole,
            after,
        })
    }

    /// Publishes a deletion under an intent, which stays armed. The link goes first: it is what
    /// readers believe.
    pub(crate) fn remove(&self, table: &Table, removal: &Intent) -> WriteResult<()> {
        table.header().arm(*removal);
        self.apply_delete(table, removal)
    }

    /// The stores of a deletion behind its intent; storing them twice is the same as once.
    pub(crate) fn apply_delete(&self, table: &Table, removal: &Intent) -> WriteResult<()> {
        let &Intent::Delete {
            slot,
            position,
            vacant,
            next_hole,
            after,
        } = removal
        else {
            return Err(Abort::Recover(
                "an intent of another kind",
                At::Word(word::INTENT),
            ));
        };
        let (region, index) = table.slot_home(slot);
        let region = table.region(region)?;
        region.slot(index).set_link(vacant);
        region.set_control(
            index,
            if vacant == Link::NEVER {
                EMPTY
            } else {
                DELETED
            },
        );
        if position != NO_POSITION {
            self.generation
                .roster
                .set(position, Position::Hole(next_hole))?;
        }
        table.header().set_counters(&after);
        let counts = region.counts();
        let deleted = counts
            .deleted
            .saturating_add(u32::from(vacant == Link::DELETED));
        region.set_counts(Counts {
            occupied: counts.occupied.saturating_sub(1),
            deleted,
        });
        table.header().count_change();
        Ok(())
    }
}
