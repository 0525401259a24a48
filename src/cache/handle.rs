//! What a handle on a cache shares between its threads: the names, the options, and the view in
//! use.
//!
//! Knows which generation is current and how to get to it: opening, creating, noticing that it was
//! superseded. It does not know how entries are looked up or changed.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use parking_lot::Mutex;

use crate::boot;
use crate::dir::{self, Access, Names, Stage};
use crate::error::{Error, Result};
use crate::format::index::{IndexHeader, Poll, word};
use crate::format::roster::RosterHeader;
use crate::format::seal::{self, Fault, Sealed};
use crate::format::segment::SegmentHeader;
use crate::header::Header;
use crate::heap::Segment;
use crate::lock::{self, FileLock, Patience, Refusal};
use crate::sync::{Relaxed, Word};

use super::editor::Editor;
use super::errand::Errands;
use super::loss::Recovery;
use super::options::Options;
use super::version;
use super::view::{Ids, Plan, View, refusal, refuse_foreign};

/// One opened cache.
#[derive(Debug)]
pub(crate) struct Handle {
    pub names: Arc<Names>,
    pub path: Arc<Path>,
    /// The path in a number, by which a thread knows the writers that it holds.
    pub id: u64,
    pub options: Options,
    pub view: ArcSwap<View>,
    gate: Gate,
    /// Damaged entries that this handle came by.
    pub damaged: Word,
    /// When the path was last looked at, in milliseconds of a coarse clock.
    looked: Word,
    /// Puts for which cleaning pauses after it could not go on.
    pub clean_pause: Word,
    /// Whether the idle editor is of an older view than the readers'.
    pub outdated: Word,
    pub boot: [u64; 2],
    /// Whether this handle has marked files as dirty.
    pub marked: Word,
    /// The inode of an index that is a copy, and was found to agree with its heap.
    pub believed: Word,
    /// What became of the last recovery by this handle.
    pub recovered: ArcSwapOption<Recovery>,
}

/// What keeps the threads of one handle apart before they compete for the file lock.
#[derive(Debug)]
pub(crate) struct Gate {
    /// The editor that the last writer left, for the next one: what it consists of is counted by
    /// atomics, which wait for the stores of the last write (390 ns a single put, 670 without).
    pub idle: Mutex<Option<Editor>>,
    /// Only the holder of the writer lock takes it.
    pub errands: Mutex<Errands>,
    epoch: u64,
    /// That of a forked child: the parent's may be held by a thread that does not exist there.
    next: OnceLock<Box<Gate>>,
}

impl Gate {
    fn new() -> Self {
        Self {
            idle: Mutex::new(None),
            errands: Mutex::default(),
            epoch: lock::epoch(),
            next: OnceLock::new(),
        }
    }
}

impl Drop for Gate {
    /// What a forked child inherited, one of the parent's threads may have been in the midst of
    /// changing: it is left as it is.
    fn drop(&mut self) {
        if self.epoch != lock::epoch() {
            std::mem::forget(self.idle.get_mut().take());
            std::mem::forget(std::mem::take(self.errands.get_mut()));
        }
    }
}

impl Handle {
    pub(crate) fn open(path: &Path, options: &Options) -> Result<Self> {
        let names = Names::resolve(path, options.heap_path.as_deref())?;
        refuse_network(&names, options)?;
        let view = open_or_create(&names, options)?;
        options.accept(view.table.geometry(), names.cache())?;
        let path: Arc<Path> = Arc::from(names.cache());
        Ok(Self {
            names: Arc::new(names),
            id: xxhash_rust::xxh3::xxh3_64(path.as_os_str().as_encoded_bytes()),
            path,
            options: options.clone(),
            view: ArcSwap::from_pointee(view),
            gate: Gate::new(),
            damaged: Word::new(0),
            looked: Word::new(coarse_millis()),
            clean_pause: Word::new(0),
            outdated: Word::new(0),
            boot: boot::id()?,
            marked: Word::new(0),
            believed: Word::new(0),
            recovered: ArcSwapOption::empty(),
        })
    }

    /// The current view and what its polled word said. A view that was superseded is left for the
    /// new one.
    pub(crate) fn current(&self) -> Result<(Guard<Arc<View>>, Poll)> {
        loop {
            let view = self.view.load();
            if let Some(poll) = self.poll(&view)? {
                return Ok((view, poll));
            }
        }
    }

    /// What the polled word of a loaded view says. None where the view is not the current one any
    /// more, because it was superseded.
    ///
    /// Apart from the loading, so that a lookup has the view where it was loaded to: a guard that is
    /// handed on goes through memory, is stored in two pieces and loaded in one, for which the
    /// processor waits until all before is done (a miss took 49 ns so, and takes 36).
    #[inline(always)]
    pub(crate) fn poll(&self, view: &View) -> Result<Option<Poll>> {
        let poll = view.header().poll();
        if !poll.superseded() {
            return Ok(Some(poll));
        }
        self.poll_superseded(view, poll)
    }

    #[cold]
    fn poll_superseded(&self, view: &View, poll: Poll) -> Result<Option<Poll>> {
        self.reopen_if_replaced()?;
        // Where it is still the current one, the switch is not yet committed, and the old generation
        // is the one that counts.
        let is_current = std::ptr::eq(&**self.view.load(), view);
        Ok(is_current.then(|| poll.with_superseded(false)))
    }

    /// Opens the index anew if another inode stands at the path.
    #[cold]
    pub(crate) fn reopen_if_replaced(&self) -> Result<()> {
        let stale = self.view.load_full();
        if self.inode_at_path()? == Some(stale.inode) {
            return Ok(());
        }
        self.reopen(&stale)
    }

    /// Opens whatever stands at the path now, in place of a view that is of no more use.
    pub(crate) fn reopen(&self, stale: &View) -> Result<()> {
        self.adopt(stale, Arc::new(self.open_anew()?));
        Ok(())
    }

    pub(crate) fn open_anew(&self) -> Result<View> {
        if self.options.read_only {
            return View::open(&self.names, false);
        }
        let options = Options {
            create_new: false,
            ..self.options.clone()
        };
        open_or_create(&self.names, &options)
    }

    /// Puts a view that was opened meanwhile in the place of a stale one.
    ///
    /// A writer of this handle may have switched since, and more than once: its view holds the
    /// lock, and must stay.
    pub(crate) fn adopt(&self, stale: &View, view: Arc<View>) {
        self.view.rcu(|current| {
            let is = |other: &View| current.ids == other.ids && current.inode == other.inode;
            let newer = !is(stale) || is(&view);
            let usable = current.lock.as_ref().is_none_or(|lock| lock.is_own());
            Arc::clone(if newer && usable { current } else { &view })
        });
        // Else the old files would stay mapped until the next write. A writer that is at work leaves
        // its editor behind all the same: it is not to be gone on with.
        self.outdated.store(1, Relaxed);
        if let Some(mut idle) = self.gate().idle.try_lock() {
            *idle = None;
        }
    }

    /// Device and inode at the cache's path; none where nothing is.
    pub(crate) fn inode_at_path(&self) -> Result<Option<(u64, u64)>> {
        #[cfg(loom)]
        crate::sync::modelled::system_call();
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

    /// When the path was last looked at: who finds it changed loads the view anew.
    #[inline]
    pub(crate) fn looked(&self) -> u64 {
        self.looked.load(Relaxed)
    }

    /// Maps a segment that the view lacks. False where this generation has no such segment (any
    /// more).
    #[cold]
    pub(crate) fn map_segment(&self, view: &View, number: u16) -> Result<bool> {
        let header = view.header();
        let (oldest, last) = (header.oldest(), header.reserved().segment);
        if number < oldest || number > last {
            return Ok(false);
        }
        let Some(segment) = view.open_segment(&self.names, number)? else {
            return Ok(false);
        };
        self.share_segment(view, &segment);
        Ok(true)
    }

    /// Lets all readers of this handle use a segment that was mapped for one.
    pub(crate) fn share_segment(&self, view: &View, segment: &Arc<Segment>) {
        self.view.rcu(|current| {
            if current.ids == view.ids && current.segment(segment.number()).is_none() {
                Arc::new(current.with_segment(Arc::clone(segment)))
            } else {
                Arc::clone(current)
            }
        });
    }

    /// Whether a living writer is at work, as far as the lock word tells.
    pub(crate) fn is_written(&self, view: &View) -> Result<bool> {
        let inside = u32::try_from(view.header().get(word::INSIDE)).unwrap_or(0);
        match &view.lock {
            Some(lock) => lock::is_alive(lock.file(), inside)
                .map_err(Error::io(&self.path, "look for the owner of the lock")),
            None => Ok(false),
        }
    }

    /// The gate of this process's threads.
    pub(crate) fn gate(&self) -> &Gate {
        let (mut gate, epoch) = (&self.gate, lock::epoch());
        while gate.epoch != epoch {
            gate = gate.next.get_or_init(|| Box::new(Gate::new()));
        }
        gate
    }

    pub(crate) fn saw_damage(&self) {
        self.damaged.store(self.damaged.load(Relaxed) + 1, Relaxed);
    }
}

/// Refuses a network file system, unless the caller vouches for it.
pub(crate) fn refuse_network(names: &Names, options: &Options) -> Result<()> {
    if options.network || !dir::on_network(names.cache()) {
        return Ok(());
    }
    let what = "on a network file system, whose mappings and locks machines do not share; move \
                the cache to a local one, or open it with `allow_network(true)`";
    Err(Error::Unsupported {
        path: names.cache().to_owned(),
        what,
    })
}

fn open_or_create(names: &Names, options: &Options) -> Result<View> {
    let opened = View::open(names, !options.read_only);
    match opened {
        Ok(_) if options.create_new => Err(Error::AlreadyExists {
            path: names.cache().to_owned(),
        }),
        Err(Error::NotFound { .. })
            if (options.create || options.create_new) && !options.read_only =>
        {
            create(names, options)
        }
        other => other,
    }
}

/// Creates the cache, unless somebody else did meanwhile.
fn create(names: &Names, options: &Options) -> Result<View> {
    let _creation = lock_creation(names, options)?;
    match View::open(names, true) {
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
    if let Some(&(number, _)) = names
        .segments()?
        .iter()
        .find(|&&(_, stage)| stage == Stage::Final)
    {
        let path = names.segment(number, Stage::Final);
        if dir::is_ours(&path, SegmentHeader::MAGIC)? {
            read_sealed::<SegmentHeader>(&path)?;
            return Err(Error::damaged(
                &path,
                "a heap whose index is missing (repair the cache, or remove it)",
                0,
            ));
        }
    }
    discard_staged(names)?;
    let made = make(names, options);
    if made.is_err() {
        // The first error is the one to report; what is left behind is removed by the next.
        let _ = discard_staged(names);
    }
    // From here on it is a cache, whose files get their names from the next writer if not here.
    let view = made?;
    finish_renames(names, &view)?;
    view.unlock();
    drop(view);
    View::open(names, true)
}

/// Makes the files of an empty cache, and gives the index its name: that makes it one. The lock for
/// that is held.
fn make(names: &Names, options: &Options) -> Result<View> {
    let plan = Plan {
        geometry: options.geometry(names.cache())?,
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
        capacity: options.capacity,
        access: Access {
            mode: options.mode,
            owner: None,
        },
    };
    let view = View::create(names, &plan)?.with_first_segment(names, plan.access)?;
    view.header().set(word::RENAMES_PENDING, 1);
    view.sync_heap()?;
    view.sync_index()?;
    names.sync_dirs()?;
    // From the rename on others can open it, and even replace it: not before its files have their
    // names.
    if let Some(lock) = &view.lock {
        acquire(
            lock,
            Some(view.header()),
            &Patience::new(Some(Duration::ZERO)),
            names,
        )?;
        view.note_visit();
    }
    dir::rename_new(&names.index(Stage::New), &names.index(Stage::Final))?;
    Ok(view)
}

/// Takes the lock under which caches are created and repaired; it goes with its guard.
pub(crate) fn lock_creation(names: &Names, options: &Options) -> Result<FileLock> {
    let path = names.lock();
    let lock = FileLock::of_file(|| dir::open_lock(&path, options.mode))?;
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

/// Removes what an interrupted creation or switch left under preliminary names.
pub(crate) fn discard_staged(names: &Names) -> Result<()> {
    dir::remove_stale(&names.index(Stage::New), IndexHeader::MAGIC)?;
    dir::remove_stale(&names.roster(Stage::New), RosterHeader::MAGIC)?;
    for (number, stage) in names.segments()? {
        if stage == Stage::New {
            dir::remove_stale(&names.segment(number, stage), SegmentHeader::MAGIC)?;
        }
    }
    Ok(())
}

/// Gives the files of a committed generation their final names and removes those of the one before
/// it.
///
/// The index names the ids of its files, so this can be done by whoever comes next, at any time,
/// and again.
pub(crate) fn finish_renames(names: &Names, view: &View) -> Result<()> {
    // Whoever committed may have been killed before this: the commit must be on the disk before
    // anything that the old generation needs is gone.
    view.header().note_sync(names.sync_index_dir())?;
    // A rename moves the time of the file.
    view.note_visit();
    let ids = view.ids;
    let roster = names.roster(Stage::New);
    if roster_id(&roster, ids.cache)? == Some(ids.roster) {
        dir::rename(&roster, &names.roster(Stage::Final))?;
    }
    let all = names.segments()?;
    let heap_of = |number, stage| heap_id(&names.segment(number, stage), ids.cache);
    for &(number, stage) in &all {
        if stage == Stage::Final && heap_of(number, stage)?.is_some_and(|heap| heap != ids.heap) {
            dir::remove(&names.segment(number, stage))?;
        }
    }
    for &(number, stage) in &all {
        if stage == Stage::New {
            let path = names.segment(number, stage);
            match heap_of(number, stage)? {
                Some(heap) if heap == ids.heap => {
                    dir::rename(&path, &names.segment(number, Stage::Final))?
                }
                _ => dir::remove_stale(&path, SegmentHeader::MAGIC)?,
            }
        }
    }
    view.note_visit();
    names.sync_dirs()?;
    view.note_visit();
    view.header().set(word::RENAMES_PENDING, 0);
    Ok(())
}

/// The heap that a segment file of this cache belongs to.
fn heap_id(path: &Path, cache_id: [u8; 16]) -> Result<Option<u64>> {
    let header = read_sealed::<SegmentHeader>(path)?;
    Ok(header
        .filter(|header| header.cache_id == cache_id)
        .map(|header| header.heap_id))
}

/// The id of a roster file of this cache.
fn roster_id(path: &Path, cache_id: [u8; 16]) -> Result<Option<u64>> {
    let header = read_sealed::<RosterHeader>(path)?;
    Ok(header
        .filter(|header| header.cache_id == cache_id)
        .map(|header| header.roster_id))
}

/// The header of a file; none where it is not there, or not of this kind. That it cannot be opened,
/// or is of another release, does not mean so: what is taken for nobody's is removed.
pub(crate) fn read_sealed<T: Sealed>(path: &Path) -> Result<Option<T>> {
    use std::os::unix::fs::FileExt as _;
    let file = match dir::open(path, false) {
        Ok(file) => file,
        Err(error) if error.is_absent() || error.is_corruption() => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; size_of::<T>()];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => match seal::open(&bytes) {
            Ok(header) => Ok(Some(header)),
            Err(fault @ (Fault::Version(_) | Fault::Flags(_))) => Err(refusal(path, "", fault)),
            Err(_) => Ok(None),
        },
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(Error::io(path, "read the header")(error)),
    }
}

/// Milliseconds of a clock that costs a few nanoseconds to read.
#[inline]
fn coarse_millis() -> u64 {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::MonotonicCoarse;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(clock);
    time.tv_sec as u64 * 1_000 + time.tv_nsec as u64 / 1_000_000
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
        let number = crate::sync::modelled::number();
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
