//! How much of a file is in memory now.
//!
//! Knows how to ask the page cache without mapping anything: by reads that must not wait.

use std::path::PathBuf;

use crate::error::Result;

use crate::inspect::companion::{Companion, Role};
use crate::inspect::source::Source;

/// Pages of a file that are asked for, spread evenly, where it has more.
const SAMPLE: u64 = 256;
/// Bytes of a page. Where the system's are larger, some are asked for twice.
const PAGE: u64 = 4096;

/// How much of a file is in memory, in the page cache that all processes share.
///
/// Holes count as not there. An estimate from up to 256 of its pages, right to within some 6 % of the file. Pages of a
/// sample that were not there can be in memory afterwards: the system begins to fetch what it could
/// not give at once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Residency {
    /// The file.
    pub path: PathBuf,
    /// What it is to its cache.
    pub role: Role,
    /// Its length in bytes.
    pub len: u64,
    /// Pages that were asked for.
    pub asked: u64,
    /// How many of them were there.
    pub resident: u64,
}

impl Residency {
    /// Bytes of the file that are in memory, about.
    pub fn bytes(&self) -> u64 {
        let share = self.resident as f64 / self.asked.max(1) as f64;
        (self.len as f64 * share) as u64
    }

    /// Asks for a file; none where the system does not tell, or where there is no such file.
    pub(super) fn look(file: &Companion) -> Result<Option<Self>> {
        let Some(source) = Source::open_if_there(&file.path)? else {
            return Ok(None);
        };
        // Else the system would fetch the neighbours of what is missing as well.
        #[cfg(target_os = "linux")]
        let _ = rustix::fs::fadvise(source.file(), 0, None, rustix::fs::Advice::Random);
        let len = source.len()?;
        let pages = len.div_ceil(PAGE);
        let asked = pages.min(SAMPLE);
        let mut resident = 0;
        for number in 0..asked {
            // In the middle of each of as many equal parts.
            let page = (u128::from(number) * 2 + 1) * u128::from(pages) / (2 * u128::from(asked));
            debug_assert!(page < u128::from(pages), "a page of the file");
            match is_resident(&source, page as u64 * PAGE) {
                Some(true) => resident += 1,
                Some(false) => {}
                None => return Ok(None),
            }
        }
        Ok(Some(Self {
            path: file.path.clone(),
            role: file.role,
            len,
            asked,
            resident,
        }))
    }
}

/// Whether a byte can be read at once; none where that cannot be asked.
#[cfg(target_os = "linux")]
fn is_resident(source: &Source, at: u64) -> Option<bool> {
    use rustix::fs::{SeekFrom, seek};
    use rustix::io::{Errno, ReadWriteFlags, preadv2};
    // A hole is given at once, for it need not be fetched; and it is nowhere.
    match seek(source.file(), SeekFrom::Data(at)) {
        Ok(data) if data > at => return Some(false),
        Err(Errno::NXIO) => return Some(false),
        _ => {}
    }
    let mut byte = [0];
    let mut buffers = [std::io::IoSliceMut::new(&mut byte)];
    match preadv2(source.file(), &mut buffers, at, ReadWriteFlags::NOWAIT) {
        Ok(_) => Some(true),
        Err(Errno::AGAIN) => Some(false),
        Err(_unsupported) => None,
    }
}

#[cfg(not(target_os = "linux"))]
fn is_resident(_source: &Source, _at: u64) -> Option<bool> {
    None
}
