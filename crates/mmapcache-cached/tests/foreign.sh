#!/usr/bin/env bash
# Runs tests that `cached` publishes with its package, for one of its own stores, against MmapStore.
#
# Their text is read from the downloaded package, changed in two places and put into a package of its own
# under the target directory; nothing of it is in this repository. Run it in crates/.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
manifest=$(cargo metadata --format-version 1 --features mmapcache-cached/async |
    python3 -c 'import json, sys
print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "cached"))')
theirs=$(dirname "$manifest")/tests/concurrent_cached_async_ext.rs
place=$root/target/foreign-cached
mkdir -p "$place/src" "$place/tests"
: > "$place/src/lib.rs"
cat > "$place/Cargo.toml" <<TOML
[package]
name = "foreign-cached"
version = "0.0.0"
edition = "2024"
[workspace]
[features]
default = ["async_core"]
async_core = []
[dev-dependencies]
async-io = "2.6"
cached = { version = "4.1", default-features = false, features = ["async"] }
mmapcache-cached = { path = "$root/mmapcache-cached", features = ["async"] }
tempfile = "3.27"
TOML
cp "$root/Cargo.lock" "$place/Cargo.lock"
python3 - "$theirs" "$place/tests/foreign.rs" <<'PY'
import re
import sys

text = open(sys.argv[1]).read()
ours = '''fn store() -> mmapcache_cached::MmapStore<String, u32> {
    let dir = tempfile::tempdir().unwrap().keep();
    mmapcache_cached::MmapStore::open(dir.join("store")).unwrap()
}
'''
text, stores = re.subn(r"fn store\(\) -> ShardedUnboundCache<String, u32> \{.*?\n\}\n", lambda _: ours, text, flags=re.S)
text, imports = re.subn(r", ShardedUnboundCache\}", "}", text)
text, executors = re.subn(r"futures::executor::block_on", "async_io::block_on", text)
assert (stores, imports, executors) == (1, 1, 1), "the tests have another form in this release"
open(sys.argv[2], "w").write(text)
PY
cd "$place"
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target} TMPDIR=$(mktemp -d) cargo test --profile "${PROFILE:-test}" --test foreign
