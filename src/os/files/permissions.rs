//! Who may use a file: its mode, owner, group, and POSIX access control list (ACL).
//!
//! Knows how the rights of one file are repeated on another, not which files there are. Calls the
//! system only.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::error::{Error, Result};
use crate::os::files::acl::{self, Acl};

/// Who may use a file.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    /// The permission bits. Where there is an ACL, the group's bits are its mask.
    pub mode: u32,
    /// Owner and group of the file whose rights these are; none for a new cache.
    owner: Option<(u32, u32)>,
    acl: Option<Acl>,
}

impl Access {
    /// The rights of the first files of a cache.
    pub(crate) fn new(mode: u32) -> Self {
        Self {
            mode,
            owner: None,
            acl: None,
        }
    }

    /// The rights of an existing file, to be repeated on what is created beside it or replaces it.
    pub(crate) fn of(file: &File, path: &Path) -> Result<Self> {
        let meta = file
            .metadata()
            .map_err(Error::io(path, "read the mode of the file"))?;
        let acl = acl::of_file(file).map_err(Error::io(path, "read the ACL of the file"))?;
        Ok(Self {
            mode: meta.mode() & 0o7777,
            owner: Some((meta.uid(), meta.gid())),
            acl,
        })
    }

    /// Gives these rights to a file that was created with mode 0600 a moment ago. Until the last
    /// call here nobody but its creator can open it.
    ///
    /// Only root can give a file to another owner, and others only to a group of theirs. Where
    /// owner or group cannot be kept, nobody gets more rights than before: with an ACL, the previous
    /// owner and group keep theirs by entries of their own; without one, the new group gets the
    /// rights of everybody.
    pub(super) fn grant(&self, file: &File, path: &Path) -> io::Result<()> {
        let Some((owner, group)) = self.owner else {
            return self.grant_new(file, path);
        };
        let meta = file.metadata()?;
        let keeps_group = meta.gid() == group || give(file, None, Some(group))?;
        let keeps_owner = meta.uid() == owner || give(file, Some(owner), None)?;
        let Some(acl) = &self.acl else {
            // The directory's default ACL may have given the new file one.
            acl::remove(file)?;
            let mode = match keeps_group {
                true => self.mode,
                false => (self.mode & !0o070) | ((self.mode & 0o007) << 3),
            };
            return set_mode(file, mode);
        };
        let mut kept = acl.clone();
        if !keeps_group {
            kept.replace_group(group);
        }
        if !keeps_owner {
            kept.replace_owner(owner);
        }
        self.set(file, &kept, || acl.mode_without())
    }

    /// A new cache takes the default ACL of its directory, reduced by the mode that was asked for,
    /// as `open(2)` with this mode would.
    fn grant_new(&self, file: &File, path: &Path) -> io::Result<()> {
        match acl::default_of(crate::os::files::parent(path))? {
            Some(mut inherited) => {
                inherited.restrict(self.mode);
                self.set(file, &inherited, || inherited.mode_without())
            }
            None => set_mode(file, self.mode),
        }
    }

    /// Sets an ACL; where the file system has none, the mode that gives nobody more rights.
    fn set(&self, file: &File, acl: &Acl, without: impl Fn() -> u32) -> io::Result<()> {
        if self.mode & 0o7000 != 0 {
            set_mode(file, (self.mode & 0o7000) | 0o600)?;
        }
        match acl::set(file, acl)? {
            true => Ok(()),
            false => set_mode(file, (self.mode & 0o7000) | without()),
        }
    }
}

fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(mode))
}

/// Whether the file could be given away.
fn give(file: &File, owner: Option<u32>, group: Option<u32>) -> io::Result<bool> {
    match std::os::unix::fs::fchown(file, owner, group) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        Err(error) => Err(error),
    }
}
