//! The index at a cache's path on overlayfs, which replaces files below open ones.
//!
//! The first open for writing copies a file up to the upper layer. A file that was opened for reading
//! before keeps its mapping of the lower file, in which no change ever appears, and neither path nor
//! inode reveals that. So the count of changes is read from the path. May call `file_header` and
//! `os`.

use std::os::unix::fs::FileExt;

use crate::error::{Error, Result};
use crate::format::index::word;
use crate::os::file_names::{FileNames, Stage};
use crate::os::files;

use crate::engine::file_header::inode_of;

/// The index at the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexAtPath {
    /// Device and inode.
    pub inode: (u64, u64),
    /// The count of changes.
    pub changes: u64,
}

/// Reads the index at the path, whatever is mapped; `None` if the file is gone.
#[cold]
pub(crate) fn index_at_path(names: &FileNames) -> Result<Option<IndexAtPath>> {
    let path = names.index(Stage::Final);
    let file = match files::open(&path, false) {
        Ok(file) => file,
        Err(error) if error.is_absent() => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, word::CHANGES as u64 * 8)
        .map_err(Error::io(&path, "read the header"))?;
    Ok(Some(IndexAtPath {
        inode: inode_of(&file, &path)?,
        changes: u64::from_le_bytes(bytes),
    }))
}
