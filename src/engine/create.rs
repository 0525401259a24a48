//! Creates files: those of a new generation under preliminary names, its segments, and a whole
//! cache that does not exist yet.
//!
//! The rename of the index commits (G2): before it the files have preliminary names, and a kill
//! leaves nothing but files that the next creation removes. May call `open`, `staging` and
//! everything below them.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Corruption, Error, ErrorKind, Result};
use crate::format::index::{HeapHome, HeapLocation, IndexHeader, PAGE};
use crate::format::region::{DirectoryEntry, RegionShape, RegionStateWord};
use crate::format::roster::RosterHeader;
use crate::format::seal::SealedHeader;
use crate::format::segment::{self, SegmentHeader, first_place};
use crate::format::{Geometry, HashKind, LockKind};
use crate::hash::Hasher;
use crate::heap::Segment;
use crate::index::roster::Roster;
use crate::index::table::Table;
use crate::lock::LockDeadline;
use crate::os::boot_id;
use crate::os::file_names::{FileNames, Stage};
use crate::os::files::{self, Access};
use crate::os::mapped_file::{MappedFile, page_bytes};
use crate::os::random;

use crate::engine::file_header::{inode_of, refuse_foreign, refuse_other_segment, write_header};
use crate::engine::file_identity::FileTimes;
use crate::engine::generation::{FIRST_GENERATION, Generation, Ids, MappedSegments};
use crate::engine::locking;
use crate::engine::open;
use crate::engine::options::{Durability, Options};
use crate::engine::segment_numbers::{Extent, is_there};
use crate::engine::staging::{
    discard_listed, discard_staged, discard_undone, finish_renames, left_without_index, lost_roster,
};
use crate::engine::version;
use crate::engine::write::cache_words;

/// Bytes that are allocated for a new segment.
const SEGMENT_START: u64 = 4 * 1024;
/// Bytes that are allocated for a new roster.
const ROSTER_START: u64 = 4096;
/// The smallest capacity of a segment, unless the largest is smaller still.
const SEGMENT_MIN: u64 = 1 << 20;

/// The properties of a generation that is to be created.
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

impl Plan {
    /// Returns the depth of a directory that has room for the planned entries.
    fn depth(&self) -> u32 {
        let per_region = u64::from(self.geometry.region_slots) * 3 / 4;
        let mut depth = 0;
        while depth < self.geometry.directory_bits && per_region << depth < self.capacity {
            depth += 1;
        }
        depth
    }

    /// Returns the bytes of the roster positions to make room for: at most as many as there are
    /// slots at the directory's full depth.
    fn roster_bytes(&self) -> u64 {
        let most = u64::from(self.geometry.region_slots) << self.geometry.directory_bits;
        self.capacity.min(most) * size_of::<u32>() as u64
    }

    fn index_header(&self, hasher: Hasher, lock: LockKind) -> IndexHeader {
        IndexHeader {
            cache_id: self.ids.cache,
            generation: self.ids.generation,
            heap_id: self.ids.heap,
            roster_id: self.ids.roster,
            hash_seed: self.seed,
            hash_check: hasher.check_value(),
            hash_kind: self.hash_kind.to_disk(),
            // A2: the geometry of the generation before has the flag, or that of the options.
            flags: IndexHeader::flags_for(lock, &self.geometry),
            region_slots: self.geometry.region_slots,
            directory_bits: self.geometry.directory_bits,
            record_variant: self.geometry.variant.to_disk(),
            max_segment_bytes: self.geometry.max_segment_bytes,
            max_entries: self.geometry.max_entries,
            created: self.created,
            ..bytemuck::Zeroable::zeroed()
        }
    }
}

/// Creates a generation under preliminary names, with an empty table and no segment.
pub(crate) fn generation(names: &FileNames, plan: &Plan) -> Result<Generation> {
    let (path, roster_path) = (names.index(Stage::New), names.roster(Stage::New));
    // From here on the names are ours: the files are removed if the rest fails. The first error is
    // the one to report.
    let index = files::create(&path, &plan.access)?;
    let roster = files::create(&roster_path, &plan.access).inspect_err(|_| {
        let _ = files::remove(&path);
    })?;
    fill(names, plan, index, roster).inspect_err(|_| {
        let _ = files::remove(&path);
        let _ = files::remove(&roster_path);
    })
}

fn fill(names: &FileNames, plan: &Plan, file: File, roster: File) -> Result<Generation> {
    let path = names.index(Stage::New);
    let hasher = Hasher::new(plan.hash_kind, plan.seed);
    let mapped = MappedFile::created(
        file.try_clone()
            .map_err(Error::io(&path, "open the file"))?,
        &path,
    );
    // Before anything is allocated that there is no room for.
    let depth = plan.depth();
    let regions = (plan.geometry.region_bytes() as u64) << depth;
    mapped.check_room((8 << depth) + regions + plan.roster_bytes())?;
    mapped.allocate(0, PAGE)?;
    let lock = locking::open_new(&path, plan.lock)?;
    write_header(&file, &path, &plan.index_header(hasher, lock.kind()))?;
    let table = Table::new(Arc::clone(&mapped), plan.geometry)?;
    lay_out(&table, depth)?;
    let inode = inode_of(&file, &path)?;
    let seen = FileTimes::of_new(&file);
    let words = table.header().new_file_words();
    words.set_file(inode.1, seen.born);
    let home = HeapHome {
        home: names.heap_home(),
        whole_from: 0,
    };
    words.set_heap_home(home);
    let roster = create_roster(names, plan, roster)?;
    Ok(Generation {
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
        mapped: MappedSegments::default(),
    })
}

/// Fills a new index with empty regions, one for each directory entry.
fn lay_out(table: &Table, depth: u32) -> Result<()> {
    debug_assert!(depth <= table.geometry().directory_bits);
    table.allocate_margin()?;
    table.allocate_directory(0, depth)?;
    table.allocate_regions(1 << depth)?;
    for prefix in 0..1_u32 << depth {
        let (region, incarnation) = (table.region(prefix)?, u64::from(prefix) + 1);
        region.set_stamp(RegionStateWord::building(incarnation));
        region.reset(RegionShape { depth, prefix });
        region.set_stamp(RegionStateWord::live(incarnation));
        table.set_entry(prefix, DirectoryEntry::new(prefix, incarnation))?;
    }
    table.header().new_file_words().begin_table(depth);
    Ok(())
}

fn create_roster(names: &FileNames, plan: &Plan, file: File) -> Result<Roster> {
    let roster = empty_roster(&names.roster(Stage::New), plan.ids, file)?;
    if plan.capacity > 0 {
        roster.allocate(plan.roster_bytes() / size_of::<u32>() as u64)?;
    }
    Ok(roster)
}

/// Makes a new file the roster of a generation, without a position.
fn empty_roster(path: &Path, ids: Ids, file: File) -> Result<Roster> {
    let mapped = MappedFile::created(file, path);
    mapped.allocate(0, ROSTER_START)?;
    let header = RosterHeader {
        cache_id: ids.cache,
        roster_id: ids.roster,
        generation: ids.generation,
        ..bytemuck::Zeroable::zeroed()
    };
    write_header(mapped.file(), path, &header)?;
    Roster::new(mapped)
}

/// Creates the file of a segment and maps it. H3: only a complete file gets its final name.
pub(crate) fn segment(
    generation: &Generation,
    names: &FileNames,
    number: u16,
    capacity: u64,
    stage: Stage,
    access: &Access,
) -> Result<Arc<Segment>> {
    debug_assert!(capacity.is_multiple_of(PAGE), "H2: whole pages");
    let path = names.segment(number, Stage::New);
    let target = names.segment(number, Stage::Final);
    refuse_other_segment(&target, generation.ids.cache)?;
    files::remove_stale(&path, SegmentHeader::MAGIC)?;
    let file = files::create(&path, access)?;
    let header = generation.segment_header(number, capacity);
    let mapped = MappedFile::created(file, &path);
    let made = mapped
        .allocate(0, SEGMENT_START.min(capacity))
        .and_then(|()| write_header(mapped.file(), &path, &header));
    if let Err(error) = made {
        let _ = files::remove(&path);
        return Err(error);
    }
    let mapped = match stage {
        Stage::New => mapped,
        Stage::Final => {
            files::rename(&path, &target)?;
            let file = mapped
                .file()
                .try_clone()
                .map_err(Error::io(&target, "open the file"))?;
            MappedFile::new(file, &target, true)
        }
    };
    let segment = Segment::new(mapped, &header, generation.variant())?;
    Ok(Arc::new(segment))
}

/// Returns the capacity of the next segment: an eighth of the heap, and enough for a record of
/// `need` bytes.
pub(crate) fn next_capacity(generation: &Generation, heap_bytes: u64, need: u64) -> u64 {
    let most = generation.table.geometry().max_segment_bytes;
    let share = (heap_bytes / 8).clamp(SEGMENT_MIN.min(most), most);
    whole_pages(share.max(need + segment::HEADER_BYTES), page_bytes())
}

/// Returns the capacity of the next segment of a bounded cache: a share of the bound, and enough for
/// a record of `need` bytes.
pub(crate) fn bounded_capacity(share: u64, need: u64) -> u64 {
    whole_pages(share.max(need + segment::HEADER_BYTES), page_bytes())
}

/// Rounds the capacity of a segment up to whole pages of the page cache, within the limit of a
/// segment.
fn whole_pages(bytes: u64, page: u64) -> u64 {
    bytes
        .next_multiple_of(page)
        .min(*Geometry::SEGMENT_BYTES.end() + PAGE)
}

/// Creates the first segment of a new generation's heap.
pub(crate) fn first_segment(
    generation: Generation,
    names: &FileNames,
    access: &Access,
) -> Result<Generation> {
    debug_assert!(generation.segments().next().is_none(), "a new heap");
    let capacity = next_capacity(&generation, 0, 0);
    let first = segment(&generation, names, 0, capacity, Stage::New, access)?;
    generation
        .header()
        .new_file_words()
        .begin_heap(first_place(0), generation.is_in_place());
    Ok(generation.with_segment(first))
}

/// Creates a cache, or opens it if another process has just created it.
pub(crate) fn cache(names: &FileNames, options: &Options) -> Result<Generation> {
    let was_used = is_there(&names.lock());
    let _creation = locking::lock_creation(names, options)?;
    match open::generation(names, true) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound) => {}
        Ok(_) if options.create_new => {
            return Err(ErrorKind::AlreadyExists.at(&names.cache()));
        }
        other => return other,
    }
    refuse_foreign(&names.roster(Stage::Final), RosterHeader::MAGIC)?;
    let heap = names.segment(0, Stage::Final);
    refuse_foreign(&heap, SegmentHeader::MAGIC)?;
    if let Some(path) = left_without_index(names, was_used)? {
        return Err(index_lost(&path));
    }
    discard_undone(names)?;
    if was_used {
        // An interrupted copy or a power loss may have left any number of files.
        discard_listed(names)?;
    } else {
        discard_staged(names, Extent::NONE)?;
    }
    let made = files_of_cache(names, options);
    if made.is_err() {
        // The first error is the one to report; the next creation removes what is left.
        let _ = discard_staged(names, Extent::NONE);
    }
    // From here on it is a cache; if the renames fail here, the next writer does them.
    let generation = made?;
    finish_renames(names, &generation)?;
    let header = generation.header();
    if !header.is_flushed() && (options.durability == Durability::Sync || !header.is_marked()) {
        header.note_sync(names.sync_dirs())?;
        generation.note_visit();
    }
    generation.unlock();
    drop(generation);
    open::generation(names, true)
}

/// Creates the files of an empty cache, and commits it by the rename of the index (G2). The caller
/// holds the creation lock.
fn files_of_cache(names: &FileNames, options: &Options) -> Result<Generation> {
    let geometry = options.geometry(names.cache())?;
    let plan = Plan {
        capacity: options.capacity_within(&geometry, names.cache())?,
        geometry,
        hash_kind: options.hash_kind,
        seed: random::number(),
        ids: Ids {
            cache: random::id(),
            generation: FIRST_GENERATION,
            heap: random::number(),
            roster: random::number(),
        },
        created: version::now(),
        lock: options.lock,
        access: Access::new(options.mode),
    };
    let generation = first_segment(generation(names, &plan)?, names, &plan.access)?;
    if generation.header().is_expiring() {
        cache_words::set_has_deadlines(generation.header(), false);
    }
    generation.header().set_renames_pending(true);
    Extent::NONE.set_replaced(generation.header());
    sync_new_cache(&generation, names)?;
    // From the rename on other processes can open the cache, and even replace it. The lock keeps
    // them from that until its files have their final names.
    if let Some(lock) = &generation.lock {
        locking::acquire(
            lock,
            Some(generation.header()),
            &LockDeadline::new(Some(Duration::ZERO)),
            names,
        )?;
        generation.note_visit();
    }
    files::rename_new(&names.index(Stage::New), &names.index(Stage::Final))?;
    Ok(generation)
}

/// Syncs what a power loss must leave of a cache that promises nothing yet: an index that says so. The
/// index is marked as dirty before, so the first change has nothing to sync, and after a power loss the
/// next writer takes what it finds of the other files.
fn sync_new_cache(generation: &Generation, names: &FileNames) -> Result<()> {
    let is_marked = mark_new(generation, boot_id::id()?);
    let is_elsewhere = names.heap_home() == HeapLocation::Elsewhere;
    if is_elsewhere || !is_marked {
        generation.sync_heap()?;
        names.sync_heap_dir()?;
        generation.roster.file().sync()?;
    }
    if is_elsewhere {
        // After a power loss a heap elsewhere without any segment counts as not mounted. So the removal
        // of a segment waits for the next one's sync from now on.
        let header = generation.header();
        header.new_file_words().begin_flushed(header.tail());
    }
    generation.table.sync()?;
    if is_elsewhere || !is_marked {
        names.sync_index_dir()?;
    }
    Ok(())
}

/// Marks a generation that no other process can see yet as dirty, under this boot. Returns false if the
/// system does not say which boot it is: then no mark would tell this boot from another.
pub(crate) fn mark_new(generation: &Generation, boot: [u64; 2]) -> bool {
    let is_known = boot != [0; 2];
    if is_known {
        let words = generation.header().new_file_words();
        words.begin_dirty(boot, generation.inode, generation.seen.born);
    }
    is_known
}

/// Gives a cache an empty roster in place of one that a power loss took before anything was flushed:
/// the next writer rebuilds it. Does nothing if another process has done it, or if that is not what the
/// error of an opening was about: the caller opens the files again to see.
pub(crate) fn restore_roster(names: &FileNames, options: &Options) -> Result<()> {
    let boot = boot_id::id()?;
    if lost_roster(names, boot)?.is_none() {
        return Ok(());
    }
    let _creation = locking::lock_creation(names, options)?;
    // A writer that opens the new file before its rename would rename it, too, and could have staged
    // the next roster under the same name then.
    let index = match LockedIndex::open(names, options) {
        // Another process has replaced it just now.
        Err(error) if error.is_absent() => return Ok(()),
        opened => opened?,
    };
    let Some(ids) = lost_roster(names, boot)?.filter(|&ids| ids == index.0.ids) else {
        return Ok(());
    };
    let (path, target) = (names.roster(Stage::New), names.roster(Stage::Final));
    refuse_foreign(&target, RosterHeader::MAGIC)?;
    files::remove_stale(&path, RosterHeader::MAGIC)?;
    let index = names.index(Stage::Final);
    let access = Access::of(&files::open(&index, false)?, &index)?;
    let made = empty_roster(&path, ids, files::create(&path, &access)?);
    if let Err(error) = made.and_then(|_| files::rename(&path, &target)) {
        let _ = files::remove(&path);
        return Err(error);
    }
    log::warn!("{}: lost with the power, created again", target.display());
    Ok(())
}

/// An index, under its writer lock; dropping it releases the lock.
struct LockedIndex(open::Index);

impl LockedIndex {
    fn open(names: &FileNames, options: &Options) -> Result<Self> {
        let index = open::index(names, true)?;
        index.table.fill_holes()?;
        if let Some(lock) = &index.lock {
            let deadline = LockDeadline::new(options.lock_timeout);
            locking::acquire(lock, Some(index.table.header()), &deadline, names)?;
        }
        Ok(Self(index))
    }
}

impl Drop for LockedIndex {
    fn drop(&mut self) {
        if let Some(lock) = &self.0.lock {
            lock.release(Some(self.0.table.header().lock_words()));
        }
    }
}

/// Returns the error for a file of a cache that has no index.
pub(crate) fn index_lost(path: &Path) -> Error {
    let what = Corruption::IndexMissing;
    Error::corrupted(path, what, 0)
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
            // Opening refuses a segment of a larger capacity.
            assert_eq!(whole_pages(most + 64, page), most + PAGE);
        }
    }
}
