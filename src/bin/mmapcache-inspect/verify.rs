//! `verify`: checks all parts of a cache against each other.

use std::num::NonZero;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use mmapcache::{Problem, VerifyLevel, VerifyReport};
use serde_json::{Value, json};

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::grid::Grid;
use crate::location::Location;
use crate::output::Output;
use crate::progress;
use crate::{damaged_key, json_line, key, units};

/// Options of a check.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    /// How much is checked
    #[arg(long, value_enum, default_value_t = Level::Records)]
    level: Level,
    /// Threads; by default one for each processor
    #[arg(long, value_name = "N")]
    jobs: Option<NonZero<usize>>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The levels of a check, by their names on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Level {
    /// Headers of files and regions, and the directory; milliseconds
    Headers,
    /// Index and roster completely, but no record of the heap; a third of the time
    Slots,
    /// Everything
    Records,
}

impl Level {
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

pub(crate) fn run(location: &Location, arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let began = Instant::now();
    let cache = location.open_read_only()?;
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
    let damaged_keys = damaged_keys(location, &report)?;
    if arguments.json {
        out.json(&value(&report, &damaged_keys, arguments.level, time))?;
    } else {
        out.line(&text_of(&report, arguments.level, time))?;
        for (problem, damaged_key) in report.problems.iter().zip(&damaged_keys) {
            out.line(&line(problem, damaged_key.as_deref()))?;
        }
        let unlisted = report.problem_count - report.problems.len() as u64;
        if unlisted > 0 {
            out.line(&format!("and {} more", units::count(unlisted)))?;
        }
        if !report.is_clean() {
            let path = location.cache.display();
            out.line(&format!(
                "next: `mmapcache-inspect repair {path}` keeps all that verifies; or put the keys again"
            ))?;
        }
    }
    out.end()?;
    Ok(ExitStatus::problems_if(!report.is_clean()))
}

/// Returns the key for each problem, if it is in an entry.
fn damaged_keys(
    location: &Location,
    report: &VerifyReport,
) -> Result<Vec<Option<Vec<u8>>>, Failure> {
    if report.problems.is_empty() {
        return Ok(Vec::new());
    }
    let cache_files = location.open_files()?;
    let problems = report.problems.iter();
    Ok(problems
        .map(|problem| damaged_key::find(&cache_files, problem))
        .collect())
}

/// Returns a problem as text, with the key of its entry if that is known.
fn line(problem: &Problem, damaged_key: Option<&[u8]>) -> String {
    let problem = problem_line(problem);
    match damaged_key {
        None => problem,
        Some(key) => format!("{problem}; key {}", key::show(key)),
    }
}

/// Returns the counts of a full check as a table.
pub(crate) fn text(report: &VerifyReport, time: Duration) -> String {
    text_of(report, Level::Records, time)
}

fn text_of(report: &VerifyReport, level: Level, time: Duration) -> String {
    let mut grid = Grid::new();
    let result = if report.is_clean() {
        "no problems"
    } else {
        "DAMAGED"
    };
    match level {
        Level::Records => grid.section(&format!("verify: {result}")),
        _ => grid.section(&format!("verify {}: {result}", level.name())),
    }
    let totals = if report.totals_compared {
        "compared with the counters of the index"
    } else {
        "not compared with the counters: a writer was active, or was killed in a change"
    };
    if !matches!(level, Level::Headers) {
        grid.row("valid entries", units::count(report.entries), totals);
    }
    if matches!(level, Level::Records) {
        let records = "in the heap, dead ones included";
        grid.row("valid records", units::count(report.records), records);
    }
    grid.row("regions", units::count(report.regions), "");
    if matches!(level, Level::Records) {
        let damaged = units::count(report.damaged_bytes);
        grid.row("damaged bytes", damaged, "in the heap");
    }
    grid.row("problems", units::count(report.problem_count), "");
    grid.row("time", units::duration(time), "");
    grid.text()
}

/// Returns a problem and its position as text.
pub(crate) fn problem_line(problem: &Problem) -> String {
    let path = problem.path.display();
    format!("{path}: byte {}: {}", problem.at, problem.what)
}

/// Returns problems as JSON.
pub(crate) fn problem_values(problems: &[Problem]) -> Value {
    problems
        .iter()
        .map(|problem| {
            let path = problem.path.to_string_lossy();
            json!({ "path": path, "at": problem.at, "what": problem.what.as_str() })
        })
        .collect()
}

fn value(
    report: &VerifyReport,
    damaged_keys: &[Option<Vec<u8>>],
    level: Level,
    time: Duration,
) -> Value {
    let mut problems = problem_values(&report.problems);
    let objects = problems.as_array_mut().into_iter().flatten();
    for (object, damaged_key) in objects.filter_map(Value::as_object_mut).zip(damaged_keys) {
        match damaged_key {
            None => {}
            Some(key) => json_line::insert(object, "key", key),
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
        "faults": problems,
        "totals_compared": report.totals_compared,
        "seconds": time.as_secs_f64(),
    })
}
