//! Syncing the heap, and removing the segments that cleaning has come through.
//!
//! Knows in which order a segment goes so that no power loss brings back what it must not; not when
//! cleaning is worth while.

use std::sync::Arc;

use crate::dir;
use crate::error::{Error, Result};
use crate::format::index::word;
use crate::format::segment::first_place;
use crate::format::slot::{Cursor, Place};
use crate::map::MappedFile;

use super::editor::{At, Editor, Outcomes, Stop};
use super::errand::{Awaited, Era, Errand, Errands, Purpose};
use super::view::View;

/// Bytes, above half of the live ones, by which the heap may grow before a write waits for an
/// errand.
const AHEAD: u64 = 64 << 20;

impl Editor {
    /// How far cleaning has come. The segments before this place's, from the oldest on, are spent:
    /// they hold nothing live, and wait for their removal.
    pub(crate) fn cleaning(&self) -> Cursor {
        let header = self.view.header();
        let (oldest, last) = (header.oldest(), header.tail().segment);
        Cursor::from_word(header.get(word::CURSOR))
            .filter(|cursor| (oldest..=last).contains(&cursor.place.segment))
            .unwrap_or(Cursor::at(first_place(oldest)))
    }

    pub(crate) fn has_spent(&self) -> bool {
        let header = self.view.header();
        let oldest = header.oldest();
        // Every write asks this, and mostly the two are the same.
        Cursor::from_word(header.get(word::CURSOR))
            .is_some_and(|cursor| cursor.place.segment != oldest)
            && self.cleaning().place.segment != oldest
    }

    /// Bytes of the spent segments, as far as they are mapped.
    pub(crate) fn spent_bytes(&self) -> u64 {
        (self.view.header().oldest()..self.cleaning().place.segment)
            .filter_map(|number| self.view.segment(number))
            .map(|segment| segment.allocated())
            .sum()
    }

    /// Removes the spent segments, and waits for the disk where it must.
    pub(crate) fn retire_all(&mut self) -> Outcomes<()> {
        while self.has_spent() {
            let number = self.view.header().oldest();
            if self.is_there(number)? {
                if self.view.header().get(word::FLUSHED) != 0 {
                    self.sync_heap()?;
                }
                dir::remove(&self.names.segment(number, self.stage))?;
            }
            self.sync_removal()?;
            self.advance(number)?;
        }
        Ok(())
    }

    /// Goes on with the removal of the spent segments as far as it needs not wait for the disk, and
    /// sends an errand for the rest.
    ///
    /// A cache that was ever flushed first syncs its heap as far as it went when cleaning had come
    /// through: not only the copies, for a newer version that is not yet synced may be all that is
    /// left of a key whose flushed version stood here. A failing sync forbids the rest.
    pub(crate) fn retire_some(&mut self, errands: &mut Errands) -> Outcomes<()> {
        if self.view.header().get(word::FLUSHED) == 0 {
            return self.retire_all();
        }
        if let Some(mut errand) = errands.under_way.take() {
            if !errand.is_over() && !self.is_overdue(&errand) {
                errands.under_way = Some(errand);
                return Ok(());
            }
            self.settle(errand, errands)?;
        }
        if !self.has_spent() {
            return Ok(());
        }
        let (era, number) = (self.era(), self.view.header().oldest());
        let tail = self.view.header().tail();
        errands.awaited = errands
            .awaited
            .filter(|awaited| awaited.era == era && awaited.below > number);
        if errands
            .awaited
            .is_some_and(|awaited| awaited.upto.segment == tail.segment)
        {
            return Ok(());
        }
        let sent = if !self.is_there(number)? {
            self.send_removal(number)
        } else if errands.is_replaced(era, number) {
            dir::remove(&self.names.segment(number, self.stage))?;
            self.send_removal(number)
        } else if let Some(awaited) = errands.awaited.take() {
            self.send_sync(awaited.below)?
        } else {
            let below = self.cleaning().place.segment;
            errands.awaited = Some(Awaited {
                era,
                below,
                upto: tail,
            });
            return Ok(());
        };
        match sent {
            Some(errand) => errands.under_way = Some(errand),
            None => self.retire_all()?,
        }
        Ok(())
    }

    /// Whether so much was written meanwhile that the next write must wait: the disk is slower than
    /// the writers.
    fn is_overdue(&self, errand: &Errand) -> bool {
        let live = self.view.header().counters().live;
        self.heap_bytes().saturating_sub(errand.heap_bytes) > live / 2 + AHEAD
    }

    /// Whether the file of a spent segment is still there. One that cannot be opened is none that
    /// may be removed.
    fn is_there(&mut self, number: u16) -> Outcomes<bool> {
        if !View::has_segment_file(&self.names, number) {
            return Ok(false);
        }
        match self.segment(number)? {
            Some(_) => Ok(true),
            None => Err(Stop::Recover(
                "the oldest segment cannot be opened",
                At::Heap(first_place(number)),
            )),
        }
    }

    fn send_removal(&self, number: u16) -> Option<Errand> {
        let names = Arc::clone(&self.names);
        self.send(Purpose::Removal { number }, move || names.sync_heap_dir())
    }

    /// Sends for a sync of the segments that are complete. The last one is left out: who stores to
    /// pages that are being written waits for the disk.
    fn send_sync(&mut self, below: u16) -> Outcomes<Option<Errand>> {
        let upto = first_place(self.view.header().tail().segment);
        let mut files = self.unsynced()?;
        files.pop();
        let names = Arc::clone(&self.names);
        let work = move || {
            files.iter().try_for_each(|file| file.sync())?;
            names.sync_heap_dir()
        };
        Ok(self.send(Purpose::Heap { upto, below }, work))
    }

    pub(crate) fn era(&self) -> Era {
        let ids = self.view.ids;
        Era {
            heap: ids.heap,
            generation: ids.generation,
        }
    }

    /// Sends an errand. That it failed is remembered at once: the next to sync, in whichever
    /// process, may be told that all is well.
    fn send(
        &self,
        purpose: Purpose,
        work: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Option<Errand> {
        // Not the view: it has the lock's descriptor.
        let table = Arc::clone(&self.view.table);
        Errand::send(self.era(), purpose, self.heap_bytes(), move || {
            table.header().note_sync(work())
        })
    }

    /// Takes down what came of an errand.
    pub(crate) fn settle(&mut self, errand: Errand, errands: &mut Errands) -> Outcomes<()> {
        let (era, purpose) = (errand.era, errand.purpose);
        let Some(outcome) = errand.collect() else {
            return Ok(());
        };
        let header = self.view.header();
        if era.heap != self.view.ids.heap {
            // Of files that are nobody's any more.
            return Ok(());
        }
        header.note_sync(outcome)?;
        if era != self.era() {
            return Ok(());
        }
        match purpose {
            // Where nothing was appended since, what a killed writer had begun behind this place
            // may have come to the disk, and not that it was erased.
            Purpose::Heap { upto, below } if upto < header.tail() => {
                let synced = Place::from_word(header.get(word::SYNCED)).max(upto);
                header.set(word::SYNCED, synced.to_word());
                errands.replaced = Some((era, below));
            }
            Purpose::Removal { number } if number == header.oldest() && self.has_spent() => {
                self.advance(number)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// No later segment may go before this one is gone for good: it could have the deletions that
    /// keep the entries of this one away.
    pub(crate) fn sync_removal(&self) -> Result<()> {
        if self.view.header().get(word::FLUSHED) != 0 {
            self.view.header().note_sync(self.names.sync_heap_dir())?;
        }
        Ok(())
    }

    /// The heap begins behind a segment whose file is gone. "The oldest is missing" is a normal
    /// state, so a kill between the removal and these stores costs nothing.
    pub(crate) fn advance(&mut self, number: u16) -> Outcomes<()> {
        let tail = self.view.header().tail();
        let next = number.saturating_add(1);
        let cleaning = self.cleaning();
        let (gone, left) = self
            .view
            .segments()
            .cloned()
            .partition(|segment| segment.number() == number);
        let left = self.view.with_segments(left);
        let before = left.heap_bytes_before(&self.names, tail.segment)?;
        let header = self.view.header();
        header.set(word::HEAP_BASE, before);
        if cleaning.place.segment == number {
            header.set(word::CURSOR, Cursor::at(first_place(next)).to_word());
        }
        header.set_oldest(next);
        self.view = Arc::new(left);
        let gone: Vec<_> = gone;
        self.removed.extend(gone);
        Ok(())
    }

    /// Writes all records that may not be on the disk yet to it. An error is remembered in the
    /// header: what it was about is lost to the system, and a later sync that succeeds proves
    /// nothing.
    pub(crate) fn sync_heap(&mut self) -> Result<()> {
        let tail = self.view.header().tail();
        let files = self.unsynced()?;
        for file in &files {
            self.view.header().note_sync(file.sync())?;
        }
        let header = self.view.header();
        let first_time = header.get(word::FLUSHED) == 0;
        // The names of segments that were begun since.
        if first_time || Place::from_word(header.get(word::SYNCED)).segment != tail.segment {
            header.note_sync(self.names.sync_heap_dir())?;
        }
        header.set(word::SYNCED, tail.to_word());
        header.set(word::FLUSHED, 1);
        Ok(())
    }

    /// The segments that have records which may not be on the disk yet.
    fn unsynced(&mut self) -> Result<Vec<Arc<MappedFile>>> {
        let header = self.view.header();
        if header.get(word::SYNC_ERROR) != 0 {
            return Err(Error::SyncFailed {
                path: self.names.cache().to_owned(),
            });
        }
        let synced = Place::from_word(header.get(word::SYNCED));
        let (oldest, tail) = (header.oldest(), header.tail());
        let from = match header.get(word::FLUSHED) {
            0 => oldest,
            _ if synced == tail => return Ok(Vec::new()),
            _ => synced.segment.max(oldest),
        };
        let mut files = Vec::new();
        for number in from..=tail.segment {
            if let Some(segment) = self.segment(number)? {
                files.push(Arc::clone(segment.file()));
            }
        }
        Ok(files)
    }
}
