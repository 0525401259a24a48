//! POSIX access control lists, as Linux stores them in extended attributes.
//!
//! Knows the attribute's bytes and what each entry grants. Calls the system only.
#![cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "other systems keep their lists in other ways")
)]

use std::fs::File;
use std::io;
use std::path::Path;

#[cfg(target_os = "linux")]
use rustix::fs::{XattrFlags, fgetxattr, fremovexattr, fsetxattr, getxattr};
#[cfg(target_os = "linux")]
use rustix::io::Errno;

/// The version word that the attribute begins with.
const VERSION: u32 = 2;
const ENTRY_BYTES: usize = 8;
/// The id of an entry that names nobody.
const NO_ID: u32 = u32::MAX;
#[cfg(target_os = "linux")]
const ACCESS: &str = "system.posix_acl_access";
#[cfg(target_os = "linux")]
const DEFAULT: &str = "system.posix_acl_default";

/// Whom an entry is about, in the order in which entries are stored.
mod tag {
    pub(super) const OWNER: u16 = 0x01;
    pub(super) const USER: u16 = 0x02;
    pub(super) const OWNING_GROUP: u16 = 0x04;
    pub(super) const GROUP: u16 = 0x08;
    pub(super) const MASK: u16 = 0x10;
    pub(super) const OTHER: u16 = 0x20;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tag: u16,
    perm: u16,
    id: u32,
}

/// An access control list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acl(Vec<Entry>);

impl Acl {
    /// An error where the bytes are not an ACL that Linux would store.
    fn from_bytes(bytes: &[u8]) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let (version, rest) = bytes.split_first_chunk().ok_or_else(invalid)?;
        let (entries, left) = rest.as_chunks::<ENTRY_BYTES>();
        if u32::from_le_bytes(*version) != VERSION || !left.is_empty() {
            return Err(invalid());
        }
        let entries = entries
            .iter()
            .map(|&[t0, t1, p0, p1, i0, i1, i2, i3]| Entry {
                tag: u16::from_le_bytes([t0, t1]),
                perm: u16::from_le_bytes([p0, p1]) & 7,
                id: u32::from_le_bytes([i0, i1, i2, i3]),
            });
        Ok(Self(entries.collect()))
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for entry in &self.0 {
            bytes.extend(entry.tag.to_le_bytes());
            bytes.extend(entry.perm.to_le_bytes());
            bytes.extend(entry.id.to_le_bytes());
        }
        bytes
    }

    /// The rights of the first entry with a tag; none where there is no such entry.
    fn perm(&self, tag: u16) -> u16 {
        let found = self.0.iter().find(|entry| entry.tag == tag);
        found.map_or(0, |entry| entry.perm)
    }

    fn mask(&self) -> u16 {
        let mask = self.0.iter().find(|entry| entry.tag == tag::MASK);
        mask.map_or(7, |entry| entry.perm)
    }

    /// The rights that everybody but the owner has, whichever entry applies.
    fn common(&self) -> u16 {
        let mask = self.mask();
        let groups = self.masked().map(|entry| entry.perm & mask);
        groups.fold(self.perm(tag::OTHER), |all, perm| all & perm)
    }

    /// The entries that the mask reduces.
    fn masked(&self) -> impl Iterator<Item = &Entry> {
        const MASKED: [u16; 3] = [tag::USER, tag::OWNING_GROUP, tag::GROUP];
        self.0.iter().filter(|entry| MASKED.contains(&entry.tag))
    }

    /// The mode of a file that cannot have this ACL: the owner's rights, and for all others only
    /// what each of them has.
    pub(super) fn mode_without(&self) -> u32 {
        let common = u32::from(self.common());
        (u32::from(self.perm(tag::OWNER)) << 6) | (common << 3) | common
    }

    /// Reduces an inherited ACL by the mode that a file is created with.
    pub(super) fn restrict(&mut self, mode: u32) {
        let has_mask = self.0.iter().any(|entry| entry.tag == tag::MASK);
        for entry in &mut self.0 {
            entry.perm &= match entry.tag {
                tag::OWNER => (mode >> 6) as u16,
                tag::MASK => (mode >> 3) as u16,
                tag::OWNING_GROUP if !has_mask => (mode >> 3) as u16,
                tag::OTHER => mode as u16,
                _ => 7,
            } & 7;
        }
    }

    /// For a file whose group is another one: the previous group gets an entry of its own, and the
    /// new one the rights that everybody has.
    pub(super) fn replace_group(&mut self, previous: u32) {
        let (common, perm) = (self.common(), self.perm(tag::OWNING_GROUP));
        for entry in &mut self.0 {
            if entry.tag == tag::OWNING_GROUP {
                entry.perm = common;
            }
        }
        // A member has the rights of all entries that apply, so a second one takes nothing away.
        self.name(tag::GROUP, previous, |there| there | perm);
    }

    /// For a file whose owner is another one: the previous owner gets an entry of its own.
    pub(super) fn replace_owner(&mut self, previous: u32) {
        let perm = self.perm(tag::OWNER);
        self.apply_mask();
        self.name(tag::USER, previous, |_| perm);
        // Each entry is reduced already, so a wider mask gives nobody anything.
        let union = self.masked().fold(0, |all, entry| all | entry.perm);
        for entry in &mut self.0 {
            if entry.tag == tag::MASK {
                entry.perm = union;
            }
        }
    }

    fn apply_mask(&mut self) {
        let mask = self.mask();
        for entry in &mut self.0 {
            if [tag::USER, tag::OWNING_GROUP, tag::GROUP].contains(&entry.tag) {
                entry.perm &= mask;
            }
        }
    }

    /// Adds an entry for a user or a group, or changes the one that is there.
    fn name(&mut self, tag: u16, id: u32, perm: impl Fn(u16) -> u16) {
        let is_it = |entry: &&mut Entry| entry.tag == tag && entry.id == id;
        if let Some(entry) = self.0.iter_mut().find(is_it) {
            entry.perm = perm(entry.perm);
            return;
        }
        let perm = perm(0);
        let at = self.0.partition_point(|entry| entry.tag <= tag);
        self.0.insert(at, Entry { tag, perm, id });
        if !self.0.iter().any(|entry| entry.tag == tag::MASK) {
            let union = self.masked().fold(0, |all, entry| all | entry.perm);
            let at = self.0.partition_point(|entry| entry.tag < tag::MASK);
            let mask = Entry {
                tag: tag::MASK,
                perm: union,
                id: NO_ID,
            };
            self.0.insert(at, mask);
        }
    }
}

/// The ACL of a file; none where it has only a mode, or the file system knows no ACLs.
#[cfg(target_os = "linux")]
pub(super) fn of_file(file: &File) -> io::Result<Option<Acl>> {
    read(|buffer| fgetxattr(file, ACCESS, buffer))
}

/// The ACL that new files in a directory inherit; none where there is none.
#[cfg(target_os = "linux")]
pub(super) fn default_of(dir: &Path) -> io::Result<Option<Acl>> {
    read(|buffer| getxattr(dir, DEFAULT, buffer))
}

#[cfg(target_os = "linux")]
fn read(get: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Option<Acl>> {
    // Linux stores at most this much in one attribute.
    let mut bytes = vec![0; 256];
    loop {
        match get(&mut bytes) {
            Ok(len) => return Acl::from_bytes(&bytes[..len]).map(Some),
            Err(Errno::RANGE) if bytes.len() < 1 << 16 => bytes.resize(1 << 16, 0),
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Gives a file an ACL, and with it its mode, at once. False where the file system knows no ACLs,
/// or not these users.
#[cfg(target_os = "linux")]
pub(super) fn set(file: &File, acl: &Acl) -> io::Result<bool> {
    match fsetxattr(file, ACCESS, &acl.to_bytes(), XattrFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Takes a file's ACL away, so that its mode alone counts.
#[cfg(target_os = "linux")]
pub(super) fn remove(file: &File) -> io::Result<()> {
    match fremovexattr(file, ACCESS) {
        Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn of_file(_file: &File) -> io::Result<Option<Acl>> {
    Ok(None)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn default_of(_dir: &Path) -> io::Result<Option<Acl>> {
    Ok(None)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn set(_file: &File, _acl: &Acl) -> io::Result<bool> {
    Ok(false)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn remove(_file: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16, u32)]) -> Acl {
        let entries = entries
            .iter()
            .map(|&(tag, perm, id)| Entry { tag, perm, id });
        Acl(entries.collect())
    }

    #[test]
    fn acl_bytes_round_trip() {
        let list = acl(&[
            (tag::OWNER, 6, NO_ID),
            (tag::USER, 6, 1234),
            (tag::OWNING_GROUP, 0, NO_ID),
            (tag::MASK, 6, NO_ID),
            (tag::OTHER, 0, NO_ID),
        ]);
        assert_eq!(Acl::from_bytes(&list.to_bytes()).unwrap(), list);
        assert!(Acl::from_bytes(&list.to_bytes()[..7]).is_err());
        assert!(Acl::from_bytes(&[]).is_err());
    }

    /// Who is denied by name gets nothing by the class that is left.
    #[test]
    fn mode_without_grants_the_least() {
        let denied = acl(&[
            (tag::OWNER, 6, NO_ID),
            (tag::USER, 0, 1234),
            (tag::OWNING_GROUP, 6, NO_ID),
            (tag::MASK, 6, NO_ID),
            (tag::OTHER, 4, NO_ID),
        ]);
        assert_eq!(denied.mode_without(), 0o600);
        let named = acl(&[
            (tag::OWNER, 6, NO_ID),
            (tag::USER, 6, 1234),
            (tag::OWNING_GROUP, 4, NO_ID),
            (tag::MASK, 6, NO_ID),
            (tag::OTHER, 4, NO_ID),
        ]);
        assert_eq!(named.mode_without(), 0o644);
    }

    /// The previous owner had more than the mask allows: nobody else gets it.
    #[test]
    fn replaced_owner_widens_no_entry() {
        let mut list = acl(&[
            (tag::OWNER, 6, NO_ID),
            (tag::USER, 6, 1234),
            (tag::OWNING_GROUP, 6, NO_ID),
            (tag::MASK, 4, NO_ID),
            (tag::OTHER, 0, NO_ID),
        ]);
        list.replace_owner(77);
        let expected = acl(&[
            (tag::OWNER, 6, NO_ID),
            (tag::USER, 4, 1234),
            (tag::USER, 6, 77),
            (tag::OWNING_GROUP, 4, NO_ID),
            (tag::MASK, 6, NO_ID),
            (tag::OTHER, 0, NO_ID),
        ]);
        assert_eq!(list, expected);
    }

    #[test]
    fn replaced_group_gets_rights_of_others() {
        let mut list = acl(&[
            (tag::OWNER, 6, NO_ID),
            (tag::USER, 6, 1234),
            (tag::OWNING_GROUP, 6, NO_ID),
            (tag::MASK, 6, NO_ID),
            (tag::OTHER, 4, NO_ID),
        ]);
        list.replace_group(55);
        assert_eq!(list.perm(tag::OWNING_GROUP), 4);
        assert_eq!(list.perm(tag::GROUP), 6);
        assert_eq!(list.0.iter().filter(|entry| entry.id == 55).count(), 1);
    }
}
