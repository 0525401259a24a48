//! The handle of an opened cache, shared between threads: its names, its options, and the
//! generation in use.
//!
//! Finds out which generation is current: opens or creates the cache, notices that another process
//! replaced it, and maps its files again. May call `create`, `open`, `staging` and everything below
//! them.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::{fmt, io};

use arc_swap::{ArcSwapOption, Guard};

use crate::error::{Error, ErrorKind, Result};
use crate::format::MAX_KEY;
use crate::format::index::HeaderStateWord;
use crate::heap::Segment;
use crate::lock::{self, HazardCell, Mutex};
use crate::os::boot_id;
use crate::os::clock::{coarse_millis, coarse_realtime_nanos};
use crate::os::file_names::{FileNames, Stage};
use crate::os::files;
use crate::sync::{Relaxed, Word};

use crate::engine::clean::background::BackgroundTasks;
use crate::engine::copy_up;
use crate::engine::create;
use crate::engine::file_header::inode_of;
use crate::engine::generation::Generation;
use crate::engine::heap_presence;
use crate::engine::open;
use crate::engine::options::Options;
use crate::engine::recovery::losses::Recovery;
use crate::engine::removals::Removals;
use crate::engine::segment_numbers::Extent;
use crate::engine::staging::{discard_staged, finish_renames, has_staged, left_without_index};
use crate::engine::statistics::{Counter, Statistics};
use crate::engine::write::mutator::Mutator;

/// Checks of a heap whose generation keeps changing, before the last result counts.
const HEAP_CHECKS: u32 = 100;

/// Nanoseconds after which a reader's store is noted again: less than what a file's time may exceed
/// the noted one by.
const VISIT_EVERY: u64 = 20_000_000;

/// One opened cache.
pub(crate) struct Handle {
    pub names: Arc<FileNames>,
    pub path: Arc<Path>,
    /// A hash of the path, by which a thread recognises the writers that it holds.
    pub id: u64,
    pub options: Options,
    pub generation: HazardCell<Generation>,
    writer_mutex: WriterMutex,
    /// Damaged entries that this handle has met.
    pub damaged: Word,
    /// When the file at the path was last checked, in milliseconds of a coarse clock.
    checked: Word,
    /// Puts for which cleaning pauses after it failed.
    pub clean_pause: Word,
    /// Whether the idle mutator has an older generation than the readers.
    pub outdated: Word,
    pub boot: [u64; 2],
    /// Whether this handle has marked files as dirty.
    pub marked: Word,
    /// Whether files may be copied to another layer while this read-only handle has them mapped.
    pub on_overlay: bool,
    /// The count of changes that this handle saw last on an overlay.
    pub overlay_changes: Word,
    /// The inode of an index that is a copy, and that this handle found consistent with its heap.
    pub verified: Word,
    /// The result of the last recovery by this handle.
    pub recovered: ArcSwapOption<Recovery>,
    /// The inode of the index whose heap this handle has found at its path.
    pub heap_found: Word,
    /// The inode of the index for which this handle has called [`Handle::prepare_first_write`].
    pub prepared: Word,
    /// The inode of the index whose entries this handle may mark as used; 0 for none.
    marking: Word,
    /// What is counted for a `Cache`; `None` for other types.
    pub statistics: Option<Statistics>,
    /// Removals that a callback waits for; `None` without a callback.
    pub removals: Option<Removals>,
}

/// Lets one thread of a handle at a time compete for the file lock.
#[derive(Debug)]
pub(crate) struct WriterMutex {
    /// The mutator that the last writer left for the next one. Cloning its parts would change
    /// reference counts, which waits for the stores of the last write (390 ns a single put, 670
    /// without).
    pub idle: Mutex<Option<Mutator>>,
    /// Only the holder of the writer lock takes it.
    pub tasks: Mutex<BackgroundTasks>,
    epoch: u64,
    /// The writer mutex of a forked child: a thread that does not exist there may hold the
    /// parent's.
    next: OnceLock<Box<WriterMutex>>,
}

impl WriterMutex {
    fn new() -> Self {
        Self {
            idle: Mutex::new(None),
            tasks: Mutex::default(),
            epoch: lock::epoch(),
            next: OnceLock::new(),
        }
    }
}

impl Drop for WriterMutex {
    /// Leaks the contents in a forked child: a thread of the parent may have been changing them.
    fn drop(&mut self) {
        if self.epoch != lock::epoch() {
            std::mem::forget(self.idle.get_mut().take());
            std::mem::forget(std::mem::take(self.tasks.get_mut()));
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe("Handle", f)
    }
}

impl Handle {
    /// Formats a handle, or what is made from it, for `{:?}`: one line without anything that the
    /// files contain. The hash seed must stay secret: resistance to chosen keys rests on it.
    pub(crate) fn describe(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match &self.options {
            Options {
                read_only: true, ..
            } => "read-only",
            Options {
                exclusive: true, ..
            } => "exclusive",
            _ => "read-write",
        };
        f.debug_struct(name)
            .field("path", &self.path)
            .field("entries", &self.generation.load().header().occupied())
            .field("mode", &mode)
            .finish()
    }

    pub(crate) fn open(path: &Path, options: &Options) -> Result<Self> {
        let names = FileNames::resolve(path, options.heap_path.as_deref())?;
        refuse_network(&names, options)?;
        let mut generation = open_or_create(&names, options)?;
        options.accept(generation.table.geometry(), names.cache())?;
        let boot = boot_id::id()?;
        let mut heap_found = 0;
        if !options.read_only {
            generation = with_heap(generation, &names, options, boot)?;
            heap_found = generation.inode.1;
        }
        let path: Arc<Path> = Arc::from(names.cache());
        let on_overlay = options.read_only && names.are_on_overlay();
        if options.background {
            lock::allow_fence_thread();
        }
        Ok(Self {
            names: Arc::new(names),
            id: xxhash_rust::xxh3::xxh3_64(path.as_os_str().as_encoded_bytes()),
            path,
            options: options.clone(),
            generation: HazardCell::new(generation),
            writer_mutex: WriterMutex::new(),
            damaged: Word::new(0),
            checked: Word::new(coarse_millis()),
            clean_pause: Word::new(0),
            outdated: Word::new(0),
            boot,
            marked: Word::new(0),
            on_overlay,
            overlay_changes: Word::new(0),
            verified: Word::new(0),
            recovered: ArcSwapOption::empty(),
            heap_found: Word::new(heap_found),
            prepared: Word::new(0),
            marking: Word::new(0),
            statistics: None,
            removals: None,
        })
    }

    /// Returns whether this handle may store marks, and statistics, without the lock.
    #[inline(always)]
    pub(crate) fn may_mark(&self, generation: &Generation) -> bool {
        let is_known = self.marking.load(Relaxed) == generation.inode.1;
        (is_known && !generation.table.file().shares_blocks()) || self.may_mark_now(generation)
    }

    /// Finds out whether this handle may store without the lock. Not if it only reads, nor if another
    /// program may have changed the files: a store would hide that from the next writer, see
    /// [`Generation::is_touched`].
    #[cold]
    #[inline(never)]
    fn may_mark_now(&self, generation: &Generation) -> bool {
        let inode = generation.inode.1;
        if self.options.read_only || !generation.is_cache() {
            return false;
        }
        let is_foreign = || {
            let is_verified = self.verified.load(Relaxed) == inode;
            let is_doubtful = generation.is_copied(self.boot) || generation.is_touched();
            generation.is_from_elsewhere(self.boot) || (is_doubtful && !is_verified)
        };
        if self.marking.load(Relaxed) != inode && is_foreign() {
            return false;
        }
        // H2: before the first store.
        let is_own = generation.own_blocks().is_ok();
        self.marking.store(if is_own { inode } else { 0 }, Relaxed);
        is_own
    }

    /// Notes that this handle has stored to a file without the lock: otherwise the file's time would
    /// look like that of a foreign change.
    #[inline(always)]
    pub(crate) fn note_reader_store(&self, generation: &Generation) {
        let now = coarse_realtime_nanos();
        if now > generation.header().visited().saturating_add(VISIT_EVERY) {
            generation.header().raise_visited(now);
        }
    }

    /// Refuses a key that is empty or too long.
    pub(crate) fn check_key(&self, key: &[u8]) -> Result<()> {
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(ErrorKind::KeyLength { len: key.len() }.at(&self.path));
        }
        Ok(())
    }

    /// Returns the current generation, and its state word. A superseded generation is replaced by
    /// the new one first.
    pub(crate) fn current(&self) -> Result<(Guard<Arc<Generation>>, HeaderStateWord)> {
        let mut is_fresh = false;
        loop {
            let generation = self.generation.load();
            let Some(poll) = self.poll(&generation)? else {
                continue;
            };
            // On an overlay, a file may have grown beyond what its mapping can rely on.
            if !self.on_overlay || is_fresh || !generation.lacks_positions() {
                return Ok((generation, poll));
            }
            self.reopen_on_overlay()?;
            is_fresh = true;
        }
    }

    /// Returns the state word of a loaded generation; `None` if the generation was superseded and is
    /// no longer the current one.
    ///
    /// G2: a superseded generation is not changed any more, so a reader that has not seen the mark
    /// yet still reads one consistent generation.
    ///
    /// Separate from the loading, so that a lookup keeps the generation in registers: a guard that
    /// is returned goes through memory, stored in two pieces and loaded in one, for which the
    /// processor waits until all earlier stores are done (a miss took 49 ns, now 36).
    #[inline(always)]
    pub(crate) fn poll(&self, generation: &Generation) -> Result<Option<HeaderStateWord>> {
        let poll = generation.header().poll();
        if !poll.superseded() && !self.is_due_on_overlay() {
            return Ok(Some(poll));
        }
        self.poll_again(generation, poll)
    }

    #[cold]
    fn poll_again(
        &self,
        generation: &Generation,
        poll: HeaderStateWord,
    ) -> Result<Option<HeaderStateWord>> {
        if self.on_overlay && self.follow_copy_up(generation)? {
            return Ok(None);
        }
        if !poll.superseded() {
            return Ok(Some(poll));
        }
        self.reopen_if_replaced()?;
        // If it is still the current one, the switch is not committed yet, and the old generation
        // counts.
        let is_current = std::ptr::eq(&**self.generation.load(), generation);
        Ok(is_current.then(|| poll.with_superseded(false)))
    }

    /// Opens the index again if the path has another inode.
    #[cold]
    pub(crate) fn reopen_if_replaced(&self) -> Result<()> {
        let stale = self.generation.load_full();
        if self.inode_at_path()? == Some(stale.inode) {
            return Ok(());
        }
        self.reopen(&stale)
    }

    /// Opens the index that the path names now, in place of a stale generation.
    pub(crate) fn reopen(&self, stale: &Generation) -> Result<()> {
        self.adopt(stale, Arc::new(self.open_fresh()?));
        Ok(())
    }

    pub(crate) fn open_fresh(&self) -> Result<Generation> {
        let fresh = if self.options.read_only {
            open::generation(&self.names, false)?
        } else {
            let options = Options {
                create_new: false,
                ..self.options.clone()
            };
            open_or_create(&self.names, &options)?
        };
        let geometry = fresh.table.geometry();
        self.options.accept_replaced(geometry, &self.path)?;
        Ok(fresh)
    }

    /// Replaces a stale generation by one that was opened since.
    ///
    /// A writer of this handle may have switched since then, even more than once: its generation
    /// holds the lock, and must stay.
    pub(crate) fn adopt(&self, stale: &Generation, generation: Arc<Generation>) {
        self.generation.replace(|current| {
            let is = |other: &Generation| current.ids == other.ids && current.inode == other.inode;
            let newer = !is(stale) || is(&generation);
            let usable = current.lock.as_ref().is_none_or(|lock| lock.is_own());
            Arc::clone(if newer && usable {
                current
            } else {
                &generation
            })
        });
        // Otherwise the old files would stay mapped until the next write. A writer at work will
        // leave its mutator here nevertheless; the mark says that it is stale.
        self.outdated.store(1, Relaxed);
        if let Some(mut idle) = self.writer_mutex().idle.try_lock() {
            *idle = None;
        }
    }

    /// Returns the device and inode at the cache's path; `None` if there is no file.
    pub(crate) fn inode_at_path(&self) -> Result<Option<(u64, u64)>> {
        #[cfg(loom)]
        crate::sync::loom_model::system_call();
        match std::fs::metadata(&self.path) {
            Ok(meta) => Ok(Some((meta.dev(), meta.ino()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(&self.path, "read the inode at the path")(error)),
        }
    }

    /// Returns whether the file at the path has to be checked now, at most once in each staleness
    /// interval. The caller checks it then.
    #[inline]
    pub(crate) fn claim_path_check(&self) -> bool {
        let due = self.is_path_check_due();
        if due {
            self.checked.store(coarse_millis(), Relaxed);
        }
        due
    }

    /// Returns whether the file at the path has to be checked now. The caller leaves that to others.
    pub(crate) fn is_path_check_due(&self) -> bool {
        coarse_millis().wrapping_sub(self.checked.load(Relaxed))
            >= self.options.staleness.as_millis() as u64
    }

    /// Returns whether this handle must check the path now, though no generation was marked.
    #[inline(always)]
    pub(crate) fn is_due_on_overlay(&self) -> bool {
        self.on_overlay && self.is_path_check_due()
    }

    /// Opens the files again on overlayfs if another process has written since the last check.
    /// Returns false if the generation is still current.
    fn follow_copy_up(&self, generation: &Generation) -> Result<bool> {
        if !self.claim_path_check() {
            return Ok(false);
        }
        // Files that were only removed stay readable.
        let Some(seen) = copy_up::index_at_path(&self.names)? else {
            return Ok(false);
        };
        let is_known = self.overlay_changes.swap(seen.changes, Relaxed) == seen.changes;
        if is_known && seen.inode == generation.inode {
            return Ok(false);
        }
        self.open_again(generation)?;
        Ok(true)
    }

    /// Opens the files again on overlayfs, for a reader that found corruption: a segment that was
    /// copied up since it was mapped lacks the records appended since. Returns false on other file
    /// systems.
    #[cold]
    pub(crate) fn reopen_on_overlay(&self) -> Result<bool> {
        if self.on_overlay {
            self.open_again(&self.generation.load_full())?;
        }
        Ok(self.on_overlay)
    }

    /// Opens the files again. The new generation may have the ids and inode of the stale one.
    fn open_again(&self, stale: &Generation) -> Result<()> {
        let fresh = Arc::new(self.open_fresh()?);
        self.generation.replace(|current| {
            let is_stale = std::ptr::eq(&**current, stale);
            Arc::clone(if is_stale { &fresh } else { current })
        });
        Ok(())
    }

    /// Returns when the path was last checked. A caller that sees another time loads the generation
    /// again.
    #[inline]
    pub(crate) fn path_checked_at(&self) -> u64 {
        self.checked.load(Relaxed)
    }

    /// Maps a segment that the generation lacks. Returns false if this generation has no such
    /// segment, or no longer has it.
    #[cold]
    pub(crate) fn map_segment(&self, generation: &Generation, number: u16) -> Result<bool> {
        let header = generation.header();
        let (oldest, last) = (header.oldest(), header.reserved().segment);
        if number < oldest || number > last {
            return Ok(false);
        }
        let Some(segment) = open::segment(generation, &self.names, number)? else {
            return Ok(false);
        };
        debug_assert_eq!(segment.number(), number);
        self.share_segment(generation, &segment);
        Ok(true)
    }

    /// Lets all readers of this handle use a segment that one of them has mapped.
    pub(crate) fn share_segment(&self, generation: &Generation, segment: &Arc<Segment>) {
        self.generation.replace(|current| {
            if current.ids == generation.ids && current.segment(segment.number()).is_none() {
                Arc::new(current.with_segment(Arc::clone(segment)))
            } else {
                Arc::clone(current)
            }
        });
    }

    /// Returns whether a live writer is at work, by the lock word.
    pub(crate) fn is_written(&self, generation: &Generation) -> Result<bool> {
        let inside = u32::try_from(generation.header().at_work()).unwrap_or(0);
        match &generation.lock {
            Some(lock) => lock::is_alive(lock.file(), inside)
                .map_err(Error::io(&self.path, "look for the owner of the lock")),
            None => Ok(false),
        }
    }

    /// Prepares the first write of a handle to an index, under its lock: checks that the heap is
    /// present, finishes the renames of an interrupted switch, and removes the files that one left.
    #[cold]
    pub(crate) fn prepare_first_write(&self, generation: &Generation) -> Result<()> {
        let (header, inode) = (generation.header(), generation.inode.1);
        if self.heap_found.load(Relaxed) != inode {
            heap_presence::check(generation, &self.names, self.boot)?;
            self.heap_found.store(inode, Relaxed);
        }
        // A power loss may have taken names of a cache that was never flushed.
        let is_unnamed = !header.is_flushed() && generation.is_from_elsewhere(self.boot);
        if header.renames_pending() || is_unnamed {
            finish_renames(&self.names, generation)?;
        }
        heap_presence::note_home(header, &self.names);
        if has_staged(&self.names)
            && let Err(error) = discard_staged(&self.names, Extent::of(header))
        {
            log::warn!("{error}: files of an interrupted rebuild are left");
        }
        self.prepared.store(inode, Relaxed);
        Ok(())
    }

    /// Returns the writer mutex of this process's threads.
    pub(crate) fn writer_mutex(&self) -> &WriterMutex {
        let (mut writer_mutex, epoch) = (&self.writer_mutex, lock::epoch());
        while writer_mutex.epoch != epoch {
            writer_mutex = match writer_mutex.next.get() {
                Some(next) => next,
                None => &**lock::set_once(&writer_mutex.next, || Box::new(WriterMutex::new())),
            };
        }
        writer_mutex
    }

    /// Counts events of a `Cache`.
    #[inline]
    pub(crate) fn count(&self, counter: Counter, more: u64) {
        if let Some(statistics) = &self.statistics
            && statistics.add(counter, more)
        {
            self.fold_statistics();
        }
    }

    /// Adds what was counted to the file, as far as it may be stored to.
    #[cold]
    pub(crate) fn fold_statistics(&self) {
        if let Some(statistics) = &self.statistics {
            statistics.fold(&self.generation.load());
        }
    }

    /// Counts a damaged entry.
    pub(crate) fn saw_damage(&self) {
        self.damaged.store(self.damaged.load(Relaxed) + 1, Relaxed);
    }
}

/// Refuses a file system that several machines may have mounted, unless the options allow it.
pub(crate) fn refuse_network(names: &FileNames, options: &Options) -> Result<()> {
    match names.shared_by_machines() {
        Some((path, what)) if !options.network => Err(ErrorKind::Unsupported { what }.at(path)),
        _ => Ok(()),
    }
}

fn open_or_create(names: &FileNames, options: &Options) -> Result<Generation> {
    let mut opened = open::generation(names, !options.read_only);
    if let Err(error) = &opened
        && error.is_corruption()
        && !options.read_only
    {
        create::restore_roster(names, options)?;
        opened = open::generation(names, true);
    }
    match opened {
        Ok(_) if options.create_new => Err(ErrorKind::AlreadyExists.at(&names.cache())),
        Err(error)
            if matches!(error.kind(), ErrorKind::NotFound)
                && ((options.create || options.create_new) && !options.read_only) =>
        {
            create::cache(names, options)
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound) => {
            // Whether the index is lost: another process may have created it since the attempt.
            // Without listing the directory: a process that waits for a cache may open it again and
            // again.
            let left = left_without_index(names, false)?;
            match open::generation(names, !options.read_only) {
                Err(error) if matches!(error.kind(), ErrorKind::NotFound) => {
                    Err(left.map_or(error, |path| create::index_lost(&path)))
                }
                other => other,
            }
        }
        other => other,
    }
}

/// Checks that the heap is at its path, before anything is written.
///
/// The caller holds no lock: a segment that seems to be missing may have been reclaimed or replaced
/// a moment ago.
fn with_heap(
    generation: Generation,
    names: &FileNames,
    options: &Options,
    boot: [u64; 2],
) -> Result<Generation> {
    let mut generation = generation;
    let mut checks = 0;
    loop {
        let words = |generation: &Generation| generation.header().heap_shape();
        let before = words(&generation);
        let error = match heap_presence::check_opened(&generation, names, boot) {
            Ok(()) => return Ok(generation),
            Err(error) => error,
        };
        let path = names.index(Stage::Final);
        let there = files::open(&path, false).and_then(|file| inode_of(&file, &path));
        let is_still =
            there.is_ok_and(|there| there == generation.inode) && words(&generation) == before;
        checks += 1;
        if is_still || checks > HEAP_CHECKS {
            return Err(error);
        }
        let existing = Options {
            create_new: false,
            ..options.clone()
        };
        generation = open_or_create(names, &existing)?;
    }
}
