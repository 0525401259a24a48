//! How a cache is doing, from its header.
//!
//! Knows what the header's numbers mean to a reader; computes nothing that costs more than looking.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::format::index::word;
use crate::os::files::Stage;
use crate::sync::Relaxed;

use crate::engine::generation::Generation;
use crate::engine::handle::Handle;
use crate::engine::segment_numbers::{Extent, present_numbers, staged_numbers};

/// Counters of a cache at one moment; made by [`MmapCache::stats`](crate::MmapCache::stats).
///
/// Read without a lock: while somebody writes, one number may be a change ahead of another.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Live entries.
    pub occupied: u64,
    /// Slots of deleted entries that a later insertion or region rebuild takes back.
    pub deleted: u64,
    /// One more than the highest slot number ever used in this generation.
    pub high_water_mark: u64,
    /// Slots of all regions in use.
    pub slots: u64,
    /// Live entries by slots, from 0 to 1.
    pub load: f64,
    /// Bytes of the heap up to its end, in all segments.
    pub heap_bytes: u64,
    /// Heap bytes of live records.
    pub live_bytes: u64,
    /// Heap bytes that cleaning reclaims.
    pub dead_bytes: u64,
    /// Segments of the heap.
    pub segments: u64,
    /// How often the whole cache was replaced, counted from 1.
    pub generation: u64,
    /// Values stored since the cache was created, overwrites included.
    pub puts: u64,
    /// Values stored over another one.
    pub overwrites: u64,
    /// Entries deleted.
    pub deletes: u64,
    /// Entries that were given up since the cache was created, by cleaning, rebuilding or
    /// recovering, because their records were damaged or gone.
    pub dropped: u64,
    /// How often index and roster were made anew from the heap: after a power loss, where files
    /// were copied or restored, where damage was in the way, and by [`Repair`](crate::Repair). What
    /// the last one by a handle came to, [`last_recovery`](crate::MmapCache::last_recovery) tells.
    pub recoveries: u64,
    /// Damaged entries that this handle came by.
    pub damaged_seen: u64,
    /// Changes so far, of any kind.
    pub changes: u64,
    /// When the cache was created.
    pub created: SystemTime,
    /// When it was last rebuilt or compacted as a whole; none if never.
    pub compacted: Option<SystemTime>,
    /// Process id of the writer at this moment, as far as it said so: a hint, and meaningless
    /// across containers.
    pub writer: Option<u32>,
    /// Whether an earlier sync failed.
    pub sync_failed: bool,
    /// Whether what was put stays as it is.
    pub append_only: bool,
}

/// Bytes on the disk; made by [`MmapCache::disk_usage`](crate::MmapCache::disk_usage).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskUsage {
    /// Blocks of the index.
    pub index: u64,
    /// Blocks of all heap segments.
    pub heap: u64,
    /// Blocks of the roster.
    pub roster: u64,
}

impl DiskUsage {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.index + self.heap + self.roster
    }
}

impl Stats {
    pub(crate) fn of(handle: &Handle) -> Result<Self> {
        let (generation, _) = handle.current()?;
        let mut stats = Self::of_view(&generation);
        stats.damaged_seen = handle.damaged.load(Relaxed);
        Ok(stats)
    }

    /// What the header of a generation says.
    pub(crate) fn of_view(generation: &Generation) -> Self {
        let header = generation.header();
        let counters = header.counters();
        let free = free_regions(generation, counters.free_region, counters.regions);
        let slots = counters
            .regions
            .saturating_sub(free)
            .saturating_mul(u64::from(generation.table.geometry().region_slots));
        let tail = header.tail();
        let heap_bytes = header.get(word::HEAP_BASE).saturating_add(tail.bytes());
        let compacted = header.get(word::COMPACTED);
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
            puts: header.get(word::PUTS),
            overwrites: header.get(word::OVERWRITES),
            deletes: header.get(word::DELETES),
            dropped: header.get(word::DROPPED),
            recoveries: header.get(word::RECOVERIES),
            damaged_seen: 0,
            changes: header.get(word::CHANGES),
            created: time(generation.created),
            compacted: (compacted > 0).then(|| time(compacted)),
            writer: header.holder(),
            sync_failed: header.get(word::SYNC_ERROR) != 0,
            append_only: generation.is_append_only(),
        }
    }
}

/// Regions on the free list. It is short: a rebuild takes from it what an earlier one gave.
fn free_regions(generation: &Generation, head: u64, regions: u64) -> u64 {
    let (mut next, mut count) = (head, 0);
    while let Some(number) = next.checked_sub(1)
        && number < regions
        && count < 64
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
        // With what was begun, and what an interrupted switch left.
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
                Ok(meta) => heap += meta.blocks() * 512,
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
