//! The changing words of the index header, by name.
//!
//! A generation over the header page: it knows where each word is and what it means, not when to change
//! it. Anybody loads; who may store says invariant L3 in `docs/design.md`.

use crate::error::Result;
use crate::format::index::{Counters, Poll, word};
use crate::format::slot::{Link, Place};
use crate::lock;
use crate::sync::{
    Relaxed, Word, acquire, acquire_fence, exchange, load, publish, release_fence, store,
};

/// Words of the header page.
pub(crate) const WORDS: usize = (crate::format::index::PAGE / 8) as usize;

/// The roster's length among the counters.
const ROSTER_LEN: usize = 4;

/// Values of the dirty mark; 0 is clean.
const MARKING: u64 = 1;
const MARKED: u64 = 2;

/// A generation over the header page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header<'a>(&'a [Word; WORDS]);

/// A change that is under way: enough to finish it after its writer was killed.
///
/// It carries the counters as they will be, not as they change: whether a "plus one" has already
/// happened cannot be known after a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// The record at `link` becomes the entry in `slot`.
    Insert {
        slot: u32,
        position: u32,
        link: Link,
        after: Counters,
    },
    /// The entry in `slot` goes; `vacant` takes the place of its link, `next_hole` that of its
    /// roster position.
    Delete {
        slot: u32,
        position: u32,
        vacant: Link,
        next_hole: u32,
        after: Counters,
    },
    /// The region `old` is replaced by `low`, and by `high` where it was split.
    Replace {
        old: u32,
        low: u32,
        high: Option<u32>,
        after: Counters,
    },
}

impl Intent {
    const INSERT: u64 = 1;
    const DELETE: u64 = 2;
    const REPLACE: u64 = 3;
    /// The bits of the arming word that hold the kind; the others check it and what belongs to it.
    const KIND: u64 = 0xff;

    /// The word that arms an intent: without the check, one flipped bit of it would arm again what
    /// was last written down. The products do not wait for each other.
    fn checked(kind: u64, body: [u64; 3], after: &Counters) -> u64 {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let words = body.into_iter().chain(after.to_words());
        let sum = words.enumerate().fold(kind, |sum, (at, word)| {
            sum.wrapping_add(word.wrapping_mul(ODD.wrapping_mul(2 * at as u64 + 3)))
        });
        let mixed = (sum ^ (sum >> 32)).wrapping_mul(ODD);
        (mixed & !Self::KIND) | kind
    }

    pub(crate) fn after(&self) -> Counters {
        match self {
            Self::Insert { after, .. }
            | Self::Delete { after, .. }
            | Self::Replace { after, .. } => *after,
        }
    }

    /// The number of entries before the change or after it, whichever is lower.
    pub(crate) fn fewest_entries(&self) -> u64 {
        let after = self.after().occupied;
        match self {
            Self::Insert { .. } => after.saturating_sub(1),
            Self::Delete { .. } | Self::Replace { .. } => after,
        }
    }

    fn to_words(self) -> (u64, [u64; 3]) {
        match self {
            Self::Insert {
                slot,
                position,
                link,
                ..
            } => (Self::INSERT, [pair(slot, position), link.0, 0]),
            Self::Delete {
                slot,
                position,
                vacant,
                next_hole,
                ..
            } => (
                Self::DELETE,
                [pair(slot, position), vacant.0, u64::from(next_hole)],
            ),
            Self::Replace { old, low, high, .. } => {
                let high = high.map_or(0, |region| u64::from(region) + 1);
                (Self::REPLACE, [pair(old, low), high, 0])
            }
        }
    }

    /// What the words say; none where they cannot be an intent.
    fn from_words(kind: u64, body: [u64; 3], after: Counters) -> Option<Self> {
        let (first, second) = (body[0] as u32, (body[0] >> 32) as u32);
        match kind {
            Self::INSERT => Some(Self::Insert {
                slot: first,
                position: second,
                link: Link(body[1]),
                after,
            }),
            Self::DELETE => {
                let vacant = Link(body[1]);
                let next_hole = u32::try_from(body[2]).ok()?;
                (!vacant.is_entry()).then_some(Self::Delete {
                    slot: first,
                    position: second,
                    vacant,
                    next_hole,
                    after,
                })
            }
            Self::REPLACE => {
                let high = match body[1] {
                    0 => None,
                    region => Some(u32::try_from(region - 1).ok()?),
                };
                Some(Self::Replace {
                    old: first,
                    low: second,
                    high,
                    after,
                })
            }
            _ => None,
        }
    }
}

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | (u64::from(high) << 32)
}

/// Whether an intent is armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Armed {
    No,
    Yes(Intent),
    /// The words are no intent that this crate ever armed.
    Damaged,
}

impl<'a> Header<'a> {
    /// The header in the first words of the index; none where they are too few.
    pub(crate) fn new(words: &'a [Word]) -> Option<Self> {
        words.first_chunk().map(Self)
    }

    pub(crate) fn poll(&self) -> Poll {
        Poll(acquire(&self.0[word::POLL]))
    }

    pub(crate) fn set_poll(&self, poll: Poll) {
        publish(&self.0[word::POLL], poll.0);
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters::from_words(std::array::from_fn(|i| load(&self.0[word::COUNTERS + i])))
    }

    /// Whoever sees the roster's length finds its positions filled: a listing, which goes by it,
    /// cannot tell one that was never used from a slot's number.
    pub(crate) fn set_counters(&self, counters: &Counters) {
        for (i, value) in counters.to_words().into_iter().enumerate() {
            if i == ROSTER_LEN {
                publish(&self.0[word::COUNTERS + i], value);
            } else {
                store(&self.0[word::COUNTERS + i], value);
            }
        }
    }

    /// Positions of the roster that were ever used, as it says itself.
    pub(crate) fn roster_len(&self) -> u64 {
        acquire(&self.0[word::COUNTERS + ROSTER_LEN])
    }

    pub(crate) fn occupied(&self) -> u64 {
        load(&self.0[word::COUNTERS])
    }

    /// Live heap bytes, apart from the other counters: an overwrite changes nothing else.
    pub(crate) fn set_live(&self, live: u64) {
        store(&self.0[word::COUNTERS + 7], live);
    }

    /// Where the heap ends once the record under way is in.
    pub(crate) fn reserved(&self) -> Place {
        Place::from_word(load(&self.0[word::RESERVED]))
    }

    /// Where the heap ends. Whoever sees an end sees the records before it.
    pub(crate) fn tail(&self) -> Place {
        Place::from_word(acquire(&self.0[word::TAIL]))
    }

    /// Announces that bytes behind the tail are about to change.
    pub(crate) fn reserve(&self, end: Place, live_after: u64) {
        store(&self.0[word::LIVE_AFTER], live_after);
        publish(&self.0[word::RESERVED], end.to_word());
        release_fence();
    }

    /// Takes back what was reserved.
    pub(crate) fn unreserve(&self, tail: Place) {
        publish(&self.0[word::RESERVED], tail.to_word());
    }

    pub(crate) fn set_tail(&self, tail: Place) {
        publish(&self.0[word::TAIL], tail.to_word());
    }

    pub(crate) fn live_after(&self) -> u64 {
        load(&self.0[word::LIVE_AFTER])
    }

    pub(crate) fn intent(&self) -> Armed {
        let armed = acquire(&self.0[word::INTENT]);
        if armed == 0 {
            return Armed::No;
        }
        let kind = armed & Intent::KIND;
        let body = std::array::from_fn(|i| load(&self.0[word::INTENT_BODY + i]));
        let after = Counters::from_words(std::array::from_fn(|i| {
            load(&self.0[word::INTENT_COUNTERS + i])
        }));
        if Intent::checked(kind, body, &after) != armed {
            return Armed::Damaged;
        }
        Intent::from_words(kind, body, after).map_or(Armed::Damaged, Armed::Yes)
    }

    /// Writes an intent down and arms it with one store; what follows may be finished by another
    /// process.
    pub(crate) fn arm(&self, intent: Intent) {
        let (kind, body) = intent.to_words();
        let after = intent.after();
        for (i, value) in body.into_iter().enumerate() {
            store(&self.0[word::INTENT_BODY + i], value);
        }
        for (i, value) in after.to_words().into_iter().enumerate() {
            store(&self.0[word::INTENT_COUNTERS + i], value);
        }
        publish(&self.0[word::INTENT], Intent::checked(kind, body, &after));
        release_fence();
    }

    pub(crate) fn disarm(&self) {
        publish(&self.0[word::INTENT], 0);
        release_fence();
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.get(word::DIRTY) != 0
    }

    /// Whether the mark that says so is on the disk.
    pub(crate) fn is_marked(&self) -> bool {
        self.get(word::DIRTY) == MARKED
    }

    /// The mark is on the disk: a writer that was killed before this leaves it to the next to sync
    /// it.
    pub(crate) fn mark_is_synced(&self) {
        self.set(word::DIRTY, MARKED);
    }

    /// The boot under which the files were last written.
    pub(crate) fn written_under(&self) -> [u64; 2] {
        [self.get(word::BOOT_ID), self.get(word::BOOT_ID + 1)]
    }

    /// The first segment that counts: 0, so that all do, where the word cannot be believed.
    pub(crate) fn oldest(&self) -> u16 {
        self.checked_oldest().unwrap_or(0)
    }

    /// As [`Header::oldest`]; none where the word cannot be believed.
    pub(crate) fn checked_oldest(&self) -> Option<u16> {
        let word = self.get(word::OLDEST);
        (Self::oldest_word(word as u16) == word).then_some(word as u16)
    }

    pub(crate) fn set_oldest(&self, number: u16) {
        self.set(word::OLDEST, Self::oldest_word(number));
    }

    /// The number with a check above it: were a damaged one believed, cleaning would drop deletions
    /// before what they delete.
    fn oldest_word(number: u16) -> u64 {
        let check = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (check & !0xffff) | u64::from(number)
    }

    /// Whether this is a copy of the file that was written to. Its mark says nothing then: it may
    /// have been copied while the files were clean, and the rest while somebody wrote to them.
    pub(crate) fn is_copied(&self, boot: [u64; 2], (device, inode): (u64, u64)) -> bool {
        // Devices are numbered anew at each boot.
        let numbered = self.written_under() == boot && boot != [0; 2];
        self.get(word::INODE) != inode || (numbered && self.get(word::DEVICE) != device)
    }

    /// Whether the last writer wrote under this boot, and to this inode.
    pub(crate) fn is_from_here(&self, boot: [u64; 2], inode: (u64, u64)) -> bool {
        self.written_under() == boot && boot != [0; 2] && !self.is_copied(boot, inode)
    }

    pub(crate) fn mark_dirty(&self, boot: [u64; 2], (device, inode): (u64, u64), born: u64) {
        self.set(word::BOOT_ID, boot[0]);
        self.set(word::BOOT_ID + 1, boot[1]);
        self.set(word::INODE, inode);
        self.set(word::DEVICE, device);
        self.set(word::BORN, born);
        publish(&self.0[word::DIRTY], MARKING);
    }

    /// Notes that a writer is inside at this moment. It never goes back, whatever the clock does.
    #[inline]
    pub(crate) fn note_visit(&self, now: u64) {
        // A model has no clock, and each store would be one more step of it.
        if !cfg!(loom) {
            self.set(word::VISITED, now.max(self.get(word::VISITED)));
        }
    }

    /// The words by which the index is locked.
    pub(crate) fn lock_words(&self) -> lock::Words<'a> {
        lock::Words {
            state: &self.0[word::LOCK],
            inside: &self.0[word::INSIDE],
            waiting: &self.0[word::WAITING],
        }
    }

    /// The process id of the writer, as far as it said so.
    pub(crate) fn holder(&self) -> Option<u32> {
        u32::try_from(self.get(word::HOLDER))
            .ok()
            .filter(|&id| id != 0)
    }

    /// See [`SyncNotes::note_sync`].
    pub(crate) fn note_sync(&self, synced: Result<()>) -> Result<()> {
        self.sync_notes().note_sync(synced)
    }

    /// The words for the results of syncs.
    pub(crate) fn sync_notes(&self) -> SyncNotes<'a> {
        SyncNotes {
            failed: &self.0[word::SYNC_ERROR],
            synced: &self.0[word::SYNCED],
            removals: &self.0[word::REMOVALS_SYNCED],
        }
    }

    /// A word without rules of its own, by its place in [`word`].
    pub(crate) fn get(&self, at: usize) -> u64 {
        load(&self.0[at])
    }

    /// Stores a word without rules of its own.
    pub(crate) fn set(&self, at: usize, value: u64) {
        store(&self.0[at], value);
    }

    /// How many changes of entries there have been. Whoever sees one counted sees all of it.
    pub(crate) fn changes(&self) -> u64 {
        acquire(&self.0[word::CHANGES])
    }

    /// Whether no change is under way, and none was finished since there had been so many. What was
    /// read in between is then no work in progress.
    pub(crate) fn is_idle_since(&self, changes: u64) -> bool {
        acquire_fence();
        let idle = acquire(&self.0[word::INTENT]) == 0;
        idle && self.changes() == changes
    }

    /// Counts a change of an entry, behind its other stores.
    pub(crate) fn count_change(&self) {
        let word = &self.0[word::CHANGES];
        publish(word, load(word).wrapping_add(1));
    }

    /// Adds to one of the totals.
    pub(crate) fn add(&self, at: usize, more: u64) {
        store(&self.0[at], load(&self.0[at]).wrapping_add(more));
    }
}

/// The words that a thread may store which holds no writer lock (invariant L3): what a sync that it
/// made has shown. Each only ever grows here, so two threads cannot undo each other's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SyncNotes<'a> {
    failed: &'a Word,
    synced: &'a Word,
    removals: &'a Word,
}

impl SyncNotes<'_> {
    /// Remembers in the header that a sync failed: the system counts what it was about as written
    /// from now on, so a later one that succeeds proves nothing.
    pub(crate) fn note_sync(&self, synced: Result<()>) -> Result<()> {
        synced.inspect_err(|error| {
            if error.is_failed_sync() {
                raise(self.failed, 1);
            }
        })
    }

    /// All segments below a number are synced. The place of this is the beginning of the file, which
    /// says nothing about the segment itself, nor about zeros in it.
    pub(crate) fn segments_are_synced(&self, below: u16) {
        let place = Place {
            segment: below,
            unit: 0,
        };
        raise(self.synced, place.to_word());
    }

    /// The removals of all segments below a number are synced.
    pub(crate) fn removals_are_synced(&self, below: u16) {
        raise(self.removals, u64::from(below));
    }
}

/// Stores a value that is larger than the word's.
fn raise(word: &Word, value: u64) {
    loop {
        let seen = load(word);
        if seen >= value || exchange(word, seen, value, Relaxed) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Vec<Word> {
        (0..WORDS).map(|_| Word::new(0)).collect()
    }

    #[test]
    fn committed_redo_record_is_read_back() {
        let page = page();
        let header = Header::new(&page).unwrap();
        let after = Counters {
            occupied: 5,
            deleted: 6,
            live: 9,
            ..Counters::default()
        };
        let link = Link::new(
            Place {
                segment: 3,
                unit: 99,
            },
            false,
            7,
        );
        for intent in [
            Intent::Insert {
                slot: 1,
                position: 2,
                link,
                after,
            },
            Intent::Delete {
                slot: 1,
                position: 2,
                vacant: Link::DELETED,
                next_hole: 8,
                after,
            },
            Intent::Replace {
                old: 1,
                low: 2,
                high: Some(0),
                after,
            },
            Intent::Replace {
                old: 1,
                low: 2,
                high: None,
                after,
            },
        ] {
            header.arm(intent);
            assert_eq!(header.intent(), Armed::Yes(intent));
            header.disarm();
            assert_eq!(header.intent(), Armed::No);
        }
    }

    // If the number of the oldest segment is corrupt, every segment counts as in use.
    #[test]
    fn corrupt_oldest_segment_means_all() {
        let page = page();
        let header = Header::new(&page).unwrap();
        for number in [0, 1, 2, 600, u16::MAX] {
            header.set_oldest(number);
            assert_eq!(
                (header.oldest(), header.checked_oldest()),
                (number, Some(number))
            );
            for bit in 0..64 {
                let was = header.get(word::OLDEST);
                header.set(word::OLDEST, was ^ (1 << bit));
                assert_eq!(
                    (header.oldest(), header.checked_oldest()),
                    (0, None),
                    "{bit}"
                );
                header.set(word::OLDEST, was);
            }
        }
    }

    // No changed bit is unnoticed, and none commits the last redo record again.
    #[test]
    fn redo_record_detects_flipped_bits() {
        let page = page();
        let header = Header::new(&page).unwrap();
        let after = Counters {
            occupied: 5,
            live: 9,
            ..Counters::default()
        };
        header.arm(Intent::Delete {
            slot: 1,
            position: 2,
            vacant: Link::DELETED,
            next_hole: 8,
            after,
        });
        let armed = load(&page[word::INTENT]);
        let body = word::INTENT_BODY..word::INTENT_BODY + 3;
        let counters = word::INTENT_COUNTERS..word::INTENT_COUNTERS + 8;
        for at in (word::INTENT..=word::INTENT).chain(body).chain(counters) {
            for bit in 0..64 {
                let was = load(&page[at]);
                store(&page[at], was ^ (1 << bit));
                assert_eq!(header.intent(), Armed::Damaged, "word {at}, bit {bit}");
                store(&page[at], was);
            }
        }
        assert!(matches!(header.intent(), Armed::Yes(_)));
        for bit in 0..64 {
            store(&page[word::INTENT], 1 << bit);
            assert_eq!(header.intent(), Armed::Damaged, "{armed:#x}");
        }
    }

    #[test]
    fn invalid_redo_record_is_corrupt() {
        let page = page();
        let header = Header::new(&page).unwrap();
        header.set(word::INTENT, 77);
        assert_eq!(header.intent(), Armed::Damaged);
        header.set(word::INTENT, 2);
        header.set(word::INTENT_BODY + 1, 0x1234_5678);
        assert_eq!(
            header.intent(),
            Armed::Damaged,
            "a deletion that leaves a link to a record"
        );
    }
}
