//! `repair`: runs a repair of the library and reports its result.

use std::time::{Duration, Instant};

use mmapcache::{Repair, RepairReport};
use serde_json::{Value, json};

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::grid::Grid;
use crate::location::Location;
use crate::output::Output;
use crate::progress;
use crate::units;

/// Options of a repair.
#[derive(Debug, clap::Args)]
pub(crate) struct Request {
    /// Keep the damaged index and roster beside the new ones, as CACHE.damaged and
    /// CACHE.roster.damaged
    #[arg(long)]
    keep: bool,
    /// Rewrite the heap afterwards without its damaged bytes; needs space for all live entries again
    #[arg(long)]
    rewrite: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(location: &Location, request: &Request) -> Result<ExitStatus, Failure> {
    location.refuse_foreign()?;
    let began = Instant::now();
    let progress = progress::of_bytes("reading the heap");
    let report = Repair::new(&location.cache)
        .options(&location.options())
        .keep_damaged(request.keep)
        .rewrite_heap(request.rewrite)
        .on_progress(|now| progress.set(now.done_bytes, now.total_bytes))
        .run();
    drop(progress);
    let report = report.map_err(|error| location.explain(error))?;
    let mut out = Output::new();
    if request.json {
        out.json(&value(&report, began.elapsed()))?;
    } else {
        out.line(&text(&report, began.elapsed()))?;
    }
    out.end()?;
    let fewer = report
        .entries_before
        .is_some_and(|before| before > report.entries + report.unwritten);
    let lost = report.damaged_bytes > 0
        || report.dropped > 0
        || fewer
        || !report.missing_segments.is_empty();
    Ok(ExitStatus::problems_if(lost))
}

fn text(report: &RepairReport, time: Duration) -> String {
    let mut grid = Grid::new();
    grid.section(if report.rebuilt {
        "repair: index and roster rebuilt"
    } else {
        "repair: no rebuild was needed"
    });
    let before = report.entries_before.map_or_else(String::new, |count| {
        format!("the old index counted {}", units::count(count))
    });
    grid.row("entries", units::count(report.entries), &before);
    if report.dropped > 0 {
        let dropped = "entries whose records are damaged or missing";
        grid.row("dropped", units::count(report.dropped), dropped);
    }
    if report.unwritten > 0 {
        let unwritten = "entries that were not synced before the power loss";
        grid.row("never written", units::count(report.unwritten), unwritten);
    }
    let records = "in the heap, dead ones and deletions included";
    grid.row("records", units::count(report.records), records);
    let damaged = match (report.damaged_bytes, report.rewritten) {
        (0, _) => "",
        (_, true) => "lost; the heap was rewritten without them",
        (_, false) => "lost; --rewrite removes those that are still in the heap",
    };
    grid.row("damaged bytes", units::count(report.damaged_bytes), damaged);
    if report.segments > 0 {
        grid.row("segments", units::count(report.segments), "");
    }
    for number in &report.missing_segments {
        grid.row(
            "missing segment",
            number.to_string(),
            "its records are lost",
        );
    }
    for path in &report.kept {
        grid.row("kept", path.display().to_string(), "");
    }
    grid.row("time", units::duration(time), "");
    grid.text()
}

fn value(report: &RepairReport, time: Duration) -> Value {
    let kept: Vec<_> = report
        .kept
        .iter()
        .map(|path| path.to_string_lossy())
        .collect();
    json!({
        "rebuilt": report.rebuilt,
        "entries": report.entries,
        "entries_before": report.entries_before,
        "dropped": report.dropped,
        "unwritten": report.unwritten,
        "records": report.records,
        "damaged_bytes": report.damaged_bytes,
        "rewritten": report.rewritten,
        "segments": report.segments,
        "missing_segments": report.missing_segments,
        "kept": kept,
        "seconds": time.as_secs_f64(),
    })
}
