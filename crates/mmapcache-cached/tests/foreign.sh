#!/usr/bin/env bash
# Runs tests that `cached` publishes with its package, for its own stores, against MmapStore: the contract of
# the asynchronous trait, and what once went wrong in its store on disk, RedbCache.
#
# Their text is read from the downloaded package, changed in a few places and put into a package of its own
# under the target directory; nothing of it is in this repository. Needs python3.
set -euo pipefail
target=${CARGO_TARGET_DIR:+$(realpath -m "$CARGO_TARGET_DIR")}
cd "$(dirname "$0")/../.."
root=$PWD
target=${target:-$root/target}
place=$target/foreign-cached
manifest=$(cargo metadata --format-version 1 --features mmapcache-cached/async |
    python3 -c 'import json, sys
print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "cached"))')
mkdir -p "$place/src" "$place/tests"
cp mmapcache-cached/tests/foreign/redb_cache.rs "$place/src/lib.rs"
cat > "$place/Cargo.toml" <<TOML
[package]
name = "foreign-cached"
version = "0.0.0"
edition = "2024"
[workspace]
[features]
default = ["async", "async_core", "redb_store", "time_stores"]
async = []
async_core = []
redb_store = []
time_stores = []
[dependencies]
mmapcache-cached = { path = "$root/mmapcache-cached", features = ["async"] }
[dev-dependencies]
async-io = "2.6"
cached = { version = "4.1", default-features = false, features = ["async", "time_stores"] }
tempfile = "3.27"
tokio = { version = "1.45", features = ["macros", "rt-multi-thread", "sync", "time"] }
TOML
cp Cargo.lock "$place/Cargo.lock"
python3 - "$(dirname "$manifest")/tests" "$place/tests" <<'PY'
import pathlib
import re
import sys

theirs, ours = map(pathlib.Path, sys.argv[1:])


def take(name, *changes):
    """Copies a file. Each change is a pattern that occurs once, and what takes its place."""
    text = (theirs / f"{name}.rs").read_text()
    for pattern, put in changes:
        text, times = re.subn(pattern, lambda _: put, text, flags=re.S)
        assert times == 1, f"{name}: {pattern!r} occurs {times} times in this release"
    (ours / f"{name}.rs").write_text(text)


STORE = '''fn store() -> mmapcache_cached::MmapStore<String, u32> {
    let dir = tempfile::tempdir().unwrap().keep();
    mmapcache_cached::MmapStore::open(dir.join("store")).unwrap()
}
'''
take(
    "concurrent_cached_async_ext",
    (r"fn store\(\) -> ShardedUnboundCache<String, u32> \{.*?\n\}\n", STORE),
    (r", ShardedUnboundCache\}", "}"),
    (r"futures::executor::block_on", "async_io::block_on"),
)
IMPORT = r"use cached::\{([^}]*), RedbCache\};"
for name in ["v3_redb_set_expired_previous", "v3_redb_races", "v3_redb_races_async"]:
    found = re.findall(IMPORT, (theirs / f"{name}.rs").read_text())
    assert len(found) == 1, f"{name}: other imports in this release"
    take(name, (IMPORT, f"use cached::{{{found[0]}}};\nuse foreign_cached::RedbCache;"))
PY
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
cd "$place"
# MmapStore removes some expired entries with each write, so a sweep may find fewer than these tests count.
CARGO_TARGET_DIR=$target TMPDIR=$temporary cargo test --profile "${PROFILE:-test}" --tests --no-fail-fast -- \
    --skip remove_expired_entries_count_is_accurate \
    --skip remove_expired_entries_concurrent_delete_count_never_overcounts
