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
