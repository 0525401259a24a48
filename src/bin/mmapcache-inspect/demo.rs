//! `demo`: demonstrates a cache with real files and three processes.
//!
//! Fills a new cache from a directory tree. Then one process compares every entry with its file while
//! another one rewrites entries, and inserts and deletes others. At the end all counts must agree.

mod child;
pub(crate) mod churn;
mod numbers;
pub(crate) mod read;
mod source;
pub(crate) mod write;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mmapcache::{Stats, VerifyReport};

use crate::either_cache::EitherCache;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::grid::Grid;
use crate::import;
use crate::import_counts::ImportCounts;
use crate::location::Location;
use crate::output::{self, Output};
use crate::progress;
use crate::{stats, units, verify};
use child::Child;
use source::Source;

/// The files, and the cache.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A directory that does not change during the demonstration; by default the library and
    /// documentation of the Rust toolchain
    dir: Option<PathBuf>,
    /// Create the cache at this path and keep it; by default it is created in a temporary directory and
    /// removed
    #[arg(long, value_name = "PATH")]
    cache: Option<PathBuf>,
    /// Skip files larger than this
    #[arg(long, value_name = "MIB", default_value_t = 4)]
    file_limit: u64,
    /// Stop at this total size
    #[arg(long, value_name = "MIB", default_value_t = 160)]
    total_limit: u64,
}

/// The results of the demonstration.
struct Findings {
    counts: ImportCounts,
    reader: read::Report,
    writer: write::Report,
    stats: Stats,
    report: VerifyReport,
}

pub(crate) fn run(arguments: &Arguments, heap: Option<PathBuf>) -> Result<ExitStatus, Failure> {
    let mut out = Output::new();
    let source = Source::choose(arguments)?;
    let (location, scratch) = match &arguments.cache {
        Some(cache) => {
            let cache = cache.clone();
            (Location { cache, heap }, None)
        }
        None => {
            let dir = scratch_dir()?;
            let cache = dir.join("cache");
            (Location { cache, heap }, Some(dir))
        }
    };
    let status = demonstrate(&mut out, &source, &location);
    let place = location.cache.display();
    let end = match (&status, scratch) {
        (Ok(ExitStatus::Success), Some(dir)) => {
            std::fs::remove_dir_all(&dir).map_err(Failure::file(&dir, "remove the directory"))?;
            "the cache is removed; --cache PATH keeps it".to_owned()
        }
        (Ok(ExitStatus::Success), None) => format!("the cache is kept: {place}"),
        // The error does not concern the cache, so there is no reason to keep it.
        (Err(_), Some(dir)) => {
            std::fs::remove_dir_all(&dir).map_err(Failure::file(&dir, "remove the directory"))?;
            return status;
        }
        (Err(_), None) => return status,
        (Ok(_), _) => format!("the cache is kept for a closer look: {place}"),
    };
    out.line(&end)?;
    out.end()?;
    status
}

fn demonstrate(
    out: &mut Output,
    source: &Source,
    location: &Location,
) -> Result<ExitStatus, Failure> {
    out.line(&format!("reading files of {}", source.root.display()))?;
    out.flush()?;
    let began = Instant::now();
    let cache = EitherCache::Engine(location.create_new()?);
    let counts = import::from_tree(&cache, location, &source.root, &source.selection)?;
    drop(cache);
    out.line(&format!("import: {}", counts.text(began.elapsed())))?;
    if counts.stored == 0 {
        let root = source.root.display();
        let what = format!("{root}: no files; name a directory that has some");
        return Err(Failure::Request(what));
    }
    for note in notes(source, &counts) {
        out.line(&note)?;
    }
    out.flush()?;
    let (reader, writer) = read_while_writing(source, location)?;
    let (stats, report, time) = verify_cache(location)?;
    let mut grid = Grid::new();
    reader.rows(&mut grid);
    writer.rows(&mut grid);
    out.line(&format!("\n{}", grid.text()))?;
    out.line(&format!("\nstats of {}", stats::text(location)?))?;
    out.line(&format!("\n{}", verify::text(&report, time)))?;
    let findings = Findings {
        counts,
        reader,
        writer,
        stats,
        report,
    };
    let agreed = compare_counts(out, &findings)?;
    Ok(ExitStatus::problems_if(!agreed))
}

/// Returns notes on how much was imported.
fn notes(source: &Source, counts: &ImportCounts) -> Vec<String> {
    let mut notes = Vec::new();
    if counts.cut {
        let limit = units::bytes(source.selection.total_limit);
        notes.push(format!(
            "the tree has more; stopped at {limit} (--total-limit)"
        ));
    }
    if source.is_default && counts.stored < 10_000 && !counts.cut {
        notes.push(
            "fewer than 10,000 files: this toolchain has no more; name another directory for more"
                .to_owned(),
        );
    }
    notes
}

/// Runs a process that reads everything while another one writes, from before the reader starts until
/// after it ends.
fn read_while_writing(
    source: &Source,
    location: &Location,
) -> Result<(read::Report, write::Report), Failure> {
    let _progress = progress::of_time("reading back while another process writes");
    let mut writer = Child::start("demo-write", source, location)?;
    writer.wait_for_line()?;
    let reader = Child::start("demo-read", source, location)?;
    let read = read::Report::parse(&reader.finish()?);
    let written = write::Report::parse(&writer.finish()?);
    let no_report = || Failure::Request("a process of the demonstration gave no report".to_owned());
    Ok((read.ok_or_else(no_report)?, written.ok_or_else(no_report)?))
}

fn verify_cache(location: &Location) -> Result<(Stats, VerifyReport, Duration), Failure> {
    let cache = location.open_read_only()?;
    let began = Instant::now();
    let progress = progress::of_time("checking everything");
    let report = cache.verify().run()?;
    drop(progress);
    let time = began.elapsed();
    for fault in &report.problems {
        output::warn(&verify::problem_line(fault));
    }
    Ok((cache.stats()?, report, time))
}

/// Compares everything that was counted in several ways.
fn compare_counts(out: &mut Output, found: &Findings) -> Result<bool, Failure> {
    let (counts, reader, writer) = (&found.counts, &found.reader, &found.writer);
    let puts = counts.stored + writer.rewrites + writer.churn_puts;
    let checks = [
        ("files read back", counts.stored, reader.read),
        ("bytes read back", counts.bytes, reader.bytes),
        ("entries listed", counts.stored, reader.listed),
        ("differences", 0, reader.differences),
        ("entries by stats", counts.stored, found.stats.occupied),
        ("entries by verify", counts.stored, found.report.entries),
        ("problems by verify", 0, found.report.problem_count),
        ("totals compared", 1, found.report.totals_compared.into()),
        ("puts", puts, found.stats.puts),
        ("overwrites", writer.rewrites, found.stats.overwrites),
        ("deletes", writer.churn_deletes, found.stats.deletes),
        ("entries dropped", 0, found.stats.dropped),
    ];
    let mut grid = Grid::new();
    grid.section("agreement");
    let mut all = true;
    for (what, expected, counted) in checks {
        let fits = expected == counted;
        all &= fits;
        let note = if fits {
            "as expected".to_owned()
        } else {
            format!("NOT the expected {}", units::count(expected))
        };
        grid.row(what, units::count(counted), note);
    }
    out.line(&format!("\n{}\n", grid.text()))?;
    Ok(all)
}

/// Creates a directory that no other process uses.
fn scratch_dir() -> Result<PathBuf, Failure> {
    use std::os::unix::fs::DirBuilderExt;
    let parent = std::env::temp_dir();
    let started = crate::timestamp::to_nanos(std::time::SystemTime::now());
    let name = format!("mmapcache-demo-{}-{started}", std::process::id());
    let dir = parent.join(Path::new(&name));
    // Fails if the path exists, also as a link.
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&dir)
        .map_err(Failure::file(&dir, "create the directory"))?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Selection;

    #[test]
    fn notes_do_not_contradict_each_other() {
        let source = Source {
            root: "/".into(),
            selection: Selection::all(),
            is_default: true,
        };
        let told = |cut| {
            let counts = ImportCounts {
                stored: 9_000,
                cut,
                ..ImportCounts::default()
            };
            notes(&source, &counts)
        };
        assert!(told(true).len() == 1 && told(true)[0].contains("the tree has more"));
        assert!(told(false).len() == 1 && told(false)[0].contains("no more"));
    }
}
