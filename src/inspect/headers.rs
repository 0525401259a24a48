//! Reads the header page of the index and lists the files of the cache, as one consistent state if
//! possible.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::engine::Problem;
use crate::error::{Error, ErrorKind, Result};
use crate::format::index::{IndexHeader as DiskHeader, PAGE, rearrange_from_1};
use crate::index::header::Header;
use crate::index::redo::WORDS;
use crate::os::file_names::{FileNames, Stage};
use crate::os::files;
use crate::sync::Word;

use crate::inspect::cache_file::{self, CacheFile};
use crate::inspect::file_reader;
use crate::inspect::header_problems;
use crate::inspect::index_header::IndexHeader;
use crate::inspect::index_state::IndexState;

/// The most attempts to read a consistent page.
const ATTEMPTS: u32 = 64;

/// The decoded headers of a cache's files.
#[derive(Clone, Debug)]
pub(super) struct Headers {
    /// The index, with every symbolic link resolved.
    pub(super) path: PathBuf,
    /// The length of the index in bytes.
    pub(super) len: u64,
    /// Whether page and files did not change while they were read. Otherwise the fields were not
    /// compared with each other.
    pub(super) consistent: bool,
    /// `None` if the file ends before the end of these fields.
    pub(super) header: Option<IndexHeader>,
    /// `None` if the file ends before the end of the header page.
    pub(super) state: Option<IndexState>,
    /// All files with a name of this cache, the index first.
    pub(super) files: Vec<CacheFile>,
    /// Impossible values. A killed writer leaves none.
    pub(super) problems: Vec<Problem>,
}

impl Headers {
    /// Reads the headers of a cache.
    pub(super) fn read(names: &FileNames) -> Result<Self> {
        let path = names.index(Stage::Final);
        let file = files::open(&path, false).map_err(|error| match error {
            absent if absent.is_absent() => ErrorKind::NotFound.at(&path),
            other => other,
        })?;
        let (page, files, consistent) = read_consistent(&file, names)?;
        let len = file
            .metadata()
            .map_err(Error::io(&path, "read the size of the file"))?
            .len();
        let header = page
            .get(..size_of::<DiskHeader>())
            .map(|bytes| IndexHeader::decode(&bytemuck::pod_read_unaligned(bytes)));
        let mut words: Vec<Word> = file_reader::words(&page).collect();
        if words.len() == WORDS && header.as_ref().is_some_and(|header| header.version == 1) {
            rearrange_from_1(&mut words);
        }
        let mut headers = Self {
            len,
            consistent,
            header,
            state: Header::new(&words).map(IndexState::decode),
            files,
            problems: Vec::new(),
            path,
        };
        headers.problems = header_problems::find(&headers, &page);
        Ok(headers)
    }

    /// Returns the header if its checksum matches and this crate reads its version.
    pub(super) fn valid_header(&self) -> Option<&IndexHeader> {
        let header = self.header.as_ref()?;
        (header.checksum_ok == Some(true) && header.version_ok).then_some(header)
    }
}

/// Returns the header page, or the part that exists, and the list of files; and whether they are
/// consistent.
///
/// Reads the page before and after the files. The page contains the count of changes, so an equal
/// page means that there was no change in between. Lists the files twice, because a listing can miss
/// a file that is renamed during it.
fn read_consistent(file: &File, names: &FileNames) -> Result<(Vec<u8>, Vec<CacheFile>, bool)> {
    let path = names.cache();
    let mut page = read_page(file, path)?;
    let mut files = cache_file::list(names)?;
    for _ in 0..ATTEMPTS {
        let files_again = cache_file::list(names)?;
        let page_again = read_page(file, path)?;
        let consistent = page_again == page && files_again == files;
        (page, files) = (page_again, files_again);
        if consistent {
            return Ok((page, files, true));
        }
        std::thread::yield_now();
    }
    Ok((page, files, false))
}

fn read_page(file: &File, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = vec![0; PAGE as usize];
    let have =
        file_reader::read_at(file, 0, &mut bytes).map_err(Error::io(path, "read the header"))?;
    bytes.truncate(have);
    Ok(bytes)
}

const _: () = assert!(WORDS * 8 == PAGE as usize);
