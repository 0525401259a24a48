//! The sealed header at the start of each file: reading, writing, and refusing files of others.
//!
//! May call `format`, `os` and `error`.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::error::{Corruption, Error, ErrorKind, Result};
use crate::format::seal::{self, HeaderError, SealedHeader};
use crate::format::segment::SegmentHeader;
use crate::os::files;

/// Reads the header of an open file. `what` is the kind of file that it should be.
pub(crate) fn read_header<T: SealedHeader>(
    file: &File,
    path: &Path,
    what: &'static str,
) -> Result<T> {
    let mut bytes = vec![0; size_of::<T>()];
    let mut have = 0;
    while have < bytes.len() {
        match file.read_at(&mut bytes[have..], have as u64) {
            Ok(0) => break,
            Ok(count) => have += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io(path, "read the header")(error)),
        }
    }
    seal::open(&bytes[..have]).map_err(|fault| match fault {
        HeaderError::Short if have == 0 => Error::corrupted(path, Corruption::EmptyFile, 0),
        fault => refusal::<T>(path, what, fault),
    })
}

/// Reads the header of the file at a path; `None` if there is no file, or one of another kind.
///
/// A file that cannot be opened, or that another release wrote, is an error: the caller may remove
/// a file that has no header.
pub(crate) fn read_sealed<T: SealedHeader>(path: &Path) -> Result<Option<T>> {
    read_version(path, T::VERSION)
}

/// As [`read_sealed`], for a header of another version, whose fields are the same.
pub(crate) fn read_version<T: SealedHeader>(path: &Path, known: u32) -> Result<Option<T>> {
    let file = match files::open(path, false) {
        Ok(file) => file,
        Err(error) if error.is_absent() || error.is_corruption() => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; size_of::<T>()];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => match seal::open_version(&bytes, known) {
            Ok(header) => Ok(Some(header)),
            Err(fault @ (HeaderError::Version(_) | HeaderError::Flags(_))) => {
                Err(refusal::<T>(path, "", fault))
            }
            Err(_) => Ok(None),
        },
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(Error::io(path, "read the header")(error)),
    }
}

/// Returns the error for a file whose header is not accepted.
fn refusal<T: SealedHeader>(path: &Path, what: &'static str, fault: HeaderError) -> Error {
    let of_release = |found, flags| {
        ErrorKind::UnsupportedVersion {
            found,
            supported: T::VERSION,
            flags,
        }
        .at(path)
    };
    match fault {
        HeaderError::Short => Error::corrupted(path, Corruption::HeaderTruncated, 0),
        HeaderError::Magic => ErrorKind::NotACacheFile { what }.at(path),
        HeaderError::Version(found) => of_release(found, 0),
        HeaderError::Flags(flags) => of_release(T::VERSION, flags),
        HeaderError::Checksum => {
            let at = seal::at::CRC.start as u64;
            Error::corrupted(path, Corruption::HeaderChecksum, at)
        }
    }
}

/// Seals a header and writes it to the start of a file.
pub(crate) fn write_header<T: SealedHeader>(file: &File, path: &Path, header: &T) -> Result<()> {
    #[cfg(any(test, fuzzing))]
    crate::sync::failpoint::step(crate::sync::failpoint::Operation::Write);
    file.write_all_at(&seal::seal(*header), 0)
        .map_err(Error::io(path, "write the header"))
}

/// Returns the device and inode of an open file.
pub(crate) fn inode_of(file: &File, path: &Path) -> Result<(u64, u64)> {
    let meta = file
        .metadata()
        .map_err(Error::io(path, "read the inode of the file"))?;
    Ok((meta.dev(), meta.ino()))
}

/// Refuses a path that another program's file has.
pub(crate) fn refuse_foreign(path: &Path, magic: [u8; 8]) -> Result<()> {
    if path.symlink_metadata().is_ok() && !files::is_ours_or_blank(path, magic)? {
        return Err(ErrorKind::AlreadyExists.at(path));
    }
    Ok(())
}

/// Refuses a path that has a file other than a segment of this cache: another program's, another
/// cache's or another release's.
pub(crate) fn refuse_other_segment(path: &Path, cache_id: [u8; 16]) -> Result<()> {
    refuse_foreign(path, SegmentHeader::MAGIC)?;
    match read_sealed::<SegmentHeader>(path)? {
        Some(header) if header.cache_id != cache_id => Err(ErrorKind::AlreadyExists.at(path)),
        _ => Ok(()),
    }
}
