//! `report`: a page or JSON with everything that headers and index contain.

mod bars;
mod chart;
mod figures;
mod findings;
mod markup;
mod page;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::cache_figures::{self, CacheFigures};
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::location::Location;
use crate::output::{self, Output};
use crate::{atomic_file, header_fields, json_number, lock_status, timestamp, verify};
use bars::Occupancy;
use findings::{Findings, State};

/// Marks a page that this command wrote.
const MARK: &str = "<meta name=\"generator\" content=\"mmapcache-inspect report\">";

/// The cache, and where the report goes.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("form").required(true).multiple(true))]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    cache: PathBuf,
    /// Write the page to this file atomically; `-` for standard output
    ///
    /// Replaces an earlier report; any other file only with --force.
    #[arg(long, value_name = "FILE", group = "form")]
    html: Option<PathBuf>,
    /// Print the same numbers as JSON
    #[arg(long, group = "form")]
    json: bool,
    /// Replace a file that is not a report
    #[arg(long, requires = "html")]
    force: bool,
}

pub(crate) fn run(arguments: &Arguments, heap: Option<PathBuf>) -> Result<ExitStatus, Failure> {
    let page_to_output = arguments.html.as_deref() == Some(Path::new("-"));
    if page_to_output && arguments.json {
        let what = "page and JSON cannot both go to standard output; name a file for the page";
        return Err(Failure::Request(what.to_owned()));
    }
    let location = Location {
        cache: arguments.cache.clone(),
        heap,
    };
    let found = Findings::gather(&location)?;
    let mut out = Output::new();
    match &arguments.html {
        Some(_) if page_to_output => {
            out.with(|out| out.write_all(page::html(&found).as_bytes()))?
        }
        Some(path) => atomic_file::write(
            path,
            page::html(&found).as_bytes(),
            &[MARK],
            arguments.force,
        )?,
        None => {}
    }
    if arguments.json {
        out.json(&value(&found))?;
    }
    out.end()?;
    end(found)
}

/// Returns the error of the library after everything else was shown.
fn end(found: Findings) -> Result<ExitStatus, Failure> {
    let wrong = found.judge().state == State::Wrong;
    match found.refused {
        Some(failure) => Err(failure),
        None => Ok(ExitStatus::problems_if(wrong)),
    }
}

fn value(found: &Findings) -> Value {
    let judgement = found.judge();
    let cache_files = &found.cache_files;
    let [index, heap, roster] = figures::disk_bytes(found);
    let scan = match &found.scan {
        Ok(scan) => {
            let mut charts = Map::new();
            charts.insert(
                "occupancy".to_owned(),
                Occupancy::new(&scan.index.regions).value(),
            );
            for bars in bars::all(scan) {
                charts.insert(bars.id.to_owned(), bars.value());
            }
            json!({
                "steady": scan.index.consistent,
                "entries": scan.index.entries,
                "deleted": scan.index.deleted,
                "free": scan.index.empty,
                "implausible": scan.index.invalid,
                "slots": scan.index.slots(),
                "load": scan.index.entries as f64 / scan.index.slots().max(1) as f64,
                "hit_groups": scan.index.hit_groups(),
                "miss_groups": scan.index.miss_groups,
                "live_bytes": scan.index.live_bytes,
                "charts": charts,
            })
        }
        Err(failure) => json!({ "failed": output::chain(failure) }),
    };
    let cache = cache_figures::of(cache_files);
    json!({
        "path": cache_files.path().to_string_lossy(),
        "cache": cache.as_ref().map(CacheFigures::value),
        "taken_nanos": json_number::string(timestamp::to_nanos(found.taken)),
        "verdict": match judgement.state {
            State::Fine => "fine",
            State::Notable => "notable",
            State::Wrong => "wrong",
        },
        "remarks": judgement.remarks,
        "refused": found.refused.as_ref().map(|failure| output::chain(failure)),
        "implausible": verify::problem_values(cache_files.problems()),
        "census": scan,
        "disk": { "index": index, "heap": heap, "roster": roster },
        "lock": found.lock.as_ref().map(lock_status::value),
        "header": {
            "sealed": header_fields::object(header_fields::sealed(cache_files)),
            "changing": header_fields::object(header_fields::changing(cache_files)),
            "steady": cache_files.is_consistent(),
        },
        "files": header_fields::files(cache_files.files()),
    })
}
