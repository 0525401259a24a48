//! Queues, one for each prefix: items under numbered keys, and in `meta` the numbers of their ends.
//!
//! A process may be killed between the store of an item and that of the ends. So each call looks one
//! number beyond both ends, and passes over numbers without an item: an item that was pushed is found,
//! one that was pulled is gone. After a recovery of the files, and at the first use of a store, the ends
//! are made from the keys.

use mmapcache::Result;

use crate::store::change::{Change, Found};
use crate::store::key::{self, Key};
use crate::store::scan;

/// The number of the first item of an empty queue, as for diskcache.
const START: i64 = 500_000_000_000_000;
/// Numbers without an item that are passed one by one. Beyond, all keys are read.
const GAP: u32 = 1_000;
/// Says that the ends in `meta` are those of all queues.
const KNOWN: &[u8] = b"Q";
/// Says that the store of a `Deque` has keys that were not pushed.
const OTHERS: &[u8] = b"x";
const ENDS: u8 = b'q';

/// Numbers from `head` to `tail`, without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub head: i64,
    pub tail: i64,
}

impl Ends {
    const NONE: Self = Self {
        head: START,
        tail: START,
    };

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, tail) = bytes.split_first_chunk()?;
        Some(Self {
            head: i64::from_le_bytes(*head),
            tail: i64::from_le_bytes(tail.try_into().ok()?),
        })
    }
}

/// A side of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Front,
    Back,
}

fn ends_key(prefix: Option<&str>) -> Vec<u8> {
    let mut key = vec![ENDS, u8::from(prefix.is_some())];
    let prefix = prefix.unwrap_or_default().as_bytes();
    // The engine takes keys of up to 65,535 bytes, and an item's key would be a hash long before.
    match prefix.len() <= 1024 {
        true => key.extend_from_slice(prefix),
        false => {
            key[1] = 2;
            key.extend_from_slice(&xxhash_rust::xxh3::xxh3_128(prefix).to_be_bytes());
        }
    }
    key
}

fn exists(change: &Change<'_, '_>, prefix: Option<&str>, number: i64) -> Result<bool> {
    Ok(change
        .find(Key::of_item(prefix, number).engine())?
        .is_some())
}

fn store(change: &mut Change<'_, '_>, prefix: Option<&str>, ends: Ends) -> Result<()> {
    let mut bytes = ends.head.to_le_bytes().to_vec();
    bytes.extend_from_slice(&ends.tail.to_le_bytes());
    change.put_meta(&ends_key(prefix), &bytes)
}

/// Returns the ends, with items that a killed process pushed.
fn load(change: &mut Change<'_, '_>, prefix: Option<&str>) -> Result<Ends> {
    let epoch = change.open.epoch.to_le_bytes();
    if change.meta(KNOWN)?.as_deref() != Some(&epoch) {
        find_all(change)?;
        change.put_meta(KNOWN, &epoch)?;
    }
    let stored = change.meta(&ends_key(prefix))?;
    let mut ends = stored
        .and_then(|bytes| Ends::decode(&bytes))
        .unwrap_or(Ends::NONE);
    while exists(change, prefix, ends.tail)? {
        ends.tail += 1;
    }
    while exists(change, prefix, ends.head - 1)? {
        ends.head -= 1;
    }
    Ok(ends)
}

/// Stores the ends of all queues, as their keys say.
fn find_all(change: &mut Change<'_, '_>) -> Result<()> {
    forget_all(change)?;
    let mut items = scan::collect(change.open, |listed| {
        let (prefix, number) = key::item_of_queue(listed.whole_key())?;
        Some((prefix.map(str::to_owned), number))
    })?;
    items.sort_unstable();
    for queue in items.chunk_by(|one, other| one.0 == other.0) {
        if let [(prefix, head), ..] = queue
            && let [.., (_, tail)] = queue
        {
            let ends = Ends {
                head: *head,
                tail: tail + 1,
            };
            store(change, prefix.as_deref(), ends)?;
        }
    }
    Ok(())
}

/// Removes what is known of queues, after all entries were removed.
pub(super) fn clear(change: &mut Change<'_, '_>) -> Result<()> {
    forget_all(change)?;
    change.remove_meta(OTHERS)
}

/// Removes the ends of all queues.
fn forget_all(change: &mut Change<'_, '_>) -> Result<()> {
    for key in change.open.meta.keys()? {
        let key = key?;
        if key.first() == Some(&ENDS) {
            change.remove_meta(&key)?;
        }
    }
    Ok(())
}

/// Returns the ends of the queue without a prefix; `None` if the store has other keys too.
pub(super) fn only_ends(change: &mut Change<'_, '_>) -> Result<Option<Ends>> {
    match change.meta(OTHERS)? {
        Some(_) => Ok(None),
        None => load(change, None).map(Some),
    }
}

/// Notes that the store has a key that was not pushed.
pub(super) fn note_other(change: &mut Change<'_, '_>) -> Result<()> {
    match change.meta(OTHERS)? {
        Some(_) => Ok(()),
        None => change.put_meta(OTHERS, b""),
    }
}

/// Returns the number and the key that the next item gets.
pub(super) fn next(
    change: &mut Change<'_, '_>,
    prefix: Option<&str>,
    side: Side,
) -> Result<(i64, Ends)> {
    let mut ends = load(change, prefix)?;
    if ends.head >= ends.tail {
        ends = Ends::NONE;
        // A caller may have stored under such a key by hand.
        while exists(change, prefix, ends.tail)? {
            ends.tail += 1;
        }
    }
    Ok(match side {
        Side::Back => {
            ends.tail += 1;
            (ends.tail - 1, ends)
        }
        Side::Front => {
            ends.head -= 1;
            (ends.head, ends)
        }
    })
}

/// Stores the ends, after the item was stored.
pub(super) fn pushed(change: &mut Change<'_, '_>, prefix: Option<&str>, ends: Ends) -> Result<()> {
    store(change, prefix, ends)
}

/// Stores the ends without an item at one of them, after it was removed.
pub(super) fn pulled(change: &mut Change<'_, '_>, prefix: Option<&str>, number: i64) -> Result<()> {
    let mut ends = load(change, prefix)?;
    if number == ends.head {
        ends.head += 1;
    } else if number == ends.tail - 1 {
        ends.tail -= 1;
    }
    if ends.head >= ends.tail {
        ends = Ends::NONE;
    }
    store(change, prefix, ends)
}

/// Returns the item at a side. Removes those that have expired.
pub(super) fn peek(
    change: &mut Change<'_, '_>,
    prefix: Option<&str>,
    side: Side,
    now: f64,
) -> Result<Option<(i64, Found)>> {
    let mut ends = load(change, prefix)?;
    let before = ends;
    let (mut item, mut gap) = (None, 0);
    while ends.head < ends.tail {
        let number = match side {
            Side::Front => ends.head,
            Side::Back => ends.tail - 1,
        };
        let key = Key::of_item(prefix, number);
        match change.find(key.engine())? {
            Some(found) if found.is_fresh(now) => {
                item = Some((number, found));
                break;
            }
            Some(found) => super::entries::remove(change, key.engine(), &found)?,
            None => gap += 1,
        }
        match side {
            Side::Front => ends.head += 1,
            Side::Back => ends.tail -= 1,
        }
        if gap == GAP {
            ends = without_gaps(change, prefix, ends)?;
            gap = 0;
        }
    }
    if ends.head >= ends.tail {
        ends = Ends::NONE;
    }
    if ends != before {
        store(change, prefix, ends)?;
    }
    Ok(item)
}

/// Returns the ends without the numbers before the first and after the last item.
fn without_gaps(change: &Change<'_, '_>, prefix: Option<&str>, ends: Ends) -> Result<Ends> {
    let numbers = scan::collect(change.open, |listed| {
        let (found, number) = key::item_of_queue(listed.whole_key())?;
        let is_inside = ends.head <= number && number < ends.tail;
        (found == prefix && is_inside).then_some(number)
    })?;
    let (head, tail) = (numbers.iter().min(), numbers.iter().max());
    Ok(match (head, tail) {
        (Some(&head), Some(&tail)) => Ends {
            head,
            tail: tail + 1,
        },
        _ => Ends {
            head: ends.head,
            tail: ends.head,
        },
    })
}
