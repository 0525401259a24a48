//! Small file systems for the tests, mounted on temporary directories.
//!
//! Mounting needs root. Otherwise a test says that it did not run, and fails if `CI` is set. Knows
//! file systems, not what is tested on them.
#![allow(dead_code, reason = "each test binary uses another part of this")]

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One volume at a time: a child process that another test starts inherits all open files for a
/// moment, so that the room of removed files is free only later.
static ALONE: Mutex<()> = Mutex::new(());

/// A mounted file system, unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Volume {
    dir: tempfile::TempDir,
    /// The image file that is mounted, if there is one.
    image: Option<tempfile::NamedTempFile>,
    mounted: bool,
    _alone: MutexGuard<'static, ()>,
}

/// The kind of file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In memory; without delayed allocation, and reading a hole needs room.
    Tmpfs,
    /// On a loop device, with blocks of this many bytes.
    Ext4(u32),
    /// On a loop device: every change of a file is written to new blocks.
    Btrfs,
    /// On a loop device, at least 300 MB: files may share blocks.
    Xfs,
    /// In memory, without a limit, and without a report of free room.
    Ramfs,
}

impl Kind {
    /// Returns the command that makes such a file system in an image, or `None` if it needs no
    /// image.
    fn maker(self) -> Option<Command> {
        let (program, arguments): (&str, &[&str]) = match self {
            Self::Tmpfs | Self::Ramfs => return None,
            Self::Ext4(_) => ("mkfs.ext4", &["-q", "-F", "-m", "0", "-b"]),
            Self::Btrfs => ("mkfs.btrfs", &["-q", "-f"]),
            Self::Xfs => ("mkfs.xfs", &["-q", "-f"]),
        };
        let mut command = Command::new(program);
        command.args(arguments);
        if let Self::Ext4(block) = self {
            command.arg(block.to_string());
        }
        Some(command)
    }
}

impl Volume {
    pub(crate) fn mount(kind: Kind, bytes: u64) -> Option<Self> {
        let volume = Self::try_mount(kind, bytes);
        if volume.is_none() {
            assert!(
                std::env::var_os("CI").is_none(),
                "CI must be able to mount {kind:?}"
            );
            eprintln!("NOT RUN: mounting {kind:?} needs root and its mkfs");
        }
        volume
    }

    fn try_mount(kind: Kind, bytes: u64) -> Option<Self> {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().expect("a directory to mount on");
        let Some(mut maker) = kind.maker() else {
            let (name, options) = match kind {
                Kind::Ramfs => ("ramfs", "mode=777".to_owned()),
                _ => ("tmpfs", format!("size={bytes},mode=777")),
            };
            let mounted = run(Command::new("mount")
                .args(["-t", name, "-o", &options, "mmapcache-test"])
                .arg(dir.path()));
            let image = None;
            return mounted.then_some(Self {
                dir,
                image,
                mounted,
                _alone,
            });
        };
        // In memory if possible: slow disks do not matter here.
        let image = tempfile::NamedTempFile::new_in("/dev/shm")
            .or_else(|_| tempfile::NamedTempFile::new())
            .expect("a file for the image");
        image.as_file().set_len(bytes).expect("a sparse image");
        let made = run(maker.arg(image.path()));
        let image = Some(image);
        let mut volume = Self {
            dir,
            image,
            mounted: false,
            _alone,
        };
        volume.mounted = made && volume.mount_image();
        volume.mounted.then_some(volume)
    }

    fn mount_image(&self) -> bool {
        let image = self.image.as_ref().expect("an image");
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(image.path())
            .arg(self.path()))
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.path().join("cache")
    }

    /// Mounts the image again, so that the page cache has none of its pages. Does nothing for a
    /// file system in memory.
    pub(crate) fn forget_pages(&self) {
        if self.image.is_some() {
            assert!(run(Command::new("umount").arg(self.path())));
            assert!(self.mount_image());
        }
    }

    /// Makes the file system read-only.
    pub(crate) fn make_read_only(&self) {
        assert!(run(Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(self.path())));
    }

    /// Returns the bytes that can still be allocated.
    pub(crate) fn room(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.path()).expect("the state of the file system");
        stat.f_bavail * stat.f_frsize
    }

    /// Fills all but about `left` bytes with a file that [`Volume::make_room`] removes.
    pub(crate) fn fill(&self, left: u64) {
        let mut ballast = File::options()
            .create(true)
            .append(true)
            .open(self.ballast())
            .expect("room for the ballast's name");
        while self.room() > left {
            let count = (self.room() - left).min(1 << 16) as usize;
            match ballast.write_all(&vec![0xbb; count.min(1024)]) {
                Ok(()) if count > 1024 => {
                    // The next call shows an error.
                    let _ = ballast.write_all(&vec![0xbb; count - 1024]);
                }
                Ok(()) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
                    break;
                }
            }
            match ballast.sync_all() {
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                synced => synced.expect("the ballast on the disk"),
            }
        }
    }

    pub(crate) fn make_room(&self) {
        fs::remove_file(self.ballast()).expect("the ballast");
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Returns names and lengths of all files, sorted.
    pub(crate) fn listing(&self) -> Vec<(String, u64)> {
        listing(self.path())
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.mounted {
            run(Command::new("umount").arg("-l").arg(self.path()));
        }
    }
}

/// An overlayfs with its layers on a tmpfs: `lower` has the files from before the mount.
#[derive(Debug)]
pub(crate) struct Overlay {
    base: Volume,
}

impl Overlay {
    /// Lets `fill` create the files of the lower layer, and mounts the overlay over them.
    pub(crate) fn mount(fill: impl FnOnce(&Path)) -> Option<Self> {
        let base = Volume::mount(Kind::Tmpfs, 256 << 20)?;
        for name in ["lower", "upper", "work", "merged"] {
            fs::create_dir(base.path().join(name)).expect("a directory");
        }
        fill(&base.path().join("lower"));
        let overlay = Self { base };
        let at = |name| overlay.base.path().join(name).display().to_string();
        let (lower, upper, work) = (at("lower"), at("upper"), at("work"));
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        let mounted = run(Command::new("mount")
            .args(["-t", "overlay", "-o", &options, "mmapcache-test"])
            .arg(overlay.path()));
        assert!(mounted, "an overlay, where a tmpfs can be mounted");
        Some(overlay)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.base.path().join("merged")
    }

    /// Whether a file was copied to the upper layer, or created there.
    pub(crate) fn is_upper(&self, name: &str) -> bool {
        self.base.path().join("upper").join(name).exists()
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        run(Command::new("umount").arg("-l").arg(self.path()));
    }
}

/// A FUSE file system: a directory mounted again by `bindfs`.
#[derive(Debug)]
pub(crate) struct Bound {
    mounted: tempfile::TempDir,
    _original: tempfile::TempDir,
}

impl Bound {
    pub(crate) fn mount() -> Option<Self> {
        let original = tempfile::tempdir().expect("a directory");
        let mounted = tempfile::tempdir().expect("a directory");
        let done = run(Command::new("bindfs")
            .arg(original.path())
            .arg(mounted.path()));
        if !done {
            assert!(std::env::var_os("CI").is_none(), "CI must have `bindfs`");
            eprintln!("NOT RUN: FUSE needs root, /dev/fuse and `bindfs`");
            return None;
        }
        Some(Self {
            mounted,
            _original: original,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        self.mounted.path()
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        run(Command::new("umount").arg("-l").arg(self.path()));
    }
}

fn run(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// Returns names and lengths of a directory's files, sorted.
pub(crate) fn listing(dir: &Path) -> Vec<(String, u64)> {
    let mut all: Vec<_> = fs::read_dir(dir)
        .expect("the directory")
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.file_name() != "lost+found")
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let meta = entry.path().symlink_metadata().expect("the kind of a file");
            (name, meta.len())
        })
        .collect();
    all.sort();
    all
}

/// Reads every file from its first byte to its last, a page at a time.
pub(crate) fn read_all(dir: &Path) {
    for (name, _) in listing(dir) {
        let path = dir.join(name);
        if path.is_file() {
            let mut file = File::open(path).expect("a readable file");
            let mut page = [0; 4096];
            while file.read(&mut page).expect("a readable file") > 0 {}
        }
    }
}
