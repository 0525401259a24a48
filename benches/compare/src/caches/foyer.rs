//! foyer: a cache in memory, and below it an engine that writes blocks of entries to the disk.
//!
//! An insertion hands its entry to the engine's own thread, which drops what does not fit into its
//! queue. So a batch counts as inserted when the engine has written it, and its time includes the
//! waits for that.

use std::path::Path;

use foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder,
    HybridCachePolicy,
};
use tokio::runtime::Runtime;

use super::bounded::{Bounded, Promises};
use crate::clock::Clock;
use crate::keys::{Batch, Keys, consume};
use crate::store::Result;

const PROMISES: Promises = Promises {
    shared_by: "threads",
    kill: "what its thread has not written; an older value may return",
    power: "the same, and what was not written back; never syncs; checksums find damage",
    goes: "no deadlines; the oldest block",
};

/// Bytes that may wait for the engine: its own limit is twice as much.
const QUEUE: usize = 8 << 20;
/// Entries begin at multiples of this.
const PAGE: usize = 4_096;

struct Foyer {
    runtime: Runtime,
    cache: HybridCache<Vec<u8>, Vec<u8>>,
}

impl Foyer {
    fn create(dir: &Path, bound: u64, memory: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let bound = usize::try_from(bound)?;
        let device = FsDeviceBuilder::new(dir).with_capacity(bound).build()?;
        let engine = BlockEngineConfig::new(device).with_block_size(bound / 16);
        let builder = HybridCacheBuilder::new()
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .memory(memory)
            .with_shards(1)
            .with_weighter(|key: &Vec<u8>, value: &Vec<u8>| key.len() + value.len())
            .storage()
            .with_engine_config(engine);
        let cache = runtime.block_on(builder.build())?;
        Ok(Self { runtime, cache })
    }

    fn insert_each(&mut self, batch: &Batch) -> Result<u64> {
        let clock = Clock::start()?;
        let mut queued = 0;
        for (key, value) in batch.items() {
            queued += value.len() + PAGE;
            if queued > QUEUE {
                self.runtime.block_on(self.cache.storage().wait());
                queued = 0;
            }
            self.cache.insert(key.to_vec(), value.to_vec());
        }
        self.runtime.block_on(self.cache.storage().wait());
        clock.elapsed()
    }

    fn get_each(&mut self, keys: &Keys) -> Result<(u64, u64)> {
        let (mut found, mut sum) = (0, 0);
        let clock = Clock::start()?;
        self.runtime.block_on(async {
            for key in keys.iter() {
                if let Some(entry) = self.cache.get(key).await? {
                    found += 1;
                    sum ^= consume(entry.value());
                }
            }
            Result::Ok(())
        })?;
        let elapsed = clock.elapsed()?;
        std::hint::black_box(sum);
        Ok((elapsed, found))
    }
}

/// With memory for a few entries: hits come from the engine.
pub(super) struct Disk(Foyer);

impl Bounded for Disk {
    const PROMISES: Promises = PROMISES;

    fn create(dir: &Path, bound: u64) -> Result<Self> {
        Foyer::create(dir, bound, 8 << 10).map(Self)
    }

    fn insert_each(&mut self, batch: &Batch) -> Result<u64> {
        self.0.insert_each(batch)
    }

    fn get_each(&mut self, keys: &Keys) -> Result<(u64, u64)> {
        self.0.get_each(keys)
    }
}

/// With as much memory as disk.
pub(super) struct Memory(Foyer);

impl Bounded for Memory {
    const PROMISES: Promises = PROMISES;

    fn create(dir: &Path, bound: u64) -> Result<Self> {
        Foyer::create(dir, bound, usize::try_from(bound)?).map(Self)
    }

    fn insert_each(&mut self, batch: &Batch) -> Result<u64> {
        self.0.insert_each(batch)
    }

    fn get_each(&mut self, keys: &Keys) -> Result<(u64, u64)> {
        self.0.get_each(keys)
    }
}
