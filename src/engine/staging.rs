//! Files under staged names: removed after a switch that failed, renamed after one that was
//! committed.
//!
//! Also what an interrupted copy or creation left. This file alone stores `renames_pending`. May
//! call `engine::segment_numbers`, `engine::generation` and everything below them.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::format::index::{IndexHeader, PAGE};
use crate::format::roster::RosterHeader;
use crate::format::seal::SealedHeader;
use crate::format::segment::SegmentHeader;
use crate::index::header::Header;
use crate::lock;
use crate::os::file_names::{FileNames, Stage};
use crate::os::files;
use crate::sync::Word;

use crate::engine::file_header::{inode_of, read_sealed, refuse_other_segment};
use crate::engine::generation::{FIRST_GENERATION, Generation, Ids};
use crate::engine::segment_numbers::{Extent, is_there, left_segment, staged_numbers};

/// Removes what an interrupted creation, copy or switch left under staged names. `heap` is the
/// extent of the cache at the path: a writer that was killed while it began a segment left a file
/// too.
///
/// Removes segments from the highest number down, and the index last. So after a kill in between,
/// the next caller finds segments from 0 without a gap, and a file that [`has_staged`] sees.
pub(crate) fn discard_staged(names: &FileNames, heap: Extent) -> Result<()> {
    discard(names, &staged_numbers(names, heap))
}

/// As [`discard_staged`], by a listing of the directory: any of the names may be left after a power
/// loss, by an interrupted copy, or after a panic of the caller's code.
pub(crate) fn discard_listed(names: &FileNames) -> Result<()> {
    discard(names, &names.segment_numbers()?)
}

fn discard(names: &FileNames, numbers: &[u16]) -> Result<()> {
    debug_assert!(numbers.is_sorted(), "from the highest down");
    for &number in numbers.iter().rev() {
        files::remove_stale(&names.segment(number, Stage::New), SegmentHeader::MAGIC)?;
    }
    files::remove_stale(&names.roster(Stage::New), RosterHeader::MAGIC)?;
    files::remove_stale(&names.index(Stage::New), IndexHeader::MAGIC)
}

/// Returns whether an interrupted switch or copy may have left files under staged names.
pub(crate) fn has_staged(names: &FileNames) -> bool {
    is_there(&names.index(Stage::New))
        || is_there(&names.roster(Stage::New))
        || is_there(&names.segment(0, Stage::New))
}

/// Removes the staged files when a panic of the caller's code unwinds through a switch or a copy.
///
/// In a child that the caller's code has forked, the files are the parent's and stay.
pub(crate) struct DiscardOnPanic<'a> {
    names: &'a FileNames,
    epoch: u64,
}

impl<'a> DiscardOnPanic<'a> {
    pub(crate) fn new(names: &'a FileNames) -> Self {
        Self {
            names,
            epoch: lock::epoch(),
        }
    }
}

impl Drop for DiscardOnPanic<'_> {
    fn drop(&mut self) {
        // A test that stops a thread at a store plays a kill, after which nothing is removed.
        #[cfg(any(test, fuzzing))]
        if crate::sync::failpoint::has_killed() {
            return;
        }
        if std::thread::panicking() && self.epoch == lock::epoch() {
            // The panic is what to report; the next writer removes what is left.
            let _ = discard_listed(self.names);
        }
    }
}

/// Gives the files of a committed generation their final names, and removes those of the generation
/// before it.
///
/// The index names the ids of its files (G1), so any later writer can do this, and do it again. Names
/// of a cache that was never flushed are synced by the first flush.
pub(crate) fn finish_renames(names: &FileNames, generation: &Generation) -> Result<()> {
    let header = generation.header();
    let is_promised = header.is_flushed();
    // G2: the writer that committed may have been killed. The commit must be on the disk before
    // anything that the old generation needs is removed.
    if is_promised {
        header.note_sync(names.sync_index_dir())?;
    }
    // A rename moves the time of the file.
    generation.note_visit();
    let ids = generation.ids;
    let roster = names.roster(Stage::New);
    if roster_id(&roster, ids.cache)? == Some(ids.roster) {
        files::rename(&roster, &names.roster(Stage::Final))?;
    }
    let heap_of = |number, stage| heap_id(&names.segment(number, stage), ids.cache);
    let (replaced, staged) = match Extent::replaced(header) {
        Some(replaced) => (
            replaced.numbers().collect(),
            staged_numbers(names, Extent::of(header)),
        ),
        // After a recovery, or an older release: any number.
        None => {
            let all = names.segment_numbers()?;
            (all.clone(), all)
        }
    };
    for number in replaced {
        if heap_of(number, Stage::Final)?.is_some_and(|heap| heap != ids.heap) {
            files::remove(&names.segment(number, Stage::Final))?;
        }
    }
    for number in staged {
        let path = names.segment(number, Stage::New);
        if !is_there(&path) {
            continue;
        }
        if heap_of(number, Stage::New)? == Some(ids.heap) {
            let target = names.segment(number, Stage::Final);
            refuse_other_segment(&target, ids.cache)?;
            files::rename(&path, &target)?;
        } else {
            files::remove_stale(&path, SegmentHeader::MAGIC)?;
        }
    }
    generation.note_visit();
    if is_promised {
        names.sync_dirs()?;
        generation.note_visit();
    }
    // G1: all files have their final names; after a power loss, those of a cache that was never
    // flushed get them again.
    header.set_renames_pending(false);
    Ok(())
}

/// Stores that the files of a generation have staged names.
pub(crate) fn expect_renames(header: Header<'_>) {
    header.set_renames_pending(true);
}

/// Returns a file of a cache that is there without its index: then the index is lost. `was_used` as
/// for [`left_segment`].
///
/// The roster gets its final name only after the index did, except in what [`undone_creation`] finds.
pub(crate) fn left_without_index(names: &FileNames, was_used: bool) -> Result<Option<PathBuf>> {
    let undone = undone_creation(names)?;
    if let Some(number) = left_segment(names, was_used)? {
        let path = names.segment(number, Stage::Final);
        if files::is_ours(&path, SegmentHeader::MAGIC)? {
            // A segment of a newer release is an error of its own.
            read_sealed::<SegmentHeader>(&path)?;
            if undone.is_none() {
                return Ok(Some(path));
            }
        }
    }
    let roster = names.roster(Stage::Final);
    Ok(read_sealed::<RosterHeader>(&roster)?
        .filter(|header| undone.is_none_or(|ids| ids.cache != header.cache_id))
        .map(|_| roster))
}

/// Returns the ids of a cache whose creation a power loss took back in part: its index, synced before
/// its rename, has its first name again, and other files may have their final ones. Nothing of it was
/// flushed, and no process of this boot can have opened it.
///
/// All segments are of that creation, too: if one has a complete header, with its ids. The loss may have
/// left the headers of others incomplete.
fn undone_creation(names: &FileNames) -> Result<Option<Ids>> {
    let Some((ids, words)) = read_index(&names.index(Stage::New))? else {
        return Ok(None);
    };
    let is_flushed = Header::new(&words).is_none_or(|header| header.is_flushed());
    if is_flushed || ids.generation != FIRST_GENERATION {
        return Ok(None);
    }
    for number in names.segment_numbers()? {
        let header = read_sealed::<SegmentHeader>(&names.segment(number, Stage::Final))?;
        if header.is_some_and(|header| (header.cache_id, header.heap_id) != (ids.cache, ids.heap)) {
            return Ok(None);
        }
    }
    Ok(Some(ids))
}

/// Removes the files with final names of a creation that a power loss took back in part. The caller
/// holds the creation lock, has found no index at the path, and removes the staged files afterwards:
/// their index is the proof, so it goes last.
pub(crate) fn discard_undone(names: &FileNames) -> Result<()> {
    let Some(ids) = undone_creation(names)? else {
        return Ok(());
    };
    let mut found = Vec::new();
    for number in names.segment_numbers()? {
        let path = names.segment(number, Stage::Final);
        if files::is_ours(&path, SegmentHeader::MAGIC)? {
            found.push(path);
        }
    }
    if roster_id(&names.roster(Stage::Final), ids.cache)?.is_some() {
        found.push(names.roster(Stage::Final));
    }
    found.iter().try_for_each(|path| files::remove(path))?;
    match found.is_empty() {
        true => Ok(()),
        false => names.sync_dirs(),
    }
}

/// Returns the ids of the cache at the path if it has no roster, and a power loss explains that:
/// nothing was ever flushed, and the index was last written to under another boot.
pub(crate) fn lost_roster(names: &FileNames, boot: [u64; 2]) -> Result<Option<Ids>> {
    let path = names.index(Stage::Final);
    let Some((ids, words)) = read_index(&path)? else {
        return Ok(None);
    };
    let inode = inode_of(&files::open(&path, false)?, &path)?;
    let is_explained = Header::new(&words).is_some_and(|header| {
        let is_here = header.is_from_here(boot, inode) || header.is_copied(boot, inode);
        header.is_dirty() && !header.is_flushed() && !is_here
    });
    // The final name twice: a rename may happen between the first two.
    for stage in [Stage::Final, Stage::New, Stage::Final] {
        if !is_explained || roster_id(&names.roster(stage), ids.cache)? == Some(ids.roster) {
            return Ok(None);
        }
    }
    // Another process may have restored it since the index was read, and rebuilt the index: what has
    // its name is the roster of the new one then.
    let is_still = read_index(&path)?.is_some_and(|(now, _)| now == ids);
    Ok(is_still.then_some(ids))
}

/// Returns the ids and the header page of an index; `None` if there is none at the path, or one of
/// which a part is missing.
fn read_index(path: &Path) -> Result<Option<(Ids, Vec<Word>)>> {
    let Some(header) = read_sealed::<IndexHeader>(path)? else {
        return Ok(None);
    };
    let mut page = vec![0; PAGE as usize];
    let file = files::open(path, false)?;
    if file.read_exact_at(&mut page, 0).is_err() {
        return Ok(None);
    }
    let words = page.chunks_exact(8).map(|bytes| {
        Word::new(u64::from_le_bytes(
            bytes.try_into().expect("eight bytes each"),
        ))
    });
    let ids = Ids {
        cache: header.cache_id,
        generation: header.generation,
        heap: header.heap_id,
        roster: header.roster_id,
    };
    Ok(Some((ids, words.collect())))
}

/// Returns the heap id of a segment file of this cache.
fn heap_id(path: &Path, cache_id: [u8; 16]) -> Result<Option<u64>> {
    let header = read_sealed::<SegmentHeader>(path)?;
    Ok(header
        .filter(|header| header.cache_id == cache_id)
        .map(|header| header.heap_id))
}

/// Returns the id of a roster file of this cache.
fn roster_id(path: &Path, cache_id: [u8; 16]) -> Result<Option<u64>> {
    let header = read_sealed::<RosterHeader>(path)?;
    Ok(header
        .filter(|header| header.cache_id == cache_id)
        .map(|header| header.roster_id))
}
