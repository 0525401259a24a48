//! Pages in memory and on disk, with deadlines. Run it twice: the second run finds the pages of the first.
//!
//! ```sh
//! cargo run --example pages -- /tmp/pages
//! ```

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use foyer::{HybridCache, HybridCacheBuilder, HybridCachePolicy, Source};
use mmapcache_foyer::{Expiring, FreshEntries, MmapEngineConfig};

type Pages = HybridCache<String, Expiring<String>>;

/// A slow origin.
async fn render(path: String) -> std::io::Result<Expiring<String>> {
    tokio::time::sleep(Duration::from_millis(100)).await;
    let page = format!("<h1>{path}</h1>");
    Ok(Expiring::new(page, Duration::from_secs(60)))
}

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let dir = std::env::args().nth(1).map(PathBuf::from);
    let dir = dir.unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&dir)?;
    let engine = MmapEngineConfig::expiring(dir.join("pages")).with_max_bytes(64 << 20);
    let monitor = engine.monitor();
    let pages: Pages = HybridCacheBuilder::new()
        .with_policy(HybridCachePolicy::WriteOnInsertion)
        .memory(1_000)
        .storage()
        .with_engine_config(engine)
        .build()
        .await?;
    for path in ["/", "/about", "/"] {
        let fetch = || render(path.to_owned());
        let entry = pages.get_or_fetch_fresh(path, fetch).await?;
        let from = match entry.source() {
            Source::Memory => "memory",
            Source::Disk => "the disk",
            Source::Outer => "the origin",
        };
        let page = entry.value().get().map_or("expired since", String::as_str);
        println!("{path} from {from}: {page}");
    }
    pages.close().await?;
    println!("{:?}", monitor.counts());
    Ok(())
}
