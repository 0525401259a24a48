//! The directories of one cache, and of images of it.
//!
//! Knows where files are and how the cache is opened, not what it contains.

use crate::engine::tests::power::disk::Image;
use crate::engine::tests::power::*;

/// The directories of one cache: one for the index, and the same or the other for the heap.
pub(super) struct CacheDir {
    pub(super) temp: tempfile::TempDir,
    pub(super) kind: Kind,
}

impl CacheDir {
    pub(super) fn new(kind: Kind) -> Self {
        let dir = Self {
            temp: in_memory(),
            kind,
        };
        for part in dir.dirs() {
            std::fs::create_dir(part).unwrap();
        }
        dir
    }

    pub(super) fn dirs(&self) -> [PathBuf; 2] {
        ["a", "b"].map(|name| self.temp.path().join(name))
    }

    pub(super) fn path(&self) -> PathBuf {
        self.temp.path().join("a/cache")
    }

    pub(super) fn options(&self) -> Options {
        let mut options = tiny();
        options.directory_bits = 3;
        options
            .exclusive(self.kind.exclusive)
            .in_place(self.kind.in_place);
        if self.kind.durable {
            options.durability(Durability::Sync);
        }
        if self.kind.heap_elsewhere {
            options.heap_path(self.temp.path().join("b/heap"));
        }
        options
    }

    pub(super) fn open(&self) -> MmapCache {
        self.options().open(self.path()).unwrap()
    }

    /// Writes an image to new directories as another boot finds it: in the same inodes.
    pub(super) fn restore(kind: Kind, root: &Path, image: &Image) -> Self {
        Self::copy_with(kind, root, image, boot_again)
    }

    /// Writes an image to new directories unchanged.
    pub(super) fn copy(kind: Kind, root: &Path, image: &Image) -> Self {
        Self::copy_with(kind, root, image, |_, _, _| {})
    }

    fn copy_with(
        kind: Kind,
        root: &Path,
        image: &Image,
        change_index: impl Fn(&mut [u8], u64, u64),
    ) -> Self {
        let dir = Self::new(kind);
        for (path, contents) in &image.files {
            let path = dir.temp.path().join(path.strip_prefix(root).unwrap());
            let mut bytes = contents.bytes.clone();
            let file = std::fs::File::create_new(&path).unwrap();
            let inode = std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap());
            if path == dir.path() {
                change_index(&mut bytes, contents.inode, inode);
            }
            std::fs::write(&path, &bytes).unwrap();
        }
        dir
    }
}

/// How a cache and all of its images are used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) durable: bool,
    pub(super) heap_elsewhere: bool,
    pub(super) exclusive: bool,
    /// Whether records are overwritten where they are.
    pub(super) in_place: bool,
}

pub(super) const PLAIN: Kind = Kind {
    durable: false,
    heap_elsewhere: false,
    exclusive: false,
    in_place: false,
};

pub(super) const IN_PLACE: Kind = Kind {
    in_place: true,
    ..PLAIN
};

fn boot_again(bytes: &mut [u8], old: u64, new: u64) {
    if let Some(boot) = bytes.get_mut(8 * word::BOOT_ID..8 * word::BOOT_ID + 16) {
        boot.fill(0x5a);
    }
    if let Some(inode) = bytes.get_mut(8 * word::INODE..8 * word::INODE + 8)
        && inode == old.to_le_bytes()
    {
        inode.copy_from_slice(&new.to_le_bytes());
        // An image must not look like a copy, though its files were just created.
        for (at, value) in [(word::BORN, 0), (word::VISITED, 1_u64 << 62)] {
            if let Some(word) = bytes.get_mut(8 * at..8 * at + 8) {
                word.copy_from_slice(&value.to_le_bytes());
            }
        }
    }
}
