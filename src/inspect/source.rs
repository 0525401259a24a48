//! A file that is looked at by `pread` alone, and never beyond its end.
//!
//! Knows offsets and bytes, not what they mean.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::engine::Problem;
use crate::error::{Corruption, Error, Result};
use crate::os::files;
use crate::sync::Word;

/// A regular file, open for reading.
#[derive(Debug)]
pub(super) struct Source {
    file: File,
    path: PathBuf,
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self> {
        Ok(Self {
            file: files::open(path, false)?,
            path: path.to_owned(),
        })
    }

    /// The same; none where there is no such file, or something else than a regular one.
    pub(super) fn open_if_there(path: &Path) -> Result<Option<Self>> {
        match Self::open(path) {
            Ok(source) => Ok(Some(source)),
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

    /// Its length now: others may be growing it.
    pub(super) fn len(&self) -> Result<u64> {
        let meta = self.file.metadata();
        Ok(meta
            .map_err(Error::io(&self.path, "read the size of the file"))?
            .len())
    }

    /// Up to `len` bytes from `at` on: fewer where the file ends before. What is allocated is
    /// bounded by what the file has.
    pub(super) fn read(&self, at: u64, len: u64) -> Result<Vec<u8>> {
        let there = self.len()?.saturating_sub(at).min(len);
        let mut bytes = Vec::new();
        self.read_into(at, there, &mut bytes)?;
        Ok(bytes)
    }

    /// Up to `len` bytes from `at` on in place of what is in `bytes`. The caller bounds `len`.
    pub(super) fn read_into(&self, at: u64, len: u64, bytes: &mut Vec<u8>) -> Result<()> {
        bytes.resize(usize::try_from(len).unwrap_or(0), 0);
        let have = crate::inspect::companion::read_from(&self.file, at, bytes)
            .map_err(Error::io(&self.path, "read the file"))?;
        bytes.truncate(have);
        Ok(())
    }

    /// Something in this file that cannot be true.
    pub(super) fn fault(&self, at: u64, what: Corruption) -> Problem {
        Problem {
            path: self.path.clone(),
            at,
            what,
        }
    }
}

/// Bytes as the words that the engine's generations look at; what is left over at the end is dropped.
pub(super) fn words(bytes: &[u8]) -> impl Iterator<Item = Word> + '_ {
    let (whole, _) = bytes.as_chunks::<8>();
    whole
        .iter()
        .map(|eight| Word::new(u64::from_le_bytes(*eight)))
}
