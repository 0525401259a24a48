//! The names of a cache's files.
//!
//! Every file of a cache has a name that follows from the paths of its index and its heap; a file that
//! is being prepared has `.new` after its name. May call `error`, `format` and
//! `os::files`.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::format::index::HeapLocation;
use crate::os::files::{self, parent, with_suffix};

/// The names of one cache's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileNames {
    index: PathBuf,
    heap: PathBuf,
}

/// Whether a name is the final one, or belongs to a file that is being prepared beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Final,
    New,
}

impl FileNames {
    /// Returns the names for the cache at `path`. The directory must exist. Symbolic links are
    /// followed, so that two names of one cache become one.
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
            return Err(ErrorKind::Unsupported {
                what: "a heap here would have the name of another of its cache's files; choose \
                       another `heap_path`",
            }
            .at(names.heap));
        }
        Ok(names)
    }

    /// Returns whether a segment could get the name of another file of the cache.
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

    /// Returns whether a file of one cache could get the name of a file of the other one.
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

    /// Returns the path of the index, which is the cache's.
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

    /// Returns whether the heap has its default path, next to the index, or another one.
    pub(crate) fn heap_home(&self) -> HeapLocation {
        if self.heap == with_suffix(&self.index, ".heap") {
            HeapLocation::NextToIndex
        } else {
            HeapLocation::Elsewhere
        }
    }

    /// Returns the segments of either stage in the heap's directory, by their names alone. This
    /// lists the directory, which may have any number of other files: only for repair and recovery.
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

    /// Returns the numbers of the segments of either stage, from low to high; see
    /// [`Self::segments`].
    pub(crate) fn segment_numbers(&self) -> Result<Vec<u16>> {
        let mut numbers: Vec<u16> = self
            .segments()?
            .into_iter()
            .map(|(number, _)| number)
            .collect();
        numbers.dedup();
        Ok(numbers)
    }

    fn parse_segment(&self, name: &OsStr) -> Option<(u16, Stage)> {
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
        // "01" and "+1" parse too, but no segment has such a name.
        (number > 0 && digits == number.to_string()).then_some((number, stage))
    }

    /// Returns the path of a file in a directory that several machines may have mounted, and advice
    /// for the user. `None` if both directories belong to this machine alone.
    pub(crate) fn shared_by_machines(&self) -> Option<(&Path, &'static str)> {
        let is_one = parent(&self.heap) == parent(&self.index);
        let heap = Some(&self.heap).filter(|_| !is_one);
        [&self.index].into_iter().chain(heap).find_map(|path| {
            let what = files::shared_by_machines(parent(path))?;
            Some((path.as_path(), what))
        })
    }

    /// Fails if a generation switch could not complete, because the index, the roster or one of the
    /// `segments` to remove belongs to another user, in a directory with the sticky bit.
    pub(crate) fn check_replaceable(&self, segments: impl Iterator<Item = u16>) -> Result<()> {
        files::check_removable(&self.index)?;
        files::check_removable(&self.roster(Stage::Final))?;
        for number in segments {
            for stage in [Stage::Final, Stage::New] {
                files::check_removable(&self.segment(number, stage))?;
            }
        }
        Ok(())
    }

    /// Returns whether one of the two directories is on overlayfs.
    pub(crate) fn are_on_overlay(&self) -> bool {
        let on_overlay = |path| files::is_overlay(parent(path));
        on_overlay(&self.index) || on_overlay(&self.heap)
    }

    /// Syncs the directories of the index and of the heap.
    pub(crate) fn sync_dirs(&self) -> Result<()> {
        let index = parent(&self.index);
        let heap = parent(&self.heap);
        files::sync_dir(index)?;
        if heap == index {
            Ok(())
        } else {
            files::sync_dir(heap)
        }
    }

    pub(crate) fn sync_index_dir(&self) -> Result<()> {
        files::sync_dir(parent(&self.index))
    }

    pub(crate) fn sync_heap_dir(&self) -> Result<()> {
        files::sync_dir(parent(&self.heap))
    }
}

/// Returns the file's path with every symbolic link followed. For a file that does not exist yet,
/// follows the links of its directory's path.
fn real_path(path: &Path) -> Result<PathBuf> {
    match fs::canonicalize(path) {
        Ok(real) => return Ok(real),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if files::is_loop(&error) => return Err(files::not_regular(path)),
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

fn staged(path: PathBuf, stage: Stage) -> PathBuf {
    match stage {
        Stage::Final => path,
        Stage::New => with_suffix(&path, ".new"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_names_are_segments() {
        let dir = tempfile::tempdir().unwrap();
        let names = FileNames::resolve(&dir.path().join("c"), None).unwrap();
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
        let straight = FileNames::resolve(&dir.path().join("c"), None).unwrap();
        let detour = FileNames::resolve(&dir.path().join("alias"), None).unwrap();
        assert_eq!(straight, detour);
    }
}
