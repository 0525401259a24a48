//! `copy`: runs a backup of the library and reports its result.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mmapcache::{BackupReport, Options};
use serde_json::{Value, json};

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::grid::Grid;
use crate::location::Location;
use crate::output::Output;
use crate::progress;
use crate::units;

/// The source and the destination.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    /// The path of the copy; it must not exist
    destination: PathBuf,
    /// The path of the heap of the copy, if not beside its index
    #[arg(long, value_name = "PATH")]
    destination_heap: Option<PathBuf>,
    /// Also copy the valid part of a damaged cache; the exit code is then 1
    #[arg(long)]
    allow_losses: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(location: &Location, arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let began = Instant::now();
    let cache = location.open_to_copy()?;
    let mut options = Options::new();
    if let Some(heap) = &arguments.destination_heap {
        options.heap_path(heap);
    }
    let progress = progress::of_bytes("copying and reading the heap");
    let report = cache
        .backup()
        .options(&options)
        .allow_losses(arguments.allow_losses)
        .on_progress(|now| progress.set(now.done_bytes, now.total_bytes))
        .to(&arguments.destination);
    drop(progress);
    let (report, time) = (report?, began.elapsed());
    let mut out = Output::new();
    if arguments.json {
        out.json(&value(&report, time))?;
    } else {
        out.line(&text(&report, time))?;
    }
    out.end()?;
    Ok(ExitStatus::problems_if(
        report.damaged_bytes > 0 || missing(&report) > 0,
    ))
}

/// Returns how many entries of the original have no valid record.
fn missing(report: &BackupReport) -> u64 {
    let before = report.entries_before.unwrap_or(report.entries);
    before.saturating_sub(report.entries)
}

fn text(report: &BackupReport, time: Duration) -> String {
    let mut grid = Grid::new();
    grid.section(match (report.damaged_bytes, missing(report)) {
        (0, 0) => "copy: complete and clean",
        _ => "copy: clean, but NOT COMPLETE: a part of the original was damaged",
    });
    let lost = match missing(report) {
        0 => String::new(),
        count => format!("{} more in the index of the original", units::count(count)),
    };
    grid.row("entries", units::count(report.entries), lost);
    let records = "in its heap, dead ones and deletions included";
    grid.row("records", units::count(report.records), records);
    let shared = match report.shared_bytes {
        0 => String::new(),
        bytes => format!("{} shared with the original", units::bytes(bytes)),
    };
    grid.row("heap", units::bytes(report.heap_bytes), shared);
    if report.damaged_bytes > 0 {
        let damaged = "of the original heap, not copied; `verify` of the original shows the keys";
        grid.row("damaged bytes", units::count(report.damaged_bytes), damaged);
    }
    grid.row("time", units::duration(time), "");
    grid.text()
}

fn value(report: &BackupReport, time: Duration) -> Value {
    json!({
        "entries": report.entries,
        "entries_before": report.entries_before,
        "records": report.records,
        "heap_bytes": report.heap_bytes,
        "shared_bytes": report.shared_bytes,
        "damaged_bytes": report.damaged_bytes,
        "seconds": time.as_secs_f64(),
    })
}
