//! The names of a cache's files, so that an import of the directory that contains the cache skips
//! them.
//!
//! Compares names only: files of the cache are created and removed during the import.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::location::Location;

/// Directories and names of the files of one cache.
#[derive(Clone, Debug)]
pub(crate) struct CacheFileNames {
    index: (PathBuf, OsString),
    heap: (PathBuf, OsString),
}

impl CacheFileNames {
    /// Returns the names for the index at `index`, a path with every symbolic link resolved.
    pub(crate) fn new(index: &Path, location: &Location) -> Self {
        let name = |path: &Path| {
            let dir = path.parent().unwrap_or(Path::new("/")).to_owned();
            (dir, path.file_name().unwrap_or_default().to_owned())
        };
        let heap = match &location.heap {
            Some(heap) => std::fs::canonicalize(heap).unwrap_or_else(|_| heap.clone()),
            None => {
                let mut heap = index.as_os_str().to_owned();
                heap.push(".heap");
                heap.into()
            }
        };
        Self {
            index: name(index),
            heap: name(&heap),
        }
    }

    /// Returns the directory of the segments, and the name of the first.
    pub(crate) fn heap(&self) -> (&Path, &OsStr) {
        (&self.heap.0, &self.heap.1)
    }

    /// Returns whether a name is that of a segment.
    pub(crate) fn is_segment(&self, name: &OsStr) -> bool {
        let rest = name.as_bytes().strip_prefix(self.heap.1.as_bytes());
        match rest {
            Some([b'.', digits @ ..]) => {
                !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
            }
            Some(rest) => rest.is_empty(),
            None => false,
        }
    }

    /// Returns whether a file belongs to the cache. The path of `dir` has no symbolic link.
    pub(crate) fn contains(&self, dir: &Path, name: &OsStr) -> bool {
        let suffix = |(cache_dir, prefix): &(PathBuf, OsString)| {
            (cache_dir == dir)
                .then(|| name.as_bytes().strip_prefix(prefix.as_bytes()))
                .flatten()
                .map(|rest| rest.strip_suffix(b".new").unwrap_or(rest))
        };
        matches!(suffix(&self.index), Some(b"" | b".roster" | b".lock"))
            || matches!(suffix(&self.heap), Some([] | [b'.', b'1'..=b'9', ..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_files_differ_from_similar_names() {
        let location = Location {
            cache: "/d/c".into(),
            heap: None,
        };
        let names = CacheFileNames::new(Path::new("/d/c"), &location);
        let contains = |dir: &str, name: &str| names.contains(Path::new(dir), OsStr::new(name));
        for name in [
            "c",
            "c.new",
            "c.roster",
            "c.lock",
            "c.heap",
            "c.heap.12",
            "c.heap.3.new",
        ] {
            assert!(contains("/d", name), "{name}");
            assert!(!contains("/e", name), "{name}");
        }
        for name in ["c.txt", "cc", "d", "c.heapx", "c.roster.old", "c.heap.x"] {
            assert!(!contains("/d", name), "{name}");
        }
    }
}
