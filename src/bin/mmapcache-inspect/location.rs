//! The paths of a cache, and the ways to open it.
//!
//! Commands that only read open it in a way that locks, repairs and creates nothing.

use std::path::{Path, PathBuf};

use mmapcache::inspect::{CacheFile, CacheFiles};
use mmapcache::{Cache, Error, ErrorKind, MmapCache, Options};

use crate::cache_file_names::CacheFileNames;
use crate::failure::Failure;

/// The paths of a cache, as given on the command line.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    pub(crate) cache: PathBuf,
    pub(crate) heap: Option<PathBuf>,
}

impl Location {
    /// Opens the cache for reading.
    pub(crate) fn open_read_only(&self) -> Result<MmapCache, Failure> {
        let opened = self.options().read_only(true).open(&self.cache);
        opened.map_err(|error| self.explain(error))
    }

    /// As [`open_read_only`](Self::open_read_only), files of a `Cache` only.
    pub(crate) fn open_cache_read_only(&self) -> Result<Cache, Failure> {
        let opened = Cache::open_with(&self.cache, self.options().read_only(true));
        opened.map_err(|error| self.explain(error))
    }

    /// Opens the cache so that it can be copied: a cache whose records are overwritten in place is locked
    /// for a moment.
    pub(crate) fn open_to_copy(&self) -> Result<MmapCache, Failure> {
        let cache = self.open_read_only()?;
        if !cache.stats()?.in_place {
            return Ok(cache);
        }
        let opened = self.options().create(false).open(&self.cache);
        opened.map_err(|error| self.explain(error))
    }

    /// Opens the cache for writing. Creates it if it does not exist.
    pub(crate) fn open_or_create(&self) -> Result<MmapCache, Failure> {
        let opened = self.options().open(&self.cache);
        opened.map_err(|error| self.explain(error))
    }

    /// As [`open_or_create`](Self::open_or_create), a `Cache`.
    pub(crate) fn open_or_create_cache(&self) -> Result<Cache, Failure> {
        let opened = Cache::open_with(&self.cache, &self.options());
        opened.map_err(|error| self.explain(error))
    }

    /// Creates the cache. Fails if it exists.
    pub(crate) fn create_new(&self) -> Result<MmapCache, Failure> {
        Ok(self.options().create_new(true).open(&self.cache)?)
    }

    /// Reads the headers, without opening the cache.
    pub(crate) fn read_headers(&self) -> Result<CacheFiles, Failure> {
        CacheFiles::open(&self.cache, self.heap()).map_err(|error| self.explain(error))
    }

    /// Opens the files to read their contents, without opening the cache.
    ///
    /// Fails for files of another release, because their fields may have another meaning. Also fails
    /// for a file that is not an index, unless files beside it belong to a cache: then it may be an
    /// index with a damaged header.
    pub(crate) fn open_files(&self) -> Result<CacheFiles, Failure> {
        let opened = CacheFiles::open(&self.cache, self.heap());
        let cache_files = opened.map_err(|error| self.explain(error))?;
        let odd = |file: &CacheFile| file.problem.is_some();
        if cache_files.files().iter().any(odd)
            && let Err(failure) = self.open_read_only()
            && (failure.is_other_release() || matches!(failure, Failure::NoCache { .. }))
        {
            return Err(failure);
        }
        Ok(cache_files)
    }

    pub(crate) fn heap(&self) -> Option<&Path> {
        self.heap.as_deref()
    }

    /// Returns options with the paths of this cache.
    pub(crate) fn options(&self) -> Options {
        let mut options = Options::new();
        // Also a `Cache`: this program shows what is in the files.
        options.raw(true);
        if let Some(heap) = &self.heap {
            options.heap_path(heap);
        }
        options
    }

    /// Converts an error of the library. Adds what the user can do about a wrong path.
    pub(crate) fn explain(&self, error: Error) -> Failure {
        let Some(at) = error.path() else {
            return error.into();
        };
        let index = match error.kind() {
            ErrorKind::NotFound => at,
            // The index is missing, but another file of the cache exists.
            ErrorKind::Corrupted { .. } if !self.cache.exists() => &self.cache,
            ErrorKind::NotACacheFile { .. } | ErrorKind::Corrupted { .. }
                if self.is_cache(at) && !self.may_be_index() =>
            {
                return Failure::NoCache {
                    path: at.to_owned(),
                };
            }
            _ => return error.into(),
        };
        match self.orphan_segment(index) {
            Some(segment) => Failure::LostIndex {
                path: index.to_owned(),
                segment,
            },
            None => error.into(),
        }
    }

    /// Returns whether a path is that of the index or of the first segment.
    fn is_cache(&self, path: &Path) -> bool {
        let real = std::fs::canonicalize(&self.cache).unwrap_or_else(|_| self.cache.clone());
        let names = CacheFileNames::new(&real, self);
        let (dir, name) = names.heap();
        path == self.cache || path == real || path == dir.join(name)
    }

    /// Returns a segment that exists although the index does not.
    fn orphan_segment(&self, index: &Path) -> Option<PathBuf> {
        let names = CacheFileNames::new(index, self);
        let (dir, _) = names.heap();
        let entries = std::fs::read_dir(dir).ok()?.flatten();
        let found = entries.filter(|entry| names.is_segment(&entry.file_name()));
        found.map(|entry| entry.path()).min()
    }

    /// Fails for a file that is not an index, not even a damaged one. Call it before writing.
    pub(crate) fn refuse_foreign(&self) -> Result<(), Failure> {
        if self.cache.exists() && !self.may_be_index() {
            let path = self.cache.clone();
            return Err(Failure::NoCache { path });
        }
        Ok(())
    }

    /// Returns whether a file that the library refuses may be a damaged index: because of its magic or
    /// checksum, or because a roster or a segment is beside it.
    fn may_be_index(&self) -> bool {
        let Ok(cache_files) = CacheFiles::open(&self.cache, self.heap()) else {
            return false;
        };
        let cache_files = cache_files;
        let header = cache_files.header();
        let belongs =
            |file: &CacheFile| matches!(file.kind(), "roster" | "segment") && file.ids.is_some();
        header.is_some_and(|header| header.checksum_ok == Some(true))
            || cache_files
                .index_bytes(0, 8)
                .is_ok_and(|start| start == b"MMCINDEX")
            || cache_files.files().iter().any(belongs)
    }
}
