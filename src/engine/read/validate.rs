//! The rules by which an optimistic read is valid, shared by look-ups and listings.
//!
//! A reader takes no lock. It loads words that a writer may be changing, and compares afterwards
//! those words that a writer changes first or last: the state word of the region, the link of the
//! slot, the directory entry, the roster position. May call `handle`, `index`, `heap` and
//! everything below them.

use crate::error::{Corruption, Error, ErrorKind, Result};
use crate::format::record;
use crate::format::region::RegionStateWord;
use crate::format::slot::{Link, SlotIdentity};
use crate::heap::{RecordRead, Segment};
use crate::index::attempt::Attempt;
use crate::index::region::{Region, Slot};

use crate::engine::handle::Handle;

/// Attempts after which a read gives up. Each failed one needs another change by a writer at
/// precisely the wrong moment. Few in a model: until it knows which words two threads share, an attempt
/// may fail as often as it is made.
pub(crate) const ATTEMPTS: u32 = if cfg!(loom) { 30 } else { 10_000 };

/// The words of one slot, read under the state word of its region. They are valid only if
/// [`SlotRead::is_unchanged`] says so after everything else was read.
#[derive(Clone, Copy)]
pub(crate) struct SlotRead<'a> {
    region: Region<'a>,
    slot: Slot<'a>,
    state: RegionStateWord,
    pub link: Link,
    pub identity: SlotIdentity,
}

impl<'a> SlotRead<'a> {
    /// Reads a slot whose region had this state word, and which had this link.
    #[inline(always)]
    pub(crate) fn new(
        region: Region<'a>,
        state: RegionStateWord,
        slot: Slot<'a>,
        link: Link,
    ) -> Self {
        Self {
            region,
            slot,
            state,
            link,
            identity: slot.identity(),
        }
    }

    /// Whether the region is live and the link leads to a record. What the slot says is then an
    /// entry, if the slot is unchanged.
    #[inline(always)]
    pub(crate) fn is_entry(&self) -> bool {
        self.state.is_live() && self.link.is_entry()
    }

    /// Validates what was read of the slot since its link was loaded.
    ///
    /// - S4: a region that serves other hashes has a state word that was never used before. Links
    ///   keep their values when a region is copied, so the link alone does not tell.
    /// - S1: a writer fills a slot only while its link leads to no record. So with the same link its
    ///   identity was not changed under it, unless a deletion and an insertion brought the same link
    ///   back: then the caller sees the change count move.
    #[inline(always)]
    pub(crate) fn is_unchanged(&self) -> bool {
        self.region.stamp_after() == self.state && self.slot.link_after() == self.link
    }
}

/// Judges the record that a link led to. The result is [`Attempt::Absent`] if it is the record of
/// another key.
///
/// A matching record needs no validation: it is bound to its key by its checksum and never changes
/// (M3), so it was the key's value when its link was loaded (S1). A damaged one is corruption only if
/// the link still leads there: otherwise cleaning may have moved the record and reclaimed its
/// segment since (H4).
#[inline(always)]
pub(crate) fn judge<T>(
    outcome: &RecordRead,
    segment: &Segment,
    slot: Slot<'_>,
    link: Link,
    keep: impl FnOnce(record::RecordHeader) -> T,
) -> Attempt<T, Error> {
    match *outcome {
        RecordRead::Match(header) => Attempt::Done(keep(header)),
        RecordRead::OtherKey => Attempt::Absent,
        RecordRead::Corrupt if slot.link_after() != link => Attempt::Retry,
        RecordRead::Corrupt => {
            Attempt::Corrupt(segment.corrupted(Corruption::Record, link.addr().unit))
        }
    }
}

/// Reads until one attempt is valid. `changes` loads the header's count of changes, after an attempt
/// whose result is corrupt.
///
/// Corruption counts only if no change was finished during a whole attempt: between a deletion and
/// the insertion that takes its slot and position, all words that are compared can be the same
/// again. (Each attempt ends with a fence.) After [`ATTEMPTS`] attempts it is corruption if each of
/// them found some, and contention if any was disturbed.
#[inline(always)]
pub(crate) fn until_valid<T, R>(
    handle: &Handle,
    what: &'static str,
    reader: &mut R,
    mut attempt: impl FnMut(&mut R) -> Result<Attempt<T, Error>>,
    changes: impl Fn(&R) -> u64,
) -> Result<Option<T>> {
    let (mut last_corrupt, mut was_disturbed) = (None, false);
    for number in 1..=ATTEMPTS {
        match attempt(reader)? {
            Attempt::Done(read) => return Ok(Some(read)),
            Attempt::Absent => return Ok(None),
            Attempt::Corrupt(error) => {
                let changes = changes(reader);
                let is_last = number == ATTEMPTS && !was_disturbed;
                if last_corrupt.replace(changes) == Some(changes) || is_last {
                    return Err(error);
                }
            }
            Attempt::Retry => {
                was_disturbed = true;
                std::hint::spin_loop();
            }
        }
    }
    Err(contended(handle, what, ATTEMPTS))
}

/// Returns the error of a read that gave up after so many attempts, each of which a writer disturbed.
#[cold]
pub(crate) fn contended(handle: &Handle, what: &'static str, attempts: u32) -> Error {
    ErrorKind::Contended { what, attempts }.at(&handle.path)
}

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use super::*;

    /// A read whose attempts lose races is contended; one whose attempts all find corruption has
    /// found it, however much is changed elsewhere.
    #[test]
    fn lost_listing_races_are_no_corruption() {
        let dir = tempfile::tempdir().unwrap();
        let cache = crate::MmapCache::open(dir.path().join("cache")).unwrap();
        let handle = cache.handle();
        let corrupt = || {
            Attempt::<(), _>::Corrupt(Error::corrupted(&handle.path, Corruption::EntryRecord, 0))
        };
        let mut changes = 0_u64;
        let mut lost = |is_race: fn(u64) -> bool| {
            let attempt = |changes: &mut u64| {
                *changes += 1;
                Ok(if is_race(*changes) {
                    Attempt::Retry
                } else {
                    corrupt()
                })
            };
            let result = until_valid(handle, "a test", &mut changes, attempt, |changes| *changes);
            result.err().unwrap()
        };
        for error in [lost(|_| true), lost(|changes| changes % 1_000 == 0)] {
            assert!(
                matches!(error.kind(), ErrorKind::Contended { .. }),
                "{error:?}"
            );
            assert!(!error.is_corruption());
        }
        assert!(lost(|_| false).is_corruption());
        let still = until_valid(handle, "a test", &mut (), |()| Ok(corrupt()), |()| 7);
        assert!(still.err().unwrap().is_corruption());
    }
}
