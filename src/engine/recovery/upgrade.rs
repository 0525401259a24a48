//! Upgrade: a new index replaces one of format 1.
//!
//! Heap and roster are the same in both formats, so only the index is rebuilt, from the heap. May call
//! `recovery::repair` and everything below it.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::format::VERSION;
use crate::format::index::IndexHeader;
use crate::os::file_names::{FileNames, Stage};

use crate::engine::file_header::read_version;
use crate::engine::handle::refuse_network;
use crate::engine::options::Options;
use crate::engine::progress::Progress;
use crate::engine::recovery::repair::{Repair, RepairReport};

/// The older format that can be upgraded.
const OLDER: u32 = 1;

/// Upgrades a cache of an older format, of any type: [`MmapCache`](crate::MmapCache),
/// [`Cache`](crate::Cache) or [`Labels`](crate::Labels).
///
/// Reads the heap once, and makes a new index and a new roster from it; the heap stays as it is, with
/// all values, versions and ids. One rename makes the new index current, so an upgrade that fails or is
/// killed leaves the old one in use. It waits for a writer of the older release. Processes that have the
/// cache open by that release get [`ErrorKind::UnsupportedVersion`](crate::ErrorKind::UnsupportedVersion)
/// from their next call.
///
/// Entries that a `Cache` has evicted, and not removed by a caller, may be there again, as after a
/// repair.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("c");
/// # mmapcache::MmapCache::open(&path)?;
/// let report = mmapcache::Upgrade::new(&path).run()?;
/// assert!(report.is_none(), "this release made it");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Upgrade<'a> {
    path: PathBuf,
    options: Options,
    progress: Box<dyn FnMut(Progress) + 'a>,
}

impl<'a> Upgrade<'a> {
    /// Prepares the upgrade of the cache at `path`, with default options.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            options: Options::new(),
            progress: Box::new(|_| {}),
        }
    }

    /// Sets the options by which the cache is opened: `heap_path`, `lock_timeout`, `allow_network_fs` and
    /// `capacity`. All others are ignored.
    #[must_use]
    pub fn options(mut self, options: &Options) -> Self {
        self.options = options.clone();
        self
    }

    /// Sets a function to call after each MiB of the heap, and at each segment's end.
    #[must_use]
    pub fn on_progress(mut self, progress: impl FnMut(Progress) + 'a) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// Upgrades the cache, or returns `None` if it has the format of this release. Takes the time of
    /// reading the heap; needs memory for the longest key only.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no index, or a damaged one:
    ///   [`Repair`] makes one, too.
    /// - [`ErrorKind::UnsupportedVersion`](crate::ErrorKind::UnsupportedVersion) for an index of a newer
    ///   release.
    /// - [`ErrorKind::Locked`](crate::ErrorKind::Locked) if a writer holds the lock for longer than the
    ///   timeout.
    /// - [`ErrorKind::HeapMissing`](crate::ErrorKind::HeapMissing) if a segment of the heap is not at its
    ///   path.
    /// - The other errors of [`Repair::run`].
    pub fn run(self) -> Result<Option<RepairReport>> {
        let names = FileNames::resolve(&self.path, self.options.heap_path.as_deref())?;
        refuse_network(&names, &self.options)?;
        let index = names.index(Stage::Final);
        if read_version::<IndexHeader>(&index, OLDER)
            .ok()
            .flatten()
            .is_none()
        {
            return match read_version::<IndexHeader>(&index, VERSION)? {
                Some(_) => Ok(None),
                None => Err(ErrorKind::NotFound.at(&index)),
            };
        }
        let mut repair = Repair::of_version(&self.path, OLDER)
            .options(&self.options)
            .on_progress(self.progress);
        match repair.rebuild(&names) {
            // Another process has upgraded it.
            Err(error) if is_current(&error) => Ok(None),
            rebuilt => rebuilt.map(Some),
        }
    }
}

/// Returns whether an index was refused because it has the format of this release.
fn is_current(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnsupportedVersion { found: VERSION, .. }
    )
}

impl fmt::Debug for Upgrade<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade")
            .field("path", &self.path)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
