//! The files of a cache as bytes in memory, from which copies are written quickly.
//!
//! Knows names and kinds of files, and the words that depend on where the files are written.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use super::layout::{self, header};

/// What has one of the names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    File(Vec<u8>),
    Directory,
    /// A symbolic link to another name in the directory, or to nothing.
    Symlink(PathBuf),
    Fifo,
}

/// All files of a cache by the suffix of their names: empty for the index, `.heap`, `.heap.1`,
/// `.roster` and so on. The lock file is not included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) nodes: BTreeMap<String, Node>,
}

/// The inode number of a file that is not yet written: [`Image::write_to`] replaces it by the real
/// one.
pub(crate) const INODE_TO_COME: u64 = u64::from_le_bytes(*b"<inode>!");

impl Image {
    /// Reads the files of the cache at `path`.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let name = path.file_name().expect("a cache has a name").to_owned();
        let name = name.to_str().expect("a name of our own").to_owned();
        let mut image = Self::default();
        for entry in fs::read_dir(path.parent().expect("a cache is in a directory"))? {
            let entry = entry?;
            let found = entry.file_name().to_string_lossy().into_owned();
            let Some(suffix) = found.strip_prefix(&name).filter(|rest| *rest != ".lock") else {
                continue;
            };
            let bytes = fs::read(entry.path())?;
            image.nodes.insert(suffix.to_owned(), Node::File(bytes));
        }
        Ok(image)
    }

    /// Writes the files as the cache at `path`, in a directory that holds no file of it yet.
    pub(crate) fn write_to(&self, path: &Path) -> io::Result<()> {
        for (suffix, node) in &self.nodes {
            let at = with_suffix(path, suffix);
            match node {
                Node::File(bytes) => write_file(&at, bytes)?,
                Node::Directory => fs::create_dir(&at)?,
                Node::Symlink(target) => symlink(target, &at)?,
                Node::Fifo => make_fifo(&at)?,
            }
        }
        Ok(())
    }

    /// Stores the differences from `before` into the files at `path`, which may be in use.
    pub(crate) fn store_over(&self, before: &Self, path: &Path) -> io::Result<()> {
        for (suffix, bytes) in self.files() {
            let (old, at) = (before.bytes(suffix), with_suffix(path, suffix));
            assert_eq!(old.len(), bytes.len(), "a file in use is never cut");
            let file = File::options().write(true).open(at)?;
            for range in differences(old, bytes) {
                file.write_all_at(&bytes[range.clone()], range.start as u64)?;
            }
        }
        Ok(())
    }

    /// Returns the bytes of a file; empty if there is none, or something that is no file.
    pub(crate) fn bytes(&self, suffix: &str) -> &[u8] {
        match self.nodes.get(suffix) {
            Some(Node::File(bytes)) => bytes,
            _ => &[],
        }
    }

    pub(crate) fn bytes_mut(&mut self, suffix: &str) -> Option<&mut Vec<u8>> {
        match self.nodes.get_mut(suffix) {
            Some(Node::File(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// Iterates over the regular files.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.nodes.iter().filter_map(|(suffix, node)| match node {
            Node::File(bytes) => Some((suffix.as_str(), bytes.as_slice())),
            _ => None,
        })
    }

    /// Returns the suffixes in order.
    pub(crate) fn suffixes(&self) -> Vec<&str> {
        self.nodes.keys().map(String::as_str).collect()
    }

    pub(crate) fn total(&self) -> usize {
        self.files().map(|(_, bytes)| bytes.len()).sum()
    }
}

/// Returns the number in a segment's suffix, or `None` if it is no segment's.
pub(crate) fn segment_number(suffix: &str) -> Option<u16> {
    match suffix.strip_prefix(".heap")? {
        "" => Some(0),
        rest => rest.strip_prefix('.')?.parse().ok(),
    }
}

pub(crate) fn segment_suffix(number: u16) -> String {
    match number {
        0 => ".heap".to_owned(),
        number => format!(".heap.{number}"),
    }
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Returns the ranges that differ between two files of one length.
pub(crate) fn differences(old: &[u8], new: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut found: Vec<std::ops::Range<usize>> = Vec::new();
    // Blocks are compared first, because most of two images is equal.
    for (block, (a, b)) in old.chunks(64).zip(new.chunks(64)).enumerate() {
        if a == b {
            continue;
        }
        for (offset, _) in a.iter().zip(b).enumerate().filter(|(_, (a, b))| a != b) {
            let at = block * 64 + offset;
            match found.last_mut() {
                Some(range) if range.end == at => range.end += 1,
                _ => found.push(at..at + 1),
            }
        }
    }
    found
}

fn write_file(at: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = File::create_new(at)?;
    file.write_all_at(bytes, 0)?;
    if bytes.len() > header::INODE + 8 && layout::u64_at(bytes, header::INODE) == INODE_TO_COME {
        let meta = file.metadata()?;
        file.write_all_at(&meta.ino().to_le_bytes(), header::INODE as u64)?;
        file.write_all_at(&meta.dev().to_le_bytes(), header::DEVICE as u64)?;
    }
    Ok(())
}

fn make_fifo(at: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, at, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
    Ok(())
}
