//! Names of a cache's files, and durable changes of the directory they stand in.
//!
//! Knows where files are and how they are created, replaced and removed; not what they contain
//! beyond the magic that tells our files from others.

mod acl;
mod fs_type;
mod permissions;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

#[cfg(all(test, target_os = "linux"))]
pub(crate) use crate::os::files::fs_type::PRETENDED;
pub(crate) use crate::os::files::fs_type::pinned;
pub(crate) use crate::os::files::permissions::Access;

use crate::error::{Error, Result};
use crate::format::index::Home;
#[cfg(any(test, fuzzing))]
use crate::sync::failpoint::{self, Step};

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
        let Some(heap) = heap else {
            let heap = with_suffix(&index, ".heap");
            return Ok(Self { index, heap });
        };
        let names = Self {
            index,
            heap: real_path(heap)?,
        };
        if names.collide() {
            return Err(Error::Unsupported {
                path: names.heap,
                what: "a heap here would have the name of another of its cache's files; choose \
                       another `heap_path`",
            });
        }
        Ok(names)
    }

    /// Whether a segment could get the name of another file of the cache.
    fn collide(&self) -> bool {
        let others = [
            self.index(Stage::Final),
            self.index(Stage::New),
            self.roster(Stage::Final),
            self.roster(Stage::New),
            self.lock(),
        ];
        let is_segment = |name| self.parse_segment(name).is_some();
        parent(&self.heap) == parent(&self.index)
            && others
                .iter()
                .any(|path| path.file_name().is_some_and(is_segment))
    }

    /// Whether a file of one cache could get the name of one of another's.
    pub(crate) fn overlap(&self, other: &Self) -> bool {
        self.names_one_of(other) || other.names_one_of(self)
    }

    fn names_one_of(&self, other: &Self) -> bool {
        let names = |all: &Self| {
            let staged = [Stage::Final, Stage::New]
                .map(|stage| [all.index(stage), all.roster(stage), all.segment(0, stage)]);
            let mut paths = staged.concat();
            paths.push(all.lock());
            paths
        };
        let theirs = names(other);
        names(self).iter().any(|path| {
            theirs.contains(path)
                || parent(path) == parent(&other.heap)
                    && path
                        .file_name()
                        .is_some_and(|name| other.parse_segment(name).is_some())
        })
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

    /// Whether the heap has its default path, next to the index, or another one.
    pub(crate) fn heap_home(&self) -> Home {
        if self.heap == with_suffix(&self.index, ".heap") {
            Home::NextToIndex
        } else {
            Home::Elsewhere
        }
    }

    /// The segments of either stage that stand in the directory, by their names alone. It lists the
    /// directory, which may have any number of other files: only for repair and recovery.
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

    /// The path of a file in a directory that several machines may have mounted, and what to do;
    /// none where both directories are this machine's own.
    pub(crate) fn shared_by_machines(&self) -> Option<(&Path, &'static str)> {
        [&self.index, &self.heap].into_iter().find_map(|path| {
            let what = fs_type::shared_by_machines(parent(path))?;
            Some((path.as_path(), what))
        })
    }

    /// Refuses a switch of generations that could not come to its end, because index or roster, or
    /// one of the segments that are to go, are another user's in a directory with the sticky bit.
    pub(crate) fn check_replaceable(&self, segments: impl Iterator<Item = u16>) -> Result<()> {
        check_removable(&self.index)?;
        check_removable(&self.roster(Stage::Final))?;
        for number in segments {
            for stage in [Stage::Final, Stage::New] {
                check_removable(&self.segment(number, stage))?;
            }
        }
        Ok(())
    }

    /// Whether one of the two directories is on overlayfs.
    pub(crate) fn are_on_overlay(&self) -> bool {
        let on_overlay = |path| fs_type::is_overlay(parent(path));
        on_overlay(&self.index) || on_overlay(&self.heap)
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
        Err(error) if is_loop(&error) => return Err(not_regular(path)),
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

/// Creates a file that was not there, whatever the umask, never through a symbolic link. Until it
/// has the rights that are given, only its creator can open it.
pub(crate) fn create(path: &Path, access: &Access) -> Result<File> {
    #[cfg(any(test, fuzzing))]
    failpoint::step(Step::Create(path));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => already_exists(path),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull {
                path: path.to_owned(),
                needed: 0,
            },
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
    Error::AlreadyExists {
        path: path.to_owned(),
    }
}

/// Opens an existing regular file. Symbolic links are not followed, and a FIFO or a device is not
/// opened: for some devices opening alone has effects.
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

/// Whether a name leads round in a circle of symbolic links: nothing that was made by us does.
pub(crate) fn is_loop(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ELOOP)
}

/// What a symbolic link leads to, if that is a regular file.
pub(crate) fn link_target(path: &Path) -> Option<PathBuf> {
    let is_link = path.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
    let is_file = is_link && path.metadata().is_ok_and(|meta| meta.is_file());
    is_file.then(|| fs::canonicalize(path).ok()).flatten()
}

fn link(path: &Path) -> Error {
    Error::WrongMagic {
        path: path.to_owned(),
        what: "a symbolic link, which is not followed",
    }
}

fn not_regular(path: &Path) -> Error {
    Error::WrongMagic {
        path: path.to_owned(),
        what: "not a regular file",
    }
}

/// Opens the lock file, creating it where it is missing. It is never removed, and always empty: any
/// other file of this name is somebody else's, whom locking it would hinder.
pub(crate) fn open_lock(path: &Path, mode: u32) -> Result<File> {
    match create(path, &Access::new(mode)) {
        Err(Error::AlreadyExists { .. }) => {}
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

/// Renames a file over another. The caller syncs the directory where it must.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    #[cfg(loom)]
    crate::sync::loom_model::system_call();
    #[cfg(any(test, fuzzing))]
    failpoint::step(Step::Rename(from, to));
    rename_over(from, to)
}

#[expect(clippy::disallowed_methods, reason = "this is the one place")]
fn rename_over(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|error| match is_another_users(&error) {
        true => not_removable(to, error),
        false => Error::io(from, "rename the file")(error),
    })
}

/// Gives a file a name that nothing else has, as far as the file system can see to that.
pub(crate) fn rename_new(from: &Path, to: &Path) -> Result<()> {
    #[cfg(loom)]
    crate::sync::loom_model::system_call();
    #[cfg(any(test, fuzzing))]
    failpoint::step(Step::Rename(from, to));
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

/// A second name for the file, which is refused where there is such a file, and then none but that.
#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn move_to_free_name(from: &Path, to: &Path) -> Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from).map_err(Error::io(from, "remove the file's first name")),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(already_exists(to)),
        Err(error) => Err(Error::io(from, "rename the file")(error)),
    }
}

/// Removes a file; one that is not there counts as removed.
pub(crate) fn remove(path: &Path) -> Result<()> {
    #[cfg(loom)]
    crate::sync::loom_model::system_call();
    #[cfg(any(test, fuzzing))]
    failpoint::step(Step::Remove(path));
    match fs::remove_file(path) {
        Err(error) if is_another_users(&error) => Err(not_removable(path, error)),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(path, "remove the file")(error))
        }
        _ => Ok(()),
    }
}

/// Whether a removal was refused because of the file, and not because of its directory: by the
/// sticky bit, or by an attribute that makes the file immutable.
fn is_another_users(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EPERM)
}

fn not_removable(path: &Path, source: io::Error) -> Error {
    Error::NotRemovable {
        path: path.to_owned(),
        source,
    }
}

/// The bit of a directory's mode in which only owners remove files. Systems give it different types.
const STICKY: u32 = 0o1000;

/// Refuses what would replace or remove a file that this user cannot remove, before anything is
/// done. Absent files count as removable; of a user with special capabilities more is true.
fn check_removable(path: &Path) -> Result<()> {
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

/// Clears a name for a file of ours that is to be renamed to it. What is no regular file goes to
/// another name; a regular one, which the rename itself will replace, gets a second one if it is
/// to be kept. Returns where it is found now, if it was not left alone.
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

/// Removes a file that an interrupted creation left, if it is one of ours or got no header before
/// its maker was killed. Anybody else's file stays, and so does a cache that bears such a name.
pub(crate) fn remove_stale(path: &Path, magic: [u8; 8]) -> Result<()> {
    if is_ours_or_blank(path, magic)? && !is_cache(path) {
        remove(path)?;
    }
    Ok(())
}

/// Whether an index is a cache of its own, which has files of its own beside it; not the next index
/// of another one.
fn is_cache(path: &Path) -> bool {
    [".lock", ".roster", ".roster.new"]
        .iter()
        .any(|suffix| with_suffix(path, suffix).symlink_metadata().is_ok())
}

/// Whether a file starts with this magic. What cannot be looked at is an error, not somebody
/// else's.
pub(crate) fn is_ours(path: &Path, magic: [u8; 8]) -> Result<bool> {
    Ok(start_of(path)?.is_some_and(|start| start == magic))
}

/// Whether a file is one of ours, or was made and got no header before its maker, or the power, was
/// gone. A header of which a power loss left only some words may have lost its magic.
pub(crate) fn is_ours_or_blank(path: &Path, magic: [u8; 8]) -> Result<bool> {
    let blank = |start: &[u8]| start.iter().all(|&byte| byte == 0);
    Ok(start_of(path)?.is_some_and(|start| start == magic || blank(&start)))
}

/// The first eight bytes of a regular file, or fewer; none where there is no such file.
fn start_of(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match open(path, false) {
        Ok(file) => file,
        Err(Error::WrongMagic { .. }) => return Ok(None),
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
fn sync_dir(path: &Path) -> Result<()> {
    #[cfg(any(test, fuzzing))]
    failpoint::step(Step::SyncDir(path));
    let dir = File::open(path).map_err(Error::io(path, "open the directory"))?;
    dir.sync_all().map_err(Error::io(path, Error::SYNC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_names_are_segments() {
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
    fn aliased_names_resolve_to_one_cache() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("c"), b"").unwrap();
        std::os::unix::fs::symlink(dir.path().join("c"), dir.path().join("alias")).unwrap();
        let straight = Names::resolve(&dir.path().join("c"), None).unwrap();
        let detour = Names::resolve(&dir.path().join("alias"), None).unwrap();
        assert_eq!(straight, detour);
    }

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
