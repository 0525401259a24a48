//! Copies the start of a file into another one, in the fastest way of the file system.
//!
//! By a reflink (shared blocks) if possible, otherwise by `copy_file_range`, otherwise through a
//! buffer. The bytes must not change during the copy. May call `error`, `sync` and
//! `os::mapped_file`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::error::{Error, ErrorKind, Result};
use crate::os::mapped_file::MappedFile;
use crate::sync::failpoint;

/// Bytes that are copied between two calls of the progress callback.
const PIECE: u64 = 8 << 20;
/// Bytes of the buffer, if the kernel cannot copy.
const BUFFER: usize = 256 << 10;

/// Copies the first `len` bytes of a file into an empty one. Returns whether they share their blocks.
///
/// With `may_share` they may: only for files that no process stores to any more, because a store to a
/// shared block needs a new one, and on a full disk that raises SIGBUS (H2). Calls `progress` with
/// the bytes copied so far, whose error ends the copy.
pub(crate) fn clone_start(
    from: &File,
    to: &MappedFile,
    (len, may_share): (u64, bool),
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<bool> {
    failpoint!(Write);
    let fail = |source: io::Error| failure(to, len, source);
    // The system would send a signal, which ends the process.
    to.check_limit(len)?;
    if may_share && from.metadata().map_err(fail)?.len() == len && share(from, to.file()) {
        progress(len)?;
        return Ok(true);
    }
    // Fails before the first byte if there is no room for all of them.
    to.allocate(0, len)?;
    let mut at = 0;
    // `copy_file_range` shares blocks too if it can: btrfs, XFS.
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
        debug_assert!(at <= len, "no more is copied than was asked for");
        progress(at)?;
    }
    Ok(false)
}

fn failure(to: &MappedFile, needed: u64, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ErrorKind::DiskFull { needed }.at(&to.path())
        }
        _ => Error::io(to.path(), "copy the file")(source),
    }
}

/// Lets two files share all blocks of the first one. Returns whether they do; ignores errors.
#[cfg(target_os = "linux")]
fn share(from: &File, to: &File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn share(_from: &File, _to: &File) -> bool {
    false
}

/// Copies bytes to the same offset of another file. Returns 0 if the kernel cannot copy.
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

    // A file that ends too early is an error, and not a shorter copy.
    #[test]
    fn short_source_is_an_error() {
        let copied = clone_start(&file_of(b"short"), &target(), (6, true), &mut |_| Ok(()));
        assert!(
            matches!(
                copied.as_ref().map_err(Error::kind),
                Err(ErrorKind::Io { .. })
            ),
            "{copied:?}"
        );
    }
}
