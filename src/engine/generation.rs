//! One generation of a cache: its index, roster and heap, opened and mapped.
//!
//! Knows how files are opened, checked and made, and which of two names a file stands under during
//! a switch. It does not know how entries are looked up or changed.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::index::{Counters, HeapHome, IndexHeader, PAGE, Poll, word};
use crate::format::region::{Entry, Shape, Stamp};
use crate::format::roster::RosterHeader;
use crate::format::seal::{self, Fault, Sealed};
use crate::format::segment::{self, SegmentHeader, first_place};
use crate::format::slot::{Cursor, Place};
use crate::format::{Geometry, HashKind, LockKind, VERSION};
use crate::hash::Hasher;
use crate::heap::{Found, Segment};
use crate::index::header::{Armed, Header};
use crate::index::roster::Roster;
use crate::index::table::Table;
use crate::lock::FileLock;
use crate::os::boot_id;
use crate::os::files::{self, Access, Names, Stage};
use crate::os::mmap::{MappedFile, page_bytes};

use crate::engine::file_identity::{Seen, last_visit};
use crate::engine::version;

/// Blocks that a fresh segment starts with.
const SEGMENT_START: u64 = 8 * 1024;
/// Blocks that a fresh roster starts with.
const ROSTER_START: u64 = 4096;
/// The smallest capacity of a segment, unless the largest is smaller still.
const SEGMENT_MIN: u64 = 1 << 20;

/// What tells one generation from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    pub cache: [u8; 16],
    pub generation: u64,
    pub heap: u64,
    pub roster: u64,
}

/// One generation, mapped. Immutable but for the words in the files: a handle swaps generations whole.
pub(crate) struct Generation {
    pub table: Arc<Table>,
    pub roster: Arc<Roster>,
    pub ids: Ids,
    pub hasher: Hasher,
    pub hash_kind: HashKind,
    pub seed: u64,
    pub created: u64,
    /// The writer lock; none on a read-only handle.
    pub lock: Option<Arc<FileLock>>,
    /// Device and inode of the index.
    pub inode: (u64, u64),
    /// What the file system said of the files when they were opened for writing.
    pub seen: Seen,
    /// The number of the first segment in `segments`.
    first: u16,
    segments: Box<[Option<Arc<Segment>>]>,
}

impl fmt::Debug for Generation {
    /// Without the hash seed, and without what is mapped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation")
            .field("generation", &self.ids.generation)
            .field("inode", &self.inode)
            .finish_non_exhaustive()
    }
}

/// What a new generation is made with.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub geometry: Geometry,
    pub hash_kind: HashKind,
    pub seed: u64,
    pub ids: Ids,
    pub created: u64,
    pub lock: LockKind,
    /// Entries to make room for.
    pub capacity: u64,
    pub access: Access,
}

impl Generation {
    #[inline]
    pub(crate) fn header(&self) -> Header<'_> {
        self.table.header()
    }

    /// Whether what was put stays as it is.
    pub(crate) fn is_append_only(&self) -> bool {
        self.table.geometry().is_append_only()
    }

    /// Whether the index is a copy of the file that was written to; see [`Header::is_copied`].
    pub(crate) fn is_copied(&self, boot: [u64; 2]) -> bool {
        let header = self.header();
        let (born, known) = (self.seen.born, header.get(word::BORN));
        // A file that was removed and made again may have the same inode number.
        header.is_copied(boot, self.inode) || (born != 0 && known != 0 && born != known)
    }

    /// Whether the files were not flushed, and the last writer of this very index wrote under
    /// another boot, or wrote to another file.
    pub(crate) fn is_from_elsewhere(&self, boot: [u64; 2]) -> bool {
        let header = self.header();
        header.is_dirty() && (self.is_copied(boot) || !header.is_from_here(boot, self.inode))
    }

    /// Whether somebody else than a writer changed a file since the last one left.
    pub(crate) fn is_touched(&self) -> bool {
        self.seen.latest > self.last_visit()
    }

    /// The latest time that the last writer's own stores can have given a file.
    #[inline]
    pub(crate) fn last_visit(&self) -> u64 {
        last_visit(self.header(), self.variant())
    }

    /// Notes that a writer is inside, and with it that all changes seen so far are accounted for.
    pub(crate) fn note_visit(&self) {
        self.header()
            .note_visit(version::now().max(self.seen.latest));
    }

    /// Lets go of the writer lock.
    #[inline]
    pub(crate) fn unlock(&self) {
        if let Some(lock) = &self.lock {
            lock.release(Some(self.header().lock_words()));
        }
    }

    /// A segment that is mapped already.
    #[inline]
    pub(crate) fn segment(&self, number: u16) -> Option<&Segment> {
        self.segments
            .get(usize::from(number.wrapping_sub(self.first)))?
            .as_deref()
    }

    /// The segments that are mapped already.
    pub(crate) fn segments(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.segments.iter().flatten()
    }

    /// The same generation with one more segment mapped, and without those that were cleaned away.
    pub(crate) fn with_segment(&self, segment: Arc<Segment>) -> Self {
        let oldest = self.header().oldest();
        let kept = self
            .segments()
            .filter(|known| known.number() >= oldest && known.number() != segment.number());
        let mut all: Vec<_> = kept.cloned().collect();
        all.push(segment);
        self.with_segments(all)
    }

    /// The same generation with just these segments mapped.
    pub(crate) fn with_segments(&self, all: Vec<Arc<Segment>>) -> Self {
        let first = all
            .iter()
            .map(|segment| segment.number())
            .min()
            .unwrap_or(0);
        let last = all
            .iter()
            .map(|segment| segment.number())
            .max()
            .unwrap_or(0);
        let mut segments: Box<[Option<Arc<Segment>>]> = (first..=last).map(|_| None).collect();
        for segment in all {
            let at = usize::from(segment.number() - first);
            segments[at] = Some(segment);
        }
        Self {
            table: Arc::clone(&self.table),
            roster: Arc::clone(&self.roster),
            lock: self.lock.clone(),
            segments,
            first,
            ids: self.ids,
            hasher: self.hasher,
            hash_kind: self.hash_kind,
            seed: self.seed,
            created: self.created,
            inode: self.inode,
            seen: self.seen,
        }
    }

    /// Opens the generation whose index stands at the cache's path.
    pub(crate) fn open(names: &Names, writable: bool) -> Result<Self> {
        // A switch may rename files while they are looked for under their two names.
        let mut tries = 0;
        loop {
            match Self::open_once(names, writable) {
                Err(error) if tries < 8 && (error.is_absent() || error.is_corruption()) => {
                    if matches!(error, Error::NotFound { .. } | Error::WrongMagic { .. }) {
                        return Err(error);
                    }
                    tries += 1;
                    std::thread::yield_now();
                }
                other => return other,
            }
        }
    }

    fn open_once(names: &Names, writable: bool) -> Result<Self> {
        let path = names.index(Stage::Final);
        let file = files::open(&path, writable).map_err(|error| match error {
            absent if absent.is_absent() => Error::NotFound { path: path.clone() },
            other => other,
        })?;
        let header: IndexHeader = read_header(&file, &path, "an index")?;
        let geometry = header
            .geometry()
            .map_err(|what| Error::damaged(&path, what, 0))?;
        let hash_kind = header
            .hash_kind()
            .ok_or_else(|| Error::damaged(&path, "the hash kind", 72))?;
        let hasher = Hasher::new(hash_kind, header.hash_seed);
        if hasher.check_value() != header.hash_check {
            return Err(Error::damaged(&path, "the hash check value", 64));
        }
        let ids = Ids {
            cache: header.cache_id,
            generation: header.generation,
            heap: header.heap_id,
            roster: header.roster_id,
        };
        let lock = if writable {
            Some(Arc::new(open_lock(&path, header.lock_kind())?))
        } else {
            None
        };
        let inode = inode_of(&file, &path)?;
        if let Some(lock) = &lock
            && inode_of(lock.file(), &path)? != inode
        {
            return Err(Error::io(&path, "open one index twice")(
                io::ErrorKind::NotFound.into(),
            ));
        }
        let table = Table::new(MappedFile::new(file, &path, writable), geometry)?;
        let words = table.header();
        let seen = if writable {
            Seen::of(names, table.file().file(), words)
        } else {
            Seen::default()
        };
        // What was written to under this boot was filled before. (To look for holes in a million
        // entries that are not on the disk yet takes 0.2 ms, and to fill those that were allocated
        // and not yet written moves the files' times.)
        let is_filled = words.is_from_here(boot_id::id()?, inode)
            && seen.latest <= last_visit(words, geometry.variant);
        if !is_filled {
            table.fill_holes()?;
        }
        let roster = open_roster(names, ids, writable, is_filled && writable)?;
        Ok(Self {
            seen: Seen { is_filled, ..seen },
            table: Arc::new(table),
            roster: Arc::new(roster),
            ids,
            hasher,
            hash_kind,
            seed: header.hash_seed,
            created: header.created,
            lock,
            inode,
            first: 0,
            segments: Box::new([]),
        })
    }

    /// Opens one of this generation's segments; none where there is no such file any more.
    pub(crate) fn open_segment(&self, names: &Names, number: u16) -> Result<Option<Arc<Segment>>> {
        let writable = self.lock.is_some();
        // Twice the final name: a rename may happen between the two looks.
        for stage in [Stage::Final, Stage::New, Stage::Final] {
            let path = names.segment(number, stage);
            let file = match files::open(&path, writable) {
                Ok(file) => file,
                Err(error) if error.is_absent() => continue,
                Err(error) if error.is_corruption() => {
                    self.refuse_linked(&path)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let header: SegmentHeader = match read_header(&file, &path, "a heap segment") {
                Ok(header) => header,
                // A segment's name with another file behind it: for this generation the segment is
                // gone.
                Err(error) if error.is_corruption() => continue,
                Err(error) => return Err(error),
            };
            let ours = header.cache_id == self.ids.cache && header.heap_id == self.ids.heap;
            if ours
                && header.number == u32::from(number)
                && (PAGE..=*Geometry::SEGMENT_BYTES.end() + PAGE).contains(&header.capacity)
            {
                let mapped = MappedFile::new(file, &path, writable);
                if !(writable && self.seen.is_filled) {
                    mapped.fill_holes(0..0)?;
                }
                if number == self.header().tail().segment {
                    self.own_end_of(&mapped)?;
                }
                return Ok(Some(Arc::new(Segment::new(
                    mapped,
                    &header,
                    self.variant(),
                )?)));
            }
        }
        Ok(None)
    }

    /// Refuses a symbolic link to a segment of this heap. Links are not followed, but its entries
    /// are not lost either: recovery must not leave them out.
    fn refuse_linked(&self, path: &Path) -> Result<()> {
        let Some(target) = files::link_target(path) else {
            return Ok(());
        };
        let opened = files::open(&target, false);
        let header =
            opened.and_then(|file| read_header::<SegmentHeader>(&file, &target, "a heap segment"));
        let ours = |header: SegmentHeader| {
            header.cache_id == self.ids.cache && header.heap_id == self.ids.heap
        };
        if header.is_ok_and(ours) {
            let what = "a symbolic link to a segment of this heap; links are not followed: move \
                        the file back, or name its place with `heap_path`";
            return Err(Error::Unsupported {
                path: path.to_owned(),
                what,
            });
        }
        Ok(())
    }

    /// Opens a segment whose header cannot be believed, if records of this heap stand in it all
    /// the same, and gives it a header again: its records say by their checksums which heap they
    /// are of, and where in it. Only for whoever rebuilds the index, and holds the lock.
    pub(crate) fn salvage_segment(
        &self,
        names: &Names,
        number: u16,
    ) -> Result<Option<Arc<Segment>>> {
        let path = names.segment(number, Stage::Final);
        let file = match files::open(&path, true) {
            Ok(file) => file,
            Err(error) if error.is_absent() || error.is_corruption() => return Ok(None),
            Err(error) => return Err(error),
        };
        let mapped = MappedFile::new(file, &path, true);
        let capacity = mapped.len()?.next_multiple_of(PAGE);
        if !(PAGE..=*Geometry::SEGMENT_BYTES.end() + PAGE).contains(&capacity) {
            return Ok(None);
        }
        // Before anything of it is read: on a full tmpfs to read a hole is SIGBUS.
        mapped.fill_holes(0..0)?;
        let header = self.segment_header(number, capacity);
        let segment = Segment::new(Arc::clone(&mapped), &header, self.variant())?;
        if has_record(&segment)? {
            write_header(mapped.file(), &path, &header)?;
            return Ok(Some(Arc::new(segment)));
        }
        Ok(None)
    }

    /// Whether a file whose header cannot be believed has a record of this heap.
    pub(crate) fn has_records(&self, file: File, path: &Path, number: u16) -> Result<bool> {
        let mapped = MappedFile::new(file, path, false);
        let capacity = mapped.len()?.next_multiple_of(PAGE);
        if !(PAGE..=*Geometry::SEGMENT_BYTES.end() + PAGE).contains(&capacity) {
            return Ok(false);
        }
        mapped.fill_holes(0..0)?;
        let header = self.segment_header(number, capacity);
        has_record(&Segment::new(mapped, &header, self.variant())?)
    }

    /// Whether a file stands under the name of a segment, whatever is in it.
    pub(crate) fn has_segment_file(names: &Names, number: u16) -> bool {
        let stands = |stage| names.segment(number, stage).symlink_metadata().is_ok();
        stands(Stage::Final) || stands(Stage::New)
    }

    /// Bytes of the segment files from the oldest up to the one before `number`.
    pub(crate) fn heap_bytes_before(&self, names: &Names, number: u16) -> Result<u64> {
        let mut total = 0;
        for found in self.header().oldest()..number {
            total += match self.segment(found) {
                Some(segment) => segment.file().len()?,
                None => self
                    .open_segment(names, found)?
                    .map_or(Ok(0), |segment| segment.file().len())?,
            };
        }
        Ok(total)
    }

    /// Makes a new generation under its preliminary names, with an empty table and no segment.
    pub(crate) fn create(names: &Names, plan: &Plan) -> Result<Self> {
        let (path, roster_path) = (names.index(Stage::New), names.roster(Stage::New));
        // From here on the names are ours: what stands there is removed if the rest fails. The
        // first error is the one to report.
        let index = files::create(&path, &plan.access)?;
        let roster = files::create(&roster_path, &plan.access).inspect_err(|_| {
            let _ = files::remove(&path);
        })?;
        Self::fill(names, plan, index, roster).inspect_err(|_| {
            let _ = files::remove(&path);
            let _ = files::remove(&roster_path);
        })
    }

    fn fill(names: &Names, plan: &Plan, file: File, roster: File) -> Result<Self> {
        let path = names.index(Stage::New);
        let hasher = Hasher::new(plan.hash_kind, plan.seed);
        let mapped = MappedFile::created(
            file.try_clone()
                .map_err(Error::io(&path, "open the file"))?,
            &path,
        );
        // Before anything is allocated of what there is no room for.
        let depth = depth_for(&plan.geometry, plan.capacity);
        let regions = (plan.geometry.region_bytes() as u64) << depth;
        mapped.check_room((8 << depth) + regions + roster_bytes(plan))?;
        mapped.allocate(0, PAGE)?;
        let lock = new_lock(&path, plan.lock)?;
        let header = IndexHeader {
            flags: IndexHeader::flags_for(lock.kind(), &plan.geometry),
            ..index_header(plan, hasher)
        };
        write_header(&file, &path, &header)?;
        let table = Table::new(Arc::clone(&mapped), plan.geometry)?;
        lay_out(&table, depth)?;
        let inode = inode_of(&file, &path)?;
        table.header().set(word::INODE, inode.1);
        let seen = Seen::of_new(&file);
        table.header().set(word::BORN, seen.born);
        let home = HeapHome {
            home: names.heap_home(),
            whole_from: 0,
        };
        table.header().set(word::HEAP_HOME, home.to_word());
        let roster = create_roster(names, plan, roster)?;
        Ok(Self {
            table: Arc::new(table),
            roster: Arc::new(roster),
            ids: plan.ids,
            hasher,
            hash_kind: plan.hash_kind,
            seed: plan.seed,
            created: plan.created,
            lock: Some(Arc::new(lock)),
            inode,
            seen,
            first: 0,
            segments: Box::new([]),
        })
    }

    /// Makes the file of a segment and maps it. A final name is given only to a finished file.
    pub(crate) fn create_segment(
        &self,
        names: &Names,
        number: u16,
        capacity: u64,
        stage: Stage,
        access: &Access,
    ) -> Result<Arc<Segment>> {
        let path = names.segment(number, Stage::New);
        let target = names.segment(number, Stage::Final);
        refuse_other_segment(&target, self.ids.cache)?;
        files::remove_stale(&path, SegmentHeader::MAGIC)?;
        let file = files::create(&path, access)?;
        let header = self.segment_header(number, capacity);
        let mapped = MappedFile::created(file, &path);
        let made = mapped
            .allocate(0, SEGMENT_START.min(capacity))
            .and_then(|()| write_header(mapped.file(), &path, &header));
        if let Err(error) = made {
            let _ = files::remove(&path);
            return Err(error);
        }
        if stage == Stage::Final {
            files::rename(&path, &target)?;
            let file = mapped
                .file()
                .try_clone()
                .map_err(Error::io(&target, "open the file"))?;
            return Ok(Arc::new(Segment::new(
                MappedFile::new(file, &target, true),
                &header,
                self.variant(),
            )?));
        }
        Ok(Arc::new(Segment::new(mapped, &header, self.variant())?))
    }

    fn segment_header(&self, number: u16, capacity: u64) -> SegmentHeader {
        let geometry = self.table.geometry();
        SegmentHeader {
            cache_id: self.ids.cache,
            heap_id: self.ids.heap,
            capacity,
            number: u32::from(number),
            flags: SegmentHeader::flags_for(geometry),
            hash_seed: self.seed,
            hash_check: self.hasher.check_value(),
            hash_kind: self.hash_kind.to_disk(),
            region_slots: geometry.region_slots,
            inline_key: geometry.inline_key,
            directory_bits: geometry.directory_bits,
            record_variant: geometry.variant.to_disk(),
            max_segment_bytes: geometry.max_segment_bytes,
            max_entries: geometry.max_entries,
            // Deletions are dropped with their segments; what is left remembers their versions.
            created: version::now().max(self.header().get(word::LAST_MTIME)),
            ..bytemuck::Zeroable::zeroed()
        }
    }

    /// The capacity of the next segment: an eighth of the heap, and enough for a record of `need`
    /// bytes.
    pub(crate) fn next_capacity(&self, heap_bytes: u64, need: u64) -> u64 {
        let most = self.table.geometry().max_segment_bytes;
        let share = (heap_bytes / 8).clamp(SEGMENT_MIN.min(most), most);
        whole_pages(share.max(need + segment::HEADER_BYTES), page_bytes())
    }

    /// Begins the heap of a new generation with its first segment.
    pub(crate) fn with_first_segment(self, names: &Names, access: &Access) -> Result<Self> {
        let capacity = self.next_capacity(0, 0);
        let segment = self.create_segment(names, 0, capacity, Stage::New, access)?;
        let header = self.header();
        header.unreserve(first_place(0));
        header.set_tail(first_place(0));
        header.set(word::CURSOR, Cursor::at(first_place(0)).to_word());
        Ok(self.with_segment(segment))
    }

    /// Writes the mapped segments to the disk.
    pub(crate) fn sync_heap(&self) -> Result<()> {
        self.segments()
            .try_for_each(|segment| segment.file().sync())
    }

    /// Sees to it that no store needs blocks that files share, as far as it can be foreseen: they
    /// may since another program copied them.
    #[inline]
    pub(crate) fn own_blocks(&self) -> Result<()> {
        if self.table.file().shares_blocks() {
            return self.own_shared_blocks();
        }
        Ok(())
    }

    #[cold]
    fn own_shared_blocks(&self) -> Result<()> {
        self.table.own_blocks()?;
        let roster = self.roster.file();
        roster.own_blocks(std::slice::from_ref(&(0..roster.len()?)))?;
        match self.segment(self.header().tail().segment) {
            Some(last) => self.own_end_of(last.file()),
            None => Ok(()),
        }
    }

    /// Of the last segment only what is stored to, and what the page cache may hold with it.
    fn own_end_of(&self, file: &MappedFile) -> Result<()> {
        let from = self.header().tail().bytes() & !((1 << 21) - 1);
        file.own_blocks(std::slice::from_ref(&(from..file.len()?)))
    }

    /// Writes roster and index to the disk.
    pub(crate) fn sync_index(&self) -> Result<()> {
        self.roster.file().sync()?;
        self.table.sync()
    }

    /// Positions of the roster that can be looked at, whatever the header says of their number.
    pub(crate) fn roster_len(&self) -> u32 {
        self.positions_there(self.header().roster_len())
    }

    /// Whether the header counts positions that the roster, as it is mapped, does not have.
    pub(crate) fn lacks_positions(&self) -> bool {
        self.header().roster_len() > u64::from(self.roster_len())
    }

    fn positions_there(&self, said: u64) -> u32 {
        let there = if said > self.roster.room() {
            self.roster.refresh().unwrap_or(0)
        } else {
            said
        };
        said.min(there).min(1 << 31) as u32
    }

    /// An error if the header counts more positions than the roster file has room for: what goes by
    /// the roster would leave out entries. A writer makes room before it counts.
    pub(crate) fn check_roster_length(&self) -> Result<()> {
        let said = self.header().roster_len();
        let there = self.positions_there(said);
        if u64::from(there) == said {
            return Ok(());
        }
        let what = "a roster that ends before the positions that the index counts";
        Err(self.roster.damaged(there, what))
    }

    /// What cannot be true in the header's changing words, if anything cannot, and the word.
    pub(crate) fn fault(&self) -> Option<(&'static str, usize)> {
        let header = self.header();
        let tail = header.tail();
        // Of a change that was killed half-way some are as before it, and some as after it.
        let counters = match header.intent() {
            Armed::Yes(intent) => intent.after(),
            Armed::No | Armed::Damaged => header.counters(),
        };
        let geometry = self.table.geometry();
        let slots = counters
            .regions
            .saturating_mul(u64::from(geometry.region_slots));
        let heap = header.get(word::HEAP_BASE).saturating_add(tail.bytes());
        if counters.regions == 0 || counters.regions > self.table.regions_there() {
            Some(("the number of regions", word::COUNTERS + 6))
        } else if counters.roster_len != u64::from(self.positions_there(counters.roster_len))
            || counters.hole_head > counters.roster_len
        {
            Some((
                "the roster's length or its list of holes",
                word::COUNTERS + 4,
            ))
        } else if counters.occupied > counters.roster_len
            || counters.deleted > slots
            || counters.high_water > slots
        {
            Some(("the number of entries", word::COUNTERS))
        } else if counters.live > heap || heap > 1 << 62 {
            Some(("the number of heap bytes", word::COUNTERS + 7))
        } else if header
            .checked_oldest()
            .is_none_or(|oldest| oldest > tail.segment)
        {
            Some(("the heap's first segment", word::OLDEST))
        } else if header.get(word::SYNC_ERROR) > 1 {
            Some(("the mark of a failed sync", word::SYNC_ERROR))
        } else if header.get(word::LAST_MTIME) > crate::engine::version::Version::MAX {
            Some(("the last version", word::LAST_MTIME))
        } else if self.has_numbers_at_fault(counters.roster_len) {
            Some(("the numbers that are reserved", word::LAST_MTIME))
        } else {
            None
        }
    }

    /// Where the heap ends, if the header can be believed so far.
    pub(crate) fn plausible(&self, place: Place) -> bool {
        self.segment(place.segment)
            .is_some_and(|segment| place.bytes() <= segment.capacity())
    }
}

fn has_record(segment: &Segment) -> Result<bool> {
    let mut walker = segment.walk(0, segment.capacity_units());
    while let Some(found) = walker.step()? {
        if matches!(found, Found::Record(..)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The capacity of a segment that has room for so many bytes: whole pages of the page cache, and no
/// more than a segment may have.
fn whole_pages(bytes: u64, page: u64) -> u64 {
    bytes
        .next_multiple_of(page)
        .min(*Geometry::SEGMENT_BYTES.end() + PAGE)
}

/// Refuses to put a file of ours where one of somebody else's stands.
pub(crate) fn refuse_foreign(path: &Path, magic: [u8; 8]) -> Result<()> {
    if path.symlink_metadata().is_ok() && !files::is_ours_or_blank(path, magic)? {
        return Err(Error::AlreadyExists {
            path: path.to_owned(),
        });
    }
    Ok(())
}

/// Refuses to put a segment of a cache where there is something else: no segment, or one of another
/// cache or of another release.
pub(crate) fn refuse_other_segment(path: &Path, cache_id: [u8; 16]) -> Result<()> {
    refuse_foreign(path, SegmentHeader::MAGIC)?;
    match read_sealed::<SegmentHeader>(path)? {
        Some(header) if header.cache_id != cache_id => Err(Error::AlreadyExists {
            path: path.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Device and inode of an open file.
pub(crate) fn inode_of(file: &File, path: &Path) -> Result<(u64, u64)> {
    let meta = file
        .metadata()
        .map_err(Error::io(path, "read the inode of the file"))?;
    Ok((meta.dev(), meta.ino()))
}

fn read_header<T: Sealed>(file: &File, path: &Path, what: &'static str) -> Result<T> {
    let mut bytes = vec![0; size_of::<T>()];
    let mut have = 0;
    while have < bytes.len() {
        match file.read_at(&mut bytes[have..], have as u64) {
            Ok(0) => break,
            Ok(count) => have += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io(path, "read the header")(error)),
        }
    }
    seal::open(&bytes[..have]).map_err(|fault| match fault {
        Fault::Short if have == 0 => Error::damaged(path, "an empty file", 0),
        fault => refusal(path, what, fault),
    })
}

/// The header of a file; none where it is not there, or not of this kind. That it cannot be opened,
/// or is of another release, does not mean so: what is taken for nobody's is removed.
pub(crate) fn read_sealed<T: Sealed>(path: &Path) -> Result<Option<T>> {
    let file = match files::open(path, false) {
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
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(Error::io(path, "read the header")(error)),
    }
}

/// Why a file is not read whose header has this fault; `what` is the kind of file it should be.
pub(crate) fn refusal(path: &Path, what: &'static str, fault: Fault) -> Error {
    let of_release = |found, flags| Error::Version {
        path: path.to_owned(),
        found,
        supported: VERSION,
        flags,
    };
    match fault {
        Fault::Short => Error::damaged(path, "a header cut short", 0),
        Fault::Magic => Error::WrongMagic {
            path: path.to_owned(),
            what,
        },
        Fault::Version(found) => of_release(found, 0),
        Fault::Flags(flags) => of_release(VERSION, flags),
        Fault::Checksum => Error::damaged(path, "the header's checksum", 12),
    }
}

fn write_header<T: Sealed>(file: &File, path: &Path, header: &T) -> Result<()> {
    #[cfg(any(test, fuzzing))]
    crate::sync::failpoint::step(crate::sync::failpoint::Step::Write);
    file.write_all_at(&seal::seal(*header), 0)
        .map_err(Error::io(path, "write the header"))
}

fn index_header(plan: &Plan, hasher: Hasher) -> IndexHeader {
    IndexHeader {
        cache_id: plan.ids.cache,
        generation: plan.ids.generation,
        heap_id: plan.ids.heap,
        roster_id: plan.ids.roster,
        hash_seed: plan.seed,
        hash_check: hasher.check_value(),
        hash_kind: plan.hash_kind.to_disk(),
        region_slots: plan.geometry.region_slots,
        inline_key: plan.geometry.inline_key,
        directory_bits: plan.geometry.directory_bits,
        record_variant: plan.geometry.variant.to_disk(),
        max_segment_bytes: plan.geometry.max_segment_bytes,
        max_entries: plan.geometry.max_entries,
        created: plan.created,
        ..bytemuck::Zeroable::zeroed()
    }
}

fn open_lock(path: &Path, kind: LockKind) -> Result<FileLock> {
    FileLock::open(kind, || files::open(path, true))?.map_err(|error| {
        if is_no_such_lock(&error) {
            return Error::Unsupported {
                path: path.to_owned(),
                what: "locked by a word of the index, for which this system or file system lacks \
                       the means; read it, or make it anew here",
            };
        }
        Error::io(path, "prepare the lock")(error)
    })
}

/// The lock of a new index: by `flock` where the system has no better one.
fn new_lock(path: &Path, kind: LockKind) -> Result<FileLock> {
    match FileLock::open(kind, || files::open(path, true))? {
        Err(error) if is_no_such_lock(&error) => open_lock(path, LockKind::Flock),
        opened => opened.map_err(Error::io(path, "prepare the lock")),
    }
}

fn is_no_such_lock(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, Unsupported};
    matches!(error.kind(), InvalidInput | Unsupported)
}

/// The directory's depth of a new index with room for so many entries.
fn depth_for(geometry: &Geometry, capacity: u64) -> u32 {
    let per_region = u64::from(geometry.region_slots) * 3 / 4;
    let mut depth = 0;
    while depth < geometry.directory_bits && per_region << depth < capacity {
        depth += 1;
    }
    depth
}

/// Positions to make room for, in bytes: as many as there can be at the directory's full depth, at
/// most.
fn roster_bytes(plan: &Plan) -> u64 {
    let most = u64::from(plan.geometry.region_slots) << plan.geometry.directory_bits;
    plan.capacity.min(most) * 4
}

/// Fills a new index with empty regions, one to each directory entry.
fn lay_out(table: &Table, depth: u32) -> Result<()> {
    table.allocate_margin()?;
    table.allocate_directory(0, depth)?;
    table.allocate_regions(1 << depth)?;
    for prefix in 0..1_u32 << depth {
        let (region, incarnation) = (table.region(prefix)?, u64::from(prefix) + 1);
        region.set_stamp(Stamp::building(incarnation));
        region.reset(Shape { depth, prefix });
        region.set_stamp(Stamp::live(incarnation));
        table.set_entry(prefix, Entry::new(prefix, incarnation))?;
    }
    let header = table.header();
    header.set(word::INCARNATION, (1 << depth) + 1);
    header.set_counters(&Counters {
        regions: 1 << depth,
        ..Counters::default()
    });
    header.set_poll(Poll::at_depth(depth));
    Ok(())
}

fn open_roster(names: &Names, ids: Ids, writable: bool, is_filled: bool) -> Result<Roster> {
    let mut last = None;
    for stage in [Stage::Final, Stage::New, Stage::Final] {
        let path = names.roster(stage);
        let opened = files::open(&path, writable).and_then(|file| {
            let header: RosterHeader = read_header(&file, &path, "a roster")?;
            if header.cache_id != ids.cache || header.roster_id != ids.roster {
                return Err(Error::damaged(&path, "a roster of another generation", 32));
            }
            let mapped = MappedFile::new(file, &path, writable);
            if !is_filled {
                mapped.fill_holes(0..0)?;
            }
            Roster::new(mapped)
        });
        match opened {
            Ok(roster) => return Ok(roster),
            Err(error) if error.is_absent() => {}
            Err(error) if error.is_corruption() => last = Some(error),
            // What cannot be opened is not known to be missing.
            Err(error) => return Err(error),
        }
    }
    let path = names.roster(Stage::Final);
    Err(last.unwrap_or_else(|| Error::damaged(&path, "no roster", 0)))
}

fn create_roster(names: &Names, plan: &Plan, file: File) -> Result<Roster> {
    let path = names.roster(Stage::New);
    let mapped = MappedFile::created(file, &path);
    mapped.allocate(0, ROSTER_START)?;
    let header = RosterHeader {
        cache_id: plan.ids.cache,
        roster_id: plan.ids.roster,
        generation: plan.ids.generation,
        ..bytemuck::Zeroable::zeroed()
    };
    write_header(mapped.file(), &path, &header)?;
    let roster = Roster::new(mapped)?;
    if plan.capacity > 0 {
        roster.allocate(roster_bytes(plan) / 4)?;
    }
    Ok(roster)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_capacities_are_whole_pages() {
        let most = *Geometry::SEGMENT_BYTES.end();
        for page in [4 << 10, 64 << 10] {
            for bytes in [1, 4096, 4097, 1 << 20, (1 << 20) + 1] {
                let capacity = whole_pages(bytes, page);
                assert!(
                    capacity >= bytes && capacity.is_multiple_of(page),
                    "{page} {bytes}"
                );
            }
            // Whoever opens a segment refuses more.
            assert_eq!(whole_pages(most + 64, page), most + PAGE);
        }
    }
}
