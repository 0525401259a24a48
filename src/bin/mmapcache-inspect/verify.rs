//! `verify`: everything in a cache, checked against everything else.

use std::num::NonZero;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use mmapcache::{Problem, VerifyLevel, VerifyReport};
use serde_json::{Value, json};

use crate::culprit::Culprit;
use crate::failure::Failure;
use crate::grid::Grid;
use crate::output::Output;
use crate::progress;
use crate::site::Site;
use crate::verdict::Verdict;
use crate::{culprit, json_line, key, units};

/// How much to check.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    /// How much is checked
    #[arg(long, value_enum, default_value_t = Depth::Records)]
    level: Depth,
    /// Threads; by default one for each processor
    #[arg(long, value_name = "N")]
    jobs: Option<NonZero<usize>>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The levels of a check, by the names they have here.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Depth {
    /// The headers of files and regions, and the directory; milliseconds
    Headers,
    /// Index and roster in full, but no record of the heap; a third of the whole
    Slots,
    /// Everything
    Records,
}

impl Depth {
    fn level(self) -> VerifyLevel {
        match self {
            Self::Headers => VerifyLevel::Headers,
            Self::Slots => VerifyLevel::Slots,
            Self::Records => VerifyLevel::Records,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Headers => "headers",
            Self::Slots => "slots",
            Self::Records => "records",
        }
    }
}

pub(crate) fn run(site: &Site, arguments: &Arguments) -> Result<Verdict, Failure> {
    let began = Instant::now();
    let cache = site.look()?;
    let progress = progress::of_bytes("checking");
    let processors = || std::thread::available_parallelism().map_or(1, NonZero::get);
    let report = cache
        .verify()
        .level(arguments.level.level())
        .jobs(arguments.jobs.map_or_else(processors, NonZero::get))
        .on_progress(|now| progress.set(now.done_bytes, now.total_bytes))
        .run();
    drop(progress);
    let (report, time) = (report?, began.elapsed());
    let mut out = Output::new();
    let culprits = culprits(site, &report)?;
    if arguments.json {
        out.json(&value(&report, &culprits, arguments.level, time))?;
    } else {
        out.line(&text_of(&report, arguments.level, time))?;
        for (fault, culprit) in report.problems.iter().zip(&culprits) {
            out.line(&line(fault, culprit.as_ref()))?;
        }
        let unlisted = report.problem_count - report.problems.len() as u64;
        if unlisted > 0 {
            out.line(&format!("and {} more", units::count(unlisted)))?;
        }
        if !report.is_clean() {
            let path = site.cache.display();
            out.line(&format!(
                "next: `mmapcache-inspect repair {path}` keeps all that verifies; or put the keys again"
            ))?;
        }
    }
    out.end()?;
    Ok(Verdict::wrong_if(!report.is_clean()))
}

/// The keys of the entries in which faults were found, one for each fault.
fn culprits(site: &Site, report: &VerifyReport) -> Result<Vec<Option<Culprit>>, Failure> {
    if report.problems.is_empty() {
        return Ok(Vec::new());
    }
    let anatomy = site.anatomy()?;
    let faults = report.problems.iter();
    Ok(faults.map(|fault| culprit::of(&anatomy, fault)).collect())
}

/// A fault, with the key of its entry if that is known.
fn line(fault: &Problem, culprit: Option<&Culprit>) -> String {
    let fault = fault_line(fault);
    match culprit {
        None => fault,
        Some(Culprit::Key(key)) => format!("{fault}; key {}", key::show(key)),
        Some(Culprit::Start(start)) => {
            format!("{fault}; a key that starts with {}", key::show(start))
        }
    }
}

/// The counts of a full check, as a table.
pub(crate) fn text(report: &VerifyReport, time: Duration) -> String {
    text_of(report, Depth::Records, time)
}

fn text_of(report: &VerifyReport, level: Depth, time: Duration) -> String {
    let mut grid = Grid::new();
    let verdict = if report.is_clean() {
        "nothing is wrong"
    } else {
        "DAMAGED"
    };
    match level {
        Depth::Records => grid.section(&format!("verify: {verdict}")),
        _ => grid.section(&format!("verify {}: {verdict}", level.name())),
    }
    let totals = if report.totals_compared {
        "compared with the counters of the index"
    } else {
        "not compared with the counters: somebody wrote meanwhile, or was killed in a change"
    };
    if !matches!(level, Depth::Headers) {
        grid.row("entries right", units::count(report.entries), totals);
    }
    if matches!(level, Depth::Records) {
        let records = "in the heap, dead ones included";
        grid.row("records right", units::count(report.records), records);
    }
    grid.row("regions", units::count(report.regions), "");
    if matches!(level, Depth::Records) {
        let damaged = units::count(report.damaged_bytes);
        grid.row("damaged bytes", damaged, "in the heap");
    }
    grid.row("faults", units::count(report.problem_count), "");
    grid.row("time", units::duration(time), "");
    grid.text()
}

/// A fault: where it is, and what it is.
pub(crate) fn fault_line(fault: &Problem) -> String {
    let path = fault.path.display();
    format!("{path}: byte {}: {}", fault.at, fault.what)
}

/// Faults for programs.
pub(crate) fn fault_values(faults: &[Problem]) -> Value {
    faults
        .iter()
        .map(|fault| {
            let path = fault.path.to_string_lossy();
            json!({ "path": path, "at": fault.at, "what": fault.what.as_str() })
        })
        .collect()
}

fn value(
    report: &VerifyReport,
    culprits: &[Option<Culprit>],
    level: Depth,
    time: Duration,
) -> Value {
    let mut faults = fault_values(&report.problems);
    let objects = faults.as_array_mut().into_iter().flatten();
    for (object, culprit) in objects.filter_map(Value::as_object_mut).zip(culprits) {
        match culprit {
            None => {}
            Some(Culprit::Key(key)) => json_line::insert(object, "key", key),
            Some(Culprit::Start(start)) => json_line::insert(object, "key_start", start),
        }
    }
    json!({
        "level": level.name(),
        "clean": report.is_clean(),
        "entries": report.entries,
        "records": report.records,
        "regions": report.regions,
        "damaged_bytes": report.damaged_bytes,
        "fault_count": report.problem_count,
        "faults": faults,
        "totals_compared": report.totals_compared,
        "seconds": time.as_secs_f64(),
    })
}
