//! A cache of either type: entries that stay, or entries that expire.

use std::path::Path;

use mmapcache::{Cache, MmapCache};

use crate::cache_figures;
use crate::entry_terms::EntryTerms;
use crate::failure::Failure;
use crate::location::Location;

/// An open cache.
#[derive(Debug)]
pub(crate) enum EitherCache {
    Engine(MmapCache),
    Expiring(Cache),
}

/// A key, its value, and what a `Cache` stores beside it.
pub(crate) type ListedEntry<'a> = (&'a [u8], &'a [u8], Option<EntryTerms>);

impl EitherCache {
    /// Opens the cache for reading.
    pub(crate) fn open_read_only(location: &Location) -> Result<Self, Failure> {
        match is_expiring(location) {
            true => location.open_cache_read_only().map(Self::Expiring),
            false => location.open_read_only().map(Self::Engine),
        }
    }

    /// Opens the cache for writing. Creates it if it does not exist, as a `Cache` if that is asked for.
    pub(crate) fn open_or_create(
        location: &Location,
        expiring_if_new: bool,
    ) -> Result<Self, Failure> {
        let is_expiring = match location.cache.exists() {
            true => is_expiring(location),
            false => expiring_if_new,
        };
        match is_expiring {
            true => location.open_or_create_cache().map(Self::Expiring),
            false => location.open_or_create().map(Self::Engine),
        }
    }

    pub(crate) fn is_expiring(&self) -> bool {
        matches!(self, Self::Expiring(_))
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Engine(cache) => cache.path(),
            Self::Expiring(cache) => cache.path(),
        }
    }

    /// Returns the number of entries, expired ones included.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Engine(cache) => cache.len(),
            Self::Expiring(cache) => cache.len_with_expired(),
        }
    }

    /// Calls a closure with every entry, of a `Cache` with those that readers find; or with the error of
    /// one.
    pub(crate) fn each(
        &self,
        mut take: impl FnMut(mmapcache::Result<ListedEntry<'_>>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match self {
            Self::Engine(cache) => {
                let mut items = cache.iter()?;
                while let Some(item) = items.next_borrowed() {
                    take(item.map(|(key, value)| (key, value, None)))?;
                }
            }
            Self::Expiring(cache) => {
                for item in cache.entries()? {
                    match item {
                        Ok((key, entry)) => {
                            let terms = EntryTerms::of(&entry);
                            take(Ok((&key, entry.value(), Some(terms))))?;
                        }
                        Err(error) => take(Err(error))?,
                    }
                }
            }
        }
        Ok(())
    }
}

/// Returns whether the files are those of a `Cache`. Opening reports what is wrong with others.
pub(crate) fn is_expiring(location: &Location) -> bool {
    let cache_files = location.read_headers();
    cache_files.is_ok_and(|cache_files| cache_figures::is_cache(&cache_files))
}
