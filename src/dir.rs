//! Names of a cache's files, and durable changes of the directory they stand in.
//!
//! Knows where files are and how they are created, replaced and removed; not what they contain
//! beyond the magic that tells our files from others.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::format::seal;

/// The names of one cache's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    index: PathBuf,
    heap: PathBuf,
}

/// Whether a name is the one in use, or that of a file being prepared beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Final,
    New,
}

impl Names {
    /// Names for the cache at `path`. The directory must exist; symbolic links are followed, so
    /// that two names of one cache become one.
    pub(crate) fn resolve(path: &Path, heap: Option<&Path>) -> Result<Self> {
        let index = real_path(path)?;
        let heap = match heap {
            Some(heap) => real_path(heap)?,
            None => with_suffix(&index, ".heap"),
        };
        Ok(Self { index, heap })
    }

    /// The index, whose path is the cache's.
    pub(crate) fn cache(&self) -> &Path {
        &self.index
    }

    pub(crate) fn index(&self, stage: Stage) -> PathBuf {
        staged(self.index.clone(), stage)
    }

    pub(crate) fn roster(&self, stage: Stage) -> PathBuf {
        staged(with_suffix(&self.index, ".roster"), stage)
    }

    pub(crate) fn lock(&self) -> PathBuf {
        with_suffix(&self.index, ".lock")
    }

    pub(crate) fn segment(&self, number: u16, stage: Stage) -> PathBuf {
        let path = if number == 0 {
            self.heap.clone()
        } else {
            with_suffix(&self.heap, &format!(".{number}"))
        };
        staged(path, stage)
    }

    /// The segments of either stage that stand in the directory, by their names alone.
    pub(crate) fn segments(&self) -> Result<Vec<(u16, Stage)>> {
        let dir = parent(&self.heap);
        let fail = |source| Error::io(dir, "list the directory")(source);
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name();
            found.extend(self.parse_segment(&name));
        }
        found.sort_by_key(|&(number, stage)| (number, stage == Stage::New));
        Ok(found)
    }

    /// The numbers of the segments that stand in the directory under either name, from low to high.
    pub(crate) fn segment_numbers(&self) -> Result<Vec<u16>> {
        let mut numbers: Vec<u16> = self
            .segments()?
            .into_iter()
            .map(|(number, _)| number)
            .collect();
        numbers.dedup();
        Ok(numbers)
    }

    fn parse_segment(&self, name: &std::ffi::OsStr) -> Option<(u16, Stage)> {
        let base = self.heap.file_name()?.as_bytes();
        let rest = name.as_bytes().strip_prefix(base)?;
        let (rest, stage) = match rest.strip_suffix(b".new") {
            Some(rest) => (rest, Stage::New),
            None => (rest, Stage::Final),
        };
        if rest.is_empty() {
            return Some((0, stage));
        }
        let digits = std::str::from_utf8(rest.strip_prefix(b".")?).ok()?;
        let number: u16 = digits.parse().ok()?;
        // "01" and "+1" parse too, but are not names that we give.
        (number > 0 && digits == number.to_string()).then_some((number, stage))
    }

    /// The directories that hold the files.
    pub(crate) fn sync_dirs(&self) -> Result<()> {
        let index = parent(&self.index);
        let heap = parent(&self.heap);
        sync_dir(index)?;
        if heap == index {
            Ok(())
        } else {
            sync_dir(heap)
        }
    }

    pub(crate) fn sync_index_dir(&self) -> Result<()> {
        sync_dir(parent(&self.index))
    }

    pub(crate) fn sync_heap_dir(&self) -> Result<()> {
        sync_dir(parent(&self.heap))
    }
}

/// The file's path with every symbolic link followed; a file that does not exist yet is named by
/// its directory's.
fn real_path(path: &Path) -> Result<PathBuf> {
    match fs::canonicalize(path) {
        Ok(real) => return Ok(real),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io(path, "resolve the path")(error)),
    }
    let name = path.file_name().ok_or_else(|| {
        Error::io(path, "name a file by the path")(io::Error::from(io::ErrorKind::InvalidInput))
    })?;
    let dir = fs::canonicalize(parent(path)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::io(parent(path), "find the directory")(error),
        _ => Error::io(path, "resolve the path")(error),
    })?;
    Ok(dir.join(name))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn staged(path: PathBuf, stage: Stage) -> PathBuf {
    match stage {
        Stage::Final => path,
        Stage::New => with_suffix(&path, ".new"),
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// Who may touch a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    pub mode: u32,
    /// Owner and group to give the file, when it replaces one of theirs.
    pub owner: Option<(u32, u32)>,
}

impl Access {
    /// The access of an existing file, to be repeated on what replaces it.
    pub(crate) fn of(file: &File, path: &Path) -> Result<Self> {
        let meta = file
            .metadata()
            .map_err(Error::io(path, "read the mode of the file"))?;
        Ok(Self {
            mode: meta.mode() & 0o7777,
            owner: Some((meta.uid(), meta.gid())),
        })
    }
}

/// Creates a file that was not there, whatever the umask, never through a symbolic link.
pub(crate) fn create(path: &Path, access: Access) -> Result<File> {
    #[cfg(test)]
    crate::sync::fuse::step();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(Error::io(path, "create the file"))?;
    let granted = grant(&file, access).map_err(Error::io(path, "set owner and mode of the file"));
    if let Err(error) = granted {
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(file)
}

fn grant(file: &File, access: Access) -> io::Result<()> {
    if let Some((owner, group)) = access.owner {
        let meta = file.metadata()?;
        if (meta.uid(), meta.gid()) != (owner, group) {
            std::os::unix::fs::fchown(file, Some(owner), Some(group))?;
        }
    }
    file.set_permissions(fs::Permissions::from_mode(access.mode))
}

/// Opens an existing regular file. A FIFO or a device is refused, not waited for.
pub(crate) fn open(path: &Path, writable: bool) -> Result<File> {
    #[cfg(loom)]
    crate::sync::modelled::system_call();
    let file = OpenOptions::new()
        .read(true)
        .write(writable)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::EISDIR | libc::ENXIO) => not_regular(path),
            _ => Error::io(path, "open the file")(error),
        })?;
    let meta = file
        .metadata()
        .map_err(Error::io(path, "read the kind of the file"))?;
    if meta.is_file() {
        Ok(file)
    } else {
        Err(not_regular(path))
    }
}

fn not_regular(path: &Path) -> Error {
    Error::WrongMagic {
        path: path.to_owned(),
        what: "not a regular file",
    }
}

/// Opens the lock file, creating it where it is missing. It is never removed.
pub(crate) fn open_lock(path: &Path, mode: u32) -> Result<File> {
    match create(path, Access { mode, owner: None }) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
            open(path, true)
        }
        other => other,
    }
}

/// Renames a file over another. The caller syncs the directory where it must.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    #[cfg(loom)]
    crate::sync::modelled::system_call();
    #[cfg(test)]
    crate::sync::fuse::step();
    fs::rename(from, to).map_err(Error::io(from, "rename the file"))
}

/// Removes a file; one that is not there counts as removed.
pub(crate) fn remove(path: &Path) -> Result<()> {
    #[cfg(loom)]
    crate::sync::modelled::system_call();
    #[cfg(test)]
    crate::sync::fuse::step();
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(path, "remove the file")(error))
        }
        _ => Ok(()),
    }
}

/// Whether the file starts with this magic and, sixteen bytes on, with this cache id.
pub(crate) fn is_ours(path: &Path, magic: [u8; 8], cache_id: Option<[u8; 16]>) -> bool {
    let mut start = [0; 32];
    let read = open(path, false).is_ok_and(|file| file.read_exact_at(&mut start, 0).is_ok());
    read && start[seal::at::MAGIC] == magic && cache_id.is_none_or(|id| start[16..32] == id)
}

/// Removes a file that an interrupted creation left, if it is one of ours or got no header before
/// its maker was killed. Anybody else's file stays.
pub(crate) fn remove_stale(path: &Path, magic: [u8; 8]) -> Result<()> {
    if is_ours_or_blank(path, magic) {
        remove(path)?;
    }
    Ok(())
}

/// Whether a file is one of ours, or was made and got no header before its maker, or the power, was
/// gone.
pub(crate) fn is_ours_or_blank(path: &Path, magic: [u8; 8]) -> bool {
    is_ours(path, magic, None) || is_blank(path)
}

fn is_blank(path: &Path) -> bool {
    let mut start = [0; 128];
    open(path, false).is_ok_and(|file| match file.read_at(&mut start, 0) {
        Ok(count) => start[..count].iter().all(|&byte| byte == 0),
        Err(_) => false,
    })
}

/// Makes creations, renames and removals in a directory survive a power loss.
fn sync_dir(path: &Path) -> Result<()> {
    let dir = File::open(path).map_err(Error::io(path, "open the directory"))?;
    dir.sync_all()
        .map_err(Error::io(path, "sync the directory"))
}

/// Whether the file stands on a network file system, where mappings and locks are not shared
/// between machines.
#[cfg(target_os = "linux")]
pub(crate) fn on_network(path: &Path) -> bool {
    const NETWORK: [u32; 9] = [
        0x6969,      // NFS
        0x517b,      // SMB
        0xff53_4d42, // CIFS
        0xfe53_4d42, // SMB2
        0x5346_414f, // AFS
        0x6b41_4653, // kAFS
        0x00c3_6400, // Ceph
        0x0102_1997, // 9P
        0x7461_636f, // OCFS2
    ];
    rustix::fs::statfs(parent(path)).is_ok_and(|stat| NETWORK.contains(&(stat.f_type as u32)))
}

/// Whether the file stands on a network file system; not known on this platform.
#[cfg(not(target_os = "linux"))]
pub(crate) fn on_network(_path: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_we_give_are_read_as_segments() {
        let dir = tempfile::tempdir().unwrap();
        let names = Names::resolve(&dir.path().join("c"), None).unwrap();
        for name in [
            "c.heap",
            "c.heap.1",
            "c.heap.12.new",
            "c.heap.new",
            "c.heap.01",
            "c.heap.x",
            "c.heapx",
            "d.heap",
        ] {
            fs::write(dir.path().join(name), b"").unwrap();
        }
        let found = names.segments().unwrap();
        assert_eq!(
            found,
            [
                (0, Stage::Final),
                (0, Stage::New),
                (1, Stage::Final),
                (12, Stage::New)
            ]
        );
        for (number, stage) in found {
            assert!(names.segment(number, stage).exists());
        }
    }

    #[test]
    fn two_names_of_one_cache_are_one_cache() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("c"), b"").unwrap();
        std::os::unix::fs::symlink(dir.path().join("c"), dir.path().join("alias")).unwrap();
        let straight = Names::resolve(&dir.path().join("c"), None).unwrap();
        let detour = Names::resolve(&dir.path().join("alias"), None).unwrap();
        assert_eq!(straight, detour);
    }

    #[test]
    fn a_created_file_has_the_mode_asked_for_and_follows_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = create(
            &path,
            Access {
                mode: 0o664,
                owner: None,
            },
        )
        .unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o664);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &link).unwrap();
        assert!(
            create(
                &link,
                Access {
                    mode: 0o600,
                    owner: None
                }
            )
            .is_err()
        );
        assert!(!dir.path().join("elsewhere").exists());
    }
}
