//! The names of a cache's own files, so that a tree which holds the cache is not read into it.
//!
//! Knows names only: files of the cache come and go while it is filled.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::site::Site;

/// The directories and names of one cache's files.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    index: (PathBuf, OsString),
    heap: (PathBuf, OsString),
}

impl Own {
    /// The names of the cache whose index stands at `index`, every symbolic link followed.
    pub(crate) fn new(index: &Path, site: &Site) -> Self {
        let name = |path: &Path| {
            let dir = path.parent().unwrap_or(Path::new("/")).to_owned();
            (dir, path.file_name().unwrap_or_default().to_owned())
        };
        let heap = match &site.heap {
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

    /// Where the heap's segments are: their directory, and the name of the first.
    pub(crate) fn heap(&self) -> (&Path, &OsStr) {
        (&self.heap.0, &self.heap.1)
    }

    /// Whether a name is that of a segment.
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

    /// Whether a file in a directory, no symbolic link in its path, is one of them.
    pub(crate) fn has(&self, dir: &Path, name: &OsStr) -> bool {
        let rest = |(own_dir, own): &(PathBuf, OsString)| {
            (own_dir == dir)
                .then(|| name.as_bytes().strip_prefix(own.as_bytes()))
                .flatten()
                .map(|rest| rest.strip_suffix(b".new").unwrap_or(rest))
        };
        matches!(rest(&self.index), Some(b"" | b".roster" | b".lock"))
            || matches!(rest(&self.heap), Some([] | [b'.', b'1'..=b'9', ..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A cache's own files are distinguished from files with similar names.
    #[test]
    fn cache_files_differ_from_neighbours() {
        let site = Site {
            cache: "/d/c".into(),
            heap: None,
        };
        let own = Own::new(Path::new("/d/c"), &site);
        let has = |dir: &str, name: &str| own.has(Path::new(dir), OsStr::new(name));
        for name in [
            "c",
            "c.new",
            "c.roster",
            "c.lock",
            "c.heap",
            "c.heap.12",
            "c.heap.3.new",
        ] {
            assert!(has("/d", name), "{name}");
            assert!(!has("/e", name), "{name}");
        }
        for name in ["c.txt", "cc", "d", "c.heapx", "c.roster.old", "c.heap.x"] {
            assert!(!has("/d", name), "{name}");
        }
    }
}
