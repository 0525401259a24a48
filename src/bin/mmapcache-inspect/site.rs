//! Where a cache is, and the two ways to open it.
//!
//! Knows no command. Commands that only look open it so that nothing is locked, mended or created.

use std::path::{Path, PathBuf};

use mmapcache::inspect::{Anatomy, Overview};
use mmapcache::{MmapCache, Options};

use crate::failure::Failure;

/// The paths of a cache, as the command line names them.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) cache: PathBuf,
    pub(crate) heap: Option<PathBuf>,
}

impl Site {
    /// Opens the cache to look at it.
    pub(crate) fn look(&self) -> Result<MmapCache, Failure> {
        Ok(self.options().read_only(true).open(&self.cache)?)
    }

    /// Opens the cache to write to it; creates it where there is none.
    pub(crate) fn change(&self) -> Result<MmapCache, Failure> {
        Ok(self.options().open(&self.cache)?)
    }

    /// Creates the cache where there must be none.
    pub(crate) fn create_new(&self) -> Result<MmapCache, Failure> {
        Ok(self.options().create_new(true).open(&self.cache)?)
    }

    /// Reads the headers, without opening the cache.
    pub(crate) fn overview(&self) -> Result<Overview, Failure> {
        Ok(Overview::read(&self.cache, self.heap())?)
    }

    /// Opens the files to look at what is in them, without opening the cache.
    pub(crate) fn anatomy(&self) -> Result<Anatomy, Failure> {
        Ok(Anatomy::open(&self.cache, self.heap())?)
    }

    pub(crate) fn heap(&self) -> Option<&Path> {
        self.heap.as_deref()
    }

    /// The options by which it is found.
    pub(crate) fn options(&self) -> Options {
        let mut options = Options::new();
        if let Some(heap) = &self.heap {
            options.heap_path(heap);
        }
        options
    }
}
