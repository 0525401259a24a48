//! Everything that can be read off a cache's headers, at one moment.
//!
//! Knows how to read the page so that a writer at work does not blur it; what is plausible it
//! leaves to `doubt`.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::engine::Problem;
use crate::error::{Error, ErrorKind, Result};
use crate::format::index::{IndexHeader, PAGE};
use crate::index::header::Header;
use crate::index::redo::WORDS;
use crate::os::file_names::{FileNames, Stage};
use crate::os::files;
use crate::sync::Word;

use crate::inspect::changing::Changing;
use crate::inspect::companion::{self, Companion};
use crate::inspect::doubt;
use crate::inspect::sealed::Sealed;
use crate::inspect::source;

/// Reads of the page after which a busy writer is given up on.
const TRIES: u32 = 64;

/// What the headers of a cache's files say, whether the engine would open them or not.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("thumbnails");
/// # mmapcache::MmapCache::open(&path)?.put(b"key", b"value")?;
/// let overview = mmapcache::inspect::Overview::read(&path, None)?;
/// assert!(overview.implausible.is_empty());
/// assert_eq!(overview.changing.map(|header| header.occupied), Some(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Overview {
    /// The index, every symbolic link followed.
    pub path: PathBuf,
    /// The index's length in bytes.
    pub len: u64,
    /// Whether the page held still while it was read. Otherwise somebody was writing, its fields
    /// are from different moments, and they were not compared with each other.
    pub steady: bool,
    /// The fields that never change; none where the file ends before them.
    pub sealed: Option<Sealed>,
    /// The fields that writers change; none where the file ends within the header page.
    pub changing: Option<Changing>,
    /// The files that stand under the names of this cache, the index itself among them.
    pub files: Vec<Companion>,
    /// What cannot be true. Traces of a killed writer, which the next one mends, are not among it.
    pub implausible: Vec<Problem>,
}

impl Overview {
    /// Reads the headers of the cache at `path`, whose heap stands at `heap_path` if not beside it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] where there is no file at the path, [`ErrorKind::NotACacheFile`] where there is
    /// something else than a regular file, [`ErrorKind::Io`] where it cannot be read. What is in the
    /// file is never an error.
    pub fn read(path: impl AsRef<Path>, heap_path: Option<&Path>) -> Result<Self> {
        let names = FileNames::resolve(path.as_ref(), heap_path)?;
        let path = names.index(Stage::Final);
        let file = files::open(&path, false).map_err(|error| match error {
            absent if absent.is_absent() => ErrorKind::NotFound.at(&path),
            other => other,
        })?;
        let (page, files, steady) = steady_page(&file, &names)?;
        let len = file
            .metadata()
            .map_err(Error::io(&path, "read the size of the file"))?
            .len();
        let words: Vec<Word> = source::words(&page).collect();
        let mut overview = Self {
            len,
            steady,
            sealed: page
                .get(..size_of::<IndexHeader>())
                .map(|bytes| Sealed::decode(&bytemuck::pod_read_unaligned(bytes))),
            changing: Header::new(&words).map(Changing::decode),
            files,
            implausible: Vec::new(),
            path,
        };
        overview.implausible = doubt::all(&overview, &page);
        Ok(overview)
    }
}

/// The header page, or as much of it as there is, and the files beside it; and whether all of it
/// held still.
///
/// The page was the same before and after the files were listed: the count of changes is in it, so
/// no change lies between. The files were the same twice: a file that is renamed while both its
/// names are looked for can be missed under both.
fn steady_page(file: &File, names: &FileNames) -> Result<(Vec<u8>, Vec<Companion>, bool)> {
    let path = names.cache();
    let mut page = read_page(file, path)?;
    let mut files = companion::all(names)?;
    for _ in 0..TRIES {
        let files_again = companion::all(names)?;
        let page_again = read_page(file, path)?;
        let steady = page_again == page && files_again == files;
        (page, files) = (page_again, files_again);
        if steady {
            return Ok((page, files, true));
        }
        std::thread::yield_now();
    }
    Ok((page, files, false))
}

fn read_page(file: &File, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = vec![0; PAGE as usize];
    let have =
        companion::read_up_to(file, &mut bytes).map_err(Error::io(path, "read the header"))?;
    bytes.truncate(have);
    Ok(bytes)
}

const _: () = assert!(WORDS * 8 == PAGE as usize);
