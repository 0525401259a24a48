//! What a restored backup found in its place: segments, and records, of a later state.
//!
//! Nobody but the file system can tell them from those that an index lost sight of in a power loss.
//! Knows by which times it does so; how the rest is made whole it leaves to `recover`.

use crate::error::Result;
use crate::format::seal::Sealed;
use crate::format::segment::SegmentHeader;
use crate::os::boot_id;
use crate::os::files::{self, Stage};

use crate::engine::file_identity::Times;
use crate::engine::generation::Generation;
use crate::engine::write::mutator::Mutator;

/// Nanoseconds between a change of a file's contents and the last one of its name, where it was a
/// writer that made both. A program that restores a file keeps the older of the two times apart.
const TOGETHER: u64 = 1_000_000_000;

impl Mutator {
    /// Removes what was written after the backup that these files were restored from: segments that
    /// the restored index does not know, and records behind its end of the heap in a segment that
    /// was not restored. Changes nothing where the index was not restored, or may not have been.
    /// No writer's stores can have given a file a later time than `floor`.
    pub(crate) fn remove_leftovers(&mut self, boot: [u64; 2], floor: u64) -> Result<()> {
        let Some(restored) = restored_since(&self.generation, boot, floor) else {
            return Ok(());
        };
        let end = self.generation.header().reserved();
        for number in self.names.segment_numbers()? {
            let path = self.names.segment(number, Stage::Final);
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
        let seen = self.generation.seen;
        let knows_end = is_from(&self.generation, boot) || !self.generation.header().is_dirty();
        if knows_end
            && is_older(seen.tail, restored)
            && let Some(segment) = self.segment(end.segment)?
        {
            segment.erase(end.unit, segment.capacity_units())?;
        }
        self.names.sync_dirs()
    }
}

/// When the first of the files was restored; none where the index was not, or where it may only
/// have lost sight of the newest records.
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
    // A power loss leaves an index that is older than the heap. That both were changed since the
    // system was started, by somebody who did not say so in the index, it does not explain.
    let floor = floor.max(boot_id::began());
    let both = seen.index.changed.min(seen.tail.changed) > floor;
    first(floor)
        .filter(|_| both)
        .map(|first| first.min(seen.tail.changed))
}

/// Whether the last writer wrote under this boot, to whichever file.
fn is_from(generation: &Generation, boot: [u64; 2]) -> bool {
    boot != [0; 2] && generation.header().written_under() == boot
}

/// Whether a file is as a writer left it before the others were restored.
fn is_older(times: Times, restored: u64) -> bool {
    times.changed < restored && times.changed.abs_diff(times.written) < TOGETHER
}
