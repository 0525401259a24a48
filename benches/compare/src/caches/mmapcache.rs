//! Our `Cache`, with its defaults.

use std::path::Path;

use mmapcache::{Cache, InsertOptions};

use super::bounded::{Bounded, LIFE, Promises};
use crate::clock::Clock;
use crate::keys::{Batch, Keys, consume};
use crate::store::Result;

pub(super) struct Ours(Cache);

impl Bounded for Ours {
    const PROMISES: Promises = Promises {
        shared_by: "threads and processes",
        kill: "nothing",
        power: "what was not synced; checksums find damage; never syncs by itself",
        goes: "a deadline for each entry; CLOCK",
    };

    fn create(dir: &Path, bound: u64) -> Result<Self> {
        let cache = Cache::builder(dir.join("cache")).max_bytes(bound).open()?;
        Ok(Self(cache))
    }

    fn insert_each(&mut self, batch: &Batch) -> Result<u64> {
        let hour = InsertOptions::new().ttl(LIFE);
        let clock = Clock::start()?;
        for (key, value) in batch.items() {
            self.0.insert_with(key, value, &hour)?;
        }
        clock.elapsed()
    }

    fn get_each(&mut self, keys: &Keys) -> Result<(u64, u64)> {
        let (mut found, mut sum, mut value) = (0, 0, Vec::new());
        let clock = Clock::start()?;
        for key in keys.iter() {
            if self.0.get_into(key, &mut value)? {
                found += 1;
                sum ^= consume(&value);
            }
        }
        let elapsed = clock.elapsed()?;
        std::hint::black_box(sum);
        Ok((elapsed, found))
    }
}
