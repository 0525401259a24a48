//! Copies a cache while other processes write to it.
//!
//! The heap is a log: its records up to a place are the contents of the cache at one snapshot. A copy
//! captures such a moment without a lock, copies the heap, and rebuilds index and roster from it. May
//! call `recovery::from_heap`, `switch`, `read` and everything below them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Corruption, ErrorKind, Result};
use crate::format::heap_addr::HeapAddr;
use crate::format::index::{IndexHeader, word};
use crate::format::record::Kind;
use crate::heap::Segment;
use crate::lock::{self, FileLock};
use crate::os::file_names::{FileNames, Stage};
use crate::os::files::{self, Access};
use crate::os::mapped_file::MappedFile;
use crate::os::random;
use crate::os::reflink::clone_start;
use crate::sync::acquire_fence;

use crate::engine::clean::state;
use crate::engine::create::{self, Plan};
use crate::engine::file_header::read_sealed;
use crate::engine::generation::{Generation, Ids};
use crate::engine::handle::{Handle, refuse_network};
use crate::engine::heap_presence;
use crate::engine::ids;
use crate::engine::locking::lock_creation;
use crate::engine::options::Options;
use crate::engine::progress::Progress;
use crate::engine::read::cursor::with_all_segments;
use crate::engine::read::expected_count::ExpectedCount;
use crate::engine::read::lookup::{self, Answer};
use crate::engine::recovery::from_heap::{Damage, Salvage, read_heap};
use crate::engine::segment_numbers::{Extent, is_there, left_segment};
use crate::engine::staging::{DiscardOnPanic, discard_listed, discard_staged, finish_renames};
use crate::engine::switch::{self, commit_new, give_up, map_known};
use crate::engine::write::durability;
use crate::engine::write::heap_end;
use crate::engine::write::mutator::{Mutator, WriteResult};
use crate::engine::write::session::Session;

/// Attempts to capture a snapshot while generations are replaced.
const ATTEMPTS: u32 = 1_000;
/// Attempts that all miss the same segment, after which it counts as lost.
const ATTEMPTS_TO_OPEN: u32 = 20;
/// Attempts to find a moment without a writer at work, at which entries are counted exactly.
const ATTEMPTS_AT_REST: u32 = 1_000;

/// An online backup: copies a cache while other threads and processes read and write it. Made by
/// [`MmapCache::backup`](crate::MmapCache::backup) and [`Labels::backup`](crate::Labels::backup).
///
/// The backup has the contents of the cache at one moment between the call of [`to`](Self::to) and its
/// return, usually near its beginning: every change that returned before the call is in it, with its
/// version, and none that began after the return. It locks no process out and changes nothing in the
/// cache, so a read-only handle is enough. Writers may overwrite, clean, grow and rebuild during it. (Of a
/// cache with [`Options::in_place`] it takes the writer lock while it opens the files, and needs a handle
/// that may write.)
///
/// The backup is a cache of its own, clean and synced, with the original's options, labels, ids and
/// gaps between ids. Later changes of one do not affect the other.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let cache = mmapcache::MmapCache::open(dir.path().join("c"))?;
/// use mmapcache::MmapCache;
///
/// cache.put(b"k", b"v")?;
/// let report = cache.backup().to(dir.path().join("backup"))?;
/// assert_eq!(report.entries, 1);
/// let backup = MmapCache::open(dir.path().join("backup"))?;
/// assert_eq!(backup.entry(b"k")?, cache.entry(b"k")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Backup<'a> {
    handle: &'a Handle,
    options: Options,
    losses: bool,
    progress: Box<dyn FnMut(Progress) + 'a>,
    epoch: u64,
}

/// The result of a [`Backup`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// Live entries of the backup.
    pub entries: u64,
    /// Live entries that the original counted at that moment; `None` if a writer was at work. If it
    /// counted more than [`entries`](Self::entries), a part of the original is damaged or missing.
    pub entries_before: Option<u64>,
    /// Records in the heap of the backup, dead records and deletions included.
    pub records: u64,
    /// Bytes of the heap of the backup.
    pub heap_bytes: u64,
    /// Bytes of the original's heap that should hold records and do not verify. The backup lacks what
    /// they held: for a key whose newest record was damaged it may have an older value, as after a
    /// [`Repair`](crate::Repair).
    pub damaged_bytes: u64,
    /// Bytes that take no room of their own, because the file system shares their blocks (reflink).
    pub shared_bytes: u64,
}

/// A heap at one snapshot. M3, W2: nothing before its end ever changes. Files that are removed stay as long
/// as they are open.
struct Snapshot {
    generation: Arc<Generation>,
    end: HeapAddr,
    /// The number of entries; `None` if a writer was at work.
    entries: Option<u64>,
    /// The fewest entries that there can have been.
    least: u64,
    /// Ids that had been assigned or given up, in a cache of labels.
    given: u64,
}

impl<'a> Backup<'a> {
    pub(crate) fn new(handle: &'a Handle) -> Self {
        Self {
            handle,
            options: Options::new(),
            losses: false,
            progress: Box::new(|_| {}),
            epoch: lock::epoch(),
        }
    }

    /// Sets the options of the backup: `heap_path`, `allow_network_fs` and `lock_timeout`. All others are
    /// those of the original.
    #[must_use]
    pub fn options(mut self, options: &Options) -> Self {
        self.options = options.clone();
        self
    }

    /// Sets whether a damaged cache is copied as far as it can be read, instead of failing with
    /// [`ErrorKind::Incomplete`]; the [`BackupReport`] then says what is missing. Default: false.
    #[must_use]
    pub fn allow_losses(mut self, allow: bool) -> Self {
        self.losses = allow;
        self
    }

    /// Sets a function to call every few MiB.
    #[must_use]
    pub fn on_progress(mut self, progress: impl FnMut(Progress) + 'a) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// Makes the backup at `path`, where no cache may exist.
    ///
    /// Takes the room of the whole heap, dead records included, unless the file system shares blocks
    /// between files (btrfs, XFS). Reads the heap twice; needs memory for the longest key only. The files
    /// have temporary names until all of them are complete and synced; renaming the index, last, makes
    /// them a cache. A backup that fails or is killed leaves only the empty `PATH.lock` under the final
    /// names, and the next backup to the same path removes the rest.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Incomplete`] if the backup would have fewer entries than the original counted, or
    ///   if the heap has damaged bytes, unless [`allow_losses`](Self::allow_losses) is set.
    /// - [`ErrorKind::AlreadyExists`] if a file has the name of one of the backup's files.
    /// - [`ErrorKind::Unsupported`] if a file of the backup would have the name of one of the original's,
    ///   or on a network file system.
    /// - [`ErrorKind::Corrupted`] if the original must be repaired first, [`ErrorKind::HeapMissing`] if
    ///   one of its segments is missing.
    /// - [`ErrorKind::Superseded`] if the original was rebuilt again and again during the call.
    /// - [`ErrorKind::Locked`] if another process is creating a cache at `path`, and, if the original has
    ///   [`Options::in_place`], [`ErrorKind::ReadOnly`] and the other errors of
    ///   [`MmapCache::writer`](crate::MmapCache::writer).
    /// - [`ErrorKind::DiskFull`], [`ErrorKind::Io`] and [`ErrorKind::NotRemovable`] if the system refuses
    ///   a file operation.
    /// - [`ErrorKind::ForkedWriter`] in a child process, if the progress function forks: the parent
    ///   finishes the backup.
    pub fn to(mut self, path: impl AsRef<Path>) -> Result<BackupReport> {
        self.epoch = lock::epoch();
        let source = &self.handle.names;
        let names = FileNames::resolve(path.as_ref(), self.options.heap_path.as_deref())?;
        refuse_network(&names, &self.options)?;
        if names.overlap(source) {
            return Err(ErrorKind::Unsupported {
                what: "a copy here would have the name of one of its original's files; choose \
                       another path",
            }
            .at(&names.cache()));
        }
        let was_used = is_there(&names.lock());
        refuse_existing(&names, was_used)?;
        let index = source.index(Stage::Final);
        let access = Access::of(&files::open(&index, false)?, &index)?;
        self.options.mode = access.mode;
        let lock = lock_creation(&names, &self.options)?;
        let guard = DiscardOnPanic::new(&names);
        let made = self.make(&names, &access, was_used, &lock);
        if made.is_err() && self.epoch == lock::epoch() {
            // The first error is the one to report; the next copy removes what is left.
            let _ = discard_listed(&names);
        }
        drop(guard);
        made
    }

    /// Makes the files, under the lock that excludes other creators.
    fn make(
        &mut self,
        names: &FileNames,
        access: &Access,
        was_used: bool,
        _creation: &FileLock,
    ) -> Result<BackupReport> {
        refuse_existing(names, was_used)?;
        if was_used {
            // An interrupted copy may have left any number.
            discard_listed(names)?;
        } else {
            discard_staged(names, Extent::NONE)?;
        }
        let snapshot = self.capture()?;
        let mut copied = self.copy_heap(&snapshot, names, access)?;
        let plan = snapshot.plan(self.handle, access.clone())?;
        let generation = create::generation(names, &plan)?;
        let header = snapshot.generation.header();
        switch::carry_copied_totals(&generation, header);
        state::set_oldest(generation.header(), snapshot.first());
        heap_end::set_extent(generation.header(), snapshot.end);
        let mut fresh = Mutator::new(Arc::new(generation), Arc::new(names.clone()), Stage::New);
        map_known(&mut fresh)?;
        let salvage = self
            .index(&mut fresh, &snapshot, copied.heap_bytes)
            .map_err(|stop| give_up(stop, &fresh))?;
        copied.entries = fresh.generation.header().occupied();
        copied.records = salvage.records;
        copied.damaged_bytes = salvage.damaged_bytes;
        self.compare(&snapshot, &copied)?;
        commit_new(names, &fresh.generation)?;
        // From here on the copy is a cache; if the renames fail, the next writer does them.
        if let Err(error) = finish_renames(names, &fresh.generation) {
            log::warn!("{error}: the files' final names are left to the next writer");
        }
        fresh.generation.unlock();
        Ok(copied)
    }

    /// Captures a snapshot. W2: in a cache whose records are overwritten, what belongs to it no longer is
    /// from the moment of its end on, which only the holder of the lock can say.
    fn capture(&self) -> Result<Snapshot> {
        let handle = self.handle;
        if !handle.current()?.0.is_in_place() {
            return Snapshot::capture(handle);
        }
        let session = Session::take(handle, handle.options.lock_timeout, None)?;
        let generation = &session.mutator.generation;
        let header = generation.header();
        durability::freeze(generation, header.tail());
        let snapshot = Snapshot::capture(handle)?;
        debug_assert_eq!(snapshot.end, header.tail(), "no writer but this one");
        Ok(snapshot)
    }

    /// Refuses a copy that lacks entries of the original, before it becomes a cache.
    fn compare(&self, snapshot: &Snapshot, copied: &BackupReport) -> Result<()> {
        let all_there = match snapshot.entries {
            Some(counted) => copied.entries == counted,
            None => copied.entries >= snapshot.least,
        };
        if self.losses || (all_there && copied.damaged_bytes == 0) {
            return Ok(());
        }
        Err(ErrorKind::Incomplete {
            found: copied.entries,
            counted: snapshot.entries.unwrap_or(snapshot.least),
            damaged_bytes: copied.damaged_bytes,
        }
        .at(&self.handle.path))
    }

    /// Copies the segments of the heap under preliminary names.
    fn copy_heap(
        &mut self,
        snapshot: &Snapshot,
        names: &FileNames,
        access: &Access,
    ) -> Result<BackupReport> {
        // Also the numbers before the first segment: a rebuild of the copy would begin with them.
        for number in 0..=snapshot.end.segment {
            let path = names.segment(number, Stage::Final);
            if is_there(&path) {
                return Err(ErrorKind::AlreadyExists.at(path));
            }
        }
        let segments: Vec<_> = snapshot.segments().collect::<Result<_>>()?;
        let heap_bytes = segments.iter().map(|&(_, len)| len).sum();
        let mut copied = BackupReport {
            heap_bytes,
            entries_before: snapshot.entries,
            ..BackupReport::default()
        };
        let mut before = 0;
        for (segment, len) in segments {
            let path = names.segment(segment.number(), Stage::New);
            let file = files::create(&path, access)?;
            let target = MappedFile::created(file, &path);
            let (progress, epoch) = (&mut self.progress, self.epoch);
            // The original may append to the last one.
            let is_complete = segment.number() < snapshot.end.segment;
            let wanted = (len, is_complete);
            let shared = clone_start(segment.file().file(), &target, wanted, &mut |so_far| {
                progress(Progress {
                    done_bytes: before + so_far,
                    total_bytes: 2 * heap_bytes,
                    records: 0,
                });
                lock::refuse_forked(epoch, names.cache())
            })?;
            before += len;
            copied.shared_bytes += if shared { len } else { 0 };
        }
        debug_assert_eq!(before, heap_bytes, "all segments are copied");
        Ok(copied)
    }

    /// Builds index and roster from the copied heap.
    fn index(
        &mut self,
        fresh: &mut Mutator,
        snapshot: &Snapshot,
        heap_bytes: u64,
    ) -> WriteResult<Salvage> {
        let (progress, epoch) = (&mut self.progress, self.epoch);
        let path = &self.handle.path;
        // No older copy of a corrupt record exists: the heap is the original's.
        let damage = Damage::Copied(HeapAddr::LAST);
        let salvage = read_heap(fresh, snapshot.end.segment, damage, None, &mut |salvage| {
            progress(Progress {
                done_bytes: heap_bytes + salvage.read_bytes.min(heap_bytes),
                total_bytes: 2 * heap_bytes,
                records: salvage.records,
            });
            lock::refuse_forked(epoch, path)
        })?;
        heap_end::rotate(fresh, 0)?;
        ids::skip_copied(fresh, snapshot.given)?;
        Ok(salvage)
    }
}

impl fmt::Debug for Backup<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backup")
            .field("path", &self.handle.path)
            .field("options", &self.options)
            .field("losses", &self.losses)
            .finish_non_exhaustive()
    }
}

/// The end of the heap and the number of entries, by the header.
pub(crate) struct Counted {
    tail: HeapAddr,
    oldest: u16,
    pub(crate) entries: Option<u64>,
    pub(crate) least: u64,
}

impl Counted {
    /// Counts at a moment without a writer at work, if one comes soon; otherwise at any moment.
    pub(crate) fn at_rest(generation: &Generation) -> Self {
        let mut attempts = 0;
        loop {
            let counted = Self::now(generation);
            attempts += 1;
            if counted.entries.is_some() || attempts == ATTEMPTS_AT_REST {
                return counted;
            }
            std::hint::spin_loop();
        }
    }

    fn now(generation: &Generation) -> Self {
        let header = generation.header();
        // Before the end: what is live at the end's moment is not in older segments.
        let oldest = header.oldest();
        acquire_fence();
        let expected = ExpectedCount::of(generation);
        let changes = header.changes();
        let tail = header.tail();
        acquire_fence();
        let is_at_rest =
            header.reserved() == tail && header.oldest() == oldest && header.is_idle_since(changes);
        let least = expected.least(generation);
        let is_exact = is_at_rest && least == expected.counted();
        Self {
            tail,
            oldest,
            entries: is_exact.then_some(least),
            least,
        }
    }
}

impl Snapshot {
    /// Opens all segments of the current generation, and then loads where its heap ends.
    ///
    /// In this order: H4, a segment that was gone when it was opened had been evacuated to newer ones
    /// before; and the records that are live at the end's moment are in the segments of that moment.
    fn capture(handle: &Handle) -> Result<Self> {
        let mut missed: Option<(u64, u16, u32)> = None;
        for _ in 0..ATTEMPTS {
            let generation = with_all_segments(handle, Arc::clone(&handle.current()?.0))?;
            let missing = match Self::of(handle, &generation)? {
                Ok(snapshot) => return Ok(snapshot),
                Err(missing) => missing,
            };
            let roster = generation.ids.roster;
            let attempts = match missed {
                Some((of, number, attempts)) if (of, number) == (roster, missing) => attempts + 1,
                _ => 1,
            };
            missed = Some((roster, missing, attempts));
            // G2: a generation's files are removed only after the commit of the next one.
            if attempts >= ATTEMPTS_TO_OPEN && handle.inode_at_path()? == Some(generation.inode) {
                return Err(heap_presence::missing(
                    &generation,
                    &handle.names,
                    missing,
                    "nothing",
                ));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(ErrorKind::Superseded.at(&handle.path))
    }

    /// Loads where the heap of a generation ends whose segments are open; or the number of one that is
    /// not.
    fn of(handle: &Handle, generation: &Generation) -> Result<std::result::Result<Self, u16>> {
        let counted = Counted::at_rest(generation);
        let (tail, oldest) = (counted.tail, counted.oldest);
        if let Some(missing) = first_missing(generation, oldest, tail.segment) {
            return Ok(Err(missing));
        }
        if !generation.is_within(tail) {
            let at = word::TAIL as u64 * 8;
            return Err(generation.table.corrupted(Corruption::HeapEnd, at));
        }
        let end = Self::end(handle, generation, tail)?;
        debug_assert!(tail <= end, "the snapshot has all committed records");
        // A change that began after the count: one entry more, or one less.
        let is_later = end != tail;
        Ok(Ok(Self {
            entries: counted.entries.filter(|_| !is_later),
            least: counted.least.saturating_sub(u64::from(is_later)),
            end,
            given: generation.header().counters().roster_len,
            // E3: no deletion record keeps what a `Cache` has evicted from coming back once the segment
            // is removed.
            generation: Arc::new(without_removed(generation, oldest)),
        }))
    }

    /// Returns the heap's end, including the record after `tail` if readers see it already (H1). Its
    /// writer has not committed it yet, or was killed before.
    fn end(handle: &Handle, generation: &Generation, tail: HeapAddr) -> Result<HeapAddr> {
        let reserved = generation.header().reserved();
        let Some(segment) = generation.segment(tail.segment) else {
            return Ok(tail);
        };
        let mut key = Vec::new();
        if reserved.segment != tail.segment || reserved <= tail {
            return Ok(tail);
        }
        let Some(record) = segment.read_any(tail.unit, &mut key, None)? else {
            return Ok(tail);
        };
        if u64::from(reserved.unit - tail.unit) * 8 != record.stored_bytes() {
            return Ok(tail);
        }
        let seen = match lookup::read(handle, &key, &mut Vec::new())? {
            Answer::Found(version) => Some(version.0),
            Answer::Absent | Answer::Damaged(_) => None,
        };
        let visible = match record.kind {
            Kind::Entry => seen == Some(record.mtime),
            Kind::Deletion => seen.is_none(),
            _ => false,
        };
        Ok(if visible { reserved } else { tail })
    }

    /// Returns the number of the first segment.
    fn first(&self) -> u16 {
        let mut all = self.generation.segments();
        all.next().map_or(self.end.segment, |first| first.number())
    }

    /// Returns the segments, and how many bytes of each belong to the snapshot.
    fn segments(&self) -> impl Iterator<Item = Result<(&Arc<Segment>, u64)>> {
        let end = self.end;
        self.generation
            .segments()
            .filter(move |segment| segment.number() <= end.segment)
            .map(move |segment| {
                let len = segment.file().len()?;
                let is_last = segment.number() == end.segment;
                Ok((segment, if is_last { len.min(end.bytes()) } else { len }))
            })
    }

    fn plan(&self, handle: &Handle, access: Access) -> Result<Plan> {
        let generation = &self.generation;
        let index = read_sealed::<IndexHeader>(&handle.names.index(Stage::Final))?;
        Ok(Plan {
            geometry: *generation.table.geometry(),
            hash_kind: generation.hash_kind,
            seed: generation.seed,
            ids: Ids {
                // The checksums of the records cover the id of their heap.
                cache: generation.ids.cache,
                generation: generation.ids.generation.wrapping_add(1),
                heap: generation.ids.heap,
                roster: random::number(),
            },
            created: generation.created,
            lock: index.map_or(Options::new().lock, |index| index.lock_kind()),
            capacity: generation.header().occupied(),
            access,
        })
    }
}

/// Returns the first segment that the heap must have and that could not be opened. The oldest may
/// have been reclaimed.
fn first_missing(generation: &Generation, oldest: u16, last: u16) -> Option<u16> {
    let needed = oldest.saturating_add(1).min(last)..=last.max(oldest);
    let mut missing = needed.filter(|&number| generation.segment(number).is_none());
    missing.next()
}

/// Returns the generation without the segments before the oldest.
fn without_removed(generation: &Generation, oldest: u16) -> Generation {
    let mut left: Vec<_> = generation.segments().cloned().collect();
    left.retain(|segment| segment.number() >= oldest);
    generation.with_segments(left)
}

/// Refuses a path where a file has the name of one of the copy's, as far as these are known before
/// the snapshot.
fn refuse_existing(names: &FileNames, was_used: bool) -> Result<()> {
    let (index, roster) = (names.index(Stage::Final), names.roster(Stage::Final));
    let taken = left_segment(names, was_used)?.map(|number| names.segment(number, Stage::Final));
    let mut all = [index, roster].into_iter().chain(taken);
    match all.find(|path: &PathBuf| is_there(path)) {
        Some(path) => Err(ErrorKind::AlreadyExists.at(path)),
        None => Ok(()),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::Options;

    // They are open already, and removed before the end of the heap is known: what a `Cache` has
    // evicted from them is not kept from coming back any more.
    #[test]
    fn snapshots_leave_removed_segments_out() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::new();
        options.max_segment_bytes(16 * 1024);
        let cache = options.open(dir.path().join("cache")).unwrap();
        for number in 0..200 {
            cache.put(format!("key {number}"), [1; 500]).unwrap();
        }
        let handle = cache.handle();
        let current = Arc::clone(&handle.current().unwrap().0);
        let opened = with_all_segments(handle, current).unwrap();
        for number in 0..100 {
            cache.delete(format!("key {number}")).unwrap();
        }
        cache.compact().unwrap();
        let current = Arc::clone(&handle.current().unwrap().0);
        let oldest = current.header().oldest();
        let mut all: Vec<_> = opened.segments().cloned().collect();
        all.retain(|segment| segment.number() < oldest);
        assert!(!all.is_empty());
        let left = with_all_segments(handle, current).unwrap();
        all.extend(left.segments().cloned());
        let snapshot = Snapshot::of(handle, &left.with_segments(all))
            .unwrap()
            .unwrap();
        assert!(snapshot.first() >= oldest);
        assert_eq!(snapshot.entries, Some(100));
    }
}
