//! The order of the keys of an `Index`, in `meta`: an entry for each key under its place, and the ends.
//!
//! Places are dense, so that the first and the last key are found from the ends: past keys that were
//! removed, each of which is passed once. A process may be killed between two stores, which are in this
//! order: place, entry, ends. A place whose key has no entry with that place is passed over, and one
//! beyond the stored end is found by a look.

use mmapcache::Result;

use crate::store::change::{Change, Found};
use crate::store::scan;

const ENDS: &[u8] = b"O";
const PLACE: u8 = b'o';
/// 0 means that an entry has no place of its own.
const FIRST: u64 = 1;

/// Places from `head` to `tail`, without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    head: u64,
    tail: u64,
}

impl Ends {
    const NONE: Self = Self {
        head: FIRST,
        tail: FIRST,
    };

    fn decode(bytes: &[u8], epoch: u64) -> Option<Self> {
        let word = |at| {
            let bytes = bytes.get(at..at + 8)?.try_into().ok()?;
            Some(u64::from_le_bytes(bytes))
        };
        (word(0)? == epoch).then_some(Self {
            head: word(8)?,
            tail: word(16)?,
        })
    }

    fn store(self, change: &mut Change<'_, '_>) -> Result<()> {
        let words = [change.open.epoch, self.head, self.tail];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        change.put_meta(ENDS, &bytes)
    }
}

fn place_key(place: u64) -> [u8; 9] {
    let mut key = [PLACE; 9];
    key[1..].copy_from_slice(&place.to_be_bytes());
    key
}

/// Returns the key at a place, and its entry. `None` if its key was removed.
fn at(change: &Change<'_, '_>, place: u64) -> Result<Option<(Vec<u8>, Found)>> {
    let Some(key) = change.meta(&place_key(place))? else {
        return Ok(None);
    };
    let found = change.find(&key)?.filter(|found| found.place() == place);
    Ok(found.map(|found| (key, found)))
}

fn load(change: &mut Change<'_, '_>) -> Result<Ends> {
    let stored = change.meta(ENDS)?;
    let epoch = change.open.epoch;
    let mut ends = match stored.and_then(|bytes| Ends::decode(&bytes, epoch)) {
        Some(ends) => ends,
        None => rebuild(change)?,
    };
    while at(change, ends.tail)?.is_some() {
        ends.tail += 1;
    }
    Ok(ends)
}

/// Makes the order from the entries: at the first use, and after a recovery.
fn rebuild(change: &mut Change<'_, '_>) -> Result<Ends> {
    let mut keys = scan::collect(change.open, |listed| {
        Some((listed.found.place(), listed.key.clone()))
    })?;
    keys.sort_unstable();
    forget_all(change)?;
    for (place, key) in &keys {
        change.put_meta(&place_key(*place), key)?;
    }
    let ends = match (keys.first(), keys.last()) {
        (Some((head, _)), Some((tail, _))) => Ends {
            head: *head,
            tail: tail + 1,
        },
        _ => Ends::NONE,
    };
    ends.store(change)?;
    Ok(ends)
}

/// Removes the whole order.
pub(super) fn forget_all(change: &mut Change<'_, '_>) -> Result<()> {
    for key in change.open.meta.keys()? {
        let key = key?;
        if key.first() == Some(&PLACE) || key == ENDS {
            change.remove_meta(&key)?;
        }
    }
    Ok(())
}

/// A place that a new key gets.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewPlace {
    pub place: u64,
    ends: Ends,
}

/// Stores that a new key is the last.
pub(super) fn begin(change: &mut Change<'_, '_>, key: &[u8]) -> Result<NewPlace> {
    let mut ends = load(change)?;
    let place = ends.tail;
    change.put_meta(&place_key(place), key)?;
    ends.tail += 1;
    Ok(NewPlace { place, ends })
}

/// Ends the insertion of a key, after its entry was stored.
pub(super) fn finish(change: &mut Change<'_, '_>, new: NewPlace) -> Result<()> {
    new.ends.store(change)
}

/// Forgets the place of a key whose entry was removed.
pub(super) fn forget(change: &mut Change<'_, '_>, place: u64) -> Result<()> {
    change.remove_meta(&place_key(place))
}

/// Returns the first or last key that is fresh, and its entry. Removes those that are not.
pub(super) fn end(
    change: &mut Change<'_, '_>,
    last: bool,
    now: f64,
) -> Result<Option<(Vec<u8>, Found)>> {
    let mut ends = load(change)?;
    let before = ends;
    let mut result = None;
    while ends.head < ends.tail {
        let place = if last { ends.tail - 1 } else { ends.head };
        match at(change, place)? {
            Some((key, found)) if found.is_fresh(now) => {
                result = Some((key, found));
                break;
            }
            Some((key, _)) => {
                change.remove(&key)?;
                forget(change, place)?;
            }
            None => forget(change, place)?,
        }
        if last {
            ends.tail -= 1;
        } else {
            ends.head += 1;
        }
    }
    if ends != before {
        ends.store(change)?;
    }
    Ok(result)
}
