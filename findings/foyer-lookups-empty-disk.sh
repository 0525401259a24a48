#!/usr/bin/env bash
# foyer: with an admission filter, looking entries up removes them from the disk.
#
# Seen on: foyer 0.22.6, Linux 6.18.44, the default policy HybridCachePolicy::WriteOnEviction, the block
# engine with a filter that admits every second entry.
#
# One expects an admission filter to decide which entries are written to the disk, and a lookup to leave
# the disk as it is. A lookup takes the entry into the memory tier, and marks it as young, so that it is
# not written again when memory evicts it. But before anything looks at that mark, the eviction asks the
# admission filter; and an entry that is not admitted is removed from the disk, although it is already
# there. So each pass over the entries asks the filter about all of them again, and those that it does
# not admit this time are gone. No write of the program is involved, and no limit is near.
#
# Why the obvious assumption is wrong: for a new value the removal is right, because the disk may have an
# older one. The filter sees only hash and size, and cannot tell an entry that came from the disk.
# The limit of the device for writes is such a filter as well, and always on if it is set.
#
# Cost: the disk tier wears off by being read. With a filter that admits a share at random, which is the
# usual way to spare an SSD, half of the entries are left after one pass, and a quarter after two; each
# is fetched again from the origin. Filters must give the same answer for the same entry at every time
# (by its hash or size), or be left out.
set -euo pipefail
command -v cargo >/dev/null || { echo "needs cargo, with Rust 1.91 or later"; exit 2; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/src" "$dir/files"
cat >"$dir/Cargo.toml" <<'TOML'
[package]
name = "lookups"
version = "0.0.0"
edition = "2024"
[workspace]
[dependencies]
foyer = "=0.22.6"
tokio = { version = "1", features = ["rt-multi-thread"] }
[profile.dev]
debug = false
TOML
cat >"$dir/src/main.rs" <<'RUST'
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder, Statistics, StorageFilter,
    StorageFilterCondition, StorageFilterResult,
};

const KEYS: u64 = 2_000;

/// Admits a share of what it is asked about: every second entry, or all of them.
#[derive(Debug)]
struct Share {
    asked: AtomicU64,
    of: u64,
}

impl StorageFilterCondition for Share {
    fn filter(&self, _: &Arc<Statistics>, _: u64, _: usize) -> StorageFilterResult {
        match self.asked.fetch_add(1, Ordering::Relaxed) % self.of {
            0 => StorageFilterResult::Admit,
            _ => StorageFilterResult::Reject,
        }
    }
}

/// Returns how many keys three passes of lookups find.
async fn passes(dir: &str, of: u64) -> [u64; 3] {
    std::fs::create_dir_all(dir).expect("a directory");
    let device = FsDeviceBuilder::new(dir).with_capacity(256 << 20).build().expect("a device");
    let share = Share { asked: AtomicU64::new(0), of };
    let filter = StorageFilter::new().with_condition(share);
    let cache: HybridCache<u64, Vec<u8>> = HybridCacheBuilder::new()
        .memory(100)
        .storage()
        .with_engine_config(BlockEngineConfig::new(device).with_admission_filter(filter))
        .build()
        .await
        .expect("a cache");
    for key in 0..KEYS {
        cache.insert(key, vec![1; 100]);
        if key % 500 == 0 {
            cache.storage().wait().await;
        }
    }
    cache.memory().evict_all();
    cache.storage().wait().await;
    let mut hits = [0; 3];
    for (pass, hits) in hits.iter_mut().enumerate() {
        for key in 0..KEYS {
            *hits += u64::from(cache.get(&key).await.expect("a lookup").is_some());
        }
        cache.memory().evict_all();
        cache.storage().wait().await;
        println!("one in {of} admitted, pass {}: {hits} of {KEYS} keys found", pass + 1);
    }
    hits
}

fn main() {
    let dir = std::env::args().nth(1).expect("a directory");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (all, half) = runtime.block_on(async {
        (passes(&format!("{dir}/all"), 1).await, passes(&format!("{dir}/half"), 2).await)
    });
    let stays = all == [KEYS; 3];
    let shrinks = half[0] > KEYS / 3 && half[1] * 3 < half[0] * 2 && half[2] * 3 < half[1] * 2;
    std::process::exit(if stays && shrinks { 0 } else { 1 });
}
RUST
echo "foyer 0.22.6, $(rustc --version), Linux $(uname -r)"
cargo build --quiet --manifest-path "$dir/Cargo.toml" --target-dir "$dir/target" \
    || { echo "cannot build foyer 0.22.6"; exit 2; }
"$dir/target/debug/lookups" "$dir/files" || { echo "this has changed"; exit 1; }
echo "still so: lookups remove entries from the disk"
