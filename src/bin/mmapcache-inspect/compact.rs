//! `compact`: compacts the heap, and reports the sizes before and after.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mmapcache::{DiskUsage, MmapCache, Stats};
use serde_json::{Value, json};

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::grid::Grid;
use crate::location::Location;
use crate::output::Output;
use crate::progress;
use crate::units;
use crate::write_options::{DroppedEntries, WriteOptions};

/// The cache to compact.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    #[command(flatten)]
    change: WriteOptions,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The size of a cache.
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

pub(crate) fn run(location: &Location, arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let cache = arguments.change.open(location, false)?;
    let before_change = DroppedEntries::before(&cache)?;
    let (before, began) = (Size::of(&cache)?, Instant::now());
    let progress = progress::of_time("compacting");
    cache.compact()?;
    arguments.change.end(&cache)?;
    drop(progress);
    let (after, time) = (Size::of(&cache)?, began.elapsed());
    let dropped = before_change.since(&cache)?;
    let mut out = Output::new();
    if arguments.json {
        out.json(&json!({
            "before": before.value(),
            "after": after.value(),
            "dropped": dropped,
            "seconds": time.as_secs_f64(),
        }))?;
    } else {
        out.line(&text(&before, &after, time))?;
    }
    out.end()?;
    before_change.report(&cache, ExitStatus::Success)
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
