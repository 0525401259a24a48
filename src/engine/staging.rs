//! Files under staged names: removed after a switch that failed, renamed after one that was
//! committed.
//!
//! Also what an interrupted copy or creation left. This file alone stores `renames_pending`. May
//! call `engine::segment_numbers`, `engine::generation` and everything below them.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::format::index::IndexHeader;
use crate::format::roster::RosterHeader;
use crate::format::seal::SealedHeader;
use crate::format::segment::SegmentHeader;
use crate::index::header::Header;
use crate::lock;
use crate::os::file_names::{FileNames, Stage};
use crate::os::files;

use crate::engine::file_header::{read_sealed, refuse_other_segment};
use crate::engine::generation::Generation;
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
/// The index names the ids of its files (G1), so any later writer can do this, and do it again.
pub(crate) fn finish_renames(names: &FileNames, generation: &Generation) -> Result<()> {
    // G2: the writer that committed may have been killed. The commit must be on the disk before
    // anything that the old generation needs is removed.
    let header = generation.header();
    header.note_sync(names.sync_index_dir())?;
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
    names.sync_dirs()?;
    generation.note_visit();
    // G1: all files have their final names on the disk.
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
/// The roster gets its final name only after the index did.
pub(crate) fn left_without_index(names: &FileNames, was_used: bool) -> Result<Option<PathBuf>> {
    if let Some(number) = left_segment(names, was_used)? {
        let path = names.segment(number, Stage::Final);
        if files::is_ours(&path, SegmentHeader::MAGIC)? {
            // A segment of a newer release is an error of its own.
            read_sealed::<SegmentHeader>(&path)?;
            return Ok(Some(path));
        }
    }
    let roster = names.roster(Stage::Final);
    Ok(read_sealed::<RosterHeader>(&roster)?.map(|_| roster))
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
