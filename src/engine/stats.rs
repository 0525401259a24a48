//! Statistics of a cache, from its header, and its disk usage.
//!
//! Loads words of the header and asks the file system for sizes, nothing more. May call `handle` and
//! everything below it.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::os::file_names::Stage;
use crate::sync::Relaxed;

use crate::engine::generation::Generation;
use crate::engine::handle::Handle;
use crate::engine::segment_numbers::{Extent, present_numbers, staged_numbers};

/// Regions after which the free list counts as corrupt: it may be circular.
const MAX_FREE_REGIONS: u64 = 64;
/// Bytes of the unit in which file systems count blocks.
const BLOCK: u64 = 512;

/// Counters of a cache at one moment; returned by [`MmapCache::stats`](crate::MmapCache::stats).
///
/// They are read without a lock: while another process writes, one may include a change that another
/// does not.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Stats {
    /// Live entries.
    pub occupied: u64,
    /// Slots of deleted entries (tombstones), which a later insertion or region rebuild reuses.
    pub deleted: u64,
    /// The highest slot number ever used in this generation, plus one.
    pub high_water_mark: u64,
    /// Slots in all regions in use.
    pub slots: u64,
    /// Load factor: live entries divided by slots, from 0 to 1.
    pub load: f64,
    /// Bytes of all segments of the heap, up to the committed end.
    pub heap_bytes: u64,
    /// Bytes of live records.
    pub live_bytes: u64,
    /// Bytes of dead records, which cleaning reclaims.
    pub dead_bytes: u64,
    /// Number of heap segments.
    pub segments: u64,
    /// Number of the generation: 1, plus one for each replacement of the whole cache.
    pub generation: u64,
    /// Values stored since the cache was created, overwrites included. This and the two counts after it
    /// are approximate: a writer that is killed may leave its last change uncounted.
    pub puts: u64,
    /// Values that overwrote another one since the cache was created.
    pub overwrites: u64,
    /// Entries deleted since the cache was created.
    pub deletes: u64,
    /// Entries lost since the cache was created, because cleaning, rebuilding or recovery found their
    /// records damaged or missing.
    pub dropped: u64,
    /// How often index and roster were rebuilt from the heap: after a power loss, after files were copied
    /// or restored, because of damage, and by [`Repair`](crate::Repair).
    /// [`last_recovery`](crate::MmapCache::last_recovery) has details.
    pub recoveries: u64,
    /// Damaged entries that this handle met.
    pub damaged_seen: u64,
    /// Changes of any kind since the cache was created.
    pub changes: u64,
    /// Time at which the cache was created.
    pub created: SystemTime,
    /// Time of the last rebuild or compaction of the whole cache; `None` if there was none.
    pub compacted: Option<SystemTime>,
    /// Process id of the current writer; `None` if there is none or it is unknown. A hint, and
    /// meaningless across containers.
    pub writer: Option<u32>,
    /// Whether an earlier sync failed.
    pub sync_failed: bool,
    /// Whether entries can only be added; see [`Options::append_only`](crate::Options::append_only).
    pub append_only: bool,
    /// Whether records may be overwritten where they are; see
    /// [`Options::in_place`](crate::Options::in_place).
    pub in_place: bool,
}

/// Bytes that the files take on the disk; returned by [`MmapCache::disk_usage`](crate::MmapCache::disk_usage).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct DiskUsage {
    /// Bytes of the index.
    pub index: u64,
    /// Bytes of all heap segments.
    pub heap: u64,
    /// Bytes of the roster.
    pub roster: u64,
}

impl DiskUsage {
    /// Returns the sum.
    pub fn total(&self) -> u64 {
        self.index + self.heap + self.roster
    }
}

impl Stats {
    pub(crate) fn of(handle: &Handle) -> Result<Self> {
        let (generation, _) = handle.current()?;
        let mut stats = Self::of_generation(&generation);
        stats.damaged_seen = handle.damaged.load(Relaxed);
        Ok(stats)
    }

    /// Returns the statistics in the header of a generation.
    pub(crate) fn of_generation(generation: &Generation) -> Self {
        let header = generation.header();
        let counters = header.counters();
        let free = free_regions(generation, counters.free_region, counters.regions);
        let slots = counters
            .regions
            .saturating_sub(free)
            .saturating_mul(u64::from(generation.table.geometry().region_slots));
        let tail = header.tail();
        let heap_bytes = header.heap_base().saturating_add(tail.bytes());
        let compacted = header.compacted();
        Self {
            occupied: counters.occupied,
            deleted: counters.deleted,
            high_water_mark: counters.high_water,
            slots,
            load: if slots == 0 {
                0.0
            } else {
                counters.occupied as f64 / slots as f64
            },
            heap_bytes,
            live_bytes: counters.live,
            dead_bytes: heap_bytes.saturating_sub(counters.live),
            segments: (u64::from(tail.segment) + 1).saturating_sub(header.oldest().into()),
            generation: generation.ids.generation,
            puts: header.puts(),
            overwrites: header.overwrites(),
            deletes: header.deletes(),
            dropped: header.dropped(),
            recoveries: header.recoveries(),
            damaged_seen: 0,
            changes: header.changes(),
            created: time(generation.created),
            compacted: (compacted > 0).then(|| time(compacted)),
            writer: header.holder(),
            sync_failed: header.sync_failed(),
            append_only: generation.is_append_only(),
            in_place: generation.is_in_place(),
        }
    }
}

/// Counts the regions on the free list. It is short: a rebuild takes the regions that an earlier one
/// freed.
fn free_regions(generation: &Generation, head: u64, regions: u64) -> u64 {
    let (mut next, mut count) = (head, 0);
    while let Some(number) = next.checked_sub(1)
        && number < regions
        && count < MAX_FREE_REGIONS
        && let Ok(region) = generation.table.region(number as u32)
    {
        count += 1;
        next = region.next_free();
    }
    count
}

fn time(nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanos)
}

impl DiskUsage {
    pub(crate) fn of(handle: &Handle) -> Result<Self> {
        let (generation, _) = handle.current()?;
        let mut heap = 0;
        let header = generation.header();
        let (oldest, last) = (header.oldest(), header.reserved().segment);
        // With the segment that may have been begun, and those that an interrupted switch left.
        let mut numbers = present_numbers(&handle.names, oldest, last.saturating_add(1));
        numbers.extend(staged_numbers(&handle.names, Extent::NONE));
        numbers.sort_unstable();
        numbers.dedup();
        let stages = [Stage::Final, Stage::New];
        let paths = numbers
            .into_iter()
            .flat_map(|number| stages.map(|stage| handle.names.segment(number, stage)));
        for path in paths {
            match path.symlink_metadata() {
                Ok(meta) => heap += meta.blocks() * BLOCK,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io(&path, "read the size of the file")(error)),
            }
        }
        debug_assert!(handle.names.index(Stage::Final) == *handle.path);
        Ok(Self {
            index: generation.table.file().disk_bytes()?,
            heap,
            roster: generation.roster.file().disk_bytes()?,
        })
    }
}
