//! A copy of a cache while others write to it.
//!
//! The heap is a log: what it says up to a place is what the cache contained at one moment. Knows
//! how such a moment is caught without a lock, and how a cache of its own is made of it. What the
//! records come to it leaves to `recover`, how files come to count to `generation`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::format::index::{IndexHeader, word};
use crate::format::record::Kind;
use crate::format::slot::Place;
use crate::heap::Segment;
use crate::lock::{self, FileLock};
use crate::os::files::{self, Access, Names, Stage};
use crate::os::mmap::MappedFile;
use crate::os::reflink::clone_start;
use crate::sync::acquire_fence;

use crate::engine::generation::{Generation, Ids, Plan, read_sealed};
use crate::engine::handle::{Handle, lock_creation, random, refuse_network};
use crate::engine::heap_presence;
use crate::engine::options::Options;
use crate::engine::read::expected_count::ExpectedCount;
use crate::engine::read::iter::with_all_segments;
use crate::engine::read::lookup::Answer;
use crate::engine::recovery::from_heap::{Damage, Salvage, read_heap};
use crate::engine::segment_numbers::{Extent, is_there, left_segment};
use crate::engine::staging::{DiscardOnPanic, discard_listed, discard_staged, finish_renames};
use crate::engine::switch::{CARRIED, commit_new, give_up, map_known};
use crate::engine::write::mutator::{Mutator, WriteResult};

/// Generations that may take each other's place before a moment was caught.
const TRIES: u32 = 1_000;
/// Looks that all miss the same segment after which it counts as lost.
const LOOKS: u32 = 20;
/// Looks for a moment at which nobody writes, whose entries are counted exactly.
const RESTS: u32 = 1_000;

/// A copy of a cache while any number of others read and write it; made by
/// [`MmapCache::hot_copy`](crate::MmapCache::hot_copy) and
/// [`Labels::hot_copy`](crate::Labels::hot_copy).
///
/// The copy is what the cache contained at one moment, which lies between the call of
/// [`to`](Self::to) and its return, and mostly near its beginning: every change that was
/// acknowledged before is in it, with its version, and none that began afterwards. Nobody is locked
/// out, and nothing of the cache is touched: a handle that only reads will do. Others may overwrite,
/// clean, grow and rebuild meanwhile.
///
/// It is a cache of its own, clean and synced, with the original's options, ids, labels and their
/// holes; what goes on in one of the two the other never sees.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let cache = mmapcache::MmapCache::open(dir.path().join("c"))?;
/// use mmapcache::MmapCache;
///
/// cache.put(b"k", b"v")?;
/// let copied = cache.hot_copy().to(dir.path().join("backup"))?;
/// assert_eq!(copied.entries, 1);
/// let backup = MmapCache::open(dir.path().join("backup"))?;
/// assert_eq!(backup.entry(b"k")?, cache.entry(b"k")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct HotCopy<'a> {
    handle: &'a Handle,
    options: Options,
    losses: bool,
    told: Box<dyn FnMut(CopyProgress) + 'a>,
    epoch: u64,
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyProgress {
    /// Bytes of the heap that were copied. Then its records are read to make an index of them.
    pub copied_bytes: u64,
    /// Bytes of the copied heap that were read.
    pub read_bytes: u64,
    /// Bytes of the heap.
    pub heap_bytes: u64,
    /// Records that verified so far.
    pub records: u64,
}

/// What became of a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// Live entries of the copy.
    pub entries: u64,
    /// Live entries of the original at that moment by its own count, where nobody was writing: if
    /// there were more, something of the original is damaged or lost.
    pub entries_before: Option<u64>,
    /// Records in its heap, dead ones and deletions included.
    pub records: u64,
    /// Bytes of its heap.
    pub heap_bytes: u64,
    /// Bytes of the original's heap where records should have been and none verified. What they
    /// held is not in the copy, which has gaps in their place: of a key whose newest record was
    /// damaged it may have an older one, as behind a [`Repair`](crate::Repair).
    pub damaged_bytes: u64,
    /// Bytes that take no room of their own, because the file system lets both caches share them.
    pub shared_bytes: u64,
}

/// A heap as it was at one moment: nothing before its end ever changes, and files that are removed
/// stay as long as they are open.
struct Snapshot {
    generation: Arc<Generation>,
    end: Place,
    /// Entries there were, if nobody was writing.
    entries: Option<u64>,
    /// The fewest that there were in any case.
    least: u64,
    /// Numbers that had been given, or given up, in a cache that has them.
    given: u64,
}

impl<'a> HotCopy<'a> {
    pub(crate) fn new(handle: &'a Handle) -> Self {
        Self {
            handle,
            options: Options::new(),
            losses: false,
            told: Box::new(|_| {}),
            epoch: lock::epoch(),
        }
    }

    /// The options by which the copy is made: `heap_path`, `allow_network` and `lock_timeout` count
    /// here, all others are the original's.
    #[must_use]
    pub fn options(mut self, options: &Options) -> Self {
        self.options = options.clone();
        self
    }

    /// Copies what there is of a damaged cache too, instead of failing with
    /// [`Error::Incomplete`]; [`Copied`] then says what is missing. False if not set.
    #[must_use]
    pub fn allow_losses(mut self, allow: bool) -> Self {
        self.losses = allow;
        self
    }

    /// Calls `told` after each few MiB.
    #[must_use]
    pub fn on_progress(mut self, told: impl FnMut(CopyProgress) + 'a) -> Self {
        self.told = Box::new(told);
        self
    }

    /// Makes the copy at `path`, where nothing may be yet.
    ///
    /// Takes the room of the whole heap, dead records included, unless the file system shares
    /// blocks between files (btrfs, XFS); reads it once more; needs memory for the longest key only.
    /// The files stand under preliminary names until all of them are complete and synced, and the
    /// rename of the index, the last of all, makes them a cache. So a copy that fails or is killed
    /// has left nothing under its name but the empty `PATH.lock`, and the next one there removes the
    /// rest.
    ///
    /// # Errors
    ///
    /// [`Error::Incomplete`] where the copy would have fewer entries than the original counted, or the
    /// heap has damaged bytes, whose entries and deletions nobody knows, unless
    /// [`allow_losses`](Self::allow_losses) was set; [`Error::AlreadyExists`] where any file has the name of one of the copy's;
    /// [`Error::Unsupported`] where the two caches' names would collide, or on a network file
    /// system; [`Error::Damaged`] where the original has to be repaired first;
    /// [`Error::HeapMissing`] where a segment of it is not there;
    /// [`Error::Superseded`] where it was rebuilt again and again; [`Error::Locked`] where somebody
    /// else makes a cache there; [`Error::DiskFull`], [`Error::Io`]. Where the function that hears of
    /// the progress forks, the copy is the parent's, and the child's result is [`Error::Forked`].
    pub fn to(mut self, path: impl AsRef<Path>) -> Result<Copied> {
        self.epoch = lock::epoch();
        let source = &self.handle.names;
        let names = Names::resolve(path.as_ref(), self.options.heap_path.as_deref())?;
        refuse_network(&names, &self.options)?;
        if names.overlap(source) {
            return Err(Error::Unsupported {
                path: names.cache().to_owned(),
                what: "a copy here would have the name of one of its original's files; choose \
                       another path",
            });
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
            // The first error is the one to report; what is left behind is removed by the next.
            let _ = discard_listed(&names);
        }
        drop(guard);
        made
    }

    /// Makes the files, under the lock that keeps other makers away.
    fn make(
        &mut self,
        names: &Names,
        access: &Access,
        was_used: bool,
        _creation: &FileLock,
    ) -> Result<Copied> {
        refuse_existing(names, was_used)?;
        if was_used {
            // An interrupted copy may have left any number.
            discard_listed(names)?;
        } else {
            discard_staged(names, Extent::NONE)?;
        }
        let moment = Snapshot::catch(self.handle)?;
        let mut copied = self.copy_heap(&moment, names, access)?;
        let plan = moment.plan(self.handle, access.clone())?;
        let generation = Generation::create(names, &plan)?;
        let header = moment.generation.header();
        for at in CARRIED {
            // The highest number is what the copied heap says.
            if at != word::LAST_MTIME || !generation.is_numbered() {
                generation.header().set(at, header.get(at));
            }
        }
        generation.header().set_oldest(moment.first());
        generation.header().unreserve(moment.end);
        let mut fresh = Mutator::new(Arc::new(generation), Arc::new(names.clone()), Stage::New);
        map_known(&mut fresh)?;
        let salvage = self
            .index(&mut fresh, &moment, copied.heap_bytes)
            .map_err(|stop| give_up(stop, &fresh))?;
        copied.entries = fresh.generation.header().occupied();
        copied.records = salvage.records;
        copied.damaged_bytes = salvage.damaged_bytes;
        self.compare(&moment, &copied)?;
        commit_new(names, &fresh.generation)?;
        // What follows cannot undo it: the next writer would finish it.
        if let Err(error) = finish_renames(names, &fresh.generation) {
            log::warn!("{error}: the files' final names are left to the next writer");
        }
        fresh.generation.unlock();
        Ok(copied)
    }

    /// Refuses a copy that lacks something of the original, before it becomes a cache.
    fn compare(&self, moment: &Snapshot, copied: &Copied) -> Result<()> {
        let all_there = match moment.entries {
            Some(counted) => copied.entries == counted,
            None => copied.entries >= moment.least,
        };
        if self.losses || (all_there && copied.damaged_bytes == 0) {
            return Ok(());
        }
        Err(Error::Incomplete {
            path: self.handle.path.to_path_buf(),
            found: copied.entries,
            counted: moment.entries.unwrap_or(moment.least),
            damaged_bytes: copied.damaged_bytes,
        })
    }

    fn copy_heap(&mut self, moment: &Snapshot, names: &Names, access: &Access) -> Result<Copied> {
        // Those before the first as well: they are what a rebuild of the copy begins with.
        for number in 0..=moment.end.segment {
            let path = names.segment(number, Stage::Final);
            if is_there(&path) {
                return Err(Error::AlreadyExists { path });
            }
        }
        let segments: Vec<_> = moment.segments().collect::<Result<_>>()?;
        let heap_bytes = segments.iter().map(|&(_, len)| len).sum();
        let mut copied = Copied {
            heap_bytes,
            entries_before: moment.entries,
            ..Copied::default()
        };
        let mut before = 0;
        for (segment, len) in segments {
            let path = names.segment(segment.number(), Stage::New);
            let file = files::create(&path, access)?;
            let target = MappedFile::created(file, &path);
            let (told, epoch) = (&mut self.told, self.epoch);
            // To the last one the original is going to append.
            let is_complete = segment.number() < moment.end.segment;
            let wanted = (len, is_complete);
            let shared = clone_start(segment.file().file(), &target, wanted, &mut |so_far| {
                told(CopyProgress {
                    copied_bytes: before + so_far,
                    heap_bytes,
                    ..CopyProgress::default()
                });
                lock::refuse_forked(epoch, names.cache())
            })?;
            before += len;
            copied.shared_bytes += if shared { len } else { 0 };
        }
        Ok(copied)
    }

    /// Makes index and roster of the copied heap.
    fn index(
        &mut self,
        fresh: &mut Mutator,
        moment: &Snapshot,
        heap_bytes: u64,
    ) -> WriteResult<Salvage> {
        let (told, epoch) = (&mut self.told, self.epoch);
        let path = &self.handle.path;
        // Of what is damaged there is nothing to be found in a copy that is not in the original.
        let damage = Damage::Copied(Place::LAST);
        let salvage = read_heap(fresh, moment.end.segment, damage, None, &mut |salvage| {
            told(CopyProgress {
                copied_bytes: heap_bytes,
                read_bytes: salvage.read_bytes,
                heap_bytes,
                records: salvage.records,
            });
            lock::refuse_forked(epoch, path)
        })?;
        fresh.rotate(0)?;
        if fresh.generation.is_numbered() {
            fresh.go_on_behind(moment.given)?;
            // Given by the original while it was copied, from a block that was reserved since.
            if moment.given > fresh.generation.header().get(word::LAST_MTIME) {
                fresh.append_reservation(moment.given)?;
                fresh
                    .generation
                    .header()
                    .set(word::LAST_MTIME, moment.given);
            }
        }
        Ok(salvage)
    }
}

impl fmt::Debug for HotCopy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HotCopy")
            .field("path", &self.handle.path)
            .field("options", &self.options)
            .field("losses", &self.losses)
            .finish_non_exhaustive()
    }
}

/// Where the heap ended, and how many entries there were, by the header.
pub(crate) struct Counted {
    tail: Place,
    oldest: u16,
    pub(crate) entries: Option<u64>,
    pub(crate) least: u64,
}

impl Counted {
    /// At a moment at which nobody writes if one comes soon, else at any.
    pub(crate) fn at_rest(generation: &Generation) -> Self {
        let mut looks = 0;
        loop {
            let counted = Self::now(generation);
            looks += 1;
            if counted.entries.is_some() || looks == RESTS {
                return counted;
            }
            std::hint::spin_loop();
        }
    }

    fn now(generation: &Generation) -> Self {
        acquire_fence();
        let (header, tally) = (generation.header(), ExpectedCount::of(generation));
        let changes = header.changes();
        let (tail, oldest) = (header.tail(), header.oldest());
        acquire_fence();
        let is_at_rest = header.reserved() == tail && header.is_idle_since(changes);
        let least = tally.least(generation);
        let is_exact = is_at_rest && least == tally.counted();
        Self {
            tail,
            oldest,
            entries: is_exact.then_some(least),
            least,
        }
    }
}

impl Snapshot {
    /// Opens all segments of the current generation, and then sees where its heap ends.
    ///
    /// In this order: what is live at the end's moment is in the segments that were there then, and
    /// a segment that was gone by the time it was looked for had been emptied into newer ones
    /// before.
    fn catch(handle: &Handle) -> Result<Self> {
        let mut missed: Option<(u64, u16, u32)> = None;
        for _ in 0..TRIES {
            let generation = with_all_segments(handle, Arc::clone(&handle.current()?.0))?;
            let counted = Counted::at_rest(&generation);
            let (tail, oldest) = (counted.tail, counted.oldest);
            let header = generation.header();
            let Some(missing) = first_missing(&generation, oldest, tail.segment) else {
                if !generation.plausible(tail) {
                    return Err(generation
                        .table
                        .damaged("the heap's end", word::TAIL as u64 * 8));
                }
                let end = Self::end(handle, &generation, tail)?;
                // A change that began after the count: one entry more, or one less.
                let is_behind = end != tail;
                return Ok(Self {
                    entries: counted.entries.filter(|_| !is_behind),
                    least: counted.least.saturating_sub(u64::from(is_behind)),
                    end,
                    given: header.counters().roster_len,
                    generation,
                });
            };
            let roster = generation.ids.roster;
            let looks = match missed {
                Some((of, number, looks)) if (of, number) == (roster, missing) => looks + 1,
                _ => 1,
            };
            missed = Some((roster, missing, looks));
            // A generation's files go only behind the commit of the next one.
            if looks >= LOOKS && handle.inode_at_path()? == Some(generation.inode) {
                return Err(heap_presence::missing(
                    &generation,
                    &handle.names,
                    missing,
                    "nothing",
                ));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(Error::Superseded {
            path: handle.path.to_path_buf(),
        })
    }

    /// Behind the heap's end there may be one more record, of a change that readers see already but
    /// whose writer has not come to its end, or was killed before.
    fn end(handle: &Handle, generation: &Generation, tail: Place) -> Result<Place> {
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
        let seen = match handle.read(&key, &mut Vec::new())? {
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

    /// The number of the first segment.
    fn first(&self) -> u16 {
        let mut all = self.generation.segments();
        all.next().map_or(self.end.segment, |first| first.number())
    }

    /// The segments, and how many bytes of each belong to the moment.
    fn segments(&self) -> impl Iterator<Item = Result<(&Arc<Segment>, u64)>> {
        let end = self.end;
        self.generation
            .segments()
            .filter(move |segment| segment.number() <= end.segment)
            .map(move |segment| {
                let there = segment.file().len()?;
                let last = segment.number() == end.segment;
                Ok((segment, if last { there.min(end.bytes()) } else { there }))
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
                // The records are bound to their heap's id by their checksums.
                cache: generation.ids.cache,
                generation: generation.ids.generation.wrapping_add(1),
                heap: generation.ids.heap,
                roster: random(),
            },
            created: generation.created,
            lock: index.map_or(Options::new().lock_kind(), |index| index.lock_kind()),
            capacity: generation.header().occupied(),
            access,
        })
    }
}

/// The first segment that a heap must have and that could not be opened. The oldest may be gone.
fn first_missing(generation: &Generation, oldest: u16, last: u16) -> Option<u16> {
    let needed = oldest.saturating_add(1).min(last)..=last.max(oldest);
    let mut missing = needed.filter(|&number| generation.segment(number).is_none());
    missing.next()
}

/// Refuses a path where a file has the name of one that the copy will have, as far as that is known
/// before it is caught.
fn refuse_existing(names: &Names, was_used: bool) -> Result<()> {
    let (index, roster) = (names.index(Stage::Final), names.roster(Stage::Final));
    let taken = left_segment(names, was_used)?.map(|number| names.segment(number, Stage::Final));
    let mut all = [index, roster].into_iter().chain(taken);
    match all.find(|path: &PathBuf| is_there(path)) {
        Some(path) => Err(Error::AlreadyExists { path }),
        None => Ok(()),
    }
}
