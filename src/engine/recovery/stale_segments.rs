//! Segments and records of a later state than a restored backup.
//!
//! Only the times of the files tell them from those that an older index does not know after a power
//! loss. May call the mutator and everything below it.

use crate::error::Result;
use crate::format::seal::SealedHeader;
use crate::format::segment::SegmentHeader;
use crate::os::boot_id;
use crate::os::file_names::Stage;
use crate::os::files;

use crate::engine::file_identity::Times;
use crate::engine::generation::Generation;
use crate::engine::write::mutator::Mutator;

/// Nanoseconds between a change of a file's contents and the last one of its name, if a writer made
/// both. A program that restores a file leaves the two times further apart.
const TOGETHER: u64 = 1_000_000_000;

/// Removes what was written after the backup that these files were restored from: segments that
/// the restored index does not know, and records after its end of the heap in a segment that was
/// not restored. Changes nothing if the index was not restored, or may not have been. No writer's
/// stores can have given a file a later time than `floor`.
pub(crate) fn remove_stale(mutator: &mut Mutator, boot: [u64; 2], floor: u64) -> Result<()> {
    let Some(restored) = restored_since(&mutator.generation, boot, floor) else {
        return Ok(());
    };
    let end = mutator.generation.header().reserved();
    for number in mutator.names.segment_numbers()? {
        let path = mutator.names.segment(number, Stage::Final);
        let Ok(meta) = path.symlink_metadata() else {
            continue;
        };
        if number > end.segment
            && is_older(Times::of(&meta), restored)
            && files::is_ours_or_blank(&path, SegmentHeader::MAGIC)?
        {
            log::warn!(
                "{}: of a later state than the restored index; removed",
                path.display()
            );
            files::remove(&path)?;
        }
    }
    let seen = mutator.generation.seen;
    let knows_end = is_from(&mutator.generation, boot) || !mutator.generation.header().is_dirty();
    if knows_end
        && is_older(seen.tail, restored)
        && let Some(segment) = mutator.segment(end.segment)?
    {
        segment.erase(end.unit, segment.capacity_units())?;
    }
    mutator.names.sync_dirs()
}

/// Returns when the first of the files was restored; `None` if the index was not, or if it may only
/// lack the newest records.
fn restored_since(generation: &Generation, boot: [u64; 2], floor: u64) -> Option<u64> {
    let (header, seen) = (generation.header(), generation.seen);
    // Overwrites alone leave the roster as it was, and some programs restore only what differs.
    let first = |floor| {
        let files = [seen.index, seen.roster].map(|times| times.changed);
        files.into_iter().filter(|&changed| changed > floor).min()
    };
    // Under one boot, and of what was flushed, no index is older than its heap but a restored one.
    if is_from(generation, boot) || !header.is_dirty() {
        return first(floor).filter(|_| seen.index.changed > floor);
    }
    // A power loss leaves an index that is older than the heap. It does not explain that both were
    // changed since the system was started, by a program that left no mark in the index.
    let floor = floor.max(boot_id::began());
    let both = seen.index.changed.min(seen.tail.changed) > floor;
    first(floor)
        .filter(|_| both)
        .map(|first| first.min(seen.tail.changed))
}

/// Returns whether the last writer wrote under this boot, to any file.
fn is_from(generation: &Generation, boot: [u64; 2]) -> bool {
    boot != [0; 2] && generation.header().written_under() == boot
}

/// Returns whether a file is as a writer left it before the others were restored.
fn is_older(times: Times, restored: u64) -> bool {
    times.changed < restored && times.changed.abs_diff(times.written) < TOGETHER
}
