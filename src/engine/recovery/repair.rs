//! Making a cache's index and roster anew when they are lost or beyond mending.
//!
//! Knows where the cache's identity may still stand, and what may stand in the way of its files.
//! What the heap says it leaves to `recover`, how a generation comes to count to `generation`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::index::{IndexHeader, PAGE, word};
use crate::format::roster::RosterHeader;
use crate::format::seal::Sealed;
use crate::format::segment::SegmentHeader;
use crate::format::{Geometry, HashKind, LockKind};
use crate::hash::Hasher;
use crate::index::header::Header;
use crate::lock::{self, FileLock, Patience};
use crate::os::boot_id;
use crate::os::files::{self, Access, Names, Stage};
use crate::os::mmap::{MappedFile, Memory};

use crate::engine::generation::{Generation, Ids, Plan, inode_of, read_sealed, refuse_foreign};
use crate::engine::handle::{Handle, acquire, lock_creation, random, refuse_network};
use crate::engine::heap_presence;
use crate::engine::options::Options;
use crate::engine::recovery::from_heap::{Damage, Salvage, refill};
use crate::engine::staging::{DiscardOnPanic, discard_listed, finish_renames};
use crate::engine::switch::{CARRIED, Heap, commit, give_up, map_all};
use crate::engine::verify::checks::Report;
use crate::engine::write::mutator::{Mutator, WriteResult};
use crate::engine::write::writer::Writer;

/// A repair of a cache that cannot be opened, or that is not clean.
///
/// What the next writer mends by itself is left to it. Beyond that, index and roster are made anew
/// from the heap alone, by the code that does so after a power loss: of each key the newest record
/// that verifies wins, and a deletion wins like any other. The damaged files stay in their places
/// until the new ones are complete and synced, and one rename makes those count; a repair that
/// fails or is killed has changed nothing but the headers of segments that had lost theirs.
///
/// Readers may go on meanwhile. A writer that holds the lock is waited for, as ever. Where the
/// index was *removed*, no lock tells whether somebody still writes to it: then it is for the
/// caller to see to it that nobody does.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("c");
/// use mmapcache::{MmapCache, Repair};
///
/// # MmapCache::open(&path)?.put(b"k", b"v")?;
/// # std::fs::remove_file(&path)?;
/// let cache = match MmapCache::open(&path) {
///     Err(error) if error.is_corruption() => {
///         let repaired = Repair::new(&path).run()?;
///         eprintln!("{} entries are back", repaired.entries);
///         MmapCache::open(&path)?
///     }
///     other => other?,
/// };
/// assert_eq!(cache.get(b"k")?.as_deref(), Some(&b"v"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Repair<'a> {
    path: PathBuf,
    options: Options,
    keep: bool,
    rewrite: bool,
    told: Box<dyn FnMut(Progress) + 'a>,
}

/// How far a repair is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes of the heap that were read.
    pub read_bytes: u64,
    /// Bytes of the heap.
    pub heap_bytes: u64,
    /// Records that verified so far.
    pub records: u64,
}

/// What a repair did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repaired {
    /// Whether index and roster were made anew; false where the cache was right but for damaged
    /// bytes that no entry needs.
    pub rebuilt: bool,
    /// Live entries now.
    pub entries: u64,
    /// Live entries before, if the index still told: a hint, it may be damaged like the rest.
    pub entries_before: Option<u64>,
    /// Entries that the old index had and that were given up: their records are damaged or gone.
    /// [`Stats::dropped`](crate::Stats::dropped) counts them too. Where the index could not be
    /// opened, it is by how many fewer entries there are, or else the number of damaged stretches.
    pub dropped: u64,
    /// Entries that the old index had and whose records were never synced, and did not come to the
    /// disk before a power loss. They are not damage.
    pub unwritten: u64,
    /// Records that verified, of live and dead entries and of deletions.
    pub records: u64,
    /// Bytes where records should have been and none verified. What they held is lost. They stay
    /// in the heap until it is cleaned, or rewritten with [`Repair::rewrite_heap`].
    pub damaged_bytes: u64,
    /// Whether the heap was rewritten, so that these bytes are gone.
    pub rewritten: bool,
    /// Segments that were read; 0 where a writer's own mending was enough.
    pub segments: u64,
    /// Numbers between those of the first and the last segment that was read under which there
    /// was none that belongs to the cache. What it held is lost.
    pub missing_segments: Vec<u16>,
    /// Where things now stand that were moved out of the way or kept.
    pub kept: Vec<PathBuf>,
}

/// Who a cache is, as far as its files still say.
#[derive(Clone, Copy)]
struct Identity {
    cache: [u8; 16],
    heap: u64,
    generation: u64,
    seed: u64,
    hash_kind: HashKind,
    geometry: Geometry,
    created: u64,
    lock: LockKind,
}

/// A segment whose header can be believed.
struct Found {
    number: u16,
    stage: Stage,
    header: SegmentHeader,
}

/// What stands where the index belongs, locked.
#[derive(Default)]
struct Old {
    /// Held until the new index is in its place.
    lock: Option<FileLock>,
    /// The file's first page, as far as it goes.
    page: Option<Memory>,
    sealed: Option<IndexHeader>,
    access: Option<Access>,
}

impl<'a> Repair<'a> {
    /// A repair of the cache at `path`, with default options.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            options: Options::new(),
            keep: false,
            rewrite: false,
            told: Box::new(|_| {}),
        }
    }

    /// The options by which the cache is opened: `heap_path`, `lock_timeout`, `allow_network` and
    /// `capacity` count here.
    #[must_use]
    pub fn options(mut self, options: &Options) -> Self {
        self.options = options.clone();
        self
    }

    /// Whether the damaged index and roster stay beside the new ones, as `PATH.damaged` and
    /// `PATH.roster.damaged` (with a number behind it where that is taken). Default: no. What is
    /// no file of this crate's, but a directory for instance, is kept so in any case.
    #[must_use]
    pub fn keep_damaged(mut self, keep: bool) -> Self {
        self.keep = keep;
        self
    }

    /// Whether a heap with damaged bytes is written anew without them afterwards, which needs room
    /// for all live entries once more. Default: no.
    #[must_use]
    pub fn rewrite_heap(mut self, rewrite: bool) -> Self {
        self.rewrite = rewrite;
        self
    }

    /// Calls `told` after each MiB of heap that was read, and at each segment's end.
    #[must_use]
    pub fn on_progress(mut self, told: impl FnMut(Progress) + 'a) -> Self {
        self.told = Box::new(told);
        self
    }

    /// Repairs the cache. Reads the whole heap once, if anything is to be rebuilt, and checks
    /// everything if not; needs memory for its longest key only.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] where there is neither an index nor a segment; [`Error::Damaged`] where
    /// no segment says whose heap it is, and no index either; [`Error::HeapMissing`] where the index
    /// is sound and there is no segment of its heap; [`Error::Version`] for a cache of
    /// another release; [`Error::AlreadyExists`] where somebody else's file has the name of
    /// a segment; [`Error::Locked`], [`Error::WriterHeld`], [`Error::DiskFull`], [`Error::Io`].
    /// Where the function that hears of the progress forks, the repair is the parent's, and the
    /// child's result is [`Error::Forked`]. After an error index, roster and records are as they were.
    pub fn run(mut self) -> Result<Repaired> {
        self.options.create = false;
        self.options.create_new = false;
        self.options.read_only = false;
        self.options.exclusive = false;
        let names = Names::resolve(&self.path, self.options.heap_path.as_deref())?;
        refuse_network(&names, &self.options)?;
        let mut repaired = match self.mend()? {
            Some(repaired) => repaired,
            None => self.rebuild(&names)?,
        };
        if self.rewrite && repaired.damaged_bytes > 0 {
            let handle = Handle::open(&self.path, &self.options)?;
            Writer::take(&handle)?.rewrite_heap()?;
            repaired.rewritten = true;
        }
        Ok(repaired)
    }

    /// Lets a writer mend what any writer would, and checks what is left; none if that is not
    /// enough.
    fn mend(&self) -> Result<Option<Repaired>> {
        let checked = Handle::open(&self.path, &self.options).and_then(|handle| {
            drop(Writer::take(&handle)?);
            let recovery = handle.recovered.load_full();
            let report = Report::of(&handle)?;
            let index = handle.names.index(Stage::Final);
            let roster = handle.names.roster(Stage::Final);
            let only_heap = |report: &Report| {
                let right = |path: &PathBuf| *path != index && *path != roster;
                report.faults.iter().all(|fault| right(&fault.path))
                    && report.faults.len() as u64 == report.fault_count
            };
            Ok(only_heap(&report).then_some((report, recovery)))
        });
        match checked {
            Ok(right) => Ok(right.map(|(report, recovery)| {
                let before = recovery.as_deref().map(|recovery| recovery.entries_before);
                let recovery = recovery.as_deref().copied().unwrap_or_default();
                Repaired {
                    rebuilt: before.is_some(),
                    entries: report.entries,
                    entries_before: before.unwrap_or(Some(report.entries)),
                    dropped: recovery.dropped,
                    unwritten: recovery.unwritten,
                    records: report.records,
                    // In the place of some of them there are gaps now.
                    damaged_bytes: report.damaged_bytes.max(recovery.damaged_bytes),
                    ..Repaired::default()
                }
            })),
            // Whoever asks for a repair wants what the other segments have.
            Err(Error::NotFound { .. } | Error::HeapMissing { .. }) => Ok(None),
            Err(error) if error.is_corruption() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn rebuild(&mut self, names: &Names) -> Result<Repaired> {
        // Nobody may create a cache here meanwhile, nor repair it.
        let _creation = lock_creation(names, &self.options)?;
        let old = Old::lock(names, &Patience::new(self.options.lock_timeout))?;
        let segments = survey(names)?;
        let identity = identify(names, &old, &segments)?;
        for found in segments.iter().filter(|found| identity.owns(&found.header)) {
            // Left by a switch that was committed: the names that they are to have.
            if found.stage == Stage::New {
                let target = names.segment(found.number, Stage::Final);
                refuse_foreign(&target, SegmentHeader::MAGIC)?;
                files::rename(&names.segment(found.number, Stage::New), &target)?;
            }
        }
        discard_listed(names)?;
        let guard = DiscardOnPanic::new(names);
        let epoch = lock::epoch();
        let built = self.build(names, &old, &identity);
        if built.is_err() && epoch == lock::epoch() {
            // The first error is the one to report.
            let _ = discard_listed(names);
        }
        drop(guard);
        built
    }

    fn build(&mut self, names: &Names, old: &Old, identity: &Identity) -> Result<Repaired> {
        let plan = identity.plan(self.options.capacity, old.access_or_of_heap(names)?);
        let generation = Generation::create(names, &plan)?;
        if let (Some(header), Some(_)) = (old.header(), old.sealed) {
            for at in CARRIED {
                generation.header().set(at, header.get(at));
            }
            if header.get(word::SYNC_ERROR) == 1 && header.written_under() == boot_id::id()? {
                generation.header().set(word::SYNC_ERROR, 1);
            }
        }
        let mut fresh = Mutator::new(Arc::new(generation), Arc::new(names.clone()), Stage::Final);
        map_all(&mut fresh)?;
        if fresh.generation.segments().next().is_none() {
            return Err(heap_presence::missing_all(
                &fresh.generation,
                names,
                old.header(),
            ));
        }
        let numbers: Vec<u16> = fresh
            .generation
            .segments()
            .map(|found| found.number())
            .collect();
        let salvage = self
            .fill(&mut fresh)
            .map_err(|stop| give_up(stop, &fresh))?;
        let entries = fresh.generation.header().occupied();
        let entries_before = old.sealed.and(old.header()).map(|header| header.occupied());
        let dropped = entries_before.map_or(salvage.stretches, |before| {
            // No table has room for more.
            let before = if before > 1 << 31 { entries } else { before };
            before.saturating_sub(entries)
        });
        fresh.generation.header().add(word::DROPPED, dropped);
        fresh.generation.header().add(word::RECOVERIES, 1);
        let kept = self.replace(names, old, &fresh.generation)?;
        let missing =
            (numbers[0]..numbers[numbers.len() - 1]).filter(|number| !numbers.contains(number));
        Ok(Repaired {
            rebuilt: true,
            entries,
            entries_before,
            dropped,
            unwritten: 0,
            records: salvage.records,
            damaged_bytes: salvage.damaged_bytes,
            rewritten: false,
            segments: numbers.len() as u64,
            missing_segments: missing.collect(),
            kept,
        })
    }

    fn fill(&mut self, fresh: &mut Mutator) -> WriteResult<Salvage> {
        let (told, epoch, path) = (&mut self.told, lock::epoch(), &self.path);
        refill(fresh, Damage::Unknown, None, &mut |salvage| {
            told(Progress {
                read_bytes: salvage.read_bytes,
                heap_bytes: salvage.heap_bytes,
                records: salvage.records,
            });
            lock::refuse_forked(epoch, path)
        })
    }

    /// Puts the new generation where the old one stood.
    fn replace(&self, names: &Names, old: &Old, generation: &Generation) -> Result<Vec<PathBuf>> {
        let (index, roster) = (names.index(Stage::Final), names.roster(Stage::Final));
        let mut kept = Vec::new();
        for path in [&index, &roster] {
            kept.extend(files::set_aside(path, self.keep)?);
        }
        commit(names, generation, Heap::Kept, old.header())?;
        // What follows cannot undo it: the next writer would finish it.
        if let Err(error) = finish_renames(names, generation) {
            log::warn!("{error}: the files' final names are left to the next writer");
        }
        Ok(kept)
    }
}

impl fmt::Debug for Repair<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repair")
            .field("path", &self.path)
            .field("options", &self.options)
            .field("keep", &self.keep)
            .field("rewrite", &self.rewrite)
            .finish_non_exhaustive()
    }
}

impl Drop for Old {
    fn drop(&mut self) {
        if let Some(lock) = &self.lock {
            lock.release(self.header().map(|header| header.lock_words()));
        }
    }
}

impl Old {
    /// Locks whatever file stands where the index belongs, damaged or not, as a writer of it would.
    fn lock(names: &Names, patience: &Patience) -> Result<Self> {
        let path = names.index(Stage::Final);
        loop {
            let file = match files::open(&path, true) {
                Ok(file) => file,
                // A directory, or a FIFO: nobody can have written to it.
                Err(Error::WrongMagic { .. }) => return Ok(Self::default()),
                Err(error) if error.is_absent() => return Ok(Self::default()),
                Err(error) => return Err(error),
            };
            let inode = inode_of(&file, &path)?;
            let access = Access::of(&file, &path)?;
            let mapped = MappedFile::new(file, &path, true);
            // A file that is nobody's index is locked without a store to it.
            let whole = mapped.len()? >= PAGE && Self::is_of_a_cache(names)?;
            if whole {
                mapped.own_blocks(std::slice::from_ref(&(0..PAGE)))?;
            }
            let page = whole.then(|| Memory::page(mapped)).transpose()?;
            let mut old = Self {
                lock: None,
                page,
                sealed: None,
                access: Some(access),
            };
            // Which of the two its writers use, a damaged index does not say: both.
            let lock = FileLock::of_file(|| files::open(&path, true))?.with_word();
            let lock = lock.or_else(|_| FileLock::of_file(|| files::open(&path, true)))?;
            acquire(&lock, old.header(), patience, names)?;
            let there = match files::open(&path, true) {
                Ok(file) => Some(inode_of(&file, &path)?),
                Err(error) if error.is_absent() || error.is_corruption() => None,
                Err(error) => return Err(error),
            };
            if inode_of(lock.file(), &path)? != inode || there != Some(inode) {
                continue;
            }
            old.lock = Some(lock);
            old.sealed = read_sealed::<IndexHeader>(&path)?;
            return Ok(old);
        }
    }

    /// Whether the file at the path is an index by its magic, or has files of a cache next to it.
    fn is_of_a_cache(names: &Names) -> Result<bool> {
        Ok(
            files::is_ours(&names.index(Stage::Final), IndexHeader::MAGIC)?
                || files::is_ours(&names.roster(Stage::Final), RosterHeader::MAGIC)?
                || !names.segments()?.is_empty(),
        )
    }

    /// The header's words, believable or not.
    fn header(&self) -> Option<Header<'_>> {
        let words = self.page.as_ref()?.first();
        Header::new(words)
    }

    /// Who may touch the files that are made.
    fn access_or_of_heap(&self, names: &Names) -> Result<Access> {
        if let (Some(access), Some(_)) = (&self.access, &self.lock) {
            return Ok(access.clone());
        }
        // Something else than a file may stand under a segment's name, beside sound ones.
        let mut first = Err(Error::NotFound {
            path: names.cache().to_owned(),
        });
        for (number, stage) in names.segments()? {
            let path = names.segment(number, stage);
            let access = files::open(&path, false).and_then(|file| Access::of(&file, &path));
            if access.is_ok() {
                return access;
            }
            first = first.or(access);
        }
        first
    }
}

impl Identity {
    fn of_index(header: &IndexHeader) -> Option<Self> {
        Self {
            cache: header.cache_id,
            heap: header.heap_id,
            generation: header.generation,
            seed: header.hash_seed,
            hash_kind: header.hash_kind()?,
            geometry: header.geometry().ok()?,
            created: header.created,
            lock: header.lock_kind(),
        }
        .checked(header.hash_check)
    }

    fn of_segment(header: &SegmentHeader) -> Option<Self> {
        Self {
            cache: header.cache_id,
            heap: header.heap_id,
            generation: 1,
            seed: header.hash_seed,
            hash_kind: header.hash_kind()?,
            geometry: header.geometry()?,
            created: header.created,
            lock: LockKind::Word,
        }
        .checked(header.hash_check)
    }

    fn checked(self, hash_check: u64) -> Option<Self> {
        let hasher = Hasher::new(self.hash_kind, self.seed);
        (hasher.check_value() == hash_check).then_some(self)
    }

    fn owns(&self, header: &SegmentHeader) -> bool {
        header.cache_id == self.cache && header.heap_id == self.heap
    }

    fn plan(&self, capacity: u64, access: Access) -> Plan {
        Plan {
            geometry: self.geometry,
            hash_kind: self.hash_kind,
            seed: self.seed,
            ids: Ids {
                cache: self.cache,
                generation: self.generation.wrapping_add(1),
                heap: self.heap,
                roster: random(),
            },
            created: self.created,
            lock: self.lock,
            capacity,
            access,
        }
    }
}

/// The segments in the directory whose headers can be believed.
fn survey(names: &Names) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for (number, stage) in names.segments()? {
        let header = read_sealed::<SegmentHeader>(&names.segment(number, stage))?;
        found.extend(
            header
                .filter(|header| header.number == u32::from(number))
                .filter(|header| Identity::of_segment(header).is_some())
                .map(|header| Found {
                    number,
                    stage,
                    header,
                }),
        );
    }
    Ok(found)
}

/// Whose cache this is: the index says it, where its header is whole and a segment does not
/// contradict it; else the segments do.
fn identify(names: &Names, old: &Old, segments: &[Found]) -> Result<Identity> {
    let index = old.sealed.as_ref().and_then(Identity::of_index);
    if let Some(identity) = index
        && (segments.is_empty() || segments.iter().any(|found| identity.owns(&found.header)))
    {
        return Ok(identity);
    }
    // Of several heaps, one that has a final name: the others are of a switch that never came to
    // its commit, or are what a committed one had still to remove. Those are older.
    // The roster knows no heap, but whose it is.
    let roster = read_sealed::<RosterHeader>(&names.roster(Stage::Final))?;
    let ours = |found: &Found| {
        let cache = roster.map(|roster| roster.cache_id);
        cache.is_none_or(|cache| cache == found.header.cache_id)
    };
    let newest = segments.iter().max_by_key(|found| {
        (
            ours(found),
            found.stage == Stage::Final,
            found.header.created,
        )
    });
    match newest.and_then(|found| Identity::of_segment(&found.header)) {
        Some(mut identity) => {
            let known = roster.filter(|roster| roster.cache_id == identity.cache);
            identity.generation = known.map_or(1, |roster| roster.generation);
            identity.created = segments
                .iter()
                .filter(|found| found.header.cache_id == identity.cache)
                .map(|found| found.header.created)
                .min()
                .unwrap_or(identity.created);
            Ok(identity)
        }
        None if old.lock.is_none() && names.segments()?.is_empty() => Err(Error::NotFound {
            path: names.cache().to_owned(),
        }),
        None => Err(Error::damaged(
            &names.segment(0, Stage::Final),
            "no segment whose header says which heap it is of",
            0,
        )),
    }
}
