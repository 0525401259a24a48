//! Options and checks of all commands that change an existing cache.

use std::time::Duration;

use mmapcache::{Cache, MmapCache, Options};

use crate::either_cache::EitherCache;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::location::Location;
use crate::{output, units};

/// The record variant of id caches, which have no values.
const NUMBERED: u32 = 2;

/// Options of a command that writes.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct WriteOptions {
    /// Wait at most this long for another writer; 0 does not wait
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
    /// Sync the change to disk before the command ends
    #[arg(long)]
    sync: bool,
}

impl WriteOptions {
    /// Opens a cache that has values. Creates it only if `create` is set.
    pub(crate) fn open(self, location: &Location, create: bool) -> Result<MmapCache, Failure> {
        let opened = self.options(location, create).open(&location.cache);
        let cache = opened.map_err(|error| location.explain(error))?;
        let instead = "they cannot be changed or deleted; `import --labels` adds new ones";
        refuse_labels(location, instead)?;
        Ok(cache)
    }

    /// Opens a `Cache`. Creates it only if `create` is set.
    pub(crate) fn open_cache(self, location: &Location, create: bool) -> Result<Cache, Failure> {
        let opened = Cache::open_with(&location.cache, &self.options(location, create));
        opened.map_err(|error| location.explain(error))
    }

    fn options(self, location: &Location, create: bool) -> Options {
        let mut options = location.options();
        options.create(create);
        options.lock_timeout(Some(Duration::from_secs(self.wait)));
        options
    }

    /// As [`end`](Self::end), of a `Cache`.
    pub(crate) fn end_cache(self, cache: &Cache) -> Result<(), Failure> {
        if self.sync {
            cache.flush()?;
        }
        Ok(())
    }

    /// Syncs, if requested. Call it after the last change.
    pub(crate) fn end(self, cache: &MmapCache) -> Result<(), Failure> {
        if self.sync {
            cache.flush()?;
        }
        Ok(())
    }
}

/// The count of dropped entries when a command began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DroppedEntries {
    count: u64,
}

impl DroppedEntries {
    /// Returns the count before the recovery that opening the cache may have triggered.
    pub(crate) fn before(cache: &MmapCache) -> Result<Self, Failure> {
        let recovered = cache.last_recovery().map_or(0, |recovery| recovery.dropped);
        let dropped = cache.stats()?.dropped.saturating_sub(recovered);
        Ok(Self { count: dropped })
    }

    /// Returns how many entries the cache has dropped since.
    pub(crate) fn since(self, cache: &MmapCache) -> Result<u64, Failure> {
        Ok(cache.stats()?.dropped.saturating_sub(self.count))
    }

    /// Returns the count before an import. A `Cache` does not tell what opening it dropped.
    pub(crate) fn before_import(cache: &EitherCache) -> Result<Self, Failure> {
        match cache {
            EitherCache::Engine(cache) => Self::before(cache),
            EitherCache::Expiring(cache) => Ok(Self {
                count: cache.stats()?.files.dropped,
            }),
        }
    }

    /// As [`since`](Self::since), after an import.
    pub(crate) fn since_import(self, cache: &EitherCache) -> Result<u64, Failure> {
        match cache {
            EitherCache::Engine(cache) => self.since(cache),
            EitherCache::Expiring(cache) => {
                Ok(cache.stats()?.files.dropped.saturating_sub(self.count))
            }
        }
    }

    /// Reports entries dropped since, and returns the exit status that results from that and `status`.
    pub(crate) fn report(
        self,
        cache: &MmapCache,
        status: ExitStatus,
    ) -> Result<ExitStatus, Failure> {
        let count = self.since(cache)?;
        if count == 0 {
            return Ok(status);
        }
        let path = cache.path().display();
        let count = units::count(count);
        output::warn(&format!(
            "{path}: entries dropped because their records are damaged or missing: {count}"
        ));
        Ok(status.at_least_problems())
    }
}

/// Returns whether a cache is an id cache: its keys have ids and no values.
pub(crate) fn has_labels(location: &Location) -> Result<bool, Failure> {
    let cache_files = location.read_headers()?;
    let header = cache_files.header();
    Ok(header.is_some_and(|header| header.record_variant == NUMBERED))
}

/// Fails for an id cache. The message says what to do instead.
pub(crate) fn refuse_labels(location: &Location, instead: &str) -> Result<(), Failure> {
    if has_labels(location)? {
        let path = location.cache.display();
        let what = format!("{path}: holds labels, which have ids and no values: {instead}");
        return Err(Failure::Request(what));
    }
    Ok(())
}
