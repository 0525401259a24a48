//! `compact`: what is dead goes, and how much room that gives.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mmapcache::{DiskUsage, MmapCache, Stats};
use serde_json::{Value, json};

use crate::change::Change;
use crate::failure::Failure;
use crate::grid::Grid;
use crate::output::Output;
use crate::progress;
use crate::site::Site;
use crate::units;
use crate::verdict::Verdict;

/// What to compact.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    #[command(flatten)]
    change: Change,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How large a cache is.
struct Size {
    stats: Stats,
    disk: DiskUsage,
}

impl Size {
    fn of(cache: &MmapCache) -> Result<Self, Failure> {
        Ok(Self {
            stats: cache.stats()?,
            disk: cache.disk_usage()?,
        })
    }

    fn value(&self) -> Value {
        json!({
            "heap_bytes": self.stats.heap_bytes,
            "live_bytes": self.stats.live_bytes,
            "dead_bytes": self.stats.dead_bytes,
            "segments": self.stats.segments,
            "disk_bytes": self.disk.total(),
        })
    }
}

pub(crate) fn run(site: &Site, arguments: &Arguments) -> Result<Verdict, Failure> {
    let cache = arguments.change.open(site, false)?;
    let (before, began) = (Size::of(&cache)?, Instant::now());
    let progress = progress::of_time("compacting");
    cache.compact()?;
    arguments.change.end(&cache)?;
    drop(progress);
    let (after, time) = (Size::of(&cache)?, began.elapsed());
    let mut out = Output::new();
    if arguments.json {
        out.json(&json!({
            "before": before.value(),
            "after": after.value(),
            "seconds": time.as_secs_f64(),
        }))?;
    } else {
        out.line(&text(&before, &after, time))?;
    }
    out.end()?;
    Ok(Verdict::Fine)
}

fn text(before: &Size, after: &Size, time: Duration) -> String {
    let mut grid = Grid::new();
    grid.section("compact");
    let mut row = |label, of: fn(&Size) -> u64, show: fn(u64) -> String| {
        grid.row(label, show(of(after)), format!("was {}", show(of(before))));
    };
    row("on the disk", |size| size.disk.total(), units::bytes);
    row("heap", |size| size.stats.heap_bytes, units::bytes);
    row("live", |size| size.stats.live_bytes, units::bytes);
    row("dead", |size| size.stats.dead_bytes, units::bytes);
    row("segments", |size| size.stats.segments, units::count);
    grid.row("time", units::duration(time), "");
    grid.text()
}
