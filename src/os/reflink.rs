//! What one file holds, in another one, as the file system does it best.
//!
//! Shared blocks where it can share them, a copy within the kernel where it cannot, and a buffer
//! where that is missing too. Knows nothing of what is in the files, and needs bytes that hold
//! still.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

use crate::error::{Error, Result};
use crate::os::mmap::MappedFile;
#[cfg(any(test, fuzzing))]
use crate::sync::failpoint::{self, Step};

/// Bytes that are copied between two looks at how far it is.
const PIECE: u64 = 8 << 20;
/// Bytes that are copied at once where the kernel does not do it.
const BUFFER: usize = 256 << 10;

/// Has an empty file begin with the first `len` bytes of another one. Whether they share their
/// blocks, which is for files that nobody stores to any more: a store to a shared block needs
/// another one, and on a full disk that is SIGBUS. `told` hears how many bytes there are so far, and
/// can end it by an error.
pub(crate) fn clone_start(
    from: &File,
    to: &MappedFile,
    (len, may_share): (u64, bool),
    told: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<bool> {
    #[cfg(any(test, fuzzing))]
    failpoint::step(Step::Write);
    let fail = |source: io::Error| failure(to, len, source);
    // Beyond it, a signal would end the process.
    to.check_limit(len)?;
    if may_share && from.metadata().map_err(fail)?.len() == len && share(from, to.file()) {
        told(len)?;
        return Ok(true);
    }
    // Where there is no room for all of it, nothing is copied.
    to.allocate(0, len)?;
    let mut at = 0;
    // The kernel's copy shares blocks too where it can: btrfs, XFS.
    let mut in_kernel = may_share;
    while at < len {
        let most = PIECE.min(len - at);
        if in_kernel {
            let count = copy_in_kernel(from, to.file(), at, most).map_err(fail)?;
            in_kernel = count > 0;
            at += count;
        } else {
            copy_by_buffer(from, to.file(), at, most).map_err(fail)?;
            at += most;
        }
        told(at)?;
    }
    Ok(false)
}

fn failure(to: &MappedFile, needed: u64, source: io::Error) -> Error {
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::DiskFull {
            path: to.path().to_owned(),
            needed,
        },
        _ => Error::io(to.path(), "copy the file")(source),
    }
}

/// Lets two files share all blocks of the first. What keeps it from that is no error.
#[cfg(target_os = "linux")]
fn share(from: &File, to: &File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn share(_from: &File, _to: &File) -> bool {
    false
}

/// Copies bytes to the same place of another file; 0 where this cannot be done in the kernel.
#[cfg(target_os = "linux")]
fn copy_in_kernel(from: &File, to: &File, at: u64, most: u64) -> io::Result<u64> {
    use rustix::io::Errno;
    let (mut read_at, mut write_at) = (at, at);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    loop {
        let copied =
            rustix::fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), most);
        return match copied {
            Ok(count) => Ok(count as u64),
            Err(Errno::INTR) => continue,
            Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::IO)) => {
                Err(error.into())
            }
            Err(_) => Ok(0),
        };
    }
}

#[cfg(not(target_os = "linux"))]
fn copy_in_kernel(_from: &File, _to: &File, _at: u64, _most: u64) -> io::Result<u64> {
    Ok(0)
}

fn copy_by_buffer(from: &File, to: &File, at: u64, len: u64) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER.min(usize::try_from(len).unwrap_or(BUFFER))];
    let mut done = 0;
    while done < len {
        let most = (len - done).min(BUFFER as u64) as usize;
        let piece = &mut buffer[..most];
        from.read_exact_at(piece, at + done)?;
        to.write_all_at(piece, at + done)?;
        done += most as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;

    fn target() -> Arc<MappedFile> {
        MappedFile::new(tempfile::tempfile().unwrap(), Path::new("copy"), true)
    }

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
    }

    fn file_of(content: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(content, 0).unwrap();
        file
    }

    fn content_of(file: &File) -> Vec<u8> {
        let mut content = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut content, 0).unwrap();
        content
    }

    #[test]
    fn only_the_prefix_is_copied() {
        let whole = bytes(3 * PIECE as usize / 2);
        for len in [0, 1, 4095, 4096, PIECE as usize + 1, whole.len()] {
            let (from, to) = (file_of(&whole), target());
            let mut last = 0;
            clone_start(&from, &to, (len as u64, true), &mut |so_far| {
                last = so_far;
                Ok(())
            })
            .unwrap();
            assert!(content_of(to.file()) == whole[..len], "{len} bytes");
            assert_eq!(last, len as u64);
        }
    }

    #[test]
    fn buffered_copy_equals_kernel_copy() {
        let whole = bytes(2 * BUFFER + 77);
        let (from, to) = (file_of(&whole), file_of(&whole[..100]));
        copy_by_buffer(&from, &to, 100, whole.len() as u64 - 100).unwrap();
        assert!(content_of(&to) == whole);
    }

    // A file that ends too early is an error, and gives no shorter copy.
    #[test]
    fn short_source_is_an_error() {
        let copied = clone_start(&file_of(b"short"), &target(), (6, true), &mut |_| Ok(()));
        assert!(matches!(copied, Err(Error::Io { .. })), "{copied:?}");
    }
}
