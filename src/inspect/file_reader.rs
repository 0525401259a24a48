//! Reads a file by `pread`, never beyond its end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::engine::Problem;
use crate::error::{Corruption, Error, Result};
use crate::os::files;
use crate::sync::Word;

/// A regular file, open for reading.
#[derive(Debug)]
pub(super) struct FileReader {
    file: File,
    path: PathBuf,
}

impl FileReader {
    pub(super) fn open(path: &Path) -> Result<Self> {
        Ok(Self {
            file: files::open(path, false)?,
            path: path.to_owned(),
        })
    }

    /// Opens a file. Returns `None` if it does not exist or is not a regular file.
    pub(super) fn open_if_present(path: &Path) -> Result<Option<Self>> {
        match Self::open(path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.is_absent() || error.is_corruption() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn into_file(self) -> File {
        self.file
    }

    /// Returns the current length. A writer may grow the file.
    pub(super) fn len(&self) -> Result<u64> {
        let meta = self.file.metadata();
        Ok(meta
            .map_err(Error::io(&self.path, "read the size of the file"))?
            .len())
    }

    /// Reads up to `len` bytes from `at` on, fewer if the file ends before. Allocates no more than the
    /// file has.
    pub(super) fn read(&self, at: u64, len: u64) -> Result<Vec<u8>> {
        let present = self.len()?.saturating_sub(at).min(len);
        let mut bytes = Vec::new();
        self.read_into(at, present, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads up to `len` bytes from `at` on and replaces the contents of `bytes`. The caller bounds
    /// `len`.
    pub(super) fn read_into(&self, at: u64, len: u64, bytes: &mut Vec<u8>) -> Result<()> {
        bytes.resize(usize::try_from(len).unwrap_or(0), 0);
        let have =
            read_at(&self.file, at, bytes).map_err(Error::io(&self.path, "read the file"))?;
        debug_assert!(have <= bytes.len(), "no more than the buffer");
        bytes.truncate(have);
        Ok(())
    }

    /// Reads a word of the index header; `None` if the file ends before its end.
    pub(super) fn word(&self, word: usize) -> Result<Option<u64>> {
        let bytes = self.read(word as u64 * 8, 8)?;
        Ok(bytes.try_into().ok().map(u64::from_le_bytes))
    }

    /// Returns a problem in this file.
    pub(super) fn problem(&self, at: u64, what: Corruption) -> Problem {
        Problem {
            path: self.path.clone(),
            at,
            what,
        }
    }
}

/// Reads from an offset until the buffer is full or the file ends. Returns the number of bytes.
pub(super) fn read_at(file: &File, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while have < bytes.len() {
        match file.read_at(&mut bytes[have..], at.saturating_add(have as u64)) {
            Ok(0) => break,
            Ok(count) => have += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

/// Converts bytes to the words that the index code reads. Drops an incomplete word at the end.
pub(super) fn words(bytes: &[u8]) -> impl Iterator<Item = Word> + '_ {
    let (whole, _) = bytes.as_chunks::<8>();
    whole
        .iter()
        .map(|eight| Word::new(u64::from_le_bytes(*eight)))
}
