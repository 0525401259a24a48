//! What calls do with the entry of a key, under the lock.

use std::sync::atomic::Ordering::Relaxed;

use mmapcache::Result;

use crate::store::change::{Change, Found};
use crate::store::key::Key;
use crate::store::value::{self, Number, Terms};
use crate::store::{order, queue, scan};

/// Says in `meta` that there may be entries that stay although they have expired.
const PARKED: &[u8] = b"p";

/// What an addition to a number came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Sum {
    Number(Number),
    /// There is no entry, and no number to begin with.
    Missing,
    /// The value is no number of 64 bits, or the sum is none.
    Other,
}

/// Returns whether an entry is of this key: two keys with one hash share an entry.
pub(super) fn is_of(found: &Found, key: &Key) -> bool {
    match key.whole() {
        None => true,
        Some(whole) => found.stored().and_then(|stored| stored.key) == Some(whole),
    }
}

/// Stores a value under a key. With `adds` only if there is no fresh one; returns whether it stored.
pub(super) fn set(
    change: &mut Change<'_, '_>,
    key: &Key,
    value: &mut [u8],
    adds: bool,
    now: f64,
) -> Result<bool> {
    let found = change.find(key.engine())?;
    if adds
        && let Some(found) = &found
        && is_of(found, key)
        && found.is_fresh(now)
    {
        return Ok(false);
    }
    if found.is_none() && change.open.flags.is_queue.load(Relaxed) {
        queue::note_other(change)?;
    }
    put(change, key, value, found.as_ref())?;
    cull(change, now)?;
    Ok(true)
}

/// Stores a value in the place of the entry that was found, or as a new one.
fn put(
    change: &mut Change<'_, '_>,
    key: &Key,
    value: &mut [u8],
    found: Option<&Found>,
) -> Result<()> {
    if let Some(found) = found {
        value::set_place(value, found.place());
        return change.put(key.engine(), value);
    }
    if !change.open.flags.is_ordered.load(Relaxed) {
        return change.put(key.engine(), value);
    }
    let new = order::begin(change, key.engine())?;
    value::set_place(value, new.place);
    change.put(key.engine(), value)?;
    order::finish(change, new)
}

/// Removes an entry that was found.
pub(super) fn remove(change: &mut Change<'_, '_>, key: &[u8], found: &Found) -> Result<()> {
    change.remove(key)?;
    if change.open.flags.is_ordered.load(Relaxed) {
        order::forget(change, found.place())?;
    }
    Ok(())
}

/// Removes the entry of a key if it is fresh; with a version, if it is that one. Returns whether it did.
pub(super) fn delete(
    change: &mut Change<'_, '_>,
    key: &Key,
    version: Option<u64>,
    now: f64,
) -> Result<bool> {
    let found = change.find(key.engine())?.filter(|found| {
        is_of(found, key) && found.is_fresh(now) && version.is_none_or(|seen| seen == found.version)
    });
    match found {
        None => Ok(false),
        Some(found) => {
            remove(change, key.engine(), &found)?;
            Ok(true)
        }
    }
}

/// Gives a fresh entry another moment at which it expires. Returns whether there was one.
pub(super) fn touch(
    change: &mut Change<'_, '_>,
    key: &Key,
    expire: Option<f64>,
    is_parked: bool,
    now: f64,
) -> Result<bool> {
    let found = change.find(key.engine())?;
    let Some(found) = found.filter(|found| is_of(found, key) && found.is_fresh(now)) else {
        return Ok(false);
    };
    let Some(stored) = found.stored() else {
        return Ok(false);
    };
    let terms = Terms {
        expire,
        is_parked,
        tag: stored.tag,
    };
    let mut value = stored.with(&terms);
    put(change, key, &mut value, Some(&found))?;
    Ok(true)
}

/// Adds to the number of a key, which keeps what else its entry has.
pub(super) fn add_to(
    change: &mut Change<'_, '_>,
    key: &Key,
    delta: Number,
    default: Option<Number>,
    now: f64,
) -> Result<Sum> {
    let found = change.find(key.engine())?;
    let fresh = found
        .as_ref()
        .filter(|found| is_of(found, key) && found.is_fresh(now));
    let (number, terms) = match fresh.map(Found::stored) {
        None => match default {
            None => return Ok(Sum::Missing),
            Some(default) => (default, Terms::default()),
        },
        Some(stored) => {
            let Some((stored, number)) = stored.and_then(|stored| Some((stored, stored.number()?)))
            else {
                return Ok(Sum::Other);
            };
            let terms = Terms {
                expire: stored.expire,
                is_parked: stored.is_parked(),
                tag: stored.tag,
            };
            (number, terms)
        }
    };
    let Some(sum) = number.plus(delta) else {
        return Ok(Sum::Other);
    };
    let mut value = value::encode_number(sum, key, &terms);
    put(change, key, &mut value, found.as_ref())?;
    Ok(Sum::Number(sum))
}

/// Pushes an item. Returns its number.
pub(super) fn push(
    change: &mut Change<'_, '_>,
    prefix: Option<&str>,
    side: queue::Side,
    value: &mut [u8],
    now: f64,
) -> Result<i64> {
    let (number, ends) = queue::next(change, prefix, side)?;
    put(change, &Key::of_item(prefix, number), value, None)?;
    queue::pushed(change, prefix, ends)?;
    cull(change, now)?;
    Ok(number)
}

/// Stores that there may be entries that stay after they have expired.
pub(super) fn note_parked(change: &mut Change<'_, '_>) -> Result<()> {
    let flags = &change.open.flags;
    if flags.has_parked.swap(true, Relaxed) {
        return Ok(());
    }
    flags.parked_until.store(0, Relaxed);
    match change.meta(PARKED)? {
        Some(_) => Ok(()),
        None => change.put_meta(PARKED, b""),
    }
}

/// Returns whether there may be such entries.
pub(super) fn has_parked(open: &crate::store::open::Open) -> Result<bool> {
    open.meta.contains(PARKED)
}

/// Removes entries that stayed after they had expired, if this handle removes them. What else has expired,
/// and what is too much, the engine removes.
fn cull(change: &mut Change<'_, '_>, now: f64) -> Result<()> {
    let flags = &change.open.flags;
    if !flags.has_parked.load(Relaxed) || flags.parks.load(Relaxed) {
        return Ok(());
    }
    if now < f64::from_bits(flags.parked_until.load(Relaxed)) {
        return Ok(());
    }
    cull_parked(change, now)
}

/// Reads all entries, and notes when the next of them expires.
#[cold]
fn cull_parked(change: &mut Change<'_, '_>, now: f64) -> Result<()> {
    let mut next = f64::INFINITY;
    let expired = scan::collect(change.open, |listed| {
        let stored = listed.found.stored()?;
        let expire = stored.expire.filter(|_| stored.is_parked())?;
        if expire >= now {
            next = next.min(expire);
            return None;
        }
        Some(listed.key.clone())
    })?;
    scan::remove(change, &expired, |found| !found.is_fresh(now))?;
    let flags = &change.open.flags;
    flags.parked_until.store(next.to_bits(), Relaxed);
    if next == f64::INFINITY {
        flags.has_parked.store(false, Relaxed);
        change.remove_meta(PARKED)?;
    }
    Ok(())
}
