//! The files of a cache: their names, sizes, and the ids in their headers.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Corruption, Error, ErrorKind, Result};
use crate::format::index::IndexHeader as DiskHeader;
use crate::format::roster::RosterHeader;
use crate::format::seal::{self, HeaderError, SealedHeader};
use crate::format::segment::SegmentHeader;
use crate::os::file_names::{FileNames, Stage};
use crate::os::files;

use crate::inspect::file_reader;

/// The kind of a file, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileRole {
    Index,
    Roster,
    /// A segment of the heap, with its number.
    Segment(u16),
    /// The lock file, which guards creation only.
    Lock,
}

/// A file that has a name of the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheFile {
    /// The path.
    pub path: PathBuf,
    pub(super) role: FileRole,
    /// Whether the file has a temporary name, as one that is being prepared.
    pub staged: bool,
    /// The length in bytes.
    pub len: u64,
    /// Bytes of disk blocks: fewer than the length if the file has holes.
    pub allocated: u64,
    /// The ids in the header: of the cache, and of the heap or roster. `None` if the header is
    /// invalid, and for the lock file.
    pub ids: Option<([u8; 16], u64)>,
    /// The capacity of a segment in bytes, by its header.
    pub capacity: Option<u64>,
    /// The problem that makes the header invalid.
    pub problem: Option<Corruption>,
}

impl CacheFile {
    /// Returns the kind of the file, by its name: "index", "roster", "segment" or "lock".
    pub fn kind(&self) -> &'static str {
        match self.role {
            FileRole::Index => "index",
            FileRole::Roster => "roster",
            FileRole::Segment(_) => "segment",
            FileRole::Lock => "lock",
        }
    }

    /// Returns the number of a segment, by its name; `None` for the other files.
    pub fn segment(&self) -> Option<u16> {
        match self.role {
            FileRole::Segment(number) => Some(number),
            _ => None,
        }
    }
}

/// The contents of a valid header.
struct HeaderIds {
    ids: ([u8; 16], u64),
    capacity: Option<u64>,
}

/// Lists all files that have a name of the cache, the index first.
pub(super) fn list(names: &FileNames) -> Result<Vec<CacheFile>> {
    let mut wanted = Vec::new();
    for stage in [Stage::Final, Stage::New] {
        wanted.push((names.index(stage), FileRole::Index, stage));
    }
    for stage in [Stage::Final, Stage::New] {
        wanted.push((names.roster(stage), FileRole::Roster, stage));
    }
    wanted.push((names.lock(), FileRole::Lock, Stage::Final));
    for (number, stage) in names.segments()? {
        let path = names.segment(number, stage);
        wanted.push((path, FileRole::Segment(number), stage));
    }
    let mut found = Vec::new();
    for (path, role, stage) in wanted {
        found.extend(read_file(path, role, stage)?);
    }
    Ok(found)
}

/// Reads size and header of a file. Returns `None` if it does not exist.
fn read_file(path: PathBuf, role: FileRole, stage: Stage) -> Result<Option<CacheFile>> {
    let meta = match path.symlink_metadata() {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(&path, "read the size of the file")(error)),
    };
    let header = match role {
        FileRole::Lock => None,
        FileRole::Index => Some(read_ids(&path, index_ids)),
        FileRole::Roster => Some(read_ids(&path, roster_ids)),
        FileRole::Segment(_) => Some(read_ids(&path, segment_ids)),
    };
    let (header, problem) = match header {
        None => (None, None),
        Some(Ok(header)) => (Some(header), None),
        Some(Err(problem)) => (None, Some(problem)),
    };
    Ok(Some(CacheFile {
        path,
        role,
        staged: stage == Stage::New,
        len: meta.len(),
        allocated: meta.blocks() * 512,
        capacity: header.as_ref().and_then(|header| header.capacity),
        ids: header.map(|header| header.ids),
        problem,
    }))
}

fn index_ids(header: &DiskHeader) -> HeaderIds {
    HeaderIds {
        ids: (header.cache_id, header.heap_id),
        capacity: None,
    }
}

fn roster_ids(header: &RosterHeader) -> HeaderIds {
    HeaderIds {
        ids: (header.cache_id, header.roster_id),
        capacity: None,
    }
}

fn segment_ids(header: &SegmentHeader) -> HeaderIds {
    HeaderIds {
        ids: (header.cache_id, header.heap_id),
        capacity: Some(header.capacity),
    }
}

fn read_ids<T: SealedHeader>(
    path: &Path,
    ids: fn(&T) -> HeaderIds,
) -> std::result::Result<HeaderIds, Corruption> {
    let file = files::open(path, false).map_err(|error| match error.kind() {
        ErrorKind::NotACacheFile { .. } => Corruption::NotARegularFile,
        _ => Corruption::UnreadableFile,
    })?;
    let mut bytes = vec![0; size_of::<T>()];
    let have =
        file_reader::read_at(&file, 0, &mut bytes).map_err(|_| Corruption::UnreadableFile)?;
    match seal::open::<T>(&bytes[..have]) {
        Ok(header) => Ok(ids(&header)),
        Err(error) => Err(header_problem(error)),
    }
}

/// Returns the corruption for a header that was not accepted.
pub(super) fn header_problem(error: HeaderError) -> Corruption {
    match error {
        HeaderError::Short => Corruption::HeaderTruncated,
        HeaderError::Magic => Corruption::HeaderMagic,
        HeaderError::Version(_) => Corruption::HeaderVersion,
        HeaderError::Flags(_) => Corruption::HeaderFlags,
        HeaderError::Checksum => Corruption::HeaderChecksum,
    }
}
