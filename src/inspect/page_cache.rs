//! Estimates how much of a file is in the page cache, by reads that must not wait. Maps nothing.

use std::path::Path;

use crate::error::Result;

use crate::inspect::file_reader::FileReader;

/// The most pages of a file that are sampled, evenly spaced.
const SAMPLE: u64 = 256;
/// Bytes of a page. If the system's pages are larger, some are sampled twice.
const PAGE: u64 = 4096;

/// A sample of a file's pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageSample {
    pub(super) len: u64,
    pub(super) sampled: u64,
    pub(super) resident: u64,
}

impl PageSample {
    /// Samples a file. Returns `None` if it does not exist or the system does not support the reads.
    pub(super) fn take(path: &Path) -> Result<Option<Self>> {
        let Some(reader) = FileReader::open_if_present(path)? else {
            return Ok(None);
        };
        // Prevents read-ahead of the neighbours of missing pages.
        #[cfg(target_os = "linux")]
        let _ = rustix::fs::fadvise(reader.file(), 0, None, rustix::fs::Advice::Random);
        let len = reader.len()?;
        let pages = len.div_ceil(PAGE);
        let sampled = pages.min(SAMPLE);
        let mut resident = 0;
        for number in 0..sampled {
            // The middle of each of as many equal parts.
            let page = (u128::from(number) * 2 + 1) * u128::from(pages) / (2 * u128::from(sampled));
            debug_assert!(page < u128::from(pages), "a page of the file");
            match is_resident(&reader, page as u64 * PAGE) {
                Some(true) => resident += 1,
                Some(false) => {}
                None => return Ok(None),
            }
        }
        Ok(Some(Self {
            len,
            sampled,
            resident,
        }))
    }

    /// Returns the estimated bytes of the file that are in memory.
    pub(super) fn bytes(self) -> u64 {
        let share = self.resident as f64 / self.sampled.max(1) as f64;
        (self.len as f64 * share) as u64
    }
}

/// Returns whether a byte can be read without waiting; `None` if the system does not tell.
#[cfg(target_os = "linux")]
fn is_resident(reader: &FileReader, at: u64) -> Option<bool> {
    use rustix::fs::{SeekFrom, seek};
    use rustix::io::{Errno, ReadWriteFlags, preadv2};
    // A read of a hole does not wait, but a hole is not in memory.
    match seek(reader.file(), SeekFrom::Data(at)) {
        Ok(data) if data > at => return Some(false),
        Err(Errno::NXIO) => return Some(false),
        _ => {}
    }
    let mut byte = [0];
    let mut buffers = [std::io::IoSliceMut::new(&mut byte)];
    match preadv2(reader.file(), &mut buffers, at, ReadWriteFlags::NOWAIT) {
        Ok(_) => Some(true),
        Err(Errno::AGAIN) => Some(false),
        Err(_unsupported) => None,
    }
}

#[cfg(not(target_os = "linux"))]
fn is_resident(_reader: &FileReader, _at: u64) -> Option<bool> {
    None
}
