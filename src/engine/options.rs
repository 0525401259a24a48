//! How a cache is opened or created.
//!
//! A builder that looks like `std::fs::OpenOptions`. Knows the ranges of its numbers, not what is
//! done with them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::format::record::Variant;
use crate::format::{Geometry, HashKind, LockKind, MAX_DIRECTORY_BITS};

use crate::cache::MmapCache;

/// What a write survives once it has returned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// The death of any process, at any instruction. A power loss may lose what was not yet written
    /// back; it never makes a value wrong. [`MmapCache::flush`] closes the gap when it is called.
    #[default]
    Process,
    /// A power loss too: each single write, or each batch of a [`Writer`](crate::Writer), is synced
    /// before it returns.
    Sync,
}

/// Options for opening a cache.
///
/// Options that are fixed when a cache is created stand in its files. Opening takes the files' own
/// values; where such an option is set and differs, its setter says what happens.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use mmapcache::Options;
///
/// let cache = Options::new().capacity(50_000).max_entries(1_000_000).open(dir.path().join("thumbnails"))?;
/// assert!(cache.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) create: bool,
    pub(crate) create_new: bool,
    pub(crate) read_only: bool,
    pub(crate) exclusive: bool,
    pub(crate) network: bool,
    pub(crate) mode: u32,
    pub(crate) heap_path: Option<PathBuf>,
    pub(crate) capacity: u64,
    pub(crate) inline_key: Option<u32>,
    pub(crate) region_slots: Option<u32>,
    pub(crate) max_segment_bytes: Option<u64>,
    pub(crate) max_entries: Option<u64>,
    pub(crate) append_only: Option<bool>,
    pub(crate) staleness: Duration,
    /// What a cache is created as.
    pub(crate) variant: Variant,
    pub(crate) verify: bool,
    pub(crate) durability: Durability,
    pub(crate) lock_timeout: Option<Duration>,
    pub(crate) flock: bool,
    pub(crate) clean_percent: u32,
    pub(crate) clean_floor: u64,
    pub(crate) background: bool,
    pub(crate) hash_kind: HashKind,
    pub(crate) directory_bits: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// 24 bytes of key make the body of a slot one cache line of 64 bytes.
    const INLINE_KEY: u32 = 24;
    const REGION_SLOTS: u32 = 512;
    const MAX_SEGMENT_BYTES: u64 = 1 << 30;

    /// The defaults, as the setters name them.
    pub fn new() -> Self {
        Self {
            create: true,
            create_new: false,
            read_only: false,
            exclusive: false,
            network: false,
            mode: 0o600,
            heap_path: None,
            capacity: 0,
            inline_key: None,
            region_slots: None,
            max_segment_bytes: None,
            max_entries: None,
            append_only: None,
            staleness: Duration::from_millis(250),
            variant: Variant::Versioned,
            verify: true,
            durability: Durability::Process,
            lock_timeout: Some(Duration::from_secs(60)),
            flock: false,
            clean_percent: 100,
            clean_floor: 4 << 20,
            background: true,
            hash_kind: HashKind::Xxh3,
            directory_bits: MAX_DIRECTORY_BITS,
        }
    }

    /// Whether a cache is created where there is none. Default: true. Ignored with
    /// [`Options::read_only`].
    pub fn create(&mut self, create: bool) -> &mut Self {
        self.create = create;
        self
    }

    /// Whether there must be no cache yet: opening one is [`Error::AlreadyExists`]. Default: false.
    pub fn create_new(&mut self, create_new: bool) -> &mut Self {
        self.create_new = create_new;
        self
    }

    /// Whether the handle only reads: it creates nothing, repairs nothing, takes no lock, and needs
    /// no permission to write. Default: false.
    pub fn read_only(&mut self, read_only: bool) -> &mut Self {
        self.read_only = read_only;
        self
    }

    /// Whether the handle holds the writer lock for its whole life, which makes single writes
    /// cheaper: other handles can read, and get [`Error::Locked`] when they write. Default: false.
    pub fn exclusive(&mut self, exclusive: bool) -> &mut Self {
        self.exclusive = exclusive;
        self
    }

    /// Whether a file system is accepted that several machines may have mounted: network and cluster
    /// file systems, folders shared with a host, and FUSE, which does not say what is below it
    /// (sshfs and virtiofs, but also ntfs-3g or mergerfs). Mappings and locks are not shared between
    /// machines, nor between two FUSE mounts, so this is right only where a single machine uses the
    /// cache through a single mount. Counts for the directory of the heap as well. Default: false.
    pub fn allow_network(&mut self, allow: bool) -> &mut Self {
        self.network = allow;
        self
    }

    /// The mode of files that are created, whatever the umask. An existing cache keeps its files'
    /// mode, owner and group, through rebuilds too, as far as the system lets the writer give files
    /// away: where the group cannot be kept, the new one gets no more rights than everybody. A POSIX
    /// ACL of the index is kept in the same way. A directory's default ACL applies to a new cache,
    /// reduced by this mode. Default: `0o600`.
    pub fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = mode;
        self
    }

    /// Where the heap's segments stand, if not beside the index as `PATH.heap`. It is not written
    /// down in the files: every handle must be given the same. Without it, or while its disk is not
    /// mounted, opening for writing is [`Error::HeapMissing`], and a handle that only reads misses
    /// what it asks for. Segments get the path's name and
    /// numbers behind it; a path by which one of them could become another of the cache's files is
    /// [`Error::Unsupported`]. Default: beside the index.
    pub fn heap_path(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.heap_path = Some(path.into());
        self
    }

    /// Entries to make room for at once, on the disk too. The cache grows beyond it by itself. Only
    /// looked at when a cache is created, cleared or rebuilt. More than the disk has room for is
    /// [`Error::DiskFull`] then, and more than there can be (1,048,576 times
    /// [`Options::region_slots`]) [`Error::Option`]; nothing is allocated. Default: 0, the smallest
    /// cache.
    pub fn capacity(&mut self, entries: u64) -> &mut Self {
        self.capacity = entries;
        self
    }

    /// Bytes of each key that the index itself holds, a multiple of 8 up to 1,024: keys that fit
    /// are listed and looked for without touching the heap. A slot takes 48 bytes more than this.
    /// Keys may be longer: nothing is cut off. Fixed at creation; another value than the file's is
    /// [`Error::Mismatch`]. Default: 24, or the file's.
    pub fn inline_key_bytes(&mut self, bytes: u32) -> &mut Self {
        self.inline_key = Some(bytes);
        self
    }

    /// Slots in a region, the unit by which the index grows: a power of two from 16 to 1,024. What a
    /// cache is created with is the least: one that is large enlarges its regions by itself. A value
    /// above the file's is [`Error::Mismatch`], a smaller one is taken for what it was created with.
    /// Default: 512, or the file's.
    pub fn region_slots(&mut self, slots: u32) -> &mut Self {
        self.region_slots = Some(slots);
        self
    }

    /// The most that one heap segment may hold, and with it the longest value, which has a
    /// sixteenth less, or 4 KiB: 16 KiB to 16 GiB. A segment grows beyond it only for a key that
    /// needs it. Fixed at creation; another value than the file's is [`Error::Mismatch`]. Default:
    /// 1 GiB, or the file's.
    pub fn max_segment_bytes(&mut self, bytes: u64) -> &mut Self {
        self.max_segment_bytes = Some(bytes);
        self
    }

    /// The most entries that the cache may hold: an insertion beyond it is [`Error::TableFull`],
    /// while updates and deletions go on. 0 is no limit. Fixed at creation; another value than the
    /// file's is [`Error::Mismatch`]. Default: no limit, or the file's.
    pub fn max_entries(&mut self, entries: u64) -> &mut Self {
        self.max_entries = Some(entries);
        self
    }

    /// Whether what is put stays as it is: new keys may be put, and whatever would overwrite an
    /// entry, delete, clear or rebuild is [`Error::AppendOnly`] and changes nothing, in this handle
    /// and in every other one. Only an entry that damage has taken may be put again. Fixed at
    /// creation; another value than the file's is [`Error::Mismatch`]. Default: `false`, or the
    /// file's.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use mmapcache::{Error, MmapCache, Options};
    ///
    /// let path = dir.path().join("ledger");
    /// let ledger = Options::new().append_only(true).open(&path)?;
    /// ledger.put(b"2026-11-21", b"what was paid")?;
    /// assert!(matches!(ledger.put(b"2026-11-21", b"less"), Err(Error::AppendOnly { .. })));
    /// assert!(matches!(MmapCache::open(&path)?.clear(), Err(Error::AppendOnly { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn append_only(&mut self, append_only: bool) -> &mut Self {
        self.append_only = Some(append_only);
        self
    }

    /// How often misses and writes look whether the files were removed or replaced by hand, which
    /// no mark inside them can tell. What was put in their place is opened. Of what was only removed
    /// a handle goes on reading what it has mapped, until the next write makes a new cache at the
    /// path: the segments that it has read from, or written to; entries in others are misses. Files that are changed
    /// in place, by copying over them, are damaged. Of a thread's misses in a row the first and then
    /// every thirteenth looks at the clock, unless the interval is zero: then each looks at the
    /// files. Concerns this handle only. Default: 0.25 s.
    pub fn staleness_check_interval(&mut self, interval: Duration) -> &mut Self {
        self.staleness = interval;
        self
    }

    /// Whether reads verify the checksum of what they return. Without it a damaged value is
    /// returned as it is; keys are compared all the same. Concerns this handle only. Default: true.
    pub fn verify_checksums(&mut self, verify: bool) -> &mut Self {
        self.verify = verify;
        self
    }

    /// What a write survives once it has returned. Concerns this handle only. Default:
    /// [`Durability::Process`].
    pub fn durability(&mut self, durability: Durability) -> &mut Self {
        self.durability = durability;
        self
    }

    /// How long a write waits for another writer before it fails with [`Error::Locked`], and
    /// opening for somebody who is creating the cache; `None` waits for ever. Concerns this handle
    /// only. Default: 60 s.
    pub fn lock_timeout(&mut self, timeout: Option<Duration>) -> &mut Self {
        self.lock_timeout = timeout;
        self
    }

    /// Creates the cache with the lock that every Unix has, `flock`, in place of a word in the index
    /// that costs no system call: for file systems on which locks of byte ranges do not work. A
    /// cache that is there already keeps the lock it has. Default: `false`; where the system lacks
    /// the means for the word, a cache is made with `flock` all the same.
    pub fn lock_by_flock(&mut self, by_flock: bool) -> &mut Self {
        self.flock = by_flock;
        self
    }

    /// When writes begin to reclaim the heap: as soon as its dead bytes exceed `floor` plus this
    /// percentage of the live ones, and before a full disk makes them fail. Concerns this handle's
    /// writes only. Default: 100 % and 4 MiB.
    ///
    /// If the entries that are overwritten or replaced are of similar sizes, the dead bytes then stay
    /// below twice this threshold and one segment, which is at most a quarter of the live bytes.
    /// Deleting many entries leaves more, which the writes that follow reclaim. The lower the
    /// threshold, the more a write does: for each byte that it appends it reads `live / threshold + 1`
    /// bytes of the heap and moves what is live of them; at least 4, at most 101, so a threshold
    /// below 1 % of the live bytes is not kept. In a cache that was flushed, up to half of the live
    /// bytes and 64 MiB may wait for the disk beside that.
    pub fn clean_when(&mut self, percent_of_live: u32, floor: u64) -> &mut Self {
        self.clean_percent = percent_of_live;
        self.clean_floor = floor;
        self
    }

    /// Whether writes may hand work to a short-lived thread: to give back the blocks of a heap
    /// segment that was removed, and in a cache that was flushed to sync the heap before one is.
    /// Without it the write that finishes a segment, one in so many thousands, does that itself: on
    /// some disks this takes tenths of a second. Such a thread takes no lock and stores nothing but
    /// that a sync failed. Concerns this handle only. Default: true.
    pub fn background(&mut self, allowed: bool) -> &mut Self {
        self.background = allowed;
        self
    }

    /// Gives a cache that is created a directory of at most two to the power of `bits` entries and,
    /// where it `collides`, a hash of five bits: every rare path becomes common.
    #[cfg(fuzzing)]
    #[doc(hidden)]
    pub fn narrow(&mut self, bits: u32, collides: bool) -> &mut Self {
        self.directory_bits = bits;
        if collides {
            self.hash_kind = HashKind::Colliding;
        }
        self
    }

    /// Opens the cache at `path`, or creates it.
    ///
    /// Costs some system calls, and to write four more for each heap segment, whatever else is in the
    /// directory. Only after a power loss with
    /// unsynced writes, and where the files are a copy, is the heap read once.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::AlreadyExists`], [`Error::WrongMagic`], [`Error::Version`],
    /// [`Error::Mismatch`], [`Error::Option`], [`Error::Damaged`], [`Error::DiskFull`],
    /// [`Error::HeapMissing`] unless the handle only reads, [`Error::Unsupported`] on a file system
    /// that several machines may have mounted, [`Error::Locked`] with
    /// [`Options::exclusive`] or while somebody else creates the cache, [`Error::Io`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<MmapCache> {
        MmapCache::open_with(path.as_ref(), self)
    }

    pub(crate) fn lock_kind(&self) -> LockKind {
        if self.flock {
            LockKind::Flock
        } else {
            LockKind::Word
        }
    }

    /// The geometry of a cache that is created with these options.
    pub(crate) fn geometry(&self, path: &Path) -> Result<Geometry> {
        let geometry = Geometry {
            region_slots: self.region_slots.unwrap_or(Self::REGION_SLOTS),
            inline_key: match self.variant {
                Variant::Versioned => self.inline_key.unwrap_or(Self::INLINE_KEY),
                Variant::Numbered => 0,
            },
            directory_bits: self.directory_bits,
            max_segment_bytes: self.max_segment_bytes.unwrap_or(Self::MAX_SEGMENT_BYTES),
            max_entries: self.max_entries.unwrap_or(0),
            append_only: self.append_only == Some(true) && self.variant == Variant::Versioned,
            variant: self.variant,
        };
        let refused = |option, asked, range| {
            Err(Error::Option {
                path: path.to_owned(),
                option,
                asked,
                range,
            })
        };
        match geometry.fault() {
            None => Ok(geometry),
            Some("slots per region") => refused(
                "region_slots",
                geometry.region_slots.into(),
                "a power of two from 16 to 1,024",
            ),
            Some("inline key bytes") => refused(
                "inline_key_bytes",
                geometry.inline_key.into(),
                "a multiple of 8 up to 1,024",
            ),
            Some(_) => refused(
                "max_segment_bytes",
                geometry.max_segment_bytes,
                "16 KiB to 16 GiB",
            ),
        }
    }

    /// The capacity that was asked for, if a table of this geometry can have so many slots.
    pub(crate) fn capacity_within(&self, geometry: &Geometry, path: &Path) -> Result<u64> {
        let most = u64::from(geometry.region_slots) << geometry.directory_bits;
        if self.capacity <= most {
            return Ok(self.capacity);
        }
        Err(Error::Option {
            path: path.to_owned(),
            option: "capacity",
            asked: self.capacity,
            range: "at most 1,048,576 times `region_slots`",
        })
    }

    /// Compares what was asked for with what a file has.
    pub(crate) fn accept(&self, found: &Geometry, path: &Path) -> Result<()> {
        let fixed = [
            (
                "region_slots",
                self.region_slots.map(u64::from),
                u64::from(found.region_slots),
            ),
            (
                "inline_key_bytes",
                self.inline_key.map(u64::from),
                u64::from(found.inline_key),
            ),
            (
                "max_segment_bytes",
                self.max_segment_bytes,
                found.max_segment_bytes,
            ),
            ("max_entries", self.max_entries, found.max_entries),
            (
                "append_only",
                self.append_only.map(u64::from),
                found.is_append_only().into(),
            ),
        ];
        let numbered = Variant::Numbered;
        if self.variant == numbered && found.variant != numbered {
            return Err(Error::Mismatch {
                path: path.to_owned(),
                option: "record variant",
                asked: numbered.to_disk().into(),
                found: found.variant.to_disk().into(),
            });
        }
        for (option, asked, found) in fixed {
            // A cache outgrows its regions by itself, so what it was created with may be less than
            // what it has.
            let outgrown = option == "region_slots" && asked.is_some_and(|asked| asked < found);
            if let Some(asked) = asked.filter(|&asked| asked != found && !outgrown) {
                return Err(Error::Mismatch {
                    path: path.to_owned(),
                    option,
                    asked,
                    found,
                });
            }
        }
        Ok(())
    }
}
