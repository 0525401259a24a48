//! File systems on which a cache cannot rely on mappings and locks: shared by several machines, or
//! overlayfs.
//!
//! Recognizes a file system by the number that `statfs(2)` reports. May call `os::files`.

use std::fs::File;
#[cfg(target_os = "linux")]
use std::fs::Metadata;
#[cfg(target_os = "linux")]
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The start of the message about a file system that several machines may have mounted.
#[cfg(any(target_os = "linux", test))]
macro_rules! refused {
    ($name:literal) => {
        concat!(
            "on ",
            $name,
            ", a network or cluster file system, whose mappings and locks machines do not share; \
             move the cache to a local one, or, if one machine alone uses it, open it with \
             `allow_network_fs(true)`"
        )
    };
}

#[cfg(any(target_os = "linux", test))]
const FUSE: &str = "on FUSE, whose program (sshfs, s3fs, glusterfs, virtiofs, but also ntfs-3g or \
                    mergerfs) the system cannot tell apart: machines may share it, and not its \
                    mappings and locks; move the cache to another file system, or, if one mount on \
                    one machine alone uses it, open it with `allow_network_fs(true)`";

/// File systems that several machines can have mounted at once: the number and the message. As of
/// Linux 6.18 (`linux/magic.h`, November 2026) and, for modules outside the kernel, what
/// distributors and vendors document.
#[cfg(any(target_os = "linux", test))]
const SHARED: [(u32, &str); 26] = [
    (0x0000_6969, refused!("NFS")),
    (0x0000_517b, refused!("SMB")),
    (0xff53_4d42, refused!("CIFS")),
    (0xfe53_4d42, refused!("SMB2")),
    (0x5346_414f, refused!("AFS")),
    (0x6b41_4653, refused!("AFS (kAFS)")),
    (0x7375_7245, refused!("Coda")),
    (0x0000_564c, refused!("NCP")),
    (0x0102_1997, refused!("9P")),
    (0x00c3_6400, refused!("Ceph")),
    (0x6573_5546, FUSE),
    (0x0116_1970, refused!("GFS2")),
    (0x7461_636f, refused!("OCFS2")),
    (0x2003_0528, refused!("OrangeFS")),
    (0x0bd0_0bd0, refused!("Lustre")),
    (0x4750_4653, refused!("GPFS")),
    (0x1983_0326, refused!("BeeGFS")),
    (0xaad7_aaea, refused!("PanFS")),
    (0xbeef_dead, refused!("StorNext (SNFS)")),
    (0x6163_6673, refused!("ACFS")),
    (0x0131_11a8, refused!("IBRIX")),
    // It may be mounted by one machine or by a cluster, and does not report which.
    (0xa501_fcf5, refused!("VxFS")),
    // Folders that a virtual machine shares with its host.
    (
        0xbacb_acbc,
        refused!("vmhgfs, a folder shared with the host"),
    ),
    (
        0x786f_4256,
        refused!("vboxsf, a folder shared with the host"),
    ),
    (
        0x7c7c_6673,
        refused!("prl_fs, a folder shared with the host"),
    ),
    (
        0x00c0_ffee,
        refused!("hostfs, a folder shared with the host"),
    ),
];

#[cfg(target_os = "linux")]
const OVERLAY: u32 = 0x794c_7630;

/// Returns why several machines could share a cache in a directory, and advice for the user. `None`
/// if the file system belongs to this machine alone, or if the system does not report it.
#[cfg(target_os = "linux")]
pub(crate) fn shared_by_machines(dir: &Path) -> Option<&'static str> {
    #[cfg(test)]
    if let Some(kind) = pretended(dir) {
        return message(kind);
    }
    let stat = rustix::fs::statfs(dir).ok()?;
    message(stat.f_type as u32)
}

#[cfg(any(target_os = "linux", test))]
fn message(kind: u32) -> Option<&'static str> {
    let found = SHARED.iter().find(|(number, _)| *number == kind);
    found.map(|&(_, message)| message)
}

/// The same; not known on this platform.
#[cfg(not(target_os = "linux"))]
pub(crate) fn shared_by_machines(_dir: &Path) -> Option<&'static str> {
    None
}

/// Returns whether a directory is on overlayfs, which replaces an open file with another one when a
/// process opens it for writing: mappings of the first file do not change then.
#[cfg(target_os = "linux")]
pub(crate) fn is_overlay(dir: &Path) -> bool {
    rustix::fs::statfs(dir).is_ok_and(|stat| stat.f_type as u32 == OVERLAY)
}

/// The same; there is no overlayfs on this platform.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_overlay(_dir: &Path) -> bool {
    false
}

/// Returns a file that was opened for reading, and the bytes of it that a mapping has. `None` if the
/// file is not on overlayfs: then a mapping has all bytes of the file.
///
/// On overlayfs an open file reports the size of its copy in the upper layer, as soon as there is
/// one, while a mapping stays that of the lower file, and a read after its end raises SIGBUS. So the
/// size is read before the file is opened; no file of a cache is ever made shorter (M2).
#[cfg(target_os = "linux")]
pub(crate) fn pinned(file: File, path: &Path) -> (File, Option<u64>) {
    let on_overlay = rustix::fs::fstatfs(&file).is_ok_and(|stat| stat.f_type as u32 == OVERLAY);
    if !on_overlay {
        return (file, None);
    }
    let identity = |meta: &Metadata| (meta.dev(), meta.ino());
    let before = path.symlink_metadata().ok();
    let opened = crate::os::files::open(path, false).ok();
    let is_same = |again: &File| {
        let (now, first) = (again.metadata().ok(), file.metadata().ok());
        let all = [now.as_ref(), first.as_ref(), before.as_ref()].map(|meta| meta.map(identity));
        all[0] == all[1] && all[1] == all[2]
    };
    match (before.as_ref(), opened.filter(is_same)) {
        (Some(meta), Some(again)) => (again, Some(meta.len())),
        // Renamed or removed since: no process writes to it any more, or it was written before.
        _ => {
            let len = file.metadata().map_or(0, |meta| meta.len());
            (file, Some(len))
        }
    }
}

/// The same; there is no overlayfs on this platform.
#[cfg(not(target_os = "linux"))]
pub(crate) fn pinned(file: File, _path: &Path) -> (File, Option<u64>) {
    (file, None)
}

// The file system that a directory is on, as far as this thread's tests are concerned.
#[cfg(all(test, target_os = "linux"))]
thread_local! {
    pub(crate) static PRETENDED: std::cell::RefCell<Option<(std::path::PathBuf, u32)>> =
        const { std::cell::RefCell::new(None) };
}

#[cfg(all(test, target_os = "linux"))]
fn pretended(dir: &Path) -> Option<u32> {
    PRETENDED.with_borrow(|pretended| {
        let (of, kind) = pretended.as_ref()?;
        (of == dir).then_some(*kind)
    })
}
