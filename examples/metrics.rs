//! Reports how a cache is doing in the text format of Prometheus, from within the program that uses
//! it. (`mmapcache-inspect metrics` does so from outside.)
//!
//! `stats` reads counters of the header and takes no lock, so it may be called at every scrape. The
//! counters are those of all processes since the cache was created.
//!
//!     cargo run --example metrics

use std::error::Error;
use std::fmt::Write;

use mmapcache::MmapCache;

/// Returns the page for one scrape.
fn metrics(cache: &MmapCache) -> Result<String, Box<dyn Error>> {
    let (stats, disk) = (cache.stats()?, cache.disk_usage()?);
    let gauges = [
        ("entries", "Live entries.", stats.occupied),
        (
            "live_bytes",
            "Heap bytes of live entries.",
            stats.live_bytes,
        ),
        ("dead_bytes", "Heap bytes to reclaim.", stats.dead_bytes),
        ("disk_bytes", "Bytes on the disk.", disk.total()),
        // Flushes fail from then on, until a restart or a rebuild: set an alert on this one.
        (
            "sync_failed",
            "1 after a failed sync.",
            stats.sync_failed.into(),
        ),
    ];
    let counters = [
        ("puts_total", "Values stored.", stats.puts),
        ("overwrites_total", "Values replaced.", stats.overwrites),
        ("deletes_total", "Entries deleted.", stats.deletes),
        ("dropped_total", "Entries lost to damage.", stats.dropped),
        (
            "recoveries_total",
            "Rebuilds of the index.",
            stats.recoveries,
        ),
    ];
    let mut page = String::new();
    for (kind, metrics) in [("gauge", gauges), ("counter", counters)] {
        for (name, help, value) in metrics {
            let name = format!("myapp_cache_{name}");
            writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
            writeln!(page, "{name} {value}")?;
        }
    }
    Ok(page)
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let cache = MmapCache::open(dir.path().join("cache"))?;
    for number in 0..1_000_u32 {
        cache.put(&number.to_le_bytes(), b"a value")?;
    }
    cache.put(&7_u32.to_le_bytes(), b"another value")?;
    cache.delete(&8_u32.to_le_bytes())?;

    let page = metrics(&cache)?;
    print!("{page}");
    for line in [
        "entries 999",
        "puts_total 1001",
        "overwrites_total 1",
        "deletes_total 1",
    ] {
        let line = format!("\nmyapp_cache_{line}\n");
        assert!(page.contains(&line), "{line}");
    }
    assert!(
        page.lines()
            .all(|line| line.starts_with("# ") || line.split(' ').count() == 2)
    );
    Ok(())
}
