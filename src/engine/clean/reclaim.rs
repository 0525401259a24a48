//! Syncing the heap, and removing the segments that cleaning has come through.
//!
//! Knows in which order a segment goes so that no power loss brings back what it must not; not when
//! cleaning is worth while.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::index::word;
use crate::format::segment::first_place;
use crate::format::slot::{Cursor, Place, Replaced};
use crate::index::header::SyncNotes;
use crate::os::files;
use crate::os::mmap::MappedFile;

use crate::engine::clean::background::{BackgroundTask, BackgroundTasks};
use crate::engine::generation::Generation;
use crate::engine::write::mutator::{Abort, At, Mutator, WriteResult};

/// Bytes, above half of the live ones, by which the heap may grow before a write waits for an
/// task.
const AHEAD: u64 = 64 << 20;
/// Bytes of spent segments, above half of the live ones, at which a write of a young handle syncs
/// the heap itself. A handle that lives for one write never sees the end of an task, and the
/// task of a process that ends goes with it.
const AHEAD_OF_YOUNG: u64 = 8 << 20;

impl Mutator {
    /// How far cleaning has come. The segments before this place's, from the oldest on, are spent:
    /// they hold nothing live, and wait for their removal.
    pub(crate) fn cleaning(&self) -> Cursor {
        let header = self.generation.header();
        let (oldest, last) = (header.oldest(), header.tail().segment);
        Cursor::from_word(header.get(word::CURSOR))
            .filter(|cursor| (oldest..=last).contains(&cursor.place.segment))
            .unwrap_or(Cursor::at(first_place(oldest)))
    }

    pub(crate) fn has_evacuated(&self) -> bool {
        let header = self.generation.header();
        let oldest = header.oldest();
        // Every write asks this, and mostly the two are the same.
        Cursor::from_word(header.get(word::CURSOR))
            .is_some_and(|cursor| cursor.place.segment != oldest)
            && self.cleaning().place.segment != oldest
    }

    /// Bytes of the spent segments, whether this handle has mapped them or not.
    pub(crate) fn evacuated_bytes(&self) -> u64 {
        let bytes = |number| match self.generation.segment(number) {
            Some(segment) => segment.allocated(),
            None => {
                let there = self.names.segment(number, self.stage).symlink_metadata();
                there.map_or(0, |there| there.len())
            }
        };
        let spent = self.generation.header().oldest()..self.cleaning().place.segment;
        spent.map(bytes).sum()
    }

    /// Bytes of the heap that no entry needs.
    pub(crate) fn dead_bytes(&self) -> u64 {
        let live = self.generation.header().counters().live;
        self.heap_bytes().saturating_sub(live)
    }

    /// Removes the spent segments, and waits for the disk where it must.
    pub(crate) fn reclaim_all(&mut self) -> WriteResult<()> {
        while self.has_evacuated() {
            let number = self.generation.header().oldest();
            if self.is_there(number)? {
                if self.generation.header().get(word::FLUSHED) != 0 && !self.is_replaced(number) {
                    self.sync_heap()?;
                }
                files::remove(&self.names.segment(number, self.stage))?;
            }
            self.sync_removal()?;
            self.advance(number)?;
        }
        Ok(())
    }

    /// Goes on with the removal of the spent segments as far as it needs not wait for the disk, and
    /// sends an task for the rest. Waits for the disk all the same where too much has become spent:
    /// the handles before this one may each have ended before their tasks did.
    ///
    /// A cache that was ever flushed first syncs its heap as far as it went when cleaning had come
    /// through: not only the copies, for a newer version that is not yet synced may be all that is
    /// left of a key whose flushed version stood here. A failing sync forbids the rest.
    ///
    /// All that this goes by is in the index header and in the directory, so that it makes no
    /// difference which handle takes the next step.
    pub(crate) fn reclaim_some(&mut self, tasks: &mut BackgroundTasks) -> WriteResult<()> {
        if self.generation.header().get(word::FLUSHED) == 0 {
            return self.reclaim_all();
        }
        if let Some(mut task) = tasks.under_way.take() {
            if !task.is_over() && !self.is_overdue(&task) {
                tasks.under_way = Some(task);
                return Ok(());
            }
            tasks.has_collected = true;
            self.settle(task)?;
        }
        while self.has_evacuated() {
            let number = self.generation.header().oldest();
            if self.waits_for_records(number, tasks) {
                return Ok(());
            }
            let is_there = self.is_there(number)?;
            if !is_there && self.generation.header().get(word::REMOVALS_SYNCED) > u64::from(number)
            {
                self.advance(number)?;
                continue;
            }
            if self.evacuated_bytes() > self.most_evacuated(tasks) {
                return self.reclaim_all();
            }
            let sent = if !is_there {
                self.send_removal(number)
            } else if self.is_replaced(number) {
                files::remove(&self.names.segment(number, self.stage))?;
                self.send_removal(number)
            } else if self.is_complete_behind(number) {
                self.send_sync()?
            } else {
                return Ok(());
            };
            match sent {
                Some(task) => tasks.under_way = Some(task),
                None => self.reclaim_all()?,
            }
            return Ok(());
        }
        Ok(())
    }

    /// Whether nothing can be done about a spent segment before more records are appended. Every write
    /// asks this, so it makes no system call.
    fn waits_for_records(&self, number: u16, tasks: &BackgroundTasks) -> bool {
        self.generation.header().get(word::REMOVALS_SYNCED) <= u64::from(number)
            && !self.is_replaced(number)
            && !self.is_complete_behind(number)
            && self.evacuated_bytes() <= self.most_evacuated(tasks)
    }

    /// Bytes of spent segments at which a write no longer leaves them to an task.
    fn most_evacuated(&self, tasks: &BackgroundTasks) -> u64 {
        let live = self.generation.header().counters().live;
        let ahead = if tasks.has_collected {
            AHEAD
        } else {
            AHEAD_OF_YOUNG
        };
        live / 2 + ahead
    }

    /// What is known of the records that replace those of a spent segment, as the header has it.
    fn replaced(&self, number: u16) -> Option<Replaced> {
        let header = self.generation.header();
        let replaced = Replaced::from_word(header.get(word::REPLACED));
        let counts = number < replaced.below
            && replaced.below <= self.cleaning().place.segment
            && replaced.upto <= header.tail();
        counts.then_some(replaced)
    }

    /// Whether all that replaces the records of a spent segment is synced.
    fn is_replaced(&self, number: u16) -> bool {
        let synced = Place::from_word(self.generation.header().get(word::SYNCED));
        self.replaced(number)
            .is_some_and(|replaced| replaced.upto <= synced)
    }

    /// Whether the segment that has the last record which replaces one of a spent segment is
    /// complete, so that it can be synced while others write. Takes down which one that is, if it is
    /// not known yet.
    fn is_complete_behind(&self, number: u16) -> bool {
        let tail = self.generation.header().tail();
        match self.replaced(number) {
            Some(replaced) => replaced.upto.segment != tail.segment,
            None => {
                self.note_replaced();
                false
            }
        }
    }

    /// All that replaces the records of the segments that are spent now stands before the tail.
    fn note_replaced(&self) {
        let header = self.generation.header();
        let replaced = Replaced {
            below: self.cleaning().place.segment,
            upto: header.tail(),
        };
        header.set(word::REPLACED, replaced.to_word());
    }

    /// Whether so much was written meanwhile that the next write must wait: the disk is slower than
    /// the writers.
    fn is_overdue(&self, task: &BackgroundTask) -> bool {
        let live = self.generation.header().counters().live;
        self.heap_bytes().saturating_sub(task.heap_bytes) > live / 2 + AHEAD
    }

    /// Whether the file of a spent segment is still there. One that cannot be opened is none that
    /// may be removed.
    fn is_there(&mut self, number: u16) -> WriteResult<bool> {
        if !Generation::has_segment_file(&self.names, number) {
            return Ok(false);
        }
        match self.segment(number)? {
            Some(_) => Ok(true),
            None => Err(Abort::Recover(
                "the oldest segment cannot be opened",
                At::Heap(first_place(number)),
            )),
        }
    }

    fn send_removal(&self, number: u16) -> Option<BackgroundTask> {
        let names = Arc::clone(&self.names);
        self.send(move |notes| {
            names.sync_heap_dir()?;
            notes.removals_are_synced(number.saturating_add(1));
            Ok(())
        })
    }

    /// Sends for a sync of the segments that are complete. The last one is left out: who stores to
    /// pages that are being written waits for the disk.
    fn send_sync(&mut self) -> WriteResult<Option<BackgroundTask>> {
        let last = self.generation.header().tail().segment;
        let mut files = self.unsynced()?;
        files.pop();
        let names = Arc::clone(&self.names);
        Ok(self.send(move |notes| {
            files.iter().try_for_each(|file| file.sync())?;
            names.sync_heap_dir()?;
            notes.segments_are_synced(last);
            Ok(())
        }))
    }

    /// Sends an task, which stores its result in the header at once. That it failed must be known
    /// to the next to sync, in whichever process: it may be told that all is well.
    fn send(
        &self,
        work: impl FnOnce(SyncNotes<'_>) -> Result<()> + Send + 'static,
    ) -> Option<BackgroundTask> {
        // Not the generation: it has the lock's descriptor.
        let table = Arc::clone(&self.generation.table);
        BackgroundTask::send(self.generation.ids.heap, self.heap_bytes(), move || {
            let notes = table.header().sync_notes();
            notes.note_sync(work(notes))
        })
    }

    /// Waits for an task. That it failed is told to this generation too, if the heap is the same.
    pub(crate) fn settle(&mut self, task: BackgroundTask) -> WriteResult<()> {
        let heap = task.heap;
        match task.collect() {
            Some(outcome) if heap == self.generation.ids.heap => {
                Ok(self.generation.header().note_sync(outcome)?)
            }
            // Of files that are nobody's any more, or nothing is known of it.
            _ => Ok(()),
        }
    }

    /// No later segment may go before this one is gone for good: it could have the deletions that
    /// keep the entries of this one away.
    pub(crate) fn sync_removal(&self) -> Result<()> {
        if self.generation.header().get(word::FLUSHED) != 0 {
            self.generation
                .header()
                .note_sync(self.names.sync_heap_dir())?;
        }
        Ok(())
    }

    /// The heap begins behind a segment whose file is gone. "The oldest is missing" is a normal
    /// state, so a kill between the removal and these stores costs nothing.
    pub(crate) fn advance(&mut self, number: u16) -> WriteResult<()> {
        let tail = self.generation.header().tail();
        let next = number.saturating_add(1);
        let cleaning = self.cleaning();
        let (gone, left) = self
            .generation
            .segments()
            .cloned()
            .partition(|segment| segment.number() == number);
        let left = self.generation.with_segments(left);
        let before = left.heap_bytes_before(&self.names, tail.segment)?;
        let header = self.generation.header();
        header.set(word::HEAP_BASE, before);
        if cleaning.place.segment == number {
            header.set(word::CURSOR, Cursor::at(first_place(next)).to_word());
        }
        header.set_oldest(next);
        self.generation = Arc::new(left);
        let gone: Vec<_> = gone;
        self.removed.extend(gone);
        Ok(())
    }

    /// Writes all records that may not be on the disk yet to it. An error is remembered in the
    /// header: what it was about is lost to the system, and a later sync that succeeds proves
    /// nothing.
    pub(crate) fn sync_heap(&mut self) -> Result<()> {
        let tail = self.generation.header().tail();
        let files = self.unsynced()?;
        for file in &files {
            self.generation.header().note_sync(file.sync())?;
        }
        let header = self.generation.header();
        let first_time = header.get(word::FLUSHED) == 0;
        // The names of segments that were begun since.
        if first_time || Place::from_word(header.get(word::SYNCED)).segment != tail.segment {
            header.note_sync(self.names.sync_heap_dir())?;
        }
        header.set(word::SYNCED, tail.to_word());
        header.set(word::FLUSHED, 1);
        if self.has_evacuated() {
            self.note_replaced();
        }
        Ok(())
    }

    /// The segments that have records which may not be on the disk yet.
    fn unsynced(&mut self) -> Result<Vec<Arc<MappedFile>>> {
        let header = self.generation.header();
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
