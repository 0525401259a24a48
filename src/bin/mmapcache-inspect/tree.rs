//! The regular files of a directory tree, in the order of their names.
//!
//! Needs memory for one directory's names per level. Never follows a symbolic link below the root.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::cache_file_names::CacheFileNames;
use crate::failure::Failure;

/// A regular file of a tree.
#[derive(Debug)]
pub(crate) struct TreeFile {
    /// The path from the root, as a key.
    pub(crate) key: Vec<u8>,
    pub(crate) path: PathBuf,
    pub(crate) len: u64,
}

/// What a walk found.
#[derive(Debug)]
pub(crate) enum TreeItem {
    File(TreeFile),
    /// Not a regular file, a file of the cache, or a file longer than the limit.
    Skipped,
}

/// Which files of a tree are wanted.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    /// Directories below the root, in the order of the walk; empty for the root itself.
    pub(crate) parts: Vec<PathBuf>,
    /// Files longer than this are skipped.
    pub(crate) file_limit: u64,
    /// The walk stops before the file that would exceed this many bytes in total.
    pub(crate) total_limit: u64,
}

impl Selection {
    /// Returns a selection of all files.
    pub(crate) fn all() -> Self {
        Self {
            parts: Vec::new(),
            file_limit: u64::MAX,
            total_limit: u64::MAX,
        }
    }
}

/// A walk through a tree.
#[derive(Debug)]
pub(crate) struct Tree {
    root: PathBuf,
    cache: CacheFileNames,
    file_limit: u64,
    left: u64,
    /// For each level the directory and the remaining names, the next one last.
    levels: Vec<(PathBuf, Vec<OsString>)>,
    /// Whether the walk stopped at the limit.
    pub(crate) cut: bool,
}

impl Tree {
    pub(crate) fn new(
        root: &Path,
        selection: &Selection,
        cache: CacheFileNames,
    ) -> Result<Self, Failure> {
        let root = fs::canonicalize(root).map_err(Failure::file(root, "find the directory"))?;
        let mut parts: Vec<_> = selection
            .parts
            .iter()
            .map(|part| part.clone().into_os_string())
            .collect();
        if parts.is_empty() {
            parts = sorted_names(&root)?;
        } else {
            parts.reverse();
        }
        Ok(Self {
            levels: vec![(PathBuf::new(), parts)],
            file_limit: selection.file_limit,
            left: selection.total_limit,
            cut: false,
            root,
            cache,
        })
    }

    /// Examines a name. Returns `None` for a directory, which the walk then enters, and at the limit.
    fn examine(&mut self, below: &Path, name: OsString) -> Result<Option<TreeItem>, Failure> {
        let dir = self.root.join(below);
        let path = dir.join(&name);
        let meta =
            fs::symlink_metadata(&path).map_err(Failure::file(&path, "read its metadata"))?;
        let key = below.join(&name);
        if meta.is_dir() {
            let names = sorted_names(&path)?;
            self.levels.push((key, names));
            return Ok(None);
        }
        if !meta.is_file() || meta.len() > self.file_limit || self.cache.contains(&dir, &name) {
            return Ok(Some(TreeItem::Skipped));
        }
        if meta.len() > self.left {
            self.cut = true;
            self.levels.clear();
            return Ok(None);
        }
        self.left -= meta.len();
        Ok(Some(TreeItem::File(TreeFile {
            key: key.into_os_string().into_vec(),
            len: meta.len(),
            path,
        })))
    }
}

impl Iterator for Tree {
    type Item = Result<TreeItem, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (below, names) = self.levels.last_mut()?;
            let Some(name) = names.pop() else {
                self.levels.pop();
                continue;
            };
            let below = below.clone();
            match self.examine(&below, name) {
                Ok(None) => {}
                Ok(Some(item)) => return Some(Ok(item)),
                Err(failure) => return Some(Err(failure)),
            }
        }
    }
}

/// Returns the names in a directory in reverse order.
fn sorted_names(dir: &Path) -> Result<Vec<OsString>, Failure> {
    let names = fs::read_dir(dir).and_then(|entries| {
        entries
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<Vec<_>>>()
    });
    let mut names = names.map_err(Failure::file(dir, "list the directory"))?;
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

/// Reads a regular file of at most `limit` bytes. Returns `None` if it is longer now.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Failure> {
    let file = open(path)?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(Failure::file(path, "read the file"))?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

/// Opens a regular file. Fails, and does not wait, if the file was replaced by a link, a pipe or a
/// device after the walk found it.
fn open(path: &Path) -> Result<File, Failure> {
    let refuse = Failure::file(path, "open the file");
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    match file.and_then(|file| Ok((file.metadata()?.is_file(), file))) {
        Ok((true, file)) => Ok(file),
        Ok((false, _)) => Err(refuse(io::Error::other("it is not a regular file"))),
        Err(error) => Err(refuse(error)),
    }
}

/// Returns the path below a root for a key: the inverse of [`TreeFile::key`].
pub(crate) fn path_of(root: &Path, key: &[u8]) -> PathBuf {
    root.join(std::ffi::OsStr::from_bytes(key))
}
