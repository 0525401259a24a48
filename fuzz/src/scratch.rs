//! A directory for one input, in memory if the system has such a place, because disks do not matter
//! here.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Removed with its contents when dropped.
#[derive(Debug)]
pub struct Scratch(TempDir);

impl Scratch {
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let dir = tempfile::Builder::new()
            .prefix("mmapcache-fuzz-")
            .tempdir_in(parent)
            .expect("a directory for a cache");
        Self(dir)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Returns the path of a cache in it.
    pub fn cache(&self) -> PathBuf {
        self.path().join("cache")
    }

    /// Copies all files of `from`, as a naive backup does.
    pub fn copy_of(from: &Path) -> Self {
        let copy = Self::new();
        for entry in fs::read_dir(from).expect("the directory of the cache") {
            let path = entry.expect("an entry of the directory").path();
            let name = path.file_name().expect("a file's name");
            fs::copy(&path, copy.path().join(name)).expect("a copy of the file");
        }
        copy
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}
