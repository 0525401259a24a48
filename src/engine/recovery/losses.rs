//! The entries that a rebuild from the heap could not restore.
//!
//! Compares the index that is replaced with the rebuilt one. May call the mutator and everything
//! below it.

use std::fmt;

use crate::format::heap_addr::HeapAddr;
use crate::format::roster::Position;
use crate::format::slot::Link;
use crate::index::region::{Region, Slot};
use crate::index::table::Table;

use crate::engine::generation::Generation;
use crate::engine::write::mutator::{Mutator, WriteResult};

/// The result of a recovery, which rebuilt index and roster from the heap; see
/// [`MmapCache::last_recovery`](crate::MmapCache::last_recovery).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Live entries that the old index counted; `None` if its count is not plausible. After a power loss
    /// the count may be as old as the last flush.
    pub entries_before: Option<u64>,
    /// Live entries after the recovery.
    pub entries: u64,
    /// Records with a valid checksum: of live entries, dead entries and deletions.
    pub records: u64,
    /// Entries of the old index that were lost: their records are damaged or missing, and the heap has no
    /// newer record of the key. Without a readable old index, the number of damaged ranges of the heap.
    /// [`Stats::dropped`](crate::Stats::dropped) counts them too.
    pub dropped: u64,
    /// Entries of the old index whose records were not synced and not written before a power loss. They
    /// are not damage. An entry counts, too, that cleaning had copied, and that has its older record
    /// again because the copy was not written.
    pub unwritten: u64,
    /// Bytes that should hold records and do not verify.
    pub damaged_bytes: u64,
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} entries from {} records", self.entries, self.records)?;
        if let Some(before) = self.entries_before {
            write!(f, "; the old index counted {before}")?;
        }
        write!(
            f,
            "; {} given up, {} never written, {} bytes damaged",
            self.dropped, self.unwritten, self.damaged_bytes
        )
    }
}

/// Entries of an old index that a new one does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    /// The entries of the old index, if its count agrees with its roster.
    pub entries_before: Option<u64>,
    pub dropped: u64,
    pub unwritten: u64,
}

impl Missing {
    /// Searches each entry of the old index, which is valid, in the new one, which still has the
    /// deleted keys. `is_older` if the old index may be of an earlier time than the heap. `has_id`
    /// says whether the id of a roster position is known, in a cache with ids.
    pub(crate) fn of(
        old: &Generation,
        fresh: &Mutator,
        is_older: bool,
        was_never_written: impl Fn(HeapAddr) -> bool,
        has_id: impl Fn(&Mutator, u32) -> WriteResult<Option<bool>>,
    ) -> WriteResult<Self> {
        let first = fresh.generation.segments().next();
        let first = first.map_or(0, |segment| segment.number());
        let (mut missing, mut listed) = (Self::default(), 0);
        for position in 0..old.roster_len() {
            let Some((region, slot, index)) = entry_at(old, position) else {
                continue;
            };
            listed += 1;
            let link = slot.link();
            let place = link.addr();
            // The oldest segments are removed when their live records are evacuated. What a later
            // heap does not have elsewhere was deleted since.
            if is_older && place.segment < first {
                continue;
            }
            let is_known = match has_id(fresh, position)? {
                Some(known) => known,
                None => has_entry(fresh, region, (slot, link, index))?,
            };
            if is_known {
                continue;
            }
            if was_never_written(place) {
                missing.unwritten += 1;
            } else {
                missing.dropped += 1;
            }
        }
        let occupied = old.header().occupied();
        missing.entries_before = (listed == occupied).then_some(occupied);
        debug_assert!(missing.dropped + missing.unwritten <= listed);
        Ok(missing)
    }
}

/// Returns the entry that a roster position names; `None` if the position is free, or the entry has
/// another position.
fn entry_at(generation: &Generation, position: u32) -> Option<(Region<'_>, Slot<'_>, u32)> {
    let Ok(Position::Slot(number)) = generation.roster.get(position) else {
        return None;
    };
    let (region, index) = generation.table.slot_home(number);
    let region = generation.table.region(region).ok()?;
    let slot = region.slot(index);
    let own = slot.link().is_entry() && slot.identity().position == position;
    own.then_some((region, slot, index))
}

/// Returns whether the new index has this entry, or a newer one of what must be the same key: 38 bits
/// of its hash agree. Newer records of a key are at later places.
fn has_entry(
    fresh: &Mutator,
    region: Region<'_>,
    (slot, link, index): (Slot<'_>, Link, u32),
) -> WriteResult<bool> {
    let table: &Table = &fresh.generation.table;
    let hash = slot.hash(link, region.control(index));
    let located = table.locate(fresh.generation.header().poll(), hash)?;
    Ok(located.region.probe(hash).any(|(_, found, to)| {
        to.addr() >= link.addr() && found.identity().hash == slot.identity().hash
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_reports_all_counts() {
        let recovery = Recovery {
            entries_before: Some(5),
            entries: 3,
            dropped: 2,
            ..Recovery::default()
        };
        let text = recovery.to_string();
        assert!(
            text.contains("counted 5") && text.contains("2 given up"),
            "{text}"
        );
    }
}
