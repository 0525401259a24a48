//! The files of a cache, by their names and their first bytes.
//!
//! Knows which generation each says it belongs to, not whether that is the right one.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::error::{Corruption, Error, ErrorKind, Result};
use crate::format::index::IndexHeader;
use crate::format::roster::RosterHeader;
use crate::format::seal::{self, HeaderError, SealedHeader};
use crate::format::segment::SegmentHeader;
use crate::os::file_names::{FileNames, Stage};
use crate::os::files;

/// What a file is to its cache, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// The index: the file at the cache's path.
    Index,
    /// The roster.
    Roster,
    /// A segment of the heap, with its number.
    Segment(u16),
    /// The lock file, which guards creation only.
    Lock,
}

/// A file that stands where one of the cache's would.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Companion {
    /// Its path.
    pub path: PathBuf,
    /// What it is, by its name.
    pub role: Role,
    /// Whether it stands under a preliminary name, as a file that is being prepared does.
    pub staged: bool,
    /// Its length in bytes.
    pub len: u64,
    /// Bytes of the blocks that it takes on the disk: less than its length where it has holes.
    pub allocated: u64,
    /// What its header says it belongs to: the cache, and the id of the heap or roster. None where
    /// the header cannot be believed; a lock file has none.
    pub belongs_to: Option<([u8; 16], u64)>,
    /// Bytes up to which a segment may be filled, by its header.
    pub capacity: Option<u64>,
    /// Why its header cannot be believed, if that is so.
    pub fault: Option<Corruption>,
}

/// What the header of a file says.
struct Said {
    belongs_to: ([u8; 16], u64),
    capacity: Option<u64>,
}

/// All files that stand under the names of a cache, the index first.
pub(super) fn all(names: &FileNames) -> Result<Vec<Companion>> {
    let mut wanted = Vec::new();
    for stage in [Stage::Final, Stage::New] {
        wanted.push((names.index(stage), Role::Index, stage));
    }
    for stage in [Stage::Final, Stage::New] {
        wanted.push((names.roster(stage), Role::Roster, stage));
    }
    wanted.push((names.lock(), Role::Lock, Stage::Final));
    for (number, stage) in names.segments()? {
        wanted.push((names.segment(number, stage), Role::Segment(number), stage));
    }
    let mut found = Vec::new();
    for (path, role, stage) in wanted {
        found.extend(look(path, role, stage)?);
    }
    Ok(found)
}

/// A file, if it is there.
fn look(path: PathBuf, role: Role, stage: Stage) -> Result<Option<Companion>> {
    let meta = match path.symlink_metadata() {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(&path, "read the size of the file")(error)),
    };
    let said = match role {
        Role::Lock => None,
        Role::Index => Some(read(&path, index)),
        Role::Roster => Some(read(&path, roster)),
        Role::Segment(_) => Some(read(&path, segment)),
    };
    let (said, fault) = match said {
        None => (None, None),
        Some(Ok(said)) => (Some(said), None),
        Some(Err(fault)) => (None, Some(fault)),
    };
    Ok(Some(Companion {
        path,
        role,
        staged: stage == Stage::New,
        len: meta.len(),
        allocated: meta.blocks() * 512,
        capacity: said.as_ref().and_then(|said| said.capacity),
        belongs_to: said.map(|said| said.belongs_to),
        fault,
    }))
}

fn index(header: &IndexHeader) -> Said {
    Said {
        belongs_to: (header.cache_id, header.heap_id),
        capacity: None,
    }
}

fn roster(header: &RosterHeader) -> Said {
    Said {
        belongs_to: (header.cache_id, header.roster_id),
        capacity: None,
    }
}

fn segment(header: &SegmentHeader) -> Said {
    Said {
        belongs_to: (header.cache_id, header.heap_id),
        capacity: Some(header.capacity),
    }
}

fn read<T: SealedHeader>(
    path: &Path,
    said: fn(&T) -> Said,
) -> std::result::Result<Said, Corruption> {
    let file = files::open(path, false).map_err(|error| match error.kind() {
        ErrorKind::NotACacheFile { .. } => Corruption::NotARegularFile,
        _ => Corruption::UnreadableFile,
    })?;
    let mut bytes = vec![0; size_of::<T>()];
    let have = read_up_to(&file, &mut bytes).map_err(|_| Corruption::UnreadableFile)?;
    match seal::open::<T>(&bytes[..have]) {
        Ok(header) => Ok(said(&header)),
        Err(HeaderError::Short) => Err(Corruption::HeaderTruncated),
        Err(HeaderError::Magic) => Err(Corruption::HeaderMagic),
        Err(HeaderError::Version(_)) => Err(Corruption::HeaderVersion),
        Err(HeaderError::Flags(_)) => Err(Corruption::HeaderFlags),
        Err(HeaderError::Checksum) => Err(Corruption::HeaderChecksum),
    }
}

/// Reads from the start of a file until the buffer is full or the file ends; returns how much that
/// was.
pub(super) fn read_up_to(file: &File, bytes: &mut [u8]) -> io::Result<usize> {
    read_from(file, 0, bytes)
}

/// The same from an offset on.
pub(super) fn read_from(file: &File, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
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
