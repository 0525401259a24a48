//! Numbers of keys, in a cache that only grows: how the next one is come by, and kept from being
//! given twice.
//!
//! A number is a roster position, plus one. Numbers are given from blocks: before the first of a
//! block is used, a record that reserves it is on the disk. So whoever rebuilds the index from a
//! heap of which the last records are lost knows which numbers may have been given. Knows nothing
//! of what keys are.

use crate::error::{Error, Result};
use crate::format::index::{Counters, word};
use crate::format::record::{self, Kind, Variant};
use crate::format::roster::Position;

use crate::engine::generation::Generation;
use crate::engine::handle::Handle;
use crate::engine::read::expected_count::ExpectedCount;
use crate::engine::read::lookup::Answer;
use crate::engine::write::heap_end::Need;
use crate::engine::write::mutator::{Abort, At, Mutator, WriteResult, old_bytes};

/// Numbers that are reserved at once: for each so many the heap is synced.
#[cfg(not(test))]
pub(crate) const RESERVED_AHEAD: u64 = 1 << 14;
#[cfg(test)]
pub(crate) const RESERVED_AHEAD: u64 = 8;
/// The highest number: its position is the last that a roster can have.
pub(crate) const HIGHEST: u64 = 1 << 31;
/// Numbers that may be unused in a row. Each power loss costs at most as many as are reserved: where
/// more are missing, a forged record would have the roster grow.
const UNUSED_AT_MOST: u64 = 1 << 24;

impl Generation {
    /// Whether its entries are numbered, and never change.
    pub(crate) fn is_numbered(&self) -> bool {
        self.variant() == Variant::Numbered
    }

    /// How its records are laid out.
    pub(crate) fn variant(&self) -> Variant {
        self.table.geometry().variant
    }

    /// Refuses what is not numbered: another cache may have taken the place of these files.
    pub(crate) fn check_numbered(&self) -> Result<()> {
        if self.is_numbered() {
            return Ok(());
        }
        Err(Error::Mismatch {
            path: self.table.file().path().to_owned(),
            option: "record variant",
            asked: Variant::Numbered.to_disk().into(),
            found: Variant::Versioned.to_disk().into(),
        })
    }

    /// Whether the numbers that are reserved are not those that come next.
    pub(crate) fn has_numbers_at_fault(&self, given: u64) -> bool {
        let reserved = self.header().get(word::LAST_MTIME);
        self.is_numbered() && !(given..=given + RESERVED_AHEAD).contains(&reserved)
    }
}

impl Mutator {
    /// Refuses a new key where all numbers were given, or may have been.
    pub(crate) fn check_numbers(&self) -> WriteResult<()> {
        let limit = match self.generation.table.geometry().max_entries {
            0 => HIGHEST,
            limit => limit.min(HIGHEST),
        };
        if self.generation.header().counters().roster_len < limit {
            return Ok(());
        }
        let path = self.names.cache().to_owned();
        Err(Error::IdsExhausted { path, limit }.into())
    }

    /// Sees to it that a number may be given: that no power loss can have it given again.
    pub(crate) fn reserve_number(&mut self, number: u64) -> WriteResult<()> {
        if number <= self.generation.header().get(word::LAST_MTIME) {
            return Ok(());
        }
        let end = (number - 1 + RESERVED_AHEAD).min(HIGHEST);
        self.append_reservation(end)?;
        self.sync_heap()?;
        self.generation.header().set(word::LAST_MTIME, end);
        Ok(())
    }

    /// Appends the record that reserves all numbers up to `end`.
    pub(crate) fn append_reservation(&mut self, end: u64) -> WriteResult<()> {
        let header = record::Header {
            variant: Variant::Numbered,
            value_len: 0,
            mtime: end,
            key_len: 1,
            kind: Kind::Reservation,
        };
        let live = self.generation.header().counters().live;
        self.append(header, &[0], &[], live, Need::Ordinary)?;
        self.close_record();
        Ok(())
    }

    /// The roster position of a number, which nobody has. Positions that it leaves out become holes
    /// for ever.
    pub(crate) fn position_of(&self, number: u64, after: &mut Counters) -> WriteResult<u32> {
        let fresh = after.roster_len.saturating_add(UNUSED_AT_MOST);
        if number == 0 || number > fresh.min(HIGHEST) {
            return Err(Abort::Recover(
                "a number that was never reserved",
                At::Word(word::LAST_MTIME),
            ));
        }
        let position = number - 1;
        self.room_in_roster(position)?;
        if self.is_given(position as u32)? {
            return Err(Abort::Recover(
                "a number that somebody has",
                At::Roster(position as u32),
            ));
        }
        if position >= after.roster_len {
            self.leave_out(after.roster_len, position)?;
            after.roster_len = number;
        }
        Ok(position as u32)
    }

    /// Gives up all numbers that are reserved and that nobody is known to have.
    pub(crate) fn give_up_reserved(&self) -> WriteResult<()> {
        self.go_on_behind(self.generation.header().get(word::LAST_MTIME))
    }

    /// Leaves out what an older generation had given, or given up.
    pub(crate) fn go_on_behind(&self, roster_len: u64) -> WriteResult<()> {
        let header = self.generation.header();
        let mut counters = header.counters();
        if self.generation.is_numbered() && roster_len > counters.roster_len {
            self.room_in_roster(roster_len - 1)?;
            self.leave_out(counters.roster_len, roster_len)?;
            counters.roster_len = roster_len;
            header.set_counters(&counters);
        }
        Ok(())
    }

    /// Makes holes of positions behind the roster's end. Nobody looks at them before the length
    /// says so.
    fn leave_out(&self, from: u64, to: u64) -> Result<()> {
        for position in from..to {
            self.generation
                .roster
                .set(position as u32, Position::Hole(0))?;
        }
        Ok(())
    }

    /// Whether a position is that of an entry. What was never stored there reads as the first slot,
    /// which knows its own position.
    pub(crate) fn is_given(&self, position: u32) -> WriteResult<bool> {
        let Position::Slot(number) = self.generation.roster.get(position)? else {
            return Ok(false);
        };
        let table = &self.generation.table;
        let (region, index) = table.slot_home(number);
        let slot = table.region(region)?.slot(index);
        Ok(slot.link().is_entry() && slot.identity().position == position)
    }

    /// Whether a record's number cannot be its key's: somebody has it, or nobody could have got it.
    pub(crate) fn has_number(&self, number: u64) -> WriteResult<bool> {
        let counters = self.generation.header().counters();
        let highest = counters
            .roster_len
            .saturating_add(UNUSED_AT_MOST)
            .min(HIGHEST);
        if !(1..=highest).contains(&number) {
            return Ok(true);
        }
        Ok(number <= counters.roster_len && self.is_given(number as u32 - 1)?)
    }
}

/// The highest number that may have been given, of which a heap and the header of an old index
/// tell. No header says more than a block beyond the heap, unless it is damaged.
pub(crate) fn highest_reserved(heap: u64, carried: u64) -> u64 {
    if carried <= heap.saturating_add(UNUSED_AT_MOST) {
        heap.max(carried)
    } else {
        heap
    }
}

/// Looks at one position after which a lookup gives up.
const ATTEMPTS: u32 = 10_000;

/// What looking once for the key of a number came to.
enum Look {
    Found,
    Nothing,
    /// Something changed while it was read, or it is damaged.
    Again,
    /// The segment is not mapped.
    Unmapped(u16),
}

impl Handle {
    /// The number of a key, without a lock.
    pub(crate) fn number_of(&self, key: &[u8]) -> Result<Option<u64>> {
        let mut nothing = Vec::new();
        match self.read_and(key, &mut nothing, |header| header)? {
            Answer::Found(header) if header.variant == Variant::Numbered => Ok(Some(header.mtime)),
            Answer::Found(_) => self.current()?.0.check_numbered().map(|()| None),
            // To whoever asks, a damaged key has no number; the damage was counted.
            Answer::Absent | Answer::Damaged(_) => Ok(None),
        }
    }

    /// Numbers that were given, or may have been.
    pub(crate) fn numbers_given(&self) -> Result<u64> {
        let (generation, _) = self.current()?;
        generation.check_numbered()?;
        Ok(generation.roster_len().into())
    }

    /// Appends the key of a number, without a lock. False where nobody has the number, or what is
    /// there is damaged; [`Error::Contended`] where others changed it at each look.
    ///
    /// A record says its own number and is never changed or moved within its generation: one that
    /// verifies and says it is the right one, however it was found.
    pub(crate) fn key_of(&self, number: u64, out: &mut Vec<u8>) -> Result<bool> {
        let mut doubted = None;
        let mut is_fresh = false;
        for _ in 0..ATTEMPTS {
            let (generation, _) = self.current()?;
            let changes = generation.header().changes();
            match look(&generation, number, out)? {
                Look::Found => return Ok(true),
                Look::Nothing => {
                    generation.check_numbered()?;
                    return Ok(false);
                }
                Look::Unmapped(segment) if self.map_segment(&generation, segment)? => continue,
                Look::Unmapped(_) | Look::Again => {}
            }
            // Damage, if nothing was changed during a whole look.
            if doubted.replace(changes) == Some(changes) {
                if is_fresh || !self.reopen_on_overlay()? {
                    self.saw_damage();
                    return Ok(false);
                }
                is_fresh = true;
            }
        }
        Err(Error::Contended {
            path: self.path.to_path_buf(),
            what: "the key of a number",
            looks: ATTEMPTS,
        })
    }
}

/// How many labels a listing of them has to find: what a [`ExpectedCount`] says, which counts for the
/// generation in which it was taken.
#[derive(Debug)]
pub(crate) struct NumberTally {
    tally: ExpectedCount,
    generation: u64,
}

impl NumberTally {
    /// Taken before the last number is asked for.
    pub(crate) fn of(handle: &Handle) -> Result<Self> {
        let (generation, _) = handle.current()?;
        Ok(Self {
            tally: ExpectedCount::of(&generation),
            generation: generation.ids.roster,
        })
    }

    /// An error if a listing that found `found` labels and came to its end lacks some.
    pub(crate) fn check(&self, handle: &Handle, found: u64) -> Result<()> {
        let (generation, _) = handle.current()?;
        let checked = if generation.ids.roster == self.generation {
            self.tally.check(&generation, found)
        } else if found < self.tally.counted() {
            // Another generation took its place meanwhile, which may lack what was damaged.
            Err(Error::Superseded {
                path: handle.path.to_path_buf(),
            })
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

/// Looks once for the key of a number.
fn look(generation: &Generation, number: u64, out: &mut Vec<u8>) -> Result<Look> {
    let position = match number.checked_sub(1) {
        Some(position) if position < u64::from(generation.roster_len()) => position as u32,
        _ => return Ok(Look::Nothing),
    };
    if !generation.is_numbered() {
        return Ok(Look::Nothing);
    }
    let Position::Slot(slot) = generation.roster.get(position)? else {
        return Ok(Look::Nothing);
    };
    let (region, index) = generation.table.slot_home(slot);
    let Ok(region) = generation.table.region(region) else {
        return Ok(Look::Again);
    };
    let link = region.slot(index).link();
    if !link.is_entry() {
        return Ok(Look::Again);
    }
    let place = link.place();
    let Some(segment) = generation.segment(place.segment) else {
        return Ok(Look::Unmapped(place.segment));
    };
    let start = out.len();
    match segment.read_any(place.unit, out, None)? {
        Some(header) if header.mtime == number && header.kind == Kind::Entry => Ok(Look::Found),
        _ => {
            out.truncate(start);
            Ok(Look::Again)
        }
    }
}

impl Mutator {
    /// The version of a key's record. An entry whose record does not verify is dropped.
    fn version_or_drop(&mut self, key: &[u8]) -> WriteResult<Option<u64>> {
        self.with_table(|mutator, table| {
            let hash = mutator.generation.hasher.hash(key);
            let Some(target) = mutator.find(table, hash, key)? else {
                return Ok(None);
            };
            let place = target.link.place();
            let verified = match mutator.generation.segment(place.segment) {
                Some(segment) => segment.verify(place.unit)?,
                None => None,
            };
            if verified.is_none() {
                mutator.drop_entry(&target, old_bytes(&target))?;
                mutator.generation.header().add(word::DROPPED, 1);
            }
            Ok(verified.map(|header| header.mtime))
        })
    }

    /// The number of a key, given to it now if it has none.
    pub(crate) fn number(&mut self, key: &[u8]) -> WriteResult<u64> {
        self.generation.check_numbered()?;
        match self.version_or_drop(key)? {
            Some(number) => Ok(number),
            None => self.put(key, &[], None),
        }
    }
}
