//! `upgrade`: makes a new index for a cache of an older format.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mmapcache::{RepairReport, Upgrade};
use serde_json::json;

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::grid::Grid;
use crate::location::Location;
use crate::output::Output;
use crate::progress;
use crate::units;

/// Make a new index in place of one of an older format
///
/// The heap stays as it is, with all values, versions and ids; a cache of the current format is left
/// alone. Waits for a writer of the older release. An interrupted upgrade has changed nothing. The exit
/// code is 1 if something was lost. Needs less than 1 MiB of memory for any size of cache.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: mmapcache-inspect upgrade cache")]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(location: &Location, arguments: &Arguments) -> Result<ExitStatus, Failure> {
    location.refuse_foreign()?;
    let began = Instant::now();
    let progress = progress::of_bytes("reading the heap");
    let report = Upgrade::new(&location.cache)
        .options(&location.options())
        .on_progress(|now| progress.set(now.done_bytes, now.total_bytes))
        .run();
    drop(progress);
    let report = report.map_err(|error| location.explain(error))?;
    let mut out = Output::new();
    if arguments.json {
        let found = report.clone().unwrap_or_default();
        out.json(&json!({
            "upgraded": report.is_some(),
            "entries": found.entries,
            "dropped": found.dropped,
            "damaged_bytes": found.damaged_bytes,
            "seconds": began.elapsed().as_secs_f64(),
        }))?;
    } else {
        out.line(&text(report.as_ref(), began.elapsed()))?;
    }
    out.end()?;
    let lost = report.is_some_and(|report| report.dropped > 0 || report.damaged_bytes > 0);
    Ok(ExitStatus::problems_if(lost))
}

fn text(report: Option<&RepairReport>, time: Duration) -> String {
    let Some(report) = report else {
        return "nothing to do: the cache has the current format".to_owned();
    };
    let mut grid = Grid::new();
    grid.section("upgrade: a new index replaces the one of the older format");
    grid.row("entries", units::count(report.entries), "");
    if report.dropped > 0 {
        let dropped = "entries whose records are damaged or were never written";
        grid.row("dropped", units::count(report.dropped), dropped);
    }
    if report.damaged_bytes > 0 {
        grid.row("damaged bytes", units::count(report.damaged_bytes), "lost");
    }
    grid.row("time", units::duration(time), "");
    grid.text()
}
