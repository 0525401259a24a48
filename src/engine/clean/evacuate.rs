//! Reclaiming the heap, a few records at a time.
//!
//! The oldest segment's live records are appended again; then it is spent. Knows when that is worth
//! while, not how spent segments are removed.

use std::sync::Arc;

use crate::format::index::word;
use crate::format::record::Kind;
use crate::format::roster::Position;
use crate::format::segment::first_place;
use crate::format::slot::{Cursor, Meta, Place};
use crate::heap::Segment;

use crate::engine::clean::batch::{Batch, PendingMove};
use crate::engine::generation::Generation;
use crate::engine::write::heap_end::Need;
use crate::engine::write::mutator::{Abort, At, Mutator, Target, WriteResult, old_bytes};

/// Bytes that a write walks at least: rarely and much at a time, so that the records' cache misses
/// come together (deletes among a million entries 850 ns, with 2 KiB 890). Of a small segment it is
/// an eighth.
const CLEAN_LEAST: u64 = 16 * 1024;

/// When cleaning is worth while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CleanThreshold {
    /// Dead bytes in percent of the live ones.
    pub percent: u32,
    /// Dead bytes on top of that.
    pub floor: u64,
}

impl CleanThreshold {
    /// Bytes of the heap that a write walks for each byte that it appends, at least: enough for the
    /// default threshold with a margin of two.
    const LEAST_EFFORT: u64 = 4;
    /// And at most: what a threshold of 1 % takes.
    const MOST_EFFORT: u64 = 101;

    /// Dead bytes that are left alone.
    fn most(&self, live: u64) -> u64 {
        let share = u128::from(live) * u128::from(self.percent) / 100;
        let share = u64::try_from(share).unwrap_or(u64::MAX);
        self.floor.saturating_add(share)
    }

    /// Bytes of the heap to walk for each byte that is appended.
    ///
    /// A pass over all that was in the heap when the threshold was exceeded, the live bytes and the
    /// threshold's, reclaims all that was dead then. If the writes of one pass append no more than
    /// the threshold, the dead bytes stay below twice the threshold, wherever in the heap they are.
    fn effort(&self, live: u64) -> u64 {
        let most = self.most(live).max(1);
        let passed = live.saturating_add(most).div_ceil(most);
        passed.clamp(Self::LEAST_EFFORT, Self::MOST_EFFORT)
    }
}

impl Mutator {
    fn is_worth_while(&self, threshold: CleanThreshold) -> bool {
        let live = self.generation.header().counters().live;
        let dead = self.heap_bytes().saturating_sub(live);
        let most = threshold.most(live);
        dead > most && dead.saturating_sub(self.evacuated_bytes()) > most
    }

    /// Cleans as much as follows from a write of so many bytes, if that is worth while.
    pub(crate) fn clean_behind(
        &mut self,
        threshold: CleanThreshold,
        written: u64,
    ) -> WriteResult<()> {
        let live = self.generation.header().counters().live;
        let most = self.generation.table.geometry().max_segment_bytes;
        let budget = threshold.effort(live).saturating_mul(written) + CLEAN_LEAST.min(most / 8);
        self.clean_some(threshold, budget)
    }

    /// Cleans for about `budget` bytes' worth of walking, if that is worth while.
    pub(crate) fn clean_some(&mut self, threshold: CleanThreshold, budget: u64) -> WriteResult<()> {
        // What takes room in a heap of numbered keys reserves numbers, or is damage.
        if self.generation.is_numbered() || !self.is_worth_while(threshold) {
            return Ok(());
        }
        if self.cleaning().place.segment == self.generation.header().tail().segment {
            // All that is dead lies in the last segment: go on in a new one.
            return self.rotate_whole(0);
        }
        self.clean_step(budget)
    }

    /// Cleans every segment that there is now.
    pub(crate) fn clean_all(&mut self) -> WriteResult<()> {
        let live = self.generation.header().counters().live;
        if self.generation.is_numbered() {
            return Ok(());
        }
        if self.heap_bytes() <= live.saturating_add(crate::format::segment::HEADER_BYTES) {
            return Ok(());
        }
        if let Err(stop) = self.rotate_whole(0) {
            if !stop.is_want_of_room() {
                return Err(stop);
            }
            // On a full disk the segments that are dead altogether make room for the rest.
            self.clean_before_last()?;
            self.rotate_whole(0)?;
        }
        self.clean_before_last()?;
        self.generation
            .header()
            .set(word::COMPACTED, crate::engine::version::now());
        Ok(())
    }

    fn clean_before_last(&mut self) -> WriteResult<()> {
        let last = self.generation.header().tail().segment;
        while self.generation.header().oldest() < last {
            self.reclaim_all()?;
            if self.generation.header().oldest() < last {
                self.clean_step(1 << 20)?;
            }
        }
        Ok(())
    }

    /// Walks on through the oldest segment that is not spent; at its end it is.
    fn clean_step(&mut self, budget: u64) -> WriteResult<()> {
        let cursor = self.cleaning();
        let number = cursor.place.segment;
        self.generation.note_visit();
        if self.segment(number)?.is_none() {
            if Generation::has_segment_file(&self.names, number) {
                return Err(Abort::Recover(
                    "the oldest segment cannot be opened",
                    At::Heap(first_place(number)),
                ));
            }
            self.refuse_missing(number)?;
            // Nothing of it is left to be carried over.
            self.spend(number);
            return Ok(());
        }
        // The segment stays mapped by this generation, whatever appending does to the mutator's.
        let generation = Arc::clone(&self.generation);
        let Some(segment) = generation.segment(number) else {
            return Err(Abort::Recover(
                "the oldest segment is gone",
                At::Heap(first_place(number)),
            ));
        };
        self.dead().forget_before(number);
        let mut walker = segment.walk(cursor.place.unit, segment.capacity_units());
        let from = walker.unit();
        let mut batch = std::mem::take(&mut self.batch);
        batch.begin(cursor.damage);
        let until = u64::from(from).saturating_add(budget / 8);
        while !batch.over && u64::from(walker.unit()) <= until {
            batch.fill(&generation, &mut walker, self.dead().of(number), until)?;
            self.evacuate_batch(&generation, segment, &mut batch)?;
        }
        let (over, damage) = (batch.over, batch.damage);
        self.batch = batch;
        if !over {
            let place = Place {
                segment: number,
                unit: walker.unit(),
            };
            let cursor = Cursor { place, damage };
            self.generation.header().set(word::CURSOR, cursor.to_word());
            return Ok(());
        }
        if damage {
            self.sweep(number)?;
        }
        self.spend(number);
        Ok(())
    }

    /// A segment holds nothing live any more. A cursor behind it says so.
    fn spend(&self, number: u16) {
        let next = Cursor::at(first_place(number.saturating_add(1)));
        self.generation.header().set(word::CURSOR, next.to_word());
    }

    /// Appends the records of a batch again to which an entry links, and empties it. Deletion
    /// records end here: this is the oldest segment, so nothing older is left that they could keep
    /// from coming back.
    fn evacuate_batch(
        &mut self,
        generation: &Generation,
        segment: &Segment,
        batch: &mut Batch,
    ) -> WriteResult<()> {
        for moving in &mut batch.records {
            let found = self.find_place(&generation.table, moving.hash, moving.place)?;
            moving.slot = found.map(|target| {
                // It comes while those of the others are looked for.
                target.slot.prefetch();
                generation.table.slot_number(target.region, target.index)
            });
        }
        for at in 0..batch.records.len() {
            let moving = batch.records[at];
            if let Some(slot) = moving.slot
                && let Some((key, value)) = batch.content(segment, moving)?
            {
                self.move_record(generation, moving, slot, key, value)?;
            }
        }
        batch.clear();
        Ok(())
    }

    /// Like an overwrite, but with the old version: one link store, and nobody sees a change.
    fn move_record(
        &mut self,
        generation: &Generation,
        moving: PendingMove,
        slot_number: u32,
        key: &[u8],
        value: &[u8],
    ) -> WriteResult<()> {
        let header = moving.header;
        let live = generation.header().counters().live;
        let copy = self.append(header, key, value, live, Need::Ordinary)?;
        let (region, index) = generation.table.slot_home(slot_number);
        let slot = generation.table.region(region)?.slot(index);
        let target = Target {
            region,
            index,
            slot,
            link: slot.link(),
            record: None,
        };
        let meta = Meta {
            mtime: header.mtime,
            value_len: header.value_len,
        };
        self.relink(&target, copy, meta, live);
        self.close_record();
        Ok(())
    }

    /// Looks through all entries for links into a segment in which damage may have hidden their
    /// records from the walk.
    fn sweep(&mut self, number: u16) -> WriteResult<()> {
        let generation = Arc::clone(&self.generation);
        let Some(segment) = generation.segment(number) else {
            return Err(Abort::Recover(
                "the oldest segment is gone",
                At::Heap(first_place(number)),
            ));
        };
        let mut batch = Batch::default();
        for position in 0..generation.roster_len() {
            let Position::Slot(slot_number) = generation.roster.get(position)? else {
                continue;
            };
            let (region, index) = generation.table.slot_home(slot_number);
            let slot = generation.table.region(region)?.slot(index);
            let link = slot.link();
            if !link.is_entry() || link.place().segment != number {
                continue;
            }
            match batch.take(&generation, segment, link.place())? {
                Some(Kind::Entry) => self.evacuate_batch(&generation, segment, &mut batch)?,
                _ => {
                    let target = Target {
                        region,
                        index,
                        slot,
                        link,
                        record: None,
                    };
                    self.drop_entry(&target, old_bytes(&target))?;
                    generation.header().add(word::DROPPED, 1);
                }
            }
        }
        Ok(())
    }
}
