//! What a recovery from the heap could not bring back.
//!
//! Compares the index that a recovery replaces with the one that it made. Knows which entries the
//! old one had, not why their records are gone.

use std::fmt;

use crate::format::roster::Position;
use crate::format::slot::{Link, Place};
use crate::index::region::{Region, Slot};
use crate::index::table::Table;

use crate::engine::generation::Generation;
use crate::engine::write::mutator::{Mutator, WriteResult};

/// What became of a recovery: index and roster were made anew from the heap; see
/// [`MmapCache::last_recovery`](crate::MmapCache::last_recovery).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Live entries that the old index counted; none where its count could not be believed. After a
    /// power loss it may be as old as the last flush.
    pub entries_before: Option<u64>,
    /// Live entries that came back.
    pub entries: u64,
    /// Records that verified, of live and dead entries and of deletions.
    pub records: u64,
    /// Entries of the old index that were given up: their records are damaged or gone, and no newer
    /// record of the key was found. Where no old index told, the number of damaged stretches of the
    /// heap. [`Stats::dropped`](crate::Stats::dropped) counts them too.
    pub dropped: u64,
    /// Entries of the old index whose records were never synced and did not come to the disk before
    /// a power loss. They are not damage.
    pub unwritten: u64,
    /// Bytes where records should have been and none verified.
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
    /// Those that the old index had, if its count agrees with its roster.
    pub entries_before: Option<u64>,
    pub dropped: u64,
    pub unwritten: u64,
}

impl Missing {
    /// Looks for each entry of the old index in the new one, which still has the keys that were
    /// deleted. None where the old one cannot be believed. `is_older` where it may be of an earlier
    /// moment than the heap.
    pub(crate) fn of(
        old: &Generation,
        fresh: &Mutator,
        is_older: bool,
        was_never_written: impl Fn(Place) -> bool,
    ) -> WriteResult<Option<Self>> {
        if old.fault().is_some() {
            return Ok(None);
        }
        let first = fresh.generation.segments().next();
        let first = first.map_or(0, |segment| segment.number());
        let (mut missing, mut listed) = (Self::default(), 0);
        for position in 0..old.roster_len() {
            let Some((region, slot, index)) = entry_at(old, position) else {
                continue;
            };
            listed += 1;
            let link = slot.link();
            let place = link.place();
            // The oldest segments go when all that was live in them was moved. What a later heap does
            // not have anywhere else was deleted since.
            let is_gone = is_older && place.segment < first;
            if is_gone || is_known(fresh, region, (slot, link, index), position)? {
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
        Ok(Some(missing))
    }
}

/// The entry that a roster position leads to; none where it is a hole, or leads to no entry of its
/// own.
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

/// Whether the new index has this entry, or a newer one of what must be the same key: forty bits of
/// its hash agree, and so does its length.
fn is_known(
    fresh: &Mutator,
    region: Region<'_>,
    (slot, link, index): (Slot<'_>, Link, u32),
    position: u32,
) -> WriteResult<bool> {
    if fresh.generation.is_numbered() {
        return fresh.has_number(u64::from(position) + 1);
    }
    let table: &Table = &fresh.generation.table;
    let hash = slot.hash(link, region.control(index));
    let located = table.locate(fresh.generation.header().poll(), hash)?;
    let (version, len) = (slot.meta(link.which()).mtime, slot.identity().key_len);
    Ok(located.region.probe(hash).any(|(_, found, to)| {
        found.meta(to.which()).mtime >= version && found.identity().key_len == len
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_reports_all_counts() {
        let told = Recovery {
            entries_before: Some(5),
            entries: 3,
            dropped: 2,
            ..Recovery::default()
        };
        let text = told.to_string();
        assert!(
            text.contains("counted 5") && text.contains("2 given up"),
            "{text}"
        );
    }
}
