//! Tests of the engine from inside, with geometries and hashes that make every rare path common.

#[cfg(not(loom))]
mod append_only;
mod checking;
mod cleaning;
#[cfg(not(loom))]
mod copying;
mod creation;
mod damage;
#[cfg(not(loom))]
mod eviction;
mod growth;
#[cfg(not(loom))]
mod heap_order;
#[cfg(not(loom))]
mod in_place;
#[cfg(not(loom))]
mod leftovers;
#[cfg(not(loom))]
mod limits;
#[cfg(not(loom))]
mod listing;
mod locking;
#[cfg(loom)]
mod loom;
#[cfg(not(loom))]
mod many;
#[cfg(not(loom))]
mod missing;
#[cfg(not(loom))]
mod model;
mod opening;
mod power;
mod reclaim;
mod recovery;
mod repair;
#[cfg(not(loom))]
mod sampling;
mod switching;
mod writing;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::engine::generation::Generation;
use crate::engine::*;
use crate::error::Result;
use crate::format::HashKind;
use crate::format::index::word;
use crate::hash::Hash;
use crate::index::region::Region;
use crate::mmap_cache::MmapCache;
#[cfg(not(loom))]
use crate::sync::Relaxed;

/// The path of a cache in a directory of its own.
struct Scratch {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Scratch {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        Self { _dir: dir, path }
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn open(&self, options: &Options) -> MmapCache {
        options.open(&self.path).unwrap()
    }
}

/// A directory in memory, if the system has one: some tests create thousands of caches, and disks
/// do not matter to them.
fn in_memory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }
    .unwrap()
}

fn scratch() -> Scratch {
    let dir = in_memory();
    let path = dir.path().join("cache");
    Scratch { _dir: dir, path }
}

/// Regions of 16 slots and segments of 16 KiB; cleaning begins at the first KiB.
fn tiny() -> Options {
    let mut options = Options::new();
    options
        .region_slots(16)
        .max_segment_bytes(16 * 1024)
        .compaction_threshold(50, 1024);
    options
}

/// The same, with a hash of five bits and a directory of four entries.
fn colliding() -> Options {
    let mut options = tiny();
    options.hash_kind = HashKind::Colliding;
    options.directory_bits = 2;
    options
}

/// Returns the generation that a handle uses.
fn generation_of(cache: &MmapCache) -> Arc<Generation> {
    cache.handle.generation.load_full()
}

/// Returns the region that serves a hash.
fn region_of(generation: &Generation, hash: Hash) -> Region<'_> {
    let located = generation.table.locate(generation.header().poll(), hash);
    located.unwrap().region
}

#[track_caller]
fn assert_clean(cache: &MmapCache) {
    let report = cache.verify().run().unwrap();
    assert!(report.is_clean(), "{:?}", report.problems);
    assert!(report.totals_compared);
    assert_eq!(report.entries, cache.len());
}
