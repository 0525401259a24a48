//! A session: the writer lock, held, and a mutator for the current generation.
//!
//! Takes the lock, lets recovery complete what the last writer left, and runs changes: when a
//! change finds corruption or needs a larger table, recovers or replaces the generation and runs
//! it again. This file alone stores the writer's process id and the dirty mark. May call
//! `recovery`, `engine::switch` and everything below them.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Corruption, ErrorKind, Result};
use crate::format::index::word;
use crate::lock::{self, LockDeadline, MappedMutexGuard, MutexGuard};
use crate::os::file_names::Stage;
use crate::sync::Relaxed;

use crate::engine::clean::{evacuate, reclaim};
use crate::engine::generation::Generation;
use crate::engine::handle::Handle;
use crate::engine::header_check;
use crate::engine::heap_presence;
use crate::engine::ids;
use crate::engine::locking::acquire;
use crate::engine::options::Durability;
use crate::engine::recovery::from_heap::{Origin, recover_from_heap};
use crate::engine::recovery::in_flight;
use crate::engine::recovery::stale_segments::remove_stale;
use crate::engine::removals::RemovalCause;
use crate::engine::segment_numbers::Extent;
use crate::engine::staging::discard_staged;
use crate::engine::statistics::Counter;
use crate::engine::switch::{self, Heap, give_up};
use crate::engine::write::mutator::{Abort, At, Mutator, WriteResult};
use crate::engine::write::{durability, put};

/// Runs of one change after which it is given up.
const TRIES: u32 = 8;

thread_local! {
    /// The caches whose writers this thread holds, each with the epoch in which it was taken: a
    /// forked child inherits the list, and the writers in it are the parent's.
    static HELD: RefCell<Vec<(u64, u64)>> = const { RefCell::new(Vec::new()) };
}

/// The writer lock of a cache, held until this is dropped.
pub(crate) struct Session<'a> {
    pub handle: &'a Handle,
    pub mutator: Held<'a>,
    epoch: u64,
    /// Whether recovery is done, and the times of the files are noted.
    prepared: bool,
    /// Whether something was written that a durable writer still has to sync.
    unsynced: bool,
    /// The generation that this process's readers were given last; only compared.
    published: *const Generation,
}

/// The writer mutex of this process's threads, held, and the mutator in it.
pub(crate) struct Held<'a>(Option<MappedMutexGuard<'a, Mutator>>);

impl Deref for Held<'_> {
    type Target = Mutator;

    #[inline]
    fn deref(&self) -> &Mutator {
        self.0.as_deref().expect("held until the writer is dropped")
    }
}

impl DerefMut for Held<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Mutator {
        self.0
            .as_deref_mut()
            .expect("held until the writer is dropped")
    }
}

impl fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.describe("Writer", f)
    }
}

impl<'a> Session<'a> {
    /// Takes the lock, waiting at most `timeout` for it, and recovers what the last writer left. If
    /// another writer is at work, loads what a change of `key` is going to read first.
    pub(crate) fn take(
        handle: &'a Handle,
        timeout: Option<Duration>,
        key: Option<&[u8]>,
    ) -> Result<Self> {
        if handle.options.read_only {
            return Err(ErrorKind::ReadOnly.at(&handle.path));
        }
        let (id, epoch) = (handle.id, lock::epoch());
        if HELD.with_borrow(|held| held.contains(&(id, epoch))) {
            return Err(ErrorKind::AlreadyWriting.at(&handle.path));
        }
        let deadline = LockDeadline::new(timeout);
        let mut idle = wait_for(handle, &deadline, key).ok_or_else(|| {
            ErrorKind::Locked {
                waited: deadline.waited(),
                holder: handle.generation.load().header().holder(),
            }
            .at(&handle.path)
        })?;
        if handle.outdated.load(Relaxed) != 0 {
            handle.outdated.store(0, Relaxed);
            *idle = None;
        }
        if let Err(error) = lock_current(handle, &mut idle, &deadline, key) {
            *idle = None;
            return Err(error);
        }
        HELD.with_borrow_mut(|held| held.push((id, epoch)));
        let mut mutator = MutexGuard::map(idle, |idle| idle.as_mut().expect("locked a moment ago"));
        mutator.names_removals = handle.removals.is_some();
        let mut session = Self {
            handle,
            published: Arc::as_ptr(&mutator.generation),
            mutator: Held(Some(mutator)),
            epoch,
            prepared: false,
            unsynced: false,
        };
        // From here on dropping the session undoes all of this.
        session.prepare()?;
        Ok(session)
    }

    /// Recovers what the last writer left, if it was killed, and marks the files as written under
    /// this boot.
    fn prepare(&mut self) -> Result<()> {
        let boot = self.handle.boot;
        let has_marked = self.has_marked();
        let (origin, recovered) = examine(&mut self.mutator, self.handle, has_marked)?;
        match recovered {
            Ok(()) => self.publish_generation(),
            Err(Abort::Failed(error)) if error.is_corruption() => self.recover(error)?,
            Err(Abort::Recover(what, _)) => self.recover_from(what, origin)?,
            Err(stop) => return Err(give_up(stop, &self.mutator)),
        }
        let generation = &self.mutator.generation;
        let header = generation.header();
        if !header.is_marked() {
            let words = header.session_words();
            // On the disk before the first change: a power loss must find the mark.
            words.mark_dirty(boot, generation.inode, generation.seen.born);
            // If this sync fails, the next try stores the mark again.
            header.note_sync(generation.table.file().sync())?;
            words.set_mark_synced();
            self.handle.marked.store(1, Relaxed);
        }
        debug_assert!(header.is_marked() && header.is_dirty());
        self.mutator.generation.note_visit();
        self.prepared = true;
        Ok(())
    }

    /// Returns whether this very handle has marked this very file: without a boot id from the
    /// system, no other mark proves anything.
    fn has_marked(&self) -> bool {
        let header = self.mutator.generation.header();
        let marked = self.handle.marked.load(Relaxed) != 0;
        let file = (header.device(), header.inode());
        self.handle.boot == [0; 2] && marked && file == self.mutator.generation.inode
    }

    /// Rebuilds index and roster from the heap; `what` is the reason, for the log.
    pub(crate) fn recover(&mut self, what: impl fmt::Display) -> Result<()> {
        self.recover_from(what, Origin::Here)
    }

    fn recover_from(&mut self, what: impl fmt::Display, origin: Origin) -> Result<()> {
        log::warn!(
            "{}: rebuilding the index from the heap: {what}",
            self.handle.path.display()
        );
        let before = Arc::clone(&self.mutator.generation);
        let recovered = recover_from_heap(self.handle, &mut self.mutator, origin);
        self.relock(&before);
        recovered.map_err(|stop| give_up(stop, &self.mutator))
    }

    /// After a switch, releases the old index's lock: the lock that counts is the new index's.
    fn relock(&mut self, before: &Generation) {
        let generation = &self.mutator.generation;
        if generation.inode != before.inode {
            before.unlock();
            let header = generation.header();
            header.session_words().set_holder(lock::process());
            // Its files were made, or checked, by this very writer.
            self.handle.heap_found.store(generation.inode.1, Relaxed);
            // A switch is synced, unless it says that this failed, or that nothing was ever flushed.
            self.unsynced = header.sync_failed() || !header.is_flushed();
        }
    }

    /// Lets this process's readers use the segments that the mutator has mapped.
    pub(crate) fn publish_generation(&mut self) {
        let current = Arc::as_ptr(&self.mutator.generation);
        if current != self.published {
            self.handle
                .generation
                .store(Arc::clone(&self.mutator.generation));
            self.published = current;
        }
        // Checked first: taking an empty list each time costs as much as copying a result.
        if !self.mutator.removed.is_empty() {
            self.release_removed();
        }
        if self.mutator.has_removals {
            self.report_ended();
        }
    }

    /// Counts the entries that cleaning removed, and notes them for a callback.
    #[cold]
    fn report_ended(&mut self) {
        self.mutator.has_removals = false;
        for (counter, count) in Counter::ALL.into_iter().zip(&mut self.mutator.removals) {
            self.handle.count(counter, std::mem::take(count));
        }
        for ended in self.mutator.ended.drain(..) {
            let cause = match ended.counter {
                Counter::Expired => RemovalCause::Expired,
                Counter::Invalidated => RemovalCause::Invalidated,
                _ => RemovalCause::Evicted,
            };
            if let Some(removals) = &self.handle.removals {
                removals.note(&ended.key, cause, u64::from(ended.len));
            }
        }
    }

    /// Gives back memory and blocks of what was removed, after the generation that had it.
    #[cold]
    fn release_removed(&mut self) {
        let removed = std::mem::take(&mut self.mutator.removed);
        if self.handle.options.background {
            self.handle.writer_mutex().tasks.lock().release(removed);
        }
    }

    /// Waits until what was removed is given back. Returns whether there was anything.
    pub(crate) fn await_releases(&self) -> bool {
        self.handle.writer_mutex().tasks.lock().await_releases()
    }

    /// Runs a change. If the generation must be recovered or replaced for it, does that and runs the
    /// change again.
    pub(crate) fn run<T>(
        &mut self,
        mut change: impl FnMut(&mut Mutator) -> WriteResult<T>,
    ) -> Result<T> {
        self.refuse_forked()?;
        // A writer that was held across a switch of its own marks the new generation first.
        self.mark_again()?;
        self.unsynced = true;
        let mut tries = 0;
        loop {
            tries += 1;
            debug_assert!(
                self.mutator.generation.header().is_marked(),
                "a power loss finds the dirty mark"
            );
            debug_assert!(
                self.mutator
                    .generation
                    .lock
                    .as_ref()
                    .is_some_and(|lock| lock.is_own()),
                "L3: only the holder of the lock stores"
            );
            self.mutator.generation.table.count_change();
            match change(&mut self.mutator) {
                Ok(done) => {
                    // Again, after any switch: that synced what was before it.
                    self.unsynced = true;
                    self.publish_generation();
                    return Ok(done);
                }
                Err(stop) if tries > TRIES => return Err(give_up(stop, &self.mutator)),
                Err(Abort::Failed(error)) if error.is_corruption() && tries == 1 => {
                    self.recover(error)?;
                }
                Err(Abort::Failed(error)) => {
                    self.publish_generation();
                    return Err(error);
                }
                Err(Abort::Recover(what, _)) => self.recover(what)?,
                Err(Abort::Enlarge) => self.rearrange(switch::enlarge)?,
                Err(Abort::Renumber) => self.renumber()?,
            }
            self.mark_again()?;
        }
    }

    /// Copies all entries into a new heap, because the numbers of segments are used up. A bounded cache
    /// has no room for two heaps: it evicts its oldest entries first.
    pub(crate) fn renumber(&mut self) -> Result<()> {
        while let Ok(true) = evacuate::drop_for_copy(&mut self.mutator) {
            self.publish_generation();
            self.await_releases();
        }
        self.rearrange(switch::rebuild_from_itself)
    }

    fn mark_again(&mut self) -> Result<()> {
        if self.mutator.generation.header().is_marked() {
            Ok(())
        } else {
            self.prepare()
        }
    }

    /// Replaces all entries by what `fill` puts, at once for all readers. After an error the cache
    /// is as it was.
    pub(crate) fn replace_entries(
        &mut self,
        fill: impl FnOnce(&mut Mutator) -> WriteResult<()>,
    ) -> Result<()> {
        self.refuse_forked()?;
        self.refuse_if_append_only()?;
        let (handle, epoch) = (self.handle, self.epoch);
        let geometry = self.mutator.generation.table.geometry();
        let capacity = handle.options.capacity_within(geometry, &handle.path)?;
        self.replace(|handle, mutator| {
            switch::replace(handle, mutator, Heap::Fresh, capacity, |fresh| {
                fill(fresh)?;
                Ok(lock::refuse_forked(epoch, &handle.path)?)
            })
        })
    }

    /// Copies the entries into a heap of their own: nothing dead or damaged is left.
    pub(crate) fn rewrite_heap(&mut self) -> Result<()> {
        match self.switch(switch::rebuild_from_itself) {
            Err(Abort::Recover(what, _)) => self.recover(what)?,
            Err(Abort::Failed(error)) if error.is_corruption() => self.recover(error)?,
            other => return other.map_err(|stop| give_up(stop, &self.mutator)),
        }
        // Recovery rebuilt the table, and kept the heap.
        self.replace(switch::rebuild_from_itself)
    }

    fn replace(
        &mut self,
        switch: impl FnOnce(&Handle, &mut Mutator) -> WriteResult<()>,
    ) -> Result<()> {
        let switched = self.switch(switch);
        switched.map_err(|stop| give_up(stop, &self.mutator))
    }

    /// Replaces the generation by one with the same entries. If damage is in the way, rebuilds it
    /// from the heap instead.
    pub(crate) fn rearrange(
        &mut self,
        switch: impl FnOnce(&Handle, &mut Mutator) -> WriteResult<()>,
    ) -> Result<()> {
        match self.switch(switch) {
            Err(Abort::Recover(what, _)) => self.recover(what),
            Err(Abort::Failed(error)) if error.is_corruption() => self.recover(error),
            other => other.map_err(|stop| give_up(stop, &self.mutator)),
        }
    }

    fn switch(
        &mut self,
        switch: impl FnOnce(&Handle, &mut Mutator) -> WriteResult<()>,
    ) -> WriteResult<()> {
        self.refuse_forked()?;
        let before = Arc::clone(&self.mutator.generation);
        let switched = switch(self.handle, &mut self.mutator);
        self.relock(&before);
        self.publish_generation();
        switched
    }

    /// Syncs what was changed, if the options ask for that.
    pub(crate) fn sync_if_asked(&mut self) -> Result<()> {
        self.refuse_forked()?;
        let wanted = self.unsynced && self.handle.options.durability == Durability::Sync;
        self.unsynced = false;
        if wanted {
            self.sync_heap()?;
            self.publish_generation();
        }
        Ok(())
    }

    fn sync_heap(&mut self) -> Result<()> {
        let writer_mutex = self.handle.writer_mutex();
        let mut tasks = writer_mutex.tasks.lock();
        if let Some(task) = tasks.under_way.take()
            && let Err(stop) = reclaim::settle(&mut self.mutator, task)
        {
            return Err(give_up(stop, &self.mutator));
        }
        durability::sync_heap(&mut self.mutator)
    }

    /// Writes everything to the disk, and removes the dirty mark.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.refuse_forked()?;
        self.sync_heap()?;
        self.unsynced = false;
        self.publish_generation();
        let generation = &self.mutator.generation;
        let header = generation.header();
        header.note_sync(generation.sync_index())?;
        generation.note_visit();
        debug_assert!(
            header.is_flushed() && header.synced_to() == header.tail(),
            "the heap is on the disk before the mark is removed"
        );
        // Heap, roster and index are on the disk.
        header.session_words().clear_dirty();
        header.note_sync(generation.table.file().sync())
    }

    /// Refuses to go on in a forked child: the lock is the parent's. A caller's iterator or closure
    /// may fork, and both processes return from it.
    pub(crate) fn refuse_forked(&self) -> Result<()> {
        lock::refuse_forked(self.epoch, &self.handle.path)
    }

    /// Returns the epoch in which the lock was taken; see [`lock::refuse_forked`].
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Refuses whatever would change an entry of an append-only cache.
    pub(crate) fn refuse_if_append_only(&self) -> Result<()> {
        let refused = put::refuse_if_append_only(&self.mutator);
        refused.map_err(|stop| give_up(stop, &self.mutator))
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let this = (self.handle.id, self.epoch);
        HELD.with_borrow_mut(|held| held.retain(|held| *held != this));
        if self.epoch != lock::epoch() {
            // A forked child: the lock and the mutex are the parent's.
            std::mem::forget(self.mutator.0.take());
            return;
        }
        if let Err(error) = self.sync_if_asked() {
            log::error!("{error}");
        }
        if self.prepared {
            self.mutator.generation.note_visit();
        }
        if !self.handle.options.exclusive {
            leave(&self.mutator.generation);
        }
    }
}

/// Removes the writer's process id from the header, and releases the lock.
fn leave(generation: &Generation) {
    clear_holder(generation);
    generation.unlock();
}

/// Removes the writer's process id from the header.
pub(crate) fn clear_holder(generation: &Generation) {
    generation.header().session_words().set_holder(0);
}

/// Checks what the last writer left: whether it was killed, and whether another program has changed
/// the files since. Recovers the operation in flight if that is enough. Returns what a rebuild would
/// be about, too.
fn examine(
    mutator: &mut Mutator,
    handle: &Handle,
    has_marked: bool,
) -> Result<(Origin, WriteResult<()>)> {
    // Not cloned: an atomic count would wait for the stores of the last write.
    let (generation, boot) = (&mutator.generation, handle.boot);
    let verified = handle.verified.load(Relaxed) == generation.inode.1;
    // Before this writer stores its process id: another id says that its writer was killed.
    let floor = generation.last_visit();
    let header = generation.header();
    header.session_words().set_holder(lock::process());
    let settled = handle.prepared.load(Relaxed) == generation.inode.1;
    if !settled || header.renames_pending() {
        handle.prepare_first_write(generation)?;
    }
    let elsewhere = generation.is_from_elsewhere(boot) && !has_marked;
    let suspect = (generation.is_copied(boot) || generation.seen.latest > floor) && !verified;
    if elsewhere || suspect {
        remove_stale(mutator, boot, floor)?;
    }
    let generation = &mutator.generation;
    let recovered = if elsewhere {
        let what = Corruption::DirtyFromElsewhere;
        Err(Abort::Recover(what, At::Word(word::DIRTY)))
    } else if suspect {
        let what = Corruption::InconsistentCopy;
        Err(Abort::Recover(what, At::Word(word::INODE)))
    } else if let Some((what, at)) =
        header_check::inconsistency(generation).or_else(|| ids::fault(generation))
    {
        Err(Abort::Recover(what, At::Word(at)))
    } else if !settled && heap_presence::has_older(generation, &handle.names)? {
        let what = Corruption::SegmentBeforeOldest;
        Err(Abort::Recover(what, At::Word(word::OLDEST)))
    } else {
        in_flight::recover(mutator)
    };
    let origin = if suspect {
        Origin::Elsewhere
    } else {
        Origin::Here
    };
    Ok((origin, recovered))
}

/// Locks the writer mutex; `None` after the deadline.
fn wait_for<'a>(
    handle: &'a Handle,
    deadline: &LockDeadline,
    key: Option<&[u8]>,
) -> Option<MutexGuard<'a, Option<Mutator>>> {
    let writer_mutex = &handle.writer_mutex().idle;
    if let Some(guard) = writer_mutex.try_lock() {
        return Some(guard);
    }
    if let Some(key) = key {
        load_ahead(&handle.generation.load(), key);
    }
    match deadline.left() {
        Some(left) => writer_mutex.try_lock_for(left),
        None => Some(writer_mutex.lock()),
    }
}

/// Loads what a change of a key's entry is going to read, while another writer is at work: under the
/// lock all others would wait for the memory. Two processes that overwrote 300,000 entries wrote 720,000
/// a second with this, 580,000 without (both with 300 checks of the lock, see `futex_lock`).
#[cold]
pub(crate) fn load_ahead(generation: &Generation, key: &[u8]) {
    let hash = generation.hasher.hash(key);
    let Ok(located) = generation.table.locate(generation.header().poll(), hash) else {
        return;
    };
    for (_, slot, link) in located.region.probe(hash) {
        slot.prefetch();
        if let Some(segment) = generation.segment(link.addr().segment) {
            segment.prefetch(link.addr().unit);
        }
    }
}

/// Locks the index that is at the path now; most likely the one of the last write. The mutator
/// stays where it is: moving it costs 9 ns.
fn lock_current(
    handle: &Handle,
    idle: &mut Option<Mutator>,
    deadline: &LockDeadline,
    key: Option<&[u8]>,
) -> Result<()> {
    loop {
        let mutator = idle.get_or_insert_with(|| {
            let names = Arc::clone(&handle.names);
            Mutator::new(handle.generation.load_full(), names, Stage::Final)
        });
        let generation = &mutator.generation;
        let Some(lock) = generation.lock.as_ref().filter(|lock| lock.is_own()) else {
            // Inherited by fork: the child opens the files for itself.
            handle.reopen(generation)?;
            *idle = None;
            continue;
        };
        // H2: before the first store, which the lock makes.
        generation.own_blocks()?;
        let header = generation.header();
        if let Some(key) = key
            && lock.is_held_by_another(header.lock_words())
        {
            load_ahead(generation, key);
        }
        acquire(lock, Some(header), deadline, &handle.names)?;
        let superseded = header.poll().superseded();
        if superseded || handle.claim_path_check() {
            let there = handle.inode_at_path();
            let there = there.inspect_err(|_| unlock_shared(handle, generation))?;
            if there != Some(generation.inode) {
                generation.unlock();
                handle.reopen(generation)?;
                *idle = None;
                continue;
            }
        }
        if superseded {
            // G2: the lock is held on the inode at the path, so the switch that marked it was never
            // committed.
            switch::clear_superseded(header);
            discard_staged(&handle.names, Extent::of(header))
                .inspect_err(|_| unlock_shared(handle, generation))?;
        }
        return Ok(());
    }
}

/// Releases a lock that was taken in vain; an exclusive handle keeps it in any case.
fn unlock_shared(handle: &Handle, generation: &Generation) {
    if !handle.options.exclusive {
        generation.unlock();
    }
}
