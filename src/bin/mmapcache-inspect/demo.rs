//! `demo`: a cache at work, on real files, checked from three processes.
//!
//! Fills a new cache from a tree; then lets one process compare every entry with its file while
//! another rewrites and churns; then checks that all counts agree. Starts no process but this
//! program's own, and ends none but those.

mod child;
pub(crate) mod churn;
pub(crate) mod read;
mod source;
pub(crate) mod write;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mmapcache::{Stats, VerifyReport};

use crate::failure::Failure;
use crate::grid::Grid;
use crate::import;
use crate::output::{self, Output};
use crate::progress;
use crate::site::Site;
use crate::tally::Tally;
use crate::verdict::Verdict;
use crate::{stats, units, verify};
use child::Child;
use source::Source;

/// What to demonstrate on.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A directory that nobody changes meanwhile; by default the library and documentation of the
    /// Rust toolchain
    dir: Option<PathBuf>,
    /// Make the cache here and keep it; by default it is made in a temporary directory and removed
    #[arg(long, value_name = "PATH")]
    cache: Option<PathBuf>,
    /// Pass over files larger than this
    #[arg(long, value_name = "MIB", default_value_t = 4)]
    file_limit: u64,
    /// Stop taking files at this much
    #[arg(long, value_name = "MIB", default_value_t = 160)]
    total_limit: u64,
}

/// What the demonstration measured.
struct Findings {
    tally: Tally,
    reader: read::Report,
    writer: write::Report,
    stats: Stats,
    report: VerifyReport,
}

pub(crate) fn run(arguments: &Arguments, heap: Option<PathBuf>) -> Result<Verdict, Failure> {
    let mut out = Output::new();
    let source = Source::choose(arguments)?;
    let (site, scratch) = match &arguments.cache {
        Some(cache) => {
            let cache = cache.clone();
            (Site { cache, heap }, None)
        }
        None => {
            let dir = scratch_dir()?;
            let cache = dir.join("cache");
            (Site { cache, heap }, Some(dir))
        }
    };
    let verdict = demonstrate(&mut out, &source, &site);
    let place = site.cache.display();
    let end = match (&verdict, scratch) {
        (Ok(Verdict::Fine), Some(dir)) => {
            std::fs::remove_dir_all(&dir).map_err(Failure::file(&dir, "remove the directory"))?;
            "the cache is removed; with --cache PATH it is kept".to_owned()
        }
        (Ok(Verdict::Fine), None) => format!("the cache is kept: {place}"),
        // Nothing was found out that a look at the cache could explain.
        (Err(_), Some(dir)) => {
            std::fs::remove_dir_all(&dir).map_err(Failure::file(&dir, "remove the directory"))?;
            return verdict;
        }
        (Err(_), None) => return verdict,
        (Ok(_), _) => format!("the cache is kept for a closer look: {place}"),
    };
    out.line(&end)?;
    out.end()?;
    verdict
}

fn demonstrate(out: &mut Output, source: &Source, site: &Site) -> Result<Verdict, Failure> {
    out.line(&format!("reading files of {}", source.root.display()))?;
    out.flush()?;
    let began = Instant::now();
    let cache = site.create_new()?;
    let tally = import::from_tree(&cache, site, &source.root, &source.selection)?;
    drop(cache);
    out.line(&format!("import: {}", tally.text(began.elapsed())))?;
    if tally.stored == 0 {
        let root = source.root.display();
        let what = format!("{root}: no files to demonstrate on; name a directory that has some");
        return Err(Failure::Request(what));
    }
    for note in notes(source, &tally) {
        out.line(&note)?;
    }
    out.flush()?;
    let (reader, writer) = read_while_writing(source, site)?;
    let (stats, report, time) = look_at(site)?;
    let mut grid = Grid::new();
    reader.rows(&mut grid);
    writer.rows(&mut grid);
    out.line(&format!("\n{}", grid.text()))?;
    out.line(&format!("\nstats of {}", stats::text(site)?))?;
    out.line(&format!("\n{}", verify::text(&report, time)))?;
    let findings = Findings {
        tally,
        reader,
        writer,
        stats,
        report,
    };
    let agreed = agree(out, &findings)?;
    Ok(Verdict::wrong_if(!agreed))
}

/// What is to be said of how much was imported.
fn notes(source: &Source, tally: &Tally) -> Vec<String> {
    let mut notes = Vec::new();
    if tally.cut {
        let limit = units::bytes(source.selection.total_limit);
        notes.push(format!(
            "the tree has more; stopped at {limit} (--total-limit)"
        ));
    }
    if source.is_default && tally.stored < 10_000 && !tally.cut {
        notes.push(
            "fewer than 10,000 files: this toolchain has no more; name another directory for more"
                .to_owned(),
        );
    }
    notes
}

/// Lets a process read everything while another writes. The writer is at work before the reader
/// starts, and goes on until the reader is done.
fn read_while_writing(
    source: &Source,
    site: &Site,
) -> Result<(read::Report, write::Report), Failure> {
    let _progress = progress::of_time("reading back while another process writes");
    let mut writer = Child::start("demo-write", source, site)?;
    writer.wait_for_line()?;
    let reader = Child::start("demo-read", source, site)?;
    let read = read::Report::parse(&reader.finish()?);
    let written = write::Report::parse(&writer.finish()?);
    let unclear = || Failure::Request("a process of the demonstration gave no report".to_owned());
    Ok((read.ok_or_else(unclear)?, written.ok_or_else(unclear)?))
}

fn look_at(site: &Site) -> Result<(Stats, VerifyReport, Duration), Failure> {
    let cache = site.look()?;
    let began = Instant::now();
    let progress = progress::of_time("checking everything");
    let report = cache.verify().run()?;
    drop(progress);
    let time = began.elapsed();
    for fault in &report.problems {
        output::remark(&verify::fault_line(fault));
    }
    Ok((cache.stats()?, report, time))
}

/// Compares everything that was counted in more than one way.
fn agree(out: &mut Output, found: &Findings) -> Result<bool, Failure> {
    let (tally, reader, writer) = (&found.tally, &found.reader, &found.writer);
    let puts = tally.stored + writer.rewrites + writer.churn_puts;
    let checks = [
        ("files read back", tally.stored, reader.read),
        ("bytes read back", tally.bytes, reader.bytes),
        ("entries listed", tally.stored, reader.listed),
        ("differences", 0, reader.differences),
        ("entries by stats", tally.stored, found.stats.occupied),
        ("entries by verify", tally.stored, found.report.entries),
        ("faults by verify", 0, found.report.problem_count),
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

/// A directory that nobody else uses.
fn scratch_dir() -> Result<PathBuf, Failure> {
    use std::os::unix::fs::DirBuilderExt;
    let parent = std::env::temp_dir();
    let started = crate::moment::nanos(std::time::SystemTime::now());
    let name = format!("mmapcache-demo-{}-{started}", std::process::id());
    let dir = parent.join(Path::new(&name));
    // Refuses what is there already, links included.
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
            let tally = Tally {
                stored: 9_000,
                cut,
                ..Tally::default()
            };
            notes(&source, &tally)
        };
        assert!(told(true).len() == 1 && told(true)[0].contains("the tree has more"));
        assert!(told(false).len() == 1 && told(false)[0].contains("no more"));
    }
}
