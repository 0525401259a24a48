//! `import`: files of a tree, or lines of JSON, become entries.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use mmapcache::MmapCache;

use crate::batch::Batch;
use crate::failure::Failure;
use crate::intern;
use crate::output::{self, Output};
use crate::own::Own;
use crate::site::Site;
use crate::tally::Tally;
use crate::tree::{self, Selection, Step, Tree};
use crate::verdict::Verdict;
use crate::{progress, transfer};

/// A byte takes at most six characters of JSON; the rest is for key and punctuation.
const LINE_FACTOR: u64 = 6;
const LINE_EXTRA: u64 = 1 << 20;

/// What to import.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    /// A directory; or a file of lines, `-` for standard input
    #[arg(required_unless_present = "from_cache")]
    source: Option<PathBuf>,
    /// The entries of another cache, which get new versions (`copy` keeps them)
    #[arg(long, value_name = "OTHER", conflicts_with = "source")]
    from_cache: Option<PathBuf>,
    /// The lines are labels, which get ids where they have none; the cache is one of labels
    #[arg(long, conflicts_with = "from_cache", requires = "source")]
    labels: bool,
    /// Print the counts as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(site: &Site, arguments: &Arguments) -> Result<Verdict, Failure> {
    let began = Instant::now();
    let source = arguments.source.as_deref().unwrap_or(Path::new("-"));
    if arguments.labels {
        return labels(site, source, arguments.json);
    }
    let tally = if let Some(other) = &arguments.from_cache {
        let other = Site {
            cache: other.clone(),
            heap: None,
        };
        transfer::run(&other, site)?
    } else if source == Path::new("-") {
        lines(
            &site.change()?,
            site,
            &mut io::stdin().lock(),
            "standard input",
        )?
    } else if is_dir(source)? {
        from_tree(&site.change()?, site, source, &Selection::all())?
    } else {
        let file = File::open(source).map_err(Failure::file(source, "open the file"))?;
        let name = source.display().to_string();
        lines(&site.change()?, site, &mut BufReader::new(file), &name)?
    };
    let time = began.elapsed();
    let mut out = Output::new();
    if arguments.json {
        out.json(&tally.json(time))?;
    } else {
        out.line(&tally.text(time))?;
    }
    out.end()?;
    Ok(tally.verdict())
}

fn labels(site: &Site, source: &Path, json: bool) -> Result<Verdict, Failure> {
    if source == Path::new("-") {
        return intern::run(site, &mut io::stdin().lock(), json);
    }
    let file = File::open(source).map_err(Failure::file(source, "open the file"))?;
    intern::run(site, &mut BufReader::new(file), json)
}

fn is_dir(source: &Path) -> Result<bool, Failure> {
    let meta = std::fs::metadata(source).map_err(Failure::file(source, "look at the source"))?;
    Ok(meta.is_dir())
}

/// The longest value that is worth reading: none is longer than a segment, and none has more bytes
/// than 32 bits count.
fn value_limit(site: &Site) -> Result<u64, Failure> {
    let overview = site.overview()?;
    let segment = overview.sealed.map_or(0, |header| header.max_segment_bytes);
    Ok(segment.min(u32::MAX.into()))
}

/// Imports the files of a tree, each under its path from the root.
pub(crate) fn from_tree(
    cache: &MmapCache,
    site: &Site,
    root: &Path,
    selection: &Selection,
) -> Result<Tally, Failure> {
    let limit = value_limit(site)?;
    let own = Own::new(cache.path(), site);
    let mut batch = Batch::new(cache);
    let mut tree = Tree::new(root, selection, own)?;
    let progress = progress::of_unknown("importing: files");
    for step in tree.by_ref() {
        progress.step();
        let found = match step {
            Ok(Step::File(found)) => found,
            Ok(Step::Passed) => {
                batch.tally.passed += 1;
                continue;
            }
            Err(failure) => {
                batch.unreadable(&failure);
                continue;
            }
        };
        // Looked at before it is read: what cannot be stored is not worth the memory.
        let read = if found.len > limit {
            Ok(None)
        } else {
            tree::read(&found.path, limit)
        };
        match read {
            Ok(Some(value)) => batch.push(found.key, value)?,
            Ok(None) => {
                batch.tally.unfit += 1;
                output::remark(&format!(
                    "{}: skipped: longer than a segment of this cache, {limit} bytes",
                    found.path.display()
                ));
            }
            Err(failure) => batch.unreadable(&failure),
        }
    }
    batch.tally.cut = tree.cut;
    batch.end()
}

/// Imports lines of JSON.
fn lines(
    cache: &MmapCache,
    site: &Site,
    source: &mut dyn BufRead,
    name: &str,
) -> Result<Tally, Failure> {
    let limit = value_limit(site)?
        .saturating_mul(LINE_FACTOR)
        .saturating_add(LINE_EXTRA);
    let mut batch = Batch::new(cache);
    let mut line = Vec::new();
    let progress = progress::of_unknown("importing: lines");
    for number in 1_u64.. {
        progress.step();
        let whole = read_line(source, &mut line, limit)
            .map_err(Failure::file(Path::new(name), "read the lines"))?;
        if line.is_empty() && whole {
            break;
        }
        let parsed = if whole {
            crate::json_line::parse(&line)
        } else {
            Err("longer than any entry of this cache".to_owned())
        };
        match parsed {
            Ok((key, value)) => batch.push(key, value)?,
            Err(_) if line.trim_ascii().is_empty() => {}
            Err(what) => {
                let what = format!("{name}: line {number}: skipped: {what}");
                batch.unreadable(&Failure::Request(what));
            }
        }
    }
    batch.end()
}

/// Reads a line with its end; nothing, at the end of the source. False if the line was too long and
/// the rest of it was thrown away.
fn read_line(source: &mut dyn BufRead, line: &mut Vec<u8>, limit: u64) -> io::Result<bool> {
    line.clear();
    Read::take(&mut *source, limit).read_until(b'\n', line)?;
    if line.ends_with(b"\n") || (line.len() as u64) < limit {
        return Ok(true);
    }
    line.clear();
    source.skip_until(b'\n')?;
    Ok(false)
}
