//! The reading process of a demonstration: compares every entry byte for byte with its file.
//!
//! It does so twice: for all files, each of which must be found, and for all listed entries, each of
//! which must have a file.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mmapcache::{ErrorKind, MmapCache};

use crate::cache_file_names::CacheFileNames;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::grid::Grid;
use crate::location::Location;
use crate::output::{self, Output};
use crate::tree::{self, Selection, Tree, TreeItem};
use crate::{key, units};

use super::{churn, numbers};

/// Attempts at a listing, each of which a rebuild of the cache may interrupt.
const ATTEMPTS: u32 = 16;

/// A cache, and the files that it was filled from. The writing process has the same arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    cache: PathBuf,
    root: PathBuf,
    #[arg(long = "part")]
    parts: Vec<PathBuf>,
    #[arg(long)]
    file_limit: u64,
    #[arg(long)]
    total_limit: u64,
}

impl Arguments {
    pub(super) fn location(&self, heap: Option<PathBuf>) -> Location {
        Location {
            cache: self.cache.clone(),
            heap,
        }
    }

    /// Returns a walk over the files, in the same order each time.
    pub(super) fn tree(&self, cache: &MmapCache, location: &Location) -> Result<Tree, Failure> {
        let selection = Selection {
            parts: self.parts.clone(),
            file_limit: self.file_limit,
            total_limit: self.total_limit,
        };
        Tree::new(
            &self.root,
            &selection,
            CacheFileNames::new(cache.path(), location),
        )
    }
}

/// The names of the numbers in a report.
const NAMES: [&str; 6] = ["read", "bytes", "listed", "churn", "differences", "nanos"];

/// The results of the reading process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// Files with an equal entry.
    pub(super) read: u64,
    /// Bytes of these files.
    pub(super) bytes: u64,
    /// Listed entries that are equal to their files.
    pub(super) listed: u64,
    /// Listed entries that the writing process inserts and deletes.
    pub(super) churn: u64,
    /// Files and entries that differ.
    pub(super) differences: u64,
    /// The time for all files, without the listing.
    time: Duration,
}

impl Report {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let [read, bytes, listed, churn, differences, nanos] = numbers::parse(NAMES, text)?;
        Some(Self {
            read,
            bytes,
            listed,
            churn,
            differences,
            time: Duration::from_nanos(nanos),
        })
    }

    fn line(&self) -> String {
        let nanos = self.time.as_nanos() as u64;
        let [read, bytes, listed] = [self.read, self.bytes, self.listed];
        let values = [read, bytes, listed, self.churn, self.differences, nanos];
        numbers::line(NAMES, values)
    }

    /// Adds the results to a table.
    pub(super) fn rows(&self, grid: &mut Grid) {
        grid.section("reader process");
        let entries = units::count(units::rate(self.read, self.time));
        let note = format!("{entries}/s, each compared with its file");
        grid.row("entries found by key", units::count(self.read), note);
        let bytes = units::bytes(units::rate(self.bytes, self.time));
        grid.row("bytes", units::bytes(self.bytes), format!("{bytes}/s"));
        grid.row("time", units::duration(self.time), "");
        let note = format!(
            "compared again, and {} temporary ones",
            units::count(self.churn)
        );
        grid.row("entries listed", units::count(self.listed), note);
        grid.row("differences", units::count(self.differences), "");
    }

    fn differs(&mut self, key: &[u8], what: &str) {
        self.differences += 1;
        output::warn(&format!("{}: {what}", key::show(key)));
    }
}

pub(crate) fn run(arguments: &Arguments, heap: Option<PathBuf>) -> Result<ExitStatus, Failure> {
    let location = arguments.location(heap);
    let cache = location.open_read_only()?;
    let mut report = Report::default();
    let began = Instant::now();
    by_files(&mut report, &cache, arguments.tree(&cache, &location)?)?;
    report.time = began.elapsed();
    by_listing(&mut report, &cache, arguments)?;
    let mut out = Output::new();
    out.line(&report.line())?;
    out.end()?;
    Ok(ExitStatus::problems_if(report.differences > 0))
}

fn by_files(report: &mut Report, cache: &MmapCache, tree: Tree) -> Result<(), Failure> {
    for step in tree {
        let TreeItem::File(found) = step? else {
            continue;
        };
        let Some(content) = tree::read(&found.path, u64::MAX)? else {
            continue;
        };
        // Unlike `get`, this reports damage as an error.
        match cache.entry(&found.key) {
            Ok(Some(entry)) if entry.value() == content => {
                report.read += 1;
                report.bytes += content.len() as u64;
            }
            Ok(Some(_)) => report.differs(&found.key, "the entry differs from its file"),
            Ok(None) => report.differs(&found.key, "the file has no entry"),
            Err(error) if error.is_corruption() => {
                report.differs(&found.key, &output::chain(&error));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Lists the entries. Starts again if a rebuild of the cache interrupts the listing.
fn by_listing(
    report: &mut Report,
    cache: &MmapCache,
    arguments: &Arguments,
) -> Result<(), Failure> {
    for _ in 0..ATTEMPTS {
        let mut attempt = report.clone();
        match list(&mut attempt, cache, arguments) {
            Err(Failure::Engine(error)) if matches!(error.kind(), ErrorKind::Superseded) => {}
            Err(failure) => return Err(failure),
            Ok(()) => {
                *report = attempt;
                return Ok(());
            }
        }
    }
    Err(Failure::Request(
        "a rebuild interrupted every listing".to_owned(),
    ))
}

fn list(report: &mut Report, cache: &MmapCache, arguments: &Arguments) -> Result<(), Failure> {
    let mut items = cache.iter()?;
    while let Some(item) = items.next_borrowed() {
        match item {
            Ok((key, value)) if churn::is_churn(key) => {
                if value == churn::value(key) {
                    report.churn += 1;
                } else {
                    report.differs(key, "the value is not the one that was stored");
                }
            }
            Ok((key, value)) => match tree::read(&tree::path_of(&arguments.root, key), u64::MAX) {
                Ok(Some(content)) if content == value => report.listed += 1,
                Ok(_) => report.differs(key, "the listed entry differs from its file"),
                Err(failure) => report.differs(key, &output::chain(&failure)),
            },
            Err(error) if error.is_corruption() => {
                report.differs(b"listing", &output::chain(&error));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
