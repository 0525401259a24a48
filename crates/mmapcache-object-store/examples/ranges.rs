//! Reads ranges of a file through the cache, twice, and shows what the second time cost.
//!
//!     cargo run --example ranges

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mmapcache_object_store::CachingStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?; // a program would use its directory in ~/.cache
    let inner: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new_with_prefix(dir.path())?);
    let cache = tempfile::tempdir()?;
    let store = CachingStore::builder(inner, cache.path().join("chunks"))
        .max_bytes(64 << 20)
        .trust_for(Duration::from_secs(60))
        .open()?;
    let path = Path::from("numbers");
    store.put(&path, vec![1; 10_000_000].into()).await?;
    for _ in 0..2 {
        let began = Instant::now();
        let ranges = [0..1_000, 5_000_000..6_000_000, 9_999_000..10_000_000];
        let read = store.get_ranges(&path, &ranges).await?;
        let bytes: usize = read.iter().map(|range| range.len()).sum();
        println!("{bytes} bytes in {:?}", began.elapsed());
    }
    let counts = store.cache().stats()?.handle;
    println!("{} hits, {} misses", counts.hits, counts.misses);
    Ok(())
}
