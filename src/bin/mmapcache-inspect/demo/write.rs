//! The process of a demonstration that writes: the files' contents over and over, and keys that
//! come and go.
//!
//! Ends when its standard input does: so it also ends when whoever started it is gone.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mmapcache::MmapCache;
use serde_json::{Value, json};

use crate::exact;
use crate::failure::Failure;
use crate::grid::Grid;
use crate::output::Output;
use crate::site::Site;
use crate::tree::{self, Step};
use crate::units;
use crate::verdict::Verdict;

use super::churn;
pub(crate) use super::read::Arguments;

/// Files that are rewritten under one lock.
const BATCH: usize = 16;

/// What the writing process did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// Entries written again.
    pub(super) rewrites: u64,
    /// Bytes of them.
    bytes: u64,
    /// Entries put that were not there.
    pub(super) churn_puts: u64,
    /// All of them, deleted again.
    pub(super) churn_deletes: u64,
    time: Duration,
}

impl Report {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let number = |name: &str| exact::read(&value[name]);
        Some(Self {
            rewrites: number("rewrites")?,
            bytes: number("bytes")?,
            churn_puts: number("churn_puts")?,
            churn_deletes: number("churn_deletes")?,
            time: Duration::from_nanos(number("nanos")?),
        })
    }

    fn value(&self) -> Value {
        json!({
            "rewrites": self.rewrites,
            "bytes": self.bytes,
            "churn_puts": self.churn_puts,
            "churn_deletes": self.churn_deletes,
            "nanos": self.time.as_nanos() as u64,
        })
    }

    /// Adds what was done to a table.
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
        grid.row("others put", units::count(self.churn_puts), deleted);
    }
}

pub(crate) fn run(arguments: &Arguments, heap: Option<PathBuf>) -> Result<Verdict, Failure> {
    let site = arguments.site(heap);
    let cache = site.change()?;
    let stopped = stop_with_input();
    let began = Instant::now();
    let mut report = Report::default();
    let mut out = Output::new();
    while !stopped.load(Ordering::Relaxed) {
        let before = report.rewrites;
        pass(&mut report, &mut out, &cache, arguments, &site, &stopped)?;
        if report.rewrites == before {
            // Nothing to rewrite: a tree without files must not keep a processor busy.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    for number in report.churn_deletes..report.churn_puts {
        report.churn_deletes += u64::from(cache.delete(&churn::key(number))?);
    }
    report.time = began.elapsed();
    out.line(&report.value().to_string())?;
    out.end()?;
    Ok(Verdict::Fine)
}

/// A flag that is set when standard input ends.
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

/// Goes through all files once, unless it is told to stop. Says so when the first of them are
/// written.
fn pass(
    report: &mut Report,
    out: &mut Output,
    cache: &MmapCache,
    arguments: &Arguments,
    site: &Site,
    stopped: &AtomicBool,
) -> Result<(), Failure> {
    let mut waiting = Vec::new();
    let mut tree = arguments.tree(cache, site)?;
    loop {
        let step = tree.next().transpose()?;
        let more = step.is_some();
        if let Some(Step::File(found)) = step
            && let Some(content) = tree::read(&found.path, u64::MAX)?
        {
            waiting.push((found.key, content));
        }
        if waiting.len() >= BATCH || !more {
            let first = report.churn_puts == 0;
            rewrite(report, cache, &waiting)?;
            waiting.clear();
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

/// Writes entries again, and lets one come and another go for each.
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
        let come = churn::key(report.churn_puts);
        writer.put(&come, &churn::value(&come))?;
        report.churn_puts += 1;
        if report.churn_puts - report.churn_deletes > churn::ALIVE {
            let go = churn::key(report.churn_deletes);
            report.churn_deletes += u64::from(writer.delete(&go)?);
        }
    }
    writer.commit()?;
    Ok(())
}
