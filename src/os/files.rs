//! File system operations: creating, opening, renaming and removing files, durably and without
//! following symbolic links.
//!
//! Tells the crate's files from others by their magic, and otherwise ignores their contents. Its
//! submodules handle permissions and file system types. May call `error` and `sync`.

mod acl;
mod fs_type;
mod permissions;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

#[cfg(all(test, target_os = "linux"))]
pub(crate) use crate::os::files::fs_type::PRETENDED;
pub(crate) use crate::os::files::fs_type::pinned;
pub(super) use crate::os::files::fs_type::{is_overlay, shared_by_machines};
pub(crate) use crate::os::files::permissions::Access;

use crate::error::{Error, ErrorKind, Result};
use crate::sync::failpoint;

/// Returns the path with something appended to the file's name.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Returns the directory of a file.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// Creates a file that does not exist, whatever the umask, never through a symbolic link. Until the
/// file has the rights given by `access`, only its creator can open it.
pub(crate) fn create(path: &Path, access: &Access) -> Result<File> {
    failpoint!(Create(path));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => already_exists(path),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                ErrorKind::DiskFull { needed: 0 }.at(path)
            }
            _ => Error::io(path, "create the file")(error),
        })?;
    let granted = access
        .grant(&file, path)
        .map_err(Error::io(path, "set owner and mode of the file"));
    if let Err(error) = granted {
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(file)
}

fn already_exists(path: &Path) -> Error {
    ErrorKind::AlreadyExists.at(path)
}

/// Opens an existing regular file. Does not follow symbolic links, and does not open a FIFO or a
/// device: for some devices opening alone has effects.
pub(crate) fn open(path: &Path, writable: bool) -> Result<File> {
    #[cfg(loom)]
    crate::sync::loom_model::system_call();
    let fail = |action| {
        move |error: io::Error| match error.raw_os_error() {
            Some(libc::ELOOP) => link(path),
            Some(libc::EISDIR | libc::ENXIO) => not_regular(path),
            _ => Error::io(path, action)(error),
        }
    };
    let is_regular = |meta: fs::Metadata| match meta.is_file() {
        true => Ok(()),
        false if meta.is_symlink() => Err(link(path)),
        false => Err(not_regular(path)),
    };
    fs::symlink_metadata(path)
        .map_err(fail("open the file"))
        .and_then(is_regular)?;
    let file = OpenOptions::new()
        .read(true)
        .write(writable)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(path)
        .map_err(fail("open the file"))?;
    // Another file may have got the name since.
    file.metadata()
        .map_err(fail("read the kind of the file"))
        .and_then(is_regular)?;
    Ok(file)
}

/// Returns whether a path failed because its symbolic links form a loop.
pub(crate) fn is_loop(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ELOOP)
}

/// Returns the target of a symbolic link. `None` if the path is no link, or the target is no
/// regular file.
pub(crate) fn link_target(path: &Path) -> Option<PathBuf> {
    let is_link = path.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
    let is_file = is_link && path.metadata().is_ok_and(|meta| meta.is_file());
    is_file.then(|| fs::canonicalize(path).ok()).flatten()
}

fn link(path: &Path) -> Error {
    let what = "a symbolic link, which is not followed";
    ErrorKind::NotACacheFile { what }.at(path)
}

pub(super) fn not_regular(path: &Path) -> Error {
    let what = "not a regular file";
    ErrorKind::NotACacheFile { what }.at(path)
}

/// Opens the lock file, and creates it if it is missing. The crate never removes it and never
/// writes to it: a file of this name that is not empty belongs to another program, which a lock on
/// it could block.
pub(crate) fn open_lock(path: &Path, mode: u32) -> Result<File> {
    match create(path, &Access::new(mode)) {
        Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists) => {}
        other => return other,
    }
    let file = open(path, true)?;
    let meta = file
        .metadata()
        .map_err(Error::io(path, "read the size of the file"))?;
    if meta.len() == 0 {
        Ok(file)
    } else {
        Err(already_exists(path))
    }
}

/// Renames a file, and replaces a file that has the new name. The caller syncs the directory if it
/// needs to.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    #[cfg(loom)]
    crate::sync::loom_model::system_call();
    failpoint!(Rename(from, to));
    rename_over(from, to)
}

#[expect(clippy::disallowed_methods, reason = "this is the one place")]
fn rename_over(from: &Path, to: &Path) -> Result<()> {
    debug_assert_ne!(from, to, "a rename to the same name commits nothing");
    fs::rename(from, to).map_err(|error| match is_another_users(&error) {
        true => not_removable(to, error),
        false => Error::io(from, "rename the file")(error),
    })
}

/// Renames a file to a name that is free, as far as the file system can guarantee that.
pub(crate) fn rename_new(from: &Path, to: &Path) -> Result<()> {
    #[cfg(loom)]
    crate::sync::loom_model::system_call();
    failpoint!(Rename(from, to));
    move_to_free_name(from, to)
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn move_to_free_name(from: &Path, to: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(already_exists(to)),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => rename_over(from, to),
        Err(error) => Err(Error::io(from, "rename the file")(error.into())),
    }
}

/// Links the file under the second name, which fails if a file has it, and removes the first name.
#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn move_to_free_name(from: &Path, to: &Path) -> Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from).map_err(Error::io(from, "remove the file's first name")),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(already_exists(to)),
        Err(error) => Err(Error::io(from, "rename the file")(error)),
    }
}

/// Removes a file. Succeeds if there is none.
pub(crate) fn remove(path: &Path) -> Result<()> {
    #[cfg(loom)]
    crate::sync::loom_model::system_call();
    failpoint!(Remove(path));
    match fs::remove_file(path) {
        Err(error) if is_another_users(&error) => Err(not_removable(path, error)),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(path, "remove the file")(error))
        }
        _ => Ok(()),
    }
}

/// Returns whether the system refused to remove a file because of the file, not because of its
/// directory: by the sticky bit, or by an attribute that makes the file immutable.
fn is_another_users(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EPERM)
}

fn not_removable(path: &Path, source: io::Error) -> Error {
    ErrorKind::NotRemovable { source }.at(path)
}

/// The bit of a directory's mode in which only owners remove files. Systems give it different types.
const STICKY: u32 = 0o1000;

/// Fails if this user cannot replace or remove a file, before the caller changes anything. Absent
/// files count as removable. Capabilities that let a user do more are ignored.
pub(super) fn check_removable(path: &Path) -> Result<()> {
    let me = rustix::process::geteuid();
    let dir = fs::metadata(parent(path)).map_err(Error::io(parent(path), "read the mode"))?;
    if dir.mode() & STICKY == 0 || me.is_root() || dir.uid() == me.as_raw() {
        return Ok(());
    }
    match path.symlink_metadata() {
        Ok(meta) if meta.uid() != me.as_raw() => Err(not_removable(
            path,
            io::Error::from_raw_os_error(libc::EPERM),
        )),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(path, "read the owner of the file")(error))
        }
        _ => Ok(()),
    }
}

/// Clears a name for a file of the cache that will be renamed to it. Moves anything but a regular
/// file to another name. A regular file stays, because the rename replaces it, but gets a second
/// name with `keep`. Returns the other name, if there is one.
pub(crate) fn set_aside(path: &Path, keep: bool) -> Result<Option<PathBuf>> {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return Ok(None);
    };
    if meta.is_file() && !keep {
        return Ok(None);
    }
    let free = |name: &PathBuf| fs::symlink_metadata(name).is_err();
    let target = (0..u32::MAX)
        .map(|count| match count {
            0 => with_suffix(path, ".damaged"),
            _ => with_suffix(path, &format!(".damaged.{count}")),
        })
        .find(free);
    let Some(target) = target else {
        return Ok(None);
    };
    if meta.is_file() {
        fs::hard_link(path, &target).map_err(Error::io(path, "keep the file by another name"))?;
    } else {
        rename(path, &target)?;
    }
    Ok(Some(target))
}

/// Removes a file that an interrupted creation left, if it has `magic`, or got no header before its
/// creator was killed. Leaves files of other programs, and a cache that has such a name.
pub(crate) fn remove_stale(path: &Path, magic: [u8; 8]) -> Result<()> {
    if is_ours_or_blank(path, magic)? && !is_cache(path) {
        remove(path)?;
    }
    Ok(())
}

/// Returns whether an index is a cache of its own, with its own files beside it, and not the next
/// index of another cache.
fn is_cache(path: &Path) -> bool {
    [".lock", ".roster", ".roster.new"]
        .iter()
        .any(|suffix| with_suffix(path, suffix).symlink_metadata().is_ok())
}

/// Returns whether a file starts with this magic. Fails if the file cannot be read.
pub(crate) fn is_ours(path: &Path, magic: [u8; 8]) -> Result<bool> {
    Ok(start_of(path)?.is_some_and(|start| start == magic))
}

/// Returns whether a file starts with this magic, or was created and got no header before its
/// creator was killed or the power failed. A header that a power loss left incomplete may have lost
/// its magic.
pub(crate) fn is_ours_or_blank(path: &Path, magic: [u8; 8]) -> Result<bool> {
    let blank = |start: &[u8]| start.iter().all(|&byte| byte == 0);
    Ok(start_of(path)?.is_some_and(|start| start == magic || blank(&start)))
}

/// Returns the first eight bytes of a regular file, or fewer if it is shorter. `None` if there is
/// no such file.
fn start_of(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match open(path, false) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotACacheFile { .. }) => return Ok(None),
        Err(error) if error.is_absent() => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut start = vec![0; 8];
    let count = file
        .read_at(&mut start, 0)
        .map_err(Error::io(path, "read the file"))?;
    start.truncate(count);
    Ok(Some(start))
}

/// Makes creations, renames and removals in a directory survive a power loss.
pub(super) fn sync_dir(path: &Path) -> Result<()> {
    failpoint!(SyncDir(path));
    let dir = File::open(path).map_err(Error::io(path, "open the directory"))?;
    dir.sync_all().map_err(Error::sync(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    // A created file has the mode that was asked for, and follows no link.
    #[test]
    fn created_file_follows_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = create(&path, &Access::new(0o664)).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o664);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &link).unwrap();
        assert!(create(&link, &Access::new(0o600)).is_err());
        assert!(!dir.path().join("elsewhere").exists());
    }
}
