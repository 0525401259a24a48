//! Groups of entries that are invalidated together: their versions, and what a handle remembers of
//! them.
//!
//! An entry of a group is valid if it is newer than the group's internal entry. Writers count
//! invalidations in the header, after the put; a reader loads the count before it looks a group up,
//! and what it remembers holds for that count only. May call `engine` and everything below it.

use xxhash_rust::xxh3::xxh3_64;

use crate::engine::handle::Handle;
use crate::engine::read::lookup::{self, Answer};
use crate::engine::write::cache_words;
use crate::engine::write::put::Terms;
use crate::engine::{Version, Writer};
use crate::error::Result;
use crate::format::extension::Extension;
use crate::format::internal;
use crate::format::record::Traits;
use crate::sync::{Relaxed, Word, acquire_fence};

/// Groups that a handle remembers, 16 bytes each.
const REMEMBERED: usize = 4_096;

/// The versions of groups that a handle has looked up.
///
/// Threads store to it without a lock. A place is overwritten by any group with the same hash bits,
/// and its check tells whether its words are of one store. Allocated at once: a thread that waits
/// for another's allocation would wait for ever in a forked child (L6).
#[derive(Debug)]
pub(super) struct GroupMemory(Box<[Place]>);

#[derive(Debug)]
struct Place {
    version: Word,
    check: Word,
}

/// The moment for which a version holds: an index, and the invalidations that it has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moment {
    roster: u64,
    invalidations: u64,
}

impl Moment {
    fn check(self, group: u64, version: u64) -> u64 {
        let words = [self.roster, self.invalidations, group, version];
        xxh3_64(bytemuck::cast_slice(&words))
    }
}

impl GroupMemory {
    pub(super) fn new() -> Self {
        let place = |_| Place {
            version: Word::new(0),
            check: Word::new(0),
        };
        Self((0..REMEMBERED).map(place).collect())
    }

    fn place(&self, group: u64) -> &Place {
        &self.0[group as usize % REMEMBERED]
    }

    fn version(&self, moment: Moment, group: u64) -> Option<u64> {
        let place = self.place(group);
        let version = place.version.load(Relaxed);
        let is_whole = place.check.load(Relaxed) == moment.check(group, version);
        is_whole.then_some(version)
    }

    fn remember(&self, moment: Moment, group: u64, version: u64) {
        let place = self.place(group);
        place.version.store(version, Relaxed);
        place.check.store(moment.check(group, version), Relaxed);
    }
}

/// Returns the version of the last invalidation of an entry's groups; 0 if there is none. `None` if
/// something was invalidated since `invalidations` was loaded, which was before the entry was read.
///
/// Cleaning removes a group's entry after all entries that it ended, and counts that first. So if the
/// count is the same, an entry that was read after it was loaded was not ended by a group that is gone.
#[inline]
pub(super) fn invalidated_upto(
    handle: &Handle,
    memory: &GroupMemory,
    extension: &Extension,
    invalidations: u64,
) -> Result<Option<u64>> {
    let mut newest = 0;
    for group in extension.groups() {
        match version_of(handle, memory, group, invalidations)? {
            Some(version) => newest = newest.max(version),
            None => return Ok(None),
        }
    }
    Ok(Some(newest))
}

fn version_of(
    handle: &Handle,
    memory: &GroupMemory,
    group: u64,
    invalidations: u64,
) -> Result<Option<u64>> {
    let (generation, _) = handle.current()?;
    let moment = Moment {
        roster: generation.ids.roster,
        invalidations,
    };
    let cache = generation.ids.cache;
    drop(generation);
    if let Some(version) = memory.version(moment, group) {
        return Ok(Some(version));
    }
    let version = stored_version(handle, cache, group)?;
    if !is_still(handle, invalidations)? {
        return Ok(None);
    }
    memory.remember(moment, group, version);
    Ok(Some(version))
}

/// Returns whether nothing was invalidated, and no internal entry removed, since a count was loaded.
pub(super) fn is_still(handle: &Handle, invalidations: u64) -> Result<bool> {
    acquire_fence();
    let (generation, _) = handle.current()?;
    Ok(generation.header().invalidations() == invalidations)
}

/// Looks a group up. If its entry is damaged, all entries of the group are invalid.
#[cold]
fn stored_version(handle: &Handle, cache: [u8; 16], group: u64) -> Result<u64> {
    let mut value = Vec::new();
    let key = internal::group_key(cache, group);
    Ok(match lookup::read_terms(handle, &key, &mut value)? {
        Answer::Found(terms) if terms.traits == Traits::INTERNAL => terms.version,
        Answer::Absent => 0,
        Answer::Found(_) | Answer::Damaged(_) => u64::MAX,
    })
}

/// Returns whether no group of an entry was invalidated after a version; `false` if that is not known
/// any more.
pub(super) fn are_older(
    writer: &mut Writer<'_>,
    handle: &Handle,
    memory: &GroupMemory,
    extension: &Extension,
    than: Version,
) -> Result<bool> {
    if extension.groups().next().is_none() {
        return Ok(true);
    }
    // E2: cleaning has not removed one that was.
    if !writer.has_groups_since(than)? {
        return Ok(false);
    }
    let seen = handle.current()?.0.header().invalidations();
    let upto = invalidated_upto(handle, memory, extension, seen)?;
    Ok(upto.is_some_and(|upto| upto <= than.0))
}

/// Invalidates all entries of a group that are there now.
pub(super) fn invalidate(writer: &mut Writer<'_>, handle: &Handle, group: u64) -> Result<()> {
    let key = internal::group_key(handle.generation.load().ids.cache, group);
    writer.put_with(&key, &[], internal_terms())?;
    cache_words::count_invalidation(handle.generation.load().header());
    Ok(())
}

/// Returns what internal entries are put with.
pub(super) fn internal_terms() -> Terms {
    Terms {
        traits: Traits::INTERNAL,
        ..Terms::PLAIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_holds_for_one_moment() {
        let memory = GroupMemory::new();
        let now = Moment {
            roster: 1,
            invalidations: 5,
        };
        assert_eq!(memory.version(now, 7), None);
        memory.remember(now, 7, 0);
        assert_eq!(memory.version(now, 7), Some(0));
        let later = Moment {
            invalidations: 6,
            ..now
        };
        let other = Moment { roster: 2, ..now };
        for moment in [later, other] {
            assert_eq!(memory.version(moment, 7), None, "{moment:?}");
        }
        // Another group in the same place.
        let same_place = 7 + REMEMBERED as u64;
        assert_eq!(memory.version(now, same_place), None);
        memory.remember(now, same_place, 9);
        assert_eq!(memory.version(now, same_place), Some(9));
        assert_eq!(memory.version(now, 7), None);
    }

    // Two threads that store at the same time leave words of both.
    #[test]
    fn torn_memory_is_no_version() {
        let memory = GroupMemory::new();
        let now = Moment {
            roster: 1,
            invalidations: 5,
        };
        memory.remember(now, 7, 3);
        memory.place(7).version.store(2, Relaxed);
        assert_eq!(memory.version(now, 7), None);
    }
}
