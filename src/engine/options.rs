//! Options of a cache: a builder in the manner of `std::fs::OpenOptions`.
//!
//! Checks the ranges of its values; the engine acts on them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Corruption, ErrorKind, Result};
use crate::format::record::Variant;
use crate::format::{Geometry, HashKind, MAX_DIRECTORY_BITS};

use crate::mmap_cache::MmapCache;

pub use crate::format::LockKind;

/// What a completed write survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// The death of any process, at any instruction. A power loss may lose writes that the system has
    /// not yet written back; it never makes a value wrong. [`MmapCache::flush`] syncs everything
    /// written before it.
    #[default]
    Process,
    /// A power loss too: each single write, or each batch of a [`Writer`](crate::Writer), is synced
    /// before it returns.
    Sync,
}

/// Options for opening or creating a cache.
///
/// Options that are fixed at creation are stored in the cache's files; opening takes the stored
/// values. If such an option is set and differs from the stored value, its setter says what happens.
/// Setters never fail: [`open`](Options::open) reports a value outside its range as
/// [`ErrorKind::InvalidOption`].
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
    pub(crate) raw: bool,
    pub(crate) mode: u32,
    pub(crate) heap_path: Option<PathBuf>,
    pub(crate) capacity: u64,
    pub(crate) region_slots: Option<u32>,
    pub(crate) max_segment_bytes: Option<u64>,
    /// The largest segment of a cache that is created, if none is set.
    pub(crate) segment_bytes_of_new: u64,
    pub(crate) max_entries: Option<u64>,
    pub(crate) append_only: Option<bool>,
    pub(crate) in_place: Option<bool>,
    pub(crate) staleness: Duration,
    /// The record variant of a cache that is created.
    pub(crate) variant: Variant,
    pub(crate) verify: bool,
    pub(crate) durability: Durability,
    pub(crate) lock_timeout: Option<Duration>,
    pub(crate) lock: LockKind,
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
    /// The default for new caches.
    const MAX_SEGMENT_BYTES: u64 = 1 << 30;

    /// Returns the default options; each setter states its default.
    pub fn new() -> Self {
        Self {
            create: true,
            create_new: false,
            read_only: false,
            exclusive: false,
            network: false,
            raw: false,
            mode: 0o600,
            heap_path: None,
            capacity: 0,
            region_slots: None,
            max_segment_bytes: None,
            segment_bytes_of_new: Self::MAX_SEGMENT_BYTES,
            max_entries: None,
            append_only: None,
            in_place: None,
            staleness: Duration::from_millis(250),
            variant: Variant::Versioned,
            verify: true,
            durability: Durability::Process,
            lock_timeout: Some(Duration::from_secs(60)),
            lock: LockKind::Word,
            clean_percent: 100,
            clean_floor: 4 << 20,
            background: true,
            hash_kind: HashKind::Xxh3,
            directory_bits: MAX_DIRECTORY_BITS,
        }
    }

    /// Sets whether [`open`](Self::open) creates a missing cache. Ignored with
    /// [`read_only`](Self::read_only). Default: true.
    pub fn create(&mut self, create: bool) -> &mut Self {
        self.create = create;
        self
    }

    /// Sets whether [`open`](Self::open) fails with [`ErrorKind::AlreadyExists`] if the cache exists.
    /// Default: false.
    pub fn create_new(&mut self, create_new: bool) -> &mut Self {
        self.create_new = create_new;
        self
    }

    /// Sets whether the handle only reads: it creates nothing, repairs nothing, takes no lock, and needs
    /// no permission to write. Default: false.
    pub fn read_only(&mut self, read_only: bool) -> &mut Self {
        self.read_only = read_only;
        self
    }

    /// Sets whether the handle holds the writer lock for its whole life, which makes single writes
    /// cheaper. Other handles can read; their writes fail with [`ErrorKind::Locked`]. Default: false.
    pub fn exclusive(&mut self, exclusive: bool) -> &mut Self {
        self.exclusive = exclusive;
        self
    }

    /// Allows file systems that several machines may have mounted: network and cluster file systems,
    /// folders shared with a host, and FUSE, which does not tell what is below it (sshfs and virtiofs,
    /// but also ntfs-3g or mergerfs). Machines do not share mappings and locks, nor do two FUSE mounts:
    /// allow them only if a single machine uses the cache through a single mount. Applies to the
    /// directory of the heap as well. Default: false.
    pub fn allow_network_fs(&mut self, allow: bool) -> &mut Self {
        self.network = allow;
        self
    }

    /// Sets whether [`open`](Self::open) accepts the files of a [`Cache`](crate::Cache), as they are: for
    /// tools that check, copy and repair. Expired entries are returned like others, negative ones with
    /// an empty value, and a put stores an entry without a deadline. If not, such files are
    /// [`ErrorKind::OtherType`]. Has no effect on `Cache` and [`Labels`](crate::Labels). Default: false.
    pub fn raw(&mut self, raw: bool) -> &mut Self {
        self.raw = raw;
        self
    }

    /// Sets the mode of files that are created, regardless of the umask. An existing cache keeps the
    /// mode, owner, group and POSIX ACL of its index, through rebuilds too, as far as the system lets
    /// the writer set them: if the group cannot be kept, the new group gets no more rights than
    /// other users have. A directory's default ACL applies to a new cache, reduced by this mode. Default:
    /// `0o600`.
    pub fn file_mode(&mut self, mode: u32) -> &mut Self {
        self.mode = mode;
        self
    }

    /// Sets the path of the heap's segments; each has this path and a number appended. The files do not
    /// store it: every handle must set the same path. Without it, or while its disk is not mounted,
    /// opening for writing fails with [`ErrorKind::HeapMissing`], and lookups of a read-only handle are
    /// misses. A path under which a segment could have the name of another file of the cache is
    /// [`ErrorKind::Unsupported`]. Default: `PATH.heap`, beside the index.
    pub fn heap_path(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.heap_path = Some(path.into());
        self
    }

    /// Sets for how many entries to reserve room, on the disk too, when the cache is created, cleared or
    /// rebuilt. The cache grows beyond it by itself. If the disk lacks the room, that call fails with
    /// [`ErrorKind::DiskFull`]; more than 1,048,576 times [`region_slots`](Self::region_slots) is
    /// [`ErrorKind::InvalidOption`]. Default: 0, the smallest cache.
    pub fn capacity(&mut self, entries: u64) -> &mut Self {
        self.capacity = entries;
        self
    }

    /// Sets the slots of a region, the unit (bucket) by which the index grows: a power of two from 16 to
    /// 1,024. A large cache enlarges its regions by itself, so this is a minimum: a value above the
    /// stored one is [`ErrorKind::OptionMismatch`], a smaller one is ignored. Default: the stored value;
    /// a new cache without a [`capacity`](Self::capacity) has 16, and 512 from some 200 entries on.
    pub fn region_slots(&mut self, slots: u32) -> &mut Self {
        self.region_slots = Some(slots);
        self
    }

    /// Sets the largest size of a heap segment: 16 KiB to 16 GiB. It limits the length of a value to
    /// this size less a sixteenth, or less 4 KiB if that is more. A segment exceeds it only for a key
    /// that needs it. Fixed at creation; a value that differs from the stored one is
    /// [`ErrorKind::OptionMismatch`]. Default: 1 GiB, or the stored value.
    pub fn max_segment_bytes(&mut self, bytes: u64) -> &mut Self {
        self.max_segment_bytes = Some(bytes);
        self
    }

    /// Sets the largest number of entries; 0 means no limit. Inserting a new key beyond it fails with
    /// [`ErrorKind::TableFull`]; updates and deletions still work. Fixed at creation; a value that
    /// differs from the stored one is [`ErrorKind::OptionMismatch`]. Default: no limit, or the stored
    /// value.
    pub fn max_entries(&mut self, entries: u64) -> &mut Self {
        self.max_entries = Some(entries);
        self
    }

    /// Sets whether entries can only be added: overwriting, deleting, clearing and rebuilding fail with
    /// [`ErrorKind::AppendOnly`] and change nothing, through every handle. Only a damaged entry can be
    /// put again. Fixed at creation; a value that differs from the stored one is
    /// [`ErrorKind::OptionMismatch`]. Default: `false`, or the stored value.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use mmapcache::{ErrorKind, MmapCache, Options};
    ///
    /// let path = dir.path().join("ledger");
    /// let ledger = Options::new().append_only(true).open(&path)?;
    /// ledger.put(b"2026-11-21", b"paid 12.50")?;
    /// let refused = ledger.put(b"2026-11-21", b"paid 2.50").unwrap_err();
    /// assert!(matches!(refused.kind(), ErrorKind::AppendOnly));
    /// let refused = MmapCache::open(&path)?.clear().unwrap_err();
    /// assert!(matches!(refused.kind(), ErrorKind::AppendOnly));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn append_only(&mut self, append_only: bool) -> &mut Self {
        self.append_only = Some(append_only);
        self
    }

    /// Sets whether a value may be replaced where it is, if the new one takes as much room: then
    /// overwriting leaves no dead records behind, and needs no cleaning. Fixed at creation; a value that
    /// differs from the stored one is [`ErrorKind::OptionMismatch`]. Default: `false`, or the stored value.
    ///
    /// That happens to records of at most 768 bytes with key and value, rounded up to eight, that were
    /// written since the last flush, backup or enlargement of the index; all others are replaced as
    /// without the option. What changes:
    ///
    /// - A value that was not synced may be lost by a power loss though an older one, which was not
    ///   synced either, had reached the disk. What was synced is there, as ever.
    /// - A program that copies the files of a cache in use may copy an entry half replaced, which the
    ///   copy then lacks. [`backup`](MmapCache::backup) does not; it takes the writer lock for a moment,
    ///   and needs a handle that may write.
    /// - [`get_ref`](MmapCache::get_ref) is [`ErrorKind::Unsupported`].
    /// - Checksums are always verified; see [`verify_checksums`](Self::verify_checksums).
    /// - Older releases refuse the files.
    ///
    /// Not for a [`Cache`](crate::Cache), or together with [`append_only`](Self::append_only): that is
    /// [`ErrorKind::InvalidOption`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use mmapcache::Options;
    ///
    /// let counters = Options::new().in_place(true).open(dir.path().join("counters"))?;
    /// counters.put(b"visits", 0_u64.to_le_bytes())?;
    /// let before = counters.stats()?.heap_bytes;
    /// for number in 1..1000_u64 {
    ///     counters.put(b"visits", number.to_le_bytes())?;
    /// }
    /// assert_eq!(counters.stats()?.heap_bytes, before);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn in_place(&mut self, in_place: bool) -> &mut Self {
        self.in_place = Some(in_place);
        self
    }

    /// Sets how often misses and writes check whether the files were removed or replaced by other
    /// programs, which no mark inside the files can tell. The handle opens files that were put in their
    /// place. If the files were only removed, it keeps reading what it has mapped (the segments that it
    /// has read from or written to; entries in others are misses) until the next write creates a new
    /// cache at the path. Files that another program changes in place, by copying over them, are
    /// damaged.
    ///
    /// Of a thread's consecutive misses, the first and then every thirteenth reads the clock; with an
    /// interval of zero each miss checks the files. Applies to this handle only. Default: 0.25 s.
    pub fn staleness_check_interval(&mut self, interval: Duration) -> &mut Self {
        self.staleness = interval;
        self
    }

    /// Sets whether reads verify the checksum of the value they return. If not, a damaged value is
    /// returned as it is; keys are always compared. A cache with [`in_place`](Self::in_place) verifies
    /// in any case. Applies to this handle only. Default: true.
    pub fn verify_checksums(&mut self, verify: bool) -> &mut Self {
        self.verify = verify;
        self
    }

    /// Sets what a completed write survives. Applies to this handle only. Default:
    /// [`Durability::Process`].
    pub fn durability(&mut self, durability: Durability) -> &mut Self {
        self.durability = durability;
        self
    }

    /// Sets how long a write waits for another writer, and opening for another process that creates or
    /// recovers the cache, before it fails with [`ErrorKind::Locked`]; `None` waits without limit.
    /// Applies to this handle only. Default: 60 s.
    pub fn lock_timeout(&mut self, timeout: Option<Duration>) -> &mut Self {
        self.lock_timeout = timeout;
        self
    }

    /// Sets the kind of writer lock of a cache that is created; an existing cache keeps its kind. If the
    /// system does not support [`LockKind::Word`], a cache is created with [`LockKind::Flock`].
    /// Default: [`LockKind::Word`].
    pub fn lock_kind(&mut self, kind: LockKind) -> &mut Self {
        self.lock = kind;
        self
    }

    /// Sets when writes start to reclaim dead records of the heap: as soon as the dead bytes exceed
    /// `floor` bytes plus `percent_of_live` percent of the live bytes. A write that would fail on a full
    /// disk reclaims first, whatever the threshold. Applies to writes of this handle only. Default:
    /// 100 % and 4 MiB.
    ///
    /// If overwritten entries are of similar sizes, the dead bytes stay below twice this threshold plus
    /// one segment, which is at most a quarter of the live bytes. Deleting many entries leaves more,
    /// which the following writes reclaim. A lower threshold makes each write do more: for each byte that
    /// it appends it reads `live / threshold + 1` bytes of the heap, at least 4 and at most 101, and
    /// moves the live ones among them; so a threshold below 1 % of the live bytes is not kept. After a
    /// flush, up to half of the live bytes and 64 MiB may additionally wait for the disk.
    pub fn compaction_threshold(&mut self, percent_of_live: u32, floor: u64) -> &mut Self {
        self.clean_percent = percent_of_live;
        self.clean_floor = floor;
        self
    }

    /// Sets whether writes may use a short-lived background thread to release the blocks of a removed
    /// heap segment and, after a flush, to sync the heap before a segment is removed. If not, the write
    /// that finishes a segment, one in thousands, does this itself, which takes tenths of a second on
    /// some disks. The thread takes no lock, and writes to the cache only how far its syncs came and whether one failed.
    /// Applies to this handle only. Default: true.
    pub fn background_threads(&mut self, allowed: bool) -> &mut Self {
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
    /// Takes a few system calls, and for a handle that writes one to four more for each heap segment. Reads the
    /// whole heap only to recover: after a power loss with unsynced writes, or if the files are a copy.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NotFound`] if there is no cache and the options do not create one.
    /// - [`ErrorKind::AlreadyExists`] if there is one and [`create_new`](Self::create_new) is set, or if
    ///   a foreign file has the name of one of the cache's files.
    /// - [`ErrorKind::InvalidOption`] if a value is outside its range, [`ErrorKind::OptionMismatch`] if
    ///   it differs from a stored one.
    /// - [`ErrorKind::Unsupported`] on a [network file system](Self::allow_network_fs), for a
    ///   [heap path](Self::heap_path) whose names collide, or if the system lacks shared mappings or
    ///   locks.
    /// - [`ErrorKind::NotACacheFile`], [`ErrorKind::UnsupportedVersion`] or [`ErrorKind::Corrupted`] if
    ///   the files at the path are foreign, of another release, or damaged beyond what the next writer
    ///   can recover.
    /// - [`ErrorKind::HeapMissing`] if a segment of the heap is not at its path, unless the handle only
    ///   reads.
    /// - [`ErrorKind::Locked`] if the writer lock is held for longer than the
    ///   [timeout](Self::lock_timeout) and opening needs it: with [`exclusive`](Self::exclusive), to
    ///   create the cache or to recover it. [`ErrorKind::AlreadyWriting`] if this thread holds it.
    /// - [`ErrorKind::DiskFull`], [`ErrorKind::NotRemovable`], [`ErrorKind::SyncFailed`] and
    ///   [`ErrorKind::Io`] if the system refuses a file operation.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<MmapCache> {
        MmapCache::open_with(path.as_ref(), self)
    }

    /// Returns the geometry of a cache that is created with these options.
    pub(crate) fn geometry(&self, path: &Path) -> Result<Geometry> {
        let geometry = Geometry {
            region_slots: self.region_slots.unwrap_or(Geometry::USUAL_SLOTS),
            directory_bits: self.directory_bits,
            max_segment_bytes: self.max_segment_bytes.unwrap_or(self.segment_bytes_of_new),
            max_entries: self.max_entries.unwrap_or(0),
            append_only: self.append_only == Some(true) && self.variant == Variant::Versioned,
            in_place: self.in_place == Some(true),
            variant: self.variant,
        };
        let refused = |option, asked, range| {
            Err(ErrorKind::InvalidOption {
                option,
                asked,
                range,
            }
            .at(path))
        };
        match geometry.fault() {
            None => Ok(self.small(geometry)),
            Some(Corruption::RecordVariant) => refused(
                "in_place",
                1,
                "unset: entries of an append-only cache are never overwritten",
            ),
            Some(Corruption::RegionSlots) => refused(
                "region_slots",
                geometry.region_slots.into(),
                "a power of two from 16 to 1,024",
            ),
            Some(_) => refused(
                "max_segment_bytes",
                geometry.max_segment_bytes,
                "16 KiB to 16 GiB",
            ),
        }
    }

    /// Returns the small beginning of a geometry, if the caller asked neither for regions of a size nor
    /// for room.
    fn small(&self, geometry: Geometry) -> Geometry {
        let (region_slots, directory_bits) = Geometry::SMALL;
        let small = Geometry {
            region_slots,
            directory_bits,
            ..geometry
        };
        let is_left_open = self.region_slots.is_none() && small.grown() == geometry;
        match is_left_open {
            true => small.for_capacity(self.capacity),
            false => geometry,
        }
    }

    /// Returns the capacity, if a table of this geometry can have that many slots.
    pub(crate) fn capacity_within(&self, geometry: &Geometry, path: &Path) -> Result<u64> {
        let geometry = geometry.for_capacity(self.capacity);
        let most = u64::from(geometry.region_slots) << geometry.directory_bits;
        if self.capacity <= most {
            return Ok(self.capacity);
        }
        Err(ErrorKind::InvalidOption {
            option: "capacity",
            asked: self.capacity,
            range: "at most 1,048,576 times `region_slots`",
        }
        .at(path))
    }

    /// As [`accept`](Self::accept), for files that replaced those that were opened; only their type can
    /// be a reason to refuse them. Labels find out by themselves whether the files have ids.
    pub(crate) fn accept_replaced(&self, found: &Geometry, path: &Path) -> Result<()> {
        match self.variant {
            Variant::Numbered => Ok(()),
            _ => self.accept_variant(found.variant, path),
        }
    }

    /// Refuses files whose entries mean something else to another type.
    fn accept_variant(&self, found: Variant, path: &Path) -> Result<()> {
        let numbered = Variant::Numbered;
        if self.variant == numbered && found != numbered {
            return Err(ErrorKind::OptionMismatch {
                option: "record variant",
                asked: numbered.to_disk().into(),
                found: found.to_disk().into(),
            }
            .at(path));
        }
        let made_by = match found {
            Variant::Versioned => "MmapCache",
            Variant::Numbered => "Labels",
            Variant::Expiring => "Cache",
        };
        if self.raw && self.variant == Variant::Versioned {
            return Ok(());
        }
        // An engine may read labels as keys with empty values.
        let is_cache = [self.variant, found].map(|variant| variant == Variant::Expiring);
        if is_cache[0] != is_cache[1] {
            return Err(ErrorKind::OtherType { made_by }.at(path));
        }
        Ok(())
    }

    /// Compares the options that are set with the stored values.
    pub(crate) fn accept(&self, found: &Geometry, path: &Path) -> Result<()> {
        let fixed = [
            (
                "region_slots",
                self.region_slots.map(u64::from),
                u64::from(found.grown().region_slots),
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
            (
                "in_place",
                self.in_place.map(u64::from),
                found.in_place.into(),
            ),
        ];
        self.accept_variant(found.variant, path)?;
        for (option, asked, found) in fixed {
            // A cache enlarges its regions by itself, so it may have been created with less.
            let outgrown = option == "region_slots" && asked.is_some_and(|asked| asked < found);
            if let Some(asked) = asked.filter(|&asked| asked != found && !outgrown) {
                return Err(ErrorKind::OptionMismatch {
                    option,
                    asked,
                    found,
                }
                .at(path));
            }
        }
        Ok(())
    }
}
