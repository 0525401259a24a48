//! The process of a demonstration that reads: every entry, compared byte for byte with its file.
//!
//! Twice over: once by the files, each of which must be found; once by the listing, which must hold
//! nothing else.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mmapcache::{ErrorKind, MmapCache};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::grid::Grid;
use crate::output::{self, Output};
use crate::own::Own;
use crate::site::Site;
use crate::tree::{self, Selection, Step, Tree};
use crate::verdict::Verdict;
use crate::{exact, key, units};

use super::churn;

/// Listings after which it is no accident that the cache is replaced during each.
const LISTINGS: u32 = 16;

/// A cache, and the files that it was filled from; also those of the writing process.
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
    pub(super) fn site(&self, heap: Option<PathBuf>) -> Site {
        Site {
            cache: self.cache.clone(),
            heap,
        }
    }

    /// The walk over the files, the same one each time.
    pub(super) fn tree(&self, cache: &MmapCache, site: &Site) -> Result<Tree, Failure> {
        let selection = Selection {
            parts: self.parts.clone(),
            file_limit: self.file_limit,
            total_limit: self.total_limit,
        };
        Tree::new(&self.root, &selection, Own::new(cache.path(), site))
    }
}

/// What the reading process found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// Files whose entries are the same.
    pub(super) read: u64,
    /// Bytes of them.
    pub(super) bytes: u64,
    /// Entries listed that are the same as their files.
    pub(super) listed: u64,
    /// Entries listed that came and went.
    pub(super) churn: u64,
    /// Files and entries that are not.
    pub(super) differences: u64,
    /// How long the first pass took, without the listing.
    time: Duration,
}

impl Report {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let number = |name: &str| exact::read(&value[name]);
        Some(Self {
            read: number("read")?,
            bytes: number("bytes")?,
            listed: number("listed")?,
            churn: number("churn")?,
            differences: number("differences")?,
            time: Duration::from_nanos(number("nanos")?),
        })
    }

    fn value(&self) -> Value {
        json!({
            "read": self.read,
            "bytes": self.bytes,
            "listed": self.listed,
            "churn": self.churn,
            "differences": self.differences,
            "nanos": self.time.as_nanos() as u64,
        })
    }

    /// Adds what was found to a table.
    pub(super) fn rows(&self, grid: &mut Grid) {
        grid.section("reader process");
        let entries = units::count(units::rate(self.read, self.time));
        let note = format!("{entries}/s, each compared with its file, which was read for it");
        grid.row("entries found by key", units::count(self.read), note);
        let bytes = units::bytes(units::rate(self.bytes, self.time));
        grid.row("bytes", units::bytes(self.bytes), format!("{bytes}/s"));
        grid.row("time", units::duration(self.time), "");
        let note = format!(
            "compared once more, and {} that came and went",
            units::count(self.churn)
        );
        grid.row("entries listed", units::count(self.listed), note);
        grid.row("differences", units::count(self.differences), "");
    }

    fn differs(&mut self, key: &[u8], what: &str) {
        self.differences += 1;
        output::remark(&format!("{}: {what}", key::show(key)));
    }
}

pub(crate) fn run(arguments: &Arguments, heap: Option<PathBuf>) -> Result<Verdict, Failure> {
    let site = arguments.site(heap);
    let cache = site.look()?;
    let mut report = Report::default();
    let began = Instant::now();
    by_files(&mut report, &cache, arguments.tree(&cache, &site)?)?;
    report.time = began.elapsed();
    by_listing(&mut report, &cache, arguments)?;
    let mut out = Output::new();
    out.line(&report.value().to_string())?;
    out.end()?;
    Ok(Verdict::wrong_if(report.differences > 0))
}

fn by_files(report: &mut Report, cache: &MmapCache, tree: Tree) -> Result<(), Failure> {
    for step in tree {
        let Step::File(found) = step? else { continue };
        let Some(content) = tree::read(&found.path, u64::MAX)? else {
            continue;
        };
        // The strict form: damage is not to pass for absence.
        match cache.entry(&found.key) {
            Ok(Some(entry)) if entry.value() == content => {
                report.read += 1;
                report.bytes += content.len() as u64;
            }
            Ok(Some(_)) => report.differs(&found.key, "the entry is not what its file is"),
            Ok(None) => report.differs(&found.key, "the file has no entry"),
            Err(error) if error.is_corruption() => {
                report.differs(&found.key, &output::chain(&error));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A listing that a replacement of the whole cache cuts short is begun again, as its error says.
fn by_listing(
    report: &mut Report,
    cache: &MmapCache,
    arguments: &Arguments,
) -> Result<(), Failure> {
    for _ in 0..LISTINGS {
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
        "every listing was cut short by a rebuild".to_owned(),
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
                    report.differs(key, "not what was put under this key");
                }
            }
            Ok((key, value)) => match tree::read(&tree::path_of(&arguments.root, key), u64::MAX) {
                Ok(Some(content)) if content == value => report.listed += 1,
                Ok(_) => report.differs(key, "the entry listed is not what its file is"),
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
