//! Removes everything of a cache that has ended: a walk over all keys.
//!
//! May call its siblings and `mmap_cache`.

use crate::cache::found::Found;
use crate::cache::{Cache, deadlines, removal, settings};
use crate::error::Result;
use crate::format::freshness::Freshness;
use crate::format::internal;
use crate::os::clock::unix_millis;

/// Entries that are removed under one lock.
const AT_ONCE: usize = 1_024;

/// Removes all entries that are not served any more. Returns how many.
pub(super) fn all(cache: &Cache) -> Result<u64> {
    let (mut removed, mut ended, mut damaged) = (0, Vec::new(), None);
    for key in cache.cache.keys()? {
        match key.and_then(|key| Ok(has_ended(cache, &key)?.then_some(key))) {
            Ok(key) => ended.extend(key),
            Err(error) if error.is_of_one_entry() => {
                damaged.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
        if ended.len() == AT_ONCE {
            removed += remove_ended(cache, &mut ended)?;
        }
    }
    removed += remove_ended(cache, &mut ended)?;
    damaged.map_or(Ok(removed), Err)
}

/// Returns whether the entry of a key is there and is not served any more. Of the entries of the
/// cache itself, a deadline has ended if the entry that it belongs to has.
fn has_ended(cache: &Cache, key: &[u8]) -> Result<bool> {
    let id = cache.cache.handle().generation.load().ids.cache;
    if !internal::is_reserved(&id, key) {
        let found = cache.find_unmarked(key)?;
        return Ok(found.is_some_and(|found| is_over(cache, &found)));
    }
    match internal::key_of_deadline(key) {
        Some(owner) => deadlines::are_unused(cache.cache.handle(), owner),
        None => Ok(false),
    }
}

/// Returns whether an entry is not needed any more: it is not served, and does not stand in for a
/// computation that fails. If the settings are corrupt, how long it does is not known.
fn is_over(cache: &Cache, found: &Found) -> bool {
    match found.freshness {
        Freshness::Fresh | Freshness::Stale => false,
        Freshness::Invalidated | Freshness::Distrusted => true,
        Freshness::Expired if found.traits.is_negative() => true,
        Freshness::Expired => settings::read(cache.cache.handle()).is_ok_and(|settings| {
            let until = |at: u64| at.saturating_add(settings.stale_on_error);
            found.deadline.is_none_or(|at| until(at) <= unix_millis())
        }),
    }
}

pub(super) fn remove_ended(cache: &Cache, keys: &mut Vec<Vec<u8>>) -> Result<u64> {
    if keys.is_empty() {
        return Ok(0);
    }
    cache.change(|writer| {
        let mut removed = 0;
        for key in keys.drain(..) {
            // It may have been put again since.
            if !has_ended(cache, &key)? {
                continue;
            }
            if cache.check_key(&key).is_err() {
                writer.delete_bytes(&key)?;
                continue;
            }
            let found = cache.find_unmarked(&key)?;
            if writer.delete_bytes(&key)? {
                removal::removed(cache.cache.handle(), &key, found.as_ref());
                removed += 1;
            }
        }
        Ok(removed)
    })
}
