//! The regular files of a directory tree, in the order of their names.
//!
//! Knows how to walk and to read; holds one directory's names for each level. Never follows a
//! symbolic link below the root.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::own::Own;

/// A regular file of a tree.
#[derive(Debug)]
pub(crate) struct Found {
    /// Its path from the root, as a key.
    pub(crate) key: Vec<u8>,
    pub(crate) path: PathBuf,
    pub(crate) len: u64,
}

/// What a walk came by.
#[derive(Debug)]
pub(crate) enum Step {
    File(Found),
    /// Something that is no regular file, is the cache's own, or is beyond the limit.
    Passed,
}

/// Which files of a tree are wanted.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    /// Directories below the root to walk through, in this order; empty for the root itself.
    pub(crate) parts: Vec<PathBuf>,
    /// Files longer than this are passed over.
    pub(crate) file_limit: u64,
    /// The walk ends before the file that would take it beyond so many bytes.
    pub(crate) total_limit: u64,
}

impl Selection {
    /// Everything.
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
    own: Own,
    file_limit: u64,
    left: u64,
    /// For each level the directory and the names still to come, the next one last.
    levels: Vec<(PathBuf, Vec<OsString>)>,
    /// Whether the walk ended at the limit.
    pub(crate) cut: bool,
}

impl Tree {
    pub(crate) fn new(root: &Path, selection: &Selection, own: Own) -> Result<Self, Failure> {
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
            own,
        })
    }

    fn look(&mut self, below: &Path, name: OsString) -> Result<Option<Step>, Failure> {
        let dir = self.root.join(below);
        let path = dir.join(&name);
        let meta = fs::symlink_metadata(&path).map_err(Failure::file(&path, "look at the file"))?;
        let key = below.join(&name);
        if meta.is_dir() {
            let names = sorted_names(&path)?;
            self.levels.push((key, names));
            return Ok(None);
        }
        if !meta.is_file() || meta.len() > self.file_limit || self.own.has(&dir, &name) {
            return Ok(Some(Step::Passed));
        }
        if meta.len() > self.left {
            self.cut = true;
            self.levels.clear();
            return Ok(None);
        }
        self.left -= meta.len();
        Ok(Some(Step::File(Found {
            key: key.into_os_string().into_vec(),
            len: meta.len(),
            path,
        })))
    }
}

impl Iterator for Tree {
    type Item = Result<Step, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (below, names) = self.levels.last_mut()?;
            let Some(name) = names.pop() else {
                self.levels.pop();
                continue;
            };
            let below = below.clone();
            match self.look(&below, name) {
                Ok(None) => {}
                Ok(Some(step)) => return Some(Ok(step)),
                Err(failure) => return Some(Err(failure)),
            }
        }
    }
}

/// The names in a directory, the first one last.
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

/// Reads a regular file of at most `limit` bytes; none where it has become longer.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Failure> {
    let file = open(path)?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(Failure::file(path, "read the file"))?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

/// Opens a regular file. What has become a link, a pipe or a device since it was looked at is
/// refused, not waited for.
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

/// The path below a root that a key names: that of [`Found::key`], turned back.
pub(crate) fn path_of(root: &Path, key: &[u8]) -> PathBuf {
    root.join(std::ffi::OsStr::from_bytes(key))
}
