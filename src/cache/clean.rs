//! Reclaiming the heap, a few records at a time.
//!
//! The oldest segment's live records are appended again; then it is spent. Knows when that is worth
//! while, not how spent segments are removed.

use std::sync::Arc;

use crate::format::index::word;
use crate::format::record::{self, Kind};
use crate::format::roster::Position;
use crate::format::segment::first_place;
use crate::format::slot::{Cursor, Meta, Place};
use crate::hash::Hash;
use crate::heap::{Found, Segment, Walker};

use super::edit::{Editor, Need, Outcomes, Stop, Target, old_bytes};
use super::view::View;

/// When cleaning is worth while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Threshold {
    /// Dead bytes in percent of the live ones.
    pub percent: u32,
    /// Dead bytes on top of that.
    pub floor: u64,
}

/// A record of the oldest segment on its way to the newest, if an entry links to it.
#[derive(Clone, Copy, Debug)]
struct Moving {
    place: Place,
    header: record::Header,
    hash: Hash,
}

/// Records that are looked for in the index together: their cache lines come at the same time.
#[derive(Debug, Default)]
struct Batch {
    records: Vec<Moving>,
    /// Whether the walk met damage.
    damage: bool,
    /// Whether it came to its end.
    over: bool,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Batch {
    const SIZE: usize = 16;

    /// Walks on until the batch is full, or has come beyond a place, or the segment ends.
    fn fill(
        &mut self,
        view: &View,
        segment: &Segment,
        walker: &mut Walker<'_>,
        until: u64,
    ) -> Outcomes<()> {
        while self.records.len() < Self::SIZE && u64::from(walker.unit()) <= until {
            match walker.step()? {
                None => {
                    self.over = true;
                    return Ok(());
                }
                Some(Found::Damage { .. }) => self.damage = true,
                Some(Found::Record(place, header)) if header.kind == Kind::Entry => {
                    self.take(view, segment, place, header)?;
                }
                Some(Found::Record(..)) => {}
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        view: &View,
        segment: &Segment,
        place: Place,
        header: record::Header,
    ) -> Outcomes<()> {
        if segment.key_of_verified(place.unit, &mut self.key)? {
            let hash = view.hasher.hash(&self.key);
            view.table.prefetch_search(hash);
            self.records.push(Moving {
                place,
                header,
                hash,
            });
        }
        Ok(())
    }
}

impl Editor {
    fn is_worth_while(&self, threshold: Threshold) -> bool {
        let live = self.view.header().counters().live;
        let dead = self.heap_bytes().saturating_sub(live);
        let most = threshold
            .floor
            .saturating_add(live / 100 * u64::from(threshold.percent));
        dead > most && dead.saturating_sub(self.spent_bytes()) > most
    }

    /// Cleans for about `budget` bytes' worth of walking, if that is worth while.
    pub(crate) fn clean_some(&mut self, threshold: Threshold, budget: u64) -> Outcomes<()> {
        // What takes room in a heap of numbered keys reserves numbers, or is damage.
        if self.view.is_numbered() || !self.is_worth_while(threshold) {
            return Ok(());
        }
        if self.cleaning().place.segment == self.view.header().tail().segment {
            // All that is dead lies in the last segment: go on in a new one.
            return self.roll(0);
        }
        self.clean_step(budget)
    }

    /// Cleans every segment that there is now.
    pub(crate) fn clean_all(&mut self) -> Outcomes<()> {
        let live = self.view.header().counters().live;
        if self.view.is_numbered() {
            return Ok(());
        }
        if self.heap_bytes() <= live.saturating_add(crate::format::segment::HEADER_BYTES) {
            return Ok(());
        }
        if let Err(stop) = self.roll(0) {
            if !stop.is_want_of_room() {
                return Err(stop);
            }
            // On a full disk the segments that are dead altogether make room for the rest.
            self.clean_before_last()?;
            self.roll(0)?;
        }
        self.clean_before_last()?;
        self.view
            .header()
            .set(word::COMPACTED, super::version::now());
        Ok(())
    }

    fn clean_before_last(&mut self) -> Outcomes<()> {
        let last = self.view.header().tail().segment;
        while self.view.header().oldest() < last {
            self.retire_all()?;
            if self.view.header().oldest() < last {
                self.clean_step(1 << 20)?;
            }
        }
        Ok(())
    }

    /// Walks on through the oldest segment that is not spent; at its end it is.
    fn clean_step(&mut self, budget: u64) -> Outcomes<()> {
        let cursor = self.cleaning();
        let number = cursor.place.segment;
        if self.segment(number)?.is_none() {
            if View::has_segment_file(&self.names, number) {
                return Err(Stop::Recover("the oldest segment cannot be opened"));
            }
            // Nothing of it is left to be carried over.
            self.spend(number);
            return Ok(());
        }
        // The segment stays mapped by this view, whatever appending does to the editor's.
        let view = Arc::clone(&self.view);
        let Some(segment) = view.segment(number) else {
            return Err(Stop::Recover("the oldest segment is gone"));
        };
        let mut walker = segment.walk(cursor.place.unit, segment.capacity_units());
        let from = walker.unit();
        let mut batch = Batch {
            damage: cursor.damage,
            ..Batch::default()
        };
        let until = u64::from(from).saturating_add(budget / 8);
        while !batch.over && u64::from(walker.unit()) <= until {
            batch.fill(&view, segment, &mut walker, until)?;
            for moving in std::mem::take(&mut batch.records) {
                self.carry_over(&view, segment, moving, &mut batch)?;
            }
        }
        if !batch.over {
            let place = Place {
                segment: number,
                unit: walker.unit(),
            };
            let cursor = Cursor {
                place,
                damage: batch.damage,
            };
            self.view.header().set(word::CURSOR, cursor.to_word());
            return Ok(());
        }
        if batch.damage {
            self.sweep(number)?;
        }
        self.spend(number);
        Ok(())
    }

    /// A segment holds nothing live any more. A cursor behind it says so.
    fn spend(&self, number: u16) {
        let next = Cursor::at(first_place(number.saturating_add(1)));
        self.view.header().set(word::CURSOR, next.to_word());
    }

    /// Appends a record again if an entry links to it. Deletion records end here: this is the
    /// oldest segment, so nothing older is left that they could keep from coming back.
    fn carry_over(
        &mut self,
        view: &View,
        segment: &Segment,
        moving: Moving,
        batch: &mut Batch,
    ) -> Outcomes<()> {
        let Moving {
            place,
            header,
            hash,
        } = moving;
        let Some(target) = self.find_place(&view.table, hash, place)? else {
            return Ok(());
        };
        batch.key.clear();
        batch.value.clear();
        if segment
            .read_any(place.unit, &mut batch.key, Some(&mut batch.value))?
            .is_none()
        {
            return Ok(());
        }
        let live = view.header().counters().live;
        // Like an overwrite, but with the old version: one link store, and nobody sees a change.
        let copy = self.append(header, &batch.key, &batch.value, live, Need::Ordinary)?;
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
    fn sweep(&mut self, number: u16) -> Outcomes<()> {
        let view = Arc::clone(&self.view);
        let Some(segment) = view.segment(number) else {
            return Err(Stop::Recover("the oldest segment is gone"));
        };
        let mut batch = Batch::default();
        for position in 0..view.roster_len() {
            let Position::Slot(slot_number) = view.roster.get(position)? else {
                continue;
            };
            let (region, index) = view.table.slot_home(slot_number);
            let slot = view.table.region(region)?.slot(index);
            let link = slot.link();
            if !link.is_entry() || link.place().segment != number {
                continue;
            }
            match segment.verify(link.place().unit)? {
                Some(header) if header.kind == Kind::Entry => {
                    batch.take(&view, segment, link.place(), header)?;
                    for moving in std::mem::take(&mut batch.records) {
                        self.carry_over(&view, segment, moving, &mut batch)?;
                    }
                }
                _ => {
                    let target = Target {
                        region,
                        index,
                        slot,
                        link,
                        record: None,
                    };
                    self.drop_entry(&target, old_bytes(&target))?;
                    view.header().add(word::DROPPED, 1);
                }
            }
        }
        Ok(())
    }
}
