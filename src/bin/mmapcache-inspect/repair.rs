//! `repair`: index and roster made anew from the heap, where nothing less helps.
//!
//! Knows how a repair is told to a person; what it does is the library's.

use std::time::{Duration, Instant};

use mmapcache::{Repair, RepairReport};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::grid::Grid;
use crate::output::Output;
use crate::progress;
use crate::site::Site;
use crate::units;
use crate::verdict::Verdict;

/// What was asked for besides the repair itself.
#[derive(Debug, clap::Args)]
pub(crate) struct Request {
    /// Keep the damaged index and roster beside the new ones, as CACHE.damaged and
    /// CACHE.roster.damaged
    #[arg(long)]
    keep: bool,
    /// Write the heap anew afterwards, without its damaged bytes; needs room for all live entries
    /// once more
    #[arg(long)]
    rewrite: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(site: &Site, request: &Request) -> Result<Verdict, Failure> {
    site.refuse_foreign()?;
    let began = Instant::now();
    let progress = progress::of_bytes("reading the heap");
    let repaired = Repair::new(&site.cache)
        .options(&site.options())
        .keep_damaged(request.keep)
        .rewrite_heap(request.rewrite)
        .on_progress(|now| progress.set(now.done_bytes, now.total_bytes))
        .run();
    drop(progress);
    let repaired = repaired.map_err(|error| site.explain(error))?;
    let mut out = Output::new();
    if request.json {
        out.json(&value(&repaired, began.elapsed()))?;
    } else {
        out.line(&text(&repaired, began.elapsed()))?;
    }
    out.end()?;
    let fewer = repaired
        .entries_before
        .is_some_and(|before| before > repaired.entries + repaired.unwritten);
    let lost = repaired.damaged_bytes > 0
        || repaired.dropped > 0
        || fewer
        || !repaired.missing_segments.is_empty();
    Ok(Verdict::wrong_if(lost))
}

fn text(repaired: &RepairReport, time: Duration) -> String {
    let mut grid = Grid::new();
    grid.section(if repaired.rebuilt {
        "repair: index and roster made anew"
    } else {
        "repair: nothing was to be made anew"
    });
    let before = repaired.entries_before.map_or_else(String::new, |count| {
        format!("the old index said {}", units::count(count))
    });
    grid.row("entries", units::count(repaired.entries), &before);
    if repaired.dropped > 0 {
        let dropped = "entries given up: their records are damaged or gone";
        grid.row("dropped", units::count(repaired.dropped), dropped);
    }
    if repaired.unwritten > 0 {
        let unwritten = "entries that were not synced before the power loss";
        grid.row("never written", units::count(repaired.unwritten), unwritten);
    }
    let records = "that verify, in the heap; dead ones and deletions included";
    grid.row("records", units::count(repaired.records), records);
    let damaged = match (repaired.damaged_bytes, repaired.rewritten) {
        (0, _) => "",
        (_, true) => "lost; the heap was rewritten without them",
        (_, false) => "lost; those that are left in the heap go when it is rewritten (--rewrite)",
    };
    grid.row(
        "damaged bytes",
        units::count(repaired.damaged_bytes),
        damaged,
    );
    if repaired.segments > 0 {
        grid.row("segments", units::count(repaired.segments), "");
    }
    for number in &repaired.missing_segments {
        grid.row(
            "missing segment",
            number.to_string(),
            "what it held is lost",
        );
    }
    for path in &repaired.kept {
        grid.row("kept", path.display().to_string(), "");
    }
    grid.row("time", units::duration(time), "");
    grid.text()
}

fn value(repaired: &RepairReport, time: Duration) -> Value {
    let kept: Vec<_> = repaired
        .kept
        .iter()
        .map(|path| path.to_string_lossy())
        .collect();
    json!({
        "rebuilt": repaired.rebuilt,
        "entries": repaired.entries,
        "entries_before": repaired.entries_before,
        "dropped": repaired.dropped,
        "unwritten": repaired.unwritten,
        "records": repaired.records,
        "damaged_bytes": repaired.damaged_bytes,
        "rewritten": repaired.rewritten,
        "segments": repaired.segments,
        "missing_segments": repaired.missing_segments,
        "kept": kept,
        "seconds": time.as_secs_f64(),
    })
}
