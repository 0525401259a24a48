//! Opens and maps the files of one existing generation, and salvages segments whose header is
//! damaged.
//!
//! During a switch a file has one of two names, so each is tried under both. May call `generation`,
//! `file_header` and everything below them.

use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Corruption, Error, ErrorKind, Result};
use crate::format::index::{IndexHeader, PAGE};
use crate::format::roster::RosterHeader;
use crate::format::segment::SegmentHeader;
use crate::format::{Geometry, HashKind};
use crate::hash::Hasher;
use crate::heap::{ScanItem, Segment};
use crate::index::roster::Roster;
use crate::index::table::Table;
use crate::lock::FileLock;
use crate::os::boot_id;
use crate::os::file_names::{FileNames, Stage};
use crate::os::files;
use crate::os::mapped_file::MappedFile;

use crate::engine::file_header::{inode_of, read_header, write_header};
use crate::engine::file_identity::{FileTimes, last_visit};
use crate::engine::generation::{Generation, Ids, MappedSegments};
use crate::engine::locking;

/// Attempts to open the files of one generation before its absence or corruption is reported.
const ATTEMPTS: u32 = 9;
/// The names of a file, in the order in which they are tried. The final one comes twice, because a
/// rename may happen between the first two attempts.
const STAGES: [Stage; 3] = [Stage::Final, Stage::New, Stage::Final];

/// Opens the generation whose index is stored at the cache's path (G1).
pub(crate) fn generation(names: &FileNames, writable: bool) -> Result<Generation> {
    open_stable(names, || generation_once(names, writable))
}

/// Attempts to open files up to [`ATTEMPTS`] times: a switch may rename them between the attempts to
/// open them under their two names.
///
/// What the last attempt finds wrong is corruption, unless the index was replaced during that
/// attempt: then it is contention.
fn open_stable<T>(names: &FileNames, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let may_be_race = |error: &Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotACacheFile { .. } => false,
        _ => error.is_absent() || error.is_corruption(),
    };
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(error) if may_be_race(&error) => std::thread::yield_now(),
            other => return other,
        }
    }
    let path = names.index(Stage::Final);
    let index = || {
        let file = files::open(&path, false)?;
        Ok::<_, Error>((inode_of(&file, &path)?, file))
    };
    // The file stays open, so that no other file can have its inode number before the comparison.
    let before = index();
    let error = match attempt() {
        Err(error) if may_be_race(&error) => error,
        other => return other,
    };
    match (before, index()) {
        (Ok((before, _file)), Ok((after, _))) if before != after => Err(ErrorKind::Contended {
            what: "the set of files",
            attempts: ATTEMPTS,
        }
        .at(&names.cache())),
        _ => Err(error),
    }
}

/// An index that is open and mapped, without the files that belong to it.
pub(crate) struct Index {
    pub table: Table,
    pub header: IndexHeader,
    pub ids: Ids,
    /// Of a handle that may write.
    pub lock: Option<Arc<FileLock>>,
    inode: (u64, u64),
    hash_kind: HashKind,
    hasher: Hasher,
}

/// Opens and maps the index at the cache's path.
pub(crate) fn index(names: &FileNames, writable: bool) -> Result<Index> {
    let path = names.index(Stage::Final);
    let file = files::open(&path, writable).map_err(|error| match error {
        absent if absent.is_absent() => ErrorKind::NotFound.at(&path),
        other => other,
    })?;
    let header: IndexHeader = read_header(&file, &path, "an index")?;
    let (geometry, hash_kind, hasher) = checked(&header, &path)?;
    let ids = Ids {
        cache: header.cache_id,
        generation: header.generation,
        heap: header.heap_id,
        roster: header.roster_id,
    };
    let lock = if writable {
        Some(Arc::new(locking::open(&path, header.lock_kind())?))
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
    Ok(Index {
        table: Table::new(MappedFile::new(file, &path, writable), geometry)?,
        header,
        ids,
        lock,
        inode,
        hash_kind,
        hasher,
    })
}

fn generation_once(names: &FileNames, writable: bool) -> Result<Generation> {
    let Index {
        table,
        header,
        hash_kind,
        hasher,
        ids,
        lock,
        inode,
    } = index(names, writable)?;
    let words = table.header();
    let seen = if writable {
        FileTimes::of(names, table.file().file(), words)
    } else {
        FileTimes::default()
    };
    // A writer of this boot has filled the files before. (Searching the file of a million entries
    // for holes takes 0.2 ms while it is not on the disk yet, and filling blocks that were allocated
    // and not yet written changes the files' times.)
    let is_filled = words.is_from_here(boot_id::id()?, inode)
        && seen.latest <= last_visit(words, table.geometry().variant);
    if !is_filled {
        table.fill_holes()?;
    }
    let roster = roster(names, ids, writable, is_filled && writable)?;
    Ok(Generation {
        seen: FileTimes { is_filled, ..seen },
        table: Arc::new(table),
        roster: Arc::new(roster),
        ids,
        hasher,
        hash_kind,
        seed: header.hash_seed,
        created: header.created,
        lock,
        inode,
        mapped: MappedSegments::default(),
    })
}

/// Returns the geometry and the hash function that a header names.
fn checked(header: &IndexHeader, path: &Path) -> Result<(Geometry, HashKind, Hasher)> {
    let corrupted = |what, at: usize| Error::corrupted(path, what, at as u64);
    let geometry = header
        .geometry()
        .map_err(|what| corrupted(what, IndexHeader::place_of(what)))?;
    let hash_kind = header
        .hash_kind()
        .ok_or_else(|| corrupted(Corruption::HashKind, offset_of!(IndexHeader, hash_kind)))?;
    let hasher = Hasher::new(hash_kind, header.hash_seed);
    if hasher.check_value() != header.hash_check {
        let at = offset_of!(IndexHeader, hash_check);
        return Err(corrupted(Corruption::HashCheck, at));
    }
    Ok((geometry, hash_kind, hasher))
}

fn roster(names: &FileNames, ids: Ids, writable: bool, is_filled: bool) -> Result<Roster> {
    let mut last = None;
    for stage in STAGES {
        let path = names.roster(stage);
        let opened = files::open(&path, writable).and_then(|file| {
            let header: RosterHeader = read_header(&file, &path, "a roster")?;
            if header.cache_id != ids.cache || header.roster_id != ids.roster {
                let at = offset_of!(RosterHeader, roster_id) as u64;
                return Err(Error::corrupted(
                    &path,
                    Corruption::RosterOfOtherGeneration,
                    at,
                ));
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
            // A file that cannot be opened is not known to be missing.
            Err(error) => return Err(error),
        }
    }
    let path = names.roster(Stage::Final);
    Err(last.unwrap_or_else(|| Error::corrupted(&path, Corruption::RosterMissing, 0)))
}

/// Opens one of a generation's segments; `None` if its file is gone.
pub(crate) fn segment(
    generation: &Generation,
    names: &FileNames,
    number: u16,
) -> Result<Option<Arc<Segment>>> {
    let writable = generation.lock.is_some();
    for stage in STAGES {
        let path = names.segment(number, stage);
        let file = match files::open(&path, writable) {
            Ok(file) => file,
            Err(error) if error.is_absent() => continue,
            Err(error) if error.is_corruption() => {
                refuse_linked(generation, &path)?;
                continue;
            }
            Err(error) => return Err(error),
        };
        let header: SegmentHeader = match read_header(&file, &path, "a heap segment") {
            Ok(header) => header,
            // Another file has the segment's name: for this generation the segment is gone.
            Err(error) if error.is_corruption() => continue,
            Err(error) => return Err(error),
        };
        // G1: the ids that the index names. H3: a number is never used again within its heap id.
        if generation.owns(&header)
            && header.number == u32::from(number)
            && is_capacity(header.capacity)
        {
            let mapped = MappedFile::new(file, &path, writable);
            if !(writable && generation.seen.is_filled) {
                mapped.fill_holes(0..0)?;
            }
            if number == generation.header().tail().segment {
                generation.own_end_of(&mapped)?;
            }
            return Ok(Some(Arc::new(Segment::new(
                mapped,
                &header,
                generation.variant(),
            )?)));
        }
    }
    Ok(None)
}

/// Refuses a symbolic link to a segment of this heap. The engine does not follow links, but the
/// entries of such a segment are not lost either: recovery must not leave them out.
fn refuse_linked(generation: &Generation, path: &Path) -> Result<()> {
    let Some(target) = files::link_target(path) else {
        return Ok(());
    };
    let opened = files::open(&target, false);
    let header =
        opened.and_then(|file| read_header::<SegmentHeader>(&file, &target, "a heap segment"));
    if header.is_ok_and(|header| generation.owns(&header)) {
        let what = "a symbolic link to a segment of this heap; links are not followed: move the \
                    file back, or name its place with `heap_path`";
        return Err(ErrorKind::Unsupported { what }.at(path));
    }
    Ok(())
}

/// Opens a segment whose header is damaged if it has records of this heap, and writes its header
/// again: the checksum of a record covers the id of its heap and its place there. Only for a
/// rebuild of the index under the writer lock.
pub(crate) fn salvage_segment(
    generation: &Generation,
    names: &FileNames,
    number: u16,
) -> Result<Option<Arc<Segment>>> {
    debug_assert!(generation.lock.is_some(), "L3: only a writer stores");
    let path = names.segment(number, Stage::Final);
    let file = match files::open(&path, true) {
        Ok(file) => file,
        Err(error) if error.is_absent() || error.is_corruption() => return Ok(None),
        Err(error) => return Err(error),
    };
    let mapped = MappedFile::new(file, &path, true);
    let Some(header) = presumed_header(generation, &mapped, number)? else {
        return Ok(None);
    };
    let segment = Segment::new(Arc::clone(&mapped), &header, generation.variant())?;
    if has_record(&segment)? {
        write_header(mapped.file(), &path, &header)?;
        return Ok(Some(Arc::new(segment)));
    }
    Ok(None)
}

/// Returns whether a file whose header is damaged has a record of this heap.
pub(crate) fn has_records(
    generation: &Generation,
    file: File,
    path: &Path,
    number: u16,
) -> Result<bool> {
    let mapped = MappedFile::new(file, path, false);
    match presumed_header(generation, &mapped, number)? {
        Some(header) => has_record(&Segment::new(mapped, &header, generation.variant())?),
        None => Ok(false),
    }
}

/// Returns the header that a file must have had if it is a segment of this heap; `None` if it is
/// too short or too long for one.
fn presumed_header(
    generation: &Generation,
    mapped: &MappedFile,
    number: u16,
) -> Result<Option<SegmentHeader>> {
    let capacity = mapped.len()?.next_multiple_of(PAGE);
    if !is_capacity(capacity) {
        return Ok(None);
    }
    // Before anything of the file is read: on a full tmpfs, reading a hole raises SIGBUS.
    mapped.fill_holes(0..0)?;
    Ok(Some(generation.segment_header(number, capacity)))
}

fn is_capacity(bytes: u64) -> bool {
    (PAGE..=*Geometry::SEGMENT_BYTES.end() + PAGE).contains(&bytes)
}

fn has_record(segment: &Segment) -> Result<bool> {
    let mut scanner = segment.scan(0, segment.capacity_units());
    while let Some(found) = scanner.next_item()? {
        if matches!(found, ScanItem::Record(..)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns whether a file has the name of a segment, whatever its contents.
pub(crate) fn has_segment_file(names: &FileNames, number: u16) -> bool {
    let exists = |stage| names.segment(number, stage).symlink_metadata().is_ok();
    exists(Stage::Final) || exists(Stage::New)
}

/// Returns the bytes of the segment files from the oldest up to the one before `number`.
pub(crate) fn heap_bytes_before(
    generation: &Generation,
    names: &FileNames,
    number: u16,
) -> Result<u64> {
    let mut total = 0;
    for found in generation.header().oldest()..number {
        total += match generation.segment(found) {
            Some(segment) => segment.file().len()?,
            None => {
                segment(generation, names, found)?.map_or(Ok(0), |segment| segment.file().len())?
            }
        };
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Files that are replaced during every attempt are contention; what is wrong with files that
    // stay is corruption.
    #[test]
    fn replaced_files_are_contention() {
        let dir = tempfile::tempdir().unwrap();
        let cache = crate::MmapCache::open(dir.path().join("cache")).unwrap();
        let names = &cache.handle().names;
        let (index, copy) = (names.index(Stage::Final), dir.path().join("copy"));
        let lost = |is_replaced: fn(u32) -> bool| {
            let mut attempts = 0;
            let result = open_stable(names, || {
                attempts += 1;
                if is_replaced(attempts) {
                    std::fs::copy(&index, &copy).unwrap();
                    files::rename(&copy, &index).unwrap();
                }
                Err::<(), _>(Error::corrupted(&index, Corruption::EntryRecord, 0))
            });
            assert_eq!(attempts, ATTEMPTS);
            result.unwrap_err()
        };
        let error = lost(|_| true);
        assert!(
            matches!(error.kind(), ErrorKind::Contended { .. }),
            "{error:?}"
        );
        assert!(!error.is_corruption());
        assert!(lost(|_| false).is_corruption());
        assert!(lost(|attempt| attempt < ATTEMPTS).is_corruption());
    }
}
