//! The redo record: what one change of the index is going to store, absolute and idempotent.
//!
//! A writer commits it with one store before the change, and clears it after. A writer that finds
//! a committed one stores all of it again: twice has the same effect as once. This file has the
//! record and its encoding in the header page; it may call `format` and `sync`.

use crate::format::heap_addr::HeapAddr;
use crate::format::index::{Counters, PAGE, REDO_COPY_WORDS, word};
use crate::format::slot::Link;
use crate::sync::{Word, acquire, acquire_fence, load, publish, release_fence, store};

/// Words of the header page.
pub(crate) const WORDS: usize = (PAGE / 8) as usize;

/// The words of the header page.
pub(crate) type HeaderPage = [Word; WORDS];

/// A change of the index that is under way: enough to complete it after its writer was killed.
///
/// It has the counters as they are after the change, not their differences: after a kill no process
/// can know whether a "plus one" has already happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Redo {
    /// The record at `link` becomes the entry in `slot`.
    Insert {
        slot: u32,
        position: u32,
        link: Link,
        after: Counters,
    },
    /// The entry in `slot` is removed: `vacant` replaces its link, and `next_free` the slot number
    /// in its roster position.
    Delete {
        slot: u32,
        position: u32,
        vacant: Link,
        next_free: u32,
        after: Counters,
    },
    /// The region `old` is replaced by `low`, and by `high` too if it was split.
    Replace {
        old: u32,
        low: u32,
        high: Option<u32>,
        after: Counters,
    },
    /// The record in the redo copy, of `units` words, is stored at `place`, over an older one of its
    /// key. The counters stay. No other redo record of a cache has this version.
    Overwrite {
        place: HeapAddr,
        version: u64,
        units: u32,
        after: Counters,
    },
}

/// What the redo record's words say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RedoState {
    /// No change is under way.
    Cleared,
    Committed(Redo),
    /// No version of this crate has committed these words.
    Corrupt,
}

const INSERT: u64 = 1;
const DELETE: u64 = 2;
const REPLACE: u64 = 3;
const OVERWRITE: u64 = 4;
/// The bits of the commit word that hold the kind. The others are a checksum of the kind and of
/// what belongs to it.
const KIND: u64 = 0xff;

impl Redo {
    /// The counters after the change.
    pub(crate) fn after(&self) -> Counters {
        match self {
            Self::Insert { after, .. }
            | Self::Delete { after, .. }
            | Self::Replace { after, .. }
            | Self::Overwrite { after, .. } => *after,
        }
    }

    /// The number of entries before the change or after it, whichever is lower.
    pub(crate) fn fewest_entries(&self) -> u64 {
        let after = self.after().occupied;
        match self {
            Self::Insert { .. } => after.saturating_sub(1),
            Self::Delete { .. } | Self::Replace { .. } | Self::Overwrite { .. } => after,
        }
    }

    fn to_words(self) -> (u64, [u64; 3]) {
        match self {
            Self::Insert {
                slot,
                position,
                link,
                ..
            } => (INSERT, [pair(slot, position), link.0, 0]),
            Self::Delete {
                slot,
                position,
                vacant,
                next_free,
                ..
            } => (
                DELETE,
                [pair(slot, position), vacant.0, u64::from(next_free)],
            ),
            Self::Replace { old, low, high, .. } => {
                let high = high.map_or(0, |region| u64::from(region) + 1);
                (REPLACE, [pair(old, low), high, 0])
            }
            Self::Overwrite {
                place,
                version,
                units,
                ..
            } => (OVERWRITE, [place.to_word(), version, u64::from(units)]),
        }
    }

    /// Decodes the words; `None` if they cannot be a redo record.
    fn from_words(kind: u64, body: [u64; 3], after: Counters) -> Option<Self> {
        let (first, second) = (body[0] as u32, (body[0] >> 32) as u32);
        match kind {
            INSERT => Some(Self::Insert {
                slot: first,
                position: second,
                link: Link(body[1]),
                after,
            }),
            DELETE => {
                let vacant = Link(body[1]);
                let next_free = u32::try_from(body[2]).ok()?;
                (!vacant.is_entry()).then_some(Self::Delete {
                    slot: first,
                    position: second,
                    vacant,
                    next_free,
                    after,
                })
            }
            REPLACE => {
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
            OVERWRITE => {
                let is_place = body[0] >> 48 == 0;
                let fits = (1..=REDO_COPY_WORDS as u64).contains(&body[2]);
                (is_place && fits).then_some(Self::Overwrite {
                    place: HeapAddr::from_word(body[0]),
                    version: body[1],
                    units: body[2] as u32,
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

/// The word that commits a redo record. Without the checksum, one flipped bit of the cleared word
/// would commit the last record again. The products do not wait for each other.
fn commit_word(kind: u64, body: [u64; 3], after: &Counters) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let words = body.into_iter().chain(after.to_words());
    let sum = words.enumerate().fold(kind, |sum, (at, word)| {
        sum.wrapping_add(word.wrapping_mul(ODD.wrapping_mul(2 * at as u64 + 3)))
    });
    let mixed = (sum ^ (sum >> 32)).wrapping_mul(ODD);
    (mixed & !KIND) | kind
}

/// Reads the redo record. A reader that sees it committed sees every store before the commit.
pub(super) fn read_redo(page: &HeaderPage) -> RedoState {
    let committed = acquire(&page[word::INTENT]);
    if committed == 0 {
        return RedoState::Cleared;
    }
    let kind = committed & KIND;
    let body = std::array::from_fn(|i| load(&page[word::INTENT_BODY + i]));
    let after = Counters::from_words(std::array::from_fn(|i| {
        load(&page[word::INTENT_COUNTERS + i])
    }));
    if commit_word(kind, body, &after) != committed {
        return RedoState::Corrupt;
    }
    Redo::from_words(kind, body, after).map_or(RedoState::Corrupt, RedoState::Committed)
}

/// Writes a redo record and commits it with one store. From there on another process may complete
/// the change.
#[inline]
pub(super) fn commit_redo(page: &HeaderPage, redo: Redo) {
    let (kind, body) = redo.to_words();
    let after = redo.after();
    debug_assert_eq!(Redo::from_words(kind, body, after), Some(redo));
    for (i, value) in body.into_iter().enumerate() {
        store(&page[word::INTENT_BODY + i], value);
    }
    for (i, value) in after.to_words().into_iter().enumerate() {
        store(&page[word::INTENT_COUNTERS + i], value);
    }
    publish(&page[word::INTENT], commit_word(kind, body, &after));
    release_fence();
}

/// Returns the words of the redo copy.
pub(super) fn redo_copy(page: &HeaderPage) -> &[Word] {
    &page[word::REDO_COPY..word::REDO_COPY + REDO_COPY_WORDS]
}

/// Returns whether the redo record of an overwrite has been committed all the time since it was read,
/// and with it the redo copy. W4: the next copy is stored after this redo record was cleared.
pub(super) fn is_still_overwriting(page: &HeaderPage, version: u64) -> bool {
    acquire_fence();
    let committed = acquire(&page[word::INTENT]);
    committed & KIND == OVERWRITE && load(&page[word::INTENT_BODY + 1]) == version
}

/// Clears the redo record: every store that it stands for is done.
#[inline]
pub(super) fn clear_redo(page: &HeaderPage) {
    publish(&page[word::INTENT], 0);
    release_fence();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Box<HeaderPage> {
        Box::new(std::array::from_fn(|_| Word::new(0)))
    }

    fn delete(after: Counters) -> Redo {
        Redo::Delete {
            slot: 1,
            position: 2,
            vacant: Link::DELETED,
            next_free: 8,
            after,
        }
    }

    #[test]
    fn committed_redo_record_is_read_back() {
        let page = page();
        let after = Counters {
            occupied: 5,
            deleted: 6,
            live: 9,
            ..Counters::default()
        };
        let place = HeapAddr {
            segment: 3,
            unit: 99,
        };
        for redo in [
            Redo::Insert {
                slot: 1,
                position: 2,
                link: Link::new(place, 7),
                after,
            },
            delete(after),
            Redo::Replace {
                old: 1,
                low: 2,
                high: Some(0),
                after,
            },
            Redo::Replace {
                old: 1,
                low: 2,
                high: None,
                after,
            },
            Redo::Overwrite {
                place,
                version: 12,
                units: REDO_COPY_WORDS as u32,
                after,
            },
        ] {
            commit_redo(&page, redo);
            assert_eq!(read_redo(&page), RedoState::Committed(redo));
            clear_redo(&page);
            assert_eq!(read_redo(&page), RedoState::Cleared);
        }
    }

    // W4: a reader that copies the redo copy notices that its overwrite is over, or another one begun.
    #[test]
    fn finished_overwrite_is_noticed() {
        let page = page();
        let commit = |version| {
            commit_redo(
                &page,
                Redo::Overwrite {
                    place: HeapAddr {
                        segment: 3,
                        unit: 99,
                    },
                    version,
                    units: 5,
                    after: Counters::default(),
                },
            );
        };
        commit(12);
        assert!(is_still_overwriting(&page, 12));
        assert!(!is_still_overwriting(&page, 11));
        clear_redo(&page);
        assert!(!is_still_overwriting(&page, 12));
        commit(13);
        assert!(!is_still_overwriting(&page, 12));
        clear_redo(&page);
        commit_redo(&page, delete(Counters::default()));
        assert!(!is_still_overwriting(&page, 1), "a word of another kind");
    }

    // No changed bit is unnoticed, and none commits the last redo record again.
    #[test]
    fn redo_record_detects_flipped_bits() {
        let page = page();
        commit_redo(
            &page,
            delete(Counters {
                occupied: 5,
                live: 9,
                ..Counters::default()
            }),
        );
        let committed = load(&page[word::INTENT]);
        let body = word::INTENT_BODY..word::INTENT_BODY + 3;
        let counters = word::INTENT_COUNTERS..word::INTENT_COUNTERS + 8;
        for at in (word::INTENT..=word::INTENT).chain(body).chain(counters) {
            for bit in 0..64 {
                let was = load(&page[at]);
                store(&page[at], was ^ (1 << bit));
                assert_eq!(read_redo(&page), RedoState::Corrupt, "word {at}, bit {bit}");
                store(&page[at], was);
            }
        }
        assert!(matches!(read_redo(&page), RedoState::Committed(_)));
        for bit in 0..64 {
            store(&page[word::INTENT], 1 << bit);
            assert_eq!(read_redo(&page), RedoState::Corrupt, "{committed:#x}");
        }
    }

    #[test]
    fn invalid_redo_record_is_corrupt() {
        let page = page();
        store(&page[word::INTENT], 77);
        assert_eq!(read_redo(&page), RedoState::Corrupt);
        store(&page[word::INTENT], DELETE);
        store(&page[word::INTENT_BODY + 1], 0x1234_5678);
        assert_eq!(
            read_redo(&page),
            RedoState::Corrupt,
            "a deletion that leaves a link to a record"
        );
        let after = Counters::default();
        let units = REDO_COPY_WORDS as u64 + 1;
        for body in [[1 << 48, 5, 4], [1, 5, 0], [1, 5, units]] {
            assert_eq!(Redo::from_words(OVERWRITE, body, after), None, "{body:?}");
        }
    }
}
