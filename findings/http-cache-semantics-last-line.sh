#!/usr/bin/env bash
# http-cache-semantics: of a header that comes in several lines, a hit has the last line only, and so has
# the request that revalidates.
#
# Seen on: http-cache-semantics 3.0.0 with http 1.5.0, Linux 6.18.44.
#
# One expects the headers of a hit to be those of the stored response, but for `Age`, `Date` and the
# hop-by-hop ones. The `http` crate keeps several lines of one name apart, and the policy stores them all.
# But `before_request` copies headers with `HeaderMap::insert`, which replaces: three `Link` lines become
# one, as do two `Set-Cookie` lines of a public response. The first request, a miss, has all of them. The
# request for revalidation that it returns is copied the same way: of two `Cookie` or `X-Api-Tenant` lines
# of the caller the origin gets the last.
#
# Why the obvious assumption is wrong: several lines are rare enough for tests to have one of each, and
# the direct accessors of `http` show the first line anyhow. `Warning` and `If-None-Match` are joined with
# care beside it. Only the copies differ: what the policy decides, for example on `Vary` in two lines, uses
# the stored headers. http-cache 1.0.0-alpha.9 overwrites a stored response's headers by these copies, so
# all its managers and clients show it.
#
# Cost: cookies, preloads and pages named by `Link`, and `Content-Security-Policy` lines that all apply,
# vanish on hits, and come back on misses. A server or proxy that joins the lines of a name with commas,
# where the header allows that, is not affected.
set -euo pipefail
command -v cargo >/dev/null || { echo "needs cargo, with Rust 1.85 or later"; exit 2; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/src"
cat >"$dir/Cargo.toml" <<'TOML'
[package]
name = "lines"
version = "0.0.0"
edition = "2024"
[workspace]
[dependencies]
http = "=1.5.0"
http-cache-semantics = { version = "=3.0.0", default-features = false }
[profile.dev]
debug = false
TOML
cat >"$dir/src/main.rs" <<'RUST'
use std::time::{Duration, SystemTime};

use http::{HeaderMap, Request, Response};
use http_cache_semantics::{BeforeRequest, CachePolicy};

/// Prints and returns the values of a header, one for each line.
fn lines<'h>(who: &str, headers: &'h HeaderMap, name: &str) -> Vec<&'h str> {
    let values = headers.get_all(name).iter().map(|value| value.to_str().expect("text"));
    let values: Vec<_> = values.collect();
    println!("{who}: {name} is {values:?}");
    values
}

fn main() {
    let request = Request::get("http://example.test/")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(())
        .expect("a request");
    let response = Response::builder()
        .header("cache-control", "max-age=60")
        .header("etag", "\"1\"")
        .header("link", "</style.css>; rel=preload")
        .header("link", "</page/2>; rel=next")
        .body(())
        .expect("a response");
    let policy = CachePolicy::new(&request, &response);
    lines("response", response.headers(), "link");
    lines("request", request.headers(), "cookie");
    let now = SystemTime::now();
    let BeforeRequest::Fresh(hit) = policy.before_request(&request, now) else {
        panic!("not fresh");
    };
    let hit = lines("hit", &hit.headers, "link");
    let later = now + Duration::from_secs(100);
    let BeforeRequest::Stale { request, .. } = policy.before_request(&request, later) else {
        panic!("not stale");
    };
    assert_eq!(lines("revalidation", &request.headers, "if-none-match"), ["\"1\""]);
    let sent = lines("revalidation", &request.headers, "cookie");
    let is_so = hit == ["</page/2>; rel=next"] && sent == ["b=2"];
    std::process::exit(if is_so { 0 } else { 1 });
}
RUST
echo "http-cache-semantics 3.0.0, $(rustc --version), Linux $(uname -r)"
cargo build --quiet --manifest-path "$dir/Cargo.toml" --target-dir "$dir/target" \
    || { echo "cannot build http-cache-semantics 3.0.0"; exit 2; }
"$dir/target/debug/lines" || { echo "this has changed"; exit 1; }
echo "still so: of several lines of a header the last one is left"
