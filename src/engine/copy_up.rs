//! What stands at a cache's path on overlayfs, where files are replaced below open ones.
//!
//! The first open for writing copies a file to the upper layer. What was opened for reading before
//! keeps its mapping of the lower file, in which no change ever appears, and neither path nor inode
//! tells. So the count of changes is read anew from the path. May call `dir` and `generation`.

use std::os::unix::fs::FileExt;

use crate::error::{Error, Result};
use crate::format::index::word;
use crate::os::files::{self, Names, Stage};

use crate::engine::generation::inode_of;

/// The index that stands at the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub inode: (u64, u64),
    /// Its count of changes.
    pub changes: u64,
}

/// Opens the index and looks at it, whatever is mapped; none where the file is gone.
#[cold]
pub(crate) fn look(names: &Names) -> Result<Option<Seen>> {
    let path = names.index(Stage::Final);
    let file = match files::open(&path, false) {
        Ok(file) => file,
        Err(error) if error.is_absent() => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, word::CHANGES as u64 * 8)
        .map_err(Error::io(&path, "read the header"))?;
    Ok(Some(Seen {
        inode: inode_of(&file, &path)?,
        changes: u64::from_le_bytes(bytes),
    }))
}
