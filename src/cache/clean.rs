//! Reclaiming the heap, a few records at a time.
//!
//! The oldest segment's live records are appended again, then its file is removed. Knows when that
//! is worth while and in which order it is safe; not who calls it.

use std::sync::Arc;

use crate::dir;
use crate::error::{Error, Result};
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

    /// Walks on until the batch is full or the segment ends.
    fn fill(&mut self, view: &View, segment: &Segment, walker: &mut Walker<'_>) -> Outcomes<()> {
        while self.records.len() < Self::SIZE {
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
        dead > threshold
            .floor
            .saturating_add(live / 100 * u64::from(threshold.percent))
    }

    /// Cleans for about `budget` bytes' worth of walking, if that is worth while.
    pub(crate) fn clean_some(&mut self, threshold: Threshold, budget: u64) -> Outcomes<()> {
        if !self.is_worth_while(threshold) {
            return Ok(());
        }
        let header = self.view.header();
        if header.oldest() == header.tail().segment {
            // All that is dead lies in the last segment: go on in a new one.
            return self.roll(0);
        }
        self.clean_step(budget)
    }

    /// Cleans every segment that there is now.
    pub(crate) fn clean_all(&mut self) -> Outcomes<()> {
        let live = self.view.header().counters().live;
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
            self.clean_step(1 << 20)?;
        }
        Ok(())
    }

    /// Walks on through the oldest segment; at its end, removes it.
    fn clean_step(&mut self, budget: u64) -> Outcomes<()> {
        let header = self.view.header();
        let number = header.oldest();
        let cursor = Cursor::from_word(header.get(word::CURSOR))
            .filter(|cursor| cursor.place.segment == number)
            .unwrap_or(Cursor::at(first_place(number)));
        if self.segment(number)?.is_none() {
            if View::has_segment_file(&self.names, number) {
                return Err(Stop::Recover("the oldest segment cannot be opened"));
            }
            // Removed by a cleaner that was killed before it could say so, or sync that.
            self.sync_removal()?;
            return self.advance(number);
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
        while !batch.over && u64::from(walker.unit().saturating_sub(from)) * 8 <= budget {
            batch.fill(&view, segment, &mut walker)?;
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
        self.retire(number)
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

    /// Removes a segment that holds nothing live any more.
    ///
    /// A cache that was ever flushed first syncs its whole heap: not only the copies, for a newer
    /// version that is not yet synced may be all that is left of a key whose flushed version stood
    /// here. A failing sync forbids the rest.
    fn retire(&mut self, number: u16) -> Outcomes<()> {
        if self.view.header().get(word::FLUSHED) != 0 {
            self.sync_heap()?;
        }
        dir::remove(&self.names.segment(number, self.stage))?;
        self.sync_removal()?;
        self.advance(number)
    }

    /// No later segment may go before this one is gone for good: it could have the deletions that
    /// keep the entries of this one away.
    fn sync_removal(&self) -> Result<()> {
        if self.view.header().get(word::FLUSHED) != 0 {
            self.view.header().note_sync(self.names.sync_heap_dir())?;
        }
        Ok(())
    }

    /// The heap begins behind a segment whose file is gone. "The oldest is missing" is a normal
    /// state, so a kill between the removal and these stores costs nothing.
    fn advance(&mut self, number: u16) -> Outcomes<()> {
        let tail = self.view.header().tail();
        let left = self.view.with_segments(
            self.view
                .segments()
                .filter(|segment| segment.number() != number)
                .cloned()
                .collect(),
        );
        let before = left.heap_bytes_before(&self.names, tail.segment)?;
        let header = self.view.header();
        header.set(word::HEAP_BASE, before);
        header.set(
            word::CURSOR,
            Cursor::at(first_place(number.saturating_add(1))).to_word(),
        );
        header.set_oldest(number.saturating_add(1));
        self.view = Arc::new(left);
        Ok(())
    }

    /// Writes all records that may not be on the disk yet to it. An error is remembered in the
    /// header: what it was about is lost to the system, and a later sync that succeeds proves
    /// nothing.
    pub(crate) fn sync_heap(&mut self) -> Result<()> {
        let header = self.view.header();
        if header.get(word::SYNC_ERROR) != 0 {
            return Err(Error::SyncFailed {
                path: self.names.cache().to_owned(),
            });
        }
        let synced = Place::from_word(header.get(word::SYNCED));
        let tail = header.tail();
        let oldest = header.oldest();
        let first_time = header.get(word::FLUSHED) == 0;
        let from = if first_time {
            oldest
        } else {
            synced.segment.max(oldest)
        };
        if !first_time && synced == tail {
            return Ok(());
        }
        for number in from..=tail.segment {
            if let Some(segment) = self.segment(number)? {
                let synced = segment.file().sync();
                self.view.header().note_sync(synced)?;
            }
        }
        if first_time {
            self.view.header().note_sync(self.names.sync_heap_dir())?;
        }
        let header = self.view.header();
        header.set(word::SYNCED, tail.to_word());
        header.set(word::FLUSHED, 1);
        Ok(())
    }
}
