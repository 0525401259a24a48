//! Listings of a cache: its fresh entries, without internal ones.
//!
//! Looks each listed key up. May call `cache`, which makes them, and what that may call.

use std::fmt;

use crate::cache::{Cache, CacheEntry, entry};
use crate::engine::Keys;
use crate::engine::handle::Handle;
use crate::error::Result;
use crate::format::internal;

/// An iterator over the fresh entries of a [`Cache`] with their keys; made by [`Cache::entries`].
pub struct CacheEntries<'a> {
    cache: &'a Cache,
    keys: Keys<'a>,
}

/// An iterator over the keys of the fresh entries of a [`Cache`]; made by [`Cache::keys`].
pub struct CacheKeys<'a>(pub(super) CacheEntries<'a>);

impl fmt::Debug for CacheEntries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CacheEntries").field(self.cache).finish()
    }
}

impl fmt::Debug for CacheKeys<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CacheKeys").field(self.0.cache).finish()
    }
}

impl<'a> CacheEntries<'a> {
    pub(super) fn new(cache: &'a Cache) -> Result<Self> {
        let keys = cache.cache.keys()?;
        Ok(Self { cache, keys })
    }

    /// Returns the fresh entry of a listed key; `None` if it is none, or not a user's.
    fn fresh(&self, key: Result<Vec<u8>>) -> Result<Option<(Vec<u8>, CacheEntry)>> {
        let key = key?;
        let handle = self.cache.cache.handle();
        if is_internal(handle, &key) {
            return Ok(None);
        }
        let found = self.cache.find_unmarked(&key)?;
        let served = found.filter(|found| found.is_served());
        Ok(served.map(|found| (key, entry::of(found))))
    }
}

impl Iterator for CacheEntries<'_> {
    type Item = Result<(Vec<u8>, CacheEntry)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let key = self.keys.next()?;
            if let Some(item) = self.fresh(key).transpose() {
                return Some(item);
            }
        }
    }
}

impl Iterator for CacheKeys<'_> {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.map(|(key, _)| key))
    }
}

/// Returns whether a key is one of the cache itself, not a user's: it begins with the id of the cache.
fn is_internal(handle: &Handle, key: &[u8]) -> bool {
    internal::is_reserved(&handle.generation.load().ids.cache, key)
}
