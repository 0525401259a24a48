//! A memoised function that two processes share: run it twice, and the second run computes nothing.
//!
//!     cargo run --example memoize

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use cached::ConcurrentCacheBase;
use cached::macros::concurrent_cached;
use mmapcache_cached::MmapStore;

fn path() -> PathBuf {
    // A program would use its directory in ~/.cache.
    std::env::temp_dir().join("mmapcache-cached-example")
}

fn open() -> MmapStore<(String, usize), String> {
    let opened = MmapStore::builder(path())
        .version(1) // to be raised when `repeat` changes
        .ttl(Duration::from_secs(3_600))
        .refresh_on_hit(true)
        .max_bytes(16 << 20)
        .open();
    opened.unwrap_or_else(|error| panic!("{error}"))
}

#[concurrent_cached(
    name = "REPEATED",
    ty = "MmapStore<(String, usize), String>",
    create = "{ open() }",
    key = "(String, usize)",
    convert = "{ (text.to_owned(), times) }"
)]
fn repeat(text: &str, times: usize) -> Result<String, Box<dyn Error + Send + Sync>> {
    println!("computing {text} {times} times");
    std::thread::sleep(Duration::from_millis(300));
    Ok(text.repeat(times))
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    for times in [2, 3, 2] {
        println!("{}", repeat("ab", times)?);
    }
    let metrics = REPEATED.metrics();
    println!("hits {:?}, misses {:?}", metrics.hits, metrics.misses);
    Ok(())
}
