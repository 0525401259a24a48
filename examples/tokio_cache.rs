//! A cache under tokio: tasks that ask for the same page await one computation, in this process or
//! in another, and hold no thread.
//!
//! A lookup in memory takes less than a microsecond, so a task makes it directly. If the files may
//! have to be read from a disk first, `spawn_blocking` keeps that away from the other tasks.
//!
//!     cargo run --example tokio_cache

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mmapcache::{Cache, InsertOptions, Origin};
use tokio::task::{JoinSet, spawn_blocking};

const TASKS: u32 = 1_000;

static FETCHES: AtomicU32 = AtomicU32::new(0);

/// What takes long: a request to a server, for example.
async fn fetch(page: &str) -> Result<String, Infallible> {
    FETCHES.fetch_add(1, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok(format!("<h1>{page}</h1>"))
}

async fn page(cache: &Cache, page: &str) -> Result<Origin, mmapcache::ComputeError<Infallible>> {
    let ten_minutes = InsertOptions::new().ttl(Duration::from_secs(600));
    let found = cache
        .get_or_try_insert_async(page, ten_minutes, tokio::time::sleep, || fetch(page))
        .await?;
    Ok(found.origin)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("pages");
    // Opening may recover or create files.
    let cache = Arc::new(spawn_blocking(move || Cache::open(path)).await??);
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let cache = Arc::clone(&cache);
        tasks.spawn(async move { page(&cache, "/index.html").await });
    }
    let mut awaited = 0;
    while let Some(origin) = tasks.join_next().await {
        awaited += u32::from(origin?? == Origin::Awaited);
    }
    let fetches = FETCHES.load(Ordering::Relaxed);
    assert_eq!(fetches, 1, "the others awaited it");
    println!("{TASKS} tasks, {fetches} fetch, {awaited} awaited it");

    // Cold media: the lookup may wait for a disk.
    let cold = Arc::clone(&cache);
    let found = spawn_blocking(move || cold.get("/index.html")).await??;
    println!("{} bytes", found.map_or(0, |page| page.len()));
    Ok(())
}
