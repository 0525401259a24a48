//! `import`: stores files of a tree, lines of JSON, labels, or the entries of another cache.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use mmapcache::MmapCache;

use crate::batch::Batch;
use crate::cache_file_names::CacheFileNames;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::import_counts::ImportCounts;
use crate::import_labels;
use crate::location::Location;
use crate::output::{self, Output};
use crate::tree::{self, Selection, Tree, TreeItem};
use crate::{copy_entries, progress};

/// The longest line: six characters of JSON for each byte, and room for key and punctuation.
const LINE_FACTOR: u64 = 6;
const LINE_EXTRA: u64 = 1 << 20;

/// The source of an import.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    /// A directory, or a file of lines; `-` for standard input
    #[arg(required_unless_present = "from_cache")]
    source: Option<PathBuf>,
    /// Store the entries of another cache, with new versions (`copy` keeps them)
    #[arg(long, value_name = "OTHER", conflicts_with = "source")]
    from_cache: Option<PathBuf>,
    /// Intern each line as a label; the cache is an id cache
    #[arg(long, conflicts_with = "from_cache", requires = "source")]
    labels: bool,
    /// Print the counts as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(location: &Location, arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let began = Instant::now();
    let source = arguments.source.as_deref().unwrap_or(Path::new("-"));
    if arguments.labels {
        return labels(location, source, arguments.json);
    }
    let counts = if let Some(other) = &arguments.from_cache {
        let other = Location {
            cache: other.clone(),
            heap: None,
        };
        copy_entries::run(&other, location)?
    } else if source == Path::new("-") {
        lines(
            &location.open_or_create()?,
            location,
            &mut io::stdin().lock(),
            "standard input",
        )?
    } else if is_dir(source)? {
        from_tree(
            &location.open_or_create()?,
            location,
            source,
            &Selection::all(),
        )?
    } else {
        let file = File::open(source).map_err(Failure::file(source, "open the file"))?;
        let name = source.display().to_string();
        lines(
            &location.open_or_create()?,
            location,
            &mut BufReader::new(file),
            &name,
        )?
    };
    let time = began.elapsed();
    let mut out = Output::new();
    if arguments.json {
        out.json(&counts.json(time))?;
    } else {
        out.line(&counts.text(time))?;
    }
    out.end()?;
    Ok(counts.exit_status())
}

fn labels(location: &Location, source: &Path, json: bool) -> Result<ExitStatus, Failure> {
    if source == Path::new("-") {
        return import_labels::run(location, &mut io::stdin().lock(), json);
    }
    let file = File::open(source).map_err(Failure::file(source, "open the file"))?;
    import_labels::run(location, &mut BufReader::new(file), json)
}

fn is_dir(source: &Path) -> Result<bool, Failure> {
    let meta = std::fs::metadata(source).map_err(Failure::file(source, "read its metadata"))?;
    Ok(meta.is_dir())
}

/// Returns the longest possible value: it must fit into a segment, and its length into 32 bits.
fn value_limit(location: &Location) -> Result<u64, Failure> {
    let cache_files = location.read_headers()?;
    let segment = cache_files
        .header()
        .map_or(0, |header| header.max_segment_bytes);
    Ok(segment.min(u32::MAX.into()))
}

/// Imports the files of a tree. The key is the path from the root.
pub(crate) fn from_tree(
    cache: &MmapCache,
    location: &Location,
    root: &Path,
    selection: &Selection,
) -> Result<ImportCounts, Failure> {
    let limit = value_limit(location)?;
    let names = CacheFileNames::new(cache.path(), location);
    let mut batch = Batch::new(cache)?;
    let mut tree = Tree::new(root, selection, names)?;
    let progress = progress::of_unknown("importing: files");
    for step in tree.by_ref() {
        progress.step();
        let found = match step {
            Ok(TreeItem::File(found)) => found,
            Ok(TreeItem::Skipped) => {
                batch.counts.passed += 1;
                continue;
            }
            Err(failure) => {
                batch.unreadable(&failure);
                continue;
            }
        };
        // Compare the length first, to read no file that cannot be stored.
        let read = if found.len > limit {
            Ok(None)
        } else {
            tree::read(&found.path, limit)
        };
        match read {
            Ok(Some(value)) => batch.push(found.key, value)?,
            Ok(None) => {
                batch.counts.unfit += 1;
                output::warn(&format!(
                    "{}: skipped: longer than a segment of this cache, {limit} bytes",
                    found.path.display()
                ));
            }
            Err(failure) => batch.unreadable(&failure),
        }
    }
    batch.counts.cut = tree.cut;
    batch.end()
}

/// Imports lines of JSON.
fn lines(
    cache: &MmapCache,
    location: &Location,
    source: &mut dyn BufRead,
    name: &str,
) -> Result<ImportCounts, Failure> {
    let limit = value_limit(location)?
        .saturating_mul(LINE_FACTOR)
        .saturating_add(LINE_EXTRA);
    let mut batch = Batch::new(cache)?;
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

/// Reads a line including its end, or nothing at the end of the source. Returns false if the line is
/// too long; then it skips the line.
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
