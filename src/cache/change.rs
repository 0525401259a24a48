//! Changes of one entry under the lock, decided by what is there: those of a cache, and of a batch.
//!
//! Callers have checked the key, and what they know of the value. May call its siblings and `engine`.

use crate::cache::entry::{self, CacheEntry};
use crate::cache::found::Found;
use crate::cache::{Cache, InsertOptions, counter, groups, insertion, touch};
use crate::engine::{Update, Version, Writer};
use crate::error::Result;

/// What a key must have for a value to be stored. A damaged or expired entry is none.
#[derive(Clone, Copy, Debug)]
pub(super) enum Condition {
    /// No entry.
    Absent,
    /// A value.
    Value,
    /// An entry with this version, which may be a negative one.
    Version(Version),
}

impl Condition {
    fn holds(self, found: Option<&Found>) -> bool {
        match self {
            Self::Absent => found.is_none(),
            Self::Value => found.is_some_and(|found| !found.traits.is_negative()),
            Self::Version(seen) => found.is_some_and(|found| Version(found.version) == seen),
        }
    }
}

/// Stores a value if the condition holds.
pub(super) fn insert_where(
    cache: &Cache,
    writer: &mut Writer<'_>,
    key: &[u8],
    stored: &[u8],
    options: &InsertOptions,
    condition: Condition,
) -> Result<Option<Version>> {
    // Without the lock it would not be what the insertion finds.
    writer.refuse_forked()?;
    if !condition.holds(cache.find_served(key)?.as_ref()) {
        return Ok(None);
    }
    insertion::insert(cache, writer, key, stored, options).map(Some)
}

/// Stores a value unless one of its groups was invalidated after a version.
pub(super) fn insert_computed(
    cache: &Cache,
    writer: &mut Writer<'_>,
    key: &[u8],
    stored: &[u8],
    options: &InsertOptions,
    since: Version,
) -> Result<Option<Version>> {
    let handle = cache.cache.handle();
    if !groups::are_older(writer, handle, &cache.groups, options.extension(), since)? {
        return Ok(None);
    }
    insertion::insert(cache, writer, key, stored, options).map(Some)
}

/// Stores a value and returns the one that it replaces.
pub(super) fn swap(
    cache: &Cache,
    writer: &mut Writer<'_>,
    key: &[u8],
    stored: &[u8],
    options: &InsertOptions,
) -> Result<Option<Vec<u8>>> {
    let replaced = cache.find_value(key)?;
    insertion::insert(cache, writer, key, stored, options)?;
    Ok(replaced.map(|found| found.value))
}

/// Removes the entry of a key, whatever its state. Returns whether it was fresh or stale.
pub(super) fn remove(cache: &Cache, writer: &mut Writer<'_>, key: &[u8]) -> Result<bool> {
    let found = cache.find_undamaged(key)?;
    cache.delete(writer, key, found.as_ref())?;
    Ok(found.is_some_and(|found| found.is_served()))
}

/// Removes the fresh or stale entry of a key if it has this version. Returns whether it had.
pub(super) fn remove_if(
    cache: &Cache,
    writer: &mut Writer<'_>,
    key: &[u8],
    seen: Version,
) -> Result<bool> {
    writer.refuse_forked()?;
    let found = cache.find_served(key)?;
    match found.filter(|found| Version(found.version) == seen) {
        Some(found) => cache.delete(writer, key, Some(&found)),
        None => Ok(false),
    }
}

/// Removes the entry of a key, whatever its state, and returns its value if that is fresh or stale.
pub(super) fn take(cache: &Cache, writer: &mut Writer<'_>, key: &[u8]) -> Result<Option<Vec<u8>>> {
    let found = cache.find_undamaged(key)?;
    cache.delete(writer, key, found.as_ref())?;
    let found = found.filter(|found| found.is_served() && !found.traits.is_negative());
    Ok(found.map(|found| found.value))
}

/// Does with the entry of a key what `decide` says. Returns the version of a value that it stored.
pub(super) fn update(
    cache: &Cache,
    writer: &mut Writer<'_>,
    key: &[u8],
    decide: impl FnOnce(Option<&CacheEntry>) -> Result<Update<(Vec<u8>, InsertOptions)>>,
) -> Result<Option<Version>> {
    writer.refuse_forked()?;
    let entry = cache.find_undamaged(key)?.map(entry::of);
    match decide(entry.as_ref().filter(|entry| !entry.is_expired()))? {
        // The closure may have forked.
        Update::Keep => writer.refuse_forked().map(|()| None),
        Update::Put((value, options)) => {
            let stored = options.stored(&value);
            cache.check_put(key, &stored)?;
            insertion::insert(cache, writer, key, &stored, &options).map(Some)
        }
        Update::Delete => {
            let found = entry.as_ref().map(CacheEntry::found);
            cache.delete(writer, key, found).map(|_| None)
        }
    }
}

/// Adds to a counter and returns its new value. `options` are those of a new one.
pub(super) fn increment(
    cache: &Cache,
    writer: &mut Writer<'_>,
    key: &[u8],
    by: i64,
    options: &InsertOptions,
) -> Result<i64> {
    let entry = cache.find_value(key)?.map(entry::of);
    let was = entry.as_ref().map(CacheEntry::value);
    let sum = counter::add(was, by).map_err(|kind| kind.at(cache.path()))?;
    let options = entry.map_or(*options, |entry| entry.insert_options());
    let stored = options.stored(&counter::encode(sum)).into_owned();
    insertion::insert(cache, writer, key, &stored, &options)?;
    Ok(sum)
}

/// Gives the fresh or stale entry of a key another deadline. Returns whether there was one.
pub(super) fn set_deadline(
    cache: &Cache,
    writer: &mut Writer<'_>,
    key: &[u8],
    deadline: Option<u64>,
) -> Result<bool> {
    let Some(found) = cache.find_served(key)? else {
        return Ok(false);
    };
    let traits = found.traits.without_idle();
    touch::set(writer, cache.cache.handle(), key, found, (deadline, traits))?;
    Ok(true)
}
