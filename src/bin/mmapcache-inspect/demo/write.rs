//! The writing process of a demonstration: rewrites the entries of files, and inserts and deletes
//! others.
//!
//! It stops when its standard input is closed, and therefore also when its parent process dies.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mmapcache::MmapCache;

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::grid::Grid;
use crate::location::Location;
use crate::output::Output;
use crate::tree::{self, TreeItem};
use crate::units;

pub(crate) use super::read::Arguments;
use super::{churn, numbers};

/// The number of files that are rewritten under one lock.
const BATCH: usize = 16;

/// The names of the numbers in a report.
const NAMES: [&str; 5] = ["rewrites", "bytes", "churn_puts", "churn_deletes", "nanos"];

/// The results of the writing process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// Rewritten entries.
    pub(super) rewrites: u64,
    /// Bytes of their values.
    bytes: u64,
    /// Inserted entries.
    pub(super) churn_puts: u64,
    /// Deletions of inserted entries.
    pub(super) churn_deletes: u64,
    time: Duration,
}

impl Report {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let [rewrites, bytes, churn_puts, churn_deletes, nanos] = numbers::parse(NAMES, text)?;
        Some(Self {
            rewrites,
            bytes,
            churn_puts,
            churn_deletes,
            time: Duration::from_nanos(nanos),
        })
    }

    fn line(&self) -> String {
        let nanos = self.time.as_nanos() as u64;
        let churn = [self.churn_puts, self.churn_deletes];
        numbers::line(
            NAMES,
            [self.rewrites, self.bytes, churn[0], churn[1], nanos],
        )
    }

    /// Adds the results to a table.
    pub(super) fn rows(&self, grid: &mut Grid) {
        grid.section("writer process");
        let entries = units::count(units::rate(self.rewrites, self.time));
        grid.row(
            "entries rewritten",
            units::count(self.rewrites),
            format!("{entries}/s"),
        );
        let bytes = units::bytes(units::rate(self.bytes, self.time));
        grid.row("bytes", units::bytes(self.bytes), format!("{bytes}/s"));
        let span = "from before the reader's start until after its end";
        grid.row("time", units::duration(self.time), span);
        let deleted = format!("and {} of them deleted", units::count(self.churn_deletes));
        grid.row(
            "other entries inserted",
            units::count(self.churn_puts),
            deleted,
        );
    }
}

pub(crate) fn run(arguments: &Arguments, heap: Option<PathBuf>) -> Result<ExitStatus, Failure> {
    let location = arguments.location(heap);
    let cache = location.open_or_create()?;
    let stopped = stop_with_input();
    let began = Instant::now();
    let mut report = Report::default();
    let mut out = Output::new();
    while !stopped.load(Ordering::Relaxed) {
        let before = report.rewrites;
        pass(
            &mut report,
            &mut out,
            &cache,
            arguments,
            &location,
            &stopped,
        )?;
        if report.rewrites == before {
            // A tree without files must not keep a processor busy.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    for number in report.churn_deletes..report.churn_puts {
        report.churn_deletes += u64::from(cache.delete(&churn::key(number))?);
    }
    report.time = began.elapsed();
    out.line(&report.line())?;
    out.end()?;
    Ok(ExitStatus::Success)
}

/// Returns a flag that is set when standard input ends.
fn stop_with_input() -> Arc<AtomicBool> {
    let stopped = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stopped);
    std::thread::spawn(move || {
        let mut byte = [0];
        while matches!(std::io::stdin().read(&mut byte), Ok(1)) {}
        flag.store(true, Ordering::Relaxed);
    });
    stopped
}

/// Rewrites the entries of all files once, or until it must stop. Prints a line after the first batch.
fn pass(
    report: &mut Report,
    out: &mut Output,
    cache: &MmapCache,
    arguments: &Arguments,
    location: &Location,
    stopped: &AtomicBool,
) -> Result<(), Failure> {
    let mut batch = Vec::new();
    let mut tree = arguments.tree(cache, location)?;
    loop {
        let step = tree.next().transpose()?;
        let more = step.is_some();
        if let Some(TreeItem::File(found)) = step
            && let Some(content) = tree::read(&found.path, u64::MAX)?
        {
            batch.push((found.key, content));
        }
        if batch.len() >= BATCH || !more {
            let first = report.churn_puts == 0;
            rewrite(report, cache, &batch)?;
            batch.clear();
            if first {
                out.line("writing")?;
                out.flush()?;
            }
        }
        if !more || stopped.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
}

/// Rewrites entries. For each one, inserts another and deletes the oldest inserted one.
fn rewrite(
    report: &mut Report,
    cache: &MmapCache,
    entries: &[(Vec<u8>, Vec<u8>)],
) -> Result<(), Failure> {
    let mut writer = cache.writer()?;
    for (key, content) in entries {
        writer.put(key, content)?;
        report.rewrites += 1;
        report.bytes += content.len() as u64;
        let inserted = churn::key(report.churn_puts);
        writer.put(&inserted, &churn::value(&inserted))?;
        report.churn_puts += 1;
        if report.churn_puts - report.churn_deletes > churn::ALIVE {
            let deleted = churn::key(report.churn_deletes);
            report.churn_deletes += u64::from(writer.delete(&deleted)?);
        }
    }
    writer.commit()?;
    Ok(())
}
