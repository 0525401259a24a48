//! What a handle on a cache shares between its threads: the names, the options, and the generation in
//! use.
//!
//! Knows which generation is current and how to get to it: opening, creating, noticing that it was
//! superseded. It does not know how entries are looked up or changed.

use std::fmt;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption, Guard};

use crate::error::{Error, Result};
use crate::format::index::{Poll, word};
use crate::format::roster::RosterHeader;
use crate::format::seal::Sealed;
use crate::format::segment::SegmentHeader;
use crate::heap::Segment;
use crate::index::header::Header;
use crate::lock::{self, FileLock, Mutex, Patience, Refusal};
use crate::os::boot_id;
use crate::os::files::{self, Access, Names, Stage};
use crate::os::mmap::coarse_millis;
use crate::sync::{Relaxed, Word};

use crate::engine::clean::background::BackgroundTasks;
use crate::engine::copy_up;
use crate::engine::generation::{Generation, Ids, Plan, inode_of, refuse_foreign};
use crate::engine::heap_presence;
use crate::engine::options::Options;
use crate::engine::recovery::losses::Recovery;
use crate::engine::segment_numbers::{Extent, is_there};
use crate::engine::staging::{
    discard_listed, discard_staged, finish_renames, has_staged, left_without_index,
};
use crate::engine::version;
use crate::engine::write::mutator::Mutator;

/// One opened cache.
pub(crate) struct Handle {
    pub names: Arc<Names>,
    pub path: Arc<Path>,
    /// The path in a number, by which a thread knows the writers that it holds.
    pub id: u64,
    pub options: Options,
    pub generation: ArcSwap<Generation>,
    writer_mutex: WriterMutex,
    /// Damaged entries that this handle came by.
    pub damaged: Word,
    /// When the path was last looked at, in milliseconds of a coarse clock.
    looked: Word,
    /// Puts for which cleaning pauses after it could not go on.
    pub clean_pause: Word,
    /// Whether the idle mutator is of an older generation than the readers'.
    pub outdated: Word,
    pub boot: [u64; 2],
    /// Whether this handle has marked files as dirty.
    pub marked: Word,
    /// Whether files may be copied to another layer while this handle, which only reads, has them
    /// mapped; and the count of changes that it saw last.
    pub on_overlay: bool,
    pub overlay_changes: Word,
    /// The inode of an index that is a copy, and was found to agree with its heap.
    pub believed: Word,
    /// What became of the last recovery by this handle.
    pub recovered: ArcSwapOption<Recovery>,
    /// The inode of the index whose heap this handle has found at its path.
    pub heap_found: Word,
    /// The inode of the index for which this handle has done what a first write does.
    pub settled: Word,
}

/// What keeps the threads of one handle apart before they compete for the file lock.
#[derive(Debug)]
pub(crate) struct WriterMutex {
    /// The mutator that the last writer left, for the next one: what it consists of is counted by
    /// atomics, which wait for the stores of the last write (390 ns a single put, 670 without).
    pub idle: Mutex<Option<Mutator>>,
    /// Only the holder of the writer lock takes it.
    pub tasks: Mutex<BackgroundTasks>,
    epoch: u64,
    /// That of a forked child: the parent's may be held by a thread that does not exist there.
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
    /// What a forked child inherited, one of the parent's threads may have been in the midst of
    /// changing: it is left as it is.
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
    /// What `{:?}` shows of a handle and of what is made from it: one line, without anything that
    /// the files contain. Above all not the hash seed, on which resistance to chosen keys rests.
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
        let names = Names::resolve(path, options.heap_path.as_deref())?;
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
        Ok(Self {
            names: Arc::new(names),
            id: xxhash_rust::xxh3::xxh3_64(path.as_os_str().as_encoded_bytes()),
            path,
            options: options.clone(),
            generation: ArcSwap::from_pointee(generation),
            writer_mutex: WriterMutex::new(),
            damaged: Word::new(0),
            looked: Word::new(coarse_millis()),
            clean_pause: Word::new(0),
            outdated: Word::new(0),
            boot,
            marked: Word::new(0),
            on_overlay,
            overlay_changes: Word::new(0),
            believed: Word::new(0),
            recovered: ArcSwapOption::empty(),
            heap_found: Word::new(heap_found),
            settled: Word::new(0),
        })
    }

    /// The current generation and what its polled word said. A generation that was superseded is left for the
    /// new one.
    pub(crate) fn current(&self) -> Result<(Guard<Arc<Generation>>, Poll)> {
        let mut is_fresh = false;
        loop {
            let generation = self.generation.load();
            let Some(poll) = self.poll(&generation)? else {
                continue;
            };
            // A file there may have grown behind what its mapping can count on.
            if !self.on_overlay || is_fresh || !generation.lacks_positions() {
                return Ok((generation, poll));
            }
            self.reopen_on_overlay()?;
            is_fresh = true;
        }
    }

    /// What the polled word of a loaded generation says. None where the generation is not the current one any
    /// more, because it was superseded.
    ///
    /// Apart from the loading, so that a lookup has the generation where it was loaded to: a guard that is
    /// handed on goes through memory, is stored in two pieces and loaded in one, for which the
    /// processor waits until all before is done (a miss took 49 ns so, and takes 36).
    #[inline(always)]
    pub(crate) fn poll(&self, generation: &Generation) -> Result<Option<Poll>> {
        let poll = generation.header().poll();
        if !poll.superseded() && !self.is_due_on_overlay() {
            return Ok(Some(poll));
        }
        self.poll_again(generation, poll)
    }

    #[cold]
    fn poll_again(&self, generation: &Generation, poll: Poll) -> Result<Option<Poll>> {
        if self.on_overlay && self.follow_copy_up(generation)? {
            return Ok(None);
        }
        if !poll.superseded() {
            return Ok(Some(poll));
        }
        self.reopen_if_replaced()?;
        // Where it is still the current one, the switch is not yet committed, and the old generation
        // is the one that counts.
        let is_current = std::ptr::eq(&**self.generation.load(), generation);
        Ok(is_current.then(|| poll.with_superseded(false)))
    }

    /// Opens the index anew if another inode stands at the path.
    #[cold]
    pub(crate) fn reopen_if_replaced(&self) -> Result<()> {
        let stale = self.generation.load_full();
        if self.inode_at_path()? == Some(stale.inode) {
            return Ok(());
        }
        self.reopen(&stale)
    }

    /// Opens whatever stands at the path now, in place of a generation that is of no more use.
    pub(crate) fn reopen(&self, stale: &Generation) -> Result<()> {
        self.adopt(stale, Arc::new(self.open_anew()?));
        Ok(())
    }

    pub(crate) fn open_anew(&self) -> Result<Generation> {
        if self.options.read_only {
            return Generation::open(&self.names, false);
        }
        let options = Options {
            create_new: false,
            ..self.options.clone()
        };
        open_or_create(&self.names, &options)
    }

    /// Puts a generation that was opened meanwhile in the place of a stale one.
    ///
    /// A writer of this handle may have switched since, and more than once: its generation holds the
    /// lock, and must stay.
    pub(crate) fn adopt(&self, stale: &Generation, generation: Arc<Generation>) {
        self.generation.rcu(|current| {
            let is = |other: &Generation| current.ids == other.ids && current.inode == other.inode;
            let newer = !is(stale) || is(&generation);
            let usable = current.lock.as_ref().is_none_or(|lock| lock.is_own());
            Arc::clone(if newer && usable {
                current
            } else {
                &generation
            })
        });
        // Else the old files would stay mapped until the next write. A writer that is at work leaves
        // its mutator behind all the same: it is not to be gone on with.
        self.outdated.store(1, Relaxed);
        if let Some(mut idle) = self.writer_mutex().idle.try_lock() {
            *idle = None;
        }
    }

    /// Device and inode at the cache's path; none where nothing is.
    pub(crate) fn inode_at_path(&self) -> Result<Option<(u64, u64)>> {
        #[cfg(loom)]
        crate::sync::loom_model::system_call();
        match std::fs::metadata(&self.path) {
            Ok(meta) => Ok(Some((meta.dev(), meta.ino()))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(&self.path, "look at the path")(error)),
        }
    }

    /// Whether it is time to look at the path again: at most once in each staleness interval. Who
    /// asks looks, then.
    #[inline]
    pub(crate) fn due_for_look(&self) -> bool {
        let due = self.is_due_for_look();
        if due {
            self.looked.store(coarse_millis(), Relaxed);
        }
        due
    }

    /// The same, for who leaves the look to others.
    pub(crate) fn is_due_for_look(&self) -> bool {
        coarse_millis().wrapping_sub(self.looked.load(Relaxed))
            >= self.options.staleness.as_millis() as u64
    }

    /// Whether this handle must look at the path now, though nothing was marked.
    #[inline(always)]
    pub(crate) fn is_due_on_overlay(&self) -> bool {
        self.on_overlay && self.is_due_for_look()
    }

    /// On overlayfs, opens the files anew if another process has written since the last look. False
    /// where the generation can be used on.
    fn follow_copy_up(&self, generation: &Generation) -> Result<bool> {
        if !self.due_for_look() {
            return Ok(false);
        }
        // Files that were only removed stay readable.
        let Some(seen) = copy_up::look(&self.names)? else {
            return Ok(false);
        };
        let is_known = self.overlay_changes.swap(seen.changes, Relaxed) == seen.changes;
        if is_known && seen.inode == generation.inode {
            return Ok(false);
        }
        self.open_again(generation)?;
        Ok(true)
    }

    /// Opens the files anew on overlayfs, for a reader that found damage: a segment that was copied
    /// up since it was mapped lacks what was appended to it. False elsewhere.
    #[cold]
    pub(crate) fn reopen_on_overlay(&self) -> Result<bool> {
        if self.on_overlay {
            self.open_again(&self.generation.load_full())?;
        }
        Ok(self.on_overlay)
    }

    /// Opens the files anew. By ids and inode the new generation may be the same as the stale one.
    fn open_again(&self, stale: &Generation) -> Result<()> {
        let fresh = Arc::new(self.open_anew()?);
        self.generation.rcu(|current| {
            let is_stale = std::ptr::eq(&**current, stale);
            Arc::clone(if is_stale { &fresh } else { current })
        });
        Ok(())
    }

    /// When the path was last looked at: who finds it changed loads the generation anew.
    #[inline]
    pub(crate) fn looked(&self) -> u64 {
        self.looked.load(Relaxed)
    }

    /// Maps a segment that the generation lacks. False where this generation has no such segment (any
    /// more).
    #[cold]
    pub(crate) fn map_segment(&self, generation: &Generation, number: u16) -> Result<bool> {
        let header = generation.header();
        let (oldest, last) = (header.oldest(), header.reserved().segment);
        if number < oldest || number > last {
            return Ok(false);
        }
        let Some(segment) = generation.open_segment(&self.names, number)? else {
            return Ok(false);
        };
        self.share_segment(generation, &segment);
        Ok(true)
    }

    /// Lets all readers of this handle use a segment that was mapped for one.
    pub(crate) fn share_segment(&self, generation: &Generation, segment: &Arc<Segment>) {
        self.generation.rcu(|current| {
            if current.ids == generation.ids && current.segment(segment.number()).is_none() {
                Arc::new(current.with_segment(Arc::clone(segment)))
            } else {
                Arc::clone(current)
            }
        });
    }

    /// Whether a living writer is at work, as far as the lock word tells.
    pub(crate) fn is_written(&self, generation: &Generation) -> Result<bool> {
        let inside = u32::try_from(generation.header().get(word::INSIDE)).unwrap_or(0);
        match &generation.lock {
            Some(lock) => lock::is_alive(lock.file(), inside)
                .map_err(Error::io(&self.path, "look for the owner of the lock")),
            None => Ok(false),
        }
    }

    /// Does what the first write of a handle to an index does, under its lock: looks whether the
    /// heap is there, finishes an interrupted switch, and removes what one left.
    #[cold]
    pub(crate) fn settle(&self, generation: &Generation) -> Result<()> {
        let (header, inode) = (generation.header(), generation.inode.1);
        if self.heap_found.load(Relaxed) != inode {
            heap_presence::check(generation, &self.names, self.boot)?;
            self.heap_found.store(inode, Relaxed);
        }
        if header.get(word::RENAMES_PENDING) != 0 {
            finish_renames(&self.names, generation)?;
        }
        heap_presence::note_home(header, &self.names);
        if has_staged(&self.names)
            && let Err(error) = discard_staged(&self.names, Extent::of(header))
        {
            log::warn!("{error}: files of an interrupted rebuild are left");
        }
        self.settled.store(inode, Relaxed);
        Ok(())
    }

    /// The writer_mutex of this process's threads.
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

    pub(crate) fn saw_damage(&self) {
        self.damaged.store(self.damaged.load(Relaxed) + 1, Relaxed);
    }
}

/// Refuses a file system that several machines may have mounted, unless the caller vouches for it.
pub(crate) fn refuse_network(names: &Names, options: &Options) -> Result<()> {
    match names.shared_by_machines() {
        Some((path, what)) if !options.network => Err(Error::Unsupported {
            path: path.to_owned(),
            what,
        }),
        _ => Ok(()),
    }
}

fn open_or_create(names: &Names, options: &Options) -> Result<Generation> {
    let opened = Generation::open(names, !options.read_only);
    match opened {
        Ok(_) if options.create_new => Err(Error::AlreadyExists {
            path: names.cache().to_owned(),
        }),
        Err(Error::NotFound { .. })
            if (options.create || options.create_new) && !options.read_only =>
        {
            create(names, options)
        }
        Err(error @ Error::NotFound { .. }) => {
            // Whether the index is lost: its files may have come since it was looked for.
            // No listing: whoever waits for a cache may open it again and again.
            let left = left_without_index(names, false)?;
            match Generation::open(names, !options.read_only) {
                Err(Error::NotFound { .. }) => Err(left.map_or(error, |path| index_lost(&path))),
                other => other,
            }
        }
        other => other,
    }
}

/// Looks whether the heap is where it must be, before anything is written.
///
/// No lock is held: what seems to be missing may have been cleaned or replaced a moment ago.
fn with_heap(
    generation: Generation,
    names: &Names,
    options: &Options,
    boot: [u64; 2],
) -> Result<Generation> {
    let mut generation = generation;
    let mut tries = 0;
    loop {
        let words = |generation: &Generation| {
            let header = generation.header();
            [word::POLL, word::OLDEST, word::CURSOR, word::TAIL].map(|at| header.get(at))
        };
        let before = words(&generation);
        let error = match heap_presence::check(&generation, names, boot) {
            Ok(()) => return Ok(generation),
            Err(error) => error,
        };
        let path = names.index(Stage::Final);
        let there = files::open(&path, false).and_then(|file| inode_of(&file, &path));
        let is_still =
            there.is_ok_and(|there| there == generation.inode) && words(&generation) == before;
        tries += 1;
        if is_still || tries > 100 {
            return Err(error);
        }
        let existing = Options {
            create_new: false,
            ..options.clone()
        };
        generation = open_or_create(names, &existing)?;
    }
}

fn index_lost(path: &Path) -> Error {
    let what = "a file of a cache whose index is missing (repair the cache, or remove its files)";
    Error::damaged(path, what, 0)
}

/// Creates the cache, unless somebody else did meanwhile.
fn create(names: &Names, options: &Options) -> Result<Generation> {
    let was_used = is_there(&names.lock());
    let _creation = lock_creation(names, options)?;
    match Generation::open(names, true) {
        Err(Error::NotFound { .. }) => {}
        Ok(_) if options.create_new => {
            return Err(Error::AlreadyExists {
                path: names.cache().to_owned(),
            });
        }
        other => return other,
    }
    refuse_foreign(&names.roster(Stage::Final), RosterHeader::MAGIC)?;
    let heap = names.segment(0, Stage::Final);
    refuse_foreign(&heap, SegmentHeader::MAGIC)?;
    if let Some(path) = left_without_index(names, was_used)? {
        return Err(index_lost(&path));
    }
    if was_used {
        // An interrupted copy or a power loss may have left any number.
        discard_listed(names)?;
    } else {
        discard_staged(names, Extent::NONE)?;
    }
    let made = make(names, options);
    if made.is_err() {
        // The first error is the one to report; what is left behind is removed by the next.
        let _ = discard_staged(names, Extent::NONE);
    }
    // From here on it is a cache, whose files get their names from the next writer if not here.
    let generation = made?;
    finish_renames(names, &generation)?;
    generation.unlock();
    drop(generation);
    Generation::open(names, true)
}

/// Makes the files of an empty cache, and gives the index its name: that makes it one. The lock for
/// that is held.
fn make(names: &Names, options: &Options) -> Result<Generation> {
    let geometry = options.geometry(names.cache())?;
    let plan = Plan {
        capacity: options.capacity_within(&geometry, names.cache())?,
        geometry,
        hash_kind: options.hash_kind,
        seed: random(),
        ids: Ids {
            cache: random_id(),
            generation: 1,
            heap: random(),
            roster: random(),
        },
        created: version::now(),
        lock: options.lock_kind(),
        access: Access::new(options.mode),
    };
    let generation = Generation::create(names, &plan)?.with_first_segment(names, &plan.access)?;
    generation.header().set(word::RENAMES_PENDING, 1);
    Extent::NONE.set_replaced(generation.header());
    generation.sync_heap()?;
    generation.sync_index()?;
    names.sync_dirs()?;
    // From the rename on others can open it, and even replace it: not before its files have their
    // names.
    if let Some(lock) = &generation.lock {
        acquire(
            lock,
            Some(generation.header()),
            &Patience::new(Some(Duration::ZERO)),
            names,
        )?;
        generation.note_visit();
    }
    files::rename_new(&names.index(Stage::New), &names.index(Stage::Final))?;
    Ok(generation)
}

/// Takes the lock under which caches are created and repaired; it goes with its guard.
pub(crate) fn lock_creation(names: &Names, options: &Options) -> Result<FileLock> {
    let path = names.lock();
    let lock = FileLock::of_file(|| files::open_lock(&path, options.mode))?;
    acquire(&lock, None, &Patience::new(options.lock_timeout), names)?;
    Ok(lock)
}

/// Waits for a lock that no handle has.
pub(crate) fn acquire(
    lock: &FileLock,
    header: Option<Header<'_>>,
    patience: &Patience,
    names: &Names,
) -> Result<()> {
    lock.acquire(header.map(|header| header.lock_words()), patience)
        .map_err(|refusal| match refusal {
            Refusal::TimedOut => Error::Locked {
                path: names.cache().to_owned(),
                waited: patience.waited(),
                holder: header.and_then(|header| header.holder()),
            },
            Refusal::Io(error) => Error::io(names.cache(), "lock the cache")(error),
        })
}

/// A number that nobody can foresee; never zero.
pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    fill_random(&mut bytes);
    u64::from_le_bytes(bytes).max(1)
}

fn random_id() -> [u8; 16] {
    let mut bytes = [0; 16];
    fill_random(&mut bytes);
    bytes
}

/// A fuzzer's finding must come again: ids and seeds are counted, not drawn.
#[cfg(fuzzing)]
fn fill_random(bytes: &mut [u8]) {
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&crate::fuzzing::next_random().to_le_bytes()[..chunk.len()]);
    }
}

#[cfg(all(target_os = "linux", not(any(fuzzing, loom))))]
fn fill_random(bytes: &mut [u8]) {
    let got = rustix::rand::getrandom(&mut *bytes, rustix::rand::GetRandomFlags::empty());
    if got != Ok(bytes.len()) {
        fill_from_hasher(bytes);
    }
}

#[cfg(not(any(target_os = "linux", fuzzing, loom)))]
fn fill_random(bytes: &mut [u8]) {
    fill_from_hasher(bytes);
}

#[cfg(loom)]
fn fill_random(bytes: &mut [u8]) {
    for chunk in bytes.chunks_mut(8) {
        let number = crate::sync::loom_model::number();
        chunk.copy_from_slice(&number.to_le_bytes()[..chunk.len()]);
    }
}

/// The standard library's hash maps are seeded by the system; so is this.
#[cfg(not(any(fuzzing, loom)))]
fn fill_from_hasher(bytes: &mut [u8]) {
    use std::hash::{BuildHasher, Hasher};
    for chunk in bytes.chunks_mut(8) {
        let mut hasher = std::hash::RandomState::new().build_hasher();
        hasher.write_u64(version::now());
        chunk.copy_from_slice(&hasher.finish().to_le_bytes()[..chunk.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ() {
        assert_ne!(random(), random());
        assert_ne!(random_id(), random_id());
    }
}
