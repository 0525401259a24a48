//! `copy`: a cache as it was at one moment, while others go on writing to it.
//!
//! Knows how a copy is told to a person; what it does is the library's.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mmapcache::{BackupReport, Options};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::grid::Grid;
use crate::output::Output;
use crate::progress;
use crate::site::Site;
use crate::units;
use crate::verdict::Verdict;

/// What to copy where.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    /// Where the copy is made; nothing may be there yet
    destination: PathBuf,
    /// Where the copy's heap goes, if not beside its index
    #[arg(long, value_name = "PATH")]
    destination_heap: Option<PathBuf>,
    /// Copy what there is of a damaged cache too; the exit code is then 1
    #[arg(long)]
    allow_losses: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(site: &Site, arguments: &Arguments) -> Result<Verdict, Failure> {
    let began = Instant::now();
    let cache = site.look()?;
    let mut options = Options::new();
    if let Some(heap) = &arguments.destination_heap {
        options.heap_path(heap);
    }
    let progress = progress::of_bytes("copying and reading the heap");
    let copied = cache
        .backup()
        .options(&options)
        .allow_losses(arguments.allow_losses)
        .on_progress(|now| progress.set(now.done_bytes, now.total_bytes))
        .to(&arguments.destination);
    drop(progress);
    let (copied, time) = (copied?, began.elapsed());
    let mut out = Output::new();
    if arguments.json {
        out.json(&value(&copied, time))?;
    } else {
        out.line(&text(&copied, time))?;
    }
    out.end()?;
    Ok(Verdict::wrong_if(
        copied.damaged_bytes > 0 || missing(&copied) > 0,
    ))
}

/// Entries that the original's index counted and whose records are lost.
fn missing(copied: &BackupReport) -> u64 {
    let before = copied.entries_before.unwrap_or(copied.entries);
    before.saturating_sub(copied.entries)
}

fn text(copied: &BackupReport, time: Duration) -> String {
    let mut grid = Grid::new();
    grid.section(match (copied.damaged_bytes, missing(copied)) {
        (0, 0) => "copy: whole and clean",
        _ => "copy: clean, but NOT WHOLE: a part of the original was damaged",
    });
    let lost = match missing(copied) {
        0 => String::new(),
        count => format!("{} more were in the original's index", units::count(count)),
    };
    grid.row("entries", units::count(copied.entries), lost);
    let records = "in its heap, dead ones and deletions included";
    grid.row("records", units::count(copied.records), records);
    let shared = match copied.shared_bytes {
        0 => String::new(),
        bytes => format!("{} shared with the original", units::bytes(bytes)),
    };
    grid.row("heap", units::bytes(copied.heap_bytes), shared);
    if copied.damaged_bytes > 0 {
        let damaged = "of the original's heap, not copied; `verify` of the original names the keys";
        grid.row("damaged bytes", units::count(copied.damaged_bytes), damaged);
    }
    grid.row("time", units::duration(time), "");
    grid.text()
}

fn value(copied: &BackupReport, time: Duration) -> Value {
    json!({
        "entries": copied.entries,
        "entries_before": copied.entries_before,
        "records": copied.records,
        "heap_bytes": copied.heap_bytes,
        "shared_bytes": copied.shared_bytes,
        "damaged_bytes": copied.damaged_bytes,
        "seconds": time.as_secs_f64(),
    })
}
