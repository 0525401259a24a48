#!/usr/bin/env bash
# foyer: after a burst of overwrites, a running cache returns the values from before them.
#
# Seen on: foyer 0.22.6, Linux 6.18.44, HybridCachePolicy::WriteOnInsertion and the defaults of the
# block engine.
#
# One expects of a cache that an overwritten key has its new value or none: an entry may be evicted,
# but `get` does not go back in time. `insert` gives the entry to the memory tier, and queues it for
# the disk. If 16 MiB are queued already, the engine leaves the entry out, as the documentation of
# `with_submit_queue_size_threshold` says ("further entries will be ignored"). It does not say that
# the entry's older copy stays in the disk's index. As soon as the memory tier evicts the new value,
# `get` finds that older copy, and returns it as a hit.
#
# Why the obvious assumption is wrong: a full queue looks like an eviction, which costs a miss. The
# related path for entries that an admission filter rejects does delete the older copy in this
# version. https://github.com/foyer-rs/foyer/issues/743 reports the same symptom there; the queue has
# its own return. No error, no kill and no restart is involved, `insert` returns the entry as always,
# and tests that pause between writes pass.
#
# Cost: programs that store newer versions under the same key (sessions, rows, blocks of a table)
# read old ones after a burst of 16 MiB. Wait for `storage().wait()` while writing much, put the
# version into the key, or remove the key first and check the value's version after each get.
set -euo pipefail
command -v cargo >/dev/null || { echo "needs cargo, with Rust 1.91 or later"; exit 2; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/src" "$dir/files"
cat >"$dir/Cargo.toml" <<'TOML'
[package]
name = "burst"
version = "0.0.0"
edition = "2024"
[workspace]
[dependencies]
foyer = "=0.22.6"
tokio = { version = "1", features = ["rt-multi-thread"] }
[profile.dev]
debug = false
opt-level = 1
TOML
cat >"$dir/src/main.rs" <<'RUST'
use foyer::{BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder, HybridCachePolicy};

const KEYS: u64 = 20_000;

/// Prints and returns how many keys have another value than `wanted`, and how many have none.
async fn look(cache: &HybridCache<u64, Vec<u8>>, wanted: u8, when: &str) -> (u64, u64) {
    let (mut older, mut none) = (0, 0);
    for key in 0..KEYS {
        match cache.get(&key).await.expect("a lookup") {
            Some(entry) if entry.value()[0] != wanted => older += 1,
            Some(_) => {}
            None => none += 1,
        }
    }
    println!("{when}: of {KEYS} keys {older} have an older value, {none} have none");
    (older, none)
}

async fn run(dir: &str) -> bool {
    // Room for everything three times over: nothing is evicted from the disk.
    let device = FsDeviceBuilder::new(dir).with_capacity(512 << 20).build().expect("a device");
    let cache: HybridCache<u64, Vec<u8>> = HybridCacheBuilder::new()
        .with_policy(HybridCachePolicy::WriteOnInsertion)
        .memory(1_000)
        .storage()
        .with_engine_config(BlockEngineConfig::new(device))
        .build()
        .await
        .expect("a cache");
    for value in [1, 2] {
        for key in 0..KEYS {
            cache.insert(key, vec![value; 3_000]);
            if key % 500 == 0 {
                cache.storage().wait().await;
            }
        }
        cache.storage().wait().await;
    }
    let paced = look(&cache, 2, "overwritten with pauses").await;
    for key in 0..KEYS {
        cache.insert(key, vec![3; 3_000]);
    }
    cache.storage().wait().await;
    let burst = look(&cache, 3, "overwritten in a burst").await;
    paced == (0, 0) && burst.0 > 0
}

fn main() {
    let dir = std::env::args().nth(1).expect("a directory");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    std::process::exit(if runtime.block_on(run(&dir)) { 0 } else { 1 });
}
RUST
echo "foyer 0.22.6, $(rustc --version), Linux $(uname -r)"
cargo build --quiet --manifest-path "$dir/Cargo.toml" --target-dir "$dir/target" \
    || { echo "cannot build foyer 0.22.6"; exit 2; }
"$dir/target/debug/burst" "$dir/files" || { echo "this has changed"; exit 1; }
echo "still so: a burst of overwrites brings old values back"
