//! A directory for the cache of a test.
//!
//! Knows the path of the cache, and creates nothing there.

use std::path::PathBuf;

#[derive(Debug)]
pub(crate) struct Scratch {
    _dir: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("cache");
        Self { _dir: dir, path }
    }
}

/// Returns a directory in memory, if the system has one, because disks do not matter to the test.
pub(crate) fn in_memory() -> tempfile::TempDir {
    let memory = tempfile::tempdir_in("/dev/shm");
    memory
        .or_else(|_| tempfile::tempdir())
        .expect("a directory")
}
