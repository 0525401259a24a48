//! Repair: rebuilding index and roster when they are lost, or when recovery does not suffice.
//!
//! Finds the cache's identity in what is left, and moves other files out of the way. May call
//! `write::writer`, `recovery::from_heap`, `engine::switch` and everything below them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Corruption, Error, ErrorKind, Result};
use crate::format::heap_addr::HeapAddr;
use crate::format::index::{IndexHeader, PAGE, rearrange_from_1};
use crate::format::roster::RosterHeader;
use crate::format::seal::SealedHeader;
use crate::format::segment::SegmentHeader;
use crate::format::{Geometry, HashKind, LockKind, VERSION};
use crate::hash::Hasher;
use crate::index::header::Header;
use crate::lock::{self, FileLock, LockDeadline};
use crate::os::boot_id;
use crate::os::file_names::{FileNames, Stage};
use crate::os::files::{self, Access};
use crate::os::mapped_file::MappedFile;
use crate::os::mmap::MappedWords;
use crate::os::random;
use crate::sync::{Word, load};

use crate::engine::create::{self, Plan};
use crate::engine::file_header::{inode_of, read_sealed, read_version, refuse_foreign};
use crate::engine::generation::{Generation, Ids};
use crate::engine::handle::{Handle, refuse_network};
use crate::engine::heap_presence;
use crate::engine::locking::{acquire, lock_creation};
use crate::engine::options::Options;
use crate::engine::progress::Progress;
use crate::engine::recovery::from_heap::{Damage, Salvage, refill, remove_unwritten};
use crate::engine::staging::{DiscardOnPanic, discard_listed, finish_renames};
use crate::engine::switch::{self, Heap, commit, give_up, map_all};
use crate::engine::verify::{self, checks::VerifyReport};
use crate::engine::write::mutator::{Mutator, WriteResult};
use crate::engine::write::writer::Writer;
use crate::engine::write::{cache_words, durability, in_place, publish};

/// Repairs a cache that cannot be opened, or that [`verify`](crate::MmapCache::verify) finds problems
/// in.
///
/// Does first what the next writer would do anyway. If that is not enough, it rebuilds index and
/// roster from the heap alone, as recovery does after a power loss: for each key the newest record
/// with a valid checksum wins, a deletion like any other. The damaged files stay in place until the new
/// ones are complete and synced, and one rename makes the new ones current. A repair that fails or is
/// killed has changed nothing except the headers of segments that had lost theirs.
///
/// Readers may continue during a repair. The repair waits for a writer that holds the lock. If the
/// index was *removed*, no lock can tell whether a process still writes to it: then the caller must
/// ensure that none does.
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
///         let report = Repair::new(&path).run()?;
///         eprintln!("recovered {} entries", report.entries);
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
    /// The version of the index that is there.
    version: u32,
    progress: Box<dyn FnMut(Progress) + 'a>,
}

/// The result of a [`Repair`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairReport {
    /// Whether index and roster were rebuilt; false if nothing was damaged except bytes that no entry
    /// needs.
    pub rebuilt: bool,
    /// Live entries now.
    pub entries: u64,
    /// Live entries that the old index counted; `None` if it could not be read. A hint: the count may
    /// be damaged too.
    pub entries_before: Option<u64>,
    /// Entries of the old index that were lost, because their records are damaged or missing.
    /// [`Stats::dropped`](crate::Stats::dropped) counts them too. If the old index could not be opened,
    /// it is the difference of the two counts, or else the number of damaged ranges.
    pub dropped: u64,
    /// Entries of the old index whose records were not synced and not written before a power loss. They
    /// are not damage.
    pub unwritten: u64,
    /// Records with a valid checksum: of live entries, dead entries and deletions.
    pub records: u64,
    /// Bytes that should hold records and do not verify. What they held is lost. They stay in the heap
    /// until it is cleaned, or rewritten with [`Repair::rewrite_heap`].
    pub damaged_bytes: u64,
    /// Whether the heap was rewritten, so that these bytes are gone.
    pub rewritten: bool,
    /// Segments that were read; 0 if the recovery that every writer does was enough.
    pub segments: u64,
    /// Numbers of missing segments between the first and the last one that was read. What they held is
    /// lost.
    pub missing_segments: Vec<u16>,
    /// New paths of files that were moved out of the way or kept.
    pub kept: Vec<PathBuf>,
}

/// The identity of a cache, as far as its files still say.
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

/// A segment with a valid header.
struct Found {
    number: u16,
    stage: Stage,
    header: SegmentHeader,
}

/// The file at the index's path, locked.
#[derive(Default)]
struct Old {
    /// Held until the new index is in its place.
    lock: Option<FileLock>,
    /// The file's first page, as far as it goes.
    page: Option<MappedWords>,
    sealed: Option<IndexHeader>,
    access: Option<Access>,
    /// Device and inode.
    inode: (u64, u64),
    /// The first page of an index of format 1, with the words where they are now.
    rearranged: Option<Vec<Word>>,
}

impl<'a> Repair<'a> {
    /// Prepares a repair of the cache at `path`, with default options.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            options: Options::new(),
            keep: false,
            rewrite: false,
            version: VERSION,
            progress: Box::new(|_| {}),
        }
    }

    /// Prepares a rebuild of an index of an older format.
    pub(crate) fn of_version(path: &Path, version: u32) -> Self {
        Self {
            version,
            ..Self::new(path)
        }
    }

    /// Sets the options by which the cache is opened: `heap_path`, `lock_timeout`, `allow_network_fs` and
    /// `capacity`. All others are ignored.
    #[must_use]
    pub fn options(mut self, options: &Options) -> Self {
        self.options = options.clone();
        self
    }

    /// Sets whether the damaged index and roster are kept beside the new ones, as `PATH.damaged` and
    /// `PATH.roster.damaged` (with a number appended if that name is taken). Something that is not a file
    /// of this crate, for instance a directory, is kept in any case. Default: false.
    #[must_use]
    pub fn keep_damaged(mut self, keep: bool) -> Self {
        self.keep = keep;
        self
    }

    /// Sets whether a heap with damaged bytes is rewritten without them afterwards, which needs room for
    /// all live entries once more. Default: false.
    #[must_use]
    pub fn rewrite_heap(mut self, rewrite: bool) -> Self {
        self.rewrite = rewrite;
        self
    }

    /// Sets a function to call after each MiB of the heap, and at each segment's end.
    #[must_use]
    pub fn on_progress(mut self, progress: impl FnMut(Progress) + 'a) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// Repairs the cache. Reads the whole heap once to rebuild, or verifies everything if nothing must be
    /// rebuilt; needs memory for the longest key only.
    ///
    /// After an error index, roster and records are as they were.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NotFound`] if there is neither an index nor a segment.
    /// - [`ErrorKind::Corrupted`] if neither the index nor a segment identifies the cache.
    /// - [`ErrorKind::HeapMissing`] if the index is valid and there is no segment of its heap.
    /// - [`ErrorKind::UnsupportedVersion`] for a cache of another release.
    /// - [`ErrorKind::AlreadyExists`] if a foreign file has the name of a segment.
    /// - [`ErrorKind::InvalidOption`] for a [`capacity`](Options::capacity) that is too large,
    ///   [`ErrorKind::Unsupported`] on a network file system.
    /// - [`ErrorKind::Locked`] if another process holds the lock for longer than the timeout,
    ///   [`ErrorKind::AlreadyWriting`] if this thread holds it.
    /// - [`ErrorKind::DiskFull`], [`ErrorKind::NotRemovable`], [`ErrorKind::SyncFailed`] and
    ///   [`ErrorKind::Io`] if the system refuses a file operation.
    /// - [`ErrorKind::ForkedWriter`] in a child process, if the progress function forks: the parent
    ///   finishes the repair.
    pub fn run(mut self) -> Result<RepairReport> {
        self.options.create = false;
        self.options.create_new = false;
        self.options.read_only = false;
        self.options.exclusive = false;
        let names = FileNames::resolve(&self.path, self.options.heap_path.as_deref())?;
        refuse_network(&names, &self.options)?;
        let mut repaired = match self.recover()? {
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

    /// Lets a writer recover what any writer would, and checks the rest. Returns `None` if that is not
    /// enough.
    fn recover(&self) -> Result<Option<RepairReport>> {
        let checked = Handle::open(&self.path, &self.options).and_then(|handle| {
            drop(Writer::take(&handle)?);
            let recovery = handle.recovered.load_full();
            let report = verify::verify(&handle)?;
            let index = handle.names.index(Stage::Final);
            let roster = handle.names.roster(Stage::Final);
            let only_heap = |report: &VerifyReport| {
                let right = |path: &PathBuf| *path != index && *path != roster;
                report.problems.iter().all(|fault| right(&fault.path))
                    && report.problems.len() as u64 == report.problem_count
            };
            Ok(only_heap(&report).then_some((report, recovery)))
        });
        match checked {
            Ok(right) => Ok(right.map(|(report, recovery)| {
                let before = recovery.as_deref().map(|recovery| recovery.entries_before);
                let recovery = recovery.as_deref().copied().unwrap_or_default();
                RepairReport {
                    rebuilt: before.is_some(),
                    entries: report.entries,
                    entries_before: before.unwrap_or(Some(report.entries)),
                    dropped: recovery.dropped,
                    unwritten: recovery.unwritten,
                    records: report.records,
                    // Filler records have replaced some of them.
                    damaged_bytes: report.damaged_bytes.max(recovery.damaged_bytes),
                    ..RepairReport::default()
                }
            })),
            // A repair restores what the other segments have.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::HeapMissing { .. }
                ) =>
            {
                Ok(None)
            }
            Err(error) if error.is_corruption() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Rebuilds index and roster from the heap.
    pub(crate) fn rebuild(&mut self, names: &FileNames) -> Result<RepairReport> {
        // No other process may create or repair a cache here at the same time.
        let _creation = lock_creation(names, &self.options)?;
        let deadline = LockDeadline::new(self.options.lock_timeout);
        let old = Old::lock(names, &deadline, self.version)?;
        let segments = survey(names)?;
        let identity = match self.version {
            VERSION => identify(names, &old, &segments)?,
            _ => old.identity_with_heap(names, &segments)?,
        };
        for found in segments.iter().filter(|found| identity.owns(&found.header)) {
            // A committed switch has left them: gives them their final names.
            if found.stage == Stage::New {
                let target = names.segment(found.number, Stage::Final);
                refuse_foreign(&target, SegmentHeader::MAGIC)?;
                files::rename(&names.segment(found.number, Stage::New), &target)?;
            }
        }
        let roster = names.roster(Stage::New);
        let is_current = |old: &IndexHeader| -> Result<bool> {
            let found = read_sealed::<RosterHeader>(&roster)?;
            Ok(found.is_some_and(|found| found.roster_id == old.roster_id))
        };
        if let Some(header) = &old.sealed
            && self.version != VERSION
            && is_current(header)?
        {
            files::rename(&roster, &names.roster(Stage::Final))?;
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

    fn build(&mut self, names: &FileNames, old: &Old, identity: &Identity) -> Result<RepairReport> {
        let plan = identity.plan(self.options.capacity, old.access_or_of_heap(names)?);
        let generation = create::generation(names, &plan)?;
        if let (Some(header), Some(_)) = (old.totals(), old.sealed) {
            switch::carry_totals(generation.header(), header);
            if header.sync_error() == 1 && header.written_under() == boot_id::id()? {
                durability::carry_failed_sync(generation.header());
            }
        }
        let mut fresh = Mutator::new(Arc::new(generation), Arc::new(names.clone()), Stage::Final);
        map_all(&mut fresh)?;
        if fresh.generation.segments().next().is_none() {
            return Err(heap_presence::missing_all(
                &fresh.generation,
                names,
                old.totals(),
            ));
        }
        let numbers: Vec<u16> = fresh
            .generation
            .segments()
            .map(|found| found.number())
            .collect();
        let damage = self.damage(old)?;
        if let Some(header) = old.header().filter(|_| self.version == VERSION) {
            // W4: half of that record may be all that the heap has of its key.
            in_place::complete(header, &fresh.generation)?;
        }
        let salvage = self
            .fill(&mut fresh, damage)
            .map_err(|stop| give_up(stop, &fresh))?;
        if damage != Damage::Unknown {
            remove_unwritten(&fresh, damage)?;
        }
        let entries = fresh.generation.header().occupied();
        let entries_before = old.sealed.and(old.header()).map(|header| header.occupied());
        let missing: Vec<u16> = (numbers[0]..numbers[numbers.len() - 1])
            .filter(|number| !numbers.contains(number))
            .collect();
        let fewer = entries_before.map_or(salvage.stretches, |before| {
            // No table has room for more.
            let before = if before > 1 << 31 { entries } else { before };
            before.saturating_sub(entries)
        });
        // A kill or a power loss may have left a count that is too high: that is no damage.
        let is_damaged = damage == Damage::Unknown || salvage.stretches > 0 || !missing.is_empty();
        let (dropped, unwritten) = if is_damaged { (fewer, 0) } else { (0, fewer) };
        publish::count_dropped(fresh.generation.header(), dropped);
        publish::count_recovery(fresh.generation.header());
        if !missing.is_empty() {
            cache_words::distrust_all(fresh.generation.header());
        }
        let kept = self.replace(names, old, &fresh.generation)?;
        Ok(RepairReport {
            rebuilt: true,
            entries,
            entries_before,
            dropped,
            unwritten,
            records: salvage.records,
            damaged_bytes: salvage.damaged_bytes,
            rewritten: false,
            segments: numbers.len() as u64,
            missing_segments: missing,
            kept,
        })
    }

    /// Returns what bytes are that belong to no record. A repair leaves them for inspection; an upgrade
    /// clears the record that a killed writer left unfinished, and what a power loss took.
    fn damage(&self, old: &Old) -> Result<Damage> {
        Ok(match old.totals() {
            Some(header) if self.version != VERSION => {
                let is_here = old.is_of_this_boot(header)?;
                match (header.is_dirty() && !is_here, header.is_flushed()) {
                    (true, _) if header.is_copied(boot_id::id()?, old.inode) => {
                        Damage::Copied(header.tail())
                    }
                    (true, true) => Damage::NeverWritten(header.synced_to()),
                    (true, false) => Damage::NeverWritten(HeapAddr::from_word(0)),
                    (false, _) => Damage::Unfinished(header.tail(), header.counters().roster_len),
                }
            }
            _ => Damage::Unknown,
        })
    }

    fn fill(&mut self, fresh: &mut Mutator, damage: Damage) -> WriteResult<Salvage> {
        let (progress, epoch, path) = (&mut self.progress, lock::epoch(), &self.path);
        refill(fresh, damage, None, &mut |salvage| {
            progress(Progress {
                done_bytes: salvage.read_bytes,
                total_bytes: salvage.heap_bytes,
                records: salvage.records,
            });
            lock::refuse_forked(epoch, path)
        })
    }

    /// Replaces the old generation by the new one.
    fn replace(
        &self,
        names: &FileNames,
        old: &Old,
        generation: &Generation,
    ) -> Result<Vec<PathBuf>> {
        let (index, roster) = (names.index(Stage::Final), names.roster(Stage::Final));
        let mut kept = Vec::new();
        for path in [&index, &roster] {
            kept.extend(files::set_aside(path, self.keep)?);
        }
        commit(names, generation, Heap::Kept, old.header())?;
        // Nothing here can undo the commit: the next writer completes it.
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
    /// Locks the file at the index's path, damaged or not, as a writer of it would.
    fn lock(names: &FileNames, deadline: &LockDeadline, version: u32) -> Result<Self> {
        let path = names.index(Stage::Final);
        loop {
            let file = match files::open(&path, true) {
                Ok(file) => file,
                // A directory, or a FIFO: no writer can have written to it.
                Err(error) if matches!(error.kind(), ErrorKind::NotACacheFile { .. }) => {
                    return Ok(Self::default());
                }
                Err(error) if error.is_absent() => return Ok(Self::default()),
                Err(error) => return Err(error),
            };
            let inode = inode_of(&file, &path)?;
            let access = Access::of(&file, &path)?;
            let mapped = MappedFile::new(file, &path, true);
            // A file that is no index is locked without a store to it.
            let whole = mapped.len()? >= PAGE && Self::is_of_a_cache(names)?;
            if whole {
                mapped.own_blocks(std::slice::from_ref(&(0..PAGE)))?;
            }
            let page = whole.then(|| MappedWords::page(mapped)).transpose()?;
            let mut old = Self {
                lock: None,
                page,
                sealed: None,
                access: Some(access),
                inode,
                rearranged: None,
            };
            // A damaged index does not say which of the two locks its writers use: takes both.
            let lock = FileLock::of_file(|| files::open(&path, true))?.with_futex_lock();
            let lock = lock.or_else(|_| FileLock::of_file(|| files::open(&path, true)))?;
            acquire(&lock, old.header(), deadline, names)?;
            let there = match files::open(&path, true) {
                Ok(file) => Some(inode_of(&file, &path)?),
                Err(error) if error.is_absent() || error.is_corruption() => None,
                Err(error) => return Err(error),
            };
            if inode_of(lock.file(), &path)? != inode || there != Some(inode) {
                continue;
            }
            old.lock = Some(lock);
            old.sealed = read_version::<IndexHeader>(&path, version)?;
            if version == 1
                && let Some(page) = &old.page
            {
                let mut words: Vec<_> = page
                    .first()
                    .iter()
                    .map(|word| Word::new(load(word)))
                    .collect();
                rearrange_from_1(&mut words);
                old.rearranged = Some(words);
            }
            return Ok(old);
        }
    }

    /// Returns whether the file at the path is an index by its magic, or has files of a cache next to
    /// it.
    fn is_of_a_cache(names: &FileNames) -> Result<bool> {
        Ok(
            files::is_ours(&names.index(Stage::Final), IndexHeader::MAGIC)?
                || files::is_ours(&names.roster(Stage::Final), RosterHeader::MAGIC)?
                || !names.segments()?.is_empty(),
        )
    }

    /// Returns the header's words, valid or not.
    fn header(&self) -> Option<Header<'_>> {
        let words = self.page.as_ref()?.first();
        Header::new(words)
    }

    /// Returns the identity that a valid index has, if the heap that it needs is there.
    fn identity_with_heap(&self, names: &FileNames, segments: &[Found]) -> Result<Identity> {
        let identity = self.sealed.as_ref().and_then(Identity::of_index);
        let (Some(identity), Some(header)) = (identity, self.totals()) else {
            let path = names.index(Stage::Final);
            return Err(Error::corrupted(&path, Corruption::HashCheck, 0));
        };
        let is_there = |number: u16| {
            let mut owned = segments.iter().filter(|found| identity.owns(&found.header));
            owned.any(|found| found.number == number)
        };
        let counters = header.counters();
        let is_empty = counters.occupied == 0 && counters.live == 0;
        let is_explained = is_empty || header.is_dirty() && !self.is_of_this_boot(header)?;
        let required = heap_presence::required(header).unwrap_or(0..=0);
        match required.into_iter().find(|&number| !is_there(number)) {
            Some(number) if !is_explained => {
                Err(heap_presence::missing_for(header, names, number, "nothing"))
            }
            _ => Ok(identity),
        }
    }

    fn is_of_this_boot(&self, header: Header<'_>) -> Result<bool> {
        Ok(header.is_from_here(boot_id::id()?, self.inode))
    }

    /// Returns the header's words that the new index continues, where this format has them.
    fn totals(&self) -> Option<Header<'_>> {
        match &self.rearranged {
            Some(words) => Header::new(words),
            None => self.header(),
        }
    }

    /// Returns owner and mode for the new files.
    fn access_or_of_heap(&self, names: &FileNames) -> Result<Access> {
        if let (Some(access), Some(_)) = (&self.access, &self.lock) {
            return Ok(access.clone());
        }
        // Something else than a file may have a segment's name, beside valid ones.
        let mut first = Err(ErrorKind::NotFound.at(&names.cache()));
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
            geometry: self.geometry.for_capacity(capacity),
            hash_kind: self.hash_kind,
            seed: self.seed,
            ids: Ids {
                cache: self.cache,
                generation: self.generation.wrapping_add(1),
                heap: self.heap,
                roster: random::number(),
            },
            created: self.created,
            lock: self.lock,
            capacity,
            access,
        }
    }
}

/// Returns the segments in the directory that have valid headers.
fn survey(names: &FileNames) -> Result<Vec<Found>> {
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

/// Returns the identity of the cache: the index's, if its header is valid and the segments agree with
/// it, or else the segments'.
fn identify(names: &FileNames, old: &Old, segments: &[Found]) -> Result<Identity> {
    let index = old.sealed.as_ref().and_then(Identity::of_index);
    if let Some(identity) = index
        && (segments.is_empty() || segments.iter().any(|found| identity.owns(&found.header)))
    {
        return Ok(identity);
    }
    // Of several heaps, one that has a final name: the others are of a switch that was not committed,
    // or a committed one had still to remove them. Those are older.
    // The roster names no heap, but its cache.
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
        None if old.lock.is_none() && names.segments()?.is_empty() => {
            Err(ErrorKind::NotFound.at(&names.cache()))
        }
        None => Err(Error::corrupted(
            &names.segment(0, Stage::Final),
            Corruption::HeapUnidentified,
            0,
        )),
    }
}
