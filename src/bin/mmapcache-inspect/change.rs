//! What all commands have in common that change a cache which is there.
//!
//! Knows how long they wait for the lock, and what is told to whoever takes labels for a cache.

use std::time::Duration;

use mmapcache::MmapCache;

use crate::failure::Failure;
use crate::site::Site;

/// The variant of records that have no values.
const NUMBERED: u32 = 2;

/// How a cache is opened to be changed.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Change {
    /// Wait so long for another writer; 0 for not at all
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
    /// Have it on the disk before the command ends
    #[arg(long)]
    sync: bool,
}

impl Change {
    /// Opens a cache with values, which is made only if that is asked for.
    pub(crate) fn open(self, site: &Site, create: bool) -> Result<MmapCache, Failure> {
        let mut options = site.options();
        options.create(create);
        options.lock_timeout(Some(Duration::from_secs(self.wait)));
        let opened = options.open(&site.cache);
        let cache = opened.map_err(|error| site.explain(error))?;
        let instead = "nothing of them changes or goes, and new ones come by `Labels`";
        refuse_labels(site, instead)?;
        Ok(cache)
    }

    /// What there is to do behind the last change.
    pub(crate) fn end(self, cache: &MmapCache) -> Result<(), Failure> {
        if self.sync {
            cache.flush()?;
        }
        Ok(())
    }
}

/// Whether a cache gives its keys ids, and has no values.
pub(crate) fn has_labels(site: &Site) -> Result<bool, Failure> {
    let sealed = site.overview()?.sealed;
    Ok(sealed.is_some_and(|header| header.record_variant == NUMBERED))
}

/// Refuses the files of labels, with a word on what to do instead.
pub(crate) fn refuse_labels(site: &Site, instead: &str) -> Result<(), Failure> {
    if has_labels(site)? {
        let path = site.cache.display();
        let what = format!("{path}: holds labels, which have ids and no values: {instead}");
        return Err(Failure::Request(what));
    }
    Ok(())
}
