//! `verify`: everything in a cache, checked against everything else.

use std::time::{Duration, Instant};

use mmapcache::{Fault, Report};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::grid::Grid;
use crate::output::Output;
use crate::site::Site;
use crate::units;
use crate::verdict::Verdict;

pub(crate) fn run(site: &Site, json: bool) -> Result<Verdict, Failure> {
    let began = Instant::now();
    let report = site.look()?.verify()?;
    let time = began.elapsed();
    let mut out = Output::new();
    if json {
        out.json(&value(&report, time))?;
    } else {
        out.line(&text(&report, time))?;
        for fault in &report.faults {
            out.line(&fault_line(fault))?;
        }
        let unlisted = report.fault_count - report.faults.len() as u64;
        if unlisted > 0 {
            out.line(&format!("and {} more", units::count(unlisted)))?;
        }
    }
    out.end()?;
    Ok(Verdict::wrong_if(!report.is_clean()))
}

/// The counts of a check, as a table.
pub(crate) fn text(report: &Report, time: Duration) -> String {
    let mut grid = Grid::new();
    let verdict = if report.is_clean() {
        "nothing is wrong"
    } else {
        "DAMAGED"
    };
    grid.section(&format!("verify: {verdict}"));
    let totals = if report.totals_compared {
        "compared with the counters of the index"
    } else {
        "not compared with the counters: somebody wrote meanwhile, or was killed in a change"
    };
    grid.row("entries right", units::count(report.entries), totals);
    let records = "in the heap, dead ones included";
    grid.row("records right", units::count(report.records), records);
    grid.row("regions", units::count(report.regions), "");
    let damaged = units::count(report.damaged_bytes);
    grid.row("damaged bytes", damaged, "in the heap");
    grid.row("faults", units::count(report.fault_count), "");
    grid.row("time", units::duration(time), "");
    grid.text()
}

/// A fault: where it is, and what it is.
pub(crate) fn fault_line(fault: &Fault) -> String {
    let path = fault.path.display();
    format!("{path}: byte {}: {}", fault.at, fault.what)
}

/// Faults for programs.
pub(crate) fn fault_values(faults: &[Fault]) -> Value {
    faults
        .iter()
        .map(|fault| {
            let path = fault.path.to_string_lossy();
            json!({ "path": path, "at": fault.at, "what": fault.what })
        })
        .collect()
}

fn value(report: &Report, time: Duration) -> Value {
    json!({
        "clean": report.is_clean(),
        "entries": report.entries,
        "records": report.records,
        "regions": report.regions,
        "damaged_bytes": report.damaged_bytes,
        "fault_count": report.fault_count,
        "faults": fault_values(&report.faults),
        "totals_compared": report.totals_compared,
        "seconds": time.as_secs_f64(),
    })
}
