//! An asynchronous function whose tasks compute each key once.
//!
//!     cargo run --example tasks --features async

use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cached::ConcurrentCachedAsync;
use mmapcache_cached::MmapStore;

static FETCHED: AtomicU32 = AtomicU32::new(0);

/// Takes the place of a slow service.
async fn fetch(user: u32) -> Result<String, std::io::Error> {
    FETCHED.fetch_add(1, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok(format!("user {user}"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?; // a program would use its directory in ~/.cache
    let store: MmapStore<u32, String> = MmapStore::builder(dir.path().join("users"))
        .ttl(Duration::from_secs(60))
        .open()?;
    let tasks: Vec<_> = (0..12)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let user = number % 3;
                let found = store.async_cache_try_get_or_set_with(user, || fetch(user));
                found.await
            })
        })
        .collect();
    for task in tasks {
        println!("{}", task.await???);
    }
    println!("{} computations", FETCHED.load(Ordering::Relaxed));
    Ok(())
}
