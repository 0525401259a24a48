//! Where a cache is, and the two ways to open it.
//!
//! Knows no command. Commands that only look open it so that nothing is locked, mended or created.

use std::path::{Path, PathBuf};

use mmapcache::inspect::{Anatomy, Companion, Overview, Role};
use mmapcache::{Error, ErrorKind, MmapCache, Options};

use crate::failure::Failure;
use crate::own::Own;

/// The paths of a cache, as the command line names them.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) cache: PathBuf,
    pub(crate) heap: Option<PathBuf>,
}

impl Site {
    /// Opens the cache to look at it.
    pub(crate) fn look(&self) -> Result<MmapCache, Failure> {
        let opened = self.options().read_only(true).open(&self.cache);
        opened.map_err(|error| self.explain(error))
    }

    /// Opens the cache to write to it; creates it where there is none.
    pub(crate) fn change(&self) -> Result<MmapCache, Failure> {
        let opened = self.options().open(&self.cache);
        opened.map_err(|error| self.explain(error))
    }

    /// Creates the cache where there must be none.
    pub(crate) fn create_new(&self) -> Result<MmapCache, Failure> {
        Ok(self.options().create_new(true).open(&self.cache)?)
    }

    /// Reads the headers, without opening the cache.
    pub(crate) fn overview(&self) -> Result<Overview, Failure> {
        Overview::read(&self.cache, self.heap()).map_err(|error| self.explain(error))
    }

    /// Opens the files to look at what is in them, without opening the cache.
    ///
    /// Files of another release are refused: their fields may mean something else. So is a file
    /// that is no index, unless files beside it belong to a cache: then its header may be damaged.
    pub(crate) fn anatomy(&self) -> Result<Anatomy, Failure> {
        let opened = Anatomy::open(&self.cache, self.heap());
        let anatomy = opened.map_err(|error| self.explain(error))?;
        let odd = |file: &Companion| file.fault.is_some();
        if anatomy.overview().files.iter().any(odd)
            && let Err(failure) = self.look()
            && (failure.is_other_release() || matches!(failure, Failure::NoCache { .. }))
        {
            return Err(failure);
        }
        Ok(anatomy)
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

    /// An error of the engine, with what this program can say beyond it: what to do about a path
    /// that somebody typed.
    pub(crate) fn explain(&self, error: Error) -> Failure {
        let Some(at) = error.path() else {
            return error.into();
        };
        let index = match error.kind() {
            ErrorKind::NotFound => at,
            // The engine found a file of the cache next to the missing index.
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
        match self.lone_segment(index) {
            Some(segment) => Failure::LostIndex {
                path: index.to_owned(),
                segment,
            },
            None => error.into(),
        }
    }

    /// Whether a path is that of the cache itself, or of the first segment of its heap.
    fn is_cache(&self, path: &Path) -> bool {
        let real = std::fs::canonicalize(&self.cache).unwrap_or_else(|_| self.cache.clone());
        let own = Own::new(&real, self);
        let (dir, name) = own.heap();
        path == self.cache || path == real || path == dir.join(name)
    }

    /// A segment of the heap of an index that is not there.
    fn lone_segment(&self, index: &Path) -> Option<PathBuf> {
        let own = Own::new(index, self);
        let (dir, _) = own.heap();
        let names = std::fs::read_dir(dir).ok()?.flatten();
        let found = names.filter(|entry| own.is_segment(&entry.file_name()));
        found.map(|entry| entry.path()).min()
    }

    /// Refuses a file that is no index, not even a damaged one, before anything is written to it.
    pub(crate) fn refuse_foreign(&self) -> Result<(), Failure> {
        if self.cache.exists() && !self.may_be_index() {
            let path = self.cache.clone();
            return Err(Failure::NoCache { path });
        }
        Ok(())
    }

    /// Whether a file that the engine refuses can be a damaged index: by its magic or checksum, or
    /// because a roster or a segment of the heap is beside it.
    fn may_be_index(&self) -> bool {
        let Ok(anatomy) = Anatomy::open(&self.cache, self.heap()) else {
            return false;
        };
        let overview = anatomy.overview();
        let sealed = overview.sealed.as_ref();
        let belongs = |file: &Companion| {
            matches!(file.role, Role::Roster | Role::Segment(_)) && file.belongs_to.is_some()
        };
        sealed.is_some_and(|sealed| sealed.checksum_ok == Some(true))
            || anatomy
                .index_bytes(0, 8)
                .is_ok_and(|start| start == b"MMCINDEX")
            || overview.files.iter().any(belongs)
    }
}
